"""Hostile model folders, caches and n-gram files, each met by a process of its own with little memory and time.

    python tests/reliability/hostile_models.py --count 2000 --seed 0

Every case changes one thing of a sound model: a value of a config.json, its text, the header or the numbers of
weights, an n-gram model, a cache or an ARPA file; or puts a pipe, a device, a folder or a link in a file's place. Then
a child loads the model and transcribes a second of sound, or reads the n-gram model and scores sentences. A case holds
if the child is done with a transcript of finite numbers, or with an `AsrError` of reasonable length, within
`MOST_MEMORY` above what it began with and `MOST_SECONDS`. Cases are made from the seed and their number alone.
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import math
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

import asr
from asr.acoustic.config import ModelConfig
from asr.acoustic.model import AcousticModel
from asr.acoustic.options import EncoderOptions, FrontendOptions
from asr.ctc.ngram_tables import ARRAY_TYPES, NgramTables, query
from asr.errors import AsrError
from asr.files.reading import identity
from asr.lm import ngram
from asr.lm.estimation import estimate_ngram
from asr.lm.ngram import NgramModel
from asr.lm.recurrent import LanguageModelConfig, NetworkOptions
from asr.lm.rnn import LanguageModel

MOST_MEMORY = 1 << 30  # bytes of address space
MOST_SECONDS = 30
MOST_MESSAGE = 5000  # characters

WORDS = ["A", "AB", "BA", "CAB", "B"]
EXTREME: list[Any] = [
    0, 1, -1, 2, 3, 17, 255, 256, 65535, 10**4, 10**6, 10**9, 2**31 - 1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**400,
    0.0, -0.0, 1e-320, 1e-9, 0.5, 1e9, 1e30, 1e38, 1e39, 1e300, 1e308, -1e308, math.inf, -math.inf, math.nan,
    "", "x", "lm", "none", "/dev/zero", "/dev/stdin", "/", "..", "../..", "a\0b", "\ud800", "@/dev/zero", "x" * 10**6,
    None, True, False, [], {}, [0], [1] * 10**5, [[]], {"a": 1}, ["A"], ["@/dev/zero"], ["A:1e308"], [2] * 64, [10**9],
]  # fmt: skip


class Case(NamedTuple):
    """What a child meets: a folder that it loads as a model, or an n-gram file that it reads; and what was done."""

    kind: str
    path: Path
    change: str


class Outcome(NamedTuple):
    kind: str  # "used", "refused", or what must not be: "traceback", "memory", "hang", "crash", "message", "numbers"
    detail: str


def make_base(folder: Path) -> None:
    """A sound acoustic model with all that it can name, and an n-gram model in every form."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    text = [list(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(300)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = estimate_ngram(text, order=3)
        letters = estimate_ngram([list("_".join(words).replace("_", "|")) for words in text], order=2)
    network = NetworkOptions(hidden_size=8, embedding_size=8)
    config = ModelConfig(
        characters=(" ", "A", "B", "C"),
        frontend=FrontendOptions(sample_rate=8000, num_mel_bins=12, normalization="global"),
        encoder=EncoderOptions(num_layers=2, hidden_size=6, conv_channels=3),
        provenance={"seed": 3, "rates": [0.5, None]},
    )
    acoustic = AcousticModel(config)
    acoustic.frontend.set_statistics(torch.zeros(12), torch.ones(12))
    for stored in ("float32", "int8"):
        acoustic.save(folder / stored, stored=stored)
        model.write(folder / stored / "words.safetensors")
        model.write(folder / stored / "words.arpa")
        model.write(folder / stored / "words.arpa.gz")
        letters.write(folder / stored / "letters.arpa.xz")
        (folder / stored / "lexicon.txt").write_text("\n".join(WORDS))
        (folder / stored / "names.txt").write_text("CAB:3\nAB\n")
        entries = {"word": tuple(WORDS), "character": ("A", "B", "C", " ")}
        for unit, name in (("word", "rnn"), ("character", "fused")):
            language = LanguageModel(LanguageModelConfig(unit=unit, entries=entries[unit], network=network))
            language.save(folder / stored / name)


DECODINGS: list[dict[str, Any]] = [
    {},
    {"beam_width": 8, "lm": "words.safetensors"},
    {"beam_width": 8, "lm": "words.arpa.gz", "hotwords": ["CAB:3"]},
    {"beam_width": 8, "lexicon": "lexicon.txt", "only_lexicon": True},
    {"beam_width": 8, "lm": "words.arpa", "rescore_lm": "rnn", "source_lm": "letters.arpa.xz"},
    {"beam_width": 8, "fuse_lm": "fused"},
]


def make_case(base: Path, folder: Path, dice: random.Random) -> Case:
    """A changed copy of the sound model in `folder`."""
    model = folder / "model"
    shutil.copytree(base / dice.choice(["float32", "int8"]), model)
    config = json.loads((model / "config.json").read_text())
    options = dice.choice(DECODINGS)
    config["decoding"] = {**config["decoding"], **options}
    (model / "config.json").write_text(json.dumps(config))
    kind = dice.choice(list(CHANGES))
    path, change = CHANGES[kind](model, dice)
    return Case(kind, path, f"{kind}, {' '.join(options)}: {change}"[:300])


def _change_value(model: Path, dice: random.Random) -> tuple[Path, str]:
    path = dice.choice([model, model, model, model / "rnn", model / "fused"]) / "config.json"
    config = json.loads(path.read_text())
    places = list(_places(config))
    names = []
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        holder, key = dice.choice(places)
        value = dice.choice(EXTREME)
        if dice.random() < 0.1 and isinstance(holder, dict):
            holder.pop(key, None)
        else:
            holder[key] = value
        names.append(f"{key}={str(value)[:40]!r}" if not isinstance(value, int) else f"{key}={len(str(value))} digits")
    path.write_text(json.dumps(config))
    return model, f"{path.parent.name}: {', '.join(names)}"


def _places(value: Any) -> Any:
    """Holder and key of every value inside, and of one that is not there."""
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, inner in items:
        yield value, key
        yield from _places(inner)
    if isinstance(value, dict):
        yield value, "another"


def _change_text(model: Path, dice: random.Random) -> tuple[Path, str]:
    path = dice.choice([model, model / "rnn", model / "fused"]) / "config.json"
    text = path.read_text()
    number = f": {dice.choice(['9' * 400, '1' + '0' * 5000, '1e400', '-1e400', '0.' + '3' * 400, 'NaN', '-Infinity'])},"
    texts = {
        "nested lists": "[" * 10**5,
        "nested value": text.replace('"seed": 3', '"seed": ' + "[" * 5000 + "]" * 5000, 1),
        "nested objects": '{"a":' * 10**5,
        "cut": text[: dice.randrange(len(text))],
        "flip": _flipped(text.encode(), dice).decode("latin-1"),
        "number": text.replace(": 2,", number).replace(": 1,", number, 1),
        "digits": text.replace(": 8000,", ": " + "8" * 6000 + ","),
        "twice": text.replace('"format_version": 1', '"format_version": 1, "format_version": 2'),
        "newer": text.replace('"format_version": 1', f'"format_version": {dice.choice(["2", "1e9", "true", "[]"])}'),
        "kind": text.replace('"format_version": 1', '"format_version": 1, "kind": "x"'),
        "large": text + " " * (1 << 27),
        "zeros": "\0" * 1000,
        "nothing": "",
    }
    change = dice.choice(list(texts))
    path.write_text(texts[change], encoding="utf-8", errors="surrogatepass")
    return model, f"{path.parent.name}: {change}"


def _change_weights(model: Path, dice: random.Random) -> tuple[Path, str]:
    path = dice.choice([model, model, model / "rnn", model / "fused"]) / "weights.safetensors"
    if dice.random() < 0.5:
        return model, _change_header(path, dice)
    arrays = load_file(path)
    name = dice.choice(list(arrays))
    array = arrays[name]
    change = dice.choice(["gone", "type", "shape", "value", "name", "empty", "steps", "large"])
    if change == "gone":
        del arrays[name]
    elif change == "type":
        arrays[name] = array.astype(dice.choice([np.int64, np.float64, np.float16, np.int8, np.uint8, bool]))
    elif change == "shape":
        arrays[name] = array.reshape(dice.choice([(-1,), (1, -1), (*array.shape, 1)]))
    elif change == "value":
        arrays[name] = array.astype(np.float32)
        arrays[name].flat[0] = dice.choice([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45])
    elif change == "name":
        arrays[dice.choice([name + ".steps", "x" * 10**5, "", name + "\0"])] = arrays.pop(name)
    elif change == "empty":
        arrays[name] = array[:0]
    elif change == "steps":
        arrays[name + ".steps"] = array.astype(np.int8)
    else:
        arrays[name] = np.zeros((1 << 22, 4), np.int8)
    save_file({name: np.ascontiguousarray(each) for name, each in arrays.items()}, path)
    return model, f"{path.parent.name}: {name} {change}"


def _change_header(path: Path, dice: random.Random) -> str:
    """Another header of a safetensors file, before the same numbers."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    change = dice.choice(["flip", "size", "entry", "metadata", "cut"])
    if change == "flip":
        path.write_bytes(_flipped(content, dice))
    elif change == "cut":
        path.write_bytes(content[: dice.randrange(len(content))])
    elif change == "size":
        path.write_bytes(dice.choice([0, 1, size - 1, size + 1, 10**8, 2**40, 2**63, 2**64 - 1]).to_bytes(8, "little"))
        path.write_bytes(path.read_bytes() + content[8:])
    else:
        header = json.loads(content[8 : 8 + size])
        if change == "metadata":
            header["__metadata__"] = dice.choice([{"a": "b" * 10**6}, {"a": 1}, [], "x"])
        else:
            entry = header[dice.choice([name for name in header if name != "__metadata__"])]
            wrong = {
                "dtype": ["F64", "I8", "X", 7, None, "BOOL", "F8_E4M3"],
                "data_offsets": [[0, 2**63], [0], [-1, 4]],
            }
            key = dice.choice(list(entry))
            shapes = [[2**62], [2**32, 2**32], [0], [], [-1], [1e9], "x", [1] * 10**4, [10**6, 10**6]]
            entry[key] = dice.choice(wrong.get(key, shapes))
        written = json.dumps(header).encode()
        path.write_bytes(len(written).to_bytes(8, "little") + written + content[8 + size :])
    return f"{path.name}: header {change}"


def _flipped(content: bytes, dice: random.Random) -> bytes:
    flipped = bytearray(content)
    for _ in range(dice.choice([1, 1, 3, 20])):
        flipped[dice.randrange(len(flipped) if dice.random() < 0.5 else min(len(flipped), 2000))] ^= (
            1 << dice.randrange(8)
        )
    return bytes(flipped)


def _change_packed(model: Path, dice: random.Random) -> tuple[Path, str]:
    path = model / "words.safetensors"
    if dice.random() < 0.3:
        return path, _change_header(path, dice)
    arrays = load_file(path)
    name = dice.choice(list(arrays))
    change = dice.choice(["value", "value", "value", "value", "gone", "type", "short", "shape"])
    if change == "value":
        arrays[name] = arrays[name].astype(np.float64 if arrays[name].dtype.kind == "f" else np.int64)
        for _ in range(dice.choice([1, 1, 2, 5])):
            value = dice.choice([0, 1, 2, 3, -1, 9, 100, 2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**62, dice.randrange(99)])
            arrays[name][dice.randrange(len(arrays[name]))] = value if arrays[name].dtype.kind == "i" else float(value)
    elif change == "gone":
        del arrays[name]
    elif change == "type":
        arrays[name] = arrays[name].astype(dice.choice([np.int8, np.uint64, np.float64, np.float32, bool]))
    else:
        arrays[name] = arrays[name][: dice.randrange(3)] if change == "short" else arrays[name][None]
    save_file(arrays, path)
    return path, f"{name} {change}"


def _change_cache(model: Path, dice: random.Random) -> tuple[Path, str]:
    """A cache whose checksum is right, in the user's own folder, with numbers that lead elsewhere."""
    path = model / "words.arpa"
    true = NgramModel.read(path, cache=False)
    NgramModel.read(path)
    (place,) = (Path(os.environ["XDG_CACHE_HOME"]) / "asr" / "ngram").iterdir()
    change = dice.choice(["array", "array", "array", "number", "words", "flip", "cut", "link", "pipe"])
    tables, words = true.tables, true.words
    if change == "array":
        name = dice.choice(list(ARRAY_TYPES))
        array = getattr(tables, name).copy()
        for _ in range(dice.choice([1, 1, 2, 5])):
            value = dice.choice([0, 1, -1, 7, 99, 2**31 - 1, -(2**31), dice.randrange(200)])
            array[dice.randrange(len(array))] = dice.choice([np.nan, np.inf, 1.0]) if array.dtype.kind == "f" else value
        tables = tables._replace(**{name: array})
    elif change == "number":
        name = dice.choice(NgramTables._fields[len(ARRAY_TYPES) :])
        tables = tables._replace(**{name: dice.choice([-1, 0, 1, 99, 2**31, 2**62])})
    elif change == "words":
        words = dice.choice([words[:-1], (*words, "x"), ("a b", *words[1:]), words[:1] * len(words)])
    if change in ("array", "number", "words"):
        ngram._write_cache(place, identity(path), NgramModel(words, tables))
    elif change in ("flip", "cut"):
        content = place.read_bytes()
        place.write_bytes(_flipped(content, dice) if change == "flip" else content[: dice.randrange(len(content))])
    else:
        place.unlink()
        place.symlink_to("/dev/zero") if change == "link" else os.mkfifo(place)
    return path, f"cache: {change}"


def _change_arpa(model: Path, dice: random.Random) -> tuple[Path, str]:
    path = model / "words.arpa"
    lines = path.read_text().split("\n")
    change = dice.choice(
        ["number", "number", "count", "word", "line", "flip", "cut", "bomb", "long", "orders", "section"]
    )
    at = dice.randrange(len(lines))
    content: bytes | None = None
    if change in ("number", "word"):
        columns = lines[at].split()
        if columns:
            numbers = [
                "9" * 400,
                "1e400",
                "-1e400",
                "nan",
                "-inf",
                "1e-400",
                "-" + "3" * 5000,
                "0x1p3",
                "1_0",
                "-3e38",
                "",
            ]
            words = ["x" * 10**6, "\ud800", "<s>", "</s>", "<unk>", "\u00a0", "\0", "a\u2028b", "-1"]
            columns[dice.randrange(len(columns))] = dice.choice(numbers if change == "number" else words)
        lines[at] = "\t".join(columns)
    elif change == "count":
        lines[dice.choice([1, 2, 3])] = (
            f"ngram {dice.choice(['1', '2', '3', '9' * 5000, '0', '-1', '2' * 12])}="
            + dice.choice(["0", "-1", "9" * 15, "9" * 5000, "1e9", "7"])
        )
    elif change == "line":
        lines[at : at + 1] = dice.choice([[], [lines[at]] * 2, [lines[at]] * 10**5, ["\\data\\"], ["\\end\\"]])
    elif change == "orders":
        lines[3:4] = [f"ngram {n}={dice.choice([0, 5])}" for n in range(3, dice.choice([10, 99, 5000]))]
    elif change == "section":
        lines = [
            line.replace("2-grams", dice.choice(["9-grams", "0-grams", "2-gram", "9" * 5000 + "-grams"]))
            for line in lines
        ]
    elif change == "bomb":
        line = (lines[dice.choice([1, 8, 20])] + "\n").encode() * 10**6 if dice.random() < 0.5 else bytes(1 << 27)
        whole = path.read_bytes()
        content = dice.choice([gzip.compress, lzma.compress])(whole[:200] + line + whole[200:])
    elif change == "long":
        content = path.read_bytes()[:100] + b"x" * (1 << 25)
    else:
        content = path.read_bytes()
        content = _flipped(content, dice) if change == "flip" else content[: dice.randrange(len(content))]
    path.write_bytes("\n".join(lines).encode(errors="surrogatepass") if content is None else content)
    return path, change


def _change_kind(model: Path, dice: random.Random) -> tuple[Path, str]:
    """Something that is no file in the place of one, and a model that names it."""
    name = dice.choice(
        ["config.json", "weights.safetensors", "words.safetensors", "words.arpa", "words.arpa.gz", "lexicon.txt",
         "names.txt", "rnn/config.json", "rnn/weights.safetensors", "fused/config.json", "letters.arpa.xz", "rnn"]
    )  # fmt: skip
    path = model / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    change = dice.choice(["pipe", "folder", "zero", "nowhere", "itself", "names itself", "sparse", "random"])
    if change == "pipe":
        os.mkfifo(path)
    elif change == "folder":
        path.mkdir()
    elif change == "names itself":
        path.write_text(f"@{path}\n")
    elif change == "sparse":
        with open(path, "wb") as file:
            file.truncate(1 << 40)
    elif change == "random":
        path.write_bytes(dice.randbytes(5000))
    else:
        path.symlink_to({"zero": "/dev/zero", "nowhere": "/nowhere", "itself": name.split("/")[-1]}[change])
    config = model / "config.json"
    if name.split("/")[0] not in ("config.json", "weights.safetensors"):
        named = {
            "words.safetensors": {"lm": name}, "words.arpa": {"lm": name}, "words.arpa.gz": {"lm": name},
            "lexicon.txt": {"lexicon": name}, "names.txt": {"hotwords": [f"@{path}"]},
            "letters.arpa.xz": {"rescore_lm": "rnn", "source_lm": name},
        }.get(name, {"rescore_lm": "rnn"} if name.startswith("rnn") else {"fuse_lm": "fused"})  # fmt: skip
        values = json.loads(config.read_text())
        values["decoding"] = {"beam_width": 8, **named}
        config.write_text(json.dumps(values))
    return model, f"{name}: {change}"


CHANGES: dict[str, Callable[[Path, random.Random], tuple[Path, str]]] = {
    "config.json, a value": _change_value,
    "config.json, its text": _change_text,
    "weights": _change_weights,
    "packed n-grams": _change_packed,
    "n-gram cache": _change_cache,
    "ARPA file": _change_arpa,
    "no file": _change_kind,
}


def meet(path: Path) -> None:
    """Use the model or n-gram file; AssertionError if what it gives are no numbers."""
    if path.suffix in (".arpa", ".safetensors"):
        model = NgramModel.read(path)
        tables = model.tables
        for words in (WORDS, [], ["x", *WORDS * 3]):
            assert np.isfinite(model.score(words)).all() and np.isfinite(model.score(words, begin=False)).all()
            state = tables.start_state
            for word in model.encode(words):  # NumPy checks each index
                _, state = query(tables, state, word)
        return
    recognizer = asr.load(path, device="cpu", precision="float32")
    sound = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    transcript = recognizer.transcribe((sound, 8000))
    for hypothesis in transcript.hypotheses:
        assert not math.isnan(hypothesis.score)
    assert all(0 <= word.confidence <= 1 for word in transcript.words)


def try_case(path: Path) -> Outcome:
    """What becomes of it in a child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(path, writing)
    os.close(writing)
    said, deadline, late = b"", time.monotonic() + MOST_SECONDS, False
    while (left := deadline - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
        if not (piece := os.read(reading, 1 << 16)):
            break
        said += piece
    else:
        late = True
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    if late:
        return Outcome("hang", f"more than {MOST_SECONDS} s")
    if not said:
        return Outcome("crash", f"status {status}")
    return Outcome(*json.loads(said))


def _be_child(path: Path, writing: int) -> None:
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MEMORY, used + MOST_MEMORY))
        warnings.simplefilter("ignore")
        try:
            meet(path)
            outcome = Outcome("used", "")
        except AsrError as error:
            fine = 0 < len(str(error).replace(str(path), "")) <= MOST_MESSAGE
            outcome = Outcome("refused" if fine else "message", f"{type(error).__name__}: {str(error)[:500]}")
        except AssertionError:
            outcome = Outcome("numbers", traceback.format_exc(limit=-2))
        except MemoryError:
            outcome = Outcome("memory", traceback.format_exc(limit=-4))
        except BaseException as error:
            memory = "alloc" in str(error) or "memory" in str(error)
            outcome = Outcome("memory" if memory else "traceback", traceback.format_exc(limit=-4))
        os.write(writing, json.dumps(outcome).encode()[: 1 << 15])
    finally:
        os._exit(0)


def campaign(count: int, seed: int, *, show: Callable[[str], object] = print) -> Counter[tuple[str, str]]:
    """How often each kind of case had each outcome; cases that do not hold are shown."""
    outcomes: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        before, ngram._CACHE_FROM_BYTES = ngram._CACHE_FROM_BYTES, 0
        make_base(root / "base")
        for stored in DECODINGS:  # what is compiled and imported once is there before the first child
            model = root / "warm"
            shutil.copytree(root / "base" / "float32", model)
            config = json.loads((model / "config.json").read_text())
            (model / "config.json").write_text(json.dumps({**config, "decoding": {**config["decoding"], **stored}}))
            meet(model)
            meet(model / "words.arpa")
            shutil.rmtree(model)
        for number in range(count):
            dice = random.Random(f"{seed}-{number}")
            folder = root / "case"
            shutil.rmtree(root / "cache", ignore_errors=True)
            case = make_case(root / "base", folder, dice)
            outcome = try_case(case.path)
            outcomes[case.kind, outcome.kind] += 1
            if outcome.kind not in ("used", "refused"):
                show(f"case {number} of seed {seed}: {outcome.kind}: {case.change}\n{outcome.detail}")
            shutil.rmtree(folder)
        ngram._CACHE_FROM_BYTES = before
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    outcomes = campaign(args.count, args.seed)
    kinds = sorted({outcome for _, outcome in outcomes})
    print(f"{'':24}" + "".join(f"{kind:>10}" for kind in kinds))
    for case in CHANGES:
        print(f"{case:24}" + "".join(f"{outcomes[case, kind]:10}" for kind in kinds))
    print(f"{args.count} cases of seed {args.seed} in {time.monotonic() - start:.0f} s")
    return int(any(kind not in ("used", "refused") for kind in kinds))


if __name__ == "__main__":
    sys.exit(main())
