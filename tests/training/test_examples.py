"""Examples: utterances from manifests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from asr.data.manifest import read_manifest, write_manifest
from asr.errors import DataError
from asr.training.examples import read_utterances


def test_manifests_are_read_one_after_the_other(tone_corpus: Path) -> None:
    train, dev = (str(tone_corpus / f"{name}.jsonl.gz") for name in ("train", "dev"))
    assert read_utterances([dev, train]) == [*read_manifest(dev), *read_manifest(train)]


def test_manifests_without_utterances_or_sound_are_refused(tone_corpus: Path, tmp_path: Path) -> None:
    empty, gone = tmp_path / "empty.jsonl", tmp_path / "gone.jsonl"
    write_manifest([], empty)
    with pytest.raises(DataError, match=r"empty.jsonl: manifests must hold utterances, but there are none"):
        read_utterances([str(empty)])
    utterance = read_manifest(tone_corpus / "dev.jsonl.gz")[0]
    copy = tmp_path / "copy.wav"
    copy.write_bytes(utterance.audio.read_bytes())
    write_manifest([replace(utterance, audio=copy)], gone)
    copy.unlink()
    with pytest.raises(DataError, match=r"gone.jsonl:1: the audio of .* must be a file, but there is none"):
        read_utterances([str(gone)])
