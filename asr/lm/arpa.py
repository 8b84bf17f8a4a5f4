"""ARPA files, the text form of n-gram models: read into tables, and written from them.

    \\data\\
    ngram 1=4
    ngram 2=2

    \\1-grams:
    -1.2    <unk>
    -99     <s>     -0.3
    ...
    \\2-grams:
    -0.5    <s> hello
    ...
    \\end\\

Each line holds the base-10 logarithm of a probability, the words, and optionally the logarithm of the back-off weight.
"""

from __future__ import annotations

import codecs
import gzip
import lzma
import math
import os
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from io import BufferedReader
from itertools import pairwise, repeat
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

import numpy as np

from asr.ctc.ngram_tables import NgramTables
from asr.errors import AsrWarning, DataError
from asr.files.reading import open_regular
from asr.files.writing import replacing
from asr.lm.tables import Level, assemble, level_bounds

UNKNOWN: Final = "<unk>"
START: Final = "<s>"
END: Final = "</s>"
LN_10: Final = math.log(10)
FLOOR: Final = -100.0
"""log10 of the probability of unknown words in a model without <unk>, as in KenLM."""
ZERO: Final = -99.0
"""log10 of a probability of 0 in SRILM's files, mostly of <s>, which is never predicted; other tools write -inf."""

MOST_UNPACKED = 50
"""The most bytes for each byte of a compressed file: models have three to ten, decompression bombs a thousand."""
MOST_WORDS = 100
"""The longest n-grams."""

_READ_BYTES = 1 << 23
_LINE_BYTES = 1 << 20
_PREAMBLE_LINES = 100_000
_WRITE_LINES = 1 << 16
_HEADER = re.compile(rb"\n(\\[^\n]*)")
_PROMISE = re.compile(rb"ngram\s+(\d{1,9})\s*=\s*(\d{1,15})")
_IS_SPACE = np.zeros(256, bool)
_IS_SPACE[[9, 10, 11, 12, 13, 32]] = True  # as bytes.split has it


def read_arpa(path: str | os.PathLike[str]) -> tuple[tuple[str, ...], NgramTables]:
    """The words of a model, by number, and its tables.

    Lines may end with CRLF, columns be separated by tabs or spaces, n-grams be in any order, and text precede \\data\\.
    A missing back-off is 0, a probability of -inf is `ZERO`. A missing <unk> (also spelled <UNK>) gets `FLOOR`. Without
    <s>, sentences begin without context; without </s>, they end with <unk>, with an `AsrWarning`.

    Args:
        path: an ARPA file of any order in UTF-8: plain, or compressed by gzip or xz (recognised by its first bytes).
    Returns:
        (words, tables): <unk> first, the others in the order of the file.
    Raises:
        DataError: the file is missing, damaged, truncated or no ARPA file, or has more or fewer n-grams than its header
            says; or, with its line, an n-gram has too many or too few words, a word that is not UTF-8 or no 1-gram, a
            context that is not listed, occurs twice, or its numbers are not finite or its probability is above 1.
    """
    try:
        with open_regular(path) as file:
            return _Reader(path).read(*_unpacked(file))
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"the language model is damaged or truncated: {error}", path=path) from None
    except OSError as error:
        raise DataError(f"the language model cannot be read: {error.strerror or error}", path=path) from None


def write_arpa(path: str | os.PathLike[str], words: Sequence[str], tables: NgramTables) -> None:
    """Write a model as an ARPA file, completely or not at all; compressed if the name ends with .gz or .xz.

    N-grams are sorted by the numbers of their words; the same model always gives the same bytes. Logarithms have seven
    digits. A model that was read without <unk> is written with <unk> at `FLOOR`.
    """
    suffix = Path(path).suffix
    with replacing(path) as file:
        if suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                _write(cast(IO[bytes], packed), words, tables)
        elif suffix == ".xz":
            with lzma.open(file, "wb") as packed:
                _write(cast(IO[bytes], packed), words, tables)
        else:
            _write(file, words, tables)


def _write(file: IO[bytes], words: Sequence[str], tables: NgramTables) -> None:
    names = np.array([word.encode() for word in words], dtype=object)
    bounds = level_bounds(tables)
    contexts = np.repeat(np.arange(len(tables.back_offs)), np.diff(tables.first_children))  # of node 1, 2, ...
    promises = "".join(
        f"ngram {order}={stop - start}\n" for order, (start, stop) in enumerate(pairwise(bounds), start=1)
    )
    file.write(b"\\data\\\n" + promises.encode())
    for order in range(1, len(bounds)):
        file.write(b"\n\\%d-grams:\n" % order)
        for start in range(bounds[order - 1], bounds[order], _WRITE_LINES):
            nodes = np.arange(start, min(start + _WRITE_LINES, bounds[order]))
            columns = [(tables.log_probs[nodes].astype(float) / LN_10).tolist()]
            ancestors = nodes
            for _ in range(order):
                columns.insert(1, names[tables.words[ancestors]].tolist())
                ancestors = contexts[ancestors - 1]
            line = b"%.7g\t" + b" ".join([b"%b"] * order) + b"\n"
            if order < len(bounds) - 1:
                columns.append((tables.back_offs[nodes].astype(float) / LN_10 + 0.0).tolist())  # + 0.0 makes 0 of -0
                line = line[:-1] + b"\t%.7g\n"
            file.write(b"".join(map(line.__mod__, zip(*columns, strict=True))))
    file.write(b"\n\\end\\\n")


def _unpacked(file: IO[bytes]) -> tuple[IO[bytes], int | None]:
    """The uncompressed content of the file, and the most bytes that it may have, None for no limit."""
    magic = cast(BufferedReader, file).peek(6)[:6]
    if magic.startswith(b"\x1f\x8b"):
        unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=file))
    elif magic == b"\xfd7zXZ\0":
        unpacked = cast(IO[bytes], lzma.LZMAFile(file))  # noqa: SIM115
    else:
        return file, None
    return unpacked, MOST_UNPACKED * os.fstat(file.fileno()).st_size + _READ_BYTES if file.seekable() else None


class _Rows(NamedTuple):
    """N-grams of one length, in the order of the file."""

    words: np.ndarray  # (n, order) int32
    log_probs: np.ndarray  # (n,) float64, natural
    back_offs: np.ndarray
    lines: np.ndarray  # (n,) int64


class _Reader:
    """Reads one ARPA file into tables, section by section."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path
        self.promises: list[tuple[int, int]] = []  # (number of n-grams, its line) of each order in the header
        self.names: list[str] = [UNKNOWN]
        self.numbers: dict[bytes, int] = {}
        self.levels: list[Level] = []
        # node = 1 + index; the key of a node is context * number of words + word, so that keys of all nodes ascend
        self.keys = np.zeros(0, np.int64)
        self.suffixes = np.zeros(0, np.int64)

    def read(self, file: IO[bytes], limit: int | None) -> tuple[tuple[str, ...], NgramTables]:
        """The model in a file of at most `limit` bytes."""
        order = -1  # before \data\
        rows: list[_Rows] = []
        for line, piece in self._pieces(file, limit):
            if piece.startswith(b"\n"):
                if order == 0:
                    self._read_promises(line, piece)
                elif order > 0:
                    rows.append(self._read_rows(line, piece, order))
                    self._check_count(order, sum(len(part.lines) for part in rows), more=True)
                elif line > _PREAMBLE_LINES:
                    raise self._error(f"a line \\data\\ must come within the first {_PREAMBLE_LINES} lines")
                continue
            header = piece.rstrip()
            if order < 0:
                order = 0 if header == b"\\data\\" else -1
                continue
            if order:
                self._finish(order, rows)
            rows, order = [], order + 1
            if header == b"\\end\\" and order == len(self.promises) + 1:
                return self._assemble()
            if order > len(self.promises) or header != b"\\%d-grams:" % order:
                expected = f"\\{order}-grams:" if order <= len(self.promises) else "\\end\\"
                raise self._error(f"{expected} must come next, but the line is {_show(header)}", line)
        if order < 0:
            raise self._error(
                "an ARPA file must have a line \\data\\, but this file has none; instead of "
                "a binary model of KenLM, give the ARPA file from which it was made"
            )
        raise self._error("the language model is truncated: it ends without \\end\\")

    def _pieces(self, file: IO[bytes], limit: int | None) -> Iterator[tuple[int, bytes]]:
        """(line number, text): lines that start with a backslash; and the text between them, which starts with \\n."""
        line, rest = 1, file.read(_READ_BYTES).removeprefix(codecs.BOM_UTF8)
        size = len(rest)
        while rest:
            block = file.read(_READ_BYTES)
            size += len(block)
            if limit is not None and size > limit:
                raise self._error(
                    f"an ARPA file must decompress to at most {MOST_UNPACKED} times its size, but this one is larger; "
                    "decompress it yourself if you trust it"
                )
            cut = rest.rfind(b"\n") if block else len(rest)
            if cut >= 0:
                for piece in _HEADER.split(b"\n" + rest[:cut]):
                    if piece:
                        yield line, piece
                        line += piece.count(b"\n") or 1
            elif len(rest) > _LINE_BYTES:
                raise self._error(f"a line must have at most {_LINE_BYTES} bytes, but this one has more", line)
            rest = rest[cut + 1 :] + block

    def _error(self, message: str, line: int | None = None) -> DataError:
        return DataError(message, path=self.path, line=line)

    def _read_promises(self, line: int, piece: bytes) -> None:
        for number, text in enumerate(piece.split(b"\n")[1:], start=line):
            if not (text := text.strip()):
                continue
            promise = _PROMISE.fullmatch(text)
            if not promise or int(promise[1]) != len(self.promises) + 1:
                expected = f"ngram {len(self.promises) + 1}=COUNT"
                raise self._error(f"{expected} must come next, but the line is {_show(text)}", number)
            count = int(promise[2])
            if self.promises and count > (contexts := self.promises[-1][0] + 1) * (words := self.promises[0][0] + 1):
                raise self._error(
                    f"the header declares {count} n-grams of {len(self.promises) + 1}, more than {contexts} shorter "
                    f"ones and {words} words can make",
                    number,
                )
            if len(self.promises) == MOST_WORDS:
                raise self._error(f"n-grams must have at most {MOST_WORDS} words, but the file has longer ones", number)
            self.promises.append((count, number))

    def _read_rows(self, line: int, piece: bytes, order: int) -> _Rows:
        is_space = _IS_SPACE[np.frombuffer(piece, np.uint8)]
        line_starts = np.flatnonzero(np.frombuffer(piece, np.uint8) == 10)
        token_starts = 1 + np.flatnonzero(is_space[:-1] & ~is_space[1:])
        widths = np.diff(np.searchsorted(token_starts, line_starts), append=len(token_starts))
        lines = line + np.flatnonzero(widths)
        widths = widths[widths > 0]
        self._check(
            (widths == order + 1) | (widths == order + 2),
            lines,
            lambda i: (
                f"an n-gram of {order} needs {order + 1} columns, or {order + 2} with its back-off, "
                f"but this line has {widths[i]}"
            ),
        )
        tokens = piece.split()
        width = order + 1
        if (with_back_off := widths > width).any():
            width += 1
            if not with_back_off.all():
                ends = np.cumsum(widths)[~with_back_off]
                tokens = np.insert(np.array(tokens, dtype=object), ends, b"0").tolist()
        log_probs = self._numbers(tokens[::width], lines, minus_infinity=ZERO)
        self._check(log_probs <= 0, lines, lambda i: f"log10 of a probability must be 0 or less, not {log_probs[i]:g}")
        columns = [tokens[i::width] for i in range(1, order + 1)]
        return _Rows(
            self._number_words(columns, lines),
            log_probs * LN_10,
            self._numbers(tokens[order + 1 :: width], lines) * LN_10 if width > order + 1 else np.zeros(len(lines)),
            lines,
        )

    def _check(self, fine, lines, message) -> None:
        """Raise a DataError with the `message` of the first invalid row."""
        if not fine.all():
            first = int(np.argmin(fine))
            raise self._error(message(first), int(lines[first]))

    def _numbers(self, tokens: list[bytes], lines: np.ndarray, *, minus_infinity: float = -math.inf) -> np.ndarray:
        try:
            numbers = np.array(list(map(float, tokens)))
        except ValueError:
            numbers = np.array([_float_or_nan(token) for token in tokens])
        numbers[numbers == -np.inf] = minus_infinity
        with np.errstate(over="ignore"):
            finite = np.isfinite((numbers * LN_10).astype(np.float32))  # as they are stored
        self._check(finite, lines, lambda i: f"a number must be finite; got {_show(tokens[i])}")
        return numbers

    def _number_words(self, columns: list[list[bytes]], lines: np.ndarray) -> np.ndarray:
        if len(columns) == 1:
            for row, token in enumerate(columns[0]):
                self._add_word(token, int(lines[row]))
        numbers = np.empty((len(lines), len(columns)), np.int32)
        for i, column in enumerate(columns):
            numbers[:, i] = np.fromiter(map(self.numbers.get, column, repeat(-1)), np.int32, len(column))
            self._check(
                numbers[:, i] >= 0,
                lines,
                lambda row, column=column: f"words must be listed among the 1-grams, but {_show(column[row])} is not",
            )
        return numbers

    def _add_word(self, token: bytes, line: int) -> None:
        try:
            name = token.decode()
        except UnicodeDecodeError:
            raise self._error(f"words must be UTF-8, and {token!r} is not; convert the file", line) from None
        if token in self.numbers:
            raise self._error(f"each n-gram may occur once, but {name!r} occurred before", line)
        if name in (UNKNOWN, "<UNK>"):
            self.numbers.update({b"<unk>": 0, b"<UNK>": 0})
        else:
            self.numbers[token] = len(self.names)
            self.names.append(name)

    def _finish(self, order: int, parts: list[_Rows]) -> None:
        """Sort the n-grams of one length into the trie."""
        empty = _Rows(np.zeros((0, order), np.int32), np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
        rows = _Rows(*map(np.concatenate, zip(empty, *parts, strict=True)))
        self._check_count(order, len(rows.lines))
        if order == 1 and b"<unk>" not in self.numbers:
            floor = _Rows(np.zeros((1, 1), np.int32), np.array([FLOOR * LN_10]), np.zeros(1), np.zeros(1, np.int64))
            rows = _Rows(*map(np.concatenate, zip(floor, rows, strict=True)))
        words = rows.words[:, -1].astype(np.int64)
        contexts = self._contexts(rows)
        keys = contexts * len(self.names) + words
        ranks = np.argsort(keys, kind="stable")
        keys = keys[ranks]
        self._check(
            np.append(True, keys[1:] != keys[:-1]),
            rows.lines[ranks],
            lambda i: (
                f"each n-gram may occur once, but {self._show(rows.words[ranks[i]])} occurred before "
                f"in line {rows.lines[ranks[i - 1]]}"
            ),
        )
        contexts, words = contexts[ranks], words[ranks]
        suffixes = self._suffixes(contexts, words) if order > 1 else np.zeros_like(contexts)
        self.levels.append(Level(contexts, words, suffixes, rows.log_probs[ranks], rows.back_offs[ranks]))
        self.keys = np.append(self.keys, keys)
        self.suffixes = np.append(self.suffixes, suffixes)

    def _check_count(self, order: int, count: int, *, more: bool = False) -> None:
        """Raise a DataError unless there are as many n-grams as declared; if `more` follow, only for too many."""
        promised, line = self.promises[order - 1]
        if count > promised or (count < promised and not more):
            message = f"the header declares {promised} n-grams of {order}, but the file has {count}{' or more' * more}"
            raise self._error(message + "; it is damaged, or was edited without correcting the count", line)

    def _contexts(self, rows: _Rows) -> np.ndarray:
        """(n,) int64, the nodes of all words but the last."""
        order = rows.words.shape[1]
        nodes = np.zeros(len(rows.lines), np.int64) if order == 1 else 1 + rows.words[:, 0].astype(np.int64)
        for i in range(1, order - 1):
            nodes = self._find(nodes, rows.words[:, i])
            self._check(
                nodes > 0,
                rows.lines,
                lambda row, end=i + 1: (
                    f"{self._show(rows.words[row])} needs {self._show(rows.words[row, :end])} "
                    f"among the {end}-grams, but it is missing"
                ),
            )
        return nodes

    def _suffixes(self, contexts: np.ndarray, words: np.ndarray) -> np.ndarray:
        """(n,) int64, the nodes of the longest proper suffixes of context and word that are in the trie."""
        shorter = self.suffixes[contexts - 1]
        nodes = self._find(shorter, words)
        while (missing := np.flatnonzero(nodes == 0)).size:
            shorter[missing] = self.suffixes[shorter[missing] - 1]
            nodes[missing] = self._find(shorter[missing], words[missing])
        return nodes

    def _find(self, contexts: np.ndarray, words: np.ndarray) -> np.ndarray:
        """(n,) int64, the nodes of words after contexts, 0 where there is none."""
        keys = contexts * len(self.names) + words
        indices = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[indices] == keys, 1 + indices, 0)

    def _assemble(self) -> tuple[tuple[str, ...], NgramTables]:
        if len(self.names) == 1:
            raise self._error("a language model must have words, but this one has none")
        if (end_word := self.numbers.get(END.encode(), 0)) == 0:
            warnings.warn(
                AsrWarning(f"{os.fspath(self.path)}: has no {END}; ends of sentences are scored as {UNKNOWN}"),
                stacklevel=2,
            )
        tables = assemble(self.levels, start_word=self.numbers.get(START.encode(), -1), end_word=end_word)
        return tuple(self.names), tables

    def _show(self, words: np.ndarray) -> str:
        return repr(" ".join(self.names[word] for word in words))


def _float_or_nan(token: bytes) -> float:
    try:
        return float(token)
    except ValueError:
        return math.nan


def _show(text: bytes) -> str:
    return repr(text[:60].decode(errors="backslashreplace"))
