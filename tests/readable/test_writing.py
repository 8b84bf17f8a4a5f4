"""Readable words, part by part: a written text must come back from its words, in whatever parts they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from asr.readable.marked_text import MarkedWord, marked_words
from asr.readable.writing import AHEAD, SILENCE, write_live_words, write_text, write_words
from asr.text.segments import find_segments, stream_segments
from asr.text.transcript import Hypothesis, Timeline, Transcript, Word, with_readable_words

TIMELINE = Timeline(frame_seconds=0.1, duration_seconds=1000.0)
TEXT = (
    "Mister Smith came to London in nineteen twenty three, and he paid twenty five dollars. What did he say? Nothing! "
    "The doctor met Doctor Jones at half past seven, on May fifth nineteen ninety nine. I saw two boys and twelve "
    "girls."
)
WRITTEN = (
    "Mr. Smith came to London in 1923, and he paid $25. What did he say? Nothing! The doctor met Dr. Jones at 7:30, "
    "on May 5, 1999. I saw two boys and 12 girls."
)


@dataclass
class Planted:
    """A punctuator that knows the text."""

    text: str = TEXT

    def mark(
        self, words: Sequence[str], pauses: np.ndarray | None = None, *, context: Sequence[MarkedWord] = ()
    ) -> list[MarkedWord]:
        whole = marked_words(self.text)
        spoken = [word.text.upper() for word in whole]
        start = next(
            start
            for start in range(len(whole))
            if spoken[start : start + len(words)] == list(words)
            and whole[max(start - len(context), 0) : start] == list(context)
        )
        assert pauses is None or (len(pauses) == len(words) and (pauses >= 0).all())
        return whole[start : start + len(words)]


def words_of(text: str, *, step: int = 4) -> list[Word]:
    words = []
    for place, word in enumerate(marked_words(text)):
        start, confidence = step * place, 0.5 + place / 1000
        frames = {"start_frame": start, "end_frame": start + 3, "timeline": TIMELINE}
        words.append(Word(text=word.text.upper(), confidence=confidence, **frames))  # type: ignore[arg-type]
    return words


def parts_of(words: Sequence[Word], sizes: Sequence[int]) -> list[tuple[str, Sequence[Word], float]]:
    parts, place = [], 0
    for size in sizes:
        part = words[place : place + size]
        place += size
        parts.append((" ".join(word.text for word in part), part, words[place].start if place < len(words) else 999.0))
    assert place >= len(words)
    return parts


@pytest.mark.parametrize("sizes", [[100], [1] * 42, [3, 0, 17, 1, 30], [AHEAD] * 6, [41, 1]])
def test_a_text_comes_back_in_any_parts(sizes: list[int]) -> None:
    words = words_of(TEXT)
    written: list[Word] = []
    for text, part, end in write_words(parts_of(words, sizes), Planted()):  # type: ignore[arg-type]
        assert text == " ".join(word.text for word in part)
        assert not part or part[-1].end <= end
        written += part
    assert " ".join(word.text for word in written) == WRITTEN
    assert [spoken for word in written for spoken in word.spoken] == words
    for word in written:
        assert (word.start_frame, word.end_frame) == (word.spoken[0].start_frame, word.spoken[-1].end_frame)
        assert word.confidence == min(spoken.confidence for spoken in word.spoken)


def test_words_wait_until_the_network_has_seen_enough_after_them() -> None:
    words = words_of(TEXT)
    punctuator = Planted()
    seen = 0
    for (_, part, _), size in zip(write_words(parts_of(words, [2] * 21), punctuator), range(2, 42, 2), strict=False):  # type: ignore[arg-type]
        seen += sum(len(word.spoken) for word in part)
        assert seen <= max(size - AHEAD, 0)


def test_a_long_silence_makes_words_final() -> None:
    words = words_of("He went home. Then came")
    parts = [("", words[:3], words[2].end + SILENCE), ("", words[3:], words[4].end + 0.1)]
    first, *rest = write_words(parts, Planted("He went home. Then came"))  # type: ignore[arg-type]
    assert first[0] == "He went home."
    assert " ".join(text for text, _, _ in rest if text) == "Then came."  # a recording ends with a sentence


def test_what_was_printed_is_the_whole() -> None:
    words = words_of(TEXT)
    streamed = list(stream_segments(write_words(parts_of(words, [5] * 9), Planted())))  # type: ignore[arg-type]
    (_, whole, _), *_ = write_words(parts_of(words, [42]), Planted())  # type: ignore[arg-type]
    assert [segment.text for segment in streamed] == [
        segment.text for segment in find_segments(" ".join(word.text for word in whole), whole)
    ]
    assert streamed[1].text == "What did he say?"


def test_hotwords_keep_their_spelling() -> None:
    text = "The iphone of macdonald is new. Quilter saw new york. Nasa too."
    hotwords = {("iphone",): "iPhone", ("quilter",): "quilter", ("new", "york"): "New YORK", ("nasa",): "NASA"}
    parts = parts_of(words_of(text), [30])
    written = " ".join(part[0] for part in write_words(parts, Planted(text), hotwords) if part[0])  # type: ignore[arg-type]
    assert written == "The iPhone of macdonald is new. Quilter saw New YORK. NASA too."


def test_hotwords_with_hyphens_are_one_word_of_several_spoken_ones() -> None:
    text = "The wi fi, of t mobile is up. Wi fi at jean luc picard."
    hotwords = {("wi", "fi"): "wi-Fi", ("t", "mobile"): "T-Mobile", ("jean", "luc", "picard"): "Jean-Luc Picard"}
    for sizes in ([30], [2, 3, 25], [1] * 14):
        parts = list(write_words(parts_of(words_of(text), sizes), Planted(text), hotwords))  # type: ignore[arg-type]
        written = " ".join(part[0] for part in parts if part[0])
        assert written == "The wi-Fi, of T-Mobile is up. wi-Fi at Jean-Luc Picard."
        (wireless, *_) = [word for _, words, _ in parts for word in words if word.text.startswith("wi-Fi,")]
        assert [word.text for word in wireless.spoken] == ["WI", "FI"]


def test_hotwords_with_figures_are_written_as_the_user_has_them() -> None:
    text = "The iphone fifteen of a boeing seven hundred forty seven crew, r two d two."
    hotwords = {
        ("iphone", "fifteen"): "iPhone 15",
        ("boeing", "seven", "hundred", "forty", "seven", "crew"): "Boeing 747 crew",
        ("r", "two", "d", "two"): "R2-D2",
    }
    ((written, words, _), *_) = write_words(parts_of(words_of(text), [30]), Planted(text), hotwords)  # type: ignore[arg-type]
    assert written == "The iPhone 15 of a Boeing 747 crew, R2-D2."
    assert [len(word.spoken) for word in words] == [1, 1, 1, 1, 1, 1, 4, 1, 4]


def test_a_hyphen_alone_in_a_hotword_stands_for_no_word() -> None:
    text = "The wi fi of spider man works."
    hotwords = {("wi", "fi"): "Wi-Fi -", ("spider", "man"): "Spider - Man"}
    ((written, words, _), *_) = write_words(parts_of(words_of(text), [30]), Planted(text), hotwords)  # type: ignore[arg-type]
    assert written == "The Wi-Fi of Spider Man works."
    assert [len(word.spoken) for word in words] == [1, 2, 1, 1, 1, 1]
    for hotword in ("man -", "- man"):
        ((written, *_), *_) = write_words(parts_of(words_of(text), [30]), Planted(text), {("man",): hotword})  # type: ignore[arg-type]
        assert written == "The wi fi of spider man works."


def test_the_raw_transcript_is_inside_the_readable_one() -> None:
    words = words_of(TEXT)
    raw_text = " ".join(word.text for word in words)
    hypothesis = Hypothesis(text=raw_text, score=0.0, tokens=(), spans=())
    raw = Transcript(text=raw_text, words=tuple(words), hypotheses=(hypothesis,), timeline=TIMELINE)
    assert (raw.raw_text, raw.raw_words, raw.is_readable) == (raw_text, raw.words, False)
    (_, written, _), *_ = write_words(parts_of(words, [42]), Planted())  # type: ignore[arg-type]
    readable = with_readable_words(raw, written)
    assert readable.text == WRITTEN and readable.is_readable
    assert (readable.raw_text, readable.raw_words) == (raw_text, raw.words)


def test_nothing_was_said() -> None:
    assert [part[0] for part in write_words([("", [], 3.0), ("", [], 9.0)], Planted())] == ["", "", ""]  # type: ignore[arg-type]
    assert write_text("", Planted()) == ""  # type: ignore[arg-type]


def test_live_segments_are_written_at_once_with_the_words_before_them_in_view() -> None:
    words, context, place = words_of(TEXT), [], 0
    texts = []
    for size in (5, 12, 9, len(words)):
        segment = words[place : place + size]
        place += len(segment)
        written = write_live_words(segment, segment[-1].end + 0.3, context, Planted(), {}, is_last=False)
        assert [word for each in written for word in each.spoken] == segment
        texts += [word.text for word in written]
    assert " ".join(texts) == WRITTEN
    assert write_live_words([], 300.0, context, Planted(), {}, is_last=True) == []


def test_titles_before_names() -> None:
    for text, written in (
        ("Mister and Missus Brown met the doctor.", "Mr. and Mrs. Brown met the doctor."),
        ("Mister and nobody else.", "Mister and nobody else."),
        ("Doctor, and Missus Brown.", "Doctor, and Mrs. Brown."),
    ):
        assert write_text(text.replace(".", "").replace(",", "").upper(), Planted(text)) == written


def test_a_capital_follows_a_question() -> None:
    assert write_text("WHAT HE ASKED", Planted("What? he asked.")) == "What? He asked."
    words = words_of("What? he asked.")
    context: list[MarkedWord] = []
    parts = [
        write_live_words(part, part[-1].end, context, Planted("What? he asked."), {}, is_last=True)
        for part in (words[:1], words[1:])
    ]
    assert [word.text for part in parts for word in part] == ["What?", "He", "asked."]


@pytest.mark.parametrize("text", ["the boy had said,", "the boy had said"])
def test_a_live_utterance_ends_with_a_sentence_and_a_cut_one_as_it_is(text):
    for is_last, last in ((True, "said."), (False, text.split()[-1])):
        context: list[MarkedWord] = []
        *_, word = write_live_words(words_of(text), 9.0, context, Planted(text), {}, is_last=is_last)
        assert word.text == last
        assert context[-1].mark == marked_words(last)[0].mark  # the next segment begins with a capital, or goes on
