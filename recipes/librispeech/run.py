"""LibriSpeech: 100 or 960 hours of audiobooks, and a language model of the official text."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from asr.acoustic.options import EncoderOptions
from asr.cli.arguments import Parser, at_least
from asr.corpora import librispeech
from asr.corpora.download import download
from asr.decoding.options import DecodingOptions
from asr.files.writing import replacing
from asr.lm.corpus import read_lines
from asr.training.augmentation import AugmentOptions
from asr.training.config import DataOptions, LoopOptions, NgramTrainingConfig, TrainingConfig
from asr.training.ngram import train_ngram
from recipes.stages import Note, Recipe

TRAIN = {100: ("train-clean-100",), 960: ("train-clean-100", "train-clean-360", "train-other-500")}
ENCODERS = {
    100: EncoderOptions(num_layers=5, hidden_size=512, time_strides=(2, 2), pool_after_layer=0, dropout=0.3),
    960: EncoderOptions(num_layers=6, hidden_size=768, time_strides=(2, 2), pool_after_layer=0, dropout=0.15),
}
BATCH_SECONDS = {100: 240.0, 960: 480.0}
MEASURED = ("dev-clean", "dev-other", "test-clean", "test-other")


def add_flags(parser: Parser) -> None:
    """--hours and --lm-every."""
    add = parser.add_argument
    add("--hours", type=int, choices=tuple(TRAIN), default=100, help="hours of speech to train on (default: 100)")
    add(
        "--lm-every",
        type=at_least(0),
        default=10,
        metavar="N",
        help="train the language model on every N-th sentence of the official text; 0: none (default: 10)",
    )


def prepare(args: argparse.Namespace, folder: Path, *, note: Note, progress: bool | None) -> dict[str, Path]:
    """Manifests of LibriSpeech's parts, by name."""
    options = librispeech.Options(parts=(*TRAIN[args.hours], *MEASURED))
    return librispeech.prepare(source=args.source, output=folder, progress=progress, options=options)


def configure(manifests: Mapping[str, Path], args: argparse.Namespace) -> TrainingConfig:
    """The choices of this recipe: a larger encoder, larger batches and less dropout for 960 hours."""
    return TrainingConfig(
        data=DataOptions(
            train=tuple(str(manifests[part]) for part in TRAIN[args.hours]),
            dev=(str(manifests["dev-clean"]), str(manifests["dev-other"])),
            batch_seconds=BATCH_SECONDS[args.hours],
            max_seconds=20.0,
        ),
        augment=AugmentOptions(time_mask_max_frames=50, frequency_mask_max_bins=27),
        encoder=ENCODERS[args.hours],
        loop=LoopOptions(epochs=args.epochs, seed=args.seed, learning_rate=1e-3, warmup_epochs=1.0),
        name="librispeech",
        description=f"English audiobooks, trained on {args.hours} hours",
    )


def decoding(
    args: argparse.Namespace, manifests: Mapping[str, Path], model: Path, *, note: Note, progress: bool | None
) -> dict[str, DecodingOptions]:
    """A beam with a word 3-gram of the official text, which excludes the books of the dev and test sets."""
    if not args.lm_every:
        return {}
    folder = args.output / "data"
    arpa = folder / f"3-gram.every-{args.lm_every}.arpa.gz"
    if not arpa.is_file():
        archive = librispeech.LM_TEXT
        text = download(
            archive.url, folder / "librispeech-lm-norm.txt.gz", checksum=archive.checksum, progress=progress
        )
        sentences = folder / f"lm.every-{args.lm_every}.txt"
        with replacing(sentences) as file:
            file.writelines(f"{line}\n".encode() for line in islice(read_lines(text), 0, None, args.lm_every))
        train_ngram(NgramTrainingConfig(train=(str(sentences),), order=3, prune=(0, 0, 1)), arpa, note=note)
    return {"beam of 100": DecodingOptions.of(beam_width=100, lm=str(arpa))}


RECIPE = Recipe(
    name="librispeech",
    about="Train a model on 100 or 960 hours of LibriSpeech, and measure it on its four dev and test sets.",
    examples="""\
  python -m recipes.librispeech.run --hours 100
  python -m recipes.librispeech.run --hours 960 --output runs/librispeech-960 \\
      --source corpora/LibriSpeech --nproc 8 --epochs 25""",
    corpus="LibriSpeech, V. Panayotov, G. Chen, D. Povey, S. Khudanpur, https://www.openslr.org/12",
    licence="CC BY 4.0",
    epochs=40,
    prepare=prepare,
    configure=configure,
    measured=MEASURED,
    tuned_on=("dev-clean",),
    decoding=decoding,
    add_flags=add_flags,
)
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(main())
