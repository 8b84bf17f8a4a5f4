"""A corpus of tones in which every letter has its pitch, which small models learn in seconds."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import soundfile

from asr.acoustic.options import EncoderOptions, FrontendOptions
from asr.data.manifest import Utterance, write_manifest
from asr.training.augmentation import AugmentOptions
from asr.training.config import DataOptions, LoopOptions, TrainingConfig

PITCH = {"A": 400.0, "B": 900.0, "C": 1800.0}
PHONES = {"A": "EY", "B": "B IY", "C": "S IY"}  # of single letters; the lexicon has the words of one or two


def make_corpus(folder: Path) -> None:
    """Writes train.jsonl.gz (44 utterances), dev.jsonl.gz (8) and lexicon.txt into a folder."""
    rng = np.random.default_rng(7)
    utterances = []
    for number in range(52):
        words = ["".join(rng.choice(list(PITCH), rng.integers(1, 4))) for _ in range(rng.integers(1, 5))]
        path = folder / f"tone-{number:02d}.wav"
        soundfile.write(path, speak(" ".join(words), rng), 8000)
        utterances.append(
            Utterance(
                id=path.stem,
                audio=path,
                duration_seconds=soundfile.info(path).duration,
                text=" ".join(words),
                speaker=f"s{number % 3}",
            )
        )
    write_manifest(utterances[:44], folder / "train.jsonl.gz")
    write_manifest(utterances[44:], folder / "dev.jsonl.gz")
    words = [*PHONES, *(first + second for first in PHONES for second in PHONES)]
    lexicon = [f"{word} {' '.join(PHONES[letter] for letter in word)}\n" for word in words]
    (folder / "lexicon.txt").write_text("".join(lexicon))


def speak(text: str, rng: np.random.Generator) -> np.ndarray:
    """(N,) at 8 kHz: 120 ms of tone and 60 ms of quiet for each letter, 200 ms of quiet for a space."""
    pieces = [np.zeros(800)]
    for letter in text:
        if letter == " ":
            pieces.append(np.zeros(1600))
            continue
        pieces.append(0.3 * np.sin(2 * np.pi * PITCH[letter] * np.arange(960) / 8000))
        pieces.append(np.zeros(480))
    pieces.append(np.zeros(800))
    waveform = np.concatenate(pieces)
    return waveform + 0.003 * rng.standard_normal(len(waveform))


def make_config(corpus: Path, **changes) -> TrainingConfig:
    """A configuration for the corpus; `changes` replace options of the loop, or whole parts."""
    parts = {
        "data": DataOptions(
            train=(str(corpus / "train.jsonl.gz"),),
            dev=(str(corpus / "dev.jsonl.gz"),),
            batch_seconds=12.0,
            max_seconds=6.0,
        ),
        "frontend": FrontendOptions(sample_rate=8000, num_mel_bins=20),
        "augment": AugmentOptions(pause_seconds=0.3, frequency_mask_max_bins=2, time_mask_max_fraction=0.05),
        "encoder": EncoderOptions(
            reduction="stack", time_strides=(2,), num_layers=2, hidden_size=32, dropout=0.0, pool_after_layer=1
        ),
    }
    loop = {"epochs": 3, "learning_rate": 0.02, "warmup_epochs": 0.5, "average_best": 2, "precision": "float32"}
    names = {field.name for field in fields(TrainingConfig)}
    parts |= {name: changes.pop(name) for name in list(changes) if name in names}
    return TrainingConfig(**parts, loop=LoopOptions(**{**loop, **changes}))
