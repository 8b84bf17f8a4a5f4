from __future__ import annotations

import copy
import itertools
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.ctc.beam import BeamHypothesis, BeamOptions, BeamSearch, warm_up
from asr.ctc.greedy import best_path
from asr.ctc.hotwords import Hotwords
from asr.ctc.trie import WordTrie
from asr.errors import ConfigError, InputError
from tests.ctc.enumeration import labelling_probabilities

WIDE = 1000  # more prefixes than the tiny cases have


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    warm_up()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20061)


def random_emission(rng: np.random.Generator, num_frames: int, num_labels: int, *, peaked: float = 1.0) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(rng.dirichlet(np.full(num_labels, 1 / peaked), size=num_frames))


@st.composite
def emissions(draw, *, max_frames: int = 5, max_labels: int = 4) -> np.ndarray:
    """Tiny emissions with ties and impossible labels; rows need not sum to 1."""
    num_labels = draw(st.integers(1, max_labels))
    values = st.one_of(st.sampled_from([-math.inf, 0.0, math.log(0.5)]), st.floats(-30, 0))
    row = st.lists(values, min_size=num_labels, max_size=num_labels)
    rows = draw(st.lists(row, max_size=max_frames))
    return np.array(rows, dtype=np.float64).reshape(len(rows), num_labels)


def as_table(hypotheses: list[BeamHypothesis]) -> dict[tuple[int, ...], float]:
    table = {tuple(h.tokens.tolist()): h.score for h in hypotheses}
    assert len(table) == len(hypotheses)
    return table


def summary(hypothesis: BeamHypothesis) -> tuple:
    return (
        hypothesis.tokens.tolist(),
        hypothesis.score,
        hypothesis.acoustic_score,
        hypothesis.lm_score,
        hypothesis.num_words,
        hypothesis.num_unknown,
        hypothesis.unknown_letters,
        hypothesis.hotwords,
    )


# --- exact ---------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(data=st.data(), emission=emissions())
def test_without_pruning_every_labelling_has_the_sum_over_its_alignments(data, emission):
    blank = data.draw(st.integers(0, emission.shape[1] - 1))
    search = BeamSearch(num_labels=emission.shape[1], blank=blank, options=BeamOptions(beam_width=WIDE))
    found = as_table(search.decode(emission, num_best=WIDE))
    table = labelling_probabilities(emission.tolist(), blank=blank)
    assert set(found) == {tokens for tokens, probability in table.items() if probability > 0}
    for tokens, score in found.items():
        assert score == pytest.approx(math.log(table[tokens]), abs=1e-9)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_the_most_probable_labelling_may_not_be_that_of_the_best_path():
    emission = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert best_path(emission, blank=0).tokens.tolist() == []
    assert BeamSearch(num_labels=2, blank=0).decode(emission)[0].tokens.tolist() == [1]


def test_a_repeat_begins_a_new_token_only_after_a_blank():
    with np.errstate(divide="ignore"):
        emission = np.log([[0.0, 1.0], [0.5, 0.5], [0.0, 1.0]])
    found = as_table(BeamSearch(num_labels=2, blank=0).decode(emission, num_best=9))
    assert found == {(1,): pytest.approx(math.log(0.5)), (1, 1): pytest.approx(math.log(0.5))}


def test_a_prefix_that_comes_back_meets_its_descendants_again():
    # With a beam of 2, 1 is pushed out by Φ and 1 2, and comes back while 1 2 is still there.
    rng = np.random.default_rng(5)
    search = BeamSearch(num_labels=3, blank=0, options=BeamOptions(beam_width=3))
    for _ in range(300):
        hypotheses = search.decode(random_emission(rng, 12, 3), num_best=3)
        as_table(hypotheses)  # no text twice


def test_no_frames_and_one_label():
    for num_labels, blank in [(1, 0), (3, 2)]:
        (hypothesis,) = BeamSearch(num_labels=num_labels, blank=blank).decode(np.zeros((0, num_labels)), num_best=5)
        assert (hypothesis.tokens.tolist(), hypothesis.score) == ([], 0.0)
        assert hypothesis.tokens.dtype == np.int64
    (hypothesis,) = BeamSearch(num_labels=1, blank=0).decode(np.full((7, 1), -0.5), num_best=5)
    assert (hypothesis.tokens.tolist(), hypothesis.score) == ([], -3.5)


def test_what_has_no_probability_is_not_among_the_best():
    emission = np.full((3, 2), -np.inf)
    assert BeamSearch(num_labels=2, blank=0).decode(emission, num_best=5) == []


@settings(max_examples=50, deadline=None)
@given(emission=emissions(max_frames=8, max_labels=4), shift=st.integers(0, 3), width=st.integers(1, 5))
def test_moving_the_blank_with_its_column_changes_nothing(emission, shift, width):
    num_labels = emission.shape[1]
    shift %= num_labels
    options = BeamOptions(beam_width=width)
    here = BeamSearch(num_labels=num_labels, blank=0, options=options).decode(emission, num_best=5)
    order = [*range(1, shift + 1), 0, *range(shift + 1, num_labels)]  # Φ stands at `shift`, the others keep their order
    there = BeamSearch(num_labels=num_labels, blank=shift, options=options).decode(emission[:, order], num_best=5)
    named = [[order[token] for token in h.tokens] for h in there]
    assert named == [h.tokens.tolist() for h in here]
    assert [h.score for h in there] == [h.score for h in here]


def test_ties_go_to_the_older_prefix_then_by_parent_and_label():
    emission = np.log(np.full((1, 4), 0.25))
    best = BeamSearch(num_labels=4, blank=1, options=BeamOptions(beam_width=3)).decode(emission, num_best=4)
    assert [h.tokens.tolist() for h in best] == [[], [0], [2]]


def test_float32_and_other_layouts_are_alike(rng):
    emission = random_emission(rng, 40, 5, peaked=4).astype(np.float32)
    search = BeamSearch(num_labels=5, blank=0)
    expected = [summary(h) for h in search.decode(emission.astype(np.float64), num_best=5)]
    padded = np.full((40, 9), np.nan, dtype=np.float32)
    padded[:, 2:7] = emission
    frozen = emission.copy()
    frozen.flags.writeable = False
    for same in (emission, np.asfortranarray(emission), padded[:, 2:7], frozen, emission.astype(">f4")):
        before = same.copy()
        assert [summary(h) for h in search.decode(same, num_best=5)] == expected
        assert (same == before).all()


# --- pruning -------------------------------------------------------------------------------------------------------


class ReferenceBeam(NamedTuple):
    """The search as dictionaries of prefixes, in the order of the beam: the oracle where something is pruned."""

    blank: int
    options: BeamOptions

    def decode(self, emission: np.ndarray) -> list[tuple[tuple[int, ...], float]]:
        options = self.options
        beam: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -math.inf)}
        for frame in emission.tolist():
            if options.blank_threshold is not None and frame[self.blank] > math.log(options.blank_threshold):
                beam = {y: (np.logaddexp(b, n) + frame[self.blank], -math.inf) for y, (b, n) in beam.items()}
                continue
            stay, new = {}, {}
            for y, (ends_blank, ends_label) in beam.items():
                nonblank = -math.inf
                if y:
                    nonblank = ends_label + frame[y[-1]]
                    if y[:-1] in beam:
                        b, n = beam[y[:-1]]
                        before = b if y[-2:-1] == y[-1:] else np.logaddexp(b, n)
                        nonblank = np.logaddexp(nonblank, before + frame[y[-1]])
                stay[y] = (np.logaddexp(ends_blank, ends_label) + frame[self.blank], nonblank)
                for label, log_prob in enumerate(frame):
                    if label == self.blank or (*y, label) in beam:
                        continue
                    if options.token_threshold is None or log_prob >= min(options.token_threshold, max(frame)):
                        before = ends_blank if y[-1:] == (label,) else np.logaddexp(ends_blank, ends_label)
                        new[(*y, label)] = (-math.inf, before + log_prob)
            pool = [(y, p) for y, p in {**stay, **new}.items() if np.logaddexp(*p) > -math.inf]
            best = sorted(range(len(pool)), key=lambda i: -np.logaddexp(*pool[i][1]))[: options.beam_width]
            if options.score_threshold is not None and best:
                highest = np.logaddexp(*pool[best[0]][1])
                best = [i for i in best if np.logaddexp(*pool[i][1]) > highest - options.score_threshold]
            beam = dict(pool[i] for i in sorted(best))
        table = [(y, float(np.logaddexp(*p))) for y, p in beam.items()]
        return sorted(table, key=lambda entry: -entry[1])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_pruning_drops_what_it_says(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    num_labels = data.draw(st.integers(2, 6))
    emission = random_emission(rng, data.draw(st.integers(0, 20)), num_labels, peaked=data.draw(st.floats(0.5, 20)))
    emission = np.maximum(emission, -200)  # nothing underflows in the reference
    options = BeamOptions(
        beam_width=data.draw(st.integers(1, 12)),
        token_threshold=data.draw(st.none() | st.floats(-6, -0.5)),
        score_threshold=data.draw(st.none() | st.floats(0.5, 8)),
        blank_threshold=data.draw(st.none() | st.floats(0.3, 0.95)),
    )
    blank = data.draw(st.integers(0, num_labels - 1))
    found = BeamSearch(num_labels=num_labels, blank=blank, options=options).decode(emission, num_best=12)
    expected = ReferenceBeam(blank, options).decode(emission)
    assert [h.tokens.tolist() for h in found] == [list(y) for y, _ in expected]
    assert [h.score for h in found] == pytest.approx([score for _, score in expected], abs=1e-9)


def test_the_reference_is_exact_when_nothing_is_pruned(rng):
    emission = random_emission(rng, 5, 3)
    found = dict(ReferenceBeam(1, BeamOptions(beam_width=WIDE)).decode(emission))
    table = labelling_probabilities(emission.tolist(), blank=1)
    assert {y: math.exp(score) for y, score in found.items()} == pytest.approx(table)


def test_skipped_frames_still_part_equal_labels():
    with np.errstate(divide="ignore"):
        emission = np.log([[0.05, 0.95], [0.99, 0.01], [0.98, 0.02], [0.05, 0.95]])
    plain = BeamSearch(num_labels=2, blank=0).decode(emission)[0]
    skipping = BeamSearch(num_labels=2, blank=0, options=BeamOptions(blank_threshold=0.9)).decode(emission)[0]
    assert plain.tokens.tolist() == skipping.tokens.tolist() == [1, 1]
    assert skipping.score <= plain.score
    assert skipping.score == pytest.approx(plain.score, abs=0.1)


def test_a_wider_beam_is_no_worse_and_one_prefix_is_enough_for_a_sure_model(rng):
    emission = random_emission(rng, 60, 6, peaked=30)
    scores = [
        BeamSearch(num_labels=6, blank=0, options=BeamOptions(beam_width=width)).decode(emission)[0].score
        for width in (1, 4, 16, 64)
    ]
    assert scores == sorted(scores)


def test_memory_is_found_for_a_beam_that_never_agrees():
    rng = np.random.default_rng(3)
    emission = random_emission(rng, 700, 3)
    state = BeamSearch(num_labels=3, blank=0, options=BeamOptions(beam_width=2)).start()
    num_nodes = len(state._arrays["NODES"])
    state.advance(np.log(np.full((1, 3), 1 / 3)))
    state.advance(np.log(np.tile([[0.0001, 0.9998, 0.0001], [0.9998, 0.0001, 0.0001]], (200, 1))))
    state.advance(emission)
    assert len(state._arrays["NODES"]) > num_nodes
    assert len(state.finish(num_best=2)) == 2


# --- language model, lexicon, words ----------------------------------------------------------------------------------


class Bigrams(NamedTuple):
    """An n-gram model in the form that the search asks of `lm`, and the same in a dictionary."""

    words: np.ndarray
    log_probs: np.ndarray
    next_states: np.ndarray
    back_offs: np.ndarray
    back_off_states: np.ndarray
    first_children: np.ndarray
    num_words: int
    start_state: int
    empty_state: int
    end_word: int

    def log_prob(self, history: int, word: int) -> float:
        """By a walk over the arrays; `history` is a word."""
        word = word if 0 <= word < self.num_words else 0
        context = 1 + history
        for child in range(self.first_children[context], self.first_children[context + 1]):
            if self.words[child] == word:
                return float(self.log_probs[child])
        return float(self.back_offs[context]) + float(self.log_probs[1 + word])

    def text_log_prob(self, words: list[int]) -> float:
        """With the end of the text."""
        return sum(self.log_prob(history, word) for history, word in itertools.pairwise([1, *words, 2]))


def random_bigrams(rng: np.random.Generator, num_words: int) -> Bigrams:
    """Words 0 <unk>, 1 <s>, 2 </s>, 3 ...; half of the bigrams are listed."""
    words, log_probs, next_states = [-1, *range(num_words)], [0.0], [0, *range(1, num_words + 1)]
    log_probs += np.log(rng.dirichlet(np.ones(num_words))).tolist()
    first_children = [1]
    for _ in range(num_words):
        first_children.append(len(words))
        for word in range(num_words):
            if rng.random() < 0.5:
                words.append(word)
                log_probs.append(float(np.log(rng.uniform(0.01, 1))))
                next_states.append(1 + word)
    first_children.append(len(words))
    return Bigrams(
        words=np.array(words, dtype=np.int32),
        log_probs=np.array(log_probs, dtype=np.float32),
        next_states=np.array(next_states, dtype=np.int32),
        back_offs=np.array([0.0, *np.log(rng.uniform(0.1, 1, num_words))], dtype=np.float32),
        back_off_states=np.zeros(num_words + 1, dtype=np.int32),
        first_children=np.array(first_children, dtype=np.int32),
        num_words=num_words,
        start_state=2,
        empty_state=0,
        end_word=2,
    )


A, B, SPACE, HAN = 1, 2, 3, 4  # labels of the cases below, with 0 the blank; HAN stands alone
SPELLINGS = [[A], [A, B], [B, B], [HAN], [B, A, A]]
WORDS = [3, 4, 5, 6, 7]


def split_words(tokens: tuple[int, ...]) -> list[tuple[int, ...]]:
    words: list[tuple[int, ...]] = []
    open_word: tuple[int, ...] = ()
    for token in tokens:
        if token in (SPACE, HAN):
            words += [open_word] if open_word else []
            words += [(HAN,)] if token == HAN else []
            open_word = ()
        else:
            open_word = (*open_word, token)
    return words + ([open_word] if open_word else [])


def unknown_letters(tokens: tuple[int, ...]) -> int:
    return sum(len(word) for word in split_words(tokens) if list(word) not in SPELLINGS)


def test_the_letters_of_unknown_words_are_counted():
    assert unknown_letters((A, SPACE, B, HAN, A, B, B, B, HAN, SPACE, A, B)) == len("B") + len("ABBB")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    weight=st.sampled_from([0.0, 0.7, 2.0]),
    bonus=st.sampled_from([0.0, -1.5, 2.5]),
    unknown=st.sampled_from([-3.0, 0.0, 1.5]),
    letter=st.sampled_from([0.0, -0.7, -2.0]),
    only=st.booleans(),
    with_lm=st.booleans(),
)
def test_word_model_and_lexicon_equal_a_sum_over_all_texts(seed, weight, bonus, unknown, letter, only, with_lm):
    rng = np.random.default_rng(seed)
    emission = random_emission(rng, 5, 5)
    lm = random_bigrams(rng, 8)
    search = BeamSearch(
        num_labels=5,
        blank=0,
        options=BeamOptions(
            beam_width=3000,
            lm_weight=weight,
            word_bonus=bonus,
            unknown_word_score=unknown,
            unknown_letter_score=letter,
            only_lexicon=only,
        ),
        delimiters=[SPACE],
        standalone=[HAN],
        lexicon=WordTrie(SPELLINGS, WORDS),
        lm=lm if with_lm else None,
    )
    found = search.decode(emission, num_best=3000)
    numbers = dict(zip(map(tuple, SPELLINGS), WORDS, strict=True))
    expected = {}
    for tokens, probability in labelling_probabilities(emission.tolist(), blank=0).items():
        words = [numbers.get(word, 0) for word in split_words(tokens)]
        if only and 0 in words:
            continue
        letters = unknown_letters(tokens)
        lm_score = lm.text_log_prob(words) if with_lm else 0.0
        score = math.log(probability) + weight * lm_score + bonus * len(words)
        score += unknown * words.count(0) + letter * letters
        expected[tokens] = (score, math.log(probability), lm_score, len(words), words.count(0), letters)
    assert {tuple(h.tokens) for h in found} == set(expected)
    for h in found:
        parts = (h.score, h.acoustic_score, h.lm_score, h.num_words, h.num_unknown, h.unknown_letters)
        assert parts == pytest.approx(expected[tuple(h.tokens)], abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), weight=st.sampled_from([0.0, 0.7, 2.0]))
def test_label_model_equals_a_sum_over_all_texts(seed, weight):
    rng = np.random.default_rng(seed)
    emission = random_emission(rng, 5, 4)
    lm = random_bigrams(rng, 6)
    label_words = [-1, 3, 5, 4]
    options = BeamOptions(beam_width=WIDE, lm_weight=weight, word_bonus=0.3)
    search = BeamSearch(num_labels=4, blank=0, options=options, delimiters=[SPACE], lm=lm, label_words=label_words)
    found = as_table(search.decode(emission, num_best=WIDE))
    for tokens, probability in labelling_probabilities(emission.tolist(), blank=0).items():
        lm_score = lm.text_log_prob([label_words[token] for token in tokens])
        score = math.log(probability) + weight * lm_score + 0.3 * len(split_words(tokens))
        assert found.pop(tokens) == pytest.approx(score, abs=1e-6)
    assert not found


def test_an_impossible_word_is_dropped_unless_the_model_has_no_weight(rng):
    lm = random_bigrams(rng, 6)
    lm.log_probs[1 + 3] = -np.inf
    lm.log_probs[len(lm.back_offs) :][lm.words[len(lm.back_offs) :] == 3] = -np.inf
    emission = np.log([[0.2, 0.8]])
    parts = {"num_labels": 2, "blank": 0, "lm": lm, "label_words": [-1, 3]}
    assert [len(h.tokens) for h in BeamSearch(**parts).decode(emission, num_best=3)] == [0]
    unweighted = BeamSearch(**parts, options=BeamOptions(lm_weight=0.0)).decode(emission, num_best=3)
    assert [len(h.tokens) for h in unweighted] == [1, 0]


def test_a_lexicon_alone_recognises_commands(rng):
    # up = 1 2, stop = 3 1; the emission would rather say 1 1
    search = BeamSearch(
        num_labels=4, blank=0, options=BeamOptions(only_lexicon=True), lexicon=WordTrie([[1, 2], [3, 1]])
    )
    emission = np.log([[0.1, 0.7, 0.1, 0.1], [0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.15, 0.05]])
    assert [h.tokens.tolist() for h in search.decode(emission, num_best=9)] == [[1, 2], [3, 1], []]
    nothing = np.log([[1e-300, 1.0, 1e-300, 1e-300]])
    assert [h.tokens.tolist() for h in search.decode(nothing, num_best=9)] == [[]]


def test_the_language_model_sees_what_was_said_through_pruning(rng):
    """Scores of what a narrow beam finds are those of the text, whatever way the search took."""
    lm = random_bigrams(rng, 8)
    search = BeamSearch(
        num_labels=5,
        blank=0,
        options=BeamOptions(beam_width=8, lm_weight=0.8, word_bonus=0.5, unknown_letter_score=-0.3),
        delimiters=[SPACE],
        standalone=[HAN],
        lexicon=WordTrie(SPELLINGS, WORDS),
        lm=lm,
    )
    numbers = dict(zip(map(tuple, SPELLINGS), WORDS, strict=True))
    for _ in range(20):
        for h in search.decode(random_emission(rng, 80, 5, peaked=3), num_best=8):
            words = [numbers.get(word, 0) for word in split_words(tuple(h.tokens.tolist()))]
            assert h.lm_score == pytest.approx(lm.text_log_prob(words), abs=1e-4)
            assert (h.num_words, h.num_unknown) == (len(words), words.count(0))
            assert h.unknown_letters == unknown_letters(tuple(h.tokens.tolist()))
            total = h.acoustic_score + 0.8 * h.lm_score + 0.5 * h.num_words - 5.0 * h.num_unknown
            assert h.score == pytest.approx(total - 0.3 * h.unknown_letters)


def test_an_open_word_is_ranked_by_the_likeliest_that_begins_so(rng):
    """B is heard better, but begins nothing that anyone says; one prefix is all that the search may keep."""
    lm = random_bigrams(rng, 6)
    lm.log_probs[1:7] = np.log([1e-3, 1e-9, 0.1, 0.2, 0.6, 1e-4])  # <unk> <s> </s> and words 3, 4, 5
    emission = np.log([[0.1, 0.4, 0.5, 1e-9]])
    lexicon = WordTrie([[A, A], [A], [B]], [3, 4, 5])

    def search(weight: float, **options) -> list[int]:
        given = BeamOptions(beam_width=1, lm_weight=weight, **options)
        found = BeamSearch(num_labels=4, blank=0, options=given, delimiters=[SPACE], lexicon=lexicon, lm=lm)
        return found.decode(emission)[0].tokens.tolist()

    assert search(0.0) == [B]
    assert search(0.5) == search(0.5, only_lexicon=True) == [A]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    unknown=st.sampled_from([-20.0, -3.0, 0.0, 1.5]),
    letter=st.sampled_from([0.0, -1.0]),
    only=st.booleans(),
)
def test_what_a_frame_leaves_out_could_not_have_been_among_the_best(seed, unknown, letter, only):
    """The bounds that spare work are bounds: without them all comes out the same."""
    rng = np.random.default_rng(seed)
    options = {"lm_weight": 1.5, "word_bonus": 0.5, "unknown_word_score": unknown, "only_lexicon": only}
    search = full_search(rng, score_threshold=30.0, unknown_letter_score=letter, **options)
    unbound = pickle.loads(pickle.dumps(search))
    unbound._arrays["LABELS"]["gain_inside"] = unbound._arrays["LABELS"]["gain_outside"] = 1e9
    unbound._rules["words_gain"] = unbound._rules["largest_gain"] = 1e9
    for _ in range(3):
        emission = random_emission(rng, 40, 5, peaked=3)
        one, other = (each.decode(emission, num_best=8) for each in (search, unbound))
        assert [summary(hypothesis) for hypothesis in one] == [summary(hypothesis) for hypothesis in other]


NEVER = 5  # a label that no frame allows, beside those of `full_search`


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    words=st.lists(st.lists(st.sampled_from([A, B, HAN, SPACE]), max_size=5), min_size=1, max_size=5, unique_by=tuple),
    width=st.integers(1, 12),
    weight=st.floats(0.5, 40),
    parts=st.sampled_from(["acoustic", "words", "labels"]),
    options=st.sampled_from(
        [{}, {"score_threshold": 6.0}, {"open_tokens": 3}, {"blank_threshold": 0.6}, {"token_threshold": -2.0}]
    ),
)
def test_a_hotword_that_is_nowhere_changes_nothing(seed, words, width, weight, parts, options):
    """It is in no text, so whatever it gets while it is open must not push out what would have won."""
    words = list(dict.fromkeys((A, *word, NEVER) for word in words))
    rng = np.random.default_rng(seed)
    given: dict = {"num_labels": 6, "blank": 0, "delimiters": [SPACE], "standalone": [HAN]}
    given["options"] = BeamOptions(beam_width=width, word_bonus=0.7 * (parts == "words"), **options)
    if parts == "words":
        given |= {"lexicon": WordTrie(SPELLINGS, WORDS), "lm": random_bigrams(rng, 8)}
    if parts == "labels":
        given |= {"lm": random_bigrams(rng, 9), "label_words": [0, 3, 4, 5, 6, 7]}
    plain = BeamSearch(**given)
    hopeful = BeamSearch(**given, hotwords=Hotwords(words, [weight] * len(words)))
    for peaked in (1, 4):
        emission = np.full((40, 6), -np.inf)
        emission[:, :5] = random_emission(rng, 40, 5, peaked=peaked)
        expected = [summary(hypothesis) for hypothesis in plain.decode(emission, num_best=width)]
        assert [summary(hypothesis) for hypothesis in hopeful.decode(emission, num_best=width)] == expected


# --- in pieces, in batches -----------------------------------------------------------------------------------------


def full_search(rng: np.random.Generator, **options) -> BeamSearch:
    return BeamSearch(
        num_labels=5,
        blank=0,
        options=BeamOptions(**{"beam_width": 8, **options}),
        delimiters=[SPACE],
        standalone=[HAN],
        lexicon=WordTrie(SPELLINGS, WORDS),
        lm=random_bigrams(rng, 8),
        hotwords=Hotwords([[A, B], [A, SPACE, B], [HAN, HAN]], [2.0, 3.0, 1.0]),
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 120), max_size=8), peaked=st.sampled_from([1, 5, 30]))
def test_pieces_give_what_the_whole_gives(seed, cuts, peaked):
    rng = np.random.default_rng(seed)
    emission = random_emission(rng, 120, 5, peaked=peaked)
    search = full_search(rng, token_threshold=-7.0, score_threshold=12.0, blank_threshold=0.97)
    whole = search.decode(emission, num_best=8)
    state = search.start()
    prefixes = []
    for start, end in itertools.pairwise([0, *sorted(cuts), 120]):
        state.advance(emission[start:end])
        prefixes.append(state.stable_prefix().tolist())
    pieces = state.finish(num_best=8)
    assert [summary(h) for h in pieces] == [summary(h) for h in whole]
    assert [summary(h) for h in state.finish(num_best=8)] == [summary(h) for h in whole]  # asked twice
    for prefix in prefixes:
        for h in whole:
            assert h.tokens[: len(prefix)].tolist() == prefix


def test_the_stable_prefix_is_all_that_the_beam_agrees_on(rng):
    search = BeamSearch(num_labels=4, blank=0, options=BeamOptions(beam_width=6))
    state = search.start()
    longest = 0
    for frame in random_emission(rng, 200, 4, peaked=20):
        state.advance(frame[None])
        texts = [h.tokens.tolist() for h in state.finish(num_best=6)]
        agreed = [column[0] for column in itertools.takewhile(lambda c: len(set(c)) == 1, zip(*texts, strict=False))]
        assert state.stable_prefix().tolist() == agreed
        longest = max(longest, len(agreed))
    assert longest > 50


def test_hours_take_no_more_memory_than_minutes(rng):
    search = full_search(rng, open_tokens=200)
    state = search.start()
    sizes = []
    for _ in range(40):
        state.advance(random_emission(rng, 2000, 5, peaked=20))
        sizes.append(len(state._arrays["NODES"]))
    assert sizes[-1] == sizes[2]
    assert len(state.stable_prefix()) > 20000
    nodes = state._arrays["NODES"]
    num_used = len(nodes) - 2 - state._state[0]["num_free"] + 1  # less the scratch row; the first root is used or free
    assert num_used < 8 * 200
    num_made = state._state[0]["num_made"]
    assert (nodes["slot"][:num_made] == -2).sum() + len(nodes) - num_made == state._state[0]["num_free"]


def test_old_disputes_are_settled_for_the_best(rng):
    # The first token is 1 or 2, as probable; then 3 again and again without doubt.
    with np.errstate(divide="ignore"):
        emission = np.log([[0.0, 0.5, 0.5, 0.0], *[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]] * 50])
    for open_tokens, texts in [(None, 2), (51, 2), (50, 1), (10, 1), (1, 1)]:
        options = BeamOptions(beam_width=2, open_tokens=open_tokens)
        state = BeamSearch(num_labels=4, blank=0, options=options).start()
        state.advance(emission)
        assert [len(h.tokens) for h in state.finish(num_best=2)] == [51] * texts
        assert len(state.stable_prefix()) == (0 if texts == 2 else 51)


def test_the_best_prefix_is_never_longer_open_than_asked(rng):
    state = BeamSearch(num_labels=4, blank=0, options=BeamOptions(beam_width=8, open_tokens=5)).start()
    lengths = []
    for frame in random_emission(rng, 500, 4):
        state.advance(frame[None])
        lengths.append(len(state.finish()[0].tokens) - len(state.stable_prefix()))
    assert max(lengths) == 5


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 200), max_size=6), open_tokens=st.integers(1, 30))
def test_disputes_are_settled_alike_in_pieces(seed, cuts, open_tokens):
    rng = np.random.default_rng(seed)
    emission = random_emission(rng, 200, 5, peaked=5)
    search = full_search(rng, open_tokens=open_tokens)
    state = search.start()
    for start, end in itertools.pairwise([0, *sorted(cuts), 200]):
        state.advance(emission[start:end])
        state.stable_prefix()
    assert [summary(h) for h in state.finish(num_best=8)] == [summary(h) for h in search.decode(emission, num_best=8)]


def test_a_search_that_has_come_to_nothing_ends(rng):
    emission = random_emission(rng, 12, 5)
    emission[8] = -math.inf
    for open_tokens in range(1, 6):  # the word bonus makes the search look at prefixes before it makes them
        options = BeamOptions(word_bonus=0.1, open_tokens=open_tokens)
        assert BeamSearch(num_labels=5, blank=0, options=options).decode(emission) == []


def test_a_search_and_its_state_can_be_copied_and_sent_to_other_processes(rng):
    emission = random_emission(rng, 60, 5, peaked=5)
    search = full_search(rng)
    state = search.start()
    state.advance(emission[:30])
    expected = [summary(h) for h in search.decode(emission, num_best=8)]
    content = pickle.dumps((search, state))
    for other, half in (copy.deepcopy((search, state)), pickle.loads(content)):
        for array in (*other._arrays.values(), *half._arrays.values()):
            assert array.ctypes.data in {*other._rules[0].item(), *half._state[0].item()}
        lm_arrays = [field for field in other._lm if isinstance(field, np.ndarray)]
        assert other._arrays["LM"].tolist()[: len(lm_arrays)] == [array.ctypes.data for array in lm_arrays]
        half.advance(emission[30:])
        assert [summary(h) for h in half.finish(num_best=8)] == expected
        assert [summary(h) for h in other.decode(emission, num_best=8)] == expected
    state.advance(emission[30:])  # what its copies did is nothing to it
    assert [summary(h) for h in state.finish(num_best=8)] == expected


def test_a_batch_on_threads_gives_what_each_gives_alone(rng):
    search = full_search(rng)
    batch = [random_emission(rng, num_frames, 5, peaked=5) for num_frames in (0, 1, 90, 33, 200, 5)]
    alone = [[summary(h) for h in search.decode(emission, num_best=4)] for emission in batch]
    with ThreadPoolExecutor(5) as pool:
        for together in (search.decode_many(batch, num_best=4), pool.map(partial(search.decode, num_best=4), batch)):
            assert [[summary(h) for h in best] for best in together] == alone
    assert search.decode_many([]) == []


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_width": 0}, "beam_width must be between 1 and 10000, not 0"),
        ({"beam_width": 2.0}, r"beam_width must be a whole number, not 2\.0"),
        ({"beam_width": 10**9}, "beam_width must be between 1 and 10000, not 1000000000"),
        ({"token_threshold": 0.5}, r"token_threshold must be at most 0, not 0\.5"),
        ({"token_threshold": math.nan}, "token_threshold must be at most 0, not nan"),
        ({"score_threshold": 0.0}, r"score_threshold must be above 0, not 0\.0"),
        ({"blank_threshold": 1.0}, r"blank_threshold must be above 0 and below 1, not 1\.0"),
        ({"open_tokens": 0}, "open_tokens must be at least 1, not 0"),
        ({"lm_weight": -0.1}, r"lm_weight must be between 0 and 1000000, not -0\.1"),
        ({"word_bonus": math.inf}, "word_bonus must be between -1000000 and 1000000, not inf"),
        ({"word_bonus": 1e308}, r"word_bonus must be between -1000000 and 1000000, not 1e\+308"),
        ({"unknown_word_score": math.nan}, "unknown_word_score must be between -1000000 and 1000000, not nan"),
        ({"unknown_letter_score": 0.5}, r"unknown_letter_score must be between -1000000 and 0, not 0\.5"),
        ({"unknown_letter_score": -math.inf}, "unknown_letter_score must be between -1000000 and 0, not -inf"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        BeamOptions(**options)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"blank": 4}, r"blank must be one of the 4 labels, 0 \.\. 3; got 4"),
        ({"delimiters": [4]}, r"delimiters must hold labels 0 \.\. 3 without the blank, 0; got 4"),
        ({"standalone": [0]}, "standalone must hold labels 0 .. 3 without the blank, 0; got 0"),
        ({"delimiters": [1], "standalone": [1]}, "standalone must hold labels that are not delimiters already; got 1"),
        ({"lexicon": WordTrie([[1, 5]])}, r"spellings must hold labels 0 \.\. 3 without the blank, 0; got 5"),
        ({"lexicon": WordTrie([[1, 2]]), "delimiters": [2]}, "spellings must hold no delimiters; got 2"),
        ({"hotwords": Hotwords([[0]], [1.0])}, "hotwords must hold labels 0 .. 3 without the blank, 0; got 0"),
        (
            {"hotwords": Hotwords([[1], [1, 2]], [1.0, 1.0]), "delimiters": [2]},
            r"hotwords\[1\] must begin and end with a word; got a delimiter in \(1, 2\)",
        ),
        ({"options": BeamOptions(only_lexicon=True)}, "only_lexicon needs a lexicon"),
        ({"label_words": [0] * 4}, "label_words needs a language model"),
        ({"lm": random_bigrams(np.random.default_rng(0), 4)}, "lm needs a lexicon .* or label_words .*; got neither"),
        (
            {"lm": random_bigrams(np.random.default_rng(0), 4), "label_words": [0] * 3},
            r"label_words must be one integer for each of the 4 labels; got shape \(3,\) in int64",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(InputError, match=message):
        BeamSearch(**{"num_labels": 4, "blank": 0, **parts})


@pytest.mark.parametrize(
    ("emission", "message"),
    [
        (np.zeros((2, 3)), r"emission must be \(T, 4\); got shape \(2, 3\)"),
        (np.zeros(4), r"emission must be \(T, 4\); got shape \(4,\)"),
        (np.zeros((2, 4), dtype=int), "emission must hold floating-point numbers; got int64"),
    ],
)
def test_what_is_not_an_emission_is_refused(emission, message):
    with pytest.raises(InputError, match=message):
        BeamSearch(num_labels=4, blank=0).decode(emission)


def test_a_count_below_1_is_refused():
    search = BeamSearch(num_labels=4, blank=0)
    with pytest.raises(InputError, match="num_best must be 1 or above; got 0"):
        search.decode(np.zeros((1, 4)), num_best=0)


def test_nan_is_never_among_the_best(rng):
    emission = random_emission(rng, 30, 4)
    emission[7, 2] = np.nan
    for h in BeamSearch(num_labels=4, blank=0).decode(emission, num_best=16):
        assert math.isfinite(h.score)
    emission[9] = np.nan
    assert BeamSearch(num_labels=4, blank=0).decode(emission, num_best=16) == []
