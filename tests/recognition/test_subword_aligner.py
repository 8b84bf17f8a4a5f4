"""Texts aligned with the labels of subwords: words as written, in any segmentation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from asr.errors import InputError
from asr.recognition.aligner import AlignmentOptions, align_text
from asr.text.labels import Labels
from asr.text.normalization import TextOptions
from asr.text.subwords import Subwords

LOWER = TextOptions(case="lower")
PIECES = ["<blk>", "▁the", "▁th", "e", "s", "▁", "▁cat", "t", "h", "c", "a", "<0xC3>", "<0xA9>"]


def spoken(path: list[str], *, sure: float = 0.95) -> tuple[np.ndarray, Subwords]:
    """An emission with one frame for each label, and the labels."""
    labels = Labels(PIECES)
    emission = np.full((len(path), len(PIECES)), math.log((1 - sure) / (len(PIECES) - 1)))
    emission[np.arange(len(path)), [PIECES.index(label) for label in path]] = math.log(sure)
    assert isinstance(labels.alphabet, Subwords)
    return labels.arrange(emission), labels.alphabet


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (["<blk>", "▁the", "<blk>", "▁cat", "s", "<blk>"], [("The", 1, 2), ("cats.", 3, 5)]),
        (["▁th", "e", "▁", "c", "a", "t", "<blk>", "s"], [("The", 0, 2), ("cats.", 3, 8)]),
        (["t", "h", "e", "<blk>", "▁cat", "s"], [("The", 0, 3), ("cats.", 4, 6)]),  # no space before the first word
        (["s", "▁the", "▁cat", "s", "<blk>", "e"], [("The", 1, 2), ("cats.", 2, 4)]),  # other speech at the edges
    ],
)
def test_words_have_the_frames_of_their_labels(path, words):
    emission, subwords = spoken(path)
    aligned = align_text(emission, "The cats.", subwords, text_options=LOWER)
    assert [(word.text, word.start_frame, word.end_frame) for word in aligned.words] == words
    assert all(word.confidence == pytest.approx(0.95) for word in aligned.words)


def test_without_options_the_text_has_the_case_of_the_labels():
    emission, subwords = spoken(["<blk>", "▁the", "<blk>", "▁cat", "s", "<blk>"])
    assert align_text(emission, "The cats.", subwords) == align_text(
        emission, "The cats.", subwords, text_options=LOWER
    )
    cased = Labels(["<blk>", "▁A", "b", "▁a", "B", "."])
    emission = np.log(np.full((4, 6), 0.02) + 0.88 * np.eye(6)[[1, 2, 0, 5]])
    words = align_text(cased.arrange(emission), "Ab.", cased.alphabet).words
    assert [(part.text, part.start_frame) for part in words[0].parts] == [("A", 0), ("b", 1), (".", 3)]


def test_a_character_in_bytes_has_the_frames_of_all_its_bytes():
    emission, subwords = spoken(["▁th", "<0xC3>", "<blk>", "<0xA9>", "s"])
    aligned = align_text(emission, "thés", subwords, text_options=LOWER)
    assert [(part.text, part.start_frame, part.end_frame) for part in aligned.words[0].parts] == [
        ("t", 0, 1),
        ("h", 0, 1),
        ("é", 1, 4),
        ("s", 4, 5),
    ]


def test_gaps_between_sentences_count_in_characters():
    emission, subwords = spoken(["▁the", "▁cat", "s", "e", "e", "▁the", "▁cat"])
    options = AlignmentOptions(gaps="sentences", gap_score=-0.5)
    aligned = align_text(emission, "The cat. The cat.", subwords, options, text_options=LOWER)
    assert [(s.start_frame, s.end_frame) for s in aligned.sentences] == [(0, 2), (5, 7)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the the the", "the text needs 4 frames but the recording has 3, in 3.00 s: is it the text of this recording"),
        ("dog", "the text must have a character of the model"),
    ],
)
def test_texts_that_do_not_fit_are_refused(text, message):
    emission, subwords = spoken(["▁the", "<blk>", "▁the"])
    with pytest.raises(InputError, match=message):
        align_text(emission, text, subwords, text_options=LOWER)


def test_a_text_without_a_segmentation_is_refused():
    subwords = Subwords((" qu", "a"))
    with pytest.raises(InputError, match="the labels must spell the text; no segmentation of 'aq' exists"):
        align_text(np.zeros((9, 3)), "aq", subwords, text_options=LOWER)
