"""The frames of the characters of a text, for a model of letters and for one of pieces of words."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from asr.ctc.alignment import align
from asr.ctc.collapse import minimum_frames
from asr.ctc.spellings import Spellings
from asr.ctc.subword_alignment import TextAlignment, align_text, minimum_frames_of_text
from asr.errors import InputError
from asr.text.alphabet import BLANK, Alphabet
from asr.text.subwords import Subwords

if TYPE_CHECKING:  # this loads torch
    from asr.recognition.recognizer import Emission


class TooShort(Exception):
    """There are fewer frames than this text needs."""


Places = tuple[list[list[int]], list[float], float]
"""The frames [start, end) and the mean log-probability of each character, and the score of the path."""


def place_letters(
    emission: Emission, characters: str, alphabet: Alphabet, gaps: Sequence[int], gap_score: float
) -> Places:
    labels = alphabet.encode(characters)
    if (needed := minimum_frames(labels)) > len(emission):
        raise TooShort(f"{needed} frames ({len(labels)} characters, {needed - len(labels)} repeats)")
    alignment = align(emission, labels, blank=BLANK, gaps=gaps, gap_score=gap_score)
    return alignment.spans.tolist(), alignment.token_scores.tolist(), alignment.score


def place_pieces(
    emission: Emission, characters: str, subwords: Subwords, gaps: Sequence[int], gap_score: float
) -> Places:
    """The best segmentation, with the space of the first word's piece or without it."""
    spellings = Spellings(subwords.spellings, blank=BLANK)
    units = [subwords.alphabet.encode(character) for character in characters]  # several for one spelled in bytes
    ends = np.cumsum([0, *map(len, units)])
    flat = [unit for inner in units for unit in inner]
    # Pieces may begin with the space before a word, so a gap may also come before it.
    gaps = [*gaps, *(gap - 1 for gap in gaps if gap > 0 and characters[gap - 1] == " ")]
    best: TextAlignment | None = None
    most_needed, shift = None, 0
    for lead in ([], subwords.alphabet.encode(" ")) if subwords.begins_words else ([],):
        needed = minimum_frames_of_text([*lead, *flat], spellings)
        if needed is None or needed > len(emission):
            most_needed = needed or most_needed
            continue
        places = [gap if gap == 0 else int(ends[gap]) + len(lead) for gap in gaps]
        alignment = align_text(emission, [*lead, *flat], spellings, gaps=places, gap_score=gap_score)
        if best is None or alignment.score > best.score:
            best, shift = alignment, len(lead)
    if best is None and most_needed is None:
        raise InputError(f"the labels must spell the text; no segmentation of {characters[:40]!r} exists")
    if best is None:
        raise TooShort(f"{most_needed} frames")
    spans, scores = best.spans[shift:], best.token_scores[shift:]
    inside = [slice(start, end) for start, end in itertools.pairwise(ends)]
    return (
        [[int(spans[part][0, 0]), int(spans[part][-1, 1])] for part in inside],
        [float(scores[part].mean()) for part in inside],
        best.score,
    )
