"""Data on disk: manifests of utterances."""
