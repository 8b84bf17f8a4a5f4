"""Options of the server: one frozen dataclass, from defaults, a file, the environment and flags, in this order."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.compute.runtime import Precision, Runtime
from asr.decoding.options import DecodingOptions
from asr.errors import ConfigError, DataError
from asr.files.reading import read_regular
from asr.options import check_options, flat_fields, from_json, group, option
from asr.recognition.streaming import StreamOptions

PREFIX = "ASR_SERVE_"
"""How the environment variables of options begin: `ASR_SERVE_PORT`."""

_CONFIG_BYTES = 2**20
_LEAST_TOKEN = 16  # characters; shorter ones can be guessed


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Where the server listens, what it accepts, and how it recognises.

    `device` and `threads` have no help here, since every command has their flags.
    """

    host: str = option("127.0.0.1", "listen on this address; 0.0.0.0: on all, so that other machines reach the server")
    port: int = option(8000, "listen on this port; 0: on any free one", least=0, most=65535)
    token: str | None = option(None, "require this bearer token; better in the environment, as users see flags")
    hosts: tuple[str, ...] = option(
        (), "answer under these names too, such as a proxy passes on; needed on 127.0.0.1 without a token"
    )
    model: str | None = option(None, "an embedded model, or the folder of a model, ours or anybody's")
    aliases: tuple[str, ...] = option(("whisper-1",), "accept these names of models too, for clients that fix a name")
    device: str = "auto"
    threads: int | None = option(None, least=1)
    precision: Precision = option("auto", "format of matrix products")
    runtime: Runtime = option("auto", "compute a model of ours in onnxruntime (onnx) or in torch")
    batch_size: int = option(16, "recognise at most N recordings that arrive together in one batch", least=1, most=1024)
    queue: int = option(64, "accept at most N requests at a time; answer 429 to the others", least=1, most=100_000)
    live: int = option(8, "hear at most N live speakers at a time; answer 429 to the others", least=0, most=10_000)
    max_connections: int = option(512, "hold at most N connections; answer 503 to the others", least=1, most=100_000)
    max_upload_bytes: int = option(100 * 2**20, "refuse uploads of more than N bytes", least=1)
    max_seconds: float = option(3600.0, "refuse recordings of more than this many seconds", above=0, most=10**6)
    max_live_seconds: float = option(4 * 3600.0, "end live speech after this many seconds", above=0, most=10**6)
    patience: float = option(30.0, "give up on a client that is silent for this many seconds", above=0, most=3600)
    upload_seconds: float = option(
        300.0, "give up on an upload, or on decoding it, after this many seconds", above=0, most=86400
    )
    stop_seconds: float | None = option(
        None, "after SIGTERM, drop requests that are not answered within this many seconds; none: answer all", above=0
    )
    stream: StreamOptions = group(StreamOptions())
    decoding: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_options(self)
        if self.token is not None and (len(self.token) < _LEAST_TOKEN or not _is_visible_ascii(self.token)):
            raise ConfigError(
                f"token must have at least {_LEAST_TOKEN} visible ASCII characters, not {len(self.token)} characters",
                "token",
            )
        if not self.host:
            raise ConfigError("host must be an address, such as 127.0.0.1 or 0.0.0.0; it is empty", "host")


def _is_visible_ascii(text: str) -> bool:
    return all("!" <= character <= "~" for character in text)


def option_names() -> list[str]:
    """The names of all options, of decoding too, as a file has them."""
    return [name for name in (*flat_fields(ServeOptions), *flat_fields(DecodingOptions)) if name != "decoding"]


def variable_of(name: str) -> str:
    """The environment variable of an option."""
    return PREFIX + name.upper()


def make_options(*sources: Mapping[str, Any]) -> ServeOptions:
    """The options from mappings of names to values; a later mapping wins over an earlier one.

    Raises:
        ConfigError: a name is unknown, or a value is wrong.
    """
    values: dict[str, Any] = {}
    for source in sources:
        values |= source
    decoding_names = flat_fields(DecodingOptions)
    decoding = {name: value for name, value in values.items() if name in decoding_names}
    known = flat_fields(ServeOptions)
    for name in values:
        if name == "decoding" or (name not in known and name not in decoding_names):
            raise ConfigError(f"unknown option {name!r}; known are {', '.join(sorted(option_names()))}")
    rest = {name: value for name, value in values.items() if name not in decoding}
    return from_json(ServeOptions, {**rest, "decoding": decoding or None})


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The options in a TOML file, by name.

    Raises:
        DataError: it cannot be read, or is not TOML.
        ConfigError: an option is unknown or wrong.
    """
    try:
        values = tomllib.loads(read_regular(path, at_most=_CONFIG_BYTES).decode("utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"must be TOML: {error}", path=path) from None
    try:
        make_options(values)
    except ConfigError as error:
        raise ConfigError(f"{Path(path)}: {error}") from None
    return values


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables that begin like those of options, but belong to none."""
    known = {variable_of(name) for name in option_names()} | {PREFIX + "CONFIG"}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
