"""Formats of transcripts and aligned texts, each one function to text.

`Transcript`                                               txt, json, srt, vtt, ass, ctm, tsv
`AlignedText` at the level of sentences, words, characters  json, srt, vtt, ctm, TextGrid
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from html import escape
from itertools import accumulate, pairwise
from pathlib import Path

from asr.errors import ConfigError
from asr.files.writing import write_whole
from asr.output.subtitles import Cue, Piece, SubtitleOptions, cut_pieces, make_cues, milliseconds, word_cues
from asr.text.aligned_text import AlignedText, Level, Segment
from asr.text.metrics import align_tokens
from asr.text.segments import TextSegment, find_segments, find_turns
from asr.text.transcript import Hypothesis, Timeline, Transcript, Word, split_words

_ARROW = re.compile("--+>")
_CHANNEL = re.compile(r"CHANNEL_(\d+)")
_PRINTED = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]+")  # neither blanks nor control characters


def to_txt(transcript: Transcript) -> str:
    """A line for each sentence or stretch between pauses, after its speaker; an empty line for an empty transcript."""
    segments = find_segments(transcript.text, transcript.words)
    return "".join(f"{spoken(segment.text, segment.speaker)}\n" for segment in segments) or "\n"


def spoken(text: str, speaker: str) -> str:
    """The text after its speaker, `[SPEAKER_01]: text`, if one is known."""
    return f"[{speaker}]: {text}" if speaker else text


def to_json(transcript: Transcript) -> str:
    """One line of JSON; times in seconds, rounded to milliseconds, confidences and scores to four places.

    Keys: text, segments (id, start, end, text, words, confidence: the mean of its words, speaker if known), words
    (text, start, end, confidence, speaker if known), hypotheses (text, score; if known acoustic, lm, rnn, source,
    word_score, hotword_score and hotwords (text, start, end)), duration, model, options. A readable transcript also has
    raw_text and raw_words, as the model emitted them, and each word its `spoken` words. A score is acoustic +
    lm_weight * lm + word_score + hotword_score with the weights of options. With rnn, it is acoustic +
    rescore_lm_weight (if null, lm_weight) * lm + rescore_weight * rnn - source_weight * source + word_score +
    hotword_score. A long recording, decoded in stretches, has the parts that all stretches have.
    """
    readable = transcript.is_readable
    document = {
        "text": transcript.text,
        **({"raw_text": transcript.raw_text} if readable else {}),
        "segments": [
            _segment(number, segment) for number, segment in enumerate(find_segments(transcript.text, transcript.words))
        ],
        "words": list(map(_timed, transcript.words)),
        **({"raw_words": list(map(_timed, transcript.raw_words))} if readable else {}),
        "hypotheses": [_hypothesis(hypothesis, transcript.timeline) for hypothesis in transcript.hypotheses],
        "duration": milliseconds(transcript.duration_seconds) / 1000,
        "model": transcript.model,
        "options": dict(transcript.options),
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"


def to_srt(transcript: Transcript, options: SubtitleOptions | None = None) -> str:
    """SubRip subtitles: numbered cues with times as 00:00:00,000; empty for an empty transcript.

    A word that is spoken is marked by <u>, if the options say so. SubRip cannot escape the arrow of its times, so -->
    becomes ->, as in Whisper.
    """
    return _srt(_shown(transcript_cues(transcript, options), options, _without_arrows))


def _without_arrows(text: str) -> str:
    return _ARROW.sub("->", text)


def to_vtt(transcript: Transcript, options: SubtitleOptions | None = None) -> str:
    """WebVTT subtitles: times as 00:00:00.000, and & < > (so --> too) as character references.

    A word that is spoken is marked by <u>, if the options say so. Source: W3C WebVTT, section 4.2.
    """
    return _vtt(_shown(transcript_cues(transcript, options), options, partial(escape, quote=False)))


def to_ass(transcript: Transcript, options: SubtitleOptions | None = None) -> str:
    r"""Advanced SubStation Alpha subtitles, of 1920 x 1080 points; with the karaoke marks \k if words are highlighted.

    \k and a number of hundredths of a second stand before each word. The format cannot escape braces, so they become
    parentheses, and a backslash a slash.

    Source: Aegisub manual, "ASS Tags".
    """
    highlight = (options or SubtitleOptions()).highlight_words
    lines = [_ass_line(cue, highlight=highlight) for cue in transcript_cues(transcript, options)]
    return _ASS_HEADER + "".join(lines)


def to_ctm(transcript: Transcript) -> str:
    """One line a word: `<utterance> <channel> <start> <duration> <word> <confidence>`, times in seconds.

    The utterance is the name of the transcript with _ for white space, or `audio` without a name. The channel is 1; for
    the speakers CHANNEL_0, CHANNEL_1 of a call it is 1, 2, one channel after the other, each in order of time. The
    words are as the model emits them, because the format is for scoring.

    Source: NIST SCTK, "CTM Format"; Kaldi writes the same.
    """
    channels: dict[int, list[Word]] = {}
    for word in transcript.raw_words:
        channel = _CHANNEL.fullmatch(word.speaker)
        channels.setdefault(int(channel[1]) + 1 if channel else 1, []).append(word)
    return "".join(_ctm(transcript.name, words, channel) for channel, words in sorted(channels.items()))


def to_tsv(transcript: Transcript) -> str:
    """Whisper's table: start, end and text of each segment, in milliseconds, separated by tabs, below a header."""
    rows = (
        f"{milliseconds(segment.start)}\t{milliseconds(segment.end)}\t{spoken(segment.text, segment.speaker)}\n"
        for segment in find_segments(transcript.text, transcript.words)
    )
    return "start\tend\ttext\n" + "".join(rows)


def to_explanation(transcript: Transcript) -> str:
    """A table of the hypotheses, the best first: the weighted parts of each score, in nats, and the different words.

    Parts: the acoustic score, the language model of the search (lm), of rescoring (rnn), of the training texts
    (source), words, hotwords. Words that differ from the best hypothesis are in brackets; in the best one, words that
    differ from the second. [] is a missing word.
    """
    hypotheses, weights = transcript.hypotheses, transcript.options

    def weight(name: str) -> float:
        return float(weights.get(name, 0.0))

    def weight_of_lm(hypothesis: Hypothesis) -> float:
        own_weight = hypothesis.rnn is not None and weights.get("rescore_lm_weight") is not None
        return weight("rescore_lm_weight" if own_weight else "lm_weight")

    parts = {
        "acoustic": [item.score if item.acoustic is None else item.acoustic for item in hypotheses],
        "lm": [weight_of_lm(item) * (item.lm or 0.0) for item in hypotheses],
        "rnn": [weight("rescore_weight") * (item.rnn or 0.0) for item in hypotheses],
        "source": [-weight("source_weight") * (item.source or 0.0) for item in hypotheses],
        "words": [item.word_score for item in hypotheses],
        "hotwords": [item.hotword_score for item in hypotheses],
    }
    columns = {"score": [item.score for item in hypotheses], **{name: row for name, row in parts.items() if any(row)}}
    lines = ["".join(f"{name:>10}" for name in columns) + "  text"]
    words = [split_words(item.text) for item in hypotheses]
    for number, row in enumerate(words):
        other = words[0] if number or len(words) == 1 else words[1]
        numbers = "".join(f"{values[number]:10.2f}" for values in columns.values())
        lines.append(f"{numbers}  {' '.join(_marked(row, other))}".rstrip())
    return "\n".join([*lines, ""])


def _marked(words: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    """The words, in brackets where the others differ; [] for a word that only the others have."""
    for step in align_tokens(others, words):
        yield str(step.hypothesis) if step.operation == "match" else f"[{step.hypothesis or ''}]"


WRITERS: dict[str, Callable[..., str]] = {
    "txt": to_txt,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
    "ass": to_ass,
    "ctm": to_ctm,
    "tsv": to_tsv,
}
"""The writer of each format; its name is also the extension of the file. Those of SUBTITLES also take their options."""

SUBTITLES = ("srt", "vtt", "ass")


def write(
    transcript: Transcript,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    subtitles: SubtitleOptions | None = None,
) -> None:
    """Write a transcript as a file, whole or not at all.

        asr.write(transcript, "talk.srt")

    Args:
        path: of the file.
        format: one of `WRITERS`; None means the suffix of the path.
        subtitles: the options of srt, vtt and ass.
    Raises:
        ConfigError: there is no such format.
        OSError: the file cannot be written.
    """
    name = format or Path(path).suffix.removeprefix(".").lower()
    if name not in WRITERS:
        raise ConfigError(f"a transcript is written as {', '.join(WRITERS)}, not as {name!r}: {os.fspath(path)}")
    write_whole(path, format_text(transcript, name, subtitles))


def format_text(transcript: Transcript, name: str, subtitles: SubtitleOptions | None = None) -> str:
    """The transcript in the format `name` of `WRITERS`."""
    return WRITERS[name](transcript, subtitles) if name in SUBTITLES else WRITERS[name](transcript)


def alignment_to_json(aligned: AlignedText, level: Level) -> str:
    """One line of JSON; times in seconds, rounded to milliseconds, confidences and scores to four places.

    Keys: text; sentences, words and characters (text, start, end, confidence), as far down as the level; untimed
    (words without a time), missing (speech that the text lacks: start, end, heard), unspoken (passages that nobody
    says: first and end, counted in words from 0, and text), score, duration, model.
    """
    document: dict[str, object] = {"text": aligned.text}
    for tier, segments in _tiers(aligned, level):
        document[tier] = list(map(_timed, segments))
    document |= {
        "untimed": list(aligned.untimed),
        "missing": [
            {"start": milliseconds(item.start) / 1000, "end": milliseconds(item.end) / 1000, "heard": item.heard}
            for item in aligned.missing
        ],
        "unspoken": [{"first": item.first, "end": item.end, "text": item.text} for item in aligned.unspoken],
        "score": round(aligned.score, 4),
        "duration": milliseconds(aligned.timeline.duration_seconds) / 1000,
        "model": aligned.model,
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"


def alignment_to_srt(aligned: AlignedText, level: Level) -> str:
    """SubRip subtitles as from `to_srt`; a cue belongs to one sentence, word or character.

    A word without a time is in the cue of the word before it.
    """
    return _srt(_shown(_aligned_cues(aligned, level), None, _without_arrows))


def alignment_to_vtt(aligned: AlignedText, level: Level) -> str:
    """WebVTT subtitles as from `to_vtt`, with the cues of `alignment_to_srt`."""
    return _vtt(_shown(_aligned_cues(aligned, level), None, partial(escape, quote=False)))


def alignment_to_ctm(aligned: AlignedText, level: Level) -> str:
    """One line a word or character, as from `to_ctm`.

    Raises:
        ConfigError: the level is sentence; ctm cannot write spaces.
    """
    if level == "sentence":
        raise ConfigError("ctm must have the level word or character; it cannot write the spaces of a sentence")
    return _ctm(aligned.name, aligned.segments(level))


def alignment_to_textgrid(aligned: AlignedText, level: Level) -> str:
    """A TextGrid for Praat, in its long form: tiers of sentences, words and characters, as far down as the level.

    Intervals touch, as Praat requires: an interval without text fills each gap.

    Source: Praat manual, "TextGrid file formats".
    """
    duration = f"{milliseconds(aligned.timeline.duration_seconds) / 1000:.3f}"
    tiers = list(_tiers(aligned, level))
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {duration}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, segments) in enumerate(tiers, start=1):
        intervals = list(_intervals(segments, milliseconds(aligned.timeline.duration_seconds)))
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {duration}", f"        intervals: size = {len(intervals)}"]
        for index, (start, end, text) in enumerate(intervals, start=1):
            lines += [f"        intervals [{index}]:", f"            xmin = {start / 1000:.3f}"]
            lines += [
                f"            xmax = {end / 1000:.3f}",
                f'            text = "{text.replace(chr(34), chr(34) * 2)}"',
            ]
    return "\n".join(lines) + "\n"


ALIGNMENT_WRITERS: dict[str, Callable[[AlignedText, Level], str]] = {
    "ctm": alignment_to_ctm,
    "json": alignment_to_json,
    "TextGrid": alignment_to_textgrid,
    "srt": alignment_to_srt,
    "vtt": alignment_to_vtt,
}
"""The writer of each format of an aligned text; its name is also the extension of the file."""


def _timed(word: Word | Segment) -> dict[str, object]:
    """A word or segment as JSON values."""
    return {
        "text": word.text,
        "start": milliseconds(word.start) / 1000,
        "end": milliseconds(word.end) / 1000,
        "confidence": round(word.confidence, 4),
        **({"speaker": word.speaker} if isinstance(word, Word) and word.speaker else {}),
        **({"spoken": " ".join(each.text for each in word.spoken)} if isinstance(word, Word) and word.spoken else {}),
    }


def _segment(number: int, segment: TextSegment) -> dict[str, object]:
    """A segment as JSON values, in the order of Whisper's."""
    return {
        "id": number,
        "start": milliseconds(segment.start) / 1000,
        "end": milliseconds(segment.end) / 1000,
        "text": segment.text,
        "words": list(map(_timed, segment.words)),
        "confidence": round(segment.confidence, 4),
        **({"speaker": segment.speaker} if segment.speaker else {}),
    }


def _hypothesis(hypothesis: Hypothesis, timeline: Timeline) -> dict[str, object]:
    """A hypothesis as JSON values, without parts that it lacks."""
    values: dict[str, object] = {"text": hypothesis.text}
    for name in ("score", "acoustic", "lm", "rnn", "source"):
        if (value := getattr(hypothesis, name)) is not None:
            values[name] = round(value, 4)
    for name in ("word_score", "hotword_score"):
        if value := getattr(hypothesis, name):
            values[name] = round(value, 4)
    if hypothesis.hotwords:
        values["hotwords"] = [
            {
                "text": spotted.text,
                "start": milliseconds(timeline.seconds(spotted.start_frame)) / 1000,
                "end": milliseconds(timeline.seconds(spotted.end_frame)) / 1000,
            }
            for spotted in hypothesis.hotwords
        ]
    return values


def _tiers(aligned: AlignedText, level: Level) -> Iterator[tuple[str, tuple[Segment, ...]]]:
    """Names and segments of the tiers, from the sentences down to the level."""
    levels: tuple[Level, ...] = ("sentence", "word", "character")
    for name in levels[: levels.index(level) + 1]:
        yield f"{name}s", aligned.segments(name)


def transcript_cues(transcript: Transcript, options: SubtitleOptions | None = None) -> list[Cue]:
    """The cues of a transcript; a cue belongs to one speaker."""
    options = options or SubtitleOptions()
    turns = [
        cut_pieces(turn.text, turn.words, line_width=options.line_width, speaker=turn.speaker)
        for turn in find_turns(transcript.text, transcript.words)
    ]
    return _passage_cues(turns, options, transcript.duration_seconds)


def _aligned_cues(aligned: AlignedText, level: Level) -> list[Cue]:
    """The cues of an aligned text: phrases of one sentence, or one word or character each."""
    options = SubtitleOptions(level="sentence" if level == "sentence" else "word")
    passages = [
        cut_pieces(segment.text, segment.parts if level == "sentence" else (segment,), line_width=options.line_width)
        for segment in aligned.segments(level)
    ]
    return _passage_cues(passages, options, aligned.timeline.duration_seconds)


def _passage_cues(passages: Sequence[list[Piece]], options: SubtitleOptions, duration_seconds: float) -> list[Cue]:
    """The cues of passages, which may overlap if several people speak; a cue belongs to one passage."""
    end = milliseconds(duration_seconds)
    if options.level == "word":
        return word_cues([piece for passage in passages for piece in passage], options, limit=end)
    gap = round(1000 * options.cue_gap)
    latest = [
        max(following[0].start - gap, passage[-1].end if following[0].start < passage[-1].end else 0)
        for passage, following in pairwise(passages)
    ]
    cues = [make_cues(passage, options, limit=limit) for passage, limit in zip(passages, [*latest, end], strict=False)]
    return [cue for part in cues for cue in part]


def _shown(
    cues: Iterable[Cue], options: SubtitleOptions | None, quoted: Callable[[str], str]
) -> Iterator[tuple[int, int, str]]:
    """Start, end and text of each cue; with highlighted words, each cue once for each word of it."""
    for cue in cues:
        if not (options and options.highlight_words):
            yield cue.start, cue.end, quoted("\n".join(cue.texts))
            continue
        pieces = [piece for line in cue.lines for piece in line]
        edges = [cue.start, *(min(max(piece.start, cue.start), cue.end) for piece in pieces[1:]), cue.end]
        for number, (start, end) in enumerate(pairwise(edges)):
            if start < end:
                yield start, end, _marked_text(cue, number, quoted)


def _marked_text(cue: Cue, number: int, quoted: Callable[[str], str]) -> str:
    """The text of a cue with the piece of this number between <u> and </u>."""
    lines, first = [], 0
    for line in cue.lines:
        texts = [quoted(piece.text) for piece in line]
        if first <= number < first + len(line):
            texts[number - first] = f"<u>{texts[number - first]}</u>"
        lines.append("".join(piece.gap + text for piece, text in zip(line, texts, strict=True)).strip())
        first += len(line)
    return "\n".join(lines)


_ASS_HEADER = """\
[Script Info]
ScriptType: v4.00+
PlayResX: 1920
PlayResY: 1080
WrapStyle: 2

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,60,&H00FFFFFF,&H00A0A0A0,&H00000000,&H80000000,0,0,0,0,100,100,0,0,1,3,1,2,60,60,50,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
_ASS_QUOTED = str.maketrans("{}\\", "()/")


def _ass_line(cue: Cue, *, highlight: bool) -> str:
    """The line of a cue; times in hundredths of a second."""
    pieces = [piece for line in cue.lines for piece in line]
    edges = [cue.start, *(min(max(piece.start, cue.start), cue.end) for piece in pieces[1:]), cue.end]
    marks = [f"{{\\k{(end + 5) // 10 - (start + 5) // 10}}}" if highlight else "" for start, end in pairwise(edges)]
    shown = [piece.gap + mark + piece.text.translate(_ASS_QUOTED) for piece, mark in zip(pieces, marks, strict=True)]
    ends = accumulate(map(len, cue.lines))
    text = r"\N".join("".join(shown[end - len(line) : end]).strip() for line, end in zip(cue.lines, ends, strict=True))
    start, end = (cue.start + 5) // 10, (cue.end + 5) // 10
    stamps = ",".join(_timestamp(10 * time, ".")[1:-1] for time in (start, max(end, start + 1)))
    return f"Dialogue: 0,{stamps},Default,,0,0,0,,{text}\n"


def _intervals(segments: Sequence[Segment], duration: int) -> Iterator[tuple[int, int, str]]:
    """The segments and the silence around them: start and end in milliseconds, text."""
    last_end = 0
    for segment in segments:
        start, end = milliseconds(segment.start), milliseconds(segment.end)
        if start > last_end:
            yield last_end, start, ""
        yield start, end, segment.text
        last_end = end
    if last_end < duration:
        yield last_end, duration, ""


def _srt(cues: Iterable[tuple[int, int, str]]) -> str:
    lines = (
        f"{number}\n{_timestamp(start, ',')} --> {_timestamp(end, ',')}\n{text}\n\n"
        for number, (start, end, text) in enumerate(cues, start=1)
    )
    return "".join(lines)


def _vtt(cues: Iterable[tuple[int, int, str]]) -> str:
    lines = (f"{_timestamp(start, '.')} --> {_timestamp(end, '.')}\n{text}\n\n" for start, end, text in cues)
    return "WEBVTT\n\n" + "".join(lines)


def _ctm(name: str, words: Iterable[Word | Segment], channel: int = 1) -> str:
    utterance = "_".join(_PRINTED.findall(name)) or "audio"
    lines = []
    for word in words:
        start, end = milliseconds(word.start), milliseconds(word.end)
        duration = (end - start) / 1000
        lines.append(f"{utterance} {channel} {start / 1000:.3f} {duration:.3f} {word.text} {word.confidence:.3f}\n")
    return "".join(lines)


def _timestamp(milliseconds: int, mark: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{mark}{milliseconds:03d}"
