"""One module per public corpus: from its publisher's files to manifests."""
