"""Find training texts that share a run of words with the texts of test sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

RUN_WORDS = 8  # two books rarely share a run of this length by chance, and a part of a sentence still has one


class Withheld:
    """Texts to keep out of training, recognised by their runs of `RUN_WORDS` words.

    A text shorter than a run is only shared by an equal text, not by a longer text that contains it.

    Args:
        texts: normalised, see `asr.text.normalization.normalize`; words are separated by spaces.
    """

    def __init__(self, texts: Iterable[str]):
        self._runs = {run for text in texts for run in _runs(text.split())}

    def shares(self, text: str) -> bool:
        """Whether the text shares a run of words with the withheld texts, or, if shorter than a run, equals one."""
        return any(run in self._runs for run in _runs(text.split()))


def _runs(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Each run of `RUN_WORDS` words, or all words if there are fewer; nothing for no words."""
    if 0 < len(words) < RUN_WORDS:
        yield tuple(words)
    for start in range(len(words) - RUN_WORDS + 1):
        yield tuple(words[start : start + RUN_WORDS])
