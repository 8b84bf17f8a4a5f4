"""One's own recordings and texts, in any common layout, to manifests."""
