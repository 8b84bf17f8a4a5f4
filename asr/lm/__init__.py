"""Language models: what people say, and how likely.

Import from the modules: `ngram` reads, scores and writes n-gram models, `estimation` makes them from text.
"""
