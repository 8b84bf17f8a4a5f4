"""Error rates of transcripts: alignment, WER and CER with their counts, bootstrap intervals, a paired test.

Texts are not normalised here: case, punctuation and Unicode form count, so apply `asr.normalize` to both sides first.
Words are separated by white space, as in `str.split`.

    counts = [word_errors(reference, hypothesis) for reference, hypothesis in pairs]
    total = sum(counts, start=ErrorCounts())
    low, high = bootstrap_interval(counts, groups=speakers)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from asr.errors import InputError

Operation = Literal["match", "substitution", "insertion", "deletion"]


class AlignedPair(NamedTuple):
    """One step of an alignment; `reference` is None in an insertion, `hypothesis` in a deletion."""

    operation: Operation
    reference: Hashable
    hypothesis: Hashable


@dataclass(frozen=True, kw_only=True)
class ErrorCounts:
    """Errors of a hypothesis against a reference, in words or in characters; `+` adds utterances up.

    Args:
        substitutions, insertions, deletions: how many of each, >= 0.
        reference_length: words or characters of the reference, >= substitutions + deletions.
    Raises:
        InputError: a count is negative or not an integer, or substitutions + deletions exceed the reference_length.
    """

    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0
    reference_length: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int) or value < 0:
                raise InputError(f"{name} must be an integer >= 0; got {value!r}")
        if self.hits < 0:
            raise InputError(f"substitutions + deletions must not exceed the reference_length; got {self}")

    @property
    def hits(self) -> int:
        """Words or characters of the reference that are correct in the hypothesis."""
        return self.reference_length - self.substitutions - self.deletions

    @property
    def errors(self) -> int:
        """Substitutions, insertions and deletions together: the Levenshtein distance."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Errors / reference length, a fraction >= 0 that insertions can take above 1.

        Against an empty reference it is the number of insertions, as in jiwer: 0.0 if the hypothesis is empty too.
        """
        return self.errors / max(self.reference_length, 1)

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        if not isinstance(other, ErrorCounts):
            return NotImplemented
        return ErrorCounts(**{name: value + getattr(other, name) for name, value in vars(self).items()})


def align_tokens(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> list[AlignedPair]:
    """A shortest alignment of two token sequences, left to right, each error at cost 1.

    Ties: match the common prefix and suffix; then, walking back from the end, prefer a deletion to an insertion, and an
    insertion to a pair. jiwer and rapidfuzz split the errors of an utterance into substitutions, insertions and
    deletions in the same way; rapidfuzz is not used because it aligns long sequences in halves, so its ties differ
    where R H > 4 million. Takes O(R H / w) time on w-bit words and O(R √H) bits of memory.

    Args:
        reference: R tokens, compared by `==`; a str is a sequence of its characters, so split words first.
        hypothesis: H tokens.
    Returns:
        Between max(R, H) and R + H steps; the number of errors is the Levenshtein distance.
    Source: Myers 1999, "A fast bit-vector algorithm for approximate string matching based on dynamic programming", in
        the form of Hyyrö 2003, "A bit-vector algorithm for computing Levenshtein and Damerau edit distances".
    """
    shorter = min(len(reference), len(hypothesis))
    head = next((i for i in range(shorter) if reference[i] != hypothesis[i]), shorter)
    tail = next((i for i in range(shorter - head) if reference[-1 - i] != hypothesis[-1 - i]), shorter - head)
    row, column = len(reference) - tail, len(hypothesis) - tail

    steps = [_pair(reference[-1 - i], hypothesis[-1 - i]) for i in range(tail)]  # last first, until the return
    columns = _columns_backwards(reference[head:row], hypothesis[head:column])
    rises, falls = next(columns)
    while row > head or column > head:
        above = row - head - 1  # the bit of D[row] - D[row - 1]
        if row > head and rises >> above & 1:
            row -= 1
            steps.append(AlignedPair("deletion", reference[row], None))
            continue
        column -= 1
        rises, falls = next(columns)
        if row == head or falls >> above & 1:
            steps.append(AlignedPair("insertion", None, hypothesis[column]))
        else:
            row -= 1
            steps.append(_pair(reference[row], hypothesis[column]))
    steps += [_pair(reference[i], hypothesis[i]) for i in reversed(range(head))]
    return steps[::-1]


def _pair(reference: Hashable, hypothesis: Hashable) -> AlignedPair:
    return AlignedPair("match" if reference == hypothesis else "substitution", reference, hypothesis)


def _columns_backwards(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """The edit distances D[r, h] as differences down each column, from column H to column 0.

    A column is two integers of R bits: bit r of the first is set where D[r + 1, h] - D[r, h] is +1, of the second
    where it is -1. They can only be computed forwards, so every √H-th column is stored, and the columns between are
    computed again when the walk back reaches them.
    """
    positions: dict[Hashable, bytearray] = {}
    for position, token in enumerate(reference):
        bits = positions.setdefault(token, bytearray(len(reference) // 8 + 1))
        bits[position >> 3] |= 1 << (position & 7)
    equal = {token: int.from_bytes(bits, "little") for token, bits in positions.items()}
    ones = (1 << len(reference)) - 1

    def columns_after(column: tuple[int, int], tokens: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
        rises, falls = column
        for token in tokens:
            matches = equal.get(token, 0)
            diagonal = (((matches & rises) + rises) ^ rises) | matches | falls  # D[r + 1, h + 1] = D[r, h]
            across = ((falls | ~(diagonal | rises)) << 1 | 1) & ones  # D[r, h + 1] - D[r, h] is +1, and for r = 0 too
            back = (diagonal & rises) << 1
            rises, falls = (back | ~(diagonal | across)) & ones, across & diagonal
            yield rises, falls

    stride = math.isqrt(len(hypothesis)) + 1
    checkpoints = [(ones, 0)]
    for h, column in enumerate(columns_after(checkpoints[0], hypothesis), start=1):
        if h % stride == 0:
            checkpoints.append(column)
    for start in reversed(range(0, len(hypothesis) + 1, stride)):
        first = checkpoints.pop()
        yield from reversed([first, *columns_after(first, hypothesis[start : start + stride - 1])])


def word_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Errors in words, which are separated by white space; the text is not normalised."""
    return _errors(reference.split(), hypothesis.split())


def character_errors(reference: str, hypothesis: str, *, spaces: bool = True) -> ErrorCounts:
    """Errors in characters (code points); the text is not normalised.

    Args:
        reference, hypothesis: texts; may be empty.
        spaces: count the space between two words as a character, as jiwer does; False ignores white space, as is usual
            for Chinese.
    """
    between = " " if spaces else ""
    return _errors(between.join(reference.split()), between.join(hypothesis.split()))


def wer(references: str | Sequence[str], hypotheses: str | Sequence[str]) -> float:
    """Word error rate of a corpus: all errors / all reference words, a fraction that may exceed 1.

    Args:
        references: one text, or one for each utterance. Empty ones add no words, but insertions against them count; if
            all are empty, the result is the number of insertions, as in jiwer.
        hypotheses: as many texts, in the same order.
    Raises:
        InputError: only one of the two is a str, their numbers differ, or there is none.
    """
    return _corpus_rate(word_errors, references, hypotheses)


def cer(references: str | Sequence[str], hypotheses: str | Sequence[str], *, spaces: bool = True) -> float:
    """Character error rate of a corpus: as `wer`, in the characters of `character_errors`."""
    return _corpus_rate(partial(character_errors, spaces=spaces), references, hypotheses)


def bootstrap_interval(
    counts: Sequence[ErrorCounts],
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Confidence interval of the corpus error rate, by the percentile bootstrap over utterances or speakers.

    Each resample draws as many utterances as there are, with replacement, and its rate is Σ errors / Σ length. The
    errors of one speaker are correlated, so if speakers are known, speakers are drawn, each with all their utterances;
    the interval is then usually wider, and more accurate. With few utterances or speakers (under twenty) it is too
    narrow, and a system without errors gets (0, 0).

    Args:
        counts: one for each utterance.
        groups: the speaker of each utterance; None draws utterances.
        level: the probability that the interval should cover, in (0, 1).
        resamples: their number, >= 1.
        seed: of the random generator; the same seed gives the same interval.
    Returns:
        Low and high end, as fractions like `ErrorCounts.rate`.
    Raises:
        InputError: fewer than two utterances or speakers, no reference words at all, groups not as many as counts, or
            level or resamples out of range.
    Source: Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation"; over
        speakers, Liu and Peng 2020, "Statistical testing on ASR performance via blockwise bootstrap".
    """
    errors, lengths = _units(counts, groups)
    return _percentile_bootstrap(errors, lengths, level=level, resamples=resamples, seed=seed)


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """The result of `paired_test` for systems a and b. Rates are fractions; a negative difference favours a."""

    difference: float
    """Rate of a - rate of b."""
    low: float
    """Low end of the bootstrap interval of the difference."""
    high: float
    """High end of it."""
    p_value: float
    """Probability of a difference at least this large, in either direction, between equally good systems."""


def paired_test(
    counts_a: Sequence[ErrorCounts],
    counts_b: Sequence[ErrorCounts],
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedTest:
    """Whether two systems differ in error rate on the same utterances: difference, interval, two-sided p-value.

    The interval draws utterances (or speakers) with replacement, each with its errors under both systems. The p-value
    is for matched pairs: if the systems are equally good, swapping their outputs on an utterance (or on all utterances
    of a speaker) changes nothing, so all choices of signs of the differences d_i are equally likely, and

        p = P(|Σ ±d_i| >= |Σ d_i|),

    computed exactly, by dynamic programming over the sums. Interval and p-value use different arguments, so near the
    threshold they may disagree on the significance of a difference.

    Args:
        counts_a, counts_b: the errors of both systems, for each utterance, against the same references.
        groups, level, resamples, seed: as in `bootstrap_interval`; the p-value needs only groups.
    Raises:
        InputError: the numbers of utterances or the reference lengths differ; or as in `bootstrap_interval`.
    Source: the pairs: Gillick and Cox 1989, "Some statistical issues in the comparison of speech recognition
        algorithms", with the exact randomisation test of Fisher 1935, "The design of experiments", section 21, instead
        of its normal approximation; the interval: Bisani and Ney 2004.
    """
    if len(counts_a) != len(counts_b):
        raise InputError(f"both systems must have the same utterances; got {len(counts_a)} and {len(counts_b)} counts")
    for i, (a, b) in enumerate(zip(counts_a, counts_b, strict=True)):
        if a.reference_length != b.reference_length:
            raise InputError(
                "both systems must be scored on the same references, but utterance "
                f"{i} has reference_length {a.reference_length} for a and {b.reference_length} for b"
            )
    errors_a, lengths = _units(counts_a, groups)
    errors_b, _ = _units(counts_b, groups)
    differences = errors_a - errors_b
    low, high = _percentile_bootstrap(differences, lengths, level=level, resamples=resamples, seed=seed)
    return PairedTest(
        difference=float(differences.sum() / lengths.sum()),
        low=low,
        high=high,
        p_value=_sign_flip_p_value(differences),
    )


def right_words(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> list[bool]:
    """For each word of the hypothesis, whether `align_tokens` matches it with a word of the reference."""
    steps = align_tokens(reference, hypothesis)
    return [step.operation == "match" for step in steps if step.operation != "deletion"]


def calibration_error(confidences: Sequence[float], correct: Sequence[bool], *, num_bins: int = 10) -> float:
    """Expected calibration error: the distance of the confidences of words from the share of correct words.

    Confidences are put into bins of equal width. The error is the mean distance of a bin's mean confidence from its
    share of correct words, weighted by the number of words.

    Args:
        confidences: in 0 .. 1, at least one.
        correct: for each, whether the word is correct.
        num_bins: their number, >= 1.
    Returns:
        A fraction in 0 .. 1; 0 is perfect.
    Raises:
        InputError: there are none, their numbers differ, or one lies outside of 0 .. 1.
    Source: Guo et al. 2017, "On calibration of modern neural networks", equation 5.
    """
    values, is_right = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if not values.size or values.shape != is_right.shape or not ((values >= 0) & (values <= 1)).all():
        raise InputError(
            "confidences must lie in 0 .. 1, at least one, with as many judgements; "
            f"got {values.size} and {is_right.size}"
        )
    bins = np.minimum((values * num_bins).astype(int), num_bins - 1)
    surplus = np.bincount(bins, weights=values - is_right, minlength=num_bins)  # of each bin, times its words
    return float(np.abs(surplus).sum() / values.size)


def _errors(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> ErrorCounts:
    operations = Counter(step.operation for step in align_tokens(reference, hypothesis))
    return ErrorCounts(
        substitutions=operations["substitution"],
        insertions=operations["insertion"],
        deletions=operations["deletion"],
        reference_length=len(reference),
    )


def _corpus_rate(
    count: Callable[[str, str], ErrorCounts], references: str | Sequence[str], hypotheses: str | Sequence[str]
) -> float:
    if isinstance(references, str) != isinstance(hypotheses, str):
        raise InputError(
            "references and hypotheses must both be one str, or both a list of them; got "
            f"{type(references).__name__} and {type(hypotheses).__name__}"
        )
    if isinstance(references, str):
        references, hypotheses = [references], [str(hypotheses)]
    if len(references) != len(hypotheses):
        raise InputError(f"each reference must have a hypothesis; got {len(references)} and {len(hypotheses)}")
    if not references:
        raise InputError("there must be at least one reference; got none")
    return sum(map(count, references, hypotheses), start=ErrorCounts()).rate


def _units(counts: Sequence[ErrorCounts], groups: Sequence[Hashable] | None) -> tuple[np.ndarray, np.ndarray]:
    """Errors and reference length of each utterance, or of each group in the order of first appearance: int64."""
    if groups is None:
        units = list(counts)
    else:
        if len(groups) != len(counts):
            raise InputError(f"each utterance must have its group; got {len(groups)} groups for {len(counts)} counts")
        totals: dict[Hashable, ErrorCounts] = {}
        for group, errors in zip(groups, counts, strict=True):
            totals[group] = totals.get(group, ErrorCounts()) + errors
        units = list(totals.values())
    if len(units) < 2:
        raise InputError(
            f"there must be at least two {'utterances' if groups is None else 'groups'} to estimate a variation; "
            f"got {len(units)}"
        )
    if not any(unit.reference_length for unit in units):
        raise InputError(f"at least one reference must have a word or character; all {len(units)} are empty")
    return np.array([unit.errors for unit in units]), np.array([unit.reference_length for unit in units])


def _percentile_bootstrap(
    errors: np.ndarray, lengths: np.ndarray, *, level: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Interval of Σ errors / Σ lengths over units (G,) drawn with replacement."""
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1; got {level!r}")
    if not isinstance(resamples, int) or resamples < 1:
        raise InputError(f"resamples must be an integer >= 1; got {resamples!r}")
    generator = np.random.default_rng(seed)
    rates = np.empty(resamples)
    block = max(1, 1_000_000 // len(errors))  # bounds the memory of the draws
    for start in range(0, resamples, block):
        draws = generator.integers(len(errors), size=(min(block, resamples - start), len(errors)))  # (block, G)
        lengths_of_draws = np.maximum(lengths[draws].sum(axis=1), 1)  # all-empty references: as in ErrorCounts.rate
        rates[start : start + len(draws)] = errors[draws].sum(axis=1) / lengths_of_draws
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _sign_flip_p_value(differences: np.ndarray) -> float:
    """P(|Σ ±d_i| >= |Σ d_i|) over all choices of signs, for integers d (G,)."""
    sizes = np.abs(differences)
    total = int(sizes.sum())
    # With P the sum of the d_i that got a plus, Σ ±d_i = 2 P - total; probability[s] = P(P = s).
    probability = np.zeros(total + 1)
    probability[0] = 1.0
    reach = 0
    for size in sizes[sizes > 0].tolist():
        reach += size
        shifted = probability[: reach - size + 1].copy()
        probability[: reach + 1] *= 0.5
        probability[size : reach + 1] += 0.5 * shifted
    as_large = np.abs(2 * np.arange(total + 1) - total) >= abs(int(differences.sum()))
    return min(float(probability[as_large].sum()), 1.0)
