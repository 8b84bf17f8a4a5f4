"""What is wrong with a corpus, and the report that says so."""
