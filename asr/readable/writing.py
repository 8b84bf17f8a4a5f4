"""Readable words from spoken ones: marks, capitals, figures, titles, and hotwords as the user spells them.

spoken words, part by part ─▶ marks and case ─▶ figures, titles, hotwords ─▶ written words, final
                              sees words before and after

A word is final when eight words follow it, or a long silence, or the end of the recording; later words wait for the
next part. So the text of a recording does not depend on who asks for it, and nothing that was printed changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from asr.readable.marked_text import COMMA, MARKS, PERIOD, MarkedWord
from asr.readable.numbers import find_numbers
from asr.readable.punctuator import Punctuator
from asr.text.normalization import HYPHENS
from asr.text.transcript import Word

AHEAD, BEHIND = 8, 32  # words that the network sees after and before a word, at least and at most
SILENCE = 1.5  # seconds after which the words before are final
_NUMBER_CONTEXT = 4  # words before a number that show its kind: at seven thirty
_HYPHENS = re.compile(f"[{HYPHENS}]")
_TITLES = {"mister": "Mr.", "missus": "Mrs.", "doctor": "Dr."}

Part = tuple[str, Sequence[Word], float]
"""Text, words, and the end in seconds of a part of a recording, as `asr.text.segments.stream_segments` takes them."""


def write_words(
    parts: Iterable[Part], punctuator: Punctuator, hotwords: Mapping[tuple[str, ...], str] | None = None
) -> Iterator[Part]:
    """The parts of a recording in readable words, each of which has its spoken words.

    Args:
        parts: in order, with spoken words.
        punctuator: gives marks and capitals.
        hotwords: the user's spelling of words, by the words in lower case.
    Returns:
        Parts that may be empty, whose end is the start of the first word that is not final.
    """
    pending: list[Word] = []
    context: list[MarkedWord] = []
    end = 0.0
    for _, words, end in parts:
        pending += words
        is_silent = not pending or end - pending[-1].end >= SILENCE
        num_final = len(pending) if is_silent else max(len(pending) - AHEAD, 0)
        written, used = _written(pending, context, num_final, end, punctuator, hotwords or {})
        pending = pending[used:]
        yield " ".join(word.text for word in written), written, pending[0].start if pending else end
    written, _ = _written(pending, context, len(pending), end + SILENCE, punctuator, hotwords or {}, is_last=True)
    yield " ".join(word.text for word in written), written, end


def write_live_words(
    words: Sequence[Word],
    end: float,
    context: list[MarkedWord],
    punctuator: Punctuator,
    hotwords: Mapping[tuple[str, ...], str],
    *,
    is_last: bool,
) -> list[Word]:
    """Readable words for a segment of live sound, all of them final at once: what follows is not known yet.

    Args:
        end: of the pause after the segment, in seconds.
        context: of the segments before; this one is added.
        hotwords: as for `write_words`.
        is_last: whether the sound ends with the segment, and so with a mark of a sentence.
    """
    written, _ = _written(words, context, len(words), end, punctuator, hotwords, is_last=is_last)
    return written


def write_text(text: str, punctuator: Punctuator) -> str:
    """A text of spoken words, of which no times are known, in readable words."""
    marked = _ended(punctuator.mark(text.split()))
    tokens = _tokens(marked, [], {})
    return " ".join(text for text, _, _ in tokens)


def _written(
    words: Sequence[Word],
    context: list[MarkedWord],
    num_final: int,
    end: float,
    punctuator: Punctuator,
    hotwords: Mapping[tuple[str, ...], str],
    *,
    is_last: bool = False,
) -> tuple[list[Word], int]:
    """Written words for the first `num_final` words, or fewer, and how many; these are added to `context`."""
    if not num_final:
        return [], 0
    starts = [*(word.start for word in words[1:]), end]
    pauses = np.array([max(start - word.end, 0.0) for word, start in zip(words, starts, strict=True)])
    marked = punctuator.mark([word.text for word in words], pauses, context=context[-BEHIND:])
    if is_last:
        marked = _ended(marked)
    tokens = _tokens(marked, context[-_NUMBER_CONTEXT:], hotwords)
    final = [token for token in tokens if token[2] <= num_final]
    used = final[-1][2] if final else 0
    context += marked[:used]
    del context[:-BEHIND]
    return [_joined(words[first:last], text) for text, first, last in final], used


def _ended(marked: list[MarkedWord]) -> list[MarkedWord]:
    """The words with a mark at their end: a recording ends with a sentence."""
    if marked and marked[-1].mark in (0, COMMA):
        return [*marked[:-1], MarkedWord(marked[-1].text, PERIOD)]
    return marked


def _joined(words: Sequence[Word], text: str) -> Word:
    """One written word for some spoken ones; it is as sure as the least sure of them."""
    confidence = min(word.confidence for word in words)
    return replace(words[0], text=text, end_frame=words[-1].end_frame, confidence=confidence, spoken=tuple(words))


def _tokens(
    marked: Sequence[MarkedWord], context: Sequence[MarkedWord], hotwords: Mapping[tuple[str, ...], str]
) -> list[tuple[str, int, int]]:
    """The written tokens with their marks, and the words [first, end) for which each stands; every word is in one."""
    spans = {first: (end, text) for text, first, end in _hotword_tokens(marked, context, hotwords)}
    taken = {place for first, (end, _) in spans.items() for place in range(first, end)}
    both = [*context, *marked]
    for first, end, text in find_numbers([word.text for word in both], [word.mark > 0 for word in both]):
        first, end = first - len(context), end - len(context)
        if first >= 0 and not taken & set(range(first, end)):
            spans[first] = end, text
    tokens, place = [], 0
    while place < len(marked):
        end, text = spans.get(place, (place + 1, _plain(marked, place)))
        before = marked[place - 1] if place else context[-1] if context else None
        if before and MARKS[before.mark] in ("?", "!"):  # without its quotes, "What?" he asked has a capital
            text = text[0].upper() + text[1:]
        mark = MARKS[marked[end - 1].mark]
        tokens.append((text if text.endswith(mark) else text + mark, place, end))
        place = end
    return tokens


def _plain(marked: Sequence[MarkedWord], place: int) -> str:
    """A word by itself, or a title before a name: Mr."""
    text = marked[place].text
    title = _TITLES.get(text.lower())
    following = [word.text for word in marked[place + 1 : place + 3]]
    is_pair = following[:1] == ["and"] and following[-1].lower() in _TITLES  # Mr. and Mrs.
    is_name = marked[place].mark == 0 and bool(following) and (following[0][:1].isupper() or is_pair)
    return title if title and is_name and text[0].isupper() else text


def _hotword_tokens(
    marked: Sequence[MarkedWord], context: Sequence[MarkedWord], hotwords: Mapping[tuple[str, ...], str]
) -> Iterator[tuple[str, int, int]]:
    """The hotwords among the words, spelled as the user does; one in small letters has a capital after a period."""
    if not hotwords:
        return
    lower = [word.text.lower() for word in marked]
    longest = max(map(len, hotwords))
    place = 0
    while place < len(marked):
        for size in range(min(longest, len(marked) - place), 0, -1):
            spelling = hotwords.get(tuple(lower[place : place + size]))
            if spelling is None or sum(sizes := _spoken_sizes(parts := spelling.split(), size)) != size:
                continue
            before = marked[place - 1].mark if place else context[-1].mark if context else PERIOD
            if before == PERIOD and parts[0].islower():
                parts[0] = parts[0].capitalize()
            for part, part_size in zip(parts, sizes, strict=True):
                if part_size:  # nobody speaks a hyphen alone
                    yield part, place, place + part_size
                place += part_size
            break
        else:
            place += 1


def _spoken_sizes(parts: Sequence[str], size: int) -> list[int]:
    """The number of spoken words of each written one: Wi-Fi has two, or one if the model has hyphens.

    Figures may have any number: in Boeing 747 the longest have all words that the others do not need.
    """
    sizes = [len(_HYPHENS.sub(" ", part).split()) for part in parts]
    figures = [sum(map(str.isdecimal, part)) for part in parts]
    if any(figures):
        sizes[figures.index(max(figures))] += max(size - sum(sizes), 0)
    return sizes if sum(sizes) == size else [1] * len(parts)
