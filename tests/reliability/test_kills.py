"""A few kills of each kind; and that what they should find is found."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.reliability.kills import campaign

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded torch")


@pytest.mark.parametrize("what", ["training", "transcribing"])
def test_nothing_is_lost_by_a_few_kills(what: str, tone_run: tuple[Path, list[str]]) -> None:
    """At other moments each time."""
    command = [sys.executable, "-m", "tests.reliability.kills", "--what", what, "--kills", "3"]
    command += ["--seed", str(time.time_ns()), "--model", str(tone_run[0] / "model")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and f"{what}: 3 kills in " in done.stdout, (command, done.stdout, done.stderr)


class Careless:
    """Writes ten files; what is wrong with it is a name."""

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong

    def run(self, output: Path) -> int:
        output.mkdir(exist_ok=True)
        again = any(output.iterdir())
        half = output / f".{os.getpid()}.tmp"
        for left in output.glob(".*.tmp") if self.wrong != "stray" else ():
            left.unlink()
        for number in range(10):
            path = output / str(number)
            if not path.exists() or self.wrong == "again":
                half.write_text("other" if self.wrong == "other" and again else "text")
                time.sleep(0.01)
                half.replace(path)
        return int(self.wrong == "status" and again)

    def whole(self, output: Path) -> dict[str, object]:
        return {path.name: path.stat().st_mtime_ns for path in output.glob("[0-9]")}

    def result(self, output: Path) -> dict[str, object]:
        return {path.name: path.read_text() for path in output.glob("[0-9]")}

    def progress(self, output: Path) -> int:
        return len(self.whole(output))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("again", "what was whole was written again"),
        ("other", "the result is another one"),
        ("status", "it ends with status 1"),
        ("stray", "files that are left over: ['."),
        ("nothing", None),
    ],
)
def test_what_goes_wrong_is_found(wrong: str, message: str | None, tmp_path: Path) -> None:
    count = campaign(Careless(wrong), tmp_path, kills=3, rng=np.random.default_rng(0))
    assert count.kills == 3
    assert any(message in fault for fault in count.faults) if message else not count.faults
