"""Error rates of a recogniser on a manifest, comparison of two, and tuning of decoding weights."""
