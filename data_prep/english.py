"""English from several openly licensed corpora, as one training set with dev and test sets beside it.

A collection is a folder with one folder for each corpus, and in that a `manifest.tsv`:

    path                                transcript        speaker     seconds   split
    1088/1088-134315-0000.opus          AS YOU KNOW AND   ls-1088     16.04     train | dev | test

Paths are relative to the corpus; transcripts are as published. `recipes/english/README.md` lists the corpora that the
published model was trained on, with makers, licences and homes.

Splits are those of the column, but for `HELD_OUT`, speakers of training corpora that are kept for dev or test. Then
nothing is left in train that would make an error rate look better than it is: no speaker and no run of eight words
(see `asr.corpora.overlap`) of any dev or test set.
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

# Each list is the first by the SHA-256 of the speakers' ids: two women and a man who read for LibriSpeech (26 minutes
# of train-clean-5), and a tenth of speechocean762's speakers (12 minutes).
HELD_OUT = dict.fromkeys(("ls-5789", "ls-1970", "ls-1867"), "dev") | dict.fromkeys(
    ("so762-9600", "so762-8002", "so762-2022", "so762-1372", "so762-1029", "so762-1033", "so762-9624"), "test"
)

# The corpora whose dev sets together are `dev`, what choices in training are made on.
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
    note: Callable[[str], None],
    progress: bool | None = None,
) -> dict[str, Path]:
    """Manifests and a lexicon: the paths of "train", "dev", "lexicon", and of "CORPUS-dev" and "CORPUS-test".

    FLAC and WAV files are used where they lie; others become FLAC files of 16 kHz under output/audio, once, because
    training reads each in every epoch (Opus costs five times as much time to decode). Called again, it goes on where
    it was interrupted. An id is CORPUS/NAME, so that a corpus can be told in a manifest of several.

    Args:
        sources: collections; a corpus of a later one must have another name.
        cmudict: CMUdict, as `read_cmudict` takes it.
        output: folder to write to.
        note: called with one sentence for each thing a person should know: what was left out of train, and why.
        progress: bars on stderr; None means only on a terminal.
    Raises:
        DataError: a source without corpora, a manifest that lacks a column or has an impossible value in it, a file
            that is missing or not audio, or nothing to train on.
    """
    output = Path(os.path.abspath(output))
    entries = [entry for corpus in _corpora(sources) for entry in _read_entries(corpus)]
    train = _trainable(entries, note)
    if not train:
        raise DataError("there must be utterances to train on, but there are none", path=", ".join(map(str, sources)))
    kept = train + [entry for entry in entries if entry.split != "train"]
    hidden = None if progress is None else not progress  # for tqdm, None is: hidden unless stderr is a terminal
    utterances = {
        entry.id: _utterance(entry, output / "audio") for entry in tqdm(kept, desc="audio", unit="file", disable=hidden)
    }
    members: dict[str, list[Utterance]] = defaultdict(list)
    for entry in kept:
        members["train" if entry.split == "train" else f"{entry.corpus}-{entry.split}"].append(utterances[entry.id])
        if entry.split == "dev" and entry.corpus in DEV_CORPORA:
            members["dev"].append(utterances[entry.id])
    made = {name: output / f"{name}.jsonl.gz" for name in sorted(members)}
    for name, path in made.items():
        write_manifest(members[name], path)
    made["lexicon"] = output / "lexicon.txt"
    words = {word for entry in train for word in normalize(entry.text, TEXT).split()}
    write_whole(made["lexicon"], lexicon(words, read_cmudict(cmudict)))
    return made


def _corpora(sources: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """The folders with a manifest.tsv, source by source, each source in alphabetic order."""
    seen: dict[str, Path] = {}
    for source in sources:
        corpora = sorted(path.parent for path in Path(os.path.abspath(source)).glob("*/manifest.tsv"))
        if not corpora:
            raise DataError("must hold folders with a manifest.tsv each, but there is none", path=source)
        for corpus in corpora:
            if seen.setdefault(corpus.name, corpus) != corpus:
                raise DataError(f"corpora must have names that differ, but there is {seen[corpus.name]}", path=corpus)
            yield corpus


def _read_entries(corpus: Path) -> list[_Entry]:
    """The lines of a corpus's manifest.tsv; quotation marks in it are part of the text."""
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
                    raise DataError(f"ids must differ, but {entry.id} comes twice", path=path, line=rows.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read: {error}", path=path) from error
    return list(entries.values())


def _entry(corpus: Path, row: dict[str, str | None], *, line: int) -> _Entry:
    """One line, with accents off its letters and the split that `HELD_OUT` gives its speaker."""
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
        speaker=None if not speaker or "unknown" in speaker else speaker,  # of Common Voice 2017: only an accent
        split=HELD_OUT.get(speaker, split) if split == "train" else split,
    )


def _trainable(entries: list[_Entry], note: Callable[[str], None]) -> list[_Entry]:
    """The entries of train that can be learned from and give nothing away; the others are counted."""
    tested = [entry for entry in entries if entry.split != "train"]
    speakers = {entry.speaker for entry in tested if entry.speaker}
    withheld = Withheld(normalize(entry.text, TEXT) for entry in tested)
    kept: list[_Entry] = []
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        if entry.split != "train":
            continue
        spoken = normalize(entry.text, TEXT)
        if entry.speaker in speakers:
            left_out["their speaker is in a dev or test set"][entry.corpus] += 1
        elif withheld.shares(spoken):
            left_out["they share words with a dev or test set"][entry.corpus] += 1
        elif not spoken or not LETTERS.issuperset(spoken):
            left_out["their text has digits or other characters beside A to Z and the apostrophe"][entry.corpus] += 1
        else:
            kept.append(entry)
    for why, counts in left_out.items():
        corpora = ", ".join(f"{count} of {corpus}" for corpus, count in sorted(counts.items()))
        note(f"{counts.total()} training utterances left out, because {why}: {corpora}")
    return kept


def _utterance(entry: _Entry, folder: Path) -> Utterance:
    """The entry with its audio as a FLAC or WAV file, which is made in `folder` where it is of another kind."""
    path = entry.path
    if path.suffix.lower() not in (".flac", ".wav"):
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
