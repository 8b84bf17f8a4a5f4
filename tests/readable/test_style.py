"""Which models write readable text."""

from __future__ import annotations

from string import ascii_lowercase, ascii_uppercase

import pytest

from asr.errors import ConfigError
from asr.readable.style import is_english, live_writer_of, writer_of
from asr.text.alphabet import Alphabet
from asr.text.normalization import TextOptions

ENGLISH = Alphabet(tuple(" '" + ascii_uppercase))


@pytest.mark.parametrize(
    ("characters", "language", "expected"),
    [
        (" '" + ascii_uppercase, "en", True),
        (" '-" + ascii_uppercase, "en", True),
        (" " + ascii_uppercase, "en", False),  # an4: words and letters
        (" '" + ascii_uppercase, "de", False),
        (" '" + ascii_uppercase + "Ä", "en", False),
        (" '" + ascii_uppercase + ascii_lowercase, "en", False),
        (" '" + ascii_lowercase, "en", False),
        (" '" + ascii_uppercase + "0123456789", "en", False),
        ("的一", "zh", False),
    ],
)
def test_english_models(characters: str, language: str, expected: bool) -> None:
    assert is_english(Alphabet(tuple(characters)), TextOptions(language=language)) is expected


def test_raw_words_stay() -> None:
    parts = [("AB", [], 1.0)]
    assert list(writer_of("raw", ENGLISH, TextOptions(), {})(parts)) == parts
    assert list(writer_of("readable", Alphabet(("的",)), TextOptions(language="zh"), {})(parts)) == parts
    assert len(list(writer_of("readable", ENGLISH, TextOptions(), {})([("", [], 1.0)]))) == 2


@pytest.mark.parametrize("writer", [writer_of, live_writer_of])
def test_an_unknown_style_is_an_error(writer) -> None:
    with pytest.raises(ConfigError, match="style must be one of raw, readable, not 'pretty'"):
        writer("pretty", Alphabet(("的",)), TextOptions(language="zh"), {})
