"""Greedy transcription of an ONNX export by us and by onnx-asr: the same texts, and the ratio of their times.

    pip install '.[test]' onnx-asr
    PYTHONPATH=. python tests/benchmarks/bench_onnx.py SOUNDS

SOUNDS is a folder with sound files. The models are made here: they have the inputs and outputs of NeMo's exports, and
random weights. The wide one has 15 million weights, as the smallest Conformers; the network of the narrow one takes a
twentieth of the time, so this is a measurement of features and decoding. --model FOLDER measures a true export in their
place, in the layout of onnx-asr. Both get the samples in memory, one recording at a time, on one thread; we also
compute words, times and confidences. Seconds are of this thread, the least of all rounds for each recording, summed.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_asr
import onnxruntime
import torch
from timing import machine

import asr
from asr.audio.waveform import read_audio
from asr.compute.threads import set_threads
from tests import foreign_models

SAMPLE_RATE = 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sounds", type=Path, help="folder with sound files")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="use N files (default: 100)")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="an export of NeMo (default: random ones)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    args = parser.parse_args()

    set_threads(1)
    print(machine("onnxruntime", "onnx-asr", "numpy"))
    paths = sorted(path for path in args.sounds.rglob("*") if path.is_file())[: args.limit]
    sounds = [read_audio(path, sample_rate=SAMPLE_RATE) for path in paths]
    if args.model:
        report(str(args.model), args.model, sounds, args.rounds)
        return
    for width in (24, 1536):
        with tempfile.TemporaryDirectory() as folder:
            write_export(Path(folder), width)
            report(f"width {width}", Path(folder), sounds, args.rounds)


def write_export(folder: Path, width: int) -> None:
    """A network as NeMo exports it, with labels and a configuration as onnx-asr has them."""
    torch.manual_seed(0)
    network = foreign_models.NemoLike(len(foreign_models.NEMO_PIECES) + 1, width=width)
    network.output.bias.data[0] = -100  # no <unk>, which onnx-asr writes
    inputs = {"audio_signal": torch.zeros(1, 80, 100), "length": torch.tensor([100])}
    foreign_models.export(network, folder / "model.onnx", inputs, ["logprobs"], time_axis=2)
    foreign_models.write_tokens(folder / "vocab.txt", (*foreign_models.NEMO_PIECES, "<blk>"))
    settings = {"model_type": "nemo-conformer-ctc", "features_size": 80, "subsampling_factor": 8}
    (folder / "config.json").write_text(json.dumps(settings))


def report(name: str, folder: Path, sounds: list[np.ndarray], rounds: int) -> None:
    """Print whether the texts are the same, and both times."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    theirs: Any = onnx_asr.load_model("nemo-conformer-ctc", folder, sess_options=options)
    ours = asr.load(folder, device="cpu", decoding={"beam_width": 1})
    recognizers: dict[str, Callable[[np.ndarray], str]] = {
        "asr": lambda sound: ours.transcribe((sound, SAMPLE_RATE)).raw_text,
        "onnx-asr": lambda sound: " ".join(theirs.recognize(sound, sample_rate=SAMPLE_RATE).split()),
    }
    texts = {who: [recognize(sound) for sound in sounds] for who, recognize in recognizers.items()}
    same = sum(one == other for one, other in zip(*texts.values(), strict=True))
    seconds = dict.fromkeys(recognizers, 0.0)
    for sound in sounds:
        least = dict.fromkeys(recognizers, math.inf)
        for number in range(rounds):
            for who in sorted(recognizers, reverse=number % 2 == 1):
                start = time.thread_time()
                recognizers[who](sound)
                least[who] = min(least[who], time.thread_time() - start)
        for who, least_seconds in least.items():
            seconds[who] += least_seconds
    duration = sum(map(len, sounds)) / SAMPLE_RATE
    characters = sum(map(len, texts["asr"]))
    print(
        f"{name}: {same} of {len(sounds)} texts are the same, {characters} characters; "
        f"asr {1000 * seconds['asr'] / duration:.2f} ms per second of sound, "
        f"onnx-asr {1000 * seconds['onnx-asr'] / duration:.2f}, ratio {seconds['asr'] / seconds['onnx-asr']:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
