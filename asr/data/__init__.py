"""Utterances on disk: manifests, their sound, shards, splits."""
