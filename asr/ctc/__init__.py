"""Connectionist temporal classification over plain arrays of log-probabilities and integer labels.

Import from the modules: `collapse` and `greedy` need NumPy alone, and only `loss` loads torch.
"""
