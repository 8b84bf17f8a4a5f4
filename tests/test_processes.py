"""Worker processes: what they answer, and what is left of those that are killed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import active_children

import pytest

from asr.errors import AsrWarning, DataError
from asr.processes import WorkerDied, Workers, in_order, interrupts_ignored


def make(offset: int, number: int) -> Callable[[object], object]:
    """A function that adds to numbers, and does with words what they say."""
    return partial(do, offset, number)


def do(offset: int, number: int, task: object) -> object:
    if isinstance(task, int):
        return offset + task
    match task:
        case "number":
            time.sleep(0.3)  # so that the other worker has the next one
            return number
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "warn":
            warnings.warn(AsrWarning("take care"), stacklevel=1)
        case "data":
            raise DataError("no good", path="a.wav")
        case "fault":
            raise ZeroDivisionError
        case "slow":
            time.sleep(1.0)
    return task


def make_nothing(how: str, number: int) -> Callable[[object], object]:
    do(0, number, how)
    raise AssertionError


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(partial(make, 100), processes=2) as workers:
        yield workers


def test_each_task_has_its_result(workers):
    assert sorted(workers.results(range(50))) == [(number, 100 + number) for number in range(50)]
    assert list(workers.results([])) == []


def test_they_work_side_by_side(workers):
    start = time.monotonic()
    assert sorted(result for _, result in workers.results(["number"] * 2)) == [0, 1]
    assert time.monotonic() - start < 0.6


def test_a_task_that_kills_comes_back_with_how_and_the_others_go_on(workers):
    tasks = [1, "killed", 2, "exit", *range(3, 20)]
    found = dict(workers.results(tasks))
    assert found.keys() == set(tasks)
    assert found["killed"].how == "was killed by SIGKILL (by the system, if memory ran out)"
    assert found["exit"].how == "ended with status 3"
    assert str(found["exit"]).startswith("worker ")
    assert all(found[number] == 100 + number for number in range(1, 20))


def test_a_worker_that_was_killed_between_tasks_is_replaced(workers):
    for child in active_children():
        child.kill()
        child.join()
    assert dict(workers.results([1, 2])) == {1: 101, 2: 102}


def test_results_that_nobody_waited_for_are_dropped(workers):
    first = workers.results(["slow", 1, "slow", 2])
    next(first)
    first.close()
    assert sorted(workers.results([7, 8])) == [(7, 107), (8, 108)]


def test_tasks_are_taken_as_they_are_needed(workers):
    taken = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = workers.results(tasks())
    next(results)
    assert len(taken) <= 4
    results.close()


def test_warnings_are_those_of_this_process(workers):
    with pytest.warns(AsrWarning, match="take care"):
        assert list(workers.results(["warn"])) == [("warn", "warn")]


@pytest.mark.parametrize(
    ("task", "error", "message"),
    [
        ("data", DataError, "^a.wav: no good$"),
        ("fault", RuntimeError, "worker 1 failed\\nTraceback(.|\\n)*ZeroDivision"),
    ],
)
def test_errors_are_those_of_this_process(task, error, message):
    with Workers(partial(make, 0), processes=1) as workers, pytest.raises(error, match=message):
        list(workers.results([task]))


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("killed", WorkerDied, r"^worker 1 was killed by SIGKILL \(by the system, if memory ran out\)$"),
        ("data", DataError, "^a.wav: no good$"),
    ],
)
def test_workers_that_cannot_begin_are_not_started_again(how, error, message):
    with Workers(partial(make_nothing, how), processes=1) as workers, pytest.raises(error, match=message):
        list(workers.results([1, 2, 3]))


def test_the_end_of_a_worker_can_be_told_by_another_process():
    told = pickle.loads(pickle.dumps(WorkerDied("worker 1", "was killed by SIGKILL")))
    assert (str(told), told.how) == ("worker 1 was killed by SIGKILL", "was killed by SIGKILL")


def test_they_end_with_the_block_and_with_the_object():
    before = len(active_children())
    with Workers(partial(make, 0), processes=1):
        assert len(active_children()) == before + 1
    assert len(active_children()) == before
    unnamed = Workers(partial(make, 0), processes=1)
    del unnamed
    assert len(active_children()) == before


SCRIPT = """
import sys
from functools import partial
from multiprocessing import active_children
from asr.processes import Workers
from tests.test_processes import make
if __name__ == "__main__":
    workers = Workers(partial(make, 0), processes=2)
    dict(workers.results([1, 2, 3]))
    print(*(child.pid for child in active_children()), flush=True)
    list(workers.results(["slow"] * 1000))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_they_end_when_the_process_that_started_them_is_killed(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    deadline = time.monotonic() + 30
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in open(f"/proc/{pid}/status").read()
    except OSError:
        return False


def test_results_in_order_whatever_came_first():
    assert list(in_order(iter([(2, "c"), (0, "a"), (3, "d"), (1, "b")]))) == ["a", "b", "c", "d"]
    early = in_order(iter([(0, "a"), (1, "b"), (3, "d")]))
    assert [next(early), next(early)] == ["a", "b"]


def test_interrupts_are_ignored_only_inside():
    before = signal.getsignal(signal.SIGINT)
    with interrupts_ignored():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) == before
