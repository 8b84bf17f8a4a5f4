"""The frames of a text's characters, for labels of one character and for subwords."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asr.ctc.greedy import BestPath
from asr.ctc.spellings import Spellings
from asr.text.alphabet import BLANK, Alphabet
from asr.text.subwords import Subwords


class Places(NamedTuple):
    """The frames of U characters, and of the W labels that spell them; with labels of one character, W = U.

    Args:
        spans: U pairs, the frames [start, end) of each character: of its label.
        confidences: (U,) in 0 .. 1, the geometric mean of the posteriors of each character's label over its span.
        labels: W labels.
        label_spans: W pairs, their frames.
    """

    spans: Sequence[Sequence[int]]
    confidences: np.ndarray
    labels: Sequence[int]
    label_spans: Sequence[Sequence[int]]


def make_spellings(labels: Alphabet | Subwords) -> Spellings | None:
    """The characters of each label of subwords, as labels of their alphabet; None for an alphabet."""
    return Spellings(labels.spellings, blank=BLANK) if isinstance(labels, Subwords) else None


def place_path(path: BestPath, labels: Alphabet | Subwords) -> tuple[str, Places]:
    """The characters of a path, and their frames."""
    spans = path.spans.tolist()
    if isinstance(labels, Alphabet):
        return labels.decode(path.tokens), Places(spans, path.confidences, path.tokens.tolist(), spans)
    pieces = [labels.pieces[token - 1] for token in path.tokens.tolist()]
    lengths = list(map(len, pieces))
    return "".join(pieces), Places(
        [span for span, length in zip(spans, lengths, strict=True) for _ in range(length)],
        np.repeat(path.confidences, lengths),
        path.tokens.tolist(),
        spans,
    )


def place_tokens(emission: np.ndarray, tokens: np.ndarray, spellings: Spellings | None = None) -> Places:
    """The frames of the tokens of a search, by forced alignment: characters, in their most probable segmentation.

    Without tokens the result is empty, even if no path through the emission is possible.
    """
    from asr.ctc.alignment import align
    from asr.ctc.subword_alignment import align_text

    if not len(tokens):
        return Places([], np.zeros(0), [], [])
    if spellings is None:
        alignment = align(emission, tokens, blank=BLANK)
        spans = alignment.spans.tolist()
        return Places(spans, alignment.confidences, tokens.tolist(), spans)
    text = align_text(emission, tokens.tolist(), spellings)
    return Places(text.spans.tolist(), text.confidences, text.labels.tolist(), text.label_spans.tolist())
