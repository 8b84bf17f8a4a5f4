"""The commands with a model of others: an ONNX export whose labels are pieces of words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

import asr
from asr.acoustic.foreign.filterbank import kaldi_features
from asr.cli.align import main as align
from asr.cli.data import main as data
from asr.cli.evaluate import main as evaluate
from asr.cli.transcribe import main as transcribe
from asr.errors import ConfigError, DataError
from tests import foreign_models

SPEECH = "tests/audio/merchant.flac"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, foreign_models.Subsampled]:
    folder = tmp_path_factory.mktemp("exported") / "zipformer"
    return folder, foreign_models.write_subsampled(folder)


@pytest.fixture
def model(exported: tuple[Path, foreign_models.Subsampled]) -> str:
    return str(exported[0])


def greedy_text(network: foreign_models.Subsampled, path: str) -> str:
    """The best labels of all frames, merged, without blanks; <unk> counts as the blank."""
    samples, _ = soundfile.read(path, dtype="float32")
    features = torch.from_numpy(kaldi_features(samples))[None]
    with torch.no_grad():
        log_probs = network(features, torch.tensor([features.shape[1]]))[0][0].numpy().astype(np.float64)
    log_probs[:, 0] = np.logaddexp(log_probs[:, 0], log_probs[:, 1])
    log_probs[:, 1] = -np.inf
    best = log_probs.argmax(axis=1)
    merged = best[np.flatnonzero(np.diff(best, prepend=-1))]
    return " ".join("".join(foreign_models.PIECES[label] for label in merged if label).replace("▁", " ").split())


def test_transcribe(exported: tuple[Path, foreign_models.Subsampled], model: str, capsys) -> None:
    expected = greedy_text(exported[1], SPEECH)
    assert len(expected.split()) > 2
    assert transcribe([SPEECH, "--model", model, "--quiet"]) == 0
    assert capsys.readouterr().out == f"{expected}\n"
    assert asr.load(model).transcribe(SPEECH).text == expected


def test_transcribe_with_a_beam_and_hotwords(model: str, capsys) -> None:
    """A hotword is heard more often than without it."""
    counts = []
    for hotwords in ([], ["--hotwords", "sea:10"]):
        flags = ["--beam-width", "8", "--format", "json", "--quiet", *hotwords]
        assert transcribe([SPEECH, "--model", model, *flags]) == 0
        result = json.loads(capsys.readouterr().out)
        counts.append(result["text"].split().count("sea"))
        ends = [word["end"] for word in result["words"]]
        assert ends == sorted(ends) and ends[-1] <= result["duration"] + 0.001
    assert counts[1] > counts[0] > 0


def test_transcribe_in_two_processes(model: str, tmp_path: Path, capsys) -> None:
    for name in ("a.flac", "b.flac"):
        (tmp_path / name).write_bytes(Path(SPEECH).read_bytes())
    assert transcribe([str(tmp_path), "--model", model, "--nproc", "2", "--quiet"]) == 0
    first, second = (line.split("\t")[1] for line in capsys.readouterr().out.splitlines())
    assert first == second != ""


def test_align(model: str, capsys) -> None:
    assert align([SPEECH, "--text", "the sea abs", "--model", model, "--quiet"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[4] for line in lines] == ["the", "sea", "abs"]
    assert [float(line[2]) for line in lines] == sorted(float(line[2]) for line in lines)


def test_evaluate_and_tune(
    exported: tuple[Path, foreign_models.Subsampled], tone_corpus: Path, tmp_path, capsys
) -> None:
    """Tuned options stay beside the model, and are its defaults from then on."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in exported[0].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    manifest = str(tone_corpus / "dev.jsonl.gz")
    assert evaluate([str(folder), manifest, "--format", "json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["num_utterances"] == 8
    assert asr.load(folder).decoder.options.greedy
    assert evaluate([str(folder), manifest, "--tune", "--beam-width", "4", "--quiet"]) == 0
    assert f"weights stored in {folder}" in capsys.readouterr().err
    assert asr.load(folder).decoder.options.search.beam_width == 4
    (folder / "asr-decoding.json").write_text('{"beam_width": "wide"}')
    with pytest.raises(DataError, match=r"asr-decoding.json: these options of decoding cannot be read: .*beam_width"):
        asr.load(folder)


def test_a_bundle_has_no_folder_for_options() -> None:
    pytest.importorskip("torchaudio")
    from asr.evaluation.tuning import check_own

    with pytest.raises(ConfigError, match="torchaudio:HUBERT_ASR_LARGE has no folder to store its options in"):
        check_own("torchaudio:HUBERT_ASR_LARGE")


def test_texts_are_not_checked_by_pieces_of_words(model: str, tone_corpus: Path, capsys) -> None:
    assert data(["check", str(tone_corpus / "dev.jsonl.gz"), "--model", model, "--quiet"]) == 2
    assert "must have a label for each character to check texts; the labels of zipformer" in capsys.readouterr().err


def test_the_picture_has_pieces(model: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert transcribe([SPEECH, "--model", model, "--plot", str(tmp_path / "a.png"), "--quiet"]) == 0
    assert (tmp_path / "a.png").stat().st_size > 1000


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # an import of it is an error
from asr.cli.transcribe import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("flags", [(), ("--beam-width", "8", "--hotwords", "sea"), ("--threads", "1")])
def test_an_onnx_model_needs_no_torch(exported: tuple[Path, foreign_models.Subsampled], model: str, flags) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, SPEECH, "--model", model, "--quiet", *flags]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    if "--beam-width" not in flags:
        assert result.stdout == f"{greedy_text(exported[1], SPEECH)}\n"


def test_a_recurrent_language_model_needs_no_torch(model: str) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, SPEECH, "--model", model, "--rescore-lm", "english-lm"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0
    assert (
        result.stdout.split() == asr.load(model, decoding={"rescore_lm": "english-lm"}).transcribe(SPEECH).text.split()
    )
