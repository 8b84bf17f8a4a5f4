"""The n-gram model as Python sees it, and its cache."""

from __future__ import annotations

import gzip
import itertools
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asr.errors import DataError, InputError
from asr.files.reading import identity
from asr.lm import ngram
from asr.lm.ngram import SPACE, NgramModel, characters
from asr.lm.perplexity import TextScore
from asr.lm.scoring import NgramScorer
from asr.text.normalization import TextOptions

TEXT = (
    "\\data\\\nngram 1=5\nngram 2=2\n\\1-grams:\n-2 <unk>\n-99 <s> -0.3\n-1 </s>\n-0.7 été -0.2\n-0.9 two\n"
    "\\2-grams:\n-0.4 <s> été\n-0.3 été two\n\\end\\\n"
)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """An ARPA file that is large enough for a cache; with a home of its own."""
    monkeypatch.setattr(ngram, "_CACHE_FROM_BYTES", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    path = tmp_path / "models" / "lm.arpa.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(TEXT.encode(), mtime=0))
    return path


@pytest.fixture
def parses(monkeypatch):
    """How often an ARPA file was read."""
    calls: list[str] = []
    read = ngram.read_arpa
    monkeypatch.setattr(ngram, "read_arpa", lambda path: (calls.append(str(path)), read(path))[1])
    return calls


def test_facts_and_scores(path):
    model = NgramModel.read(path)
    assert (model.order, model.num_ngrams) == (2, (5, 2))
    assert model.vocabulary == {"<unk>": 0, "<s>": 1, "</s>": 2, "été": 3, "two": 4}
    assert model.encode(["two", "x", "été"]).tolist() == [4, 0, 3]
    natural = math.log(10)
    np.testing.assert_allclose(model.score(["été", "two"]), np.array([-0.4, -0.3, -1]) * natural, rtol=1e-6)
    np.testing.assert_allclose(model.score(["two"], begin=False), np.array([-0.9, -1]) * natural, rtol=1e-6)
    np.testing.assert_allclose(model.score(["x"], end=False), np.array([-0.3 - 2]) * natural, rtol=1e-6)
    np.testing.assert_allclose(model.score([]), np.array([-0.3 - 1]) * natural, rtol=1e-6)
    assert model.score([], end=False).shape == (0,)


def test_perplexity(path):
    scores = NgramScorer(NgramModel.read(path), TextOptions(case="keep")).token_scores(["été two", "x", ""])
    found = sum((score.counts for score in scores), TextScore())
    log10 = -0.4 - 0.3 - 1 - 0.3 - 2 - 1 - 0.3 - 1
    assert found.log_prob == pytest.approx(log10 * math.log(10))
    assert (found.tokens, found.sentences, found.words, found.characters, found.unknown) == (6, 3, 3, 8, 1)
    assert found.word_perplexity == pytest.approx(10 ** (-log10 / 6))


def test_models_of_characters(tmp_path):
    text = TEXT.replace("été", "a").replace("two", SPACE)
    (tmp_path / "lm.arpa").write_text(text)
    model = NgramModel.read(tmp_path / "lm.arpa")
    assert model.over_characters and model.space == SPACE
    assert characters("a b ") == ["a", SPACE, "b", SPACE]
    np.testing.assert_allclose(model.score(characters("a ", space=model.space))[:2] / np.log(10), [-0.4, -0.3])
    (score,) = NgramScorer(model, TextOptions(case="keep")).token_scores(["a a"])
    found = score.counts
    assert (found.tokens, found.words, found.characters, found.unknown) == (4, 2, 3, 0)
    (tmp_path / "lm.arpa").write_text(text.replace(SPACE, "|"))
    assert NgramModel.read(tmp_path / "lm.arpa").space == "|"


def test_many_texts_at_once_have_the_scores_of_each(path, tmp_path):
    (tmp_path / "characters.arpa").write_text(TEXT.replace("été", "a").replace("two", SPACE))
    for model, words in (
        (NgramModel.read(path), ["été ", "two ", "x "]),
        (NgramModel.read(tmp_path / "characters.arpa"), "a x"),
    ):
        texts = ["".join(each) for length in (3, 0, 1, 2) for each in itertools.product(words, repeat=length)]
        expected = [model.score(model.split(text)).sum() for text in texts]
        np.testing.assert_allclose(model.score_together(texts), expected, rtol=1e-6)
        counted = [[place % 3 == 1 for place in range(len(model.split(text)))] for text in texts]
        pairs = zip(texts, counted, strict=True)
        expected = [model.score(model.split(text))[[*marks, True]].sum() for text, marks in pairs]
        np.testing.assert_allclose(model.score_together(texts, counted=counted), expected, rtol=1e-6)
        assert model.score_together([]).shape == (0,)


def test_a_sentence_is_not_a_str(path):
    model = NgramModel.read(path)
    for call in (model.score, model.encode):
        with pytest.raises(InputError, match="words must be a list of words, not one str; got 'one two'; split it"):
            call("one two")


def assert_equal(model: NgramModel, other: NgramModel) -> None:
    assert model.words == other.words
    for field, value in model.tables._asdict().items():
        np.testing.assert_array_equal(getattr(other.tables, field), value, err_msg=field)
        assert type(getattr(other.tables, field)) is type(value)


def cached(path) -> Path:
    """The one file in the user's cache folder."""
    (cache,) = (path.parents[1] / "user" / "asr" / "ngram").iterdir()
    return cache


def test_the_second_time_comes_from_the_users_cache(path, parses):
    first, second = NgramModel.read(path), NgramModel.read(path)
    assert len(parses) == 1
    assert os.listdir(path.parent) == ["lm.arpa.gz"]
    assert cached(path).name.startswith("lm.arpa.gz-")
    assert cached(path).stat().st_mode & 0o777 == 0o600  # the model may be no one else's business
    assert_equal(first, second)
    np.testing.assert_array_equal(first.score(["été", "x"]), second.score(["été", "x"]))
    second.tables.log_probs[:] = 0  # which does not reach the file
    assert_equal(first, NgramModel.read(path))
    assert_equal(first, pickle.loads(pickle.dumps(first)))


def test_without_cache(path, parses):
    NgramModel.read(path, cache=False)
    NgramModel.read(path, cache=False)
    assert len(parses) == 2
    assert not (path.parents[1] / "user").exists()


def test_small_files_need_none(path, monkeypatch):
    monkeypatch.setattr(ngram, "_CACHE_FROM_BYTES", path.stat().st_size + 1)
    NgramModel.read(path)
    assert not (path.parents[1] / "user").exists()


def test_a_changed_file_is_read_again(path, parses):
    """Even one of the same size and time."""
    NgramModel.read(path)
    status = path.stat()
    path.write_bytes(gzip.compress(TEXT.replace("two", "six").encode(), mtime=0))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert "six" in NgramModel.read(path).words
    assert "six" in NgramModel.read(path).words
    assert len(parses) == 2


def test_every_damaged_cache_is_written_again(path, parses, rng):
    model = NgramModel.read(path)
    cache = cached(path)
    content = cache.read_bytes()
    damaged = [b"", content[:10], content[:40], content[:-1], content + b"x", b"\0" * len(content)]
    for place in rng.integers(len(content), size=60):
        damaged.append(content[:place] + bytes([content[place] ^ 1 << int(rng.integers(8))]) + content[place + 1 :])
    for n, bad in enumerate(damaged, start=2):
        cache.write_bytes(bad)
        assert_equal(model, NgramModel.read(path))
        assert len(parses) == n
        assert cache.read_bytes() == content


@pytest.mark.parametrize("key", ["_CACHE_FORMAT", "_CACHE_MAGIC"])
def test_another_format_is_written_again(path, parses, monkeypatch, key):
    NgramModel.read(path)
    monkeypatch.setattr(ngram, key, {"_CACHE_FORMAT": 0, "_CACHE_MAGIC": b"asr n-gram other"}[key])
    NgramModel.read(path)
    NgramModel.read(path)
    assert len(parses) == 2


def test_a_cache_beside_the_model_is_neither_read_nor_written(path, parses, tmp_path):
    """Whoever made the folder can have put it there, as a link to a file of the reader."""
    (tmp_path / "precious").write_text("mine")
    path.with_name("lm.arpa.gz.cache").symlink_to(tmp_path / "precious")
    before = sorted(os.listdir(path.parent))
    NgramModel.read(path)
    assert (tmp_path / "precious").read_text() == "mine"
    assert sorted(os.listdir(path.parent)) == before
    assert len(parses) == 1


def test_a_cache_that_others_can_write_to_is_not_used(path, parses):
    NgramModel.read(path)
    cached(path).parent.chmod(0o777)
    NgramModel.read(path)
    NgramModel.read(path)
    assert len(parses) == 3


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [("next_states", 3, 10_000_000), ("back_off_states", 1, 1), ("first_children", 2, 99), ("words", -1, -5)],
)
def test_a_cache_that_contradicts_itself_is_not_followed(path, parses, name, index, value):
    """Though its checksum and all it says of the file are right."""
    model = NgramModel.read(path)
    place, key = cached(path), identity(path)
    array = getattr(model.tables, name).copy()
    array[index] = value
    ngram._write_cache(place, key, NgramModel(model.words, model.tables._replace(**{name: array})))
    assert_equal(model, NgramModel.read(path))
    assert len(parses) == 2


def test_where_nothing_can_be_written_there_is_no_cache(path, parses, tmp_path):
    (tmp_path / "user").write_text("a file")
    assert_equal(NgramModel.read(path), NgramModel.read(path))
    assert len(parses) == 2


def test_errors_pass_through(tmp_path):
    with pytest.raises(DataError, match=r"none\.arpa: the language model cannot be read: No such file"):
        NgramModel.read(tmp_path / "none.arpa")


def test_models_are_written(path, tmp_path):
    model = NgramModel.read(path)
    model.write(tmp_path / "new.arpa")
    np.testing.assert_allclose(NgramModel.read(tmp_path / "new.arpa").score(["été"]), model.score(["été"]), atol=1e-6)


def test_neither_reading_nor_scoring_need_numba_or_torch(path):
    NgramModel.read(path).score(["one"])  # which compiles once
    code = """
import sys, asr.lm.estimation, asr.lm.ngram
model = asr.lm.ngram.NgramModel.read(sys.argv[1])
model.score_together(["one"])
model.score(["one"])
sys.exit("numba" in sys.modules or "torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, path], check=True)
