"""The beam search over labels that spell several characters, against a sum over all paths."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.ctc.beam import BeamOptions, BeamSearch, warm_up
from asr.ctc.hotwords import Hotwords
from asr.ctc.spellings import Spellings
from asr.ctc.trie import WordTrie
from asr.errors import InputError
from tests.ctc.enumeration import labelling_probabilities
from tests.ctc.test_beam import (
    HAN,
    SPACE,
    SPELLINGS,
    WORDS,
    A,
    B,
    random_bigrams,
    random_emission,
    split_words,
    summary,
)

WIDE = 1_500  # more texts than the tiny cases have


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    warm_up(spellings=True)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20062)


def text_probabilities(emission: np.ndarray, spellings: Spellings) -> dict[tuple[int, ...], float]:
    """The probability of each text: the sum over its segmentations."""
    texts: dict[tuple[int, ...], float] = {}
    for tokens, probability in labelling_probabilities(emission.tolist(), blank=spellings.blank).items():
        text = spell(tokens, spellings)
        texts[text] = texts.get(text, 0.0) + probability
    return texts


def spell(tokens, spellings: Spellings) -> tuple[int, ...]:
    parts = [
        spellings.characters[spellings.starts[token] : spellings.starts[token] + spellings.lengths[token]].tolist()
        for token in tokens
    ]
    return tuple(itertools.chain.from_iterable(parts))


@st.composite
def vocabularies(draw, *, characters=(A, B, SPACE, HAN), most: int = 4) -> Spellings:
    """A few labels, of which some may share a spelling, and a blank anywhere."""
    piece = st.lists(st.sampled_from(characters), min_size=1, max_size=3)
    pieces: list[list[int]] = draw(st.lists(piece, min_size=1, max_size=most))
    blank = draw(st.integers(0, len(pieces)))
    pieces.insert(blank, [])
    return Spellings(pieces, blank=blank)


def search_of(spellings: Spellings, **parts) -> BeamSearch:
    parts = {"options": BeamOptions(beam_width=WIDE), **parts}
    # The spellings have no more characters than they use; so roles are given only to these.
    for name in ("delimiters", "standalone"):
        parts[name] = [unit for unit in parts.get(name, ()) if unit < spellings.num_characters]
    return BeamSearch(num_labels=spellings.num_labels, blank=spellings.blank, spellings=spellings, **parts)


# --- exact ---------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(spellings=vocabularies(), seed=st.integers(0, 2**32), num_frames=st.integers(0, 5))
def test_a_text_has_the_probability_of_all_its_segmentations(spellings, seed, num_frames):
    emission = random_emission(np.random.default_rng(seed), num_frames, spellings.num_labels)
    hypotheses = search_of(spellings).decode(emission, num_best=WIDE)
    table = {tuple(h.tokens.tolist()): h.score for h in hypotheses}
    assert len(table) == len(hypotheses)  # no text twice
    expected = text_probabilities(emission, spellings)
    assert table == pytest.approx({text: math.log(p) for text, p in expected.items()}, abs=1e-9)


def test_every_segmentation_of_a_word_is_summed():
    spellings = Spellings([[], [1, 2, 3], [1], [2, 3], [1, 2], [3], [2]], blank=0)  # THE, T, HE, TH, E, H
    emission = np.log(np.full((3, 7), 1 / 7))
    (best, *_) = [h for h in search_of(spellings).decode(emission, num_best=WIDE) if h.tokens.tolist() == [1, 2, 3]]
    # of three frames: THE in 6 ways; T HE and TH E in 5 ways each; T H E in one
    assert math.exp(best.score) == pytest.approx((6 + 5 + 5 + 1) / 7**3)


def test_a_repeated_label_needs_a_blank_but_an_equal_text_does_not():
    spellings = Spellings([[], [1], [1, 1]], blank=0)
    with np.errstate(divide="ignore"):
        one_label = np.log([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
        both = np.log([[0.0, 0.5, 0.5], [0.0, 0.5, 0.5]])
    search = search_of(spellings)
    assert [h.tokens.tolist() for h in search.decode(one_label, num_best=9)] == [[1]]
    found = {len(h.tokens): math.exp(h.score) for h in search.decode(both, num_best=9)}
    assert found == pytest.approx({1: 0.25, 2: 0.25, 3: 0.5})  # A; AA; A AA and AA A


@settings(max_examples=60, deadline=None)
@given(
    spellings=vocabularies(),
    seed=st.integers(0, 2**32),
    weight=st.sampled_from([0.0, 0.7, 2.0]),
    bonus=st.sampled_from([0.0, -1.5, 2.5]),
    unknown=st.sampled_from([-3.0, 0.0, 1.5]),
    letter=st.sampled_from([0.0, -0.7]),
    only=st.booleans(),
    with_lm=st.booleans(),
    hotword_weights=st.lists(st.floats(0.5, 5), max_size=3),
)
def test_words_language_model_and_hotwords_equal_a_sum_over_all_paths(
    spellings, seed, weight, bonus, unknown, letter, only, with_lm, hotword_weights
):
    rng = np.random.default_rng(seed)
    emission = random_emission(rng, 5, spellings.num_labels)
    size = spellings.num_characters
    lm = random_bigrams(rng, 8)
    lexicon = {tuple(s): number for s, number in zip(SPELLINGS, WORDS, strict=True) if max(s) < size}
    candidates = [(A, B), (A, SPACE, B), (HAN, HAN), (B,)]
    hotwords = [h for h in candidates if max(h) < size][: len(hotword_weights)]
    hotword_weights = hotword_weights[: len(hotwords)]
    kinds = np.array([0, 0, 0, 1, 2][:size])  # PART, DELIMITER, STANDALONE
    matcher = Hotwords(hotwords, hotword_weights)
    search = search_of(
        spellings,
        options=BeamOptions(
            beam_width=WIDE,
            lm_weight=weight,
            word_bonus=bonus,
            unknown_word_score=unknown,
            unknown_letter_score=letter,
            only_lexicon=only,
        ),
        delimiters=[SPACE],
        standalone=[HAN],
        lexicon=WordTrie(list(lexicon), list(lexicon.values())),
        lm=lm if with_lm else None,
        hotwords=matcher,
    )
    expected = {}
    for text, probability in text_probabilities(emission, spellings).items():
        words = [lexicon.get(word, 0) for word in split_words(text)]
        if only and 0 in words:
            continue
        letters = sum(len(word) for word in split_words(text) if word not in lexicon)
        lm_score = lm.text_log_prob(words) if with_lm else 0.0
        hotword_score = sum(hotword_weights[match.index] for match in matcher.find(text, kinds))
        score = math.log(probability) + weight * lm_score + bonus * len(words)
        score += unknown * words.count(0) + letter * letters + hotword_score
        expected[text] = (score, math.log(probability), lm_score, len(words), words.count(0), letters, hotword_score)
    hypotheses = search.decode(emission, num_best=WIDE)
    assert {tuple(h.tokens.tolist()) for h in hypotheses} == set(expected)
    for h in hypotheses:
        parts = (h.score, h.acoustic_score, h.lm_score, h.num_words, h.num_unknown, h.unknown_letters, h.hotword_score)
        assert parts == pytest.approx(expected[tuple(h.tokens.tolist())], abs=1e-6)


def single_spaced(text: tuple[int, ...]) -> list[int]:
    """Without spaces at the start or after a space."""
    return [unit for before, unit in itertools.pairwise((SPACE, *text)) if (before, unit) != (SPACE, SPACE)]


@settings(max_examples=40, deadline=None)
@given(spellings=vocabularies(), seed=st.integers(0, 2**32))
def test_a_language_model_of_characters_equals_a_sum_over_all_paths(spellings, seed):
    rng = np.random.default_rng(seed)
    emission = random_emission(rng, 4, spellings.num_labels)
    lm = random_bigrams(rng, 8)
    numbers = np.array([0, 3, 4, 5, 6][: spellings.num_characters])
    options = BeamOptions(beam_width=WIDE, lm_weight=0.7)
    search = search_of(spellings, options=options, delimiters=[SPACE], lm=lm, label_words=numbers)
    expected = {
        text: math.log(probability) + 0.7 * lm.text_log_prob([int(numbers[unit]) for unit in single_spaced(text)])
        for text, probability in text_probabilities(emission, spellings).items()
    }
    found = {tuple(h.tokens.tolist()): h.score for h in search.decode(emission, num_best=WIDE)}
    assert found == pytest.approx(expected, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_labels_of_one_character_give_what_the_plain_search_gives(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    emission = random_emission(rng, 60, 5, peaked=data.draw(st.floats(0.5, 20)))
    parts = {
        "options": BeamOptions(
            beam_width=data.draw(st.integers(1, 12)),
            token_threshold=data.draw(st.none() | st.floats(-6, -0.5)),
            score_threshold=data.draw(st.none() | st.floats(0.5, 8)),
            blank_threshold=data.draw(st.none() | st.floats(0.3, 0.95)),
            open_tokens=data.draw(st.none() | st.integers(1, 20)),
            word_bonus=0.3,
        ),
        "delimiters": [SPACE],
        "standalone": [HAN],
        "lexicon": WordTrie(SPELLINGS, WORDS),
        "lm": random_bigrams(rng, 8),
    }
    if data.draw(st.booleans()):
        parts["hotwords"] = Hotwords([[A, B], [A, SPACE, B], [HAN, HAN]], [2.0, 3.0, 1.0])
    spellings = Spellings([[], [A], [B], [SPACE], [HAN]], blank=0)
    plain = BeamSearch(num_labels=5, blank=0, **parts).decode(emission, num_best=12)
    spelled = BeamSearch(num_labels=5, blank=0, spellings=spellings, **parts).decode(emission, num_best=12)
    assert [h.tokens.tolist() for h in spelled] == [h.tokens.tolist() for h in plain]
    assert [h.score for h in spelled] == pytest.approx([h.score for h in plain], abs=1e-9)
    assert [h.hotwords for h in spelled] == [h.hotwords for h in plain]


# --- pruning -------------------------------------------------------------------------------------------------------


class ReferenceBeam(NamedTuple):
    """The search as dictionaries of texts, in the order of the beam: the oracle where something is pruned."""

    spellings: Spellings
    options: BeamOptions

    def decode(self, emission: np.ndarray) -> list[tuple[tuple[int, ...], float]]:
        blank, options = self.spellings.blank, self.options
        beam: dict[tuple[int, ...], dict[int, float]] = {(): {blank: 0.0}}  # text: mass by the last label or the blank
        for frame in emission.tolist():
            if options.blank_threshold is not None and frame[blank] > math.log(options.blank_threshold):
                beam = {text: {blank: total(ends) + frame[blank]} for text, ends in beam.items()}
                continue
            pool = {text: {blank: total(ends) + frame[blank]} for text, ends in beam.items()}
            for text, ends in beam.items():
                for label, mass in ends.items():
                    if label != blank:
                        add(pool[text], label, mass + frame[label])
            for text, ends in beam.items():
                for label, log_prob in enumerate(frame):
                    if label == blank:
                        continue
                    longer = (*text, *spell([label], self.spellings))
                    likely = options.token_threshold is None or log_prob >= min(options.token_threshold, max(frame))
                    if longer in beam or likely:
                        before = total({other: mass for other, mass in ends.items() if other != label})
                        add(pool.setdefault(longer, {}), label, before + log_prob)
            texts = [text for text, ends in pool.items() if total(ends) > -math.inf]
            best = sorted(texts, key=lambda text: -total(pool[text]))[: options.beam_width]
            if options.score_threshold is not None and best:
                best = [text for text in best if total(pool[text]) > total(pool[best[0]]) - options.score_threshold]
            beam = {text: pool[text] for text in texts if text in best}
        return sorted(((text, total(ends)) for text, ends in beam.items()), key=lambda entry: -entry[1])


def add(ends: dict[int, float], label: int, mass: float) -> None:
    ends[label] = float(np.logaddexp(ends.get(label, -math.inf), mass))


def total(ends: dict[int, float]) -> float:
    return float(np.logaddexp.reduce(list(ends.values()))) if ends else -math.inf


@settings(max_examples=200, deadline=None)
@given(data=st.data(), spellings=vocabularies(most=6))
def test_pruning_drops_what_it_says(data, spellings):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    emission = random_emission(
        rng, data.draw(st.integers(0, 15)), spellings.num_labels, peaked=data.draw(st.floats(0.5, 20))
    )
    emission = np.maximum(emission, -200)  # nothing underflows in the reference
    options = BeamOptions(
        beam_width=data.draw(st.integers(1, 12)),
        token_threshold=data.draw(st.none() | st.floats(-6, -0.5)),
        score_threshold=data.draw(st.none() | st.floats(0.5, 8)),
        blank_threshold=data.draw(st.none() | st.floats(0.3, 0.95)),
    )
    found = search_of(spellings, options=options).decode(emission, num_best=12)
    expected = ReferenceBeam(spellings, options).decode(emission)
    assert [h.score for h in found] == pytest.approx([score for _, score in expected], abs=1e-9)
    if len({round(score, 9) for _, score in expected}) == len(expected):  # labels with one spelling tie
        assert [h.tokens.tolist() for h in found] == [list(text) for text, _ in expected]


def test_the_reference_is_exact_when_nothing_is_pruned(rng):
    spellings = Spellings([[A], [], [A, B], [B]], blank=1)
    emission = random_emission(rng, 5, 4)
    found = dict(ReferenceBeam(spellings, BeamOptions(beam_width=WIDE)).decode(emission))
    expected = text_probabilities(emission, spellings)
    assert {text: math.exp(score) for text, score in found.items()} == pytest.approx(expected)


PIECES = Spellings(
    [[], [SPACE, A], [SPACE, B, A], [A], [B], [A, B], [B, B], [HAN], [SPACE], [A, A, B], [B, SPACE, A]], blank=0
)


def full_search(rng: np.random.Generator, **options) -> BeamSearch:
    return search_of(
        PIECES,
        options=BeamOptions(**{"beam_width": 8, **options}),
        delimiters=[SPACE],
        standalone=[HAN],
        lexicon=WordTrie(SPELLINGS, WORDS),
        lm=random_bigrams(rng, 8),
        hotwords=Hotwords([[A, B], [A, SPACE, B], [HAN, HAN]], [2.0, 3.0, 1.0]),
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    unknown=st.sampled_from([-20.0, -3.0, 0.0, 1.5]),
    letter=st.sampled_from([0.0, -1.0]),
    only=st.booleans(),
)
def test_bounds_change_nothing(seed, unknown, letter, only):
    rng = np.random.default_rng(seed)
    options = {"lm_weight": 1.5, "word_bonus": 0.5, "unknown_word_score": unknown, "only_lexicon": only}
    search = full_search(rng, score_threshold=30.0, unknown_letter_score=letter, **options)
    unbound = pickle.loads(pickle.dumps(search))
    unbound._arrays["SPELLINGS"]["gain_inside"] = unbound._arrays["SPELLINGS"]["gain_outside"] = 1e9
    unbound._arrays["CHARACTERS"]["rest_gain"] = unbound._rules["largest_gain"] = 1e9
    for _ in range(3):
        emission = random_emission(rng, 40, PIECES.num_labels, peaked=3)
        one, other = (each.decode(emission, num_best=8) for each in (search, unbound))
        assert [summary(hypothesis) for hypothesis in one] == [summary(hypothesis) for hypothesis in other]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    words=st.lists(st.lists(st.sampled_from([A, B, HAN, SPACE]), max_size=5), min_size=1, max_size=5, unique_by=tuple),
    width=st.integers(1, 12),
    weight=st.floats(0.5, 40),
    options=st.sampled_from(
        [{}, {"score_threshold": 6.0}, {"open_tokens": 3}, {"blank_threshold": 0.6}, {"token_threshold": -2.0}]
    ),
)
def test_a_hotword_that_never_occurs_changes_nothing(seed, words, width, weight, options):
    never = 5  # a character of a label that no frame allows
    spellings = Spellings([[], [A], [B], [SPACE, A], [A, B], [HAN], [B, SPACE], [never]], blank=0)
    words = list(dict.fromkeys((A, *word, never) for word in words))
    parts: dict = {"delimiters": [SPACE], "standalone": [HAN], "lexicon": WordTrie(SPELLINGS, WORDS)}
    rng = np.random.default_rng(seed)
    parts |= {"options": BeamOptions(beam_width=width, word_bonus=0.7, **options), "lm": random_bigrams(rng, 8)}
    plain = search_of(spellings, **parts)
    hopeful = search_of(spellings, **parts, hotwords=Hotwords(words, [weight] * len(words)))
    for peaked in (1, 4):
        emission = np.full((40, 8), -np.inf)
        emission[:, :7] = random_emission(rng, 40, 7, peaked=peaked)
        expected = [summary(hypothesis) for hypothesis in plain.decode(emission, num_best=width)]
        assert [summary(hypothesis) for hypothesis in hopeful.decode(emission, num_best=width)] == expected


# --- in pieces, in copies --------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 120), max_size=8), peaked=st.sampled_from([1, 5, 30]))
def test_pieces_give_what_the_whole_gives(seed, cuts, peaked):
    rng = np.random.default_rng(seed)
    emission = random_emission(rng, 120, PIECES.num_labels, peaked=peaked)
    search = full_search(rng, token_threshold=-7.0, score_threshold=12.0, blank_threshold=0.97, open_tokens=30)
    whole = search.decode(emission, num_best=8)
    state = search.start()
    prefixes = []
    for start, end in itertools.pairwise([0, *sorted(cuts), 120]):
        state.advance(emission[start:end])
        prefixes.append(state.stable_prefix().tolist())
        state = copy.deepcopy(state)
    assert [summary(h) for h in state.finish(num_best=8)] == [summary(h) for h in whole]
    for prefix in prefixes:
        for h in whole:
            assert h.tokens[: len(prefix)].tolist() == prefix


def test_hours_take_no_more_memory_than_minutes(rng):
    search = full_search(rng, open_tokens=200)
    state = search.start()
    sizes = []
    for _ in range(10):
        state.advance(random_emission(rng, 2000, PIECES.num_labels, peaked=20))
        sizes.append(len(state._arrays["NODES"]))
    assert sizes[-1] == sizes[2]
    assert len(state.stable_prefix()) > 5000
    nodes = state._arrays["NODES"]
    num_used = len(nodes) - 2 - state._state[0]["num_free"] + 1
    assert num_used < 8 * 200
    num_made = state._state[0]["num_made"]
    assert (nodes["slot"][:num_made] == -2).sum() + len(nodes) - num_made == state._state[0]["num_free"]


# --- spellings -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(spellings=vocabularies(), text=st.lists(st.sampled_from([A, B, SPACE, HAN]), max_size=8))
def test_endings_are_the_labels_that_a_text_has_there(spellings, text):
    first, begins, labels = spellings.endings(text)
    found = {
        (begin, end, label)
        for end in range(len(text) + 1)
        for begin, label in zip(begins[first[end] : first[end + 1]], labels[first[end] : first[end + 1]], strict=True)
    }
    assert len(found) == len(labels) == first[-1]
    assert found == {
        (begin, end, label)
        for begin, end in itertools.combinations(range(len(text) + 1), 2)
        for label in range(spellings.num_labels)
        if label != spellings.blank and list(spell([label], spellings)) == text[begin:end]
    }
    assert max(np.diff(first), default=0) <= spellings.most_endings


@pytest.mark.parametrize(
    ("pieces", "blank", "message"),
    [
        ([[], [1]], 2, "blank must be one of the 2 labels; got 2"),
        ([[1], [1]], 0, r"the blank, label 0, must have no spelling; got \[1\]"),
        ([[], [1], []], 0, "each label but the blank must spell a character; label 2 spells none"),
        ([[], [-1]], 0, "spellings must hold sequences of labels, integers 0 or above"),
    ],
)
def test_other_spellings_are_refused(pieces, blank, message):
    with pytest.raises(InputError, match=message):
        Spellings(pieces, blank=blank)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"num_labels": 3}, "spellings must be of the 3 labels with the blank 0; got 2 with the blank 0"),
        ({"delimiters": [7]}, r"delimiters must hold characters 0 \.\. 1; got 7"),
        ({"lexicon": WordTrie([[2]])}, r"spellings must hold characters 0 \.\. 1; got 2"),
        (
            {"lm": random_bigrams(np.random.default_rng(0), 4), "label_words": [0]},
            "label_words must be one integer for each of the 2 characters",
        ),
        ({"label_model": object()}, "label_model needs labels of one character each; leave it out, or the spellings"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(InputError, match=message):
        BeamSearch(**{"num_labels": 2, "blank": 0, "spellings": Spellings([[], [1]], blank=0), **parts})
