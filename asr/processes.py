"""Start processes, receive their messages and end them; a pool of workers.

`start` runs a function in a new process. The calling process gets its messages, warnings and errors, and an error with
the reason if it dies. `Workers` and `asr.training.launch` are built on it.

`concurrent.futures` ends all workers when one is killed, and does not tell which task killed it. In `Workers` the other
processes continue, and the task is returned.
"""

from __future__ import annotations

import signal
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from threading import Lock, current_thread, main_thread
from typing import Any, Generic, TypeVar

from asr.errors import AsrError

_SIGKILL = 9  # Windows has no name for it

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerDied(AsrError):
    """A process was killed, or ended without an error message; `how` says how."""

    def __init__(self, who: str, how: str):
        super().__init__(who, how)  # all arguments: the error must be picklable
        self.how = how

    def __str__(self) -> str:
        return " ".join(self.args)


@dataclass(frozen=True)
class Child:
    """A started process, and our end of its pipe."""

    process: SpawnProcess
    connection: Connection

    def receive(self) -> Any:
        """The next message; None for a warning, which becomes a warning of this process.

        Raises:
            EOFError: the process has ended.
            AsrError, OSError: what the function in the process raised.
            RuntimeError: the function failed by a fault of the program; the message is the traceback.
        """
        try:
            message = self.connection.recv()
        except ConnectionError:
            raise EOFError from None
        if isinstance(message, Warning):
            warnings.warn(message, stacklevel=5)
            return None
        if isinstance(message, Exception):
            raise message
        return message

    def death(self) -> WorkerDied:
        """The error that says how the process ended."""
        self.process.join()
        code = self.process.exitcode or 0
        how = f"ended with status {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        return WorkerDied(self.process.name, how + " (by the system, if memory ran out)" * (code == -_SIGKILL))

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def start(function: Callable[..., None], *args: Any, name: str, daemon: bool = False) -> Child:
    """Start a process that calls `function(send, receive, *args)`. It ignores Ctrl-C, which is left to this process.

    Args:
        function: importable by its name; all arguments must be picklable. It can `send` messages and `receive` answers.
        name: of the process, for messages.
        daemon: end the process when this one ends; the process may then start no processes.
    """
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_run, args=(function, args, name, theirs), name=name, daemon=daemon)
    with theirs, interrupts_ignored():
        process.start()
    return Child(process, ours)


def _run(function: Callable[..., None], args: tuple[Any, ...], name: str, connection: Connection) -> None:
    """Call the function in a new process, and send the error that it raises."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lock = Lock()

    def send(message: object) -> None:
        with lock:  # warnings come from threads too
            connection.send(message)

    with suppress(EOFError, ConnectionError):  # the other end of the pipe is closed
        try:
            function(send, connection.recv, *args)
        except (AsrError, OSError) as error:
            send(error)
        except Exception:
            send(RuntimeError(f"{name} failed\n{traceback.format_exc()}"))


def send_warnings(send: Callable[[Warning], None]) -> None:
    """Send all further warnings of this process, instead of printing them."""

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        send(message if isinstance(message, Warning) else category(message))

    warnings.showwarning = show  # type: ignore[assignment]


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Make processes that are started in the block ignore Ctrl-C, which a terminal sends to all: only this one acts."""
    if current_thread() is not main_thread():  # Python sets signal handlers in the main thread only
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class _Done(Generic[Result]):
    """The message of a worker when it is ready (None), and after each task."""

    result: Result


@dataclass(kw_only=True)
class _Worker:
    """A process with its present task, and the number of the `results` call that the task belongs to."""

    child: Child
    ready: bool = False
    busy: bool = False
    task: Any = None
    call: int = 0


class Workers(Generic[Task, Result]):
    """Processes that are started once, for any number of tasks.

    They end with `close`, with this object, and with this process however it ends. They ignore Ctrl-C.

    Args:
        make: called once in each process, with its number from 0 on; returns the function that is applied to each task.
            It must be importable by its name, or a `partial` of such a function; all that is sent must be picklable.
        processes: their number. The script that starts them needs its `if __name__ == "__main__"`.
    """

    def __init__(self, make: Callable[[int], Callable[[Task], Result]], *, processes: int):
        self._make = make
        self._workers = [self._start(number) for number in range(processes)]
        self._calls = 0
        self.close = weakref.finalize(self, _end, self._workers)

    def __enter__(self) -> Workers[Task, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def results(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result | WorkerDied]]:
        """Each task with its result, in the order of completion; or with the death of its worker.

        A new worker replaces a dead one. Results that an earlier call did not wait for are dropped. Warnings of the
        workers become warnings of this process.

        Raises:
            WorkerDied: a worker died before its first task.
            AsrError, OSError: what `make` or its function raised.
            RuntimeError: `make` or its function failed by a fault of the program; the message is the traceback.
        """
        self._calls += 1
        call, waiting = self._calls, iter(tasks)
        more = True
        while True:
            for number, worker in enumerate(self._workers):
                if more and not worker.busy:
                    try:
                        task = next(waiting)
                    except StopIteration:
                        more = False
                        break
                    self._send(number, task, call)
            if not more and not any(worker.busy and worker.call == call for worker in self._workers):
                return
            busy = {worker.child.connection: worker for worker in self._workers if worker.busy}
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker = busy[connection]
                answer = _answer(worker)
                if answer is not None and worker.call == call:
                    yield worker.task, answer

    def _send(self, number: int, task: Task, call: int) -> None:
        """Give a worker a task; replace the worker if it is dead."""
        if not self._workers[number].child.process.is_alive():
            _end(self._workers[number : number + 1])
            self._workers[number] = self._start(number)
        worker = self._workers[number]
        worker.busy, worker.task, worker.call = True, task, call
        with suppress(ConnectionError):  # it has just died
            worker.child.connection.send(task)

    def _start(self, number: int) -> _Worker:
        return _Worker(child=start(_work, self._make, number, name=f"worker {number + 1}", daemon=True))


def in_order(results: Iterable[tuple[int, Result]]) -> Iterator[Result]:
    """The results of tasks 0, 1, 2 ... in this order, in whatever order they arrive."""
    early: dict[int, Result] = {}
    following = 0
    for number, result in results:
        early[number] = result
        while following in early:
            yield early.pop(following)
            following += 1


def _answer(worker: _Worker) -> Any:
    """The result or the death of a worker; None if its message is neither."""
    try:
        message = worker.child.receive()
    except EOFError:
        worker.busy = False
        if not worker.ready:
            raise worker.child.death() from None
        return worker.child.death()
    if message is None:
        return None
    if not worker.ready:
        worker.ready = True
        return None
    worker.busy = False
    return message.result


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.child.kill()


def _work(
    send: Callable[[object], None],
    receive: Callable[[], Any],
    make: Callable[[int], Callable[[Any], Any]],
    number: int,
) -> None:
    """Do tasks until the process that started this one is gone."""
    warnings.simplefilter("always")  # the other process filters them
    send_warnings(send)
    function = make(number)
    send(_Done(None))
    while True:
        send(_Done(function(receive())))
