"""A transcript as one HTML page with its sound: words light up while they are spoken, and can be edited.

The page needs nothing else: no network, no other file. `page.html` beside this module has its form and its script.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from html import escape
from pathlib import Path
from string import Template

from asr.output.formats import transcript_cues
from asr.output.subtitles import Cue, Piece, SubtitleOptions, milliseconds
from asr.text.transcript import Transcript, Word


def to_page(
    transcript: Transcript, sound: bytes, *, kind: str = "audio/mpeg", subtitles: SubtitleOptions | None = None
) -> str:
    """The page of a transcript: a line for each cue of its subtitles.

    Args:
        sound: a whole sound file that browsers play.
        kind: its media type.
        subtitles: limits of the cues, which the page can save as SubRip, edited or not.
    """
    options = subtitles or SubtitleOptions()
    confidences = _confidences(transcript)
    name = Path(transcript.name).name or "transcript"
    return _template().substitute(
        title=escape(transcript.name or "Transcript"),
        language="und",
        name=json.dumps(name).replace("<", "\\u003c"),
        line_width=options.line_width,
        sound=f"data:{kind};base64,{base64.b64encode(sound).decode('ascii')}",
        cues="\n".join(_item(cue, confidences) for cue in transcript_cues(transcript, options)),
    )


@cache
def _template() -> Template:
    return Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


def _confidences(transcript: Transcript) -> dict[int, list[Word]]:
    """The words by their start in milliseconds."""
    words: dict[int, list[Word]] = {}
    for word in transcript.words:
        words.setdefault(milliseconds(word.start), []).append(word)
    return words


def _item(cue: Cue, words: dict[int, list[Word]]) -> str:
    """The line of a cue."""
    start, end = cue.start / 1000, cue.end / 1000
    minutes, seconds = divmod(cue.start // 1000, 60)
    text = " ".join("".join(_span(piece, words) for piece in line).strip() for line in cue.lines)
    lines = escape("\n".join(cue.texts)).replace("\n", "&#10;")
    return (
        f'<li data-start="{start}" data-end="{end}" data-lines="{lines}">'
        f'<button type="button" aria-label="Play from {minutes}:{seconds:02d}">{minutes}:{seconds:02d}</button>'
        f'<p contenteditable="true" spellcheck="true" role="textbox" aria-label="Text from {minutes}:{seconds:02d}">'
        f"{text}</p></li>"
    )


def _span(piece: Piece, words: dict[int, list[Word]]) -> str:
    """A word with its times and confidence; the name of a speaker without them."""
    if piece.start == piece.end:
        return f'{piece.gap}<span class="speaker">{escape(piece.text)}</span>'
    candidates = [word.confidence for word in words.get(piece.start, []) if piece.text in word.text]
    confidence = candidates[0] if candidates else 1.0
    return (
        f'{piece.gap}<span class="w" data-start="{piece.start / 1000}" data-end="{piece.end / 1000}" '
        f'style="--c:{confidence:.2f}" title="confidence {100 * confidence:.0f} %">{escape(piece.text)}</span>'
    )
