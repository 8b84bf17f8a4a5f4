"""A corpus with faults, examined."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from asr.doctor.examination import Examination, examine
from tests.doctor.voices import NASTY, Corpus, voice


@pytest.fixture(scope="session")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Examination:
    """A corpus with two clipped utterances, a missing one, a nasty text on loud sound, and a note."""
    rng = np.random.default_rng(0)
    corpus = Corpus(tmp_path_factory.mktemp("ill"), rng)
    for line, gain in ((3, 20.0), (5, 50.0)):
        samples, _ = soundfile.read(corpus.sound("train", line))
        corpus.replace_sound("train", line, np.clip(gain * samples, -1, 1))
    corpus.sound("train", 4).unlink()
    corpus.set_text("train", 6, NASTY)
    corpus.replace_sound("train", 6, voice(rng, seconds=2.0) + 0.2)
    corpus.set_text("train", 8, "vex dogs")
    corpus.set_text("test", 2, "vex dogs")
    return examine({str(path): split for split, path in corpus.manifests.items()})
