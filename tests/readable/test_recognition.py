"""The readable style from sound to text: the recogniser, its segments, files, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import asr
from asr.audio.waveform import read_audio
from asr.cli.transcribe import main
from asr.text.segments import find_segments

SOUND = Path(__file__).parents[1] / "audio" / "merchant.flac"
RAW = "BUT THE MERCHANT UNDERSTOOD WHAT THE BOY HAD SAID"
READABLE = "But the merchant understood what the boy had said."


@pytest.fixture(scope="module")
def english() -> asr.Recognizer:
    return asr.load(device="cpu", decoding={"beam_width": 8, "rescore_lm": None})


def test_a_recording_is_readable_by_default(english: asr.Recognizer) -> None:
    transcript = english.transcribe(SOUND)
    assert (transcript.text, transcript.raw_text) == (READABLE, RAW)
    assert [word.spoken[0].text for word in transcript.words] == RAW.split()
    raw = english.transcribe(SOUND, style="raw")
    assert (raw.text, raw.is_readable) == (RAW, False)
    assert raw.words == transcript.raw_words and raw.hypotheses == transcript.hypotheses


def test_json_has_both_texts(english: asr.Recognizer) -> None:
    transcript = english.transcribe(SOUND)
    document = json.loads(asr.to_json(transcript))
    assert (document["text"], document["raw_text"]) == (READABLE, RAW)
    assert [word["spoken"] for word in document["words"]] == RAW.split()
    assert [word["text"] for word in document["raw_words"]] == RAW.split()
    assert document["segments"][0]["text"] == READABLE
    assert document["hypotheses"][0]["text"] == RAW
    raw = json.loads(asr.to_json(english.transcribe(SOUND, style="raw")))
    assert not {"raw_text", "raw_words"} & set(raw) and "spoken" not in raw["words"][0]


def test_segments_are_those_of_the_whole(english: asr.Recognizer) -> None:
    """Three times the sentence with three seconds of silence between, as one recording."""
    waveform = read_audio(SOUND, sample_rate=16000)
    silence = np.zeros(48000, dtype=np.float32)
    sound = np.concatenate([waveform, silence, waveform, silence, waveform])
    segments = list(english.segments(sound, 16000))
    transcript = english.transcribe(sound, 16000)
    assert [segment.text for segment in segments] == [
        segment.text for segment in find_segments(transcript.text, transcript.words)
    ]
    assert [segment.text for segment in segments][1:] == [READABLE] * 2  # the recogniser errs in the first
    raw = [segment.text for segment in english.segments(sound, 16000, style="raw")]
    assert raw[1:] == [RAW] * 2 and " ".join(raw) == transcript.raw_text


def test_hotwords_keep_the_spelling_of_the_user(english: asr.Recognizer) -> None:
    recognizer = english.with_decoding({"hotwords": ["MerChant", "the BOY:3"]})
    assert recognizer.transcribe(SOUND).text == "But the MerChant understood what the BOY had said."
    recognizer = english.with_decoding({"hotwords": ["The-Boy", "but-the merchant"]})
    assert recognizer.transcribe(SOUND).text == "But-the merchant understood what The-Boy had said."


def test_other_models_and_scores_are_raw(english: asr.Recognizer) -> None:
    transcript = asr.load("an4", device="cpu", decoding={"beam_width": 1}).transcribe(SOUND)
    assert transcript.text == transcript.text.upper() and not transcript.is_readable


def test_the_command_has_both_styles(capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(SOUND), "--quiet", "--beam-width", "8"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{READABLE}\n"
    assert main([*command, "--style", "raw"]) == 0
    assert capsys.readouterr().out == f"{RAW}\n"
    assert main([*command, "--format", "ctm"]) == 0
    assert [line.split()[4] for line in capsys.readouterr().out.splitlines()] == RAW.split()


def test_several_processes_have_the_style_too(tmp_path: Path) -> None:
    options = asr.TranscribeOptions(output=tmp_path, nproc=2, style="raw", decoding={"beam_width": 1})
    (result,) = asr.transcribe_files([SOUND], options)
    assert result.transcript is not None and result.transcript.text.isupper()


def test_there_are_two_styles() -> None:
    with pytest.raises(asr.ConfigError, match="style must be"):
        asr.TranscribeOptions(style="pretty")  # type: ignore[arg-type]


def test_live_sound_is_readable_when_a_segment_ends(english: asr.Recognizer) -> None:
    waveform = read_audio(SOUND, sample_rate=16000)
    for style, text, open_text in (("readable", READABLE, RAW.lower()), ("raw", RAW, RAW)):
        stream = english.stream(style=style)  # type: ignore[arg-type]
        update = stream.accept(waveform)
        assert update.text and open_text.startswith(update.text[:9])
        (segment,) = stream.finish().segments
        assert segment.text.rstrip(".,") == text.rstrip(".")  # whether the sentence goes on is not known yet
        assert [(word.start, word.end) for word in segment.words] == [
            (word.start, word.end)
            for word in english.transcribe(SOUND, style=style).words  # type: ignore[arg-type]
        ]
