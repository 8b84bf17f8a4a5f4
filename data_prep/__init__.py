"""Public corpora, one module each: from the publisher's files to manifests.

This folder is the package `asr.corpora`: `asr/corpora` is a link to it.
"""
