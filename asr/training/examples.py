"""Examples to train on: utterances with their labels, read from manifests and checked.

manifests ─▶ utterances ─▶ examples with labels, and phones ─▶ the usable ones; the others are counted and noted
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from asr.acoustic.model import AcousticModel
from asr.ctc.collapse import minimum_frames
from asr.data.manifest import Utterance, is_manifest, read_manifest
from asr.data.shards import read_shards
from asr.errors import DataError
from asr.files.remote import is_url
from asr.text.alphabet import Alphabet
from asr.training.config import DataOptions
from asr.training.lexicon import Lexicon

MOST_NAMED = 5  # characters or words in a note


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One utterance, or several that follow each other in one recording, with the targets.

    Targets are arrays, which saves a quarter of a gigabyte for LibriSpeech.
    """

    utterances: tuple[Utterance, ...]
    text: str
    labels: array[int]
    phones: array[int] | None = None

    @property
    def id(self) -> str:
        """The ids of the utterances with + between them."""
        return "+".join(utterance.id for utterance in self.utterances)

    @property
    def seconds(self) -> float:
        """Duration of all utterances."""
        return sum(utterance.duration_seconds for utterance in self.utterances)


def compact(labels: Iterable[int]) -> array[int]:
    """Labels in the form that an example holds."""
    return array("i", labels)


def read_utterances(sources: Sequence[str]) -> list[Utterance]:
    """The utterances of manifests and folders of shards; their audio files or archives exist."""
    utterances: list[Utterance] = []
    for source in sources:
        if is_manifest(source) and is_url(source):
            raise DataError("a manifest must be a file on a disk; only folders of shards can be URLs", path=source)
        utterances += read_manifest(source, check_audio=True) if is_manifest(source) else read_shards(source)
    if not utterances:
        raise DataError("manifests must hold utterances, but there are none", path=", ".join(sources))
    return utterances


def label_examples(
    utterances: Iterable[Utterance],
    texts: Iterable[str],
    alphabet: Alphabet,
    lexicon: Lexicon | None,
    *,
    dropped: Counter[str],
    optional: str | None = None,
) -> list[Example]:
    """The utterances with the labels of their normalised texts.

    Characters outside the alphabet are left out, and counted in `dropped`.

    Raises:
        DataError: such characters are not among the `optional` ones; None: all are.
    """
    examples = []
    refused: list[Utterance] = []
    lacking: set[str] = set()
    for utterance, text in zip(utterances, texts, strict=True):
        counts: Counter[str] = Counter()
        labels = alphabet.encode(text, dropped=counts)
        if optional is not None and (unexpected := set(counts) - set(optional)):
            refused.append(utterance)
            lacking |= unexpected
        dropped.update(counts)
        phones = lexicon.encode(text) if lexicon else None
        examples.append(
            Example(
                utterances=(utterance,),
                text=utterance.text if utterance.text == text else text,  # one string in memory, not two
                labels=compact(labels),
                phones=None if phones is None else compact(phones),
            )
        )
    if refused:
        names = ", ".join(repr(utterance.id) for utterance in refused[:MOST_NAMED])
        raise DataError(
            f"the alphabet must have the characters of {names}{_more(refused)}, but lacks "
            f"{', '.join(map(repr, sorted(lacking)))}{_remedy(lacking)}; name them in "
            "data.unknown_characters to leave them out, or give init_alphabet extend to add them, without the "
            "model's language models",
            path=refused[0].audio,
        )
    return examples


def _more(items: Sequence[object]) -> str:
    """How many there are beyond the named ones."""
    return f" and {len(items) - MOST_NAMED} more" if len(items) > MOST_NAMED else ""


def _remedy(characters: Iterable[str]) -> str:
    """Advice for digits outside the alphabet."""
    spell = "; give text.numbers spell to spell numbers in English words, or correct the text"
    return spell if any("0" <= character <= "9" for character in characters) else ""


def join_examples(examples: Sequence[Example], alphabet: Alphabet) -> Example:
    """The example of utterances that follow each other in one recording."""
    text = " ".join(example.text for example in examples if example.text)
    phones = [example.phones for example in examples]
    return Example(
        utterances=tuple(chain.from_iterable(example.utterances for example in examples)),
        text=text,
        labels=compact(alphabet.encode(text, dropped=Counter())),  # dropped characters have been reported
        phones=None if None in phones else compact(chain.from_iterable(phones)),  # type: ignore[arg-type]
    )


def usable_examples(
    examples: Iterable[Example], model: AcousticModel, data: DataOptions, note: Callable[[str], None]
) -> list[Example]:
    """The examples that a model can learn from; the others are counted, and the first few are named."""
    usable: list[Example] = []
    faulty: dict[str, list[str]] = {}
    for example in examples:
        num_frames = model.output_length(round(example.seconds * model.sample_rate))
        if example.seconds > data.max_seconds:
            faulty.setdefault(f"longer than max_seconds ({data.max_seconds:g})", []).append(example.id)
        elif num_frames < minimum_frames(example.labels):
            reason = "more characters than frames: is the transcript of another recording?"
            faulty.setdefault(reason, []).append(example.id)
        else:
            usable.append(example)
    for reason, ids in faulty.items():
        names = ", ".join(ids[:5]) + ", …" * (len(ids) > 5)
        note(f"{len(ids)} training utterances left out ({names}): {reason}")
    if not usable:
        raise DataError("at least one utterance must be usable, but none is", path=", ".join(data.train))
    return usable


def note_dropped(dropped: Counter[str], what: str, note: Callable[[str], None]) -> None:
    """Note the characters that were left out of the targets of a set."""
    if dropped:
        counts = ", ".join(f"{character!r} ({count})" for character, count in dropped.most_common(MOST_NAMED))
        more = f", … ({len(dropped)} different ones)" if len(dropped) > MOST_NAMED else ""
        note(f"characters outside the alphabet were left out of {what} targets: {counts}{more}")


def note_unknown_words(lexicon: Lexicon, examples: Sequence[Example], note: Callable[[str], None]) -> None:
    """Note the words without a pronunciation, and the number of examples without phones."""
    unknown = Counter(word for example in examples for word in lexicon.unknown(example.text))
    if unknown:
        without = sum(example.phones is None for example in examples)
        words = ", ".join(word for word, _ in unknown.most_common(MOST_NAMED))
        note(
            f"{len(unknown)} words have no pronunciation ({words}{', …' * (len(unknown) > MOST_NAMED)}): "
            f"{without} of {len(examples)} utterances train without phones"
        )


def digest(utterances: Iterable[Utterance]) -> str:
    """A digest of ids, texts, stretches and channels; not of the paths of the sound."""
    sha256 = hashlib.sha256()
    for utterance in utterances:
        stretch = f"{utterance.start_seconds}\t{utterance.duration_seconds}\t{utterance.channel}"
        sha256.update(f"{utterance.id}\t{stretch}\t{utterance.text}\n".encode())
    return sha256.hexdigest()
