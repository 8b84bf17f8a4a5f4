"""The kinds of findings, and the checks that yield them: pure functions of one `Case`, or of all cases of a corpus.

The facts in a case come from `asr.doctor.listening` and `asr.doctor.matching`.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from asr.ctc.collapse import minimum_frames
from asr.data.manifest import Declared, Utterance
from asr.data.splits import Split
from asr.doctor.listening import FileFacts, SoundFacts, decibels
from asr.errors import ConfigError, InputError
from asr.options import check_options, option
from asr.text.alphabet import Alphabet
from asr.text.marks import find_marks
from asr.text.normalization import Marks, TextOptions, is_han, normalize, without_refusal
from asr.text.subwords import Subwords

if TYPE_CHECKING:
    from asr.acoustic.ctc_model import CTCModel

Level = Literal["broken", "suspect", "note"]

_MOST_CHARACTERS = 100  # in larger alphabets, as in Chinese, many characters occur once
_LEAST_UTTERANCES = 100  # the fewest utterances for statistics of the corpus
_FAR_OUT = 4.0  # interquartile ranges beyond the quartiles, of logarithms
_STOCK = 3  # a sentence repeated this often in train is a common phrase
_MOST_MARKS = 3  # in a message
_RARE_SHARE = 0.01  # of the texts, for a character outside the language's usual ones
_OTHER_SCRIPT = 0.05  # of the letters in the corpus
_ONE_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "HANGUL": "CJK", "IDEOGRAPHIC": "CJK", "FULLWIDTH": "LATIN"}
_SPOKEN = frozenset("%‰&@#§")  # symbols to a reader, punctuation to Unicode
_UNSPOKEN = frozenset("~|^`´¨")  # the other way round
_HAN_LETTERS = 3  # a Chinese character is a syllable
# Nats per character: with a good model the right text costs up to 1, another text of this length 5 to 15.
_ODD, _IMPLAUSIBLE, _MOST_MEDIAN = 1.0, 3.0, 2.0


@dataclass(frozen=True)
class Kind:
    """A kind of finding, with its level and meaning.

    broken: training fails or learns errors, or figures are wrong. suspect: a person should check it. note: information,
        not a fault.
    """

    level: Level
    meaning: str


KINDS: dict[str, Kind] = {
    "manifest": Kind("broken", "a line of the manifest cannot be used"),
    "missing": Kind("broken", "the sound file does not exist"),
    "empty": Kind("broken", "the sound file holds no samples"),
    "not-sound": Kind("broken", "the file is not a sound file"),
    "corrupt": Kind("broken", "the sound file is damaged"),
    "truncated": Kind("broken", "the sound file is truncated"),
    "not-finite": Kind("broken", "samples are NaN, infinite or out of range"),
    "channel": Kind("broken", "the sound file lacks the utterance's channel"),
    "rate": Kind("broken", "the manifest states another sample rate than the file has"),
    "duration": Kind("broken", "the manifest states another duration than the file has"),
    "silent": Kind("broken", "the sound is silent"),
    "too-few-frames": Kind("broken", "more characters than the model's frames can hold"),
    "duplicate-id": Kind("broken", "an id is used twice"),
    "duplicate-audio": Kind("broken", "the same sound is used twice"),
    "leaked-audio": Kind("broken", "sound of dev or test is in train"),
    "swapped": Kind("broken", "the text belongs to a neighbouring utterance"),
    "few-frames": Kind("suspect", "more characters than the default model's frames can hold"),
    "leaked-text": Kind("suspect", "a sentence of dev or test is in train"),
    "leaked-speaker": Kind("suspect", "a speaker of dev or test is in train"),
    "mismatch": Kind("suspect", "the text does not fit the sound"),
    "no-text": Kind("suspect", "there is no text"),
    "unknown-character": Kind("suspect", "the text has characters outside the alphabet"),
    "digits": Kind("suspect", "the text has digits; write numbers as they are said"),
    "symbols": Kind("suspect", "the text has symbols, which are spoken as words or not at all"),
    "other-script": Kind("suspect", "the text has letters of another script than the other texts"),
    "rare-character": Kind("suspect", "the text has a character that few or no other texts have"),
    "speaking-rate": Kind("suspect", "implausibly many or few letters per second"),
    "too-short": Kind("suspect", "shorter than a word"),
    "too-long": Kind("suspect", "longer than training allows"),
    "clipped": Kind("suspect", "loud sound is clipped"),
    "dc-offset": Kind("suspect", "the sound is not centred on zero"),
    "refused-marks": Kind("broken", "the text has marks such as [noise], which the options refuse"),
    "marks": Kind("note", "the text has unspoken marks such as [noise]"),
    "low-rate": Kind("note", "the file's sample rate is lower than the model's"),
    "common-text": Kind("note", "a short or common sentence of dev or test is in train"),
    "no-match": Kind("note", "the model does not fit the corpus: texts not compared"),
}


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """Limits of the checks."""

    text: TextOptions = field(default_factory=TextOptions)
    characters: str = option("", "the alphabet, without spaces (default: the alphabet of the model or of train)")
    tolerance: float = option(0.1, "seconds by which a stated duration may differ from the file's", least=0)
    shortest: float = option(0.1, "report utterances shorter than this, in seconds", least=0)
    longest: float = option(30.0, "report utterances longer than this, in seconds")
    silence: float = option(-50.0, "report utterances whose loudest 25 ms are below this, in dB of full scale")
    clipped: float = option(0.5, "report sound with more than this percentage of clipped samples", least=0)
    offset: float = option(2.0, "percent of full scale by which the mean sample may differ from 0", least=0)
    slowest: float = option(
        0.5, "report utterances with fewer letters a second (a Chinese character counts as 3)", least=0
    )
    fastest: float = option(30.0, "report utterances with more letters a second")
    leak_letters: int = option(20, "report sentences of N letters or more that are in both train and test", least=0)

    def __post_init__(self) -> None:
        check_options(self)
        for low, high in (("shortest", "longest"), ("slowest", "fastest")):
            if not getattr(self, low) < getattr(self, high):
                values = f"{getattr(self, low)} and {getattr(self, high)}"
                raise ConfigError(f"{low} must be less than {high}, not {values}", low, high)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextMatch:
    """How well a text fits its sound, by forced alignment.

    Args:
        cost: log-probability of the model's best path minus that of the text, in nats per character; 0 is the best
            fit, infinity no fit.
        neighbour_cost: lowest cost of a neighbour's text on this sound; infinite if there is none.
        neighbour: index of this neighbour among the cases.
        heard: what the model writes for the sound, normalised like the text; empty if it was not asked.
    """

    cost: float
    neighbour_cost: float = math.inf
    neighbour: int | None = None
    heard: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """An utterance and the facts about it."""

    manifest: str
    line: int
    split: Split  # of the manifest
    utterance: Utterance
    declared: Declared
    text: str  # normalised
    file: FileFacts
    sound: SoundFacts | None = None  # None if the utterance has no samples
    match: TextMatch | None = None  # by a model; None without one

    @property
    def location(self) -> str:
        """PATH:LINE."""
        return f"{self.manifest}:{self.line}"

    @property
    def seconds(self) -> float:
        """Seconds of sound in the utterance."""
        return self.sound.num_samples / self.file.sample_rate if self.sound else 0.0

    @property
    def letters(self) -> int:
        return count_letters(self.text)

    @property
    def letters_per_second(self) -> float | None:
        """The speaking rate; None if there is no sound or no text, or the file is damaged."""
        return self.letters / self.seconds if self.letters and self.seconds and not self.file.damage else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A fault of one utterance or one line."""

    kind: str  # one of `KINDS`
    message: str
    manifest: str
    line: int
    id: str = ""  # of the utterance; empty if the line cannot be read
    audio: str = ""  # likewise
    badness: float = 0.0  # higher is worse, within one kind
    case: int | None = None  # index of the utterance among the cases

    @property
    def level(self) -> Level:
        return KINDS[self.kind].level


Fault = tuple[str, str, float]  # kind, message, badness
CaseFault = tuple[int, Fault]  # with the index of the case


def count_letters(text: str) -> int:
    """The number of characters except spaces and accents; a Chinese character counts as three."""
    return sum(
        _HAN_LETTERS if is_han(character) else 1
        for character in text
        if character != " " and not unicodedata.combining(character)
    )


# --- checks of one utterance


def check_file(case: Case) -> Iterator[Fault]:
    """Damage of the file; a truncated file counts only if the utterance reaches its last second."""
    file, utterance = case.file, case.utterance
    reaches_end = utterance.start_seconds + utterance.duration_seconds > file.duration_seconds - 1.0
    if file.damage and (file.damage != "truncated" or reaches_end):
        yield file.damage, file.reason, 0.0


def check_declared(case: Case, options: DoctorOptions) -> Iterator[Fault]:
    """Channel, rate and duration in the manifest against the file, unless it is damaged."""
    file, declared, utterance = case.file, case.declared, case.utterance
    if file.damage:
        return
    if utterance.channel >= file.num_channels:
        yield "channel", f"channel {utterance.channel} of {file.num_channels} (the first is 0)", 0.0
    if declared.sample_rate not in (None, file.sample_rate):
        yield "rate", f"{declared.sample_rate} Hz stated, {file.sample_rate} Hz in the file", 0.0
    stated = declared.duration_seconds
    if declared.num_samples is not None and declared.sample_rate == file.sample_rate:
        stated = max(stated, declared.num_samples / file.sample_rate, key=lambda s: abs(s - file.duration_seconds))
    end = utterance.start_seconds + utterance.duration_seconds
    if (off := abs(stated - file.duration_seconds)) > options.tolerance:
        yield "duration", f"{stated:.3f} s stated, {file.duration_seconds:.3f} s in the file", off
    elif (off := end - file.duration_seconds) > options.tolerance:
        yield "duration", f"it ends at {end:.3f} s, the recording at {file.duration_seconds:.3f} s", off


def check_sound(case: Case, options: DoctorOptions) -> Iterator[Fault]:
    """Faults of the sound: invalid samples, silence, clipping, offset, length."""
    sound = case.sound
    if sound is None:
        return
    if sound.invalid:
        yield "not-finite", f"{sound.invalid} of {sound.num_samples} samples", sound.invalid
        return
    loudest = decibels(sound.loudest)
    if loudest < options.silence:
        yield "silent", f"the loudest 25 ms have {loudest:.0f} dB of full scale", -loudest
    elif 100 * sound.clipped > options.clipped:
        yield "clipped", f"{100 * sound.clipped:.1f} % of the samples are flat at a peak", sound.clipped
    if 100 * abs(sound.offset) > options.offset:
        yield "dc-offset", f"the mean sample is {100 * sound.offset:+.1f} % of full scale", abs(sound.offset)
    if case.seconds < options.shortest and not case.file.damage:
        yield "too-short", f"{case.seconds:.3f} s", -case.seconds
    elif case.seconds > options.longest:
        yield "too-long", f"{case.seconds:.1f} s; training allows {options.longest:g}", case.seconds


def check_text(case: Case, alphabet: Alphabet | None) -> Iterator[Fault]:
    """No text, or characters outside the alphabet."""
    if not case.text:
        original = f" after normalising {case.utterance.text[:30]!r}" if case.utterance.text.strip() else ""
        yield "no-text", f"the text is empty{original}", 0.0
    elif alphabet is not None:
        dropped: Counter[str] = Counter()
        alphabet.encode(case.text, dropped=dropped)
        dropped.pop(" ", None)
        if dropped:
            yield "unknown-character", f"{describe_characters(dropped)} in {_excerpt(case.text)}", dropped.total()


def check_digits(case: Case) -> Iterator[Fault]:
    """Digits in the normalised text."""
    if digits := Counter(character for character in case.text if character.isdecimal()):
        yield "digits", f"{_listed(digits)} in {_excerpt(case.text)}", digits.total()


def check_symbols(case: Case, options: TextOptions) -> Iterator[Fault]:
    """Symbols in the text before punctuation is dropped, such as € or %: a speaker says them, but no label does."""
    text = normalize(case.utterance.text, replace(without_refusal(options), punctuation="keep"))
    if symbols := Counter(filter(_is_symbol, text)):
        yield "symbols", f"{_listed(symbols)} in {_excerpt(text)}", symbols.total()


def _is_symbol(character: str) -> bool:
    kind = unicodedata.category(character)[0]
    return character in _SPOKEN or (kind == "S" and character not in _UNSPOKEN)


def check_marks(case: Case, policy: Marks) -> Iterator[Fault]:
    """Unspoken marks, such as [noise] or NARRATOR:, and their treatment."""
    text = case.utterance.text
    if marks := find_marks(text):
        kind, treatment = {
            "drop": ("marks", "left out of"),
            "keep": ("marks", "kept as words in"),
            "refuse": ("refused-marks", "in"),
        }[policy]
        some = ", ".join(_excerpt(text[start:end]) for start, end in marks[:_MOST_MARKS])
        more = f" and {len(marks) - _MOST_MARKS} more" * (len(marks) > _MOST_MARKS)
        yield kind, f"{some}{more} {treatment} {_excerpt(text)}", len(marks)


def check_frames(
    case: Case, *, sample_rate: int, num_frames: Callable[[int], int], alphabet: Alphabet | None, assumed: bool
) -> Iterator[Fault]:
    """CTC needs a frame for each character, and one between two equal characters: T >= U + repeats.

    Args:
        case: the utterance.
        sample_rate: of the model, in Hz.
        num_frames: the model's output frames for a number of samples at this rate.
        alphabet: the model's characters, others are left out; None for all characters.
        assumed: no model is given; then only texts that need twice the default model's frames are broken.
    """
    if case.sound is None or case.file.damage:
        return
    if case.file.sample_rate < sample_rate:
        yield "low-rate", f"{case.file.sample_rate} Hz, but the model uses {sample_rate}", 0.0
    labels = alphabet.encode(case.text, dropped=Counter()) if alphabet else [ord(character) for character in case.text]
    frames, needed = num_frames(round(case.seconds * sample_rate)), minimum_frames(labels)
    if frames < needed:
        repeats = needed - len(labels)
        message = f"{frames} frames for {len(labels)} characters and {repeats} repeats, in {case.seconds:.2f} s"
        yield "few-frames" if assumed and needed <= 2 * frames else "too-few-frames", message, needed / max(frames, 1)


# --- checks of the corpus, which yield faults with the index of the case


def find_odd_rates(cases: Sequence[Case], options: DoctorOptions) -> Iterator[CaseFault]:
    """Speaking rates beyond the limits, or, in a large corpus, far from the usual ones."""
    rates = {index: rate for index, case in enumerate(cases) if (rate := case.letters_per_second)}
    slowest, fastest = options.slowest, options.fastest
    if len(rates) >= _LEAST_UTTERANCES:
        low, high = np.log(np.quantile(list(rates.values()), (0.25, 0.75)))
        slowest = max(slowest, float(np.exp(low - _FAR_OUT * (high - low))))
        fastest = min(fastest, float(np.exp(high + _FAR_OUT * (high - low))))
    for index, rate in rates.items():
        if not slowest <= rate <= fastest:
            case = cases[index]
            message = f"{rate:.1f} letters per second ({case.letters} in {case.seconds:.2f} s): {_excerpt(case.text)}"
            yield index, ("speaking-rate", message, abs(math.log(rate)))


def find_rare_characters(cases: Sequence[Case], options: TextOptions) -> Iterator[CaseFault]:
    """Characters of few texts: in English letters outside A to Z, and in a large corpus those of one text only.

    Large alphabets, as that of Chinese, have many rare characters, which are not reported.
    """
    users: dict[str, list[int]] = defaultdict(list)
    for index, case in enumerate(cases):
        for character in set(case.text):
            users[character].append(index)
    if len(users) > _MOST_CHARACTERS:
        return
    rare: dict[int, Counter[str]] = defaultdict(Counter)
    for character, indices in users.items():
        unusual = options.language == "en" and character.isalpha() and not character.isascii()
        few = max(1, _RARE_SHARE * len(cases)) if unusual else 1 if len(cases) >= _LEAST_UTTERANCES else 0
        if len(indices) <= few and not character.isdecimal():
            for index in indices:
                rare[index][character] = cases[index].text.count(character)
    for index, characters in sorted(rare.items()):
        message = f"{describe_characters(characters)} in {_excerpt(cases[index].text)}"
        yield index, ("rare-character", message, len(characters))


def find_other_scripts(cases: Sequence[Case]) -> Iterator[CaseFault]:
    """Letters of a script with less than a twentieth of the letters in the corpus, such as a Cyrillic а in English."""
    totals: Counter[str] = Counter()
    for case in cases:
        totals.update(script for character in case.text if (script := _script(character)))
    if len(totals) < 2:
        return
    main, _ = totals.most_common(1)[0]
    others = {script for script, count in totals.items() if count < _OTHER_SCRIPT * totals.total()}
    for index, case in enumerate(cases):
        if letters := Counter(character for character in case.text if _script(character) in others):
            names = ", ".join(sorted({_script(character).capitalize() for character in letters}))
            message = f"{names}, not {main.capitalize()}: {describe_characters(letters)} in {_excerpt(case.text)}"
            yield index, ("other-script", message, letters.total())


@cache
def _script(character: str) -> str:
    """The script of a letter, by the first word of its name; empty for other characters."""
    if not character.isalpha() or unicodedata.category(character) == "Lm":
        return ""
    name = unicodedata.name(character, "").partition(" ")[0]
    return _ONE_SCRIPT.get(name, name)


def find_duplicate_ids(cases: Sequence[Case]) -> Iterator[CaseFault]:
    """Ids of an earlier utterance, in any manifest."""
    first: dict[str, Case] = {}
    for index, case in enumerate(cases):
        earlier = first.setdefault(case.utterance.id, case)
        if earlier is not case:
            yield index, ("duplicate-id", f"{case.utterance.id!r} is also the id of {earlier.location}", 0.0)


def find_duplicate_audio(cases: Sequence[Case], options: DoctorOptions) -> Iterator[CaseFault]:
    """Sound of an earlier utterance; if one is in train and one held out, the finding is the one in train."""
    first: dict[bytes, int] = {}
    for index in sorted(range(len(cases)), key=lambda index: cases[index].split == "train"):  # held-out sets first
        case = cases[index]
        if case.sound is None or decibels(case.sound.loudest) < options.silence:
            continue
        earlier = cases[first.setdefault(case.sound.digest, index)]
        if earlier is case:
            continue
        same = "with the same text" if earlier.text == case.text else f"whose text is {_excerpt(earlier.text)}"
        leaked = case.split == "train" and earlier.split in ("dev", "test")
        kind = "leaked-audio" if leaked else "duplicate-audio"
        yield index, (kind, f"the sound is that of {earlier.location}, {same}", float(earlier.text != case.text))


def find_leaks(cases: Sequence[Case], options: DoctorOptions) -> Iterator[CaseFault]:
    """Sentences and speakers of dev and test in train; a speaker is reported once per set."""
    held_out_texts: dict[str, Case] = {}
    held_out_speakers: dict[str, dict[str, Case]] = defaultdict(dict)
    for case in cases:
        if case.split in ("dev", "test"):
            held_out_texts.setdefault(case.text, case)
            if case.utterance.speaker is not None:
                held_out_speakers[case.utterance.speaker].setdefault(case.split, case)
    num_repeats = Counter(case.text for case in cases if case.split == "train")
    num_spoken = Counter(case.utterance.speaker for case in cases if case.split == "train")
    for index, case in enumerate(cases):
        if case.split != "train":
            continue
        if case.text and (other := held_out_texts.get(case.text)):
            usual = case.letters < options.leak_letters or num_repeats[case.text] >= _STOCK
            message = f"{_excerpt(case.text)} is also {other.location}"
            yield index, ("common-text" if usual else "leaked-text", message, case.letters)
        speaker = case.utterance.speaker
        for split, other in held_out_speakers.pop(speaker, {}).items() if speaker is not None else ():
            message = f"{speaker} speaks {num_spoken[speaker]} times in train, and in {split} ({other.location})"
            yield index, ("leaked-speaker", message, num_spoken[speaker])


def find_mismatches(cases: Sequence[Case]) -> Iterator[CaseFault]:
    """Texts whose alignment costs far more than usual in the corpus, or than a neighbour's text.

    The usual cost and its spread are the median and the median deviation in the corpus, so a model of another domain
    can be used. If the median is above 2 nats per character, the model does not fit, and texts are not compared.
    """
    costs = np.array([case.match.cost for case in cases if case.match is not None])
    if not len(costs):
        return
    median = float(np.median(costs))
    if not median <= _MOST_MEDIAN:
        message = f"the median text is {median:.1f} nats per character less likely than the model's best path"
        yield next(i for i, case in enumerate(cases) if case.match), ("no-match", message, 0.0)
        return
    spread = 1.4826 * float(np.median(np.abs(costs - median)))  # the standard deviation of a normal distribution
    odd, implausible = median + 5 * spread + _ODD, median + 8 * spread + _IMPLAUSIBLE
    for index, case in enumerate(cases):
        match = case.match
        if match is None or match.cost <= odd:
            continue
        if match.neighbour is not None and match.neighbour_cost <= odd:
            other = cases[match.neighbour]
            message = f"{_excerpt(case.text)} does not fit, and {_excerpt(other.text)} of {other.location} does"
            yield index, ("swapped", message, match.cost - match.neighbour_cost)
        elif implausible < match.cost < math.inf:  # infinite if silent or too short: other checks report this
            message = f"{match.cost:.1f} nats per character (usual here: {median:.1f}): {_excerpt(case.text)}"
            yield index, ("mismatch", message, match.cost)


def model_alphabet(model: CTCModel) -> Alphabet:
    """The characters of a model.

    Raises:
        ConfigError: the labels of the model are pieces of words.
    """
    if isinstance(model.alphabet, Subwords):
        raise ConfigError(
            "the model must have a label for each character to check texts; "
            f"the labels of {model.name} are pieces of words"
        )
    return model.alphabet


def learned_alphabet(cases: Iterable[Case]) -> Alphabet | None:
    """The alphabet of a model trained on these cases; None if there is no train set, or no text in it."""
    try:
        return Alphabet.from_texts(case.text for case in cases if case.split == "train")
    except InputError:
        return None


def describe_characters(characters: Counter[str]) -> str:
    """The characters, each with its code point and count."""
    return ", ".join(
        f"{character!r} (U+{ord(character):04X}{f', {count} times' if count > 1 else ''})"
        for character, count in characters.most_common()
    )


def _listed(characters: Counter[str]) -> str:
    return ", ".join(map(repr, characters))


def _excerpt(text: str, width: int = 40) -> str:
    return repr(text if len(text) <= width else text[: width - 1] + "…")
