"""Mini LibriSpeech: five hours of audiobooks."""
