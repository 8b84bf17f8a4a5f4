"""Align a known text with its recording; print it as subtitles, SubRip.

python examples/subtitles.py speech.flac speech.txt > speech.srt
"""

import sys
from pathlib import Path

import asr
from asr.output.formats import alignment_to_srt
from asr.recognition.aligner import align_recording

text = Path(sys.argv[2]).read_text(encoding="utf-8")
aligned = align_recording(asr.load(), sys.argv[1], text)
sys.stdout.write(alignment_to_srt(aligned, "sentence"))
