"""Sentences to keep apart: which texts share a run of words with those that a model will be tested on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

RUN_WORDS = 8  # long enough that two books hardly ever share one by chance, short enough to find a cut sentence


class Withheld:
    """Texts that nothing learned from may hold, recognised by their runs of `RUN_WORDS` words.

    A text shorter than a run counts as a whole: it is shared by an equal text, not by a longer one that holds it.

    Args:
        texts: in one spelling, words parted by spaces (`asr.text.normalization.normalize` gives such).
    """

    def __init__(self, texts: Iterable[str]):
        self._runs = {run for text in texts for run in _runs(text.split())}

    def shares(self, text: str) -> bool:
        """Whether the text has a run of words, or for a short one all its words, in common with those withheld."""
        return any(run in self._runs for run in _runs(text.split()))


def _runs(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Each stretch of `RUN_WORDS` words; all words where there are fewer; nothing of nothing."""
    if 0 < len(words) < RUN_WORDS:
        yield tuple(words)
    for start in range(len(words) - RUN_WORDS + 1):
        yield tuple(words[start : start + RUN_WORDS])
