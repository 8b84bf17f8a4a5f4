"""Text: normalisation, alphabet, marks, error rates, and the transcript."""
