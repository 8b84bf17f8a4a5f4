"""Utterances on disk: manifests (Lhotse cuts), shards (Lhotse Shar), the sound of an utterance, names of splits."""
