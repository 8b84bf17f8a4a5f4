"""Public corpora, one module each: from their publishers' files to manifests.

This folder is the package `asr.corpora`: `asr/corpora` is a link to it.
"""
