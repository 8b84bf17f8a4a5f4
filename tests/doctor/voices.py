"""A small corpus of noise with the rhythm of speech, in which nothing is wrong until a test plants it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from asr.data.manifest import Utterance, write_manifest

SAMPLE_RATE = 16_000
NASTY = "quick </td><script>alert('1')</script> \u202ebrown \x1b[31mfox & co"  # a text
WORDS = ("quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "while", "seven", "wizards", "mix", "juice", "vex")


def voice(rng: np.random.Generator, *, seconds: float = 1.0, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """(N,) low noise that swells four times a second, at a peak of a third of full scale."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    sound = np.convolve(rng.standard_normal(len(time)), np.ones(8), "same") * np.sin(np.pi * 4 * time) ** 2
    return 0.33 * sound / np.abs(sound).max()


@dataclass
class Corpus:
    """Manifests train and test in a folder, with a sound file for each line."""

    folder: Path
    rng: np.random.Generator
    suffix: str = ".wav"
    counts: tuple[int, int] = (24, 6)
    manifests: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split, count in zip(("train", "test"), self.counts, strict=True):
            utterances = []
            for number in range(1, count + 1):
                path = self.sound(split, number)
                seconds = float(self.rng.uniform(2.0, 2.4))
                soundfile.write(path, voice(self.rng, seconds=seconds), SAMPLE_RATE)
                utterances.append(
                    Utterance(
                        id=path.stem,
                        audio=path,
                        duration_seconds=soundfile.info(path).duration,
                        text=" ".join(self.rng.choice(WORDS, 6)),
                        speaker=f"{split}-{number % 4}",
                    )
                )
            self.manifests[split] = self.folder / f"{split}.jsonl"
            write_manifest(utterances, self.manifests[split])

    def sound(self, split: str, line: int) -> Path:
        """The sound file of a line."""
        return self.folder / f"{split}-{line:02d}{self.suffix}"

    def edit(self, split: str, line: int, change: Callable[[dict], None]) -> None:
        """Changes one line of a manifest."""
        lines = self.manifests[split].read_text().splitlines(keepends=True)
        cut = json.loads(lines[line - 1])
        change(cut)
        lines[line - 1] = json.dumps(cut) + "\n"
        self.manifests[split].write_text("".join(lines))

    def set_text(self, split: str, line: int, text: str) -> None:
        """Gives a line another text."""
        self.edit(split, line, lambda cut: cut["supervisions"][0].update(text=text))

    def text(self, split: str, line: int) -> str:
        """The text of a line."""
        return json.loads(self.manifests[split].read_text().splitlines()[line - 1])["supervisions"][0]["text"]

    def replace_sound(self, split: str, line: int, samples: np.ndarray, **options: object) -> None:
        """Gives a line another sound, and its duration."""
        soundfile.write(self.sound(split, line), samples, SAMPLE_RATE, **options)
        self.declare(split, line, num_samples=len(samples))

    def declare(self, split: str, line: int, *, num_samples: int) -> None:
        """Lets a line state another duration, everywhere."""
        seconds = num_samples / SAMPLE_RATE

        def change(cut: dict) -> None:
            cut["duration"] = cut["supervisions"][0]["duration"] = cut["recording"]["duration"] = seconds
            cut["recording"]["num_samples"] = num_samples

        self.edit(split, line, change)
