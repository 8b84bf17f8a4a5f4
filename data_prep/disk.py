"""Check the free space of the disk before writing large files."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asr.errors import DataError


@contextmanager
def room(folder: Path, needed: int) -> Iterator[None]:
    """Raise DataError if `needed` more bytes do not fit, before writing or when the disk is full."""

    def full() -> DataError:
        free = shutil.disk_usage(folder).free
        return DataError(f"the disk must have room for at least {needed} more bytes, {free} are free", path=folder)

    if needed > shutil.disk_usage(folder).free:
        raise full()
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise full() from error
