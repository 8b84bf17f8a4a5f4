"""Text on disk as tokens: every sentence comes once in an epoch, in another order in each, from any chunk on."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.errors import DataError
from asr.lm.vocabulary import EOS, UNK, VocabularyOptions
from asr.text.normalization import TextOptions
from asr.training import text as text_module
from asr.training.text import Text, plan_rows, prepare_text, read_chunks


@pytest.fixture
def lines(rng) -> list[str]:
    """Sentences that all differ: a number, and as many words as it says."""
    return [f"s{number} " + "w " * int(rng.integers(0, 12)) for number in range(300)]


@pytest.fixture
def path(lines: list[str], tmp_path: Path) -> str:
    with gzip.open(tmp_path / "train.gz", "wt") as file:
        file.write("\n\n".join(lines))
    return str(tmp_path / "train.gz")


def prepare(path: str, folder: Path, notes: list[str] | None = None, *, begun: bool = False, **options):
    return prepare_text(
        [path],
        folder,
        text=TextOptions(),
        vocabulary=VocabularyOptions(**{"min_count": 1, **options}),
        begun=begun,
        note=(notes if notes is not None else []).append,
    )


@pytest.fixture
def text(path: str, tmp_path: Path, monkeypatch) -> Text:
    monkeypatch.setattr(text_module, "BLOCK_TOKENS", 50)
    _, text = prepare(path, tmp_path / "text")
    assert len(text.bounds) > 10
    return text


def stream(text: Text, **options) -> np.ndarray:
    """The tokens of an epoch that is read in one row."""
    given = {"rows": [0], "row_length": len(text.tokens), "chunk_length": 7, "seed": 0, "epoch": 0, **options}
    chunks = read_chunks(text, **given)
    return torch.cat([chunk.targets for chunk in chunks], dim=1)[0].numpy()


def sentences(tokens: np.ndarray) -> Counter[tuple[int, ...]]:
    assert tokens[-1] == EOS
    return Counter(tuple(part[:-1]) for part in np.split(tokens, np.flatnonzero(tokens == EOS) + 1)[:-1])


def test_the_tokens_on_disk_are_the_text(path, lines, tmp_path):
    vocabulary, text = prepare(path, tmp_path / "text")
    decoded = [
        vocabulary.decode(part[:-1].tolist())
        for part in np.split(text.tokens, np.flatnonzero(text.tokens == EOS) + 1)[:-1]
    ]
    assert decoded == [" ".join(line.upper().split()) for line in lines]
    assert text.num_sentences == 300 and text.num_unknown == 0
    assert text.tokens.dtype == np.uint16 and isinstance(text.tokens, np.memmap)


def test_unknown_words_are_counted(path, lines, tmp_path):
    vocabulary, text = prepare(path, tmp_path / "text", min_count=2)
    assert vocabulary.entries == ("W",)
    assert text.num_unknown == 300 == (text.tokens == UNK).sum()
    assert text.tokens.dtype == np.uint8


def test_a_text_is_read_once(path, tmp_path):
    notes: list[str] = []
    first = prepare(path, tmp_path / "text", notes)
    second = prepare(path, tmp_path / "text", notes)
    assert notes == [f"reading {path}"]
    assert first[0] == second[0] and np.array_equal(first[1].tokens, second[1].tokens)


def test_a_run_of_a_release_that_knew_no_marks_goes_on(path, tmp_path):
    prepare(path, tmp_path / "text")
    index = tmp_path / "text" / "index.json"
    values = json.loads(index.read_text())
    del values["source"]["text"]["marks"]
    index.write_text(json.dumps(values))
    prepare(path, tmp_path / "text", notes := [], begun=True)
    assert notes == []
    prepare(path, tmp_path / "text", notes)
    assert notes == [f"reading {path}"]  # before it has begun, its text may have had marks


def test_a_text_that_changes_under_a_run_is_refused(path, tmp_path):
    prepare(path, tmp_path / "text")
    os.utime(path, (0, 0))
    with pytest.raises(DataError, match=r"train.gz: the text has changed since the run began; choose another run"):
        prepare(path, tmp_path / "text", begun=True)
    (tmp_path / "text" / "index.json").unlink()
    with pytest.raises(DataError, match=r"index.json: the index of the text is damaged or missing"):
        prepare(path, tmp_path / "text", begun=True)
    with pytest.raises(DataError, match=r"none.txt: the text cannot be read: No such file"):
        prepare(str(tmp_path / "none.txt"), tmp_path / "text")


def test_a_text_that_nothing_was_trained_on_is_read_anew(path, lines, tmp_path):
    """Another file, other options, or the same file with something else in it."""
    prepare(path, tmp_path / "text")
    with gzip.open(path, "at") as file:
        file.write("\nONE MORE\n")
    assert prepare(path, tmp_path / "text")[1].num_sentences == 301
    assert prepare(path, tmp_path / "text", max_size=5)[0].size == 7
    (tmp_path / "other.txt").write_text("another text\n")
    notes: list[str] = []
    assert prepare(str(tmp_path / "other.txt"), tmp_path / "text", notes)[1].num_sentences == 1
    assert notes == [f"reading {tmp_path / 'other.txt'}"]


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"source": {}}'])
def test_an_index_that_is_damaged_is_refused(path, tmp_path, content):
    prepare(path, tmp_path / "text")
    (tmp_path / "text" / "index.json").write_text(content)
    with pytest.raises(DataError, match=r"index.json: the index of the text is damaged or missing"):
        prepare(path, tmp_path / "text", begun=True)


def test_tokens_that_are_cut_short_are_refused(path, tmp_path):
    prepare(path, tmp_path / "text")
    content = (tmp_path / "text" / "tokens.bin").read_bytes()
    (tmp_path / "text" / "tokens.bin").write_bytes(content[:-2])
    with pytest.raises(DataError, match=r"tokens.bin: must hold \d+ tokens, not \d+"):
        prepare(path, tmp_path / "text")


def test_each_sentence_comes_once_in_an_epoch_and_in_another_order_in_each(text):
    whole = sentences(np.asarray(text.tokens))
    first, second, other = stream(text), stream(text, epoch=1), stream(text, seed=1)
    assert sentences(first) == sentences(second) == sentences(other) == whole
    assert not np.array_equal(first, second) and not np.array_equal(first, other)
    assert np.array_equal(first, stream(text))


def test_rows_are_parts_of_one_stream(text):
    whole = stream(text)
    rows, length = plan_rows(len(whole), batch_size=8, chunk_length=9)
    options = {"row_length": length, "chunk_length": 9, "seed": 0, "epoch": 0}
    chunks = list(read_chunks(text, rows=range(rows), **options))
    assert len(chunks) == -(-length // 9) and [chunk.number for chunk in chunks] == list(range(len(chunks)))
    targets = torch.cat([chunk.targets for chunk in chunks], dim=1).numpy()
    inputs = torch.cat([chunk.inputs for chunk in chunks], dim=1).numpy()
    assert np.array_equal(targets.ravel(), whole[: rows * length])
    assert np.array_equal(inputs.ravel(), np.concatenate([[EOS], whole])[: rows * length])
    for own in ([1, 3, 5, 7], []):  # those of one process among several
        for part, chunk in zip(read_chunks(text, rows=own, **options), chunks, strict=True):
            assert torch.equal(part.inputs, chunk.inputs[own]) and torch.equal(part.targets, chunk.targets[own])


@pytest.mark.parametrize("start", [1, 2, 30])
def test_an_epoch_goes_on_from_any_chunk(text, start):
    options = {"rows": range(4), "row_length": len(text.tokens) // 4, "chunk_length": 6, "seed": 5, "epoch": 2}
    whole = list(read_chunks(text, **options))
    rest = list(read_chunks(text, **options, start=start))
    assert len(rest) == len(whole) - start > 0
    for one, other in zip(rest, whole[start:], strict=True):
        assert one.number == other.number
        assert torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)


@pytest.mark.parametrize(
    ("num_tokens", "expected"), [(1, (1, 1)), (9, (1, 9)), (10, (1, 10)), (25, (2, 12)), (1000, (4, 250))]
)
def test_a_small_text_has_fewer_rows(num_tokens, expected):
    assert plan_rows(num_tokens, batch_size=4, chunk_length=10) == expected
