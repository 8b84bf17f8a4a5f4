"""Error rates of a recogniser on a manifest, comparison of two recognisers, and tuning of decoding weights."""
