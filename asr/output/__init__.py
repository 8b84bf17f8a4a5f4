"""How results are written and drawn: text formats, subtitles, pictures."""
