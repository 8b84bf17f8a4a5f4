"""An acoustic model in PyTorch, in onnxruntime, and exported in int8: greedy texts, error rates and time of each.

    PYTHONPATH=. python tests/benchmarks/bench_export.py MANIFEST --model english --limit 60

One recording at a time, on one thread. The contenders take turns for each recording. Seconds are of this thread's
processor time, the least of all rounds for each recording, summed, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from timing import machine

import asr
from asr.acoustic.export import export_onnx
from asr.acoustic.folder import find_model
from asr.compute.threads import set_threads
from asr.data.manifest import read_manifest
from asr.data.waveforms import read_waveform

TORCH = "torch float32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="utterances with their texts")
    parser.add_argument("--model", default="english", help="one of our models (default: english)")
    parser.add_argument("--limit", type=int, default=60, metavar="N", help="use N utterances, evenly spread")
    parser.add_argument("--rounds", type=int, default=2, help="(default: 2)")
    args = parser.parse_args()

    set_threads(1)
    print(machine("torch", "onnxruntime", "numpy"))
    utterances = read_manifest(args.manifest)
    utterances = utterances[:: max(len(utterances) // args.limit, 1)][: args.limit]
    with tempfile.TemporaryDirectory() as work:
        int8 = Path(work, "int8")
        export_onnx(find_model(args.model), int8, int8=True)
        print(f"int8 export: {sum(path.stat().st_size for path in int8.glob('*.onnx')) / 1e6:.0f} MB")
        greedy = {"beam_width": 1}
        contenders = {
            TORCH: asr.load(args.model, runtime="torch", precision="float32", decoding=greedy),
            "onnx float32": asr.load(args.model, runtime="onnx", decoding=greedy),
            "onnx int8": asr.load(int8, decoding=asr.DecodingOptions()),
        }
        rate = contenders[TORCH].model.sample_rate
        seconds: dict[str, float] = defaultdict(float)
        texts: dict[str, list[str]] = defaultdict(list)
        differences: dict[str, float] = defaultdict(float)
        for utterance in utterances:
            waveform = read_waveform(utterance, rate)
            emissions: dict[str, np.ndarray] = {}
            least: dict[str, float] = {}
            for _ in range(args.rounds):
                for name, recognizer in contenders.items():
                    start = time.thread_time()
                    (emissions[name],) = recognizer.batch_log_probs([waveform])
                    least[name] = min(time.thread_time() - start, least.get(name, np.inf))
            for name, recognizer in contenders.items():
                seconds[name] += least[name]
                texts[name].append(recognizer.decoder.decode(emissions[name]).text)
                differences[name] = max(differences[name], float(np.abs(emissions[name] - emissions[TORCH]).max()))
    references = [utterance.text for utterance in utterances]
    total = sum(utterance.duration_seconds for utterance in utterances)
    for name in contenders:
        equal = sum(one == other for one, other in zip(texts[name], texts[TORCH], strict=True))
        print(
            f"{name}: {seconds[name] / total:.4f} of real time, {seconds[name] / seconds[TORCH]:.2f} of torch's; "
            f"{equal} of {len(texts[name])} texts equal, {100 * asr.wer(references, texts[name]):.2f} % WER; "
            f"largest difference {differences[name]:.1e}"
        )


if __name__ == "__main__":
    main()
