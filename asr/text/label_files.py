"""Read the labels of a model from the files in which toolkits store them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from asr.errors import DataError
from asr.files.reading import parse_json, read_regular
from asr.files.texts import decode_text

MOST_BYTES = 1 << 26  # a hundred times the size of common vocabularies
_NUMBERED = re.compile(r"(.*)[ \t]([0-9]{1,18})[ \t]*", re.DOTALL)
_COLUMN_FIRST = re.compile(r"[0-9]{1,18}[ \t]+[^ \t].*")
_DISAMBIGUATION = re.compile("#[0-9]+")  # of a lexicon in k2 and icefall: no column of the model
_SILENT_TYPES = (2, 3, 5)  # of pieces in SentencePiece: unknown, control, unused


def read_labels(path: str | os.PathLike[str]) -> list[str]:
    """The labels of a file, in the order of their columns.

    - tokens.txt (k2, icefall, sherpa-onnx, WeNet): a label and its column in each line; without a label, a space
    - vocab.txt: a label in each line
    - vocab.json (Hugging Face): the column of each label; or a list of labels
    - tokenizer.json (Hugging Face tokenizers): its vocabulary and the added tokens
    - tokenizer.model, bpe.model (SentencePiece): its pieces

    Raises:
        DataError: the file cannot be read, is none of these, or does not have the columns 0, 1, ... each once.
    """
    try:
        content = read_regular(path, at_most=MOST_BYTES)
    except OSError as error:
        raise DataError(f"this file of labels cannot be read: {error.strerror}", path=path) from None
    name = os.fspath(path).lower()
    if name.endswith(".json"):
        return _in_json(content, path)
    if name.endswith(".model"):
        return _in_sentence_pieces(content, path)
    return _in_lines(decode_text(content, path), path)


def _in_lines(text: str, path: str | os.PathLike[str]) -> list[str]:
    lines = text.removesuffix("\n").split("\n")
    lines = [line.removesuffix("\r") for line in lines]
    written = {number: line for number, line in enumerate(lines, start=1) if line.strip()}
    numbered = {number: match for number, line in written.items() if (match := _NUMBERED.fullmatch(line))}
    if written and all(map(_COLUMN_FIRST.fullmatch, written.values())) and len(numbered) < len(written):
        raise DataError("a label must come before its column, as in 'a 1'; here the columns come first", path=path)
    if 2 * len(numbered) <= len(written):
        return lines
    for number, line in written.items():
        if number not in numbered:
            message = f"each line must be a label and its column, as most lines are; got {line!r:.80}"
            raise DataError(message, path=path, line=number)
    labels = [(match[1].strip(" \t") or " ", int(match[2])) for match in numbered.values()]
    while labels and _DISAMBIGUATION.fullmatch(labels[-1][0]):
        labels.pop()
    return _ordered(labels, path)


def _in_json(content: bytes, path: str | os.PathLike[str]) -> list[str]:
    try:
        value = parse_json(content)
    except ValueError as error:
        raise DataError(f"this file of labels must be JSON: {error}", path=path) from None
    added: list[tuple[Any, Any]] = []
    if isinstance(value, dict) and isinstance(value.get("model"), dict):
        tokens = value.get("added_tokens") or []
        if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
            raise DataError("added_tokens must be a list of objects with content and id", path=path)
        added = [(token.get("content"), token.get("id")) for token in tokens]
        if not all(isinstance(label, str) for label, _ in added):
            raise DataError("added_tokens must have a text each, their content", path=path)
        value = value["model"].get("vocab")
        if isinstance(value, list):  # of pairs: a piece and its score
            value = [pair[0] if isinstance(pair, list) and pair else pair for pair in value]
    if isinstance(value, dict):
        if value and all(isinstance(inner, dict) for inner in value.values()):
            raise DataError(
                f"this file must have one vocabulary, not one for each of {', '.join(list(value)[:5])} ...; give the "
                "dict of your language in place of the file",
                path=path,
            )
        return _ordered(list(dict([*value.items(), *added]).items()), path)
    if isinstance(value, list) and all(isinstance(label, str) for label in value):
        return _ordered(list(dict([*((label, number) for number, label in enumerate(value)), *added]).items()), path)
    raise DataError("this file must have a vocabulary: labels with their columns, or a list of labels", path=path)


def _ordered(labels: list[tuple[Any, Any]], path: str | os.PathLike[str]) -> list[str]:
    """The labels by their columns, which must be 0, 1, ... each once."""
    columns = [column for _, column in labels]
    if not all(isinstance(label, str) and type(column) is int for label, column in labels):
        raise DataError("each label must be a text with a whole number, its column", path=path)
    if fault := columns_fault(columns):
        raise DataError(f"labels {fault}", path=path)
    return [label for label, _ in sorted(labels, key=lambda pair: pair[1])]


def columns_fault(columns: Sequence[object]) -> str:
    """What is wrong with the columns of labels; empty if they are 0, 1, ... each once."""
    if all(type(column) is int for column in columns) and set(columns) == set(range(len(columns))):
        return ""
    shown = ", ".join(map(str, columns[:9]))
    if len(columns) > 9:
        whole = {column for column in columns if type(column) is int}
        shown += f", ... without {min(set(range(len(columns))) - whole)}"
    return f"must have the columns 0 .. {len(columns) - 1}, each once; got {shown}"


def _in_sentence_pieces(content: bytes, path: str | os.PathLike[str]) -> list[str]:
    """The pieces of a SentencePiece model; those that are never spoken in angle brackets.

    Source: `sentencepiece_model.proto`: field 1 of the model is a piece; of a piece, field 1 is its text, 3 its type.
    """
    labels = []
    try:
        for number, value in _fields(content):
            if number == 1:
                piece = dict(_fields(value))
                label = piece[1].decode()
                bracketed = label.startswith("<") and label.endswith(">")
                silent = piece.get(3, 1) in _SILENT_TYPES and not bracketed
                labels.append(f"<{label}>" if silent else label)
    except (IndexError, KeyError, ValueError, AttributeError, TypeError):
        raise DataError(
            "this file must be a model of SentencePiece; it is damaged, or another one", path=path
        ) from None
    if not labels:
        raise DataError("this file must be a model of SentencePiece; it has no pieces", path=path)
    return labels


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protocol buffer: bytes, or an integer."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number must have 64 bits at most")

    while position < len(content):
        key = varint()
        number, kind = key >> 3, key & 7
        if kind == 0:
            yield number, varint()
            continue
        length = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        if position + length > len(content):
            raise ValueError("the file ends within a field")
        yield number, content[position : position + length]
        position += length
