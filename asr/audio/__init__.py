"""From any sound file, stream or array to samples."""
