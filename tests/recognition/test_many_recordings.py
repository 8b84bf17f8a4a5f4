"""`transcribe_files` from Python; `tests.cli.test_transcribe` has the rest, through the command."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace

import pytest
import torch

import asr
from asr.errors import ConfigError
from asr.output.formats import WRITERS
from asr.recognition.many_recordings import TranscribeOptions, choose_precision_once, load_in_process
from tests.cli.conftest import SPOKEN


@pytest.fixture
def options(model) -> TranscribeOptions:
    return TranscribeOptions(model=model, device="cpu", precision="float32")


def test_a_folder_without_files_written(options, sounds, texts):
    results = list(asr.transcribe_files(sounds, options))
    assert [result.path for result in results] == [f"{sounds}/{name}" for name in SPOKEN]
    assert [result.name for result in results] == ["a", "b", "day 1/a", "day 1/c"]
    assert [result.transcript.text for result in results] == texts
    assert [(result.error, result.files, result.skipped) for result in results] == [(None, (), False)] * 4


def test_files_errors_notes_and_what_was_done_before(options, sounds, texts, tmp_path):
    out = tmp_path / "out"
    options = replace(options, output=out, formats=("txt", "srt"))
    seconds, notes = [], []
    (tmp_path / "empty").mkdir()
    paths = [sounds / "b.wav", str(tmp_path / "missing.wav"), tmp_path / "empty"]
    good, missing, empty = asr.transcribe_files(paths, options, progress=seconds.append)
    assert good.files == (out / "b.txt", out / "b.srt")
    assert good.files[0].read_text() == f"{texts[1]}\n"
    assert good.files[1].read_text() == WRITERS["srt"](good.transcript)
    assert str(missing.error) == f"{tmp_path}/missing.wav: cannot be opened: No such file or directory"
    assert (missing.transcript, missing.files, missing.name) == (None, (), "missing")
    assert (empty.path, empty.name) == (f"{tmp_path}/empty", "") and "no sound files" in str(empty.error)
    assert sum(seconds) > 0
    again = list(asr.transcribe_files(sounds, replace(options, resume=True), note=notes.append))
    assert [(result.name, result.skipped) for result in again] == [
        *(("b", True), ("a", False), ("day 1/a", False), ("day 1/c", False))
    ]
    assert again[0].files == good.files and again[0].transcript is None
    assert notes == ["skipped 1 of 4 recordings: their files exist"]


def test_a_recording_is_claimed_until_the_results_are_closed(options, sounds, tmp_path):
    options = replace(options, output=tmp_path / "out")
    results = asr.transcribe_files(sounds, options)
    next(results)
    with pytest.raises(ConfigError, match="another command is writing the result of"):
        next(asr.transcribe_files(sounds / "a.flac", options))
    results.close()
    assert next(asr.transcribe_files(sounds / "a.flac", options)).name == "a"


def test_a_picture_is_one_of_the_files(options, sounds, tmp_path):
    pytest.importorskip("matplotlib")
    (result,) = asr.transcribe_files(sounds / "b.wav", replace(options, plot=tmp_path / "pictures"))
    assert result.files == (tmp_path / "pictures" / "b.png",) and result.files[0].exists()


def test_options_are_frozen_and_can_be_sent_to_processes(options):
    assert pickle.loads(pickle.dumps(options)) == options
    with pytest.raises(AttributeError):
        options.device = "cuda"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"formats": ("xml",)}, r"formats must be some of txt, json, .*, not \('xml',\)"),
        ({"formats": "txt"}, "formats must be some of"),
        ({"resume": True}, "resume needs output, the folder"),
        ({"nproc": 0}, "nproc must be at least 1, not 0"),
        ({"precision": "half"}, "precision must be one of auto"),
        ({"output": os.devnull}, f"output must be a folder; {os.devnull} is a file"),
        ({"plot": "x.png", "nproc": 2}, "plot needs one process"),
    ],
)
def test_options_that_contradict(wrong, message):
    with pytest.raises(ConfigError, match=message):
        TranscribeOptions(**wrong)


@pytest.mark.parametrize(
    ("device", "count", "devices"),
    [
        ("auto", 3, ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]),
        ("cuda", 2, ["cuda:0", "cuda:1"] * 2),
        ("cuda", 1, ["cuda"] * 4),
        ("auto", 0, ["auto"] * 4),
        ("cuda:1", 3, ["cuda:1"] * 4),
        ("cpu", 3, ["cpu"] * 4),
    ],
)
def test_processes_share_out_gpus_and_threads(monkeypatch, device, count, devices):
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr("asr.recognition.many_recordings.has_gpu", lambda: count > 0)
    monkeypatch.setattr("asr.recognition.many_recordings.default_threads", lambda: 9)
    monkeypatch.setattr("asr.recognition.many_recordings._load", lambda options: (options.device, options.threads))
    options = TranscribeOptions(nproc=4, device=device)
    assert [load_in_process(options, number) for number in range(4)] == [(name, 2) for name in devices]
    assert load_in_process(replace(options, threads=5), 3) == (devices[3], 5)


def test_all_processes_compute_in_one_precision(monkeypatch, model):
    monkeypatch.setattr("asr.compute.device.choose_precision", lambda *_, **__: torch.bfloat16)
    assert choose_precision_once(TranscribeOptions(model=model, runtime="torch")).precision == "bfloat16"
