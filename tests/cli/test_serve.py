"""The command line of asr-serve: one precedence of flags, environment and file; wrong usage in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr.cli.serve import main, make_parser, read_environment, read_options
from asr.errors import ConfigError
from asr.server.options import ServeOptions, option_names, variable_of


def options(*flags: str, **environment: str) -> ServeOptions:
    return read_options(make_parser(flags).parse(flags), environment)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "serve.toml"
    path.write_text("port = 1\nqueue = 1\nlive = 1\nthreads = 1\nbeam_width = 4\n")
    return str(path)


def test_the_precedence(file):
    environment = {"ASR_SERVE_PORT": "2", "ASR_SERVE_QUEUE": "2", "ASR_SERVE_THREADS": "2"}
    both = options("--config", file, "--port", "3", "--threads=3", **environment)
    assert (both.port, both.queue, both.live, both.threads) == (3, 2, 1, 3)
    assert both.max_connections == ServeOptions().max_connections
    assert both.decoding == {"beam_width": 4}
    assert options("--beam-width", "1", ASR_SERVE_CONFIG=file, ASR_SERVE_BEAM_WIDTH="2").decoding == {"beam_width": 1}
    assert options(ASR_SERVE_CONFIG=file, ASR_SERVE_DEVICE="cpu").device == "cpu"
    assert options("--device", "auto", ASR_SERVE_DEVICE="cpu").device == "auto"  # a default, but given


def test_every_option_has_its_variable_and_its_flag():
    flags = make_parser().format_help()
    help_all = make_parser(["--help-all"]).parse([]).flags
    for name in set(option_names()) - {"known_words", "prior", "confidence_calibration"}:
        assert name in help_all, name
    assert "ASR_SERVE_MAX_SECONDS" in flags


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("port", "80", 80),
        ("aliases", "a,b", ("a", "b")),
        ("token", "0123456789abcdef", "0123456789abcdef"),
        ("stop_seconds", "none", None),
        ("max_seconds", "1.5", 1.5),
        ("runtime", "onnx", "onnx"),
        ("only_lexicon", "yes", True),
        ("only_lexicon", "0", False),
        ("hotwords", "KUBERNETES:8,HELM", ("KUBERNETES:8", "HELM")),
    ],
)
def test_variables_are_read_as_flags(name, text, value):
    assert read_environment({variable_of(name): text}) == {name: value}


@pytest.mark.parametrize(
    "variable, text, message",
    [
        ("PORT", "tcp://10.0.0.1:80", "ASR_SERVE_PORT: invalid int value: 'tcp://10.0.0.1:80'"),
        ("PORT", "-1", "ASR_SERVE_PORT: port must be between 0 and 65535, not -1"),
        ("RUNTIME", "jax", "ASR_SERVE_RUNTIME: invalid choice: 'jax'"),
        ("ONLY_LEXICON", "maybe", "ASR_SERVE_ONLY_LEXICON must be yes or no, not 'maybe'"),
        ("THREADS", "0", "ASR_SERVE_THREADS: must be at least 1, not 0"),
    ],
)
def test_wrong_variables(variable, text, message):
    with pytest.raises(ConfigError) as caught:
        read_environment({f"ASR_SERVE_{variable}": text})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--port", "70000"], "--port must be between 0 and 65535, not 70000"),
        (["--token", "secret"], "--token must have at least 16 visible ASCII characters, not 6 characters"),
        (["--prot", "1"], "unknown argument '--prot': did you mean --port?"),
        (["--port", "0", "--model", "nothing"], "nothing"),
        (["--port", "0", "--model", "an4", "--lm-weight", "2"], "--lm-weight needs --lm or --fuse-lm"),
    ],
)
def test_wrong_usage_is_one_line(flags, message, capsys):
    assert _status(flags) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("asr-serve: error: ") and message in printed.err


def _status(flags: list[str]) -> int:
    try:
        return main(flags)
    except SystemExit as exit_:
        return int(exit_.code or 0)
