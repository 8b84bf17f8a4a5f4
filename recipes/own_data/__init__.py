"""A walk-through: your own recordings."""
