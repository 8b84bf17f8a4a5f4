"""Read tables: CSV, TSV, and JSON with one object per line."""

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
    """The rows of a table: the first line of each, and its values by column or an error.

    The delimiter of a .csv is a comma, semicolon, bar or tab. Most writers of .tsv never quote, so a field of a .tsv is
    quoted only if it begins and ends with a quote and all quotes inside are doubled. JSON is one object per line; a
    .json may also be one array, and then entries are numbered instead of lines.

    Args:
        text: of the table, without a byte-order mark.
        path: its suffix is the format; also used in messages.
    Raises:
        DataError: during iteration: the rest of the table cannot be read.
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
            message = f"must have {len(columns)} fields like the header, got {len(fields)}: {fields[0][:40]!r} ..."
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
            yield line, DataError(f"the rest of this CSV cannot be read: {error}", path=path, line=line)
            return
        if fields:
            yield line, fields
        line = reader.line_num + 1


def _unquoted(field: str) -> str:
    inner = field[1:-1]
    quoted = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else field


def _json_rows(text: str, path: Path) -> Iterator[Row]:
    """The objects in a file: one per line, or in a .json the entries of one array."""
    if path.suffix.lower() == ".json" and text.lstrip().startswith("["):
        try:
            rows = parse_json(text)
        except ValueError as error:
            raise DataError(f"must be JSON: {error}", path=path) from error
        numbered = list(enumerate(rows, start=1))  # numbers of entries, not lines
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
            raise DataError("is already a Lhotse manifest, which training can read", path=path, line=number)
        else:
            yield number, row
