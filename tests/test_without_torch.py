"""Where no extra is installed: transcription, alignment, evaluation and language models work, the rest says how.

Each script runs in a process of its own, in which torch and the packages of the extras cannot be imported.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import asr
from asr.extras import EXTRAS

SOUND = "tests/audio/merchant.flac"
TEXT = "BUT THE MERCHANT UNDERSTOOD WHAT THE BOY HAD SAID"
# What Python itself does for a module that must not be imported.
NOWHERE = f"import sys; sys.modules.update(dict.fromkeys({(*EXTRAS, 'pyarrow')!r})); "

COMMANDS = """
import contextlib, importlib, io, json
results = []
for command, *arguments in json.loads(sys.argv[1]):
    streams = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        status = importlib.import_module(f"asr.cli.{command}").main(arguments)
    results.append([status, *(stream.getvalue() for stream in streams)])
print(json.dumps(results))
"""


def run(script: str, *arguments: str) -> str:
    """What a script prints in a process without the packages of the extras."""
    command = [sys.executable, "-c", NOWHERE + script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_commands(*commands: list[str]) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of commands, in one process without them."""
    return [tuple(result) for result in json.loads(run(COMMANDS, json.dumps(commands)).splitlines()[-1])]


def test_the_commands_that_need_no_torch(tmp_path: Path) -> None:
    """With the models of the package, a beam, rescoring by a recurrent language model, and confidences."""
    (tmp_path / "text.txt").write_text("But the merchant understood what the boy had said.")
    recording = {
        "id": "merchant",
        "sources": [{"type": "file", "channels": [0], "source": str(Path(SOUND).resolve())}],
        "sampling_rate": 16000,
        "num_samples": 75520,
        "duration": 4.72,
    }
    supervision = {"id": "merchant", "recording_id": "merchant", "start": 0, "duration": 4.72, "text": TEXT}
    cut = {"id": "merchant", "start": 0, "duration": 4.72, "channel": 0, "type": "MonoCut", "recording": recording}
    manifest = tmp_path / "cuts.jsonl"
    manifest.write_text(json.dumps({**cut, "supervisions": [supervision]}) + "\n")
    results = run_commands(
        ["transcribe", SOUND, "--format", "json"],
        ["align", SOUND, str(tmp_path / "text.txt"), "--model", "an4", "--format", "json"],
        ["evaluate", "english", str(manifest), "--format", "json"],
        ["lm", "score", "the apple and pear salad"],
        ["lm", "score", "--lm", "an4", "ENTER SIX TWO"],
        ["export", "an4", "--onnx", str(tmp_path / "exported"), "--int8"],
        ["transcribe", "tests/audio/cen8-mmxg-b.flac", "--model", str(tmp_path / "exported")],
    )
    assert [(status, errors) for status, _, errors in results if status or "error" in errors] == []
    transcript, aligned, evaluation, score, _, _, spelled = [output for _, output, _ in results]
    recognizer = asr.load(runtime="torch", device="cpu", precision="float32")
    expected = recognizer.transcribe(SOUND)
    found = json.loads(transcript)
    assert found["raw_text"] == expected.raw_text == TEXT
    assert found["text"] == expected.text == "But the merchant understood what the boy had said."
    confidences = [word["confidence"] for word in found["words"]]
    assert confidences == pytest.approx([word.confidence for word in expected.words], abs=1e-3)
    assert json.loads(aligned)["sentences"][0]["text"] == "But the merchant understood what the boy had said."
    assert json.loads(evaluation)["wer"]["errors"] == 0
    assert float(score.split("\t")[0]) == pytest.approx(_score("the apple and pear salad"), abs=1e-3)
    assert spelled.strip() == asr.load("an4", runtime="torch").transcribe("tests/audio/cen8-mmxg-b.flac").text


def _score(sentence: str) -> float:
    from asr.lm.recurrent import find_language_model
    from asr.lm.rnn import LanguageModel

    return LanguageModel.load(find_language_model()).token_scores([sentence])[0].log_prob


def test_what_needs_torch_names_the_extra_that_brings_it(tmp_path: Path) -> None:
    (tmp_path / "wav2vec").mkdir()
    config = {"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]}
    (tmp_path / "wav2vec" / "config.json").write_text(json.dumps(config))
    (tmp_path / "wav2vec" / "model.safetensors").touch()
    missing = "needs torch, which is not installed: pip install 'asr"
    expected: dict[str, list[str]] = {
        f"asr-transcribe: error: runtime torch {missing}[torch]'": ["transcribe", SOUND, "--runtime", "torch"],
        f"asr-transcribe: error: device cuda {missing}[torch]'": ["transcribe", SOUND, "--device", "cuda"],
        f"asr-transcribe: error: precision bfloat16 {missing}[torch]'": [
            "transcribe",
            SOUND,
            "--precision",
            "bfloat16",
        ],
        f"asr-transcribe: error: --fuse-lm {missing}[torch]'": [
            *("transcribe", SOUND, "--model", "an4", "--fuse-lm", "an4", "--rescore-lm", "none")
        ],
        f"asr-transcribe: error: a model of Hugging Face {missing}[torch]'": [
            *("transcribe", SOUND, "--model", str(tmp_path / "wav2vec"))
        ],
        f"asr-transcribe: error: a model of torchaudio {missing}[torch]'": [
            *("transcribe", SOUND, "--model", "torchaudio:WAV2VEC2_ASR_BASE_960H")
        ],
        f"asr-train: error: asr-train {missing}[train]'": ["train", "--run", str(tmp_path / "run")],
        f"asr-lm train: error: asr-lm train {missing}[train]'": ["lm", "train", "--run", str(tmp_path / "run")],
        f"asr-lm sample: error: asr-lm sample {missing}[torch]'": ["lm", "sample"],
        f"asr-lm score: error: device cuda {missing}[torch]'": ["lm", "score", "a", "--device", "cuda"],
    }
    for message, result in zip(expected, run_commands(*expected.values()), strict=True):
        assert result == (2, "", f"{message}\n")


def test_what_writes_a_manifest_names_the_extra_before_any_work(tmp_path: Path) -> None:
    corpus, output = tmp_path / "corpus", tmp_path / "out"
    corpus.mkdir()
    shutil.copy(SOUND, corpus / "a.flac")
    (corpus / "a.txt").write_text(TEXT)
    expected = {
        "asr-align": ["align", str(corpus), "--output", str(output), "--format", "manifest"],
        "asr-data import": ["data", "import", str(corpus), "--output", str(output)],
        "asr-data prepare": ["data", "prepare", "yesno", "--output", str(output)],
    }
    for prog, result in zip(expected, run_commands(*expected.values()), strict=True):
        missing = "writing a manifest needs lhotse, which is not installed: pip install 'asr[train]'"
        assert result == (2, "", f"{prog}: error: {missing}\n")
    assert not output.exists()


def test_numbers_in_words_name_the_extra(tmp_path: Path) -> None:
    (tmp_path / "manual.md").write_text("Press 22.\n")
    command = ["lm", "adapt", str(tmp_path / "manual.md"), "--output", str(tmp_path / "m"), "--numbers", "spell"]
    message = "to spell 22 in words, num2words must be installed: pip install 'asr[numbers]'"
    assert run_commands(command) == [(2, "", f"asr-lm adapt: error: {message}\n")]


def test_a_web_address_names_the_extra() -> None:
    message = "web addresses need aiohttp, which is not installed: pip install 'asr[urls]'"
    (result,) = run_commands(["transcribe", "https://host/a.wav"])
    assert result == (1, "", f"asr-transcribe: error: https://host/a.wav: cannot be reached: {message}\n")


@pytest.mark.parametrize(("package", "extra"), sorted(EXTRAS.items()))
def test_a_package_that_a_command_lacks_is_never_a_traceback(package: str, extra: str) -> None:
    script = f"""
from asr.cli.command import run_command
from argparse import Namespace
args = Namespace(quiet=False, debug=False)
def work(_):
    import {package}.inner
sys.stderr = sys.stdout
print(run_command("asr-any", lambda _: args, work, []))
"""
    missing = f"asr-any needs {package}, which is not installed: pip install 'asr[{extra}]'"
    assert run(script) == f"asr-any: error: {missing}\n2\n"


@pytest.mark.parametrize("name", ["ctc_loss", "AcousticModel"])
def test_a_public_name_that_needs_torch_says_so(name: str) -> None:
    script = f"import asr\ntry: asr.{name}\nexcept asr.AsrError as error: print(error)"
    assert run(script) == f"asr.{name} needs torch, which is not installed: pip install 'asr[torch]'\n"


def test_log_probs_of_others_are_decoded(tmp_path: Path) -> None:
    script = """
import asr, numpy as np
log_probs = np.log(np.full((6, 29), 0.01, dtype=np.float32))
log_probs[[0, 2, 3], [3, 1, 20]] = log_probs[[1, 4, 5], 0] = np.log(0.72)
options = asr.DecodingOptions.of(rescore_lm="english-lm")
print(asr.decode(log_probs, asr.Alphabet((" ", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'")), options).text)
"""
    assert run(script).strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runtime": "tensorflow"}, "runtime must be one of auto, onnx, torch, not 'tensorflow'"),
        ({"runtime": "onnx", "device": "cuda"}, "device cuda needs runtime torch; got runtime onnx"),
        ({"runtime": "onnx", "precision": "bfloat16"}, "precision bfloat16 needs runtime torch; got runtime onnx"),
        ({"device": "tpu"}, "device must be auto, cpu or a CUDA device of this machine, not 'tpu'"),
        ({"precision": "int3"}, "precision must be one of auto, float32, bfloat16, float16, not 'int3'"),
    ],
)
def test_a_runtime_that_cannot_do_it_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(asr.AsrError, match=f"^{message}$"):
        asr.load("an4", **arguments)
