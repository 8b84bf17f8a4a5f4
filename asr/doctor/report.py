"""Reports of an examination: a table for a terminal, and JSON."""

from __future__ import annotations

import json
import math
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from asr.doctor.checks import KINDS, Case, Finding
from asr.doctor.examination import Examination
from asr.doctor.listening import decibels
from asr.errors import visible

_FINDING_KEYS = ("kind", "level", "manifest", "line", "id", "audio", "message")


def to_table(examination: Examination, *, width: int = 80, most: int = 10) -> str:
    """A table of the number of findings of each kind, then a list of those above notes, as PATH:LINE.

    Args:
        examination: the findings.
        width: columns, at least 40; longer findings are wrapped, but paths are not.
        most: findings to list of each kind; 0 means all.
    """
    out = [*textwrap.wrap(summary(examination), width), ""]
    counts = examination.counts()
    if not counts:
        return "\n".join([*out, "nothing is wrong", ""])
    digits = max(5, *(len(str(count)) for count in counts.values()))
    indent = 17 + 2 + 7 + 2 + digits + 2
    out.append(f"{'kind':17}  {'level':7}  {'count':>{digits}}  meaning")
    for kind, count in counts.items():
        meaning = textwrap.wrap(KINDS[kind].meaning, max(width - indent, 10))
        out.append(f"{kind:17}  {KINDS[kind].level:7}  {count:{digits}}  {meaning[0]}")
        out += [" " * indent + line for line in meaning[1:]]
    for kind, findings in by_kind(examination).items():
        if KINDS[kind].level == "note":
            continue
        out.append("")
        for finding in findings[: most or None]:
            name = f"{finding.id}: " if finding.id else ""
            detail = f"{finding.audio}: " if finding.level == "broken" and finding.audio else ""
            text = visible(f"{finding.manifest}:{finding.line}: {kind}: {name}{detail}{finding.message}")
            out += textwrap.wrap(text, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
        if most and len(findings) > most:
            out.append(f"... and {len(findings) - most} more of {kind}")
    return "\n".join([*out, ""])


def to_json(examination: Examination) -> str:
    """One JSON object: manifests, counts, quartiles of measurements, and all findings with file and line."""
    document = {
        "manifests": [{"path": path, "split": split} for path, split in examination.splits.items()],
        "utterances": len(examination.cases),
        "files": examination.num_files,
        "seconds": round(_seconds(examination), 3),
        "healthy": examination.is_healthy,
        "texts_compared": examination.compared,
        "counts": examination.counts(),
        "measured": {
            name: {
                "unit": unit,
                "quartiles": [round(float(q), 4) for q in np.quantile(values, (0, 0.25, 0.5, 0.75, 1))],
            }
            for name, unit, values in measured(examination.cases)
        },
        "findings": [{name: getattr(finding, name) for name in _FINDING_KEYS} for finding in examination.findings],
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def summary(examination: Examination) -> str:
    levels = [finding.level for finding in examination.findings]
    return (
        f"{_count(len(examination.splits), 'manifest')}, {_count(len(examination.cases), 'utterance')}, "
        f"{_seconds(examination) / 3600:.2f} hours in {_count(examination.num_files, 'file')}, "
        f"examined in {examination.elapsed_seconds:.0f} s; "
        f"{levels.count('broken')} broken, {levels.count('suspect')} suspect"
        + (", texts compared with the sound" if examination.compared else "")
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _seconds(examination: Examination) -> float:
    return math.fsum(case.seconds for case in examination.cases)


def by_kind(examination: Examination) -> dict[str, list[Finding]]:
    groups: dict[str, list[Finding]] = defaultdict(list)
    for finding in examination.findings:
        groups[finding.kind].append(finding)
    return {kind: groups[kind] for kind in KINDS if kind in groups}


def measured(cases: Sequence[Case]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Name, unit and values of each histogram that has values."""
    audible = [case for case in cases if case.sound is not None]
    columns = {
        ("duration", "s"): [case.seconds for case in audible],
        ("speaking rate", "letters/s"): [rate for case in audible if (rate := case.letters_per_second)],
        ("loudest 25 ms", "dB"): [decibels(case.sound.loudest) for case in audible if case.sound],
        ("misfit of the text", "nats/character"): [case.match.cost for case in audible if case.match],
    }
    for (name, unit), values in columns.items():
        array = np.array(values)
        if (finite := array[np.isfinite(array)]).size:
            yield name, unit, finite
