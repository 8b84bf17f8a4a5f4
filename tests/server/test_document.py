"""Every example of docs/server.md, run as it stands, against a server on another port; and what it says of options."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import soundfile
import soxr

from asr.recognition.streaming import stream_blocks
from asr.server.options import ServeOptions, make_options
from asr.text.transcript import join_texts
from tests.server.conftest import MERCHANT, Server

DOCUMENT = Path(__file__).parents[2] / "docs" / "server.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
EXAMPLES = [(kind, code) for kind, code in BLOCKS if kind in ("sh", "python", "js")]
COMMANDS = {"sh": ["bash", "-euo", "pipefail"], "python": [sys.executable], "js": ["node"]}


@pytest.mark.parametrize("kind, code", EXAMPLES, ids=[f"{kind}-{number}" for number, (kind, _) in enumerate(EXAMPLES)])
def test_examples(server: Server, recognizer, tmp_path: Path, kind: str, code: str):
    if (program := COMMANDS[kind][0]) != sys.executable and not shutil.which("curl" if kind == "sh" else program):
        pytest.skip(f"no {program} is installed")
    samples, rate = soundfile.read(MERCHANT, dtype="int16")
    soundfile.write(tmp_path / "talk.wav", samples, rate)
    script = tmp_path / f"example.{'mjs' if kind == 'js' else kind}"
    script.write_text(code.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"))
    result = subprocess.run([*COMMANDS[kind], script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    words = recognizer.transcribe(MERCHANT).text.split()
    if "websockets" in code:
        assert "'partial'" in result.stdout and "'result'" in result.stdout
    elif "realtime" in code:
        updates = stream_blocks(recognizer.stream(), [soxr.resample(samples, rate, 24_000)], 24_000)
        assert result.stdout == join_texts(part.text for update in updates for part in update.segments) + "\n"
    elif kind == "python":
        assert [line.split()[2] for line in result.stdout.splitlines()] == words
    elif kind == "sh":
        assert f'"text":"{" ".join(words)}"' in result.stdout
        assert "00:00:01,480 -->" in result.stdout and '"type": "transcript.text.done"' in result.stdout
    else:
        assert result.stdout.strip()


def test_there_are_examples_of_each_kind():
    assert [kind for kind, _ in EXAMPLES] == ["sh", "python", "js", "python", "python"]


def test_the_file_of_options():
    (text,) = [code for kind, code in BLOCKS if kind == "toml"]
    assert make_options(tomllib.loads(text)).max_seconds == 600


def test_the_table_of_limits_has_the_defaults():
    table = DOCUMENT.read_text(encoding="utf-8").partition("## Limits")[2].partition("\n\nUploads")[0]
    rows = dict(re.findall(r"^\| `--([\w-]+)` \| ([\d.]+|none)", table, re.MULTILINE))
    defaults = {name: getattr(ServeOptions(), name.replace("-", "_")) for name in rows}
    units = {"max-upload-bytes": 2**20, "max-live-seconds": 3600}
    assert {
        name: None if text == "none" else float(text) * units.get(name, 1) for name, text in rows.items()
    } == defaults
    assert len(rows) == 9
