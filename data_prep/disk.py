"""Room on the disk, looked for before something large is written."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asr.errors import DataError


@contextmanager
def room(folder: Path, needed: int) -> Iterator[None]:
    """Refuse to write `needed` more bytes where they don't fit, before (if they are known) or when it turns out."""

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
