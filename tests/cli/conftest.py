from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from tests.tones import speak

SPOKEN = {"a.flac": "ABC", "b.wav": "CAB AC", "day 1/a.wav": "AA BC CA", "day 1/c.wav": "B"}


@pytest.fixture(scope="session")
def model(tone_run: tuple[Path, list[str]]) -> str:
    """The folder of a model that understands tones."""
    return str(tone_run[0] / "model")


@pytest.fixture
def sounds(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder with the sounds of SPOKEN, and with what is not to be found there."""
    folder = tmp_path / "sounds"
    for name, text in {**SPOKEN, ".hidden.wav": "A", ".cache/d.wav": "A"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, speak(text, rng), 8000)
    (folder / "notes.txt").write_text("not sound")
    return folder


@pytest.fixture
def texts(model: str, sounds: Path) -> list[str]:
    """What the model says of the sounds from Python, in the order of their paths: not always what was spoken."""
    recognizer = asr.load(model, device="cpu", precision="float32")
    found = [recognizer.transcribe(sounds / name).text for name in SPOKEN]
    assert all(found) and len(set(found)) == len(found)
    return found
