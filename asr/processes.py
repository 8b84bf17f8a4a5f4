"""Worker processes: each makes something once, then applies it to one task after the other, until it is killed by one.

`concurrent.futures` ends all workers with the first that is killed, and does not tell by which task. Here the others go
on, and the task comes back.
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

_SIGKILL = 9  # which Windows has no name for

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerDied(AsrError):
    """A worker process was killed, or ended without a word; `how` says by what."""

    def __init__(self, who: str, how: str):
        super().__init__(who, how)  # all of it, or it could not be sent to another process
        self.how = how

    def __str__(self) -> str:
        return " ".join(self.args)


@dataclass(frozen=True)
class _Done(Generic[Result]):
    """What a worker says once it is ready (None), and after each task."""

    result: Result


@dataclass(kw_only=True)
class _Worker:
    """A process with our end of its pipe; the task that it has, and the call of `results` that it has it from."""

    process: SpawnProcess
    connection: Connection
    ready: bool = False
    busy: bool = False
    task: Any = None
    call: int = 0


class Workers(Generic[Task, Result]):
    """Processes that are ready for any number of tasks.

    They end with `close`, with this object, and with this process however it ends. Ctrl-C is left to this process.

    Args:
        make: called once in each process, with its number from 0 on, gives the function of a task; importable by its
            name or a `partial` of such a function, as all that goes to and fro must be picklable.
        processes: how many. The script that starts them needs its `if __name__ == "__main__"`.
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
        """Each task with its result, as they come; a task that its worker did not survive, with the worker's end.

        A new worker takes the place of one that has died. Results that an earlier call did not wait for are dropped.
        Warnings of the workers are warnings here.

        Raises:
            WorkerDied: a worker died before it came to a task.
            AsrError, OSError: what `make` or its function raised.
            RuntimeError: they failed by a fault of the program, whose traceback is the message.
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
            busy = {worker.connection: worker for worker in self._workers if worker.busy}
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker = busy[connection]
                answer = _answer(worker)
                if answer is not None and worker.call == call:
                    yield worker.task, answer

    def _send(self, number: int, task: Task, call: int) -> None:
        """Gives a worker a task; a new worker, if that one has died."""
        if not self._workers[number].process.is_alive():
            _end(self._workers[number : number + 1])
            self._workers[number] = self._start(number)
        worker = self._workers[number]
        worker.busy, worker.task, worker.call = True, task, call
        with suppress(ConnectionError):  # it has just died, and will not answer
            worker.connection.send(task)

    def _start(self, number: int) -> _Worker:
        spawn = get_context("spawn")
        ours, theirs = spawn.Pipe()
        name = f"worker {number + 1}"
        process = spawn.Process(target=_work, args=(self._make, number, theirs), name=name, daemon=True)
        with theirs, interrupts_ignored():
            process.start()
        return _Worker(process=process, connection=ours)


def in_order(results: Iterable[tuple[int, Result]]) -> Iterator[Result]:
    """The results of tasks 0, 1, 2 ... in this order, however they come."""
    early: dict[int, Result] = {}
    following = 0
    for number, result in results:
        early[number] = result
        while following in early:
            yield early.pop(following)
            following += 1


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Processes started inside do not notice Ctrl-C: a terminal sends it to all, but only the first is to act on it."""
    if current_thread() is not main_thread():  # which alone may say so
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def how_ended(process: SpawnProcess) -> str:
    """What became of a process that did not end well, without its name."""
    process.join()
    code = process.exitcode or 0
    if code >= 0:
        return f"ended with status {code}"
    return f"was killed by {signal.Signals(-code).name}" + (
        " (by the system, if memory ran out)" if code == -_SIGKILL else ""
    )


def _answer(worker: _Worker) -> Any:
    """What a worker has to say: a result, or its end; None if that is nothing for others, or has been seen to."""
    try:
        message = worker.connection.recv()
    except (EOFError, ConnectionError):
        worker.busy = False
        death = WorkerDied(worker.process.name, how_ended(worker.process))
        if not worker.ready:
            raise death from None
        return death
    if isinstance(message, Warning):
        warnings.warn(message, stacklevel=4)
    elif isinstance(message, Exception):
        raise message
    elif not worker.ready:
        worker.ready = True
    else:
        worker.busy = False
        return message.result
    return None


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.kill()
        worker.process.join()
        worker.connection.close()


def _work(make: Callable[[int], Callable[[Any], Any]], number: int, connection: Connection) -> None:
    """What a worker does until nobody is left to do it for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lock = Lock()  # warnings come from threads too

    def tell(message: object) -> None:
        with lock:
            connection.send(message)

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        tell(message if isinstance(message, Warning) else category(message))

    warnings.simplefilter("always")  # they are filtered where they are shown
    warnings.showwarning = show  # type: ignore[assignment]
    with suppress(EOFError, ConnectionError):
        try:
            function = make(number)
            tell(_Done(None))
            while True:
                tell(_Done(function(connection.recv())))
        except (EOFError, ConnectionError):
            raise
        except (AsrError, OSError) as error:
            tell(error)
        except Exception:
            tell(RuntimeError(f"worker {number + 1} failed\n{traceback.format_exc()}"))
