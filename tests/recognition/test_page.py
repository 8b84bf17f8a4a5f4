"""The page of a recording; `tests/output/test_page.py` has what is on it."""

from __future__ import annotations

import pytest
import soundfile

from asr.errors import ConfigError
from asr.recognition.page import recording_page


def test_a_libsndfile_without_mp3_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "WAV"})
    with pytest.raises(ConfigError, match="a page needs MP3, which this libsndfile cannot write"):
        recording_page("a.wav", None)  # type: ignore[arg-type]
