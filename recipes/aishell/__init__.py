"""AISHELL-1: Mandarin in characters."""
