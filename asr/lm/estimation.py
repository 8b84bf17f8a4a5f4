"""N-gram models from text: interpolated modified Kneser-Ney smoothing, as in `lmplz` of KenLM.

The adjusted count a(g) of an n-gram g is its number of occurrences if g has the longest length or begins with <s>, and
otherwise the number of different words that precede it:

    p(w | h) = (a(hw) - D(a(hw))) / Σ_x a(hx)  +  back_off(h) p(w | h without its first word)
    back_off(h) = Σ_x D(a(hx)) / Σ_x a(hx)

D discounts each n-gram (D₁, D₂ or D₃ for counts of one, two, or more) in favour of unseen n-grams. Single words back
off to the uniform distribution over the vocabulary, <unk> and </s> included. A pruned n-gram gives its whole count to
its context's back-off, so that probabilities still sum to one.

Source: Chen and Goodman 1998, "An empirical study of smoothing techniques for language modeling", section 4.1.6 and
equation 26; Heafield et al. 2013, "Scalable modified Kneser-Ney language model estimation", for pruning and <s>.
"""

from __future__ import annotations

import re
import warnings
from array import array
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from asr.errors import AsrWarning, ConfigError, InputError
from asr.lm.arpa import END, LN_10, START, UNKNOWN
from asr.lm.ngram import NgramModel
from asr.lm.tables import Level, assemble

FALLBACK_DISCOUNTS: Final = (0.5, 1.0, 1.5)
"""D₁, D₂, D₃ for texts that are too small to estimate them; those of `lmplz --discount_fallback`."""

_SPECIAL = (UNKNOWN, START, END)
_START_NUMBER, _END_NUMBER = 1, 2
_NO_WORD = re.compile("|.*[\0\t\n\v\f\r \ud800-\udfff].*", re.DOTALL)  # impossible in an ARPA file
_NEVER = -99.0  # log10 of the probability of <s>, which is given and never predicted


def estimate_ngram(
    sentences: Iterable[Sequence[str]],
    *,
    order: int,
    prune: Sequence[int] = (),
    vocabulary: int | Iterable[str] | None = None,
    fallback: tuple[float, float, float] | None = FALLBACK_DISCOUNTS,
) -> NgramModel:
    """The model of a text by interpolated modified Kneser-Ney smoothing.

    Its words are numbered in code-point order after <unk>, <s> and </s>. Most of the time goes to sorting; memory is
    about 40 bytes for each word of the text and 70 for each different n-gram, pruned ones included.

    Args:
        sentences: the text, each sentence a sequence of words without <s> and </s>; read once. <unk> among them is an
            unknown word. Empty sentences count: in them </s> follows <s>.
        order: the number of words in the longest n-grams, at least 1.
        prune: leave out n-grams of n words that occur at most prune[n - 1] times; the last threshold also holds for
            longer n-grams; an empty sequence prunes nothing. The first is 0, and they never descend.
        vocabulary: the words of the model, or the number of the most frequent words (ties in code-point order); all
            other words are <unk>, which is counted like any word. None takes all words, and <unk> gets the probability
            of a word that never occurs.
        fallback: D₁, D₂, D₃, 0 < Dₖ <= k, used with an `AsrWarning` where the counts of an order give no valid
            discounts, as in small texts; None refuses such a text.
    Returns:
        The model.
    Raises:
        ConfigError: order, prune, vocabulary or fallback is out of range.
        InputError: there is no sentence, a sentence is a str, or a word is <s> or </s>, empty, or has white space;
            or the text gives no discounts and `fallback` is None.
    """
    if not isinstance(order, int) or order < 1:
        raise ConfigError(f"the order of a language model must be an integer of 1 or more; got {order!r}")
    thresholds = _thresholds(prune, order)
    if fallback is not None and not (len(fallback) == 3 and all(0 < fallback[k - 1] <= k for k in (1, 2, 3))):
        raise ConfigError(f"fallback discounts must be three, 0 < D <= 1, 2 and 3; got {fallback!r}")
    text, words = _number(sentences, vocabulary)
    counted = _count(text, len(words), order)
    levels: list[Level] = []
    probabilities = np.full(1, 1 / (len(words) - 1))  # without any context: uniform over all words but <s>
    selection, nodes = np.ones(1, bool), np.zeros(1, np.int64)
    for n, ngrams in enumerate(counted, start=1):
        adjusted = ngrams.adjusted_counts(counted[n] if n < len(counted) else None)
        discounts = np.array([0, *_discounts(adjusted, n, fallback)])
        shorter_selection, shorter_nodes = selection, nodes
        selection = ngrams.counts > thresholds[n - 1] if n > 1 else np.ones(len(words), bool)
        losses = np.where(selection, discounts[np.minimum(adjusted, 3)], adjusted)
        totals = np.bincount(ngrams.contexts, adjusted, len(probabilities))
        back_offs = np.ones(len(probabilities))  # of contexts without continuations
        np.divide(np.bincount(ngrams.contexts, losses, len(probabilities)), totals, out=back_offs, where=totals > 0)
        probabilities = back_offs[ngrams.contexts] * probabilities[ngrams.suffixes]
        probabilities += (adjusted - losses) / totals[ngrams.contexts]
        if levels:
            levels[-1] = levels[-1]._replace(back_offs=np.log(back_offs[shorter_selection]).astype(np.float32))
        nodes = shorter_nodes[-1] + np.cumsum(selection)
        levels.append(
            Level(
                contexts=shorter_nodes[ngrams.contexts[selection]].astype(np.int32),
                words=ngrams.words[selection],
                suffixes=shorter_nodes[ngrams.suffixes[selection]].astype(np.int32),
                log_probs=np.log(probabilities[selection]).astype(np.float32),
                back_offs=np.zeros(int(selection.sum()), np.float32),
            )
        )
    levels[0].log_probs[_START_NUMBER] = _NEVER * LN_10
    return NgramModel(words, assemble(levels, start_word=_START_NUMBER, end_word=_END_NUMBER))


class _Ngrams(NamedTuple):
    """All n-grams of one length in a text, sorted by context and last word: arrays (n,).

    `contexts` (without the last word) and `suffixes` (without the first) count the n-grams that are one word shorter.
    """

    contexts: np.ndarray  # int32
    words: np.ndarray  # int32
    suffixes: np.ndarray  # int32
    counts: np.ndarray  # int32, occurrences in the text; 0 for <s>, which is given and never predicted
    begin: np.ndarray  # bool, whether the first word is <s>

    def adjusted_counts(self, longer: _Ngrams | None) -> np.ndarray:
        """(n,) int32; `longer` are the n-grams that are one word longer, None for the longest length."""
        if longer is None:
            return self.counts
        num_before = np.bincount(longer.suffixes, minlength=len(self.counts)).astype(np.int32)
        return np.where(self.begin, self.counts, num_before)


def _count(text: np.ndarray, num_words: int, order: int) -> list[_Ngrams]:
    """The n-grams of a text (N,) int32 of sentences from <s> to </s>: by length, up to `order` or the longest."""
    zeros = np.zeros(num_words, np.int32)
    counts = np.bincount(text, minlength=num_words).astype(np.int32)
    counts[_START_NUMBER] = 0
    numbers = np.arange(num_words, dtype=np.int32)
    counted = [_Ngrams(zeros, numbers, zeros, counts, numbers == _START_NUMBER)]
    positions, indices = np.arange(len(text)), text  # where n-grams begin; the n-gram that begins at each word
    for n in range(2, order + 1):
        positions = positions[text[positions + n - 2] != _END_NUMBER]
        if not len(positions):
            break
        keys = indices[positions].astype(np.int64) * num_words + text[positions + n - 1]
        ranks = np.argsort(keys)
        keys = keys[ranks]
        is_new = np.append(True, keys[1:] != keys[:-1])
        starts = np.flatnonzero(is_new)
        contexts, words = (part.astype(np.int32) for part in np.divmod(keys[starts], num_words))
        counted.append(
            _Ngrams(
                contexts,
                words,
                suffixes=indices[positions[ranks[starts]] + 1],
                counts=np.diff(starts, append=len(keys)).astype(np.int32),
                begin=counted[-1].begin[contexts],
            )
        )
        indices = np.zeros(len(text), np.int32)
        indices[positions[ranks]] = np.cumsum(is_new, dtype=np.int32) - 1
    return counted


def _discounts(adjusted: np.ndarray, n: int, fallback: tuple[float, float, float] | None) -> tuple[float, ...]:
    """D₁, D₂, D₃ of the n-grams with these adjusted counts; Chen and Goodman 1998, equation 26."""
    _, *num, _ = np.bincount(np.minimum(adjusted, 5), minlength=6).tolist()
    if all(num[:3]):
        scale = num[0] / (num[0] + 2 * num[1])
        discounts = tuple(k - (k + 1) * scale * num[k] / num[k - 1] for k in (1, 2, 3))
        if all(0 < discount <= k for k, discount in enumerate(discounts, start=1)):
            return discounts
    message = (
        f"modified Kneser-Ney cannot estimate discounts for n-grams of {n}: {num[0]}, {num[1]}, "
        f"{num[2]} and {num[3]} of them have (adjusted) counts of 1, 2, 3 and 4"
    )
    if fallback is None:
        raise InputError(f"{message}; lower the order, or give fallback discounts")
    if any(num):  # otherwise all are frequent, like single characters, and a discount hardly matters
        warnings.warn(AsrWarning(f"{message}; the discounts {fallback} are used instead"), stacklevel=3)
    return fallback


def _thresholds(prune: Sequence[int], order: int) -> list[int]:
    thresholds = list(prune) or [0]
    integers = all(isinstance(threshold, int) for threshold in thresholds)
    if not integers or thresholds[0] != 0 or thresholds != sorted(thresholds) or len(thresholds) > order:
        raise ConfigError(
            f"prune must be at most {order} integers that begin with 0 and never descend, one for each length of "
            f"n-grams; got {prune!r}"
        )
    return thresholds + thresholds[-1:] * (order - len(thresholds))


class _Numbers(dict[str, int]):
    """Numbers of words in order of appearance; <UNK> is another spelling of <unk>, as for readers of ARPA files."""

    def __init__(self) -> None:
        super().__init__({UNKNOWN: 0, "<UNK>": 0, START: _START_NUMBER, END: _END_NUMBER})

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self) - 1
        return number


def _number(
    sentences: Iterable[Sequence[str]], vocabulary: int | Iterable[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(N,) int32, the concatenated sentences as numbers, each from <s> to </s>; and the words."""
    numbers = _Numbers()
    buffer = array("i")
    num_sentences = 0
    for sentence in sentences:
        if isinstance(sentence, str):
            raise InputError(f"a sentence must be a list of words, not one str; got {sentence[:40]!r}; split it first")
        num_sentences += 1
        buffer.append(_START_NUMBER)
        buffer.extend(map(numbers.__getitem__, sentence))
        buffer.append(_END_NUMBER)
    if not num_sentences:
        raise InputError("a language model needs at least one sentence; got none")
    text = np.frombuffer(buffer, np.int32)
    counts = np.bincount(text, minlength=len(numbers) - 1)
    for number, word in ((_START_NUMBER, START), (_END_NUMBER, END)):
        if counts[number] != num_sentences:
            raise InputError(f"sentences must come without {START} and {END}; one has the word {word}")
    words = [word for word in numbers if word not in (*_SPECIAL, "<UNK>")]
    words = _limit(words, counts[len(_SPECIAL) :], vocabulary)
    for word in words:
        if _NO_WORD.fullmatch(word):
            raise InputError(f"a word must have a character and no white space, NUL or half a surrogate; got {word!r}")
    names = (*_SPECIAL, *sorted(words))
    new_numbers = {name: number for number, name in enumerate(names)}
    mapping = np.array([0, *(new_numbers.get(word, 0) for word in list(numbers)[2:])], np.int32)
    return mapping[text], names


def _limit(words: list[str], counts: np.ndarray, vocabulary: int | Iterable[str] | None) -> list[str]:
    """The words of the vocabulary."""
    if vocabulary is None:
        return words
    if isinstance(vocabulary, int):
        if vocabulary < 1:
            raise ConfigError(f"a vocabulary must have at least one word; got {vocabulary}")
        return [word for _, word in sorted(zip((-counts).tolist(), words, strict=True))[:vocabulary]]
    if isinstance(vocabulary, str):
        raise ConfigError(f"a vocabulary must be a list of words or their number; got the str {vocabulary[:40]!r}")
    return list(set(vocabulary) - {*_SPECIAL, "<UNK>"})
