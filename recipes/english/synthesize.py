"""Sentences of text files, spoken in many voices, as one more corpus for recipes/english/run.py --source.

The speech is clean and close: the noise, rooms, telephones and codecs of run.py are added in training, anew in every
epoch. What each sentence is, who speaks it and how fast follows from its number and the files and flags given, other
than --number, so that a larger one goes on where a smaller one ended.
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
  voices/NAME.bin   a voice each, 510 x 256 float32; NAME begins with a in
                    American voices and with b in British ones
README.md beside this file says where they come from. Further packages:
  pip install onnxruntime espeakng-loader phonemizer-fork

Killed at any moment, the same command goes on. OUTPUT/manifest.tsv is there,
and correct, after every 100 files. --withhold takes manifests (.jsonl.gz),
tables with a column `transcript` (.tsv) and plain texts.

examples:
  nice -n 15 python -m recipes.english.synthesize --voice-model kokoro \\
      --text corpora/text/common_voice_sentences.txt.xz \\
      --cmudict corpora/text/cmudict.txt.xz --number 5000 --threads 1 \\
      --withhold corpora/english/*/manifest.tsv --output synthetic/kokoro
"""

MIN_WORDS, MAX_WORDS = 4, 25
CANDIDATES = 16  # sentences drawn for each one chosen
SAVE_EVERY = 100  # new files after which the manifest is written
SILENT = 0.01  # peak of full scale: Kokoro's speech peaks at 0.2 to 0.9

# What is read as it is spelled, and spelled A to Z: no digits, accents, symbols, abbreviations, or words in capitals,
# which a voice may spell.
_READABLE = re.compile(r"""(?!.*[A-Z]{2})["'(]*[A-Za-z][A-Za-z ,;:'"()-]*[.!?]*["')]*""")


class VoiceModel(Protocol):
    """What speaks: its name, and whose work it is, under what licence, in which version."""

    @property
    def name(self) -> str: ...

    @property
    def credit(self) -> Mapping[str, str]: ...

    def speak(self, sentence: str, *, voice: str, speed: float) -> Waveform:
        """The sentence as (N,) float32 at 16 kHz, `speed` times as fast as the voice's own pace."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Who says what, and how fast."""

    number: int
    sentence: str
    voice: str
    speed: float


def make_plan(
    sentences: Iterable[str], voices: Sequence[str], speeds: tuple[float, float], seed: int
) -> Iterator[Line]:
    """A line for each sentence; of `len(voices)` in a row each is of another voice, in an order drawn for each round.

    Args:
        sentences: in the order in which they are numbered, from 0.
        voices: names, at least one.
        speeds: slowest and fastest, between which each is as likely.
        seed: 0 or more; voice and speed depend on it and the sentence's number alone.
    """
    for number, sentence in enumerate(sentences):
        turn, place = divmod(number, len(voices))
        order = np.random.default_rng((seed, 0, turn)).permutation(len(voices))
        speed = round(np.random.default_rng((seed, 1, number)).uniform(*speeds), 2)
        yield Line(number=number, sentence=sentence, voice=voices[order[place]], speed=speed)


def readable(
    texts: Iterable[Path], dictionary: Dictionary, withheld: Withheld, seed: int, left_out: Counter[str]
) -> Iterator[str]:
    """The sentences that a voice reads as they are spelled, each once, as they are written, lines in random order.

    Args:
        texts: files with a sentence or a paragraph a line.
        dictionary: sentences with words that it lacks are left out, for nobody knows how a voice will say them.
        withheld: of texts normalised as run.py does; a line that shares words with one is left out whole.
        seed: of the order.
        left_out: gets the number of sentences left out, by reason.
    Raises:
        DataError: as `read_lines`.
    """
    lines = [line for path in texts for line in read_lines(path)]
    said: set[str] = set()
    for index in np.random.default_rng((seed, 2)).permutation(len(lines)):
        sentences = [" ".join(sentence.split()) for sentence in split_sentences(lines[index])]
        if withheld.shares(normalize(lines[index], TEXT)):
            left_out["share words with what is withheld"] += len(sentences)
            continue
        for sentence in sentences:
            spelled = normalize(sentence, TEXT)
            words = spelled.split()
            if not _READABLE.fullmatch(sentence):
                left_out["are not spelled as they are read"] += 1
            elif not MIN_WORDS <= len(words) <= MAX_WORDS:
                left_out[f"have not {MIN_WORDS} to {MAX_WORDS} words"] += 1
            elif not dictionary.keys() >= set(words):
                left_out["have words that the dictionary lacks"] += 1
            elif withheld.shares(spelled):  # a short one, equal to a whole test sentence
                left_out["share words with what is withheld"] += 1
            elif spelled in said:
                left_out["come twice"] += 1
            else:
                said.add(spelled)
                yield sentence


def choose(sentences: Iterable[str], dictionary: Dictionary, *, candidates: int = CANDIDATES) -> Iterator[str]:
    """Of every `candidates` sentences the one that adds most, for its length, to the words and phones spoken so far.

        gain(s) = sum over the different units u in s of 1 / (1 + n(u)), divided by the number of phones in s

    n(u) counts the sentences chosen earlier that have u. Units are the words, and the runs of three phones, across
    words. It is the greedy step for a sum of harmonic numbers, which is submodular, over a random sample.

    Args:
        sentences: their words are all in the dictionary.
        dictionary: the phones of each word.
        candidates: 1 or more; the last sentence is of as many as are left.
    Source: Mirzasoleiman et al. 2015, "Lazier than lazy greedy", algorithm 1.
    """
    spoken: Counter[object] = Counter()
    remaining = iter(sentences)
    while hand := list(islice(remaining, candidates)):
        units = [_units(sentence, dictionary) for sentence in hand]
        gains = [sum(1 / (1 + spoken[unit]) for unit in found) / length for found, length in units]
        best = gains.index(max(gains))
        spoken.update(units[best][0])
        yield hand[best]


def _units(sentence: str, dictionary: Dictionary) -> tuple[list[object], int]:
    """The different words and runs of three phones, in an order that is the same in every process; how many phones."""
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
    """The manifest.tsv of the corpus, all of split train, with VOICE/NUMBER-DIGEST.flac (16 kHz) for each line.

    The digest is of everything the sound depends on, so that a file is kept where the plan still wants it, and another
    plan in the same folder never takes it for its own. What is silent, or faster or slower than text can be read, is
    left out and counted. Beside the manifest, credits.json names the voices, the model and its licence.

    Args:
        plan: what to speak.
        model: speaks it.
        folder: COLLECTION/NAME; made if it is missing.
        credit: further entries of credits.json.
        note: called with one sentence about what was left out.
        disable: the progress bar, as tqdm takes it.
    Raises:
        DataError: there is nothing in the manifest.
        OSError: the folder cannot be written to.
    """
    rows: list[str] = []
    voices: Counter[str] = Counter()
    left_out: list[str] = []
    total_seconds, unsaved = 0.0, 0

    def save() -> None:
        made = {"voices": dict(sorted(voices.items())), "hours": round(total_seconds / 3600, 2)}
        owed = json.dumps({**model.credit, **credit, **made}, indent=2, ensure_ascii=False)
        write_whole(folder / "credits.json", f"{owed}\n")
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
    """The exit status of the recipe with these arguments, those of the process if None."""
    return run_command(PROG, lambda given: make_parser().parse(given), run, argv)


def make_parser() -> Parser:
    """The command line of the recipe."""
    parser = Parser(
        PROG,
        usage="python -m recipes.english.synthesize --voice-model DIR --text FILE... --withhold FILE... [OPTION...]",
        description="Speak sentences of text files in many voices, as a corpus to train on beside real speech.",
        examples=EXAMPLES,
    )
    add = parser.add_argument
    add("--voice-model", type=Path, required=True, metavar="DIR", help="the folder described below")
    add("--text", type=Path, nargs="+", required=True, metavar="FILE", help="a sentence or paragraph a line; .xz, .gz")
    add("--cmudict", type=Path, required=True, metavar="FILE", help="CMU's pronouncing dictionary, plain or .xz")
    add("--withhold", type=Path, nargs="+", required=True, metavar="FILE", help="texts of all dev and test sets")
    add("--output", type=Path, required=True, metavar="DIR", help="COLLECTION/kokoro: the corpus in its collection")
    add("--number", type=at_least(1), default=5000, metavar="N", help="sentences to speak (default: 5000)")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of everything random (default: 0)")
    add("--voices", nargs="+", metavar="NAME", help="default: the English ones, whose names begin with a or b")
    add("--speeds", type=float, nargs=2, default=(0.85, 1.2), metavar=("LOW", "HIGH"), help="default: 0.85 1.2")
    return parser


def run(args: argparse.Namespace) -> int:
    """Speaks what is not there yet, and writes the manifest."""
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
    reasons = "; ".join(f"{count} {why}" for why, count in left_out.most_common())
    note(f"{len(sentences)} sentences chosen, each the best of {CANDIDATES}; left out before that: {reasons or 'none'}")
    if len(sentences) < args.number:
        note(f"the texts are used up, {args.number} sentences were asked for: give more with --text")
    credit = {"texts": [path.name for path in args.text], "sentences_chosen": len(sentences), "seed": args.seed}
    plan = make_plan(sentences, voices, (slow, fast), args.seed)
    disable = disable_progress(args)
    write_result(f"{synthesize(plan, model, args.output, credit=credit, note=note, disable=disable)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
