"""Recipes: a public corpus, the choices made for it, and the figures to expect."""
