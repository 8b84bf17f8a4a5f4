"""asr-transcribe as a whole process: time to the first text and its parts, real-time factor, and memory.

    python tests/benchmarks/bench_transcribe.py speech.wav
    python tests/benchmarks/bench_transcribe.py speech.wav --folder recordings --model MODEL --hours 0.1 --files 50

start     seconds until new processes write their first output, files cached, in turns: Python alone, `import asr`,
          the import of the runtime, and asr-transcribe. The time beyond the runtime is ours: imports, model, and sound.
imports   packages that asr-transcribe imports in addition to the runtime, by the time of their modules
many      asr-transcribe of --folder, of one long file of the repeated recording, and of many files of 0.5 to 3 times
its length: seconds per second of sound (with loading the model), and peak memory against the bound

Exit status 1: a process needed more memory than the bound. Run it from the repository, or with asr installed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

# Import neither asr nor torch here: the peak memory of a child process starts at the memory of its parent.
import soundfile
from timing import Rounds, machine, ratios, spread

RUNTIMES = {"onnx": "onnxruntime", "torch": "torch"}
BOUND_GIGABYTES = 1.5
NOTABLE_SECONDS = 0.02
RANDOM_MODEL = """
import sys, torch
from asr.acoustic.model import AcousticModel
from asr.acoustic.config import ModelConfig
torch.manual_seed(0)
AcousticModel(ModelConfig(characters=tuple(" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"))).save(sys.argv[1])
"""


@dataclass(frozen=True)
class Finished:
    """The time and memory of a finished process."""

    seconds: float
    first_output_seconds: float
    peak_gigabytes: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path, help="a sound file with a few seconds of speech")
    parser.add_argument("--folder", type=Path, help="a folder of sound files")
    parser.add_argument("--model", help="name or folder (default: a model of the default shape with random weights)")
    parser.add_argument("--runtime", choices=RUNTIMES, default="onnx", help="of asr-transcribe (default: onnx)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the runtime (default: 1)")
    parser.add_argument("--hours", type=float, default=3.0, help="length of the long file; 0: none (default: 3)")
    parser.add_argument("--files", type=int, default=1000, help="files of different lengths; 0: none (default: 1000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of `start`, and of the folder (default: 5)")
    args = parser.parse_args()

    print(machine("torch", "soundfile"))
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        if args.model is None:
            args.model = str(scratch / "model")
            subprocess.run([sys.executable, "-c", RANDOM_MODEL, args.model], check=True)
        command = [sys.executable, "-m", "asr.cli.transcribe", "--quiet", "--model", args.model]
        command += ["--threads", str(args.threads), "--runtime", args.runtime]
        package = f"import {RUNTIMES[args.runtime]}"
        report_start(command, args.recording, package=package, rounds=args.rounds)
        report_imports(command, args.recording, package=package)
        peaks = []
        if args.folder:
            peaks.append(report_many("folder", command, args.folder, scratch / "out", rounds=args.rounds))
        if args.hours:
            long = scratch / "long.flac"
            write_repeated(args.recording, long, seconds=3600 * args.hours)
            peaks.append(report_many(f"{args.hours:g} hours in one file", command, long, scratch / "out", rounds=1))
            long.unlink()
        if args.files:
            many = scratch / "many"
            many.mkdir()
            length = duration(args.recording)
            for number in range(args.files):
                seconds = length * (0.5 + 2.5 * number / args.files)
                write_repeated(args.recording, many / f"{number:06d}.flac", seconds=seconds)
            peaks.append(report_many(f"{args.files} files", command, many, scratch / "out", rounds=1))
    return int(any(peak > BOUND_GIGABYTES for peak in peaks))


def report_start(command: list[str], recording: Path, *, package: str, rounds: int) -> None:
    """Time each process until its first output, without the time to end."""
    python = [sys.executable, "-c"]
    commands = {
        "python": [*python, "print(flush=True)"],
        "import asr": [*python, "import asr; print(flush=True)"],
        package: [*python, f"{package}; print(flush=True)"],
        "asr-transcribe": [*command, str(recording)],
    }
    seconds: Rounds = {name: [] for name in commands}
    whole = []
    for number in range(-1, rounds):  # the first round fills the file cache
        for name, line in commands.items():
            finished = finish(line)
            if number >= 0:
                seconds[name].append(finished.first_output_seconds)
        if number >= 0:
            whole.append(finished.seconds)
    for name, values in seconds.items():
        print(f"start    {name:29} {spread(values, unit='s', digits=3)}")
    for one, other in (("import asr", "python"), (package, "python"), ("asr-transcribe", package)):
        differences = [first - second for first, second in zip(seconds[one], seconds[other], strict=True)]
        print(f"start    {f'{one} - {other}':29} {spread(differences, unit='s', digits=3)}")
    print(f"start    {f'asr-transcribe / {package}':29} {spread(ratios(seconds, 'asr-transcribe', package))}")
    print(f"start    {'asr-transcribe, to its end':29} {spread(whole, unit='s', digits=3)}", flush=True)


def report_imports(command: list[str], recording: Path, *, package: str) -> None:
    runtime = import_seconds([sys.executable, "-X", "importtime", "-c", package])
    ours = import_seconds([sys.executable, "-X", "importtime", *command[1:], str(recording)])
    packages: dict[str, float] = defaultdict(float)
    for module in ours.keys() - runtime.keys():
        packages[module.partition(".")[0]] += ours[module]
    slow_packages = {package: value for package, value in packages.items() if value >= NOTABLE_SECONDS}
    listed = ", ".join(
        f"{name} {slow_packages[name]:.3f}"
        for name in sorted(slow_packages, key=slow_packages.__getitem__, reverse=True)
    )
    print(
        f"imports  beyond `{package}` {sum(packages.values()):.3f} s in {len(packages)} packages; "
        f"packages of {NOTABLE_SECONDS:g} s or more: {listed or 'none'}"
    )


def import_seconds(command: list[str]) -> dict[str, float]:
    """The seconds to import each module, without the modules that it imports."""
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = re.findall(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", finished.stderr, re.MULTILINE)
    return {module: int(microseconds) / 1e6 for microseconds, module in lines}


def report_many(name: str, command: list[str], source: Path, output: Path, *, rounds: int) -> float:
    """Print the figures of one kind of input; the peak memory in gigabytes."""
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    sound = sum(duration(path) for path in files)
    runs = [finish([*command, "--output", str(output), str(source)]) for _ in range(rounds)]
    peak = max(run.peak_gigabytes for run in runs)
    verdict = "under" if peak <= BOUND_GIGABYTES else "OVER"
    print(
        f"many     {name}: {sound / 60:.1f} min of sound "
        f"in {spread([run.seconds for run in runs], unit='s', digits=1)}, "
        f"real-time factor {spread([run.seconds / sound for run in runs], digits=4)}, "
        f"peak {peak:.2f} GB, {verdict} {BOUND_GIGABYTES} GB",
        flush=True,
    )
    return peak


def finish(command: list[str]) -> Finished:
    """Run a command to its end.

    Raises:
        RuntimeError: its exit status is not 0.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.read(1)
    first_output = time.perf_counter() - start
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return Finished(seconds, first_output, usage.ru_maxrss * unit / 1e9)


def duration(path: Path) -> float:
    """Seconds of a sound file; 0 for any other file."""
    try:
        return soundfile.info(path).duration
    except soundfile.LibsndfileError:
        return 0.0


def write_repeated(recording: Path, path: Path, *, seconds: float) -> None:
    """Write the recording repeatedly, or only its beginning, until the file has so many seconds."""
    samples, rate = soundfile.read(recording, dtype="int16", always_2d=True)
    with soundfile.SoundFile(path, "w", samplerate=rate, channels=samples.shape[1], subtype="PCM_16") as file:
        remaining = round(seconds * rate)
        while remaining > 0:
            file.write(samples[:remaining])
            remaining -= len(samples)


if __name__ == "__main__":
    sys.exit(main())
