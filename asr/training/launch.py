"""Start several processes on this machine for one training, receive their messages, and end them.

torchrun does the same, restarts killed processes, and spans machines. `launch` needs no command of its own, passes on
notes, warnings and errors, and saves a checkpoint on Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, RLock, Thread
from typing import Any

import torch
from tqdm import tqdm

from asr.errors import ConfigError
from asr.processes import Child, WorkerDied, send_warnings, start
from asr.training.distributed import MEETING, PeerLost, stop_signals

GRACE_SECONDS = 5.0  # for the messages of the others, after one has failed


def launch(
    function: Callable[..., Any], *args: Any, processes: int, note: Callable[[str], None], **options: Any
) -> None:
    """Call `function(*args, note=..., **options)` in new processes that can join one group, and wait for them.

    Each process has its share of `torch.get_num_threads()`. Notes, warnings and errors arrive in this process. SIGINT
    and SIGTERM are passed on as one SIGTERM; a second SIGINT ends the processes at once.

    Args:
        function: importable by its name, as are the classes of its arguments.
        processes: their number.
        note: called in this process with each note.
    Raises:
        ConfigError: this process is itself one of several.
        WorkerDied: a process was killed; the message names it.
        KeyboardInterrupt: the processes were stopped before they could save a checkpoint.
        RuntimeError: a process failed by a fault of the program; the message is the traceback.
        AsrError, OSError: what a process raised.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ConfigError(f"this is one of several processes already, so it must not start {processes} more")
    children: list[Child] = []
    with TemporaryDirectory() as meeting, stop_signals() as stop:
        store, threads = (Path(meeting) / "store").as_uri(), max(1, torch.get_num_threads() // processes)
        try:
            for number in range(processes):
                group = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": processes, MEETING: store}
                call = partial(function, *args, **options)
                children.append(start(_work, group, threads, call, name=f"process {number + 1} of {processes}"))
            failures = _attend(children, note, stop)
        finally:
            for child in children:
                child.kill()
    if failures:
        raise next((failure for failure in failures if not isinstance(failure, PeerLost)), failures[0])


def _attend(children: list[Child], note: Callable[[str], None], stop: Callable[[], bool]) -> list[BaseException]:
    """Receive messages until all processes have ended, or `GRACE_SECONDS` after one has failed; returns the
    failures."""
    running = {child.connection: child for child in children}
    failures: list[BaseException] = []
    stopping, deadline = False, float("inf")
    while running and time.monotonic() < deadline:
        for connection in wait(list(running), timeout=0.2):
            child = running[connection]  # type: ignore[index]
            message = None
            try:
                message = child.receive()
            except EOFError:
                del running[child.connection]
                child.process.join()
                if child.process.exitcode:
                    how = f"{child.death().how}; the same command resumes from the last checkpoint"
                    failures.append(KeyboardInterrupt() if stopping else WorkerDied(child.process.name, how))
                continue
            except Exception as error:
                failures.append(error)
            if message is not None:
                note(message)
            with suppress(ConnectionError):
                child.connection.send(None)  # see `_work`
        if stop() and not stopping:
            stopping = True
            for child in running.values():
                child.process.terminate()
        if failures:
            deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
    return failures


def _work(
    send: Callable[[object], None],
    receive: Callable[[], Any],
    group: dict[str, object],
    threads: int,
    call: Callable[..., Any],
) -> None:
    """Make the call in a new process, whose place in the group is in the environment."""
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update({name: str(value) for name, value in group.items()})
    if loopback := {"linux": "lo", "darwin": "lo0"}.get(sys.platform):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)  # no other machine can connect
    torch.set_num_threads(threads)
    tqdm.set_lock(RLock())  # the default lock is shared between processes; a killed process causes a warning
    lock = Lock()

    def send_and_wait(message: object) -> None:
        """Send a note or warning; take progress bars off the terminal until it is written."""
        with lock, tqdm.external_write_mode(file=sys.stderr):
            send(message)
            receive()

    send_warnings(send_and_wait)
    call(note=send_and_wait)


def _end_with_parent() -> None:
    """Stop this process with a checkpoint when the process that started it is gone."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
