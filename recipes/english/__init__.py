"""General English: openly licensed collections."""
