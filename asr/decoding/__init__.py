"""From log-probabilities to a transcript: greedily or by beam search, rescored, with confidences."""
