"""Import your own recordings: from folders of sound and texts, tables, subtitles or data sets to manifests.

sources ─▶ candidates: stretches of recordings with their texts ─▶ utterances ─▶ train, dev and test
                                       sound used in place, or cut into FLAC ╯

Every item that cannot be used is reported as a problem, with its file and line.
"""

from __future__ import annotations

import hashlib
import math
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from asr.data.manifest import Utterance, check_can_write, read_manifest, write_manifest
from asr.errors import ConfigError, DataError
from asr.files.writing import write_whole
from asr.importing.cutting import make_utterances
from asr.importing.sources import PROBLEMS, Candidate, SourceOptions, find_candidates
from asr.options import check_options, option
from asr.text.marks import find_marks
from asr.text.numbers import spell_numbers

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """The shares of train, dev and test."""

    dev: float = option(0.1, "share of speakers (or of recordings) for dev", least=0)
    test: float = option(0.1, "share of speakers (or of recordings) for test", least=0)
    split_by: Literal["auto", "speaker", "recording", "utterance"] = option(
        "auto", "keep each of these in one split; auto: speakers if all are known and there are several"
    )
    seed: int = option(0, "seed of the random splits")

    def __post_init__(self) -> None:
        check_options(self)
        if self.dev + self.test >= 1:
            raise ConfigError(
                f"dev and test must be shares that leave some for train, not {self.dev} and {self.test}; "
                "for a test set alone, a table may have a column split",
                *("dev", "test"),
            )


@dataclass(frozen=True, kw_only=True)
class Imported:
    """The result of an import."""

    manifests: Mapping[str, Path]  # of each split that has utterances
    seconds: Mapping[str, float]  # of sound in each of them
    counts: Mapping[str, int]  # utterances in each of them
    problems: Sequence[str]  # the items left out, each as FILE: or FILE:LINE: and the reason
    notes: Sequence[str]  # sentences about splits, ids and marks


def import_recordings(
    sources: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    reading: SourceOptions | None = None,
    splitting: SplitOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Write train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz, without empty ones.

    Mono WAV and FLAC files are used in place, unless they are long recordings with segments. All others are cut into
    mono FLAC files of 16 kHz in output/cut-audio, which a second import reuses. Problems are also written to
    output/problems.txt. Sound is decoded only if necessary; to check it, use the doctor.

    Args:
        sources: folders of sound files, each with a text or segments of the same name; tables (.csv, .tsv, .jsonl);
            Hugging Face data sets on disk.
        output: folder to write to.
        reading, splitting: None means the defaults.
        progress: called after each recording with the number of recordings done, and of all.
    Raises:
        ConfigError: Lhotse is not installed; or a source needs pyarrow, or the spelling of numbers num2words, which is
            not.
        DataError: a source is missing or cannot be read at all, or nothing in them can be used.
    """
    check_can_write()
    output = Path(os.path.abspath(output))
    reading = reading or SourceOptions()
    problems: list[str] = []
    candidates: list[Candidate] = []
    for source in sources:
        for item in find_candidates(Path(source), output, reading):
            if isinstance(item, Candidate):
                candidates.append(item)
            else:
                problems.append(str(item))
    written = [candidate.text for candidate in candidates]
    if reading.numbers == "spell":
        candidates = [replace(candidate, text=spell_numbers(candidate.text)) for candidate in candidates]
    ids = _ids(candidates)

    by_audio: dict[tuple[Path, int | None], list[int]] = defaultdict(list)
    for index, candidate in enumerate(candidates):
        by_audio[candidate.audio, candidate.channel].append(index)
    utterances: dict[int, Utterance] = {}
    for number, (key, indices) in enumerate(by_audio.items(), start=1):
        named = [(ids[index], candidates[index]) for index in indices]
        for index, result in zip(indices, make_utterances(*key, named, output), strict=True):
            if isinstance(result, Utterance):
                utterances[index] = result
            else:
                problems.append(str(result))
        if progress:
            progress(number, len(by_audio))
    write_whole(output / PROBLEMS, "".join(f"{problem}\n" for problem in problems))
    if not utterances:
        example = problems[0] if problems else "it has no entries"
        count = f"{len(problems)} problem{'s' * (len(problems) != 1)}"
        listed = f", all in {output / PROBLEMS}" if len(problems) > 1 else ""
        raise DataError(f"no utterance can be imported ({count}{listed}): {example}", path=str(sources[0]))

    splits, notes = _split({index: candidates[index] for index in sorted(utterances)}, splitting or SplitOptions())
    notes += _moved({utterances[index].id: split for index, split in splits.items()}, output)
    renamed = sum(candidate.id not in (None, name) for candidate, name in zip(candidates, ids, strict=True))
    if renamed:
        notes.append(f"{renamed} duplicate id{'s' * (renamed != 1)} renamed with the suffix -2, -3, ...")
    notes += _marked([utterance.text for utterance in utterances.values()])
    notes += _with_numbers({utterances[index].id: written[index] for index in sorted(utterances)}, reading)
    manifests = {split: output / f"{split}.jsonl.gz" for split in SPLITS}
    members = {split: [utterances[i] for i, name in splits.items() if name == split] for split in SPLITS}
    for split, path in manifests.items():
        if members[split]:
            write_manifest(members[split], path)
        else:
            path.unlink(missing_ok=True)  # of an earlier import
    return Imported(
        manifests={split: path for split, path in manifests.items() if members[split]},
        seconds={split: math.fsum(u.duration_seconds for u in members[split]) for split in SPLITS if members[split]},
        counts={split: len(members[split]) for split in SPLITS if members[split]},
        problems=problems,
        notes=notes,
    )


def choose_split(key: str, options: SplitOptions) -> str:
    """The split of a speaker or recording, by a hash of its name only, so it does not depend on the others."""
    digest = hashlib.sha256(f"{options.seed}:{unicodedata.normalize('NFC', key)}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < options.test:
        return "test"
    return "dev" if share < options.test + options.dev else "train"


def _split(candidates: Mapping[int, Candidate], options: SplitOptions) -> tuple[dict[int, str], list[str]]:
    """The split of each candidate, from its source or else chosen, and notes about the splits."""
    free = {index: candidate for index, candidate in candidates.items() if candidate.split is None}
    speakers = {candidate.speaker for candidate in free.values()}
    by_speaker = options.split_by == "speaker" or (
        options.split_by == "auto" and None not in speakers and len(speakers) > 1
    )
    splits = {}
    for index, candidate in candidates.items():
        key = f"speaker {candidate.speaker}" if by_speaker and candidate.speaker else f"recording {candidate.recording}"
        if options.split_by == "utterance":
            key = f"utterance {candidate.recording} {candidate.id or ''} {candidate.start_seconds:.3f}"
        splits[index] = candidate.split or choose_split(key, options)
    unit = "speaker" if by_speaker else "utterance" if options.split_by == "utterance" else "recording"
    notes = [f"split by {unit}"] if free else ["split as stated in the source"]
    if options.split_by == "auto" and not by_speaker and None in speakers and len(speakers) > 1:
        notes.append("some speakers are unknown, so a speaker may be in two splits (--split-by speaker: no known one)")
    shares = {"train": 1 - options.dev - options.test, "dev": options.dev, "test": options.test}
    for split in SPLITS:
        if free and shares[split] > 0 and split not in splits.values():
            finer = {"speaker": "--split-by recording, ", "recording": "--split-by utterance, "}.get(unit, "")
            remedy = f"try {finer}another --seed, larger shares, or more data"
            notes.append(f"no {unit} was assigned to {split}, so there is no {split}.jsonl.gz; {remedy}")
    return splits, notes


def _moved(splits: Mapping[str, str], output: Path) -> list[str]:
    """A note on utterances that an earlier import into the folder put into another split."""
    before: dict[str, str] = {}
    for split in SPLITS:
        with suppress(DataError):  # missing or damaged
            before |= {utterance.id: split for utterance in read_manifest(output / f"{split}.jsonl.gz")}
    moved_ids = [name for name, split in splits.items() if before.get(name, split) != split]
    if not moved_ids:
        return []
    both = len(before.keys() & splits.keys())
    example = f"{moved_ids[0]} from {before[moved_ids[0]]} to {splits[moved_ids[0]]}"
    return [
        f"{len(moved_ids)} of {both} utterances are in another split than after the last import here ({example}): an "
        "older model may have been trained on utterances that test it now (keep --split-by, --seed and shares the same)"
    ]


def _marked(texts: Sequence[str]) -> list[str]:
    """A note on marks in the texts."""
    counts = Counter(text[start:end].strip() for text in texts for start, end in find_marks(text))
    if not counts:
        return []
    some = ", ".join(f"{mark!r:.40} ({count})" for mark, count in counts.most_common(5))
    with_marks = sum(bool(find_marks(text)) for text in texts)
    return [
        f"{with_marks} of {len(texts)} texts have unspoken marks, {some}: the manifests keep them, and "
        "training, scoring and alignment leave them out (option text.marks)"
    ]


def _with_numbers(texts: Mapping[str, str], reading: SourceOptions) -> list[str]:
    """A note on digits in the texts as they were written, by the ids of their utterances."""
    with_digits = [name for name, text in texts.items() if any("0" <= character <= "9" for character in text)]
    if not with_digits:
        return []
    text = texts[with_digits[0]]
    count = f"{len(with_digits)} of {len(texts)} texts"
    if reading.numbers == "spell":
        return [f"numbers spelled in words in {count}: {text!r:.60} is now {spell_numbers(text)!r:.80}"]
    return [
        f"{count} have digits, such as {text!r:.60} ({with_digits[0]}): a model that spells in letters refuses them; "
        "write what is said, or give --numbers spell (English only)"
    ]


def _ids(candidates: Sequence[Candidate]) -> list[str]:
    """An id for each candidate: its own, or its recording and times; duplicates get the suffix -2, -3, ..."""
    ids_so_far: set[str] = set()
    ids = []
    for candidate in candidates:
        name = candidate.id or candidate.recording
        if candidate.id is None and not candidate.whole:
            end = f"{round(1000 * candidate.end_seconds):08d}" if candidate.end_seconds is not None else "end"
            name += f"-{round(1000 * candidate.start_seconds):08d}-{end}"
        unique, number = name, 1
        while unique.casefold() in ids_so_far:
            number += 1
            unique = f"{name}-{number}"
        ids_so_far.add(unique.casefold())
        ids.append(unique)
    return ids
