"""Readable text from what a model emits: marks, capitals, and numbers in digits."""
