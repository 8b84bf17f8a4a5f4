"""From text to chunks of tokens: a text of any size as numbers on disk, read in another order in each epoch.

The tokens of a text lie one after the other in a file that is mapped into memory, each sentence ended by <eos>, in
blocks of whole sentences. An epoch takes the blocks in a new order, and the sentences of each block in a new order:
that makes one long row, which is cut into rows of equal length that are read side by side, chunk by chunk. All of it is
a function of (seed, epoch), so a run that resumes in the middle of an epoch begins where it was, and each of several
processes reads rows of its own.
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
    """The tokens of a text.

    Args:
        tokens: (N,) unsigned integers, every sentence ended by <eos>.
        bounds: (n + 1,) int64, where its blocks begin, and N; each begins with a sentence.
        num_sentences: how many.
        num_unknown: words among them that the vocabulary lacks.
    """

    tokens: np.ndarray
    bounds: np.ndarray
    num_sentences: int
    num_unknown: int


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some tokens of each of B rows, and those that follow them.

    Args:
        number: of the chunk in its epoch, from 0.
        inputs: (B, T) int64.
        targets: (B, T) int64, each the token after the input.
    """

    number: int
    inputs: Tensor
    targets: Tensor


def prepare_text(
    paths: Sequence[str],
    folder: Path,
    *,
    text: TextOptions,
    vocabulary: VocabularyOptions,
    begun: bool,
    note: Callable[[str], None],
) -> tuple[Vocabulary, Text]:
    """The vocabulary and the tokens of some files: made in `folder` at the first call, found there at the next.

    The files are read twice, line by line; on disk, a token takes one to four bytes. Of several processes, the first
    does it.

    Args:
        paths: the files.
        folder: what is made goes there.
        text: how the files are normalised.
        vocabulary: what of them becomes the vocabulary.
        begun: a training has begun with what is in `folder`: refuse files that have been changed since. If not, they
            are read anew, as they are with other options.
        note: called with one sentence before the files are read.
    Raises:
        DataError: a file cannot be read, or has been changed; there is no text in them; or the folder is damaged.
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
    vocabulary: VocabularyOptions,
    *,
    begun: bool,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """What the folder's index holds, as it was found there or is made now."""
    files = [[os.path.abspath(path), *_fingerprint(path)] for path in paths]
    source = {"files": files, "text": to_json(text), "vocabulary": to_json(vocabulary)}
    changed: list[str] = []
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        if begun:  # by a release that knew fewer options, perhaps
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
    chosen = build_vocabulary(read_sentences(paths, text), vocabulary)
    (folder / INDEX_FILE).unlink(missing_ok=True)  # or a kill would leave the old one beside new tokens
    counts = write_tokens(folder / TOKENS_FILE, read_sentences(paths, text), chosen)
    index = {"source": source, "unit": chosen.unit, "entries": list(chosen.entries), **counts}
    write_whole(folder / INDEX_FILE, json.dumps(index, ensure_ascii=False))
    return index


def write_tokens(path: Path, sentences: Iterable[str], vocabulary: Vocabulary) -> dict[str, object]:
    """Writes the tokens of sentences to a file; gives the other fields of `Text`, as JSON values."""
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
    """Rows side by side, and tokens in each: fewer rows where they would be shorter than a chunk.

    The tokens left over, fewer than rows, are not read; they are others in each epoch.
    """
    rows = max(1, min(batch_size, num_tokens // chunk_length))
    return rows, num_tokens // rows


def read_chunks(
    text: Text, *, rows: Sequence[int], row_length: int, chunk_length: int, seed: int, epoch: int, start: int = 0
) -> Iterator[Chunk]:
    """The chunks of an epoch from number `start` on; the last one may be shorter.

    Args:
        text: what is read.
        rows: the numbers of the rows to read; there may be none.
        row_length: tokens in a row, as `plan_rows` says.
        chunk_length: tokens of a row in a chunk.
        seed, epoch: decide the order of the text.
        start: the first chunk to read.
    """
    offset = start * chunk_length
    readers = [_Reader(text, position=row * row_length + offset, seed=seed, epoch=epoch) for row in rows]
    for number, begin in enumerate(range(offset, row_length, chunk_length), start=start):
        count = min(chunk_length, row_length - begin)
        taken = torch.empty(len(rows), count + 1, dtype=torch.int64)
        for row, reader in zip(taken, readers, strict=True):
            row.copy_(torch.from_numpy(reader.take(count)))
        yield Chunk(number=number, inputs=taken[:, :-1], targets=taken[:, 1:])


class _Reader:
    """The tokens of an epoch from a position on."""

    def __init__(self, text: Text, *, position: int, seed: int, epoch: int):
        self.text, self.seed, self.epoch = text, seed, epoch
        sizes = np.diff(text.bounds)
        order = np.random.default_rng((seed, epoch)).permutation(len(sizes))
        begins = sizes[order].cumsum() - sizes[order]
        first = int(np.searchsorted(begins, position, side="right")) - 1
        self.blocks = iter(order[first:])
        # What stands before a block is the end of the sentence before; the token before the position is kept.
        self.buffer = np.concatenate([[EOS], self._next_block()])[position - begins[first] :]

    def take(self, count: int) -> np.ndarray:
        """(count + 1,) int64: the token before the next ones, and those."""
        while len(self.buffer) <= count:
            self.buffer = np.concatenate([self.buffer, self._next_block()])
        taken, self.buffer = self.buffer[: count + 1], self.buffer[count:]
        return taken

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
