"""General English, from openly licensed collections to a trained model and its error rates, corpus by corpus."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from asr.acoustic.options import EncoderOptions
from asr.cli.arguments import Parser
from asr.corpora import an4, english
from asr.corpora.lm_text import write_lm_text
from asr.corpora.overlap import Withheld
from asr.data.manifest import read_manifest
from asr.decoding.options import DecodingOptions
from asr.text.normalization import normalize
from asr.training.augmentation import AugmentOptions
from asr.training.config import AuxiliaryOptions, DataOptions, LoopOptions, NgramTrainingConfig, TrainingConfig
from asr.training.ngram import train_ngram
from recipes import pretrained
from recipes.stages import Note, Recipe

DESCRIPTION = "everyday English, read aloud or dictated, from many kinds of microphones; names and numbers as words"
RESCORE_LM = "english-lm"  # part of the package, made by recipes/english_lm

KATHLEEN = "Rhasspy, https://github.com/rhasspy/dataset-voice-kathleen, CC0 1.0"
LICENCES = {
    "librispeech": "LibriSpeech, V. Panayotov, G. Chen, D. Povey, S. Khudanpur, https://www.openslr.org/12, CC BY 4.0",
    "common_voice": "Mozilla Common Voice, https://commonvoice.mozilla.org, CC0 1.0",
    "speechocean762": "speechocean762, J. Zhang et al., https://www.openslr.org/101, CC BY 4.0",
    "rhasspy_kathleen": KATHLEEN,
    "kathleen": KATHLEEN,
    "ljspeech": "LJSpeech, K. Ito, https://keithito.com/LJ-Speech-Dataset, public domain",
    "arctic": "CMU ARCTIC, J. Kominek and A. Black, http://festvox.org/cmu_arctic, free of restrictions",
    "african_storybook": "African Storybook, https://github.com/global-asp, authors and readers in its README, CC BY",
    "kokoro": "synthetic speech of Kokoro-82M, hexgrad, https://huggingface.co/hexgrad/Kokoro-82M, Apache 2.0",
    "an4": "CMU AN4, http://www.speech.cs.cmu.edu/databases/an4/, CMU's BSD-style terms",
}
TEXTS = {
    "novels": "English novels of 1811 to 1930, public domain",
    "eltec": "ELTeC-eng, English novels of 1840 to 1920, L. Burnard, https://github.com/COST-ELTeC/ELTeC-eng, public "
    "domain, mark-up CC BY 4.0",
    "standard_ebooks": "books of Standard Ebooks, https://standardebooks.org, CC0 1.0",
    "common_voice_sentences": "prompts of Common Voice (CC0), Tatoeba (CC BY 2.0 FR), CLINC150 (CC BY 3.0), "
    "NLU-Evaluation-Data and Taskmaster-4 (CC BY 4.0), MASC (the ANC's terms), speeches (public domain)",
}
UNKNOWN = "licence not known to the recipe"


def add_flags(parser: Parser) -> None:
    """--pretrained and its companions, --noise, --cmudict, --an4, --text and --keep-opus."""
    pretrained.add_pretrained(parser, required=True)
    add = parser.add_argument
    add("--noise", type=Path, required=True, metavar="DIR", help="background/ with noises, rir/ with rooms")
    add("--cmudict", type=Path, required=True, metavar="FILE", help="CMU's pronouncing dictionary, plain or .xz")
    add("--an4", type=Path, metavar="PATH", help="the AN4 corpus or its archive (default: download it)")
    add("--text", type=Path, nargs="+", default=[], metavar="FILE", help="texts for the n-gram model of the beam")
    add(
        "--keep-opus",
        action="store_true",
        help="read Opus and MP3 files as they are, instead of FLAC copies: less space, but slower without a cache",
    )


def prepare(args: argparse.Namespace, folder: Path, *, note: Note, progress: bool | None) -> dict[str, Path]:
    """All manifests by name, AN4's as "an4-train", "an4-dev" and "an4-test", and a lexicon in the same folder."""
    digits = an4.prepare(source=args.an4, output=folder / "an4", progress=progress)
    manifests = english.prepare(
        sources=args.source,
        cmudict=args.cmudict,
        output=folder,
        convert=not args.keep_opus,
        note=note,
        progress=progress,
    )
    lexicon = manifests.pop("lexicon")
    assert lexicon == lexicon_below(args.output)
    return manifests | {f"an4-{split}": digits[split] for split in ("train", "dev", "test")}


def lexicon_below(output: Path) -> Path:
    """The path of the pronunciations."""
    return Path(os.path.abspath(output)) / "data" / "lexicon.txt"


def configure(manifests: Mapping[str, Path], args: argparse.Namespace) -> TrainingConfig:
    """The choices of this recipe, made on dev; their effects are in its README.md."""
    if not pretrained.has_encoder(args):
        return from_nothing(manifests, args)
    config = TrainingConfig(
        data=DataOptions(
            train=(str(manifests["train"]), str(manifests["an4-train"])),
            dev=(str(manifests["dev"]),),
            batch_seconds=120.0,
            max_seconds=24.0,
            noise=str(args.noise / "background"),
            impulse_responses=str(args.noise / "rir"),
        ),
        augment=AugmentOptions(
            speeds=(0.9, 0.95, 1.0, 1.05, 1.1),
            reverb_probability=0.15,
            noise_probability=0.3,
            noise_snr_db=(5.0, 25.0),
            telephone_probability=0.05,
            mp3_probability=0.03,
            pause_seconds=0.3,
            time_mask_max_frames=20,
            frequency_mask_max_bins=30,
        ),
        loop=LoopOptions(epochs=args.epochs or 3, seed=args.seed, warmup_epochs=0.5, average_best=2),
        name="english",
        description=DESCRIPTION,
    )
    return pretrained.on_encoder(config, args)


def from_nothing(manifests: Mapping[str, Path], args: argparse.Namespace) -> TrainingConfig:
    """The choices without a pretrained encoder: log-mel energies, and phones as a second target."""
    return TrainingConfig(
        data=DataOptions(
            train=(str(manifests["train"]), str(manifests["an4-train"])),
            dev=(str(manifests["dev"]),),
            batch_seconds=96.0,
            max_seconds=20.0,
            join_probability=0.1,
            noise=str(args.noise / "background"),
            impulse_responses=str(args.noise / "rir"),
        ),
        augment=AugmentOptions(
            speeds=(0.9, 0.95, 1.0, 1.05, 1.1),
            reverb_probability=0.1,
            noise_probability=0.15,
            noise_snr_db=(5.0, 25.0),
            telephone_probability=0.05,
            mp3_probability=0.03,
            pause_seconds=0.5,
            background_probability=0.02,
            time_mask_max_frames=15,
            frequency_mask_max_bins=10,
        ),
        encoder=EncoderOptions(num_layers=5, hidden_size=256, time_strides=(2, 2), pool_after_layer=0, dropout=0.05),
        auxiliary=AuxiliaryOptions(lexicon=str(lexicon_below(args.output)), layer=3, weight=0.4),
        loop=LoopOptions(epochs=args.epochs or 37, seed=args.seed, warmup_epochs=1.0),
        name="english",
        description=DESCRIPTION,
    )


def decoding(
    args: argparse.Namespace, manifests: Mapping[str, Path], model: Path, *, note: Note, progress: bool | None
) -> dict[str, DecodingOptions]:
    """Two beams with a word 3-gram of the text in the model folder; the second is rescored."""
    if not args.text:
        return {}
    ngram = model / "ngram.safetensors"
    shutil.copyfile(make_ngram(args, manifests, note=note), ngram)
    source = make_source(manifests, model / "source.safetensors", note=note)
    return {
        "3-gram": DecodingOptions.of(beam_width=100, lm=str(ngram)),
        "3-gram and RNN": DecodingOptions.of(
            beam_width=500,
            lm=str(ngram),
            rescore_lm=RESCORE_LM,
            rescore_count=200,
            rescore_within=14.0,
            source_lm=str(source),
        ),
    }


def make_ngram(args: argparse.Namespace, manifests: Mapping[str, Path], *, note: Note) -> Path:
    """The 3-gram of the texts without sentences of dev and test; its name changes with both."""
    held_out = [
        normalize(utterance.text, english.TEXT)
        for name, path in manifests.items()
        if name.endswith(("-dev", "-test")) and not name.startswith("an4-")  # AN4's commands occur in any text
        for utterance in read_manifest(path)
    ]
    sizes = [f"{os.path.abspath(path)} {path.stat().st_size}" for path in args.text]
    name = hashlib.sha256("\n".join([*sizes, *held_out]).encode()).hexdigest()[:12]
    text, ngram = (args.output / "data" / file for file in (f"text-{name}.txt", f"3-gram-{name}.safetensors"))
    if not ngram.is_file():
        write_lm_text(
            args.text,
            text,
            withheld=Withheld(held_out),
            options=english.TEXT,
            characters=english.LETTERS,
            note=note,
        )
        config = NgramTrainingConfig(train=(str(text),), order=3, prune=(0, 4, 6), max_words=60_000)
        train_ngram(config, ngram, note=note)
    return ngram


def make_source(manifests: Mapping[str, Path], path: Path, *, note: Note) -> Path:
    """The character 3-gram of the training texts; longer n-grams memorise sentences that several people read."""
    train = tuple(str(manifests[name]) for name in ("train", "an4-train"))
    train_ngram(NgramTrainingConfig(train=train, text=english.TEXT, unit="character", order=3), path, note=note)
    return path


def credits(args: argparse.Namespace, manifests: Mapping[str, Path]) -> dict[str, str]:
    """Maker and licence of each training corpus and text."""
    corpora = {utterance.id.partition("/")[0] for utterance in read_manifest(manifests["train"])} | {"an4"}
    known = {
        corpus: next((credit for start, credit in LICENCES.items() if corpus.startswith(start)), UNKNOWN)
        for corpus in sorted(corpora)
    }
    return known | {path.name: TEXTS.get(path.name.partition(".")[0], UNKNOWN) for path in args.text}


RECIPE = Recipe(
    name="english",
    about="Train a model of general English and measure it on every dev and test set.",
    examples="""\
  python -m recipes.english.run --pretrained encoders/whisper-base \\
      --source corpora/english --noise corpora/noise \\
      --cmudict corpora/text/cmudict.txt.xz --text corpora/text/novels.txt.xz
  python -m recipes.english.run --pretrained none --source corpora/english \\
      --noise corpora/noise --cmudict corpora/text/cmudict.txt.xz
  python -m recipes.english.run --pretrained encoders/whisper-base --tune-all \\
      --device cuda --batch-seconds 600 ...""",
    corpus="English speech from several corpora, see corpora",
    licence="of each corpus its own, see corpora",
    epochs=None,
    stored="int8",
    prepare=prepare,
    configure=configure,
    measured=("*-dev", "*-test"),
    tuned_on=("librispeech_dev_clean-test", *(f"{corpus}-dev" for corpus in (*english.DEV_CORPORA, "an4"))),
    decoding=decoding,
    credits=credits,
    usage="--pretrained FOLDER|none --source DIR... --noise DIR --cmudict FILE",
    source="collections, see data_prep/english.py",
    several_sources=True,
    add_flags=add_flags,
)
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(main())
