"""LibriSpeech: 100 or 960 hours of audiobooks."""
