"""FSDD: English digits."""
