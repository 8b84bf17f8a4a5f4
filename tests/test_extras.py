"""asr.extras: what is missing, and what only looks so."""

from __future__ import annotations

import sys

import pytest

from asr.errors import ConfigError
from asr.extras import check_installed, needing_extras


def test_a_missing_package_is_an_error_that_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "num2words", None)
    message = r"^counting needs num2words, which is not installed: pip install 'asr\[numbers\]'$"
    with pytest.raises(ConfigError, match=message):
        check_installed("num2words", "counting")
    with pytest.raises(ConfigError, match=message), needing_extras("counting"):
        import num2words.lang_EN  # noqa: F401


def test_a_missing_module_of_an_installed_package_stays_what_it_is() -> None:
    """Such as one that another release of the package has."""
    with pytest.raises(ModuleNotFoundError, match=r"numpy\.nowhere"), needing_extras("it", {"numpy": "numbers"}):
        import numpy.nowhere  # noqa: F401
