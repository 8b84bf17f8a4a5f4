"""Training: configuration, batches, the epoch loop, checkpoints and the log."""
