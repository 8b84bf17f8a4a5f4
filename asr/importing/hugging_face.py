"""Read data sets of Hugging Face `datasets` on disk (`save_to_disk`, or Parquet files) with pyarrow only."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from asr.errors import ConfigError, DataError
from asr.files.reading import open_regular, parse_json
from asr.files.texts import read_text

Value = TypeVar("Value")


def is_dataset(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is a data set on disk, of one or more splits, or holds Parquet files."""
    folder = Path(folder)
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")) or bool(_parquet(folder))


def read_rows(folder: str | os.PathLike[str]) -> Iterator[tuple[Path, str, int, dict[str, Any] | DataError]]:
    """The rows of a data set: file, split ("" if it has none), number from 1 in the split, and values by column.

    A damaged row, or the rest of a damaged file, is replaced by an error. Audio is {"bytes": ..., "path": ...} as
    stored, not decoded. One batch of rows is in memory at a time.

    Raises:
        ConfigError: pyarrow is not installed.
        DataError: a file is missing or damaged.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ConfigError(f"{folder} is a Hugging Face data set, which needs pyarrow: pip install pyarrow") from error
    number = 0
    last_split = None
    for path, split in _files(Path(folder)):
        number, last_split = number if split == last_split else 0, split
        try:
            for batch in _batches(path):
                for row in range(batch.num_rows):
                    number += 1
                    yield path, split, number, _values(batch, row, path, number)
        except (OSError, pyarrow.ArrowException) as error:
            yield path, split, number + 1, DataError(f"must be a table that pyarrow reads: {error}", path=path)


def _values(batch: Any, row: int, path: Path, number: int) -> dict[str, Any] | DataError:
    try:
        return batch.slice(row, 1).to_pylist()[0]
    except (ValueError, OverflowError) as error:  # a string that is not UTF-8, a date out of range
        return DataError(f"the row cannot be read: {error}", path=path, line=number)


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files of a data set in order, each with its split."""
    if (folder / "dataset_dict.json").is_file():
        for split in _stored(folder / "dataset_dict.json", lambda values: list(map(str, values["splits"]))):
            for path, _ in _files(folder / split):
                yield path, split
    elif (folder / "state.json").is_file():
        state = folder / "state.json"
        split = _stored(state, lambda values: str(values["_split"] or ""))
        for name in _stored(state, lambda values: [str(file["filename"]) for file in values["_data_files"]]):
            if PurePosixPath(name).name != name or "\0" in name:
                raise DataError(f"must name files in its own folder, got {name!a:.60}", path=state)
            yield folder / name, split
    else:
        for path in _parquet(folder):
            yield path, path.name.split("-")[0].removesuffix(".parquet")  # train-00000-of-00005.parquet


def _parquet(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])


def _batches(path: Path) -> Iterator[Any]:
    with open_regular(path) as file:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            with pyarrow.parquet.ParquetFile(file) as table:
                yield from table.iter_batches(batch_size=64)
        else:
            import pyarrow

            with pyarrow.ipc.open_stream(file) as stream:
                yield from stream


def _stored(path: Path, get: Callable[[Any], Value]) -> Value:
    """A value that `get` takes from the JSON object in a file."""
    try:
        return get(parse_json(read_text(path)))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("must be a JSON object as `save_to_disk` writes it", path=path) from error


def sound_suffix(path: str | None, content: bytes) -> str:
    """The suffix of a sound in a data set, from its path or else from its first bytes."""
    suffix = PurePosixPath(path if isinstance(path, str) else "").suffix.lower()
    if re.fullmatch(r"\.\w{1,8}", suffix):
        return suffix
    return {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg"}.get(content[:4], ".mp3")
