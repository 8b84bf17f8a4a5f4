"""Options and fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests import tones

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # cuBLAS reads it once, before the first test uses it


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-files", type=int, default=2_000, help="damaged sound files to try (default 2000)")
    parser.addoption("--mp3-files", type=int, default=10, help="random MP3s to compare with ffmpeg (default 10)")
    parser.addoption("--seed", type=int, default=0, help="seed of everything random in the tests (default 0)")


@pytest.fixture(autouse=True)
def exact_float32(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No TF32 in the recurrent layers of the tests on a GPU, which compare float32 with the CPU's."""
    if "gpu" in request.keywords:
        import torch

        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--seed")


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes `os.pread` has read; who appends a 0 begins to count again, in the last place."""
    counts, pread = [0], os.pread

    def counted(*arguments: int) -> bytes:
        data = pread(*arguments)
        counts[-1] += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    return counts


@pytest.fixture(scope="session")
def tone_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the manifests and the lexicon of `tests.tones`."""
    folder = tmp_path_factory.mktemp("tones")
    tones.make_corpus(folder)
    return folder


@pytest.fixture
def tone_config(tone_corpus: Path) -> Callable[..., object]:
    """Makes the configuration of a small model of the tones; see `tests.tones.make_config`."""
    return partial(tones.make_config, tone_corpus)


@pytest.fixture(scope="session")
def tone_run(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The run folder of a model that learnt the tones, phones as a second target; and what the training noted."""
    from asr.training.acoustic import train_acoustic_model
    from asr.training.config import AuxiliaryOptions

    folder = tmp_path_factory.mktemp("trained") / "run"
    auxiliary = AuxiliaryOptions(lexicon=str(tone_corpus / "lexicon.txt"), layer=1, weight=0.3)
    config = tones.make_config(
        tone_corpus, epochs=30, warmup_epochs=2.0, auxiliary=auxiliary, name="tones", description="Tones."
    )
    notes: list[str] = []
    train_acoustic_model(config, folder, device="cpu", note=notes.append)
    return folder, notes
