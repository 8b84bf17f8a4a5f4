"""Which models have a readable style, and the function that writes their words in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from string import ascii_uppercase
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from asr.errors import ConfigError
from asr.text.alphabet import Alphabet
from asr.text.normalization import TextOptions
from asr.text.subwords import Subwords

if TYPE_CHECKING:  # this loads NumPy, which the options do not need
    from asr.readable.writing import Part
    from asr.text.transcript import Word

Style = Literal["raw", "readable"]

Writer = Callable[[Iterable["Part"]], Iterable["Part"]]


class LiveWriter(Protocol):
    """What writes the words of a live segment."""

    def __call__(self, words: Sequence[Word], end: float, *, is_last: bool) -> list[Word]:
        """The written words; `end` is that of the pause after them in seconds, `is_last` if the sound ends there."""


def writer_of(
    style: Style, alphabet: Alphabet | Subwords, text: TextOptions, hotwords: Mapping[tuple[str, ...], str]
) -> Writer:
    """What writes the words of a model in a style; raw words stay, and those of models that are not `is_english`.

    Args:
        alphabet, text: of the model.
        hotwords: the user's spelling of words, by the words in lower case.
    Raises:
        ConfigError: there is no such style.
    """
    if _is_raw(style, alphabet, text):
        return lambda parts: parts
    from asr.readable.punctuator import english_punctuator
    from asr.readable.writing import write_words

    return partial(write_words, punctuator=english_punctuator(), hotwords=hotwords)


def live_writer_of(
    style: Style, alphabet: Alphabet | Subwords, text: TextOptions, hotwords: Mapping[tuple[str, ...], str]
) -> LiveWriter | None:
    """As `writer_of`, for the segments of a live stream, each as soon as it ends; None where the words stay."""
    if _is_raw(style, alphabet, text):
        return None
    from asr.readable.punctuator import english_punctuator
    from asr.readable.writing import write_live_words

    return partial(write_live_words, context=[], punctuator=english_punctuator(), hotwords=hotwords)


def _is_raw(style: Style, alphabet: Alphabet | Subwords, text: TextOptions) -> bool:
    if style not in (styles := get_args(Style)):
        raise ConfigError(f"style must be one of {', '.join(styles)}, not {style!r}", "style")
    return style == "raw" or not is_english(alphabet, text)


def is_english(alphabet: Alphabet | Subwords, text: TextOptions) -> bool:
    """Whether a model writes English sentences in A to Z and apostrophes only.

    A model without an apostrophe, such as `an4`, is for words and letters, not for sentences.
    """
    characters = set(alphabet.alphabet.characters if isinstance(alphabet, Subwords) else alphabet.characters)
    return text.language == "en" and characters - {" ", "-"} == {*ascii_uppercase, "'"}
