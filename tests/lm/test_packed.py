"""N-gram models packed in small files: the same scores, and nothing damaged is followed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from asr.errors import DataError
from asr.lm import packed
from asr.lm.estimation import estimate_ngram
from asr.lm.ngram import NgramModel


@pytest.fixture(scope="module")
def model():
    """A model of four-word grams from random text, with words that are not ASCII."""
    random = np.random.default_rng(0)
    vocabulary = np.array([*"abcdefghij", "été", "北京"])
    text = [list(random.choice(vocabulary, size=random.integers(0, 9), p=_zipf(len(vocabulary)))) for _ in range(300)]
    return estimate_ngram(text, order=4, prune=(0, 0, 1))


def _zipf(size: int) -> np.ndarray:
    shares = 1 / np.arange(1, size + 1)
    return shares / shares.sum()


@pytest.fixture
def path(model, tmp_path):
    path = tmp_path / "lm.safetensors"
    model.write(path)
    assert "ranks" in load_file(path)
    return path


@pytest.fixture
def path_with_states(model, tmp_path, monkeypatch):
    """The same model as earlier releases wrote it."""
    monkeypatch.setattr(packed, "_ranks", lambda tables: None)
    path = tmp_path / "before" / "lm.safetensors"
    path.parent.mkdir()
    model.write(path)
    return path


def test_the_same_scores_to_half_precision(model, path):
    read = NgramModel.read(path)
    assert read.words == model.words and read.num_ngrams == model.num_ngrams
    random = np.random.default_rng(1)
    for _ in range(200):
        sentence = list(random.choice([*model.words[3:], "unknown"], size=random.integers(0, 12)))
        for begin in (True, False):
            np.testing.assert_allclose(
                read.score(sentence, begin=begin), model.score(sentence, begin=begin), rtol=1e-3, atol=5e-3
            )


def test_all_but_the_rounding_comes_back_exactly(model, path):
    read = NgramModel.read(path).tables
    for name, array in model.tables._asdict().items():
        expected = array.astype(np.float16) if name in ("log_probs", "back_offs") else array
        np.testing.assert_array_equal(getattr(read, name), expected, err_msg=name)
        assert np.asarray(getattr(read, name)).dtype == np.asarray(array).dtype, name


def test_files_of_earlier_releases_give_the_same_model(path, path_with_states):
    read, before = NgramModel.read(path), NgramModel.read(path_with_states)
    assert read.words == before.words
    for name, array in before.tables._asdict().items():
        np.testing.assert_array_equal(getattr(read.tables, name), array, err_msg=name)


@pytest.mark.filterwarnings("ignore:modified Kneser-Ney cannot estimate:asr.AsrWarning")
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_models_of_each_order(order, tmp_path):
    """Also one whose longest n-grams are all pruned, so that the contexts are all n-grams."""
    text = [list("abcab"), list("abd"), list("cab")]
    for prune in ((0,), (0, 1), (0, 0, 9)):
        model = estimate_ngram(text, order=order, prune=prune[:order])
        model.write(tmp_path / "lm.safetensors")
        read = NgramModel.read(tmp_path / "lm.safetensors")
        assert "ranks" in load_file(tmp_path / "lm.safetensors")
        for sentence in itertools.product("abcd", repeat=3):
            np.testing.assert_allclose(read.score(sentence), model.score(sentence), rtol=1e-3, atol=5e-3)


def _arpa(path, *sections):
    """An ARPA file of n-grams of each length."""
    lines = ["\\data\\", *(f"ngram {n}={len(section)}" for n, section in enumerate(sections, start=1)), ""]
    for n, section in enumerate(sections, start=1):
        lines += [f"\\{n}-grams:", *section, ""]
    path.write_text("\n".join([*lines, "\\end\\", ""]))
    return NgramModel.read(path)


SINGLE = [f"-0.9\t{word}\t-0.1" for word in ("<unk>", "<s>", "</s>", "a", "b", "c")]


@pytest.mark.parametrize(
    ("sections", "ranked"),
    [
        pytest.param((SINGLE, ["-0.5\ta b\t-0.2"], ["-0.3\ta b c"]), False, id="no b c, the suffix of a b c"),
        pytest.param((SINGLE, ["-0.5\ta b\t-0.2"], []), True, id="back-offs of the longest"),
        pytest.param(([line[:-5] for line in SINGLE],), True, id="single words"),
    ],
)
def test_arpa_files(tmp_path, sections, ranked):
    model = _arpa(tmp_path / "lm.arpa", *sections)
    model.write(tmp_path / "lm.safetensors")
    assert ("ranks" in load_file(tmp_path / "lm.safetensors")) == ranked
    read = NgramModel.read(tmp_path / "lm.safetensors")
    for sentence in itertools.product("abc", repeat=4):
        np.testing.assert_allclose(read.score(sentence), model.score(sentence), rtol=1e-3, atol=5e-3)


def test_it_is_a_fraction_of_the_size(model, path, path_with_states):
    arrays = sum(array.nbytes for array in model.tables if isinstance(array, np.ndarray))
    assert path.stat().st_size < path_with_states.stat().st_size < arrays / 2


def test_what_half_precision_cannot_hold_is_rounded(model, tmp_path):
    log_probs = model.tables.log_probs.copy()
    log_probs[3] = -1e9
    words = (*model.words[:-1], "trois\u00a0mots")  # no white space for ARPA files
    NgramModel(words, model.tables._replace(log_probs=log_probs)).write(tmp_path / "odd.safetensors")
    read = NgramModel.read(tmp_path / "odd.safetensors")
    assert read.words == words and read.tables.log_probs[3] == -65504


def test_packing_a_packed_model_changes_nothing(path, tmp_path):
    NgramModel.read(path).write(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def _changed(name, index, value):
    def change(arrays):
        arrays[name] = arrays[name].astype(np.float32 if arrays[name].dtype.kind == "f" else np.int64)
        arrays[name][index] = value

    return change


def _renamed(before, after):
    def change(arrays):
        arrays["names"] = np.frombuffer(arrays["names"].tobytes().replace(before, after), np.uint8)

    return change


IN_BOTH = [
    pytest.param(_changed("num_children", 0, 5), id="too few single words"),
    pytest.param(_changed("num_children", 3, 1 << 30), id="too many children"),
    pytest.param(_changed("num_children", 3, -1), id="fewer children than none"),
    pytest.param(_changed("log_probs", 4, np.nan), id="a probability that is none"),
    pytest.param(_changed("log_probs", 4, 5.0), id="a probability above 1"),
    pytest.param(_changed("back_offs", 4, -np.inf), id="a back-off that is not finite"),
    pytest.param(_changed("numbers", 0, 1 << 20), id="a start outside"),
    pytest.param(_changed("numbers", 0, -1), id="a negative start"),
    pytest.param(_changed("numbers", 1, 99), id="an end that is no word"),
    pytest.param(lambda arrays: arrays.update(numbers=arrays["numbers"][:1]), id="a number too few"),
    pytest.param(lambda arrays: arrays.update(back_offs=arrays["back_offs"][:0]), id="no contexts"),
    pytest.param(
        lambda arrays: arrays.update(names=np.frombuffer(b"<unk>\n<s>\n<s>", np.uint8)), id="words that are alike"
    ),
    pytest.param(_renamed(b"<unk>", b"<ukn>"), id="another first word"),
    pytest.param(_renamed(b"\na\n", b"\na b\n"), id="a word of two"),
]


def _assert_damaged(path, damage):
    arrays = load_file(path)
    damage(arrays)
    save_file(arrays, path)
    with pytest.raises(DataError, match=r"lm.safetensors.*damaged: its n-grams are inconsistent"):
        NgramModel.read(path)


@pytest.mark.parametrize(
    "damage",
    [
        *IN_BOTH,
        pytest.param(_changed("ranks", -1, 10_000), id="a rank that is none"),
        pytest.param(_changed("ranks", -1, -1), id="a negative rank"),
        pytest.param(lambda arrays: arrays.update(ranks=arrays["ranks"][:-1]), id="a rank too few"),
        pytest.param(lambda arrays: arrays["num_children"].sort(), id="n-grams not ordered by length"),
    ],
)
def test_contradictions_are_found(path, damage):
    _assert_damaged(path, damage)


@pytest.mark.parametrize(
    "damage",
    [
        *IN_BOTH,
        pytest.param(_changed("words", -1, 10_000), id="a word that is none"),
        pytest.param(_changed("words", -1, -1), id="a negative word"),
        pytest.param(_changed("words", 3, 7), id="single words out of order"),
        pytest.param(_changed("next_states", -1, 1 << 20), id="a state outside"),
        pytest.param(_changed("next_states", 5, -3), id="a negative state"),
        pytest.param(_changed("back_off_states", 20, 20), id="a context that backs off to itself"),
        pytest.param(lambda arrays: arrays.update(words=arrays["words"][:-1]), id="a word too few"),
    ],
)
def test_contradictions_in_files_of_earlier_releases_are_found(path_with_states, damage):
    _assert_damaged(path_with_states, damage)


def test_children_out_of_order_are_found(model, path, path_with_states):
    """Two words of one context change places: a binary search would miss both."""
    first = model.tables.first_children[int(np.argmax(np.diff(model.tables.first_children)[1:] > 1)) + 1]

    def swap(name):
        def damage(arrays):
            arrays[name][[first - 1, first]] = arrays[name][[first, first - 1]]

        return damage

    _assert_damaged(path, swap("ranks"))
    _assert_damaged(path_with_states, swap("words"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda arrays: arrays.pop("back_offs"), "not an n-gram model: it has no back_offs"),
        (lambda arrays: arrays.pop("ranks"), "not an n-gram model: it has no words"),
        (lambda arrays: arrays.update(ranks=arrays["ranks"][None]), r"not an n-gram model: ranks has shape \(1,"),
        (
            lambda arrays: arrays.update(log_probs=np.zeros(4, np.int32)),
            "not an n-gram model: log_probs has int32 numbers",
        ),
        (lambda arrays: arrays.update(names=np.frombuffer(b"\xff", np.uint8)), "its words are not UTF-8"),
    ],
)
def test_other_files_are_refused(path, damage, message):
    arrays = load_file(path)
    damage(arrays)
    save_file(arrays, path)
    with pytest.raises(DataError, match=message):
        NgramModel.read(path)


def test_a_file_larger_than_the_memory_is_refused(path, monkeypatch):
    def fail(path):
        raise MemoryError

    monkeypatch.setattr(packed, "load_file", fail)
    with pytest.raises(
        DataError, match=r"lm.safetensors: the n-gram model cannot be read: it does not fit into memory"
    ):
        NgramModel.read(path)


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "zero.safetensors").symlink_to("/dev/zero")
    for name, kind in (("folder", "folder"), ("zero", "device")):
        with pytest.raises(DataError, match=f"cannot be read: it must be a regular file, not a {kind}"):
            NgramModel.read(tmp_path / f"{name}.safetensors")


def test_truncated_missing_and_random_files(path):
    whole = path.read_bytes()
    for content in (b"", whole[:7], whole[: len(whole) // 2], whole[:-1], b"\\data\\\n", b"\0" * 64):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"lm.safetensors.*cannot be read"):
            NgramModel.read(path)
    path.unlink()
    with pytest.raises(DataError, match=r"lm.safetensors.*cannot be read"):
        NgramModel.read(path)
