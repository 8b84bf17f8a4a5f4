"""A person reads sentences aloud: a person of a script, and microphones of arrays."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli.data import main
from asr.errors import AsrError, ConfigError, InputError
from asr.importing.recording import (
    LONGEST_WORDS,
    RATE,
    SystemMicrophone,
    default_sentences,
    fault_of,
    record_sentences,
    sentences_to_read,
)
from asr.importing.utterances import import_recordings

SENTENCES = ["one small step", "two large steps", "three steps more"]


def tone(seconds: float, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 220 * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


class Tape:
    """A microphone that records the next array in two blocks, and remembers what it played."""

    def __init__(self, *takes: np.ndarray):
        self.takes, self.played = list(takes), list[np.ndarray]()

    @contextmanager
    def recording(self) -> Iterator[list[np.ndarray]]:
        blocks: list[np.ndarray] = []
        yield blocks
        take = self.takes.pop(0)
        blocks += [take[: len(take) // 2], take[len(take) // 2 :]]

    def play(self, samples: np.ndarray) -> None:
        self.played.append(samples)


def session(folder: Path, tape: Tape, *answers: str, sentences: list[str] = SENTENCES) -> tuple[int, list[str]]:
    """The number of recordings after a session, and the lines that were shown; all answers are used."""
    given, shown = list(answers), list[str]()
    count = record_sentences(
        sentences, folder, microphone=tape, ask=lambda prompt: given.pop(0) + "\n", show=shown.append
    )
    assert given == []
    return count, shown


def test_sentences_are_recorded_kept_and_imported(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    tape = Tape(*(tone(seconds) for seconds in (1.0, 1.5, 2.0)))
    count, shown = session(folder, tape, *["", "", ""] * 3)
    assert count == 3 and "    two large steps" in shown and "3 of 3" in shown
    assert sorted(path.name for path in folder.iterdir()) == [
        f"00{n}.{end}" for n in (1, 2, 3) for end in ("txt", "wav")
    ]
    samples, rate = soundfile.read(folder / "002.wav", dtype="float32")
    assert rate == RATE and np.abs(samples - tone(1.5)).max() < 1e-4
    result = import_recordings([folder], tmp_path / "data")
    assert result.problems == () or not result.problems


def test_a_take_can_be_played_repeated_and_skipped(tmp_path: Path) -> None:
    tape = Tape(tone(1.0), tone(1.2), tone(1.4))
    count, _ = session(tmp_path, tape, "", "", "p", "r", "", "", "s", "", "", "")
    assert count == 2 and len(tape.played) == 1 and len(tape.played[0]) == RATE
    assert len(soundfile.read(tmp_path / "001.wav")[0]) == int(1.2 * RATE) and not (tmp_path / "002.wav").exists()


def test_the_same_call_goes_on_and_refuses_another_text(tmp_path: Path) -> None:
    assert session(tmp_path, Tape(tone(1.0)), "", "", "", "q")[0] == 1
    count, shown = session(tmp_path, Tape(tone(1.0), tone(1.0)), *["", "", ""] * 2)
    assert count == 3 and "1 of 3" not in shown
    with pytest.raises(ConfigError, match=r"001\.txt has another text than sentence 1: choose another folder"):
        session(tmp_path, Tape(), sentences=["something else"])


@pytest.mark.parametrize(
    ("take", "fault"),
    [
        (tone(0.2), "too short"),
        (np.zeros(0, np.float32), "too short"),
        (tone(1.0, level=0.005), "too quiet"),
        (np.clip(tone(1.0, level=3.0), -1, 1), "too loud"),
        (tone(1.0), ""),
    ],
)
def test_useless_takes_are_not_kept(take: np.ndarray, fault: str, tmp_path: Path) -> None:
    assert fault_of(take).startswith(fault) and bool(fault_of(take)) == bool(fault)
    if fault:
        count, shown = session(tmp_path, Tape(take, tone(1.0)), "", "", "", "", "q", sentences=SENTENCES[:1])
        assert count == 0 and any(fault in line for line in shown)  # "q" in place of keeping


def test_an_unknown_key_shows_the_keys(tmp_path: Path) -> None:
    _, shown = session(tmp_path, Tape(), "what", "q")
    assert sum("Enter: record" in line for line in shown) == 2


def test_sentences_of_a_text_are_short_enough_to_read(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("A short one. Many " + "word " * (LONGEST_WORDS + 1) + ". Another\nLast line\n")
    assert sentences_to_read(text) == ["A short one.", "Another", "Last line"]
    text.write_text("word " * 40)
    with pytest.raises(InputError, match="must have a sentence of at most 25 words"):
        sentences_to_read(text)
    sentences = default_sentences()
    assert len(set(sentences)) == len(sentences) > 60 and sentences_to_read(None) == sentences


def test_a_system_without_a_microphone_is_one_sentence(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ConfigError, match=r"install sounddevice: pip install 'asr\[live\]'"):
        SystemMicrophone()
    device = types.ModuleType("sounddevice")
    device.PortAudioError = RuntimeError

    def refuse(**_: object) -> None:
        raise RuntimeError("no default input device")

    device.check_input_settings = refuse
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    with pytest.raises(ConfigError, match="no microphone that records at 16000 Hz: no default input device"):
        SystemMicrophone()


def test_blocks_of_the_system_are_recorded(monkeypatch) -> None:
    device = types.ModuleType("sounddevice")
    device.PortAudioError = RuntimeError
    device.check_input_settings = lambda **_: None

    class InputStream:
        def __init__(self, *, callback, **options):
            assert options == {"samplerate": RATE, "channels": 1, "dtype": "float32"}
            self.callback = callback

        def __enter__(self):
            block = np.full((4, 1), 0.5, np.float32)
            self.callback(block, 4, None, None)
            block[:] = 0  # PortAudio uses it again
            return self

        def __exit__(self, *_):
            self.callback(np.ones((2, 1), np.float32), 2, None, None)

    device.InputStream = InputStream
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    with SystemMicrophone().recording() as blocks:
        pass
    assert np.concatenate(blocks).tolist() == [0.5] * 4 + [1.0] * 2

    sound = SystemMicrophone().blocks()  # the same, as it is recorded
    assert next(sound).tolist() == [0.5] * 4
    sound.close()


def test_a_microphone_that_fails_is_one_sentence(monkeypatch) -> None:
    class Failure(Exception):
        pass

    def refuse(*_: object, **__: object) -> None:
        raise Failure("Device unavailable")

    device = types.ModuleType("sounddevice")
    device.PortAudioError, device.check_input_settings = Failure, lambda **_: None
    device.InputStream = device.play = refuse
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    with pytest.raises(ConfigError, match="the microphone cannot record: Device unavailable"):
        SystemMicrophone().recording().__enter__()
    with pytest.raises(ConfigError, match="the microphone cannot record: Device unavailable"):
        next(SystemMicrophone().blocks())
    with pytest.raises(ConfigError, match="this system cannot play sound at 16000 Hz: Device unavailable"):
        SystemMicrophone().play(tone(1.0))


def test_a_text_in_another_encoding_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "001.wav").write_bytes(b"RIFF")
    (tmp_path / "001.txt").write_bytes(b"caf\xe9 \x81\n")
    with pytest.raises(AsrError, match=r"001\.txt"):
        session(tmp_path, Tape())


def test_the_command_needs_a_terminal(tmp_path: Path, capsys) -> None:
    assert main(["record", "--output", str(tmp_path / "a")]) == 2
    assert "record asks for keys: run it in a terminal" in capsys.readouterr().err and not (tmp_path / "a").exists()
