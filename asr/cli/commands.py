"""asr: say which commands there are, and what each does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import asr
from asr.audio.source import SOUND_SUFFIXES
from asr.errors import visible

COMMANDS = {
    "asr-transcribe": "turn recordings into text, subtitles or tables",
    "asr-serve": "answer clients of OpenAI's and Vosk's servers, and browsers",
    "asr-align": "find when each word of a known text is spoken",
    "asr-train": "train an acoustic model, or fine-tune one on your recordings",
    "asr-evaluate": "measure error rates, compare models, tune decoding",
    "asr-lm": "train language models, or adapt a recogniser to your texts",
    "asr-data": "record, import and check recordings, prepare corpora",
    "asr-export": "write a model as ONNX",
}
"""What each command does."""


_PAGE = """\
Speech recognition with CTC. The commands:

{rows}

Each shows its options with --help. Begin with: asr-transcribe talk.mp3
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of `asr` with these arguments, or the arguments of the process."""
    name = next(iter(sys.argv[1:] if argv is None else argv), "--help")
    if name in ("-h", "--help"):
        print(_PAGE.format(rows="\n".join(f"  {name:14}  {what}" for name, what in COMMANDS.items())), end="")
        return 0
    if name == "--version":
        print(f"asr {asr.__version__}")
        return 0
    near = get_close_matches(f"asr-{name}", COMMANDS, n=1, cutoff=0.75)
    if Path(name).suffix.lower() in SOUND_SUFFIXES:
        near = [f"asr-transcribe {visible(name)}"]
    advice = f"did you mean {near[0]}?" if near else "asr alone lists the commands"
    error = f"there is no command {visible(name)!r}: {advice}"
    if name in COMMANDS:
        error = f"{name} is a command of its own: write it without asr before it"
    print(f"asr: error: {error}", file=sys.stderr)
    return 2
