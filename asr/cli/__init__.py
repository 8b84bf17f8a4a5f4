"""The commands: each parses its arguments, calls functions that anyone can import, and prints."""
