"""Transcribe a recording; print each word with its start, its end and its confidence.

python examples/words.py tests/audio/merchant.flac
"""

import sys

import asr

transcript = asr.load().transcribe(sys.argv[1])
for word in transcript.words:
    print(f"{word.start:7.2f} {word.end:7.2f} {word.confidence:5.2f}  {word.text}")
