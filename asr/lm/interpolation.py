"""Linear interpolation of n-gram models, as one model.

    p(w | h) = Σ_m weight_m · p_m(w | h)

for all n-grams hw of any of the models; p_m backs off where model m lacks hw, and is 0 for words outside its
vocabulary. Other n-grams back off in the new model, whose back-offs make the probabilities of each context sum to one.
So only for these the result differs from the sum. SRILM's `ngram -mix-lm` makes the same model.

Source: Stolcke 2002, "SRILM - an extensible language modeling toolkit", section 3; Jelinek and Mercer 1980,
"Interpolated estimation of Markov source parameters from sparse data", for the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from asr.errors import InputError
from asr.lm.arpa import END, LN_10, START, UNKNOWN, ZERO
from asr.lm.ngram import NgramModel
from asr.lm.tables import Level, assemble, child_keys, level_bounds, query_together

_SPECIAL = (UNKNOWN, START, END)
_LEAST = 1e-12  # of the probability that is left for words outside the n-grams of a context
_ROUNDS, _ENOUGH = 200, 1e-6  # of expectation maximisation; it ends when no weight changes by more


def interpolate(models: Sequence[NgramModel], weights: Sequence[float]) -> NgramModel:
    """One model with the words and the n-grams of all, and the weighted sums of their probabilities.

    Args:
        models: of the same unit (words or characters), each with <s> and </s>; at least one.
        weights: of each; 0 or more, with a sum of 1.
    Returns:
        The model; its words are in code-point order after <unk>, <s> and </s>.
    Raises:
        InputError: the weights are no distribution over the models, or a model lacks <s> or </s>.
    """
    if len(weights) != len(models) or min(weights, default=-1.0) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise InputError(f"weights must be {len(models)} numbers of 0 or more with a sum of 1, not {list(weights)}")
    if any(name not in model.vocabulary for model in models for name in (START, END)):
        raise InputError(f"models must have {START} and {END} to be interpolated; one lacks them")
    parts = [(model, weight) for model, weight in zip(models, weights, strict=True) if weight > 0]
    words = (*_SPECIAL, *sorted({word for model, _ in parts for word in model.words} - {*_SPECIAL}))
    number = {word: index for index, word in enumerate(words)}
    sources = [_Source(model, weight, words, number) for model, weight in parts]
    union = _Union(len(words))
    levels: list[Level] = []
    for length in range(1, max(model.order for model, _ in parts) + 1):
        keys = np.unique(np.concatenate([source.keys(length, union.num_words) for source in sources]))
        contexts, last = np.divmod(keys, union.num_words)
        log_probs = np.logaddexp.reduce([source.log_probs(contexts, last) for source in sources], axis=0)
        if length == 1:
            log_probs[number[START]] = ZERO * LN_10  # given, never predicted
            suffixes = np.zeros(len(keys), np.int64)
        else:
            suffixes, shorter = union.query(union.suffixes[contexts], last)
            union.set_back_offs(contexts, np.exp(log_probs), np.exp(shorter))
            back_offs = union.back_offs[-len(levels[-1].words) :]
            levels[-1] = levels[-1]._replace(back_offs=back_offs.astype(np.float32))
        for source in sources:
            source.place(length, union.num_nodes + np.searchsorted(keys, source.keys(length, union.num_words)))
        union.add(keys, suffixes, log_probs)
        levels.append(
            Level(
                contexts.astype(np.int32),
                last.astype(np.int32),
                suffixes.astype(np.int32),
                log_probs.astype(np.float32),
                np.zeros(len(keys), np.float32),
            )
        )
    return NgramModel(words, assemble(levels, start_word=number[START], end_word=number[END]))


def best_weights(models: Sequence[NgramModel], sentences: Iterable[Sequence[str]]) -> list[float]:
    """The weights under which some sentences are likeliest, by expectation maximisation.

    Args:
        models: as for `interpolate`.
        sentences: each a sequence of words without <s> and </s>, which are not in the text of any model.
    Raises:
        InputError: there are no sentences.
    """
    probabilities = _probabilities(models, sentences)
    weights = np.full(len(models), 1 / len(models))
    for _ in range(_ROUNDS):
        shares = weights[:, None] * probabilities
        before, weights = weights, (shares / np.maximum(shares.sum(axis=0), np.finfo(float).tiny)).mean(axis=1)
        weights /= weights.sum()
        if np.abs(weights - before).max() < _ENOUGH:
            break
    return [float(weight) for weight in weights]


def mixed_perplexity(
    models: Sequence[NgramModel], weights: Sequence[float], sentences: Iterable[Sequence[str]]
) -> float:
    """Per word, ends of sentences included, of the weighted sum of some models, as for `best_weights`."""
    return float(np.exp(-np.log(np.array(weights) @ _probabilities(models, sentences)).mean()))


def _probabilities(models: Sequence[NgramModel], sentences: Iterable[Sequence[str]]) -> np.ndarray:
    """(M, N) of each word, and each end, of some sentences by each model."""
    rows = []
    for sentence in sentences:
        known = np.array([[word in model.vocabulary for word in (*sentence, END)] for model in models])
        known |= ~known.any(axis=0)  # a word that no model has is <unk> in all
        rows.append(np.where(known, np.exp([model.score(sentence) for model in models]), 0.0))
    if not rows:
        raise InputError("weights need sentences to be tuned on; got none")
    return np.concatenate(rows, axis=1)


class _Source:
    """A model whose n-grams enter the new model, length by length."""

    def __init__(self, model: NgramModel, weight: float, words: Sequence[str], number: dict[str, int]):
        self.tables, self.child_keys = model.tables, child_keys(model.tables)
        self.bounds = [0, *level_bounds(model.tables)]
        self.log_weight = np.log(weight)
        self.new_words = np.array([number[word] for word in model.words])  # by own number
        self.own_words = np.array([model.vocabulary.get(word, -1) for word in words])  # by new number
        self.own_contexts = np.repeat(np.arange(len(self.tables.back_offs)), np.diff(self.tables.first_children))
        self.new_nodes = np.zeros(len(self.tables.words), np.int64)  # by own node
        self.states = np.array([self.tables.empty_state], np.int64)  # of this model after each n-gram of the new one

    def keys(self, length: int, num_words: int) -> np.ndarray:
        """(n,) context · num_words + word of its n-grams of a length, in the nodes and words of the new model."""
        nodes = self._nodes(length)
        return self.new_nodes[self.own_contexts[nodes - 1]] * num_words + self.new_words[self.tables.words[nodes]]

    def log_probs(self, contexts: np.ndarray, words: np.ndarray) -> np.ndarray:
        """(n,) the weighted probability of each n-gram of the new model; call it once for each length."""
        own = self.own_words[words]
        states = self.states[contexts]
        log_probs, after = query_together(self.tables, self.child_keys, states, np.maximum(own, 0))
        self.states = np.concatenate([self.states, after])
        return np.where(own >= 0, log_probs, -np.inf) + self.log_weight

    def place(self, length: int, nodes: np.ndarray) -> None:
        """Say which nodes its n-grams of a length are in the new model."""
        self.new_nodes[self._nodes(length)] = nodes

    def _nodes(self, length: int) -> np.ndarray:
        bounds = self.bounds[length : length + 2]
        return np.arange(*bounds) if len(bounds) == 2 else np.arange(0)


@dataclass(eq=False)
class _Union:
    """The nodes of the new model so far, numbered as in `asr.lm.tables`; arrays by node, and keys by node less one."""

    num_words: int
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    suffixes: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    log_probs: np.ndarray = field(default_factory=lambda: np.zeros(1))
    back_offs: np.ndarray = field(default_factory=lambda: np.zeros(1))

    @property
    def num_nodes(self) -> int:
        return len(self.suffixes)

    def add(self, keys: np.ndarray, suffixes: np.ndarray, log_probs: np.ndarray) -> None:
        """Add the n-grams of the next length."""
        self.keys = np.concatenate([self.keys, keys])
        self.suffixes = np.concatenate([self.suffixes, suffixes])
        self.log_probs = np.concatenate([self.log_probs, log_probs])
        self.back_offs = np.concatenate([self.back_offs, np.zeros(len(keys))])

    def query(self, contexts: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) the node of the longest suffix of each n-gram, and the logarithm of its probability."""
        contexts, log_probs = contexts.copy(), np.zeros(len(contexts))
        nodes = np.empty(len(contexts), np.int64)
        waiting = np.arange(len(contexts))
        while len(waiting):
            wanted = contexts[waiting] * self.num_words + words[waiting]
            indices = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            found = self.keys[indices] == wanted
            nodes[waiting[found]] = 1 + indices[found]
            waiting = waiting[~found]
            log_probs[waiting] += self.back_offs[contexts[waiting]]
            contexts[waiting] = self.suffixes[contexts[waiting]]
        return nodes, log_probs + self.log_probs[nodes]

    def set_back_offs(self, contexts: np.ndarray, longer: np.ndarray, shorter: np.ndarray) -> None:
        """Set the back-offs of contexts, so that the probabilities after each sum to one.

        Args:
            contexts: (n,) of n-grams that are one word longer.
            longer, shorter: (n,) their probabilities, and those without the first word of the context.
        """
        after, before = (
            np.log(np.maximum(1 - np.bincount(contexts, values, self.num_nodes), _LEAST))
            for values in (longer, shorter)
        )
        self.back_offs[contexts] = (after - before)[contexts]
