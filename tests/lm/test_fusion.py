"""A recurrent model inside the search: beside all texts scored one by one, and beside an n-gram model in its tables."""

from __future__ import annotations

import copy
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.acoustic.folder import in_folder
from asr.ctc import beam
from asr.ctc.beam import BeamHypothesis, BeamOptions, BeamSearch, warm_up
from asr.ctc.collapse import minimum_frames
from asr.ctc.hotwords import Hotwords
from asr.ctc.loss import ctc_loss
from asr.ctc.ngram_tables import query
from asr.ctc.trie import WordTrie
from asr.decoding.decoder import Decoder
from asr.decoding.options import DecodingOptions, LanguageOptions
from asr.errors import AsrWarning, ConfigError, InputError
from asr.lm.estimation import estimate_ngram
from asr.lm.fusion import CharacterFusion
from asr.lm.ngram import SPACE, NgramModel
from asr.lm.prefix_tree import score_together
from asr.lm.recurrent import LanguageModelConfig, NetworkOptions
from asr.lm.rnn import LanguageModel
from asr.text.alphabet import Alphabet

WIDE = 500  # more prefixes than the tiny cases have


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    warm_up()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20061)


def make_model(seed: int = 0, *, unit="character", entries=("A", " ", "B"), **network) -> LanguageModel:
    """An untrained model whose probabilities are far from uniform."""
    torch.manual_seed(seed)
    options = NetworkOptions(**{"hidden_size": 7, "embedding_size": 6, "dropout": 0.5, **network})
    model = LanguageModel(LanguageModelConfig(unit=unit, entries=entries, network=options))
    with torch.no_grad():
        for parameter in model.softmax.parameters():
            parameter.mul_(3.0)
    return model


def random_emission(rng: np.random.Generator, num_frames: int, num_labels: int, *, peaked: float = 4.0) -> np.ndarray:
    return np.log(np.maximum(rng.dirichlet(np.full(num_labels, 1 / peaked), size=num_frames), 1e-40))


def labellings(emission: np.ndarray, *, blank: int) -> dict[tuple[int, ...], float]:
    """The log-probability of each text that the frames can have: the loss of all of them."""
    num_frames, num_labels = emission.shape
    labels = [label for label in range(num_labels) if label != blank]
    texts = [text for length in range(num_frames + 1) for text in itertools.product(labels, repeat=length)]
    texts = [text for text in texts if minimum_frames(text) <= num_frames]
    targets = torch.full((len(texts), max(num_frames, 1)), labels[0])
    for row, text in zip(targets, texts, strict=True):
        row[: len(text)] = torch.tensor(text, dtype=torch.int64)
    losses = ctc_loss(
        torch.from_numpy(emission).expand(len(texts), -1, -1),
        targets,
        torch.full((len(texts),), num_frames),
        torch.tensor(list(map(len, texts))),
        blank=blank,
    )
    return dict(zip(texts, (-losses).tolist(), strict=True))


def summary(hypothesis: BeamHypothesis) -> tuple:
    return (
        hypothesis.tokens.tolist(),
        hypothesis.score,
        hypothesis.acoustic_score,
        hypothesis.lm_score,
        hypothesis.num_words,
        hypothesis.num_unknown,
        hypothesis.hotwords,
    )


def assert_alike(found: list[BeamHypothesis], expected: list[BeamHypothesis]) -> None:
    """The same texts in the same order, scores up to the rounding of float32."""
    assert [h.tokens.tolist() for h in found] == [h.tokens.tolist() for h in expected]
    assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-3)
    assert [h.lm_score for h in found] == pytest.approx([h.lm_score for h in expected], abs=1e-3)
    assert [h.hotwords for h in found] == [h.hotwords for h in expected]


# --- exact ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    weight=st.sampled_from([0.0, 0.6, 1.7]),
    bonus=st.sampled_from([0.0, 1.5]),
    cell=st.sampled_from(["lstm", "gru"]),
    cutoffs=st.sampled_from([(), (2,)]),
    blank=st.integers(0, 3),
)
def test_without_pruning_a_text_has_the_sum_over_alignments_and_the_score_of_the_whole(
    seed, weight, bonus, cell, cutoffs, blank
):
    rng = np.random.default_rng(seed)
    emission = random_emission(rng, int(rng.integers(0, 5)), 4)
    model = make_model(seed % 1000, cell=cell, num_layers=2, cutoffs=cutoffs, divisor=2)
    characters = ["A", "b", " "]
    fusion = CharacterFusion(model, characters=characters, blank=blank)
    characters.insert(blank, "")
    search = BeamSearch(
        num_labels=4,
        blank=blank,
        options=BeamOptions(beam_width=WIDE, lm_weight=weight, word_bonus=bonus),
        delimiters=[characters.index(" ")],
        label_model=fusion,
    )
    found = search.decode(emission, num_best=WIDE)
    table = labellings(emission, blank=blank)
    assert {tuple(h.tokens.tolist()) for h in found} == set(table)
    for h in found:
        text = "".join(characters[token] for token in h.tokens).upper()
        (scores,) = model.score_tokens([np.array(model.vocabulary.encode(text), dtype=np.int64)])
        if text == " ".join(text.split()):
            assert h.lm_score == pytest.approx(score_together(model, [text])[0], abs=1e-4)
        expected = table[tuple(h.tokens.tolist())] + weight * scores.sum() + bonus * len(text.split())
        assert h.lm_score == pytest.approx(scores.sum(), abs=1e-4)
        assert h.score == pytest.approx(expected, abs=1e-4)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


# --- beside an n-gram model in its tables --------------------------------------------------------------------------

A, B, C, GAP = 1, 2, 3, 4  # labels, with 0 the blank


class NgramRows:
    """A label model that says what an n-gram model does; it notes of how many prefixes it was asked at a time."""

    def __init__(self, model: NgramModel, words: list[int]):
        self.tables, self.words = model.tables, words
        self.asked: list[int] = []

    def start(self) -> tuple[np.ndarray, np.ndarray]:
        return self._row(self.tables.start_state), np.array(self.tables.start_state)

    def step(self, states: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(len(states))
        after = [query(self.tables, *pair)[1] for pair in zip(states, np.array(self.words)[labels], strict=True)]
        return np.array([self._row(state) for state in after]), np.array(after)

    def _row(self, state: int) -> np.ndarray:
        words = [self.tables.end_word, *self.words[1:]]
        return np.array([query(self.tables, state, word)[0] for word in words], dtype=np.float32)


@pytest.fixture(scope="module")
def ngram() -> NgramModel:
    rng = np.random.default_rng(7)
    texts = [rng.choice(["a", "b", "c", SPACE], p=[0.5, 0.2, 0.1, 0.2], size=rng.integers(1, 9)) for _ in range(80)]
    with pytest.warns(AsrWarning, match="modified Kneser-Ney cannot estimate discounts"):
        return estimate_ngram([text.tolist() for text in texts], order=3)


def both_searches(ngram: NgramModel, **options) -> tuple[BeamSearch, BeamSearch]:
    """With an n-gram model in tables, and in rows: and both with hotwords, a lexicon and words."""
    words = [0, *(ngram.vocabulary[word] for word in ("a", "b", "c", SPACE))]
    parts = {
        "num_labels": 5,
        "blank": 0,
        "options": BeamOptions(**{"beam_width": 8, "lm_weight": 0.8, "word_bonus": 0.7, **options}),
        "delimiters": [GAP],
        "lexicon": WordTrie([[A], [A, B], [C, C, A], [B, A]]),
        "hotwords": Hotwords([[A, B], [B, GAP, A], [C]], [2.0, 3.0, 1.0]),
    }
    tables = BeamSearch(**parts, lm=ngram.tables, label_words=words)
    return tables, BeamSearch(**parts, label_model=NgramRows(ngram, words))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    width=st.integers(1, 20),
    peaked=st.sampled_from([1.0, 4.0, 20.0]),
    threshold=st.sampled_from([None, 4.0]),
    open_tokens=st.sampled_from([None, 5]),
    only_lexicon=st.booleans(),
)
def test_the_rows_of_an_ngram_model_do_what_its_tables_do(
    ngram, seed, width, peaked, threshold, open_tokens, only_lexicon
):
    rng = np.random.default_rng(seed)
    emission = random_emission(rng, int(rng.integers(0, 60)), 5, peaked=peaked)
    options = {"score_threshold": threshold, "open_tokens": open_tokens, "only_lexicon": only_lexicon}
    tables, rows = both_searches(ngram, beam_width=width, **options)
    assert_alike(rows.decode(emission, num_best=width), tables.decode(emission, num_best=width))


def test_what_is_agreed_on_is_known_as_early(ngram, rng):
    """Frame by frame: also while the root has no row, and the node above it has to stay."""
    tables, rows = (search.start() for search in both_searches(ngram, open_tokens=6))
    held_back = 0
    for frame in random_emission(rng, 400, 5, peaked=8.0):
        tables.advance(frame[None])
        rows.advance(frame[None])
        assert rows.stable_prefix().tolist() == tables.stable_prefix().tolist()
        held_back += len(rows.stable_prefix()) > len(rows._agreed)
    assert held_back
    assert_alike(rows.finish(num_best=8), tables.finish(num_best=8))


def test_nothing_is_asked_while_nothing_new_can_win_and_no_prefix_twice(ngram, rng):
    _, search = both_searches(ngram, beam_width=1)
    state = search.start()
    state.advance(np.log(np.tile([0.9, 0.025, 0.025, 0.025, 0.025], (300, 1))))
    assert search.label_model.asked == []
    state.advance(np.log([[0.01, 0.96, 0.01, 0.01, 0.01]]))
    assert search.label_model.asked == []  # the new prefix has only itself to go on with
    (best,) = state.finish()
    assert best.tokens.tolist() == [A]
    assert search.label_model.asked == [1]
    state.finish()
    assert search.label_model.asked == [1]


def test_memory_is_bounded_however_long_it_lasts(ngram, rng):
    search = both_searches(ngram, open_tokens=50)[1]
    state = search.start()
    sizes = set()
    for _ in range(40):
        state.advance(random_emission(rng, 250, 5, peaked=8.0))
        assert len(state._arrays["NODES"]) == len(state._arrays["ROWS"]) == len(state._model_states)
        sizes.add(len(state._arrays["NODES"]))
    assert len(state.stable_prefix()) > 2000
    assert max(sizes) <= 1100
    assert max(search.label_model.asked) <= 8 + 4  # members and guests


def test_more_nodes_keep_their_rows(ngram):
    """A beam that never agrees, whose rows have to be moved."""
    tables, rows = both_searches(ngram, beam_width=2, word_bonus=0.0, lm_weight=0.1)
    dispute = np.log([[0.0001, 0.4999, 0.4999, 0.00005, 0.00005]])
    rest = np.log(np.tile([[0.0001, 0.9996, 0.0001, 0.0001, 0.0001], [0.9996, *[0.0001] * 4]], (200, 1)))
    emission = np.concatenate([dispute, rest])
    state = rows.start()
    state.advance(emission)
    assert len(state._arrays["NODES"]) > rows._num_nodes
    assert_alike(state.finish(num_best=2), tables.decode(emission, num_best=2))


# --- pieces, copies, batches ---------------------------------------------------------------------------------------


def fused_search(seed: int = 0, **options) -> BeamSearch:
    return BeamSearch(
        num_labels=4,
        blank=0,
        options=BeamOptions(**{"beam_width": 8, "lm_weight": 0.7, "word_bonus": 0.5, **options}),
        delimiters=[2],
        label_model=CharacterFusion(make_model(seed), characters=("A", " ", "B"), blank=0),
        hotwords=Hotwords([[1, 3], [3, 2, 1]], [2.0, 3.0]),
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 80), max_size=5), open_tokens=st.integers(1, 20))
def test_pieces_give_what_the_whole_does(seed, cuts, open_tokens):
    emission = random_emission(np.random.default_rng(seed), 80, 4)
    search = fused_search(open_tokens=open_tokens)
    state = search.start()
    for start, end in itertools.pairwise([0, *sorted(cuts), 80]):
        state.advance(emission[start:end])
        state.stable_prefix()
    assert [summary(h) for h in state.finish(num_best=8)] == [summary(h) for h in search.decode(emission, num_best=8)]


def test_a_look_at_the_end_changes_nothing(rng):
    emission = random_emission(rng, 60, 4)
    search = fused_search()
    state = search.start()
    for frame in emission:
        state.advance(frame[None])
        state.finish()
    assert_alike(state.finish(num_best=8), search.decode(emission, num_best=8))


def test_a_search_and_its_state_can_be_copied_and_sent_to_other_processes(rng):
    emission = random_emission(rng, 60, 4)
    search = fused_search()
    state = search.start()
    state.advance(emission[:30])
    expected = [summary(h) for h in search.decode(emission, num_best=8)]
    for other in (copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        other.advance(emission[30:])
        assert [summary(h) for h in other.finish(num_best=8)] == expected
    state.advance(emission[30:])  # what its copies did is nothing to it
    assert [summary(h) for h in state.finish(num_best=8)] == expected


def test_a_batch_gives_what_each_gives_alone_in_fewer_steps(rng, monkeypatch):
    search = fused_search()
    batch = [random_emission(rng, num_frames, 4) for num_frames in (0, 1, 50, 33, 70, 5)]
    step, asked = search.label_model.step, []

    def counted(states, labels):
        asked.append(len(labels))
        return step(states, labels)

    monkeypatch.setattr(search.label_model, "step", counted)
    alone = [search.decode(emission, num_best=4) for emission in batch]
    steps_alone = len(asked)
    asked.clear()
    for found, expected in zip(search.decode_many(batch, num_best=4), alone, strict=True):
        assert_alike(found, expected)
    assert len(asked) < steps_alone / 2
    monkeypatch.setattr("asr.ctc.beam.TOGETHER", 2)
    with ThreadPoolExecutor(3) as pool:
        on_threads = list(pool.map(lambda _: search.decode_many(batch, num_best=4), range(3)))
    first, *others = [[[summary(h) for h in found] for found in lists] for lists in on_threads]
    assert others == [first, first]


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_does(rng):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    here = fused_search()
    there = fused_search()
    there.label_model = CharacterFusion(make_model().cuda(), characters=("A", " ", "B"), blank=0)
    batch = [random_emission(rng, num_frames, 4) for num_frames in (40, 7)]
    for found, expected in zip(there.decode_many(batch, num_best=4), here.decode_many(batch, num_best=4), strict=True):
        assert_alike(found, expected)


# --- as an option --------------------------------------------------------------------------------------------------

LETTERS = Alphabet((" ", "a", "b"))


def test_a_folder_is_fused_by_name(tmp_path, rng):
    model = make_model()
    model.save(tmp_path / "model" / "lm")
    options = in_folder(
        DecodingOptions.of(beam_width=100, fuse_lm="lm", lm_weight=1.0, num_best=30), tmp_path / "model"
    )
    assert options.language.fuse_lm == str(tmp_path / "model" / "lm")
    emission = random_emission(rng, 5, 4)
    best = Decoder(LETTERS, options).decode(emission).hypotheses
    table = labellings(emission, blank=0)
    for hypothesis in best:
        assert hypothesis.lm is not None
        assert hypothesis.score == pytest.approx(hypothesis.acoustic + hypothesis.lm)
        if hypothesis.text and len(hypothesis.text) == len(hypothesis.tokens):  # no stray spaces, nothing merged
            assert hypothesis.lm == pytest.approx(score_together(model, [hypothesis.text])[0], abs=1e-4)
            assert hypothesis.acoustic >= table[hypothesis.tokens] - 1e-6
    plain = Decoder(LETTERS, DecodingOptions.of(beam_width=100, num_best=30)).decode(emission).hypotheses
    assert [each.text for each in plain] != [each.text for each in best]


def test_several_utterances_are_decoded_together(tmp_path, rng):
    make_model().save(tmp_path / "lm")
    decoder = Decoder(LETTERS, DecodingOptions.of(beam_width=4, fuse_lm=str(tmp_path / "lm")))
    emissions = [random_emission(rng, num_frames, 4) for num_frames in (9, 0, 30)]
    together = decoder.decode_many(emissions, durations_seconds=[None] * 3)
    assert [each.text for each in together] == [decoder.decode(emission).text for emission in emissions]


def test_one_language_model_replaces_the_other():
    with pytest.raises(ConfigError, match=r"lm and fuse_lm must not both be given.*got 'a\.arpa' and 'english'"):
        LanguageOptions(lm="a.arpa", fuse_lm="english")
    with pytest.raises(ConfigError, match="fuse_lm needs a beam"):
        DecodingOptions(language=LanguageOptions(fuse_lm="english"))
    tables, fused = DecodingOptions.of(beam_width=8, lm="a.arpa"), DecodingOptions.of(beam_width=8, fuse_lm="english")
    assert tables.changed({"fuse_lm": "english"}) == fused
    assert fused.changed({"lm": "a.arpa"}) == tables
    assert fused.changed({"beam_width": 1}) == DecodingOptions()
    assert DecodingOptions().changed({"fuse_lm": "english"}).search.beam_width == 16
    with pytest.raises(ConfigError, match="must not both"):
        tables.changed({"fuse_lm": "english", "lm": "b.arpa"})


# --- what is refused -----------------------------------------------------------------------------------------------


def test_models_that_cannot_be_fused_are_refused():
    words = make_model(unit="word", entries=("THE", "PEAR"))
    with pytest.raises(InputError, match="fusion needs a recurrent language model of characters; got one of words"):
        CharacterFusion(words, characters=("A",), blank=0)
    with pytest.raises(InputError, match="must have every character of the alphabet; it lacks 'c', '\\?'"):
        CharacterFusion(make_model(), characters=("a", "c", " ", "?"), blank=0)


def test_parts_that_do_not_fit_are_refused(ngram):
    fusion = CharacterFusion(make_model(), characters=("A", " ", "B"), blank=0)
    with pytest.raises(InputError, match="lm and label_model must not both be given"):
        BeamSearch(num_labels=4, blank=0, lm=ngram.tables, label_words=[0] * 4, label_model=fusion)
    with pytest.raises(InputError, match="label_words needs a language model; give lm, or leave it off"):
        BeamSearch(num_labels=4, blank=0, label_words=[0] * 4, label_model=fusion)
    with pytest.raises(InputError, match=r"the label_model's rows must be \(5,\); got shape \(4,\)"):
        BeamSearch(num_labels=5, blank=0, label_model=fusion)


def test_dropout_of_a_model_in_training_is_off():
    fusion = CharacterFusion(make_model().train(), characters=("A", " ", "B"), blank=3)
    row, state = fusion.start()
    assert (fusion.start()[0] == row).all()
    assert np.exp(row).sum() == pytest.approx(1.0, abs=1e-5)
    rows, states = fusion.step(np.stack([state, state]), np.array([0, 2]))
    assert rows.shape == (2, 4)
    assert states.shape == (2, *state.shape)
    assert np.exp(rows).sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_beam_whose_rows_would_fill_the_memory_is_refused(monkeypatch):
    fusion = CharacterFusion(make_model(), characters=("A", " ", "B"), blank=0)
    monkeypatch.setattr(beam, "MOST_ROW_BYTES", 1 << 20)
    BeamSearch(num_labels=4, blank=0, options=BeamOptions(beam_width=10), label_model=fusion)
    message = (
        "beam_width must be lower with this label_model, 10000 need [0-9]+ MB where 1 may be: its 4 labels and its"
    )
    with pytest.raises(InputError, match=message):
        BeamSearch(num_labels=4, blank=0, options=BeamOptions(beam_width=10_000), label_model=fusion)
