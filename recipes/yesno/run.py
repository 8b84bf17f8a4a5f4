"""yesno: the smallest recipe, from the corpus to a model without errors on its held-out half, in a minute or two."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.acoustic.encoder import EncoderOptions
from asr.acoustic.frontend import FrontendOptions
from asr.corpora import yesno
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.decoding.options import DecodingOptions
from asr.training.augmentation import AugmentOptions
from asr.training.config import DataOptions, LoopOptions, TrainingConfig
from recipes.stages import Note, Recipe, word_list


def prepare(args: argparse.Namespace, folder: Path, *, note: Note, progress: bool | None) -> dict[str, Path]:
    """Manifests of train, dev and test; in train every four words that follow each other, cut close to the first.

    By Kaldi's split all recordings of train begin with NO, and all of test with YES. A network that knows where
    it is learns that the first word is NO, and gets that word wrong in test, and no other.
    """
    manifests = yesno.prepare(source=args.source, output=folder, progress=progress)
    pieces = folder / "train-pieces.jsonl.gz"
    write_manifest((piece for whole in read_manifest(manifests["train"]) for piece in _pieces(whole)), pieces)
    return {**manifests, "train": pieces}


def decoding(
    args: argparse.Namespace, manifests: Mapping[str, Path], model: Path, *, note: Note, progress: bool | None
) -> dict[str, DecodingOptions]:
    """A beam that knows the two words, as Kaldi's recipe does; greedily, one in a hundred is spelled otherwise."""
    return word_list(model, ("NO", "YES"))


def _pieces(whole: Utterance, *, num_words: int = 4) -> Iterator[Utterance]:
    """The stretches of so many words of a recording, if its pauses show where each word is."""
    words = whole.text.split()
    waveform, rate = soundfile.read(whole.audio)
    cuts = [max(0.0, begin - 0.05) for begin in _begins_of_words(waveform, rate)] + [whole.duration_seconds]
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


def _begins_of_words(waveform: NDArray[np.float64], rate: int) -> list[float]:
    """Seconds at which it gets loud after 0.1 s or more of pause: a sixth of the level of the loudest frames."""
    frame = rate // 50
    energy = np.square(waveform[: len(waveform) // frame * frame]).reshape(-1, frame).mean(axis=1)
    level = np.convolve(np.sqrt(energy), np.ones(3) / 3, "same")
    loud = np.flatnonzero(level > np.percentile(level, 98) / 6)
    stretches = np.split(loud, np.flatnonzero(np.diff(loud) > 5) + 1)
    return [float(stretch[0]) / 50 for stretch in stretches if np.ptp(stretch) >= 4]


def configure(manifests: Mapping[str, Path], args: argparse.Namespace) -> TrainingConfig:
    """The choices of this recipe, made on dev; frames of 80 ms, because words are slow, and batches of two."""
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
        description="one man's Hebrew for yes and no, written YES and NO",
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
