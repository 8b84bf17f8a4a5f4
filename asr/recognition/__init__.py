"""The recogniser: recordings of any length, many recordings, alignment of a known text."""
