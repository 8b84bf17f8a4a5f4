"""Tables that people keep their texts in: CSV, TSV, and JSON with an object a line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from asr.errors import DataError
from asr.files.reading import parse_json

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".json"})

Row: TypeAlias = tuple[int, dict[str, Any] | DataError]


def table_rows(text: str, path: Path) -> Iterator[Row]:
    """The rows of a table: each with the line that it begins on, and its values by column or what is wrong with it.

    A .csv may have commas, semicolons, bars or tabs; of a .tsv, a field is quoted only if it is so from end to end and
    every quote inside is doubled, since most writers of those do not quote at all. JSON is an object a line, or, in a
    .json, one array, whose entries are then counted.

    Args:
        text: of the table, without a byte-order mark.
        path: its suffix says what it is, and messages name it.
    Raises:
        DataError: when the iterator comes to it: the table cannot be read on.
    """
    return _delimited_rows(text, path) if path.suffix.lower() in (".csv", ".tsv") else _json_rows(text, path)


def _delimited_rows(text: str, path: Path) -> Iterator[Row]:
    """The rows below the header of a CSV or TSV."""
    if path.suffix.lower() == ".tsv":
        lines = ((number, line.split("\t")) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1))
        records: Iterable[tuple[int, list[str] | DataError]] = (
            (number, list(map(_unquoted, fields))) for number, fields in lines if any(fields)
        )
    else:
        header = text.partition("\n")[0]
        delimiter = max(",;|\t", key=header.count)
        records = _csv_records(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), path)
    columns: list[str] | None = None
    for line, fields in records:
        if isinstance(fields, DataError):
            yield line, fields
        elif columns is None:
            columns = [field.strip() for field in fields]
            if len(set(columns)) < len(columns):
                raise DataError(f"columns must have different names, got {', '.join(columns)}", path=path, line=line)
        elif len(fields) != len(columns):
            message = f"must have {len(columns)} fields as the header has, got {len(fields)}: {fields[0][:40]!r} ..."
            yield line, DataError(message, path=path, line=line)
        else:
            yield line, dict(zip(columns, fields, strict=True))


def _csv_records(reader: Any, path: Path) -> Iterator[tuple[int, list[str] | DataError]]:
    line = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, DataError(f"this CSV cannot be read on: {error}", path=path, line=line)
            return
        if fields:
            yield line, fields
        line = reader.line_num + 1


def _unquoted(field: str) -> str:
    inner = field[1:-1]
    quoted = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else field


def _json_rows(text: str, path: Path) -> Iterator[Row]:
    """The objects of a file that has one a line, or, as a .json may be, of one array."""
    if path.suffix.lower() == ".json" and text.lstrip().startswith("["):
        try:
            rows = parse_json(text)
        except ValueError as error:
            raise DataError(f"must be JSON: {error}", path=path) from error
        numbered = list(enumerate(rows, start=1))  # entries, where lines mean nothing
    else:
        numbered = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    for number, row in numbered:
        try:
            row = parse_json(row) if isinstance(row, str) else row
        except ValueError as error:
            yield number, DataError(f"each line must be a JSON object: {error}", path=path, line=number)
            continue
        if not isinstance(row, dict):
            yield number, DataError(f"must be a JSON object, got {str(row)[:40]!r}", path=path, line=number)
        elif {"type", "supervisions"} <= row.keys():
            raise DataError("is a manifest of Lhotse already, which training reads as it is", path=path, line=number)
        else:
            yield number, row
