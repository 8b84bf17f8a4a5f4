"""English from several openly licensed corpora: one training set, and dev and test sets.

A collection is a folder with one folder per corpus, each with a `manifest.tsv`:

    path                                transcript        speaker     seconds   split
    1088/1088-134315-0000.opus          AS YOU KNOW AND   ls-1088     16.04     train | dev | test

Paths are relative to the corpus; transcripts are as published. `recipes/english/README.md` lists the corpora of the
published model, with makers, licences and addresses.

Splits are those of the column, except for `HELD_OUT`, speakers of training corpora that are moved to dev or test. Train
then has no speaker and no run of eight words (see `asr.corpora.overlap`) of any dev or test set, since either would
make error rates look too good.
"""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import soundfile
from tqdm import tqdm

from asr.audio.waveform import read_audio
from asr.corpora.overlap import Withheld
from asr.corpora.pronunciations import lexicon, read_cmudict
from asr.data.manifest import Utterance, write_manifest
from asr.errors import DataError
from asr.files.reading import open_regular
from asr.files.texts import lines_with_ends
from asr.files.writing import write_whole
from asr.text.normalization import TextOptions, normalize

SAMPLE_RATE = 16000
TEXT = TextOptions()
LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ")

# The first speakers by the SHA-256 of their ids: two women and a man of LibriSpeech (26 minutes of train-clean-5), and
# a tenth of speechocean762's speakers (12 minutes).
HELD_OUT = dict.fromkeys(("ls-5789", "ls-1970", "ls-1867"), "dev") | dict.fromkeys(
    ("so762-9600", "so762-8002", "so762-2022", "so762-1372", "so762-1029", "so762-1033", "so762-9624"), "test"
)

# Their dev sets together are `dev`, for choices in training.
DEV_CORPORA = ("librispeech_train_clean_5", "common_voice_v1_dev", "common_voice_deltas")

_COLUMNS = ("path", "transcript", "speaker", "seconds", "split")
_SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One line of a corpus's manifest.tsv."""

    corpus: str
    path: Path
    id: str
    text: str
    speaker: str | None
    split: str


def prepare(
    *,
    sources: Sequence[str | os.PathLike[str]],
    cmudict: str | os.PathLike[str],
    output: str | os.PathLike[str],
    convert: bool = True,
    note: Callable[[str], None],
    progress: bool | None = None,
) -> dict[str, Path]:
    """Manifests and a lexicon: the paths of "train", "dev", "lexicon", and of "CORPUS-dev" and "CORPUS-test".

    FLAC and WAV files are used in place; others are converted to FLAC files of 16 kHz in output/audio, because training
    reads each file in every epoch and Opus takes five times as long to decode. After an interruption, the same call
    resumes. An id is CORPUS/NAME.

    Args:
        sources: collections; all corpora must have different names.
        cmudict: as for `read_cmudict`.
        output: folder to write to.
        convert: if false, all files are used in place.
        note: called with a sentence for each reason that utterances are left out of train.
        progress: bars on stderr; None means only on a terminal.
    Raises:
        DataError: a source has no corpora, a manifest lacks a column or has an impossible value, a file is missing or
            not audio, or there is nothing to train on.
    """
    output = Path(os.path.abspath(output))
    entries = [entry for corpus in _corpora(sources) for entry in _read_entries(corpus)]
    train = _trainable(entries, note)
    if not train:
        raise DataError("there must be utterances to train on, but there are none", path=", ".join(map(str, sources)))
    used = train + [entry for entry in entries if entry.split != "train"]
    hidden = None if progress is None else not progress  # tqdm: None hides the bar unless stderr is a terminal
    audio = output / "audio" if convert else None
    utterances = {entry.id: _utterance(entry, audio) for entry in tqdm(used, desc="audio", unit="file", disable=hidden)}
    members: dict[str, list[Utterance]] = defaultdict(list)
    for entry in used:
        members["train" if entry.split == "train" else f"{entry.corpus}-{entry.split}"].append(utterances[entry.id])
        if entry.split == "dev" and entry.corpus in DEV_CORPORA:
            members["dev"].append(utterances[entry.id])
    outputs = {name: output / f"{name}.jsonl.gz" for name in sorted(members)}
    for name, path in outputs.items():
        write_manifest(members[name], path)
    outputs["lexicon"] = output / "lexicon.txt"
    words = {word for entry in train for word in normalize(entry.text, TEXT).split()}
    write_whole(outputs["lexicon"], lexicon(words, read_cmudict(cmudict)))
    return outputs


def _corpora(sources: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """The folders with a manifest.tsv, source by source, in alphabetic order."""
    seen: dict[str, Path] = {}
    for source in sources:
        corpora = sorted(path.parent for path in Path(os.path.abspath(source)).glob("*/manifest.tsv"))
        if not corpora:
            raise DataError("must hold folders with a manifest.tsv each, but there is none", path=source)
        for corpus in corpora:
            if seen.setdefault(corpus.name, corpus) != corpus:
                raise DataError(f"corpora must have different names, but there is {seen[corpus.name]}", path=corpus)
            yield corpus


def _read_entries(corpus: Path) -> list[_Entry]:
    """The lines of a corpus's manifest.tsv; quotation marks are part of the text."""
    path = corpus / "manifest.tsv"
    entries: dict[str, _Entry] = {}
    try:
        with lines_with_ends(open_regular(path), errors="strict") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if missing := set(_COLUMNS) - set(rows.fieldnames or ()):
                names = ", ".join(sorted(missing))
                raise DataError(f"must have the columns {', '.join(_COLUMNS)}, lacks {names}", path=path)
            for row in rows:
                entry = _entry(corpus, row, line=rows.line_num)
                if entries.setdefault(entry.id, entry) is not entry:
                    raise DataError(f"ids must differ, but {entry.id} is used twice", path=path, line=rows.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read: {error}", path=path) from error
    return list(entries.values())


def _entry(corpus: Path, row: dict[str, str | None], *, line: int) -> _Entry:
    """One line, without accents, and with the split of its speaker in `HELD_OUT`."""
    path, text, speaker, split = (row[column] for column in ("path", "transcript", "speaker", "split"))
    if not path or text is None or speaker is None or split not in _SPLITS:
        message = f"must be {', '.join(_COLUMNS)} with a split of {', '.join(_SPLITS)}, got {list(row.values())}"
        raise DataError(message, path=corpus / "manifest.tsv", line=line)
    name = PurePosixPath(path).stem
    decomposed = unicodedata.normalize("NFKD", text)
    return _Entry(
        corpus=corpus.name,
        path=corpus / path,
        id=f"{corpus.name}/{name}",
        text="".join(character for character in decomposed if not unicodedata.combining(character)),
        speaker=None if not speaker or "unknown" in speaker else speaker,  # Common Voice 2017 gives only an accent
        split=HELD_OUT.get(speaker, split) if split == "train" else split,
    )


def _trainable(entries: list[_Entry], note: Callable[[str], None]) -> list[_Entry]:
    """The usable entries of train that share nothing with dev and test; the others are counted in notes."""
    held_out = [entry for entry in entries if entry.split != "train"]
    speakers = {entry.speaker for entry in held_out if entry.speaker}
    withheld = Withheld(normalize(entry.text, TEXT) for entry in held_out)
    usable: list[_Entry] = []
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        if entry.split != "train":
            continue
        text = normalize(entry.text, TEXT)
        if entry.speaker in speakers:
            left_out["their speaker is in a dev or test set"][entry.corpus] += 1
        elif withheld.shares(text):
            left_out["they share words with a dev or test set"][entry.corpus] += 1
        elif not text or not LETTERS.issuperset(text):
            left_out["their text has digits or other characters than A to Z and the apostrophe"][entry.corpus] += 1
        else:
            usable.append(entry)
    for reason, counts in left_out.items():
        corpora = ", ".join(f"{count} of {corpus}" for corpus, count in sorted(counts.items()))
        note(f"{counts.total()} training utterances left out, because {reason}: {corpora}")
    return usable


def _utterance(entry: _Entry, folder: Path | None) -> Utterance:
    """The utterance of an entry; its audio is converted to FLAC in `folder`, if any, unless it is FLAC or WAV."""
    path = entry.path
    if folder and path.suffix.lower() not in (".flac", ".wav"):
        path = folder / f"{entry.id}.flac"
        if not path.is_file():
            content = io.BytesIO()
            waveform = read_audio(entry.path, sample_rate=SAMPLE_RATE)
            soundfile.write(content, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            write_whole(path, content.getvalue())
    if not path.is_file():
        raise DataError("no such audio file", path=path)
    return Utterance(
        id=entry.id,
        audio=path,
        duration_seconds=soundfile.info(path).duration,
        text=entry.text,
        speaker=entry.speaker,
    )
