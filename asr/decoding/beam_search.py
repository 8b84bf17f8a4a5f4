"""Make the beam search of decoding options: read its language model, lexicon and hotwords."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from asr.compute.runtime import needing_torch
from asr.ctc import beam
from asr.ctc.beam import LARGEST_SCORE, BeamOptions, BeamSearch, LabelModel
from asr.ctc.hotwords import Hotwords
from asr.ctc.spellings import Spellings
from asr.ctc.trie import WordTrie
from asr.decoding.options import HOTWORD_WEIGHT, DecodingOptions, LanguageOptions, ends_with_time
from asr.errors import AsrWarning, ConfigError, DataError, InputError
from asr.files.reading import Identity, identity, read_regular
from asr.files.texts import decode_text
from asr.readable.style import is_english
from asr.text.alphabet import BLANK, Alphabet, join_bytes
from asr.text.normalization import HYPHENS, TextOptions, is_han
from asr.text.numbers import can_spell_numbers, spell_numbers
from asr.text.transcript import find_words, split_words

if TYPE_CHECKING:
    from asr.lm.ngram import NgramModel

_APOSTROPHES = "'\u2019\u02bc\u2018\uff07\u2032`\u00b4"  # the last three are often typed instead of an apostrophe
_WORDS_BYTES = 1 << 28  # of a lexicon or a list of hotwords: some ten million words
_FIGURES = re.compile(  # of 3M, 101st, R2-D2, 12:30
    rf"[{HYPHENS}]?([0-9](?:[0-9.,:/]*[0-9])?(?:(?i:st|nd|rd|th|s)\b)?)[{HYPHENS}]?"
)
_MODEL_FILES = ("config.json", "weights.safetensors")
_last_seen: dict[str, Identity] = {}  # by path; a file that disappears counts as unchanged


class ExpectedHotword(NamedTuple):
    """A hotword, its weight in nats, and the numbers of its words and letters outside the lexicon."""

    text: str
    weight: float
    num_unknown: int
    unknown_letters: int


def make_search(
    alphabet: Alphabet, options: DecodingOptions, *, device: str, spellings: Spellings | None = None
) -> tuple[BeamSearch, tuple[ExpectedHotword, ...], frozenset[str]]:
    """A search with the language model, lexicon and hotwords of the options.

    A match of a hotword cancels the penalty of its unknown words. To add these words to the lexicon instead would
    change the pruning of other words with the same beginning.

    Args:
        alphabet: characters of the labels, or of their spellings.
        device: where a recurrent language model computes.
        spellings: of labels that are pieces of words.
    Returns:
        The search, its hotwords, and the words of its lexicon and hotwords; no words without a lexicon.
    """
    _warm_up(spellings is not None)
    language = options.language
    if spellings is not None and language.fuse_lm:
        raise ConfigError(
            "fuse_lm needs labels of one character each, but these are pieces of words; give rescore_lm in its place",
            *("fuse_lm", "rescore_lm"),
        )
    lm = _read_lm(language.lm) if language.lm else None
    label_words: np.ndarray | None = None
    if lm is not None and lm.over_characters and not language.has_lexicon:
        label_words = _label_words(lm, alphabet)
    words, numbers = list[str](), list[int]()
    if language.has_lexicon:
        words = _read_words(language, alphabet)
        numbers = [_number(lm, word) for word in words]
    elif lm is not None and label_words is None:
        words = lm.real_words
        numbers = lm.encode(words).tolist()
    lexicon: dict[tuple[int, ...], int] = {}
    for spelling, number in zip(spell_words(words, alphabet), numbers, strict=True):
        if spelling:
            lexicon.setdefault(spelling, number)
    if lm is not None:
        _check_script(lm, language, alphabet, label_words, lexicon)
    hotword_weights: dict[tuple[int, ...], float] = {}
    for spelling, weight in _spell_hotwords(language.hotwords, alphabet):
        hotword_weights[spelling] = max(weight, hotword_weights.get(spelling, 0.0))
    if options.search.only_lexicon:  # the search finds no other words
        for word in (word for spelling in hotword_weights for word in split_words(alphabet.decode(spelling))):
            lexicon.setdefault(spell(word, alphabet), _number(lm, word))
    expected, hotwords = _expect(hotword_weights, lexicon, alphabet, options.search)
    labelled = list(enumerate(alphabet.characters, start=1))
    search = BeamSearch(
        num_labels=alphabet.size if spellings is None else spellings.num_labels,
        blank=BLANK,
        options=options.search,
        delimiters=[label for label, character in labelled if character == " "],
        standalone=[label for label, character in labelled if is_han(character)],
        lexicon=WordTrie(list(lexicon), list(lexicon.values())) if lexicon else None,
        lm=None if lm is None else lm.tables,
        label_words=label_words,
        label_model=_label_model(alphabet, language.fuse_lm, device) if language.fuse_lm else None,
        hotwords=hotwords,
        spellings=spellings,
    )
    characters = ("", *alphabet.characters)  # faster than `Alphabet.decode`, which checks each label
    spelled = " ".join("".join(map(characters.__getitem__, spelling)) for spelling in lexicon)
    known = frozenset(join_bytes(spelled).split())
    if known:
        known |= {word for hotword in expected for word in hotword.text.split()}
    return search, expected, known


def _expect(
    weights: Mapping[tuple[int, ...], float],
    lexicon: Iterable[tuple[int, ...]],
    alphabet: Alphabet,
    options: BeamOptions,
) -> tuple[tuple[ExpectedHotword, ...], Hotwords]:
    """Hotwords for the search, which cancel the penalty of their unknown words.

    The search adds the penalty of an unknown word at the first label after which no word of the lexicon is possible, or
    at the end of the word, for all letters so far, and then at each letter. Hotwords cancel it at the same labels.
    """
    word_price, letter_price = -min(options.unknown_word_score, 0.0), -options.unknown_letter_score
    known = sorted(lexicon) if weights and (word_price or letter_price) else []
    words, expected, rewards = set(known), [], []
    for spelling, weight in weights.items():
        text = alphabet.decode(spelling)
        reward = [weight * length / len(spelling) for length in range(1, len(spelling) + 1)]
        num_unknown = unknown_letters = 0
        for start, end in find_words(text) if known else ():
            if (word := spelling[start:end]) not in words:
                num_unknown += 1
                unknown_letters += len(word)
                index = bisect(known, word)
                charged = start + max(_num_shared(word, near) for near in known[max(index - 1, 0) : index + 1])
                for i in range(min(charged, len(reward) - 1), len(reward)):
                    reward[i] += word_price + letter_price * (min(i + 1, end) - start)
        expected.append(ExpectedHotword(join_bytes(text), weight, num_unknown, unknown_letters))
        rewards.append(reward)
    return tuple(expected), Hotwords(list(weights), [reward[-1] for reward in rewards], earned=rewards)


def _num_shared(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the common beginning of two words."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _label_model(alphabet: Alphabet, name: str, device: str) -> LabelModel:
    from asr.lm.recurrent import find_language_model

    with needing_torch("fuse_lm"):
        from asr.compute.device import find_device
        from asr.lm.fusion import CharacterFusion
        from asr.lm.rnn import LanguageModel
    model = LanguageModel.load(find_language_model(name)).prepare(find_device(device))
    return CharacterFusion(model, characters=alphabet.characters, blank=BLANK)


def _warm_up(spellings: bool) -> None:
    """Load the compiled search and aligner, or compile them with a warning."""
    from asr.ctc import alignment, subword_alignment

    warned: list[None] = []

    def say() -> None:
        if not warned:
            warnings.warn("compiling the beam search, once on this machine: a few seconds", AsrWarning, stacklevel=2)
        warned.append(None)

    beam.warm_up(say, spellings=spellings)
    (subword_alignment if spellings else alignment).warm_up(say)


def spell(text: str, alphabet: Alphabet) -> tuple[int, ...]:
    """The labels of a text, as written or in the case of the alphabet; none if the alphabet lacks a character.

    White space counts as single spaces. An apostrophe that the alphabet lacks is replaced by one that it has.
    """
    if (labels := alphabet.spell(text)) and text.split() == [text]:  # most words: in half of the time
        return labels
    text = " ".join(text.split())
    if any(mark in text for mark in _APOSTROPHES) and (
        known := [mark for mark in _APOSTROPHES if alphabet.spell(mark)]
    ):
        text = "".join(
            known[0] if character in _APOSTROPHES and character not in known else character for character in text
        )
    for change in (str, str.upper, str.lower):
        if labels := alphabet.spell(change(text)):
            return labels
    return ()


def spell_words(words: Sequence[str], alphabet: Alphabet) -> list[tuple[int, ...]]:
    """`spell` of each word; none for what is no word, or several.

    They are spelled together, in a third of the time, if the alphabet has all their characters as written.
    """
    text = " ".join(words)
    labels = alphabet.spell(text)
    if labels is None or len(labels) != len(text) or any(map(is_han, alphabet.characters)):
        return [spell(word, alphabet) if _is_word(word) else () for word in words]
    ends = accumulate(len(word) + 1 for word in words)
    return [labels[end - 1 - len(word) : end - 1] for word, end in zip(words, ends, strict=True)]


def _read_lm(path: str) -> NgramModel:
    """The n-gram model of a file; read once, and again when the file changes."""
    return _read_version(path, *file_versions([path]))


@lru_cache(maxsize=4)
def _read_version(path: str, version: Identity | None) -> NgramModel:
    from asr.lm.ngram import NgramModel

    return NgramModel.read(path)


def named_files(options: DecodingOptions) -> list[str]:
    """The files of decoding options; for a recurrent model's folder, the files in it."""
    folders = list(filter(None, (options.language.fuse_lm, options.rescoring.rescore_lm)))
    names = [name for name in options.files.values() if name not in folders]
    names += [
        os.path.join(folder, inner, file)
        for folder in folders
        for inner in ("", "lm", "model", "model/lm")  # as `find_language_model` looks
        for file in _MODEL_FILES
    ]
    return names + [entry[1:] for entry in options.language.hotwords if entry.startswith("@")]


def file_versions(names: Iterable[str]) -> tuple[Identity | None, ...]:
    """The identities of files, which change with their content; a missing file counts as unchanged."""
    return tuple(map(_version, names))


def _version(name: str) -> Identity | None:
    with suppress(OSError, ValueError):  # reading it will raise the error
        _last_seen[name] = identity(name)
    return _last_seen.get(name)


def read_source(path: str, alphabet: Alphabet) -> NgramModel:
    """The n-gram model of the training texts of an acoustic model, over characters.

    Raises:
        DataError: the file cannot be read.
        InputError: the model is over words, or lacks characters of the alphabet.
    """
    model = _read_lm(path)
    if not model.over_characters:
        raise InputError(f"source_lm must be an n-gram model of characters; {path} is of words")
    spelled = (model.space if character == " " else character for character in alphabet.characters)
    if missing := [character for character in spelled if character not in model.vocabulary]:
        raise InputError(
            f"source_lm must have all characters of the acoustic model, in the same case; {path} lacks "
            f"{', '.join(missing[:9])}{', ...' * (len(missing) > 9)}"
        )
    return model


def _number(lm: NgramModel | None, word: str) -> int:
    """The number of a word in the language model, in any case; 0, <unk>, if it has none."""
    if lm is None:
        return 0
    return next((lm.vocabulary[form] for form in (word, word.upper(), word.lower()) if form in lm.vocabulary), 0)


def _label_words(lm: NgramModel, alphabet: Alphabet) -> np.ndarray:
    """(V,) the number of each label in a language model of characters; 0 for Φ."""
    spelled = (lm.space if character == " " else character for character in alphabet.characters)
    return np.array([0, *(_number(lm, character) for character in spelled)])


def _check_script(
    lm: NgramModel,
    options: LanguageOptions,
    alphabet: Alphabet,
    label_words: np.ndarray | None,
    spellings: Mapping[tuple[int, ...], int],
) -> None:
    """Refuse a language model without words or letters of the alphabet; warn if it has few.

    Raises:
        InputError: none of its words can be spelled, or it has no word of the lexicon, or no letter, or its units are
            those of NeMo's script.
    """
    if label_words is not None:
        if any(chr(control) in lm.vocabulary for control in range(0x80, 0xA0)):  # token i is chr(100 + i)
            raise InputError(
                f"lm must be an n-gram model of words or characters, but {options.lm} is one of the encoded pieces of "
                "NeMo: give a model of plain words, such as asr-lm makes"
            )
        letters = [label for label, character in enumerate(alphabet.characters, start=1) if character != " "]
        number, known, units = len(letters), int(np.count_nonzero(label_words[letters])), "characters of the alphabet"
        condition, example = "known to the language model", alphabet.characters[letters[0] - 1] if letters else ""
    elif options.has_lexicon:
        number, known, units = len(spellings), sum(map(bool, spellings.values())), "words of the lexicon"
        condition, example = "known to the language model", alphabet.decode(next(iter(spellings)))
    else:
        real = lm.real_words
        number, known, units = len(real), len(spellings), "words of the language model"
        condition, example = "spelled in the model's alphabet", ""
        if 2 * known < number:  # a search of its own, which takes time
            example = next((word for word in real if not (_is_word(word) and spell(word, alphabet))), "")
            condition += ", each Chinese character as a word" * any(map(is_han, example))
    if not known:
        raise InputError(
            f"{units} must be {condition}; none of the {number} is, {example!r} for example; give a language model in "
            f"the script and spelling of the labels; got {options.lm}"
        )
    if 2 * known < number:
        warnings.warn(
            AsrWarning(
                f"{options.lm}: only {known} of the {number} {units} are {condition}, not {example!r} for example"
            ),
            stacklevel=2,
        )


def _read_words(options: LanguageOptions, alphabet: Alphabet) -> list[str]:
    """The words of a lexicon, from its file or list."""
    words = []
    for index, line in enumerate(map(str.strip, options.known_words)):
        if fault := _fault(line, alphabet):
            raise InputError(f"lexicon[{index}]: {fault}")
        words.append(line)
    for number, line in _lines(options.lexicon) if options.lexicon else ():
        if fault := _fault(line, alphabet):
            raise DataError(fault, path=options.lexicon, line=number)
        words.append(line)
    if not words:
        raise DataError("a lexicon must have at least one word; it has none", path=options.lexicon)
    return words


def _fault(line: str, alphabet: Alphabet) -> str:
    """The reason why a line is no word of a lexicon; empty if it is one."""
    if len(line.split()) > 1:
        return f"a line of a lexicon must be one word, not {line!r}"
    if line and not _is_word(line):
        return f"a line of a lexicon must be one word, as each Chinese character is, not {line!r}; give it as a hotword"
    return "" if spell(line, alphabet) else f"{line!r} cannot be spelled in the model's alphabet"


def _is_word(text: str) -> bool:
    """Whether the search finds a text as one word; a Chinese character is a word of its own."""
    return len(text.split()) == 1 and (text.isascii() or len(split_words(text)) == 1)


def _spell_hotwords(entries: Iterable[str], alphabet: Alphabet) -> Iterator[tuple[tuple[int, ...], float]]:
    """Labels and weight of each hotword that can be spelled, with a warning for the others."""
    problems = []
    num_spelled, has_figures = 0, False
    for text, weight, prefix in _parse_hotwords(entries):
        spoken = _spoken(text, alphabet)
        if spelling := spell(spoken, alphabet):
            num_spelled += 1
            yield spelling, weight
            continue
        has_figures |= _FIGURES.search(spoken) is not None
        characters = dict.fromkeys("".join(spoken.split()))
        missing = [repr(character) for character in characters if not spell(character, alphabet)]
        problems.append(f"{prefix}{text!r} has {', '.join(missing) or 'no characters'}")
    if problems:
        message = f"hotwords must be spelled in the model's alphabet; {'; '.join(problems)}"
        if has_figures and is_english(alphabet, TextOptions()):
            message += "; to spell figures, pip install 'asr[numbers]'"
        if not num_spelled:
            raise InputError(message)
        warnings.warn(AsrWarning(f"{message}; left out"), stacklevel=2)


def _spoken(hotword: str, alphabet: Alphabet) -> str:
    """A hotword in the words that a model writes: without hyphens, Wi-Fi is two.

    In English, 15 is fifteen, and Beyoncé has no accent.
    """
    if not (hotword.isascii() and _FIGURES.search(hotword) is None) and is_english(alphabet, TextOptions()):
        decomposed = unicodedata.normalize("NFD", hotword)
        hotword = "".join(character for character in decomposed if not unicodedata.combining(character))
        if can_spell_numbers():
            hotword = _FIGURES.sub(lambda figures: f" {spell_numbers(figures[1])} ", hotword)
    if any(mark in hotword for mark in HYPHENS) and alphabet.spell(" "):
        return "".join(" " if mark in HYPHENS and not alphabet.spell(mark) else mark for mark in hotword)
    return hotword


def hotword_spellings(entries: Iterable[str], alphabet: Alphabet) -> dict[tuple[str, ...], str]:
    """The hotwords as the user spells them, by their words in lower case; Wi-Fi by (wi, fi) if a model has no hyphen.

    Raises:
        InputError, DataError: an entry or file of hotwords is not as it must be.
    """
    texts = (text for text, _, _ in _parse_hotwords(entries))
    return {tuple(_spoken(text, alphabet).lower().replace("’", "'").split()): text for text in texts}


def _parse_hotwords(entries: Iterable[str]) -> Iterator[tuple[str, float, str]]:
    """Text and weight of each hotword, and its file and line for messages; a file is read for `@file`."""
    for entry in entries:
        if not entry.startswith("@"):
            yield *_parse_hotword(entry, ""), ""
            continue
        if not (path := entry[1:]):
            raise InputError(f"a file name must follow the @, as in @names.txt; got {entry!r}")
        for number, line in _lines(path):
            if line.startswith("@"):
                raise DataError(f"a file of hotwords must not name another, as {line!r} does", path=path, line=number)
            prefix = f"{path}:{number}: "
            yield *_parse_hotword(line, prefix), prefix


def _parse_hotword(entry: str, prefix: str) -> tuple[str, float]:
    if ends_with_time(shown := entry.strip()):
        raise InputError(
            f"{prefix}a hotword must not end in what may be a time or a weight; got {shown!r}: write {shown}.0 for the "
            f"weight, {shown}:{HOTWORD_WEIGHT:g} for the time"
        )
    text, colon, number = entry.rpartition(":")
    try:
        weight = float(number) if colon else HOTWORD_WEIGHT
    except ValueError:
        raise InputError(f"{prefix}a hotword must be WORD or WORD:NATS; got {entry!r}") from None
    if not 0 < weight <= LARGEST_SCORE:
        raise InputError(
            f"{prefix}the weight of a hotword must be finite and above 0 nats, {LARGEST_SCORE:g} at most; got {entry!r}"
        )
    return text if colon else entry, weight


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not empty."""
    try:
        content = read_regular(path, at_most=_WORDS_BYTES)
    except OSError as error:
        raise DataError(f"this file of words cannot be read: {error.strerror}", path=path) from None
    lines = decode_text(content, path).splitlines()
    return ((number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip())
