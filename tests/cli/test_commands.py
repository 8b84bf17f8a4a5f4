"""`asr` and `python -m asr`: the commands that are installed, each with what it does; and each command's short help."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import asr
from asr.cli.commands import COMMANDS, main

ROOT = Path(__file__).parents[2]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]


def test_every_installed_command_is_listed(capsys):
    assert {*COMMANDS, "asr"} == set(SCRIPTS)
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        printed = capsys.readouterr().out
        assert all(name in printed and what in printed for name, what in COMMANDS.items())
        assert max(map(len, printed.splitlines())) <= 80


def test_python_m_asr_is_the_same(capsys):
    assert main([]) == 0
    done = subprocess.run([sys.executable, "-m", "asr"], capture_output=True, text=True, check=True)
    assert done.stdout == capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("transcibe", "did you mean asr-transcribe?"),
        ("talk.mp3", "did you mean asr-transcribe talk.mp3?"),
        ("x", "asr alone lists the commands"),
    ],
)
def test_a_word_that_is_no_command(name, advice, capsys):
    assert main([name]) == 2
    assert capsys.readouterr().err == f"asr: error: there is no command {name!r}: {advice}\n"


def test_a_command_after_asr(capsys):
    assert main(["asr-export"]) == 2
    assert capsys.readouterr().err == "asr: error: asr-export is a command of its own: write it without asr before it\n"


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"asr {asr.__version__}\n"


@pytest.mark.parametrize(
    "line",
    [
        *("asr-transcribe", "asr-serve", "asr-align", "asr-train", "asr-evaluate", "asr-export"),
        *("asr-data prepare", "asr-data import", "asr-data check", "asr-data shard"),
        *("asr-lm train", "asr-lm train --kind ngram", "asr-lm perplexity", "asr-lm score", "asr-lm sample"),
    ],
)
def test_the_help_fits_a_screen_and_help_all_has_the_rest(line, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    name, *more = line.split()
    command = import_module(SCRIPTS[name].partition(":")[0]).main
    assert command([*more, "--help"]) == 0
    short = capsys.readouterr().out.splitlines()
    assert len(short) <= 39 and max(map(len, short)) <= 80
    assert command([*more, "--help-all"]) == 0
    long = capsys.readouterr().out.splitlines()
    if short[-1] == f"{' '.join([name, *more[:1]])} --help-all shows all options.":
        assert len(long) > len(short) + 5
    else:
        assert short == long
