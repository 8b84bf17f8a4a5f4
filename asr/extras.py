"""Packages that come with an extra of this one, and errors that name the extra of a missing one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from types import MappingProxyType

from asr.errors import ConfigError

EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "torch": "torch",
        "lhotse": "train",
        "matplotlib": "train",
        "num2words": "numbers",
        "sounddevice": "live",
        "docx": "documents",
        "aiohttp": "urls",
        "starlette": "serve",
        "uvicorn": "serve",
        "websockets": "serve",
        "transformers": "pretrained",
        "torchaudio": "pretrained",
    }
)
"""The extra of each package, by the name that is imported."""


def check_installed(package: str, what: str) -> None:
    """Raise a ConfigError that names the extra if the package is not installed; nothing is loaded.

    Args:
        package: a key of `EXTRAS`.
        what: needs it; the beginning of the message.
    """
    if find_spec(package) is None:
        raise _missing(package, what, EXTRAS[package])


@contextmanager
def needing_extras(what: str, extras: Mapping[str, str] = EXTRAS) -> Iterator[None]:
    """Make a missing package a ConfigError that names what needs it, and the extra of this package that brings it.

    Args:
        what: the beginning of the message.
        extras: of the packages that may be missing, by the name that is imported.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in extras or find_spec(package):  # an installed one may lack a module
            raise
        raise _missing(package, what, extras[package]) from None


def _missing(package: str, what: str, extra: str) -> ConfigError:
    return ConfigError(f"{what} needs {package}, which is not installed: pip install 'asr[{extra}]'", what)
