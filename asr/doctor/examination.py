"""Examine manifests, and write them without their broken lines.

manifests ─▶ utterances ─▶ files, each decoded once in parallel ─▶ facts ─▶ checks ─▶ findings ─▶ cleaned manifests
                                             alignment by a model ╯                               and quarantine
"""

from __future__ import annotations

import json
import os
import re
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from asr.audio.waveform import Waveform
from asr.data.manifest import ManifestLine, open_manifest, scan_manifest, write_lines
from asr.data.splits import Split
from asr.doctor import checks
from asr.doctor.checks import KINDS, Case, DoctorOptions, Finding
from asr.doctor.listening import FileFacts, Job, Stretch, listen_to_all
from asr.errors import ConfigError, DataError
from asr.text.alphabet import Alphabet
from asr.text.normalization import TextOptions, normalize, without_refusal

if TYPE_CHECKING:
    from asr.recognition.recognizer import Recognizer

_BATCH = 16  # waveforms


@dataclass(frozen=True, kw_only=True)
class Examination:
    """The result of an examination."""

    splits: Mapping[str, Split]  # of each manifest, by its path: "train", "dev", "test", or "" if not known
    cases: Sequence[Case]  # the utterances, in the order of the manifests
    findings: Sequence[Finding]  # in the order of the manifests
    num_files: int  # decoded sound files
    elapsed_seconds: float  # duration of the examination
    compared: bool  # whether a model has compared texts and sounds

    @property
    def is_healthy(self) -> bool:
        return all(finding.level == "note" for finding in self.findings)

    def counts(self) -> dict[str, int]:
        """The number of findings of each kind, without zeros, in the order of `KINDS`."""
        counts = Counter(finding.kind for finding in self.findings)
        return {kind: counts[kind] for kind in KINDS if counts[kind]}


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """A manifest without its broken lines."""

    manifest: str
    clean: Path  # file of the remaining lines, unchanged
    quarantine: Path  # file of the removed lines with the reasons
    num_kept: int
    num_quarantined: int


def examine(
    manifests: Mapping[str, Split],
    options: DoctorOptions | None = None,
    *,
    recognizer: Recognizer | None = None,
    hear: bool = False,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Examination:
    """Read manifests, decode all their files once, and find faults.

    Args:
        manifests: paths and splits; leaks are found between train and the others.
        options: limits; None means the defaults.
        recognizer: its model gives the number of frames, the alphabet and the normalisation, and compares texts with
            sounds. None assumes the default model of training, and compares nothing.
        hear: let the recogniser write down what it hears, too, for the page.
        processes: number of decoding processes.
        progress: called after each file with the number of files decoded, and of all.
    Raises:
        DataError: a manifest is missing or not a manifest; faults in its lines are in the result.
        ConfigError: no manifest is given; or the labels of the model are pieces of words.
    """
    if not manifests:
        raise ConfigError("the doctor needs at least one manifest")
    options = options or DoctorOptions()
    if recognizer is not None:
        checks.model_alphabet(recognizer.model)  # before hours of listening
    begin = time.monotonic()
    text_options = recognizer.model.text if recognizer else options.text
    findings: list[Finding] = []
    lines = [(manifest, line) for manifest in manifests for line in _readable(manifest, findings)]
    cases = [_unmeasured(manifest, line, manifests[manifest], text_options) for manifest, line in lines]

    num_files = _listen(cases, recognizer=recognizer, hear=hear, processes=processes, progress=progress)
    for index, fault in _faults(cases, options, recognizer, text_options):
        findings.append(_finding(index, cases[index], *fault))
    order = {manifest: number for number, manifest in enumerate(manifests)}
    findings.sort(key=lambda finding: (order[finding.manifest], finding.line))
    return Examination(
        splits=dict(manifests),
        cases=cases,
        findings=findings,
        num_files=num_files,
        elapsed_seconds=time.monotonic() - begin,
        compared=recognizer is not None and not any(finding.kind == "no-match" for finding in findings),
    )


def clean(examination: Examination, *, also: Sequence[str] = ()) -> list[Cleaned]:
    """Write each manifest without its broken utterances, and a list of these with the reasons.

    For `train.jsonl.gz`: `train.clean.jsonl.gz` has the other lines unchanged, and `train.quarantine.jsonl` one line
    per removed line: {"line", "id", "reasons": [{"kind", "message"}], "cut": the removed line}.

    Args:
        examination: of manifests that have not changed since.
        also: kinds to remove although they are not broken.
    Raises:
        ConfigError: there is no such kind.
        DataError: a manifest can no longer be read, or a file cannot be written.
    """
    for kind in also:
        if kind not in KINDS:
            raise ConfigError(f"kinds of findings are {', '.join(KINDS)}; got {kind!r}")
    reasons: dict[tuple[str, int], list[Finding]] = defaultdict(list)
    for finding in examination.findings:
        if finding.level == "broken" or finding.kind in also:
            reasons[finding.manifest, finding.line].append(finding)
    return [_clean_one(manifest, reasons) for manifest in examination.splits]


def made_by_fix(manifests: Iterable[str]) -> dict[str, str]:
    """The manifests that `clean` wrote for other ones of these manifests, each with its original.

    A pattern for all manifests of a folder matches both; examined together, all utterances would be duplicates.
    """
    paths = {Path(manifest).resolve(): manifest for manifest in manifests}
    originals = {output: manifest for path, manifest in paths.items() for output in _outputs(path)}
    return {manifest: originals[path] for path, manifest in paths.items() if path in originals}


def _outputs(manifest: Path) -> tuple[Path, Path]:
    """The files of the clean and of the removed lines of a manifest."""
    stem, suffix = re.fullmatch(r"(.*?)(\.jsonl(?:\.gz)?)?", manifest.name).groups()  # type: ignore[union-attr]
    return manifest.with_name(f"{stem}.clean{suffix or ''}"), manifest.with_name(f"{stem}.quarantine.jsonl")


def _clean_one(manifest: str, reasons: Mapping[tuple[str, int], Sequence[Finding]]) -> Cleaned:
    path = Path(manifest)
    clean, quarantine = _outputs(path)
    clean_lines: list[str] = []
    removed_lines: list[str] = []
    try:
        with open_manifest(path) as lines:
            for number, line in enumerate(lines, start=1):
                findings = reasons.get((manifest, number), ())
                if not findings:
                    if line.strip():
                        clean_lines.append(line)
                    continue
                record = {
                    "line": number,
                    "id": findings[0].id,
                    "reasons": [{"kind": finding.kind, "message": finding.message} for finding in findings],
                    "cut": line.rstrip("\n"),
                }
                removed_lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"a manifest to clean must be readable to its end: {error}", path=path) from error
    write_lines(clean, clean_lines)
    write_lines(quarantine, removed_lines)
    return Cleaned(
        manifest=manifest,
        clean=clean,
        quarantine=quarantine,
        num_kept=len(clean_lines),
        num_quarantined=len(removed_lines),
    )


def _readable(manifest: str, findings: list[Finding]) -> Iterator[ManifestLine]:
    """The usable lines of a manifest; the others are added to the findings."""
    number = 0
    try:
        for line in scan_manifest(manifest):
            number = line.number
            if line.utterance is not None:
                yield line
            else:
                findings.append(Finding(kind="manifest", message=line.error, manifest=manifest, line=number))
    except DataError as error:
        if error.line is None:
            raise
        message = str(error).removeprefix(f"{manifest}:{error.line}: ")
        findings.append(Finding(kind="manifest", message=message, manifest=manifest, line=error.line))
    if not number:
        findings.append(Finding(kind="manifest", message="it has no utterances", manifest=manifest, line=1))


def _unmeasured(manifest: str, line: ManifestLine, split: Split, options: TextOptions) -> Case:
    """The case of a line before its sound is measured."""
    assert line.utterance is not None and line.declared is not None
    return Case(
        manifest=manifest,
        line=line.number,
        split=split,
        utterance=line.utterance,
        declared=line.declared,
        text=normalize(line.utterance.text, without_refusal(options)),
        file=FileFacts(),
    )


def _listen(
    cases: list[Case],
    *,
    recognizer: Recognizer | None,
    hear: bool,
    processes: int,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Add the facts of files and sounds to the cases; the number of files."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, case in enumerate(cases):
        members[os.fspath(case.utterance.audio)].append(index)
    model_rate = recognizer.model.sample_rate if recognizer else None

    def make_job(path: str) -> Job:
        utterances = [cases[index].utterance for index in members[path]]
        stretches = (
            Stretch(start_seconds=u.start_seconds, duration_seconds=u.duration_seconds, channel=u.channel)
            for u in utterances
        )
        return Job(path=path, stretches=tuple(stretches), model_rate=model_rate)

    paths = list(members)
    waiting: list[tuple[int, Waveform]] = []
    measurements = listen_to_all([make_job(path) for path in paths], processes=processes)
    for done, (number, facts) in enumerate(measurements, start=1):
        for index, sound, waveform in zip(members[paths[number]], facts.sounds, facts.waveforms, strict=True):
            cases[index] = replace(cases[index], file=facts.file, sound=sound)
            if waveform is not None and not facts.file.damage:
                waiting.append((index, waveform))
        while recognizer and (len(waiting) >= _BATCH or (waiting and done == len(paths))):
            _match(cases, waiting[:_BATCH], recognizer, hear=hear)
            del waiting[:_BATCH]
        if progress:
            progress(done, len(paths))
    return len(paths)


def _match(cases: list[Case], waveforms: Sequence[tuple[int, Waveform]], recognizer: Recognizer, *, hear: bool) -> None:
    """Add the matches of texts and sounds to the cases."""
    from asr.doctor.matching import match_texts

    def neighbours(index: int) -> list[tuple[int, str]]:
        adjacent = (other for other in (index - 1, index + 1) if 0 <= other < len(cases))
        return [(other, cases[other].text) for other in adjacent if cases[other].manifest == cases[index].manifest]

    indices = [index for index, _ in waveforms]
    matches = match_texts(
        recognizer,
        [waveform for _, waveform in waveforms],
        [cases[index].text for index in indices],
        [neighbours(index) for index in indices],
        hear=hear,
    )
    for index, match in zip(indices, matches, strict=True):
        cases[index] = replace(cases[index], match=match)


def _faults(
    cases: Sequence[Case], options: DoctorOptions, recognizer: Recognizer | None, text_options: TextOptions
) -> Iterator[tuple[int, tuple[str, str, float]]]:
    """The faults of all checks, with the index of the case."""
    alphabet_of_model = checks.model_alphabet(recognizer.model) if recognizer else None
    if options.characters:
        alphabet_of_model = Alphabet(tuple(sorted({*options.characters, " "})))
    alphabet = alphabet_of_model or checks.learned_alphabet(cases)
    sample_rate, num_frames = _frame_formula(recognizer)
    for index, case in enumerate(cases):
        for fault in (
            *checks.check_file(case),
            *checks.check_declared(case, options),
            *checks.check_sound(case, options),
            *checks.check_text(case, alphabet),
            *checks.check_marks(case, text_options.marks),
            *(checks.check_digits(case) if alphabet_of_model is None else ()),
            *checks.check_symbols(case, text_options),
            *checks.check_frames(
                case,
                sample_rate=sample_rate,
                num_frames=num_frames,
                alphabet=alphabet_of_model,
                assumed=recognizer is None,
            ),
        ):
            yield index, fault
    yield from checks.find_duplicate_ids(cases)
    yield from checks.find_duplicate_audio(cases, options)
    yield from checks.find_leaks(cases, options)
    yield from checks.find_odd_rates(cases, options)
    yield from checks.find_mismatches(cases)
    if alphabet_of_model is None:  # otherwise characters outside it have been reported
        yield from checks.find_rare_characters(cases, text_options)
        yield from checks.find_other_scripts(cases)


def _frame_formula(recognizer: Recognizer | None) -> tuple[int, Callable[[int], int]]:
    """The sample rate of the model and its function of frames by samples; without a model, those of the default one."""
    if recognizer:
        return recognizer.model.sample_rate, recognizer.model.output_length
    from asr.acoustic.options import EncoderOptions, FrontendOptions

    frontend, encoder = FrontendOptions(), EncoderOptions()
    return frontend.sample_rate, lambda num_samples: encoder.output_length(frontend.num_frames(num_samples))


def _finding(index: int, case: Case, kind: str, message: str, badness: float) -> Finding:
    return Finding(
        kind=kind,
        message=message,
        manifest=case.manifest,
        line=case.line,
        id=case.utterance.id,
        audio=os.fspath(case.utterance.audio),
        badness=badness,
        case=index,
    )
