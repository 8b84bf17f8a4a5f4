"""SIGKILL at moments that nobody chose, again and again: what is complete in the end equals what nothing disturbed.

    python -m tests.reliability.kills --what training --kills 100 --seed 1
    python -m tests.reliability.kills --what transcribing --kills 100 --seed 1

A run is begun in a new folder, killed some times, each time begun again with the same command, and then left to end.
Processes are forked from this one, which has imported all that is slow, and computes nothing itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import torch
import torch._dynamo  # which the first optimizer imports, slowly

import asr.recognition.recognizer  # noqa: F401
from asr.cli.transcribe import main as transcribe
from asr.training import acoustic as training_run
from asr.training.acoustic import train_acoustic_model
from asr.training.log import read_log
from tests import tones

MOST_IN_A_RUN = 10
MOST_FAULTS = 20
NUM_RECORDINGS = 100


class Work(Protocol):
    """What is killed: a command that goes on where it was when it is called again."""

    def run(self, output: Path) -> int:
        """Does all of it, in a process of its own; the exit status."""

    def whole(self, output: Path) -> dict[str, object]:
        """What a part of it has left for good, and no later call may write again."""

    def result(self, output: Path) -> dict[str, object]:
        """What must be the same however often it was killed."""

    def progress(self, output: Path) -> int:
        """A number that grows with what is done: lines of a log, files."""


class Training:
    """A small model that is trained for some epochs, with a checkpoint every few steps."""

    def __init__(self, folder: Path) -> None:
        tones.make_corpus(folder)
        self._config = tones.make_config(folder, epochs=3, checkpoint_minutes=0.002)

    def run(self, output: Path) -> int:
        training_run.draw_curve = lambda _: None  # which would take longer than the training
        train_acoustic_model(self._config, output, device="cpu", note=lambda _: None)
        return 0

    def whole(self, output: Path) -> dict[str, object]:
        return {}  # checkpoints come and go

    def result(self, output: Path) -> dict[str, object]:
        timeless = [
            {name: value for name, value in record.items() if "second" not in name}
            for record in read_log(output)
            if record["kind"] in ("step", "epoch")
        ]
        return {"log": timeless, "weights": (output / "model" / "weights.safetensors").read_bytes()}

    def progress(self, output: Path) -> int:
        return (output / "log.jsonl").stat().st_size // 100 if (output / "log.jsonl").exists() else 0


class Transcribing:
    """A folder of short recordings, by a model that has learnt what they say, more or less."""

    def __init__(self, folder: Path, model: Path | None) -> None:
        self._model, self._sounds = model or folder / "run" / "model", folder / "sounds"
        self._sounds.mkdir()
        rng = np.random.default_rng(3)
        for number in range(NUM_RECORDINGS):
            text = "".join(rng.choice(list("ABC "), rng.integers(1, 6)))
            soundfile.write(self._sounds / f"{number:03d}.wav", tones.speak(text, rng), 8000)
        if model is None:
            tones.make_corpus(folder)
            config = tones.make_config(folder, epochs=12, warmup_epochs=2.0)
            status = ended(start(lambda: train_acoustic_model(config, folder / "run", device="cpu", note=print) and 0))
            assert status == 0, f"the model was not trained: status {status}"

    def run(self, output: Path) -> int:
        # Alone in its batch: what else is in it moves the last digit of a score, and a kill changes what is left.
        fixed = ["--model", str(self._model), "--device", "cpu", "--precision", "float32", "--threads", "1"]
        fixed += ["--batch-size", "1", "--quiet"]
        return transcribe([str(self._sounds), "--output", str(output), "--resume", "--format", "txt,json", *fixed])

    def whole(self, output: Path) -> dict[str, object]:
        both = [
            path for path in output.glob("[!.]*.txt") if path.with_suffix(".json").exists()
        ]  # else it is done again
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in both}

    def result(self, output: Path) -> dict[str, object]:
        return {path.name: path.read_text() for path in output.glob("[!.]*")}

    def progress(self, output: Path) -> int:
        return len(os.listdir(output)) if output.exists() else 0


@dataclass
class Count:
    """What a campaign has seen; `faults` should be none."""

    kills: int = 0
    halfway: int = 0  # of them, when something was done, and not all
    runs: int = 0
    faults: list[str] = field(default_factory=list)


def campaign(work: Work, folder: Path, *, kills: int, rng: np.random.Generator) -> Count:
    """Kills the work so many times, over as many runs as it takes."""
    count = Count()
    if status := ended(start(lambda: work.run(folder / "undisturbed"))):
        count.faults.append(f"undisturbed, it ends with status {status}")
        return count
    expected = work.result(folder / "undisturbed")
    usual, all_done = hidden_files(folder / "undisturbed"), work.progress(folder / "undisturbed")
    while count.kills < kills and len(count.faults) < MOST_FAULTS:
        output = folder / f"run-{count.runs}"
        status = killed_and_completed(work, output, min(kills - count.kills, MOST_IN_A_RUN), all_done, count, rng)
        if status:
            count.faults.append(f"run {count.runs}: it ends with status {status}")
        elif work.result(output) != expected:
            count.faults.append(f"run {count.runs}: the result is another one")
        if stray := hidden_files(output) - usual:
            count.faults.append(f"run {count.runs}: files that are left over: {sorted(stray)}")
        count.runs += 1
        shutil.rmtree(output)
    return count


def killed_and_completed(
    work: Work, output: Path, most: int, all_done: int, count: Count, rng: np.random.Generator
) -> int:
    """One run: killed at most so many times, and at last left to end; its exit status."""
    before: dict[str, object] = {}
    wanted = int(rng.integers(1, most + 1))
    for attempt in range(wanted + 1):
        process = start(lambda: work.run(output))
        step = int(rng.integers(0, max(2, 2 * all_done // wanted)))
        status = killed(process, work, output, step, rng.uniform(0, 0.1)) if attempt < wanted else ended(process)
        now = work.whole(output) if output.exists() else {}
        if again := before.items() - now.items():
            count.faults.append(f"run {count.runs}: what was whole was written again: {again}")
        before = now
        if status != -signal.SIGKILL:
            break
        count.kills += 1
        count.halfway += 0 < work.progress(output) < all_done
    return status


def start(function) -> int:
    """The number of a process that does nothing but call a function, in silence."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nowhere, number)
        torch.set_num_threads(1)
        status = function()
    finally:
        os._exit(status)


def ended(process: int) -> int:
    """Waits for the end of a process; its exit status, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed(process: int, work: Work, output: Path, step: int, seconds: float) -> int:
    """Kills a process so many seconds after it has got so much further; as `ended`, and it may have ended by itself."""
    goal = work.progress(output) + step
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        number, status = os.waitpid(process, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        if deadline is None and work.progress(output) >= goal:
            deadline = time.monotonic() + seconds
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    return ended(process)


def hidden_files(folder: Path) -> set[str]:
    """Names of what is not a result: locks, notes, and what a killed process has left."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob(".*")} | {
        path.relative_to(folder).as_posix() for path in folder.rglob("*.tmp*")
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("training", "transcribing"), required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, help="folder of a model of the tones; one is trained without")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        begun = time.monotonic()
        inputs = Path(name) / "inputs"
        inputs.mkdir()
        work: Work = Training(inputs) if args.what == "training" else Transcribing(inputs, args.model)
        count = campaign(work, Path(name), kills=args.kills, rng=np.random.default_rng(args.seed))
    print(
        f"{args.what}: {count.kills} kills in {count.runs} runs, {count.halfway} of them when a part was done; "
        f"{len(count.faults)} faults; {time.monotonic() - begun:.0f} s"
    )
    for fault in count.faults:
        print(fault)
    return 1 if count.faults else 0


if __name__ == "__main__":
    sys.exit(main())
