"""The log of a run: `log.jsonl`, and the same figures for TensorBoard."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from asr.errors import DataError
from asr.files.writing import write_whole

LOG_FILE = "log.jsonl"


class TrainingLog:
    """Appends records to `folder/log.jsonl` and to `folder/tensorboard`.

    A record has a kind ("step", "epoch", "note"), the optimiser steps done, and any figures. After a kill the log may
    be ahead of the checkpoint that the run resumes from: records after `step` are deleted, and written again.

    Args:
        folder: the run folder; made if missing.
        step: optimiser steps done by the checkpoint that the run resumes from; 0 starts a new log.
    Raises:
        DataError: the log is damaged before its last line.
    """

    def __init__(self, folder: Path, *, step: int = 0):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / LOG_FILE
        records = read_log(folder) if step and self.path.exists() else []
        done = (record for record in records if record["step"] <= step)
        write_whole(self.path, "".join(json.dumps(record) + "\n" for record in done))
        self._file = self.path.open("a", encoding="utf-8")
        self._board = _summary_writer(folder / "tensorboard", purge_step=step + 1)

    def write(self, kind: str, *, step: int, **figures: Any) -> None:
        """Append one record; numbers go to TensorBoard too, as `kind/name`. NaN and infinity become null in JSON."""
        lost = [name for name, value in figures.items() if isinstance(value, float) and not math.isfinite(value)]
        record = {**figures, **dict.fromkeys(lost)}
        self._file.write(json.dumps({"kind": kind, "step": step, **record}) + "\n")
        self._file.flush()
        for name, value in figures.items():
            if self._board is not None and isinstance(value, int | float):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """End the log."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The records of a run's log; a last line cut off by a kill is left out.

    Returns:
        The records in order; figures that were not finite are None.
    Raises:
        DataError: there is no log, or another line is not a record.
    """
    path = folder / LOG_FILE
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"the log cannot be read: {error.strerror}", path=path) from None
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            _ = record["kind"], record["step"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break
            raise DataError(f"not a record of the log: {line[:60]!r}", path=path, line=number) from None
        records.append(record)
    return records


def _summary_writer(folder: Path, *, purge_step: int) -> Any:
    """TensorBoard's writer, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=purge_step)
