"""Speak sentences of text files in many voices, as a further corpus for recipes/english/run.py --source.

The speech is clean and close; training adds the noise, rooms, telephones and codecs of run.py, different ones in every
epoch. Sentence, voice and speed depend on their number, the files and the flags except --number, so a larger --number
continues a smaller one.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
from tqdm import tqdm

from asr.audio.waveform import Waveform, duration_seconds
from asr.cli.arguments import Parser, at_least, disable_progress
from asr.cli.command import noter, run_command, write_result
from asr.corpora.english import SAMPLE_RATE, TEXT
from asr.corpora.lm_text import split_sentences
from asr.corpora.overlap import Withheld
from asr.corpora.pronunciations import Dictionary, read_cmudict
from asr.errors import ConfigError, DataError
from asr.files.writing import write_whole
from asr.lm.corpus import read_lines
from asr.text.normalization import normalize
from recipes.english.gather import FASTEST, SLOWEST
from recipes.english.kokoro import Kokoro
from recipes.english_lm.run import transcripts

PROG = "recipes/english/synthesize.py"
EXAMPLES = """\
--voice-model is a folder with Kokoro-82M (Apache 2.0):
  model.onnx        its network, as ONNX
  vocab.json        {"vocab": {symbol: number}}, or all of its config.json
  voices/NAME.bin   one per voice, 510 x 256 float32; NAME begins with a for
                    American voices and with b for British ones
Their sources are in recipes/english/README.md. Further packages:
  pip install onnxruntime espeakng-loader phonemizer-fork

After any kill, the same command resumes. OUTPUT/manifest.tsv is written after
every 100 files. --withhold takes manifests (.jsonl.gz), tables with a column
`transcript` (.tsv) and plain texts.

examples:
  nice -n 15 python -m recipes.english.synthesize --voice-model kokoro \\
      --text corpora/text/common_voice_sentences.txt.xz \\
      --cmudict corpora/text/cmudict.txt.xz --number 5000 --threads 1 \\
      --withhold corpora/english/*/manifest.tsv --output synthetic/kokoro
"""

MIN_WORDS, MAX_WORDS = 4, 25
CANDIDATES = 16  # sentences per chosen one
SAVE_EVERY = 100  # new files after which the manifest is written
SILENT = 0.01  # peak of full scale; Kokoro's speech peaks at 0.2 to 0.9

# Sentences that are read as spelled, in A to Z: no digits, accents, symbols, abbreviations, or words in capitals, which
# a voice may spell.
_READABLE = re.compile(r"""(?!.*[A-Z]{2})["'(]*[A-Za-z][A-Za-z ,;:'"()-]*[.!?]*["')]*""")


class VoiceModel(Protocol):
    """A speech synthesis model: its name, and its maker, licence and version."""

    @property
    def name(self) -> str: ...

    @property
    def credit(self) -> Mapping[str, str]: ...

    def speak(self, sentence: str, *, voice: str, speed: float) -> Waveform:
        """The sentence as (N,) float32 at 16 kHz, `speed` times as fast as the voice's own pace."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A sentence with its voice and speed."""

    number: int
    sentence: str
    voice: str
    speed: float


def make_plan(
    sentences: Iterable[str], voices: Sequence[str], speeds: tuple[float, float], seed: int
) -> Iterator[Line]:
    """A line for each sentence; each round of `len(voices)` lines has all voices, in a random order.

    Args:
        sentences: in the order of their numbers, from 0.
        voices: names, at least one.
        speeds: slowest and fastest; uniformly distributed.
        seed: 0 or more; voice and speed depend only on it and the sentence's number.
    """
    for number, sentence in enumerate(sentences):
        turn, index = divmod(number, len(voices))
        order = np.random.default_rng((seed, 0, turn)).permutation(len(voices))
        speed = round(np.random.default_rng((seed, 1, number)).uniform(*speeds), 2)
        yield Line(number=number, sentence=sentence, voice=voices[order[index]], speed=speed)


def readable(
    texts: Iterable[Path], dictionary: Dictionary, withheld: Withheld, seed: int, left_out: Counter[str]
) -> Iterator[str]:
    """The sentences that a voice reads as spelled, in their original spelling, each once, lines in random order.

    Args:
        texts: files with one sentence or paragraph per line.
        dictionary: sentences with other words are left out, since a voice may pronounce these in any way.
        withheld: of texts normalised as in run.py; a line that shares a run of words is left out.
        seed: of the order.
        left_out: gets the number of sentences left out, by reason.
    Raises:
        DataError: as `read_lines`.
    """
    lines = [line for path in texts for line in read_lines(path)]
    seen: set[str] = set()
    for index in np.random.default_rng((seed, 2)).permutation(len(lines)):
        sentences = [" ".join(sentence.split()) for sentence in split_sentences(lines[index])]
        if withheld.shares(normalize(lines[index], TEXT)):
            left_out["share words with withheld texts"] += len(sentences)
            continue
        for sentence in sentences:
            spelled = normalize(sentence, TEXT)
            words = spelled.split()
            if not _READABLE.fullmatch(sentence):
                left_out["are not read as spelled"] += 1
            elif not MIN_WORDS <= len(words) <= MAX_WORDS:
                left_out[f"do not have {MIN_WORDS} to {MAX_WORDS} words"] += 1
            elif not dictionary.keys() >= set(words):
                left_out["have words that the dictionary lacks"] += 1
            elif withheld.shares(spelled):  # a short sentence that equals a test sentence
                left_out["share words with withheld texts"] += 1
            elif spelled in seen:
                left_out["are duplicates"] += 1
            else:
                seen.add(spelled)
                yield sentence


def choose(sentences: Iterable[str], dictionary: Dictionary, *, candidates: int = CANDIDATES) -> Iterator[str]:
    """Of every `candidates` sentences, choose the one that adds most new words and phones for its length.

        gain(s) = sum over the different units u in s of 1 / (1 + n(u)), divided by the number of phones in s

    n(u) is the number of earlier chosen sentences with u. Units are the words, and the runs of three phones, also
    across words. This is the greedy step for a sum of harmonic numbers, which is submodular, over a random sample.

    Args:
        sentences: all their words are in the dictionary.
        dictionary: the phones of each word.
        candidates: 1 or more; there may be fewer for the last sentence.
    Source: Mirzasoleiman et al. 2015, "Lazier than lazy greedy", algorithm 1.
    """
    unit_counts: Counter[object] = Counter()
    remaining = iter(sentences)
    while sample := list(islice(remaining, candidates)):
        units = [_units(sentence, dictionary) for sentence in sample]
        gains = [sum(1 / (1 + unit_counts[unit]) for unit in row) / length for row, length in units]
        best = gains.index(max(gains))
        unit_counts.update(units[best][0])
        yield sample[best]


def _units(sentence: str, dictionary: Dictionary) -> tuple[list[object], int]:
    """The different words and runs of three phones, in the same order in every process, and the number of phones."""
    words = normalize(sentence, TEXT).split()
    phones = [phone for word in words for phone in dictionary[word]]
    return list(dict.fromkeys([*words, *zip(phones, phones[1:], phones[2:], strict=False)])), len(phones)


def synthesize(
    plan: Iterable[Line],
    model: VoiceModel,
    folder: Path,
    *,
    credit: Mapping[str, object],
    note: Callable[[str], None],
    disable: bool | None = None,
) -> Path:
    """Write VOICE/NUMBER-DIGEST.flac (16 kHz) for each line, manifest.tsv and credits.json; the path of the manifest.

    All lines are of split train. The digest covers all inputs of the sound, so a file is reused only for the same
    inputs. Sound that is silent, or too fast or slow for its text, is left out and counted. credits.json names the
    voices, the model and its licence.

    Args:
        plan: the lines to speak.
        model: speaks them.
        folder: COLLECTION/NAME; made if it is missing.
        credit: further entries of credits.json.
        note: called with one sentence about the lines left out.
        disable: the progress bar, as in tqdm.
    Raises:
        DataError: the manifest would be empty.
        OSError: the folder cannot be written to.
    """
    rows: list[str] = []
    voices: Counter[str] = Counter()
    left_out: list[str] = []
    total_seconds, unsaved = 0.0, 0

    def save() -> None:
        totals = {"voices": dict(sorted(voices.items())), "hours": round(total_seconds / 3600, 2)}
        credits = json.dumps({**model.credit, **credit, **totals}, indent=2, ensure_ascii=False)
        write_whole(folder / "credits.json", f"{credits}\n")
        write_whole(folder / "manifest.tsv", "".join(["path\ttranscript\tspeaker\tseconds\tsplit\n", *rows]))

    for line in tqdm(plan, desc=folder.name, unit="file", disable=disable):
        key = json.dumps([*model.credit.values(), line.voice, line.speed, line.sentence])
        name = f"{line.voice}/{line.number:06d}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.flac"
        if not (folder / name).is_file():
            waveform = model.speak(line.sentence, voice=line.voice, speed=line.speed)
            if not _is_speech(waveform, line.sentence):
                left_out.append(name)
                continue
            content = io.BytesIO()
            peak = float(np.abs(waveform).max())
            soundfile.write(content, waveform / max(1.0, peak), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            write_whole(folder / name, content.getvalue())
            unsaved += 1
        seconds = duration_seconds(folder / name)
        rows.append(f"{name}\t{line.sentence}\t{model.name}-{line.voice}\t{seconds:.2f}\ttrain\n")
        voices[line.voice] += 1
        total_seconds += seconds
        if unsaved == SAVE_EVERY:
            save()
            unsaved = 0
    if left_out:
        names = ", ".join(left_out[:5]) + ", …" * (len(left_out) > 5)
        note(f"{len(left_out)} left out, silent or too fast or too slow for their texts: {names}")
    if not rows:
        raise DataError("there must be sentences to speak, but none is left", path=folder)
    save()
    return folder / "manifest.tsv"


def _is_speech(waveform: Waveform, sentence: str) -> bool:
    seconds = len(waveform) / SAMPLE_RATE
    plausible = SLOWEST * seconds <= len(sentence) <= FASTEST * seconds
    return plausible and bool(np.isfinite(waveform).all()) and float(np.abs(waveform).max()) >= SILENT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe, with the arguments of the process if None; the exit status."""
    return run_command(PROG, lambda arguments: make_parser().parse(arguments), run, argv)


def make_parser() -> Parser:
    """The command line of the recipe."""
    parser = Parser(
        PROG,
        usage="python -m recipes.english.synthesize --voice-model DIR --text FILE... --withhold FILE... [OPTION...]",
        description="Speak sentences of text files in many voices, for training together with real speech.",
        examples=EXAMPLES,
    )
    add = parser.add_argument
    add("--voice-model", type=Path, required=True, metavar="DIR", help="the folder described below")
    add("--text", type=Path, nargs="+", required=True, metavar="FILE", help="one sentence or paragraph per line")
    add("--cmudict", type=Path, required=True, metavar="FILE", help="CMU's pronouncing dictionary, plain or .xz")
    add("--withhold", type=Path, nargs="+", required=True, metavar="FILE", help="texts of all dev and test sets")
    add("--output", type=Path, required=True, metavar="DIR", help="folder to write to, COLLECTION/kokoro")
    add("--number", type=at_least(1), default=5000, metavar="N", help="sentences to speak (default: 5000)")
    add("--seed", type=at_least(0), default=0, metavar="N", help="seed of all random numbers (default: 0)")
    add("--voices", nargs="+", metavar="NAME", help="default: the English ones, a* and b*")
    add("--speeds", type=float, nargs=2, default=(0.85, 1.2), metavar=("LOW", "HIGH"), help="default: 0.85 1.2")
    return parser


def run(args: argparse.Namespace) -> int:
    """Speak missing sentences, and write the manifest."""
    note = noter(args, prog=PROG)
    slow, fast = args.speeds
    if not 0.5 <= slow <= fast <= 2:
        raise ConfigError(f"--speeds must be a lower and a higher number, from 0.5 to 2, not {slow} and {fast}")
    model = Kokoro(args.voice_model, threads=args.threads)
    voices = sorted(set(args.voices or [voice for voice in model.voices if voice.startswith(("a", "b"))]))
    if unknown := set(voices) - set(model.voices):
        known = ", ".join(model.voices)
        raise ConfigError(f"--voices must be of {known}; not {', '.join(sorted(unknown))}")
    if not voices:
        raise ConfigError(f"no voice's name begins with a or b in {args.voice_model}; choose some with --voices")
    dictionary = read_cmudict(args.cmudict)
    withheld = Withheld(chain.from_iterable(map(transcripts, args.withhold)))
    left_out: Counter[str] = Counter()
    sentences = list(
        islice(choose(readable(args.text, dictionary, withheld, args.seed, left_out), dictionary), args.number)
    )
    reasons = "; ".join(f"{count} {reason}" for reason, count in left_out.most_common())
    note(f"{len(sentences)} sentences chosen, each the best of {CANDIDATES}; unusable: {reasons or 'none'}")
    if len(sentences) < args.number:
        note(f"the texts have fewer than --number {args.number} usable sentences: give more with --text")
    credit = {"texts": [path.name for path in args.text], "sentences_chosen": len(sentences), "seed": args.seed}
    plan = make_plan(sentences, voices, (slow, fast), args.seed)
    disable = disable_progress(args)
    write_result(f"{synthesize(plan, model, args.output, credit=credit, note=note, disable=disable)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
