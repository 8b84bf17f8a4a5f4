"""A walk-through: one's own recordings."""
