"""Language models: the probabilities of texts.

Import from the modules: `ngram` reads, scores and writes n-gram models, `estimation` makes them from text.
"""
