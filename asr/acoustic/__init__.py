"""From sound to log-probabilities: the feature frontend, the encoder, and the model that joins them."""
