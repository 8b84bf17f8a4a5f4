"""Several processes on this machine for one training: started, attended to and ended by the one that asked for them.

torchrun does the same, restarts what was killed, and spans machines; this one needs no command of its own, and speaks
in sentences.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, RLock, Thread
from typing import Any

import torch
from tqdm import tqdm

from asr.errors import AsrError, ConfigError
from asr.processes import how_ended, interrupts_ignored
from asr.training.distributed import MEETING, PeerLost
from asr.training.loop import stop_signals

GRACE_SECONDS = 5.0  # for the others to say what they have to say, once one has failed


class ProcessDied(AsrError):
    """A process of the training was killed, or ended without a word."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a process is started for: its place among the others, and the call that it makes."""

    number: int
    processes: int
    meeting: str
    threads: int
    function: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any]


def launch(
    function: Callable[..., Any], *args: Any, processes: int, note: Callable[[str], None], **options: Any
) -> None:
    """Calls `function(*args, note=..., **options)` in new processes that can join one group, and waits for them.

    Each has its part of `torch.get_num_threads()`. Their notes, warnings and errors come out here. SIGINT and SIGTERM
    are handed on as one SIGTERM; a second SIGINT ends them at once.

    Args:
        function: importable by its name, as are the classes of its arguments.
        processes: how many.
        note: called here with each note.
    Raises:
        ConfigError: this process is itself one of several.
        ProcessDied: one of them was killed; says which.
        KeyboardInterrupt: they were told to stop before they were ready to do so in good order.
        RuntimeError: one failed by a fault of the program, whose traceback is the message.
        AsrError, OSError: what one of them raised.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ConfigError(f"this is one of several processes already, so it must not start {processes} more")
    spawn = get_context("spawn")
    running: dict[Connection, SpawnProcess] = {}
    with TemporaryDirectory() as meeting, stop_signals() as stop:
        try:
            for number in range(processes):
                work = Work(
                    number=number,
                    processes=processes,
                    meeting=(Path(meeting) / "store").as_uri(),
                    threads=max(1, torch.get_num_threads() // processes),
                    function=function,
                    args=args,
                    options=options,
                )
                ours, theirs = spawn.Pipe()
                process = spawn.Process(target=_do, args=(work, theirs), name=f"process {number + 1} of {processes}")
                running[ours] = process
                with theirs, interrupts_ignored():
                    process.start()
            failures = _attend(dict(running), note, stop)
        finally:
            for process in running.values():
                if process.pid:
                    process.kill()
                    process.join()
    if failures:
        raise next((failure for failure in failures if not isinstance(failure, PeerLost)), failures[0])


def _attend(
    running: dict[Connection, SpawnProcess], note: Callable[[str], None], stop: Callable[[], bool]
) -> list[BaseException]:
    """Listens to the processes until all have ended, or some time after one has failed; what they failed of."""
    failures: list[BaseException] = []
    told, deadline = False, float("inf")
    while running and time.monotonic() < deadline:
        for connection in wait(running, timeout=0.2):
            assert isinstance(connection, Connection)
            try:
                message = connection.recv()
            except (EOFError, ConnectionError):
                process = running.pop(connection)
                process.join()
                if process.exitcode:
                    failures.append(KeyboardInterrupt() if told else _death(process))
                continue
            if isinstance(message, Warning):
                warnings.warn(message, stacklevel=4)
            elif isinstance(message, Exception):
                failures.append(message)
            else:
                note(message)
            with suppress(ConnectionError):
                connection.send(None)
        if stop() and not told:
            told = True
            for process in running.values():
                process.terminate()
        if failures:
            deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
    return failures


def _death(process: SpawnProcess) -> ProcessDied:
    """The sentence about a process that ended without one of its own."""
    return ProcessDied(f"{process.name} {how_ended(process)}; the same command goes on from the last checkpoint")


def _do(work: Work, connection: Connection) -> None:
    """Makes the call in a new process; says what is to be said through the connection."""
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(RANK=str(work.number), LOCAL_RANK=str(work.number), WORLD_SIZE=str(work.processes))
    os.environ[MEETING] = work.meeting
    if loopback := {"linux": "lo", "darwin": "lo0"}.get(sys.platform):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)  # nobody outside of this machine shall reach them
    torch.set_num_threads(work.threads)
    tqdm.set_lock(RLock())  # its own is one of all processes, of which a killed one leaves a warning behind
    lock = Lock()  # warnings come from threads too

    def tell(message: str | Exception) -> None:
        with lock, tqdm.external_write_mode(file=sys.stderr):
            connection.send(message)
            connection.recv()  # progress bars come back once it is written

    def show(message: Warning | str, *_: object, **__: object) -> None:
        tell(message)

    warnings.showwarning = show  # type: ignore[assignment]
    with suppress(EOFError, ConnectionError):  # nobody listens any more
        try:
            work.function(*work.args, note=tell, **work.options)
        except (AsrError, OSError) as error:
            tell(error)
        except Exception:
            tell(RuntimeError(f"process {work.number + 1} of {work.processes} failed\n{traceback.format_exc()}"))


def _end_with_parent() -> None:
    """Ends this process in good order once the one that started it is gone."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
