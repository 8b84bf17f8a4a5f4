"""AN4, the CMU "census" corpus: spelled names and streets, numbers, dates and command words.

Maker: Carnegie Mellon University (Robust Speech group), recorded about 1991. US English, close-talking microphone,
16 kHz, 16 bit, mono. Described in A. Acero, Acoustical and Environmental Robustness in Automatic Speech Recognition,
Kluwer 1993. CMU does not publish the "cen9*" recordings (social security numbers).

Licence: CMU's BSD-style terms, "free for use for any purpose (commercial or otherwise)" with the copyright notice kept.

Publisher: http://www.speech.cs.cmu.edu/databases/an4/ with the archives an4_sphere.tar.gz (64 MB),
an4_raw.bigendian.tar.gz and an4_raw.littleendian.tar.gz. CMU gives no checksums. `prepare` downloads `URL` by default,
NVIDIA's copy of an4_sphere.tar.gz for NeMo's tutorials: it is served over https, and its SHA-256 is in a public script
for training NeMo. The samples of any form of the corpus are compared with `SAMPLES_SHA256`.

Layout, below a folder named an4:
    etc/an4_train.fileids         an4_clstk/fash/an251-fash-b               path under wav/ without the extension
    etc/an4_train.transcription   <s> YES </s> (an251-fash-b)               same order
    etc/an4_test.fileids          an4test_clstk/fcaw/an406-fcaw-b
    etc/an4_test.transcription    RUBOUT G M E F THREE NINE (an406-fcaw-b)  no <s> here
    etc/an4.dic                   APRIL   EY P R AH L                       130 entries; A(2) is a second pronunciation
    wav/<path>.sph, .raw, .flac or .wav

Splits:
    train    859 utterances   67 speakers   CMU's training list without dev
    dev       89 utterances    7 speakers   `DEV_SPEAKERS` of CMU's training list
    test     130 utterances   10 speakers   CMU's test list, 773 words
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

from asr.corpora.archives import extract
from asr.corpora.download import download
from asr.data.manifest import Utterance, write_manifest
from asr.errors import AsrWarning, DataError
from asr.files.texts import read_text
from asr.files.writing import write_whole

URL = "https://dldata-public.s3.us-east-2.amazonaws.com/an4_sphere.tar.gz"
CHECKSUM = "sha256:a0525579493735d32b60fb6fa5975dd0eaacde087b0a4eeb7f13b7ef33077b12"

# SHA-256 of all samples as little-endian 16-bit integers, in the order of the training list and the test list.
SAMPLES_SHA256 = "6b663bda2ce6f94c33ddc9e91a67f1829c5e830ff651d07f685426e22bd33f1e"

# The first two women and five men of the training list by the SHA-256 of their ids; 89 utterances, 9 % of the list.
DEV_SPEAKERS = ("fjam", "fbbh", "mmaf", "mtje", "mcel", "mnjl", "mgah")

SAMPLE_RATE = 16000
_COMPLETE = {"train": (948, 5442), "test": (130, 773)}  # utterances and words of CMU's lists
_MARKER_VERSION = 1  # raise it to make the manifests again
_FILE_ID = re.compile(r"\w+/(?P<speaker>\w+)/(?P<id>[\w-]+)", re.ASCII)
_TRANSCRIPTION = re.compile(r"(?P<text>.*)\((?P<id>[^()\s]+)\)\s*")


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One line of CMU's lists."""

    id: str
    speaker: str
    file_id: str
    text: str


def prepare(
    *,
    source: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    url: str = URL,
    checksum: str | None = CHECKSUM,
    progress: bool | None = None,
) -> dict[str, Path]:
    """Manifests of AN4 and its pronunciation dictionary: the paths of "train", "dev", "test" and "lexicon".

    FLAC and WAV files are used in place. SPHERE files (Lhotse needs an external program to read them) and RAW files
    (without a header) are copied, sample for sample, to FLAC files in output/wav. The dictionary is copied to
    output/lexicon.txt, one `WORD PHONE PHONE...` per line. A marker is written last; with the marker, the same call
    returns at once. After an interruption, the same call resumes.

    Args:
        source: the corpus from CMU: the folder `an4`, the folder above it, or one of the archives. None downloads
            `url`.
        output: folder to write to.
        url, checksum: as for `download`; used without a source.
        progress: bars on stderr; None means only on a terminal.
    Raises:
        DataError: the lists are missing or contradict each other, a file is not 16 kHz mono audio, a split is empty,
            or from `download` and `extract`.
    Warns:
        AsrWarning: the corpus is incomplete, or its samples are not CMU's. The manifests hold the available utterances;
            error rates on them are not comparable. The marker is not written.
    """
    output = Path(os.path.abspath(output))
    origin = url if source is None else os.path.abspath(source)
    marker = output / ".complete.json"
    outputs = {split: output / f"{split}.jsonl.gz" for split in ("train", "dev", "test")}
    outputs["lexicon"] = output / "lexicon.txt"
    state = json.dumps({"version": _MARKER_VERSION, "origin": origin}) + "\n"
    if marker.is_file() and marker.read_text() == state and all(path.is_file() for path in outputs.values()):
        return outputs
    marker.unlink(missing_ok=True)
    output.mkdir(parents=True, exist_ok=True)

    corpus = _corpus(source, output, url=url, checksum=checksum, progress=progress)
    lexicon = _read_lexicon(corpus / "etc" / "an4.dic")
    lists = {name: _read_list(corpus / "etc" / f"an4_{name}") for name in _COMPLETE}
    utterances, problems = _collect(corpus, lists, output, progress=progress)

    held_out = set(DEV_SPEAKERS)
    splits = {
        "train": [utterance for utterance in utterances["train"] if utterance.speaker not in held_out],
        "dev": [utterance for utterance in utterances["train"] if utterance.speaker in held_out],
        "test": utterances["test"],
    }
    for split, members in splits.items():
        if not members:
            raise DataError(f"holds no audio for the {split} set of AN4", path=corpus / "wav")
    for split, members in splits.items():
        write_manifest(members, outputs[split])
    write_whole(outputs["lexicon"], lexicon)
    if problems:
        warnings.warn(f"{corpus}: not all of AN4, figures are not comparable: {'; '.join(problems)}", AsrWarning, 2)
    else:
        write_whole(marker, state)
    return outputs


def _corpus(
    source: str | os.PathLike[str] | None, output: Path, *, url: str, checksum: str | None, progress: bool | None
) -> Path:
    """The folder with etc/ and wav/, downloaded and extracted if needed."""
    if source is not None and Path(source).is_dir():
        folder = Path(os.path.abspath(source))
    else:
        archive = output / url.rsplit("/", 1)[-1] if source is None else Path(source)
        folder = output / archive.name.removesuffix(".tar.gz")
        if not folder.is_dir():
            if source is None:
                download(url, archive, checksum=checksum, progress=progress)
            extract(archive, folder)
        if source is None:
            archive.unlink(missing_ok=True)
    for root in (folder, folder / "an4"):
        if (root / "etc" / "an4_train.fileids").is_file():
            return root
    raise DataError("must hold etc/an4_train.fileids, as CMU's archives do (below an4/ or directly)", path=folder)


def _read_list(stem: Path) -> list[_Entry]:
    """The utterances of one of CMU's lists; stem.fileids and stem.transcription must agree line by line."""
    file_ids, transcription = stem.with_suffix(".fileids"), stem.with_suffix(".transcription")
    entries = []
    pairs = itertools.zip_longest(read_text(file_ids).splitlines(), read_text(transcription).splitlines())
    for number, (file_id, line) in enumerate(pairs, start=1):
        if file_id is None or line is None:
            path, other = (file_ids, transcription) if file_id is None else (transcription, file_ids)
            raise DataError(f"must have as many lines as {other.name}, but ends here", path=path, line=number)
        ids = _FILE_ID.fullmatch(file_id.strip())
        if ids is None:
            raise DataError(f"must be folder/speaker/utterance, got {file_id!r}", path=file_ids, line=number)
        match = _TRANSCRIPTION.fullmatch(line)
        if match is None:
            raise DataError(f"must end in (utterance-id), got {line!r}", path=transcription, line=number)
        if match["id"] != ids["id"]:
            message = f"must be utterance {ids['id']} as in {file_ids.name}, got {match['id']}"
            raise DataError(message, path=transcription, line=number)
        text = " ".join(word for word in match["text"].split() if word not in ("<s>", "</s>"))
        entries.append(_Entry(id=ids["id"], speaker=ids["speaker"], file_id=ids[0], text=text))
    return entries


def _read_lexicon(path: Path) -> str:
    """CMU's dictionary with single spaces between a word and its phones."""
    lines = [line.split() for line in read_text(path).splitlines()]
    for number, fields in enumerate(lines, start=1):
        if len(fields) < 2:
            raise DataError(f"must be a word and its phones, got {' '.join(fields)!r}", path=path, line=number)
    return "".join(" ".join(fields) + "\n" for fields in lines)


def _collect(
    corpus: Path, lists: dict[str, list[_Entry]], output: Path, *, progress: bool | None
) -> tuple[dict[str, list[Utterance]], list[str]]:
    """The utterances of each list that have audio, and the differences from CMU's corpus in words."""
    problems = []
    for name, entries in lists.items():
        counts = len(entries), sum(len(entry.text.split()) for entry in entries)
        if counts != _COMPLETE[name]:
            problem = "an4_{}.fileids has {} utterances of {} words, CMU's has {} of {}"
            problems.append(problem.format(name, *counts, *_COMPLETE[name]))

    audio = {entry.file_id: _find_audio(corpus / "wav", entry) for entries in lists.values() for entry in entries}
    missing = [file_id for file_id, path in audio.items() if path is None]
    if missing:
        names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        problems.append(f"{len(missing)} of {len(audio)} audio files are missing ({names})")
    byte_order = _byte_order([path for path in audio.values() if path is not None and path.suffix == ".raw"])

    digest = hashlib.sha256()
    utterances: dict[str, list[Utterance]] = {name: [] for name in lists}
    with tqdm(total=len(audio), desc="AN4", unit="file", disable=_hidden(progress)) as bar:
        for name, entries in lists.items():
            for entry in entries:
                bar.update()
                path = audio[entry.file_id]
                if path is None:
                    continue
                samples = _read_samples(path, byte_order)
                digest.update(samples.astype("<i2").tobytes())
                if path.suffix in (".sph", ".raw"):
                    path = output / "wav" / f"{entry.file_id}.flac"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
                utterances[name].append(
                    Utterance(
                        id=entry.id,
                        audio=path,
                        duration_seconds=len(samples) / SAMPLE_RATE,
                        text=entry.text,
                        speaker=entry.speaker,
                    )
                )
    if not problems and digest.hexdigest() != SAMPLES_SHA256:
        problems.append("the samples are not those of CMU's recordings (resampled, rescaled or dithered?)")
    return utterances, problems


def _find_audio(folder: Path, entry: _Entry) -> Path | None:
    """The file of an utterance; forms that are used in place come first."""
    paths = (folder / f"{entry.file_id}{suffix}" for suffix in (".flac", ".wav", ".sph", ".raw"))
    return next((path for path in paths if path.is_file()), None)


def _read_samples(path: Path, byte_order: str) -> NDArray[np.int16]:
    """The (N,) int16 samples of one file."""
    if path.suffix == ".raw":
        return _read_raw(path, byte_order)
    try:
        samples, sample_rate = soundfile.read(path, dtype="int16")
    except soundfile.LibsndfileError as error:
        raise DataError(f"must be audio that libsndfile reads: {error.error_string}", path=path) from error
    if sample_rate != SAMPLE_RATE or samples.ndim != 1 or not samples.size:
        channels = samples.shape[1] if samples.ndim > 1 else 1
        got = f"{len(samples)} samples at {sample_rate} Hz with {channels} channel(s)"
        raise DataError(f"must be {SAMPLE_RATE} Hz mono audio, got {got}", path=path)
    return samples


def _read_raw(path: Path, byte_order: str) -> NDArray[np.int16]:
    """The (N,) int16 samples of a file without a header, in byte order "<" or ">"."""
    data = path.read_bytes()
    if not data or len(data) % 2:
        raise DataError(f"must hold whole 16-bit samples, got {len(data)} bytes", path=path)
    return np.frombuffer(data, dtype=f"{byte_order}i2").astype(np.int16)


def _byte_order(paths: Sequence[Path]) -> str:
    """The byte order of headerless files, "<" or ">": the order with smaller differences of neighbouring samples.

    In the wrong order the low byte, which changes fast, becomes the high byte: the differences grow at least 24-fold on
    each of the 1078 files. All files of an archive have the same order, so the first few decide.
    """
    roughness = {"<": 0, ">": 0}
    for path in paths[:8]:
        for order in roughness:
            roughness[order] += int(np.abs(np.diff(_read_raw(path, order).astype(np.int64))).sum())
    return min(roughness, key=roughness.__getitem__)


def _hidden(progress: bool | None) -> bool | None:
    return None if progress is None else not progress  # tqdm: None hides the bar unless stderr is a terminal
