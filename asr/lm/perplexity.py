"""How well a language model predicts a text, in figures that compare across models of words and of characters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class TextScore:
    """Sums over the sentences of a text; the end of a sentence is predicted too, and counts as a word and a character.

    Args:
        log_prob: natural logarithm of the probability of all sentences.
        tokens: the number of predicted tokens, ends included.
        sentences: their number.
        words: of the normalised text.
        characters: of the normalised text, spaces included.
        unknown: tokens outside the vocabulary: words scored as <unk>, or characters that were left out.
    """

    log_prob: float = 0.0
    tokens: int = 0
    sentences: int = 0
    words: int = 0
    characters: int = 0
    unknown: int = 0

    def __add__(self, other: TextScore) -> TextScore:
        return TextScore(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    @property
    def loss(self) -> float:
        """Nats per token of the model."""
        return -self.log_prob / max(self.tokens, 1)

    @property
    def word_perplexity(self) -> float:
        """exp(-log_prob / (words + sentences)), infinite on overflow; as KenLM and SRILM count."""
        return _exp(-self.log_prob / max(self.words + self.sentences, 1))

    @property
    def character_perplexity(self) -> float:
        """exp(-log_prob / (characters + sentences)), infinite on overflow."""
        return _exp(-self.log_prob / max(self.characters + self.sentences, 1))

    @property
    def unknown_rate(self) -> float:
        """The share of unknown tokens, without ends of sentences, 0 .. 1."""
        return self.unknown / max(self.tokens - self.sentences, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class SentenceScore:
    """The score of a sentence, token by token.

    Args:
        text: the normalised sentence.
        tokens: its words or characters, then <eos>.
        log_probs: (U,) float64, natural logarithm of the probability of each token given the tokens before it. A token
            outside the vocabulary has the probability of <unk>; without <unk> it has -inf, and later tokens are scored
            as if it were missing.
        known: (U,) bool: whether the vocabulary has the token.
    """

    text: str
    tokens: tuple[str, ...]
    log_probs: np.ndarray
    known: np.ndarray

    @property
    def log_prob(self) -> float:
        """Natural logarithm of the probability of the sentence."""
        return float(self.log_probs.sum())

    @property
    def counts(self) -> TextScore:
        """The sentence as a text."""
        return TextScore(
            log_prob=self.log_prob,
            tokens=len(self.tokens),
            sentences=1,
            words=len(self.text.split()),
            characters=len(self.text),
            unknown=int((~self.known).sum()),
        )


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf  # NaN, from a model that diverged, also gives inf
