"""The n-gram model as Python sees it, and its cache."""

from __future__ import annotations

import gzip
import itertools
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from asr.errors import DataError, InputError
from asr.files import replacing
from asr.lm import ngram
from asr.lm.ngram import SPACE, NgramModel, characters

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
    found = NgramModel.read(path).perplexity([["été", "two"], ["x"], []])
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
    found = model.perplexity([characters("a a")])
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
    for call in (model.score, model.encode, lambda text: model.perplexity([text])):
        with pytest.raises(InputError, match="words must be a list of words, not one str; got 'one two'; split it"):
            call("one two")


def assert_equal(model: NgramModel, other: NgramModel) -> None:
    assert model.words == other.words
    for field, value in model.tables._asdict().items():
        np.testing.assert_array_equal(getattr(other.tables, field), value, err_msg=field)
        assert type(getattr(other.tables, field)) is type(value)


def test_the_second_time_comes_from_the_cache(path, parses):
    first, second = NgramModel.read(path), NgramModel.read(path)
    assert len(parses) == 1
    assert os.listdir(path.parent) == ["lm.arpa.gz", "lm.arpa.gz.cache"]
    assert_equal(first, second)
    np.testing.assert_array_equal(first.score(["été", "x"]), second.score(["été", "x"]))
    assert all(array.flags.writeable for array in second.tables if isinstance(array, np.ndarray))  # one type for numba
    second.tables.log_probs[:] = 0  # which does not reach the file
    assert_equal(first, NgramModel.read(path))
    assert_equal(first, pickle.loads(pickle.dumps(first)))


def test_without_cache(path, parses):
    NgramModel.read(path, cache=False)
    NgramModel.read(path, cache=False)
    assert len(parses) == 2
    assert os.listdir(path.parent) == ["lm.arpa.gz"]


def test_small_files_need_none(path, monkeypatch):
    monkeypatch.setattr(ngram, "_CACHE_FROM_BYTES", path.stat().st_size + 1)
    NgramModel.read(path)
    assert os.listdir(path.parent) == ["lm.arpa.gz"]


def test_a_changed_file_is_read_anew(path, parses):
    NgramModel.read(path)
    status = path.stat()
    path.write_bytes(gzip.compress(TEXT.replace("two", "six").encode(), mtime=0))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert "six" in NgramModel.read(path).words
    assert "six" in NgramModel.read(path).words
    assert len(parses) == 2


def test_every_damaged_cache_is_written_anew(path, parses, rng):
    model = NgramModel.read(path)
    cache = path.with_name("lm.arpa.gz.cache")
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
def test_another_format_is_written_anew(path, parses, monkeypatch, key):
    NgramModel.read(path)
    monkeypatch.setattr(ngram, key, {"_CACHE_FORMAT": 2, "_CACHE_MAGIC": b"asr n-gram other"}[key])
    NgramModel.read(path)
    NgramModel.read(path)
    assert len(parses) == 2


def test_where_the_folder_is_read_only_the_user_has_a_cache(path, parses, monkeypatch, tmp_path):
    def refuse_models(place):
        if "models" in os.fspath(place.parent):
            raise PermissionError(13, "Permission denied")
        return replacing(place)

    monkeypatch.setattr(ngram, "replacing", refuse_models)
    model = NgramModel.read(path)
    assert os.listdir(path.parent) == ["lm.arpa.gz"]
    (cache,) = (tmp_path / "user" / "asr" / "ngram").iterdir()
    assert cache.name.startswith("lm.arpa.gz-")
    assert_equal(model, NgramModel.read(path))
    assert len(parses) == 1


def test_where_nothing_can_be_written_there_is_no_cache(path, parses, monkeypatch):
    def refuse(place):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ngram, "replacing", refuse)
    assert_equal(NgramModel.read(path), NgramModel.read(path))
    assert len(parses) == 2


def test_errors_pass_through(tmp_path):
    with pytest.raises(DataError, match=r"none\.arpa: the language model cannot be read: No such file"):
        NgramModel.read(tmp_path / "none.arpa")


def test_models_are_written(path, tmp_path):
    model = NgramModel.read(path)
    model.write(tmp_path / "new.arpa")
    np.testing.assert_allclose(NgramModel.read(tmp_path / "new.arpa").score(["été"]), model.score(["été"]), atol=1e-6)


def test_neither_reading_nor_many_texts_need_numba_or_torch(path):
    code = """
import sys, asr.lm.estimation, asr.lm.ngram
asr.lm.ngram.NgramModel.read(sys.argv[1]).score_together(["one"])
sys.exit("numba" in sys.modules or "torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, path], check=True)
