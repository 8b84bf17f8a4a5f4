"""Convert text to chunks of tokens: a text of any size is stored as numbers, and read in a new order in each epoch.

The tokens of a text are in a file that is mapped into memory, in blocks of whole sentences; each sentence ends with
<eos>. An epoch has the blocks in a new order, and the sentences of each block in a new order. The result is one long
row. It is cut into rows of equal length, which are read side by side, chunk by chunk. The order is a function of
(seed, epoch), so a run can resume in the middle of an epoch, and each of several processes reads its own rows.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.errors import DataError
from asr.files.writing import replacing, write_whole
from asr.lm.corpus import read_sentences
from asr.lm.vocabulary import EOS, Vocabulary, VocabularyOptions, build_vocabulary
from asr.options import from_json, to_json
from asr.text.normalization import TextOptions
from asr.training.distributed import from_first

TOKENS_FILE, INDEX_FILE = "tokens.bin", "index.json"
BLOCK_TOKENS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Text:
    """The tokens of a text."""

    tokens: np.ndarray  # (N,) unsigned integers; each sentence ends with <eos>
    bounds: np.ndarray  # (n + 1,) int64, the starts of its blocks, and N; each block begins with a sentence
    num_sentences: int
    num_unknown: int  # words outside the vocabulary


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """T tokens of each of B rows, and the tokens that follow them."""

    number: int  # of the chunk in its epoch, from 0
    inputs: Tensor  # (B, T) int64
    targets: Tensor  # (B, T) int64, each the token after the input


def prepare_text(
    paths: Sequence[str],
    folder: Path,
    *,
    text: TextOptions,
    vocabulary: VocabularyOptions | Vocabulary,
    begun: bool,
    note: Callable[[str], None],
) -> tuple[Vocabulary, Text]:
    """The vocabulary and the tokens of text files: made in `folder` by the first call, read from it by later ones.

    The files are read twice, line by line; on disk, a token takes one to four bytes. Only the first of several
    processes reads them.

    Args:
        paths: the files.
        folder: for the tokens and their index.
        text: how the files are normalised.
        vocabulary: how the vocabulary is chosen; or a vocabulary, of which the files need not have all entries.
        begun: whether a training with the tokens in `folder` has begun. If so, changed files are refused; if not,
            files are read again after a change of files or options.
        note: called with one sentence before the files are read.
    Raises:
        DataError: a file cannot be read or has changed, no file has text, or the folder is damaged.
    """
    index = from_first(lambda: _make_index(paths, folder, text, vocabulary, begun=begun, note=note))
    chosen = Vocabulary(index["unit"], tuple(index["entries"]))
    tokens = np.memmap(folder / TOKENS_FILE, dtype=_dtype(chosen.size), mode="r")
    bounds = np.array(index["bounds"])
    if len(tokens) != bounds[-1]:
        raise DataError(f"must hold {bounds[-1]} tokens, not {len(tokens)}", path=folder / TOKENS_FILE)
    return chosen, Text(
        tokens=tokens, bounds=bounds, num_sentences=index["num_sentences"], num_unknown=index["num_unknown"]
    )


def _make_index(
    paths: Sequence[str],
    folder: Path,
    text: TextOptions,
    vocabulary: VocabularyOptions | Vocabulary,
    *,
    begun: bool,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """The index of the folder, read from it or made now."""
    files = [[os.path.abspath(path), *_fingerprint(path)] for path in paths]
    source = {"files": files, "text": to_json(text), "vocabulary": to_json(vocabulary)}
    changed: list[str] = []
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        if begun:  # perhaps by a release with fewer options
            index["source"]["text"] = to_json(from_json(TextOptions, index["source"]["text"]))
        if index["source"] == source:
            return index
        changed = [path for path, file in zip(paths, files, strict=True) if file not in index["source"]["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if begun or not isinstance(error, FileNotFoundError):
            raise DataError("the index of the text is damaged or missing", path=folder / INDEX_FILE) from error
    if begun:
        raise DataError(
            "the text has changed since the run began; choose another run folder", path=", ".join(changed or paths)
        )
    note(f"reading {', '.join(paths)}")
    chosen = (
        vocabulary if isinstance(vocabulary, Vocabulary) else build_vocabulary(read_sentences(paths, text), vocabulary)
    )
    (folder / INDEX_FILE).unlink(missing_ok=True)  # otherwise a kill would leave the old index beside new tokens
    counts = write_tokens(folder / TOKENS_FILE, read_sentences(paths, text), chosen)
    index = {"source": source, "unit": chosen.unit, "entries": list(chosen.entries), **counts}
    write_whole(folder / INDEX_FILE, json.dumps(index, ensure_ascii=False))
    return index


def write_tokens(path: Path, sentences: Iterable[str], vocabulary: Vocabulary) -> dict[str, object]:
    """Write the tokens of sentences to a file; returns the other fields of `Text` as JSON values."""
    bounds, num_sentences, num_unknown = [0], 0, 0
    block: list[int] = []
    dtype = _dtype(vocabulary.size)
    with replacing(path) as file:

        def write() -> None:
            nonlocal num_unknown
            tokens = np.array(block, dtype=dtype)
            num_unknown += vocabulary.count_unknown(tokens)
            file.write(tokens.data)
            bounds.append(bounds[-1] + len(tokens))
            block.clear()

        for sentence in sentences:
            num_sentences += 1
            block += [*vocabulary.encode(sentence, dropped=Counter()), EOS]
            if len(block) >= BLOCK_TOKENS:
                write()
        if block:
            write()
    return {"bounds": bounds, "num_sentences": num_sentences, "num_unknown": num_unknown}


def plan_rows(num_tokens: int, *, batch_size: int, chunk_length: int) -> tuple[int, int]:
    """The number of rows, and of tokens in each; fewer rows if they would be shorter than a chunk.

    The remaining tokens, fewer than rows, are not read; they differ from epoch to epoch.
    """
    rows = max(1, min(batch_size, num_tokens // chunk_length))
    return rows, num_tokens // rows


def read_chunks(
    text: Text, *, rows: Sequence[int], row_length: int, chunk_length: int, seed: int, epoch: int, start: int = 0
) -> Iterator[Chunk]:
    """The chunks of an epoch from number `start` on; the last one may be shorter."""
    offset = start * chunk_length
    readers = [_Reader(text, position=row * row_length + offset, seed=seed, epoch=epoch) for row in rows]
    for number, begin in enumerate(range(offset, row_length, chunk_length), start=start):
        count = min(chunk_length, row_length - begin)
        tokens = torch.empty(len(rows), count + 1, dtype=torch.int64)
        for row, reader in zip(tokens, readers, strict=True):
            row.copy_(torch.from_numpy(reader.take(count)))
        yield Chunk(number=number, inputs=tokens[:, :-1], targets=tokens[:, 1:])


class _Reader:
    """The tokens of an epoch from a position on."""

    def __init__(self, text: Text, *, position: int, seed: int, epoch: int):
        self.text, self.seed, self.epoch = text, seed, epoch
        sizes = np.diff(text.bounds)
        order = np.random.default_rng((seed, epoch)).permutation(len(sizes))
        begins = sizes[order].cumsum() - sizes[order]
        first = int(np.searchsorted(begins, position, side="right")) - 1
        self.blocks = iter(order[first:])
        # The <eos> of the sentence before precedes a block; the token before the position is kept.
        self.buffer = np.concatenate([[EOS], self._next_block()])[position - begins[first] :]

    def take(self, count: int) -> np.ndarray:
        """(count + 1,) int64: the last token, and the next `count` tokens."""
        while len(self.buffer) <= count:
            self.buffer = np.concatenate([self.buffer, self._next_block()])
        tokens, self.buffer = self.buffer[: count + 1], self.buffer[count:]
        return tokens

    def _next_block(self) -> np.ndarray:
        """The sentences of the next block in the order of this epoch."""
        number = int(next(self.blocks))
        block = np.asarray(self.text.tokens[slice(*self.text.bounds[number : number + 2])], dtype=np.int64)
        sentences = np.split(block, np.flatnonzero(block == EOS)[:-1] + 1)
        order = np.random.default_rng((self.seed, self.epoch, number)).permutation(len(sentences))
        return np.concatenate([sentences[index] for index in order])


def _fingerprint(path: str) -> list[int]:
    """Size and time of a file."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"the text cannot be read: {error.strerror}", path=path) from None
    return [status.st_size, status.st_mtime_ns]


def _dtype(num_tokens: int) -> np.dtype:
    return np.min_scalar_type(num_tokens - 1)
