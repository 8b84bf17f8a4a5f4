"""The errors that `asr` raises on purpose; each states the condition, the value that breaks it, and what to do."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping

# Text in quotes, which apostrophes within words do not begin or end, or in brackets.
_VERBATIM = r"""(?<!\w)(['"`])(?:\\.|(?!\1)[^\\]|(?<=\w)\1(?=\w))*\1(?!\w)|\[[^][]*\]"""


class AsrError(Exception):
    """An error that the caller can correct; the commands print it as one line."""


class InputError(AsrError, ValueError):
    """An argument (array, text, option of a function) has a wrong value, type or shape."""


class ConfigError(AsrError, ValueError):
    """Options that contradict each other, or a configuration that cannot be read.

    Args:
        message: the condition and the wrong value, with options by their names in Python.
        options: these names; a command prints its flags instead.
    """

    def __init__(self, message: str, *options: str):
        self.options = options
        super().__init__(message)

    def renamed(self, names: Mapping[str, str]) -> ConfigError:
        """The error with its options renamed by `names`; text in quotes or brackets, as asr[train], does not change."""
        known = sorted(set(self.options) & set(names), key=len, reverse=True)
        word = rf"(?<![\w.'\"/-])(?:{'|'.join(map(re.escape, known))})(?![\w'\"/-])"
        parts = f"{_VERBATIM}|{word}"
        message = re.sub(parts, lambda match: names.get(match[0], match[0]), str(self)) if known else str(self)
        return ConfigError(message, *(names.get(name, name) for name in self.options))


class DataError(AsrError, ValueError):
    """A file (sound, manifest, model) is missing or damaged, or has the wrong content.

    The message starts with the file, and its line where there is one: `PATH:LINE: what is wrong`.
    """

    def __init__(self, message: str, *, path: str | os.PathLike[str] | None = None, line: int | None = None):
        self.path = None if path is None else os.fspath(path)
        self.line = line
        source = "" if path is None else f"{self.path}: " if line is None else f"{self.path}:{line}: "
        super().__init__(source + message)


class AsrWarning(UserWarning):
    """Something was repaired or left out, but the result is valid: a truncated file, an unknown character."""


class ChoiceWarning(AsrWarning):
    """An intact file contains more than was read, such as a second sound track."""


def visible(text: str) -> str:
    """The text with escapes for control characters, which could move the cursor or colour a terminal.

    Messages may contain control characters from file names, tags of files and other programs.
    """
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") else character
        for character in text
    )
