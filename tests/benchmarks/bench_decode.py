"""Our beam search against flashlight-text's and pyctcdecode's, on the emissions of one model, in one run.

    python -m venv peers/flashlight  && peers/flashlight/bin/pip install flashlight-text numpy
    python -m venv peers/pyctcdecode && peers/pyctcdecode/bin/pip install pyctcdecode kenlm
    python tests/benchmarks/bench_decode.py --data runs/an4/data --peers peers

--data is the folder with the manifests of recipes/an4. Each decoder runs in a separate process on one thread; the
decoders take turns, and seconds are processor time, medians over the rounds.

plain     without a language model: WER on test, milliseconds per second of sound, and the ratio to our time
tuning    the weights of a word 3-gram of the training transcripts with the best WER on dev; the same grid for each
          decoder
lm        with this 3-gram
hotwords  the cost of 200 and 1,000 hotwords in asr.decode, and of 200 in pyctcdecode; WER with the words and spelled
          names of the test set as hotwords, and with 1,000 hotwords that do not occur in it
subwords  with the 3-gram over 500 pieces of SentencePiece's form. No such model is at hand, so their probabilities are
          computed from those of the characters: a frame over pieces stands for two frames of theirs
acoustic  the time of the acoustic model, and the share that a beam of 100 adds to it
growth    exponents of the time as a function of the length of the emission and of the beam width
start     the first decode on a machine, which compiles; the first decode of later processes, and their decodes of a
          short emission per second; all of these also with numba's own cache

flashlight-text does not prune; pyctcdecode prunes by its defaults ("pruned") or not at all; our search is timed in both
ways.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from timing import Rounds, machine, ratios, spread, take_turns

import asr
from asr.data.manifest import read_manifest
from asr.lm.estimation import estimate_ngram
from asr.text.normalization import normalize

WIDTHS = (16, 100)
WINDOW = 2  # frames over characters for a frame over pieces
ALPHAS, BETAS = (0.2, 0.4, 0.6, 1.0, 1.5), (0.0, 1.0, 2.0)
WORKER = Path(__file__).with_name("peer_decoders.py")
START = """
import sys, time
import numpy as np
import asr
from asr.text.alphabet import Alphabet
emission = np.log(np.full((9, 4), 0.25))
begin = time.perf_counter()
if "numba" in sys.argv:
    import numba
    from asr.compute import addresses
    addresses.compiled = numba.njit(_nrt=False, error_model="numpy", nogil=True, cache=True)
    from asr.ctc import alignment, alignment_kernel, beam, beam_kernel
    for module, kernels in ((alignment, alignment_kernel), (beam, beam_kernel)):
        module.warm_up = lambda on_compile: None
        module._kernels = {kernel.__name__: kernel for kernel in kernels.KERNELS}
asr.decode(emission, Alphabet((" ", "A", "B")), asr.DecodingOptions.of(beam_width=16))
first = time.perf_counter() - begin
decoder = asr.Decoder(Alphabet((" ", "A", "B")), asr.DecodingOptions.of(beam_width=16))
begin = time.perf_counter()
for _ in range(2000):
    decoder.decode(emission)
print(first, 2000 / (time.perf_counter() - begin))
"""


def _over_pieces(emissions: Sequence[np.ndarray], pieces: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """(T', 1 + pieces) log-probabilities of Φ and of pieces, from log-probabilities (T, V) of characters.

    A frame stands for `WINDOW` frames of the characters. The probability of a piece is that of all paths through them
    that collapse to its characters, among all pieces.
    """
    import torch

    silence = np.full((WINDOW, emissions[0].shape[1]), -np.inf, dtype=np.float32)
    silence[:, 0] = 0.0
    padded = [np.concatenate([emission, silence[: -len(emission) % WINDOW]]) for emission in emissions]
    windows = torch.from_numpy(np.stack(np.split(np.concatenate(padded), sum(map(len, padded)) // WINDOW), axis=1))
    columns = [
        -torch.nn.functional.ctc_loss(
            windows,
            torch.tensor(piece, dtype=torch.int64).expand(windows.shape[1], -1),
            torch.full((windows.shape[1],), WINDOW),
            torch.full((windows.shape[1],), len(piece)),
            reduction="none",
        )
        for piece in ((), *pieces)
    ]
    log_probs = torch.stack(columns, dim=1).log_softmax(dim=1).numpy()
    return np.split(log_probs, np.cumsum([len(emission) // WINDOW for emission in padded])[:-1])


class Contender:
    """A decoder in a separate process."""

    def __init__(self, name: str, python: str, emissions: Path):
        self.name, self.python = name, python
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parents[2])}
        self.process = subprocess.Popen(
            [python, str(WORKER), name, str(emissions)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._answer()

    def run(
        self,
        part: str,
        width: int,
        *,
        lm: bool = False,
        weights: tuple[float, float] = (0.0, 0.0),
        hotwords: Sequence[str] = (),
        only_lexicon: bool = False,
        pruned: bool = False,
        limit: int | None = None,
    ) -> tuple[float, list[str]]:
        """The seconds for the first `limit` emissions of a part, and their texts."""
        alpha, beta = weights
        request = {"part": part, "width": width, "lm": lm, "alpha": alpha, "beta": beta, "hotwords": list(hotwords)}
        request |= {"only_lexicon": only_lexicon, "pruned": pruned, "limit": limit}
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        return answer["seconds"], answer["texts"]

    def beside(self, emissions: Path) -> Contender:
        """The same decoder in another process, for other emissions."""
        return Contender(self.name, self.python, emissions)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended with status {self.process.wait()}")
        return json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train, dev and test.jsonl.gz")
    parser.add_argument("--peers", type=Path, required=True, help="folder with the peers' environments")
    parser.add_argument("--model", default="an4", help="name or folder (default: an4)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: 5)")
    args = parser.parse_args()

    print(machine("torch", "numba", "numpy"))
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary), args)
        try:
            bench.plain()
            weights = bench.tuning(bench.contenders)
            bench.lm(weights)
            bench.hotwords()
            bench.subwords()
            bench.acoustic()
            bench.growth()
        finally:
            for contender in bench.contenders.values():
                contender.close()
        bench.start()


class Bench:
    """The emissions, the references, and the three decoders."""

    def __init__(self, folder: Path, args: argparse.Namespace):
        self.folder, self.rounds = folder, args.rounds
        self.recognizer = asr.load(args.model, device="cpu", precision="float32")
        options = self.recognizer.model.config.text
        manifests = {part: read_manifest(args.data / f"{part}.jsonl.gz") for part in ("train", "dev", "test")}
        texts = {part: [normalize(item.text, options) for item in items] for part, items in manifests.items()}
        self.references = {part: texts[part] for part in ("dev", "test")}
        self.sounds = [item.audio for item in manifests["test"]]
        arpa = folder / "3-gram.arpa"
        estimate_ngram((text.split() for text in texts["train"]), order=3).write(arpa)
        self.words = sorted({word for text in texts["train"] for word in text.split()})
        self.emissions = {
            f"{part}/{item.id}": self.recognizer.log_probs(item.audio)
            for part in ("dev", "test")
            for item in manifests[part]
        }
        self.test = [emission for key, emission in self.emissions.items() if key.startswith("test/")]
        self.whole = np.concatenate(self.test)
        self.seconds = len(self.whole) * self.recognizer.model.frame_seconds
        stored = folder / "emissions.npz"
        characters = self.recognizer.model.alphabet.characters
        np.savez(stored, characters=characters, words=self.words, arpa=str(arpa), **self.emissions)  # type: ignore[arg-type]
        self.contenders = {
            "asr": Contender("asr", sys.executable, stored),
            "flashlight": Contender("flashlight", str(args.peers / "flashlight/bin/python"), stored),
            "pyctcdecode": Contender("pyctcdecode", str(args.peers / "pyctcdecode/bin/python"), stored),
        }

    def plain(self) -> None:
        """Measure the decoders without a language model."""
        for width in WIDTHS:
            names = ("asr", "flashlight", "pyctcdecode", "asr pruned", "pyctcdecode pruned")
            self.compare("plain", width, {name: {} for name in names})
            seconds = self.times({"decode": self.decoder(width)})["decode"]
            print(
                f"plain    beam {width:<4} asr.decode, with words, times and confidences: "
                f"{spread(seconds, scale=1000 / self.seconds, digits=3)} ms per second",
                flush=True,
            )

    def tuning(self, contenders: dict[str, Contender], what: str = "") -> dict[str, tuple[float, float]]:
        """The weights of each decoder with the lowest error on dev; of equal ones the first."""
        best = {}
        for name, contender in contenders.items():
            errors = {
                (alpha, beta): self.error(
                    "dev",
                    contender.run("dev", WIDTHS[0], lm=True, weights=(alpha, beta), pruned=name == "pyctcdecode")[1],
                )
                for alpha in ALPHAS
                for beta in BETAS
            }
            best[name] = min(errors, key=errors.__getitem__)
            print(
                f"tuning   {name + what:22} alpha, beta {best[name]}, dev WER {100 * errors[best[name]]:.2f} %",
                flush=True,
            )
        return best

    def lm(self, weights: dict[str, tuple[float, float]]) -> None:
        """Measure the decoders with the word 3-gram."""
        for width in WIDTHS:
            options = {name: {"lm": True, "weights": pair} for name, pair in weights.items()}
            options["asr lexicon"] = {**options["asr"], "only_lexicon": True}
            options["asr pruned"] = options["asr"]
            options["pyctcdecode pruned"] = options.pop("pyctcdecode")
            self.compare("lm", width, options)

    def hotwords(self) -> None:
        """Measure the cost of lists of hotwords: words of train, pairs of them, and random letters."""
        rng = np.random.default_rng(0)
        words = [word for word in self.words if len(word) > 1]
        pairs = [" ".join(rng.choice(words, size=2)) for _ in range(400)]
        letters = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        made_up = ["".join(rng.choice(letters, size=rng.integers(3, 10))) for _ in range(1000)]
        candidates = list(dict.fromkeys([*words, *pairs, *made_up]))[:1000]
        for width in WIDTHS:
            decoders = {str(count): self.decoder(width, candidates[:count]) for count in (0, 200, 1000)}
            seconds = self.times(decoders)
            for count in ("200", "1000"):
                print(
                    f"hotwords {count:>4} at beam {width:<4} {spread(ratios(seconds, count, '0'))} "
                    "times the time without",
                    flush=True,
                )
        references = self.references["test"]
        names = {word for text in references for word in text.split() if len(word) > 1}
        names |= {text for text in references if len(text.split()) > 2 and max(map(len, text.split())) == 1}
        for what, hotwords in (("none", []), ("of the test set", sorted(names)), ("1,000 others", made_up)):
            errors = {}
            for name in ("asr", "pyctcdecode"):
                if len(hotwords) < 1000 or name == "asr":  # pyctcdecode would take minutes
                    _, texts = self.contenders[name].run(
                        "test", WIDTHS[0], hotwords=hotwords, pruned=name == "pyctcdecode"
                    )
                    errors[name] = f"{100 * self.error('test', texts):.2f} %"
            print(f"hotwords {what:15} at beam {WIDTHS[0]}: WER {', '.join(map(' '.join, errors.items()))}", flush=True)
        peer = self.contenders["pyctcdecode"]
        without, _ = peer.run("test", WIDTHS[0], limit=20, pruned=True)
        with_them, _ = peer.run("test", WIDTHS[0], limit=20, pruned=True, hotwords=candidates[:200])
        print(
            f"hotwords  200 at beam {WIDTHS[0]:<4} {with_them / without:.1f} times the time without in pyctcdecode",
            flush=True,
        )

    def subwords(self) -> None:
        """Measure the decoders over pieces, beside pyctcdecode with its pruning."""
        counts = Counter(
            f"▁{word}"[start:end]
            for word in self.words
            for start in range(len(word) + 1)
            for end in range(start + 1, min(start + 1 + WINDOW, len(word) + 2))
        )
        characters = self.recognizer.model.alphabet.characters
        letters = ["▁" if character == " " else character for character in characters]
        frequent = [piece for piece, _ in counts.most_common() if len(piece) > 1]
        pieces = [*letters, *frequent[: 500 - len(letters)]]
        labels = [[letters.index(letter) + 1 for letter in piece] for piece in pieces]
        over_pieces = _over_pieces(list(self.emissions.values()), labels)
        emissions = dict(zip(self.emissions, over_pieces, strict=True))
        stored = self.folder / "subwords.npz"
        np.savez(stored, characters=pieces, words=self.words, arpa=str(self.folder / "3-gram.arpa"), **emissions)  # type: ignore[arg-type]
        contenders = {name: self.contenders[name].beside(stored) for name in ("asr", "pyctcdecode")}
        weights = self.tuning(contenders, " over pieces")
        for width in WIDTHS:
            seconds: Rounds = {name: [] for name in contenders}
            texts = {}
            for _ in range(self.rounds):
                for name, contender in contenders.items():
                    elapsed, texts[name] = contender.run("test", width, lm=True, weights=weights[name], pruned=True)
                    seconds[name].append(elapsed)
            for name in contenders:
                error = self.error("test", texts[name])
                print(
                    f"subwords beam {width:<4} {name + ' pruned':22} WER {100 * error:.2f} %, "
                    f"{spread(seconds[name], scale=1000 / self.seconds, digits=3)} ms per second, "
                    f"{spread(ratios(seconds, name, 'asr'), digits=1)} times ours",
                    flush=True,
                )
        for contender in contenders.values():
            contender.close()

    def acoustic(self) -> None:
        """Measure the time that a beam adds to the acoustic model's, on one thread each."""
        import torch

        torch.set_num_threads(1)
        search = self.contenders["asr"]
        seconds = take_turns(
            {
                "model": lambda: [self.recognizer.log_probs(sound) for sound in self.sounds],
                "beam 100": lambda: search.run("test", 100),
            },
            rounds=self.rounds,
        )
        print(
            f"acoustic {spread(seconds['model'], scale=1000 / self.seconds)} ms per second of sound; "
            f"beam 100 adds {spread(ratios(seconds, 'beam 100', 'model'), digits=4)} of this",
            flush=True,
        )

    def growth(self) -> None:
        """Measure the slopes of log time over log length and over log width."""
        from asr.ctc.beam import BeamOptions, BeamSearch

        space = self.recognizer.model.alphabet.characters.index(" ") + 1

        def median(run: Callable[[], object]) -> float:
            return statistics.median(take_turns({"run": run}, rounds=self.rounds)["run"])

        def search(width: int) -> BeamSearch:
            options = BeamOptions(beam_width=width)
            return BeamSearch(num_labels=self.whole.shape[1], blank=0, options=options, delimiters=[space])

        lengths, widths = [500, 1000, 2000, 4000, 8000], [8, 16, 32, 64, 128, 256, 512, 1024]
        fixed = search(100)
        by_length = [median(lambda length=length: fixed.decode(self.whole[:length])) for length in lengths]  # type: ignore[misc]
        by_width = [median(lambda width=width: search(width).decode(self.whole[:1000])) for width in widths]  # type: ignore[misc]
        for name, sizes, times in (("length", lengths, by_length), ("width", widths, by_width)):
            exponent = np.polyfit(np.log(sizes), np.log(times), 1)[0]
            print(
                f"growth   time proportional to {name} ** {exponent:.2f}, {name} {sizes[0]} to {sizes[-1]}", flush=True
            )

    def start(self) -> None:
        """Time the first decode of a process, with and without compiling."""
        for kind in ("machine code", "numba"):
            firsts, laters, rates = [], [], []
            for number in range(self.rounds):
                environment = {**os.environ, "NUMBA_CACHE_DIR": str(self.folder / f"cache-{kind}-{number}")}
                for seconds in (firsts, laters, laters):
                    process = subprocess.run(
                        [sys.executable, "-W", "ignore", "-c", START, kind],
                        env=environment,
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                    first, rate = map(float, process.stdout.split())
                    seconds.append(first)
                    rates.append(rate)
            print(
                f"start    {kind:12} the first decode on a machine takes {spread(firsts, unit='s')}, the first of "
                f"later processes {spread(laters, unit='s', digits=3)}; "
                f"then {spread(rates, digits=0)} decodes per second"
            )

    def decoder(self, width: int, hotwords: Sequence[str] = ()) -> asr.Decoder:
        """The decoder that `asr.decode` calls."""
        options = asr.DecodingOptions.of(beam_width=width, hotwords=tuple(hotwords))
        return asr.Decoder(self.recognizer.model.alphabet, options)

    def times(self, decoders: dict[str, asr.Decoder]) -> Rounds:
        """The seconds of each decoder for the test set."""

        def run(decoder: asr.Decoder) -> None:
            for emission in self.test:
                decoder.decode(emission)

        return take_turns({name: partial(run, decoder) for name, decoder in decoders.items()}, rounds=2 * self.rounds)

    def compare(self, section: str, width: int, options: dict[str, dict[str, Any]]) -> None:
        """Print WER and time of each decoder, one line each."""
        seconds: Rounds = {name: [] for name in options}
        texts: dict[str, list[str]] = {}
        for number in range(self.rounds):
            for name, request in options.items():
                contender, _, kind = name.partition(" ")
                if name == "pyctcdecode" and number:  # too slow for more than one round
                    seconds[name].append(seconds[name][0])
                    continue
                elapsed, texts[name] = self.contenders[contender].run("test", width, pruned=kind == "pruned", **request)
                seconds[name].append(elapsed)
        for name in options:
            ours = "asr pruned" if name.endswith(" pruned") else "asr"
            times = "" if name == ours else f", {spread(ratios(seconds, name, ours), digits=1)} times ours"
            print(
                f"{section:8} beam {width:<4} {name:22} WER {100 * self.error('test', texts[name]):.2f} %, "
                f"{spread(seconds[name], scale=1000 / self.seconds, digits=3)} ms per second{times}",
                flush=True,
            )

    def error(self, part: str, texts: list[str]) -> float:
        """The word error rate of the texts of a part."""
        return asr.wer(self.references[part], texts)


if __name__ == "__main__":
    begin = time.perf_counter()
    main()
    print(f"in {math.ceil(time.perf_counter() - begin)} s")
