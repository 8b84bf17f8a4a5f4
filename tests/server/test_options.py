"""Options of the server from a file and from the environment; the flags are tested with the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr.decoding.options import DecodingOptions
from asr.errors import AsrError, ConfigError, DataError
from asr.options import flat_fields
from asr.server.options import ServeOptions, make_options, option_names, read_config, unknown_variables


def test_a_later_source_wins():
    options = make_options({"port": 1, "queue": 2, "beam_width": 8}, {"port": 3, "live": 4}, {"port": 5})
    assert (options.port, options.queue, options.live, options.decoding) == (5, 2, 4, {"beam_width": 8})
    assert make_options() == ServeOptions()
    assert make_options({"look_ahead": 0.5}).stream.look_ahead == 0.5


def test_the_server_listens_on_this_machine_only_unless_told():
    assert ServeOptions().host == "127.0.0.1"


def test_no_option_has_two_meanings():
    assert not set(flat_fields(DecodingOptions)) & set(flat_fields(ServeOptions))
    assert len(option_names()) == len(set(option_names()))


@pytest.mark.parametrize(
    "text, message",
    [
        ("port = 'x'", "port must be a whole number, not 'x'"),
        ("port = 70000", "port must be between 0 and 65535, not 70000"),
        ("prot = 1", "unknown option 'prot'; known are"),
        ("[decoding]\nbeam_width = 2", "unknown option 'decoding'"),
        ("token = 'short'", "token must have at least 16 visible ASCII characters, not 5 characters"),
        ("token = 'with a space in the middle'", "token must have at least 16 visible ASCII characters"),
        ("host = ''", "host must be an address"),
        ("queue = 0", "queue must be between 1 and 100000, not 0"),
        ("port = ", "must be TOML"),
        ("max_seconds = 0", "max_seconds must be"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str):
    path = tmp_path / "serve.toml"
    path.write_text(text)
    with pytest.raises(AsrError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


def test_a_file_of_options(tmp_path: Path):
    path = tmp_path / "serve.toml"
    path.write_text('port = 2700\naliases = ["whisper-1", "gpt-4o-transcribe"]\nhotwords = ["KUBERNETES:8"]\n')
    options = make_options(read_config(path))
    assert (options.port, options.aliases) == (2700, ("whisper-1", "gpt-4o-transcribe"))
    assert options.decoding == {"hotwords": ["KUBERNETES:8"]}
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_config(tmp_path / "missing.toml")


def test_variables_that_are_no_options():
    environment = {"ASR_SERVE_PORT": "1", "ASR_SERVE_CONFIG": "a", "ASR_SERVE_PROT": "1", "OTHER": "", "ASR_SERVE_": ""}
    assert unknown_variables(environment) == ["ASR_SERVE_", "ASR_SERVE_PROT"]


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="unknown option 'colour'"):
        make_options({"colour": "red"})
