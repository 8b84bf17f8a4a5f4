"""Reports of an examination: a table for a terminal, JSON, and an HTML page with clips to listen to."""

from __future__ import annotations

import base64
import io
import json
import math
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape

import numpy as np
import soundfile

from asr.data.waveforms import read_waveform
from asr.doctor.checks import KINDS, Case, Finding
from asr.doctor.examination import Examination
from asr.doctor.listening import decibels
from asr.errors import AsrError, AsrWarning, visible

_CLIP_RATE, _CLIP_SECONDS = 16_000, 12.0
_CLIPS_PER_KIND, _MOST_ROWS = 4, 1000
_SILENT = frozenset({"missing", "empty", "not-sound", "manifest", "silent", "not-finite"})  # nothing to listen to
_FINDING_KEYS = ("kind", "level", "manifest", "line", "id", "audio", "message")
_BINS, _WIDTH, _HEIGHT, _MARGIN = 40, 460, 150, 26


def to_table(examination: Examination, *, width: int = 80, most: int = 10) -> str:
    """A table of the number of findings of each kind, then a list of those above notes, as PATH:LINE.

    Args:
        examination: the findings.
        width: columns, at least 40; longer findings are wrapped, but paths are not.
        most: findings to list of each kind; 0 means all.
    """
    out = [*textwrap.wrap(_summary(examination), width), ""]
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
    for kind, findings in _by_kind(examination).items():
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
            for name, unit, values in _measured(examination.cases)
        },
        "findings": [{name: getattr(finding, name) for name in _FINDING_KEYS} for finding in examination.findings],
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def to_html(examination: Examination) -> str:
    """One self-contained page: counts, histograms, clips of the worst findings of each kind, and all findings.

    There are four clips of a kind, at most 12 seconds each, at 16 kHz. The page lists the first thousand findings of a
    kind, and the number of the others.
    """
    body = [f"<h1>The doctor’s report</h1><p>{escape(_summary(examination))}</p>", _counts_table(examination)]
    histograms = "".join(_histogram(name, unit, values) for name, unit, values in _measured(examination.cases))
    body.append(f'<h2>Measurements</h2><div class="row">{histograms}</div>' if histograms else "")
    for kind, findings in _by_kind(examination).items():
        meaning = KINDS[kind].meaning
        body.append(f'<h2 id="{kind}">{kind} <small>{len(findings)} × {escape(meaning)}</small></h2>')
        body += _clips(findings, examination.cases) if kind not in _SILENT and KINDS[kind].level != "note" else []
        rows = "".join(_row(finding) for finding in findings[:_MOST_ROWS])
        rest = f"<p>… and {len(findings) - _MOST_ROWS} more: see the JSON</p>" if len(findings) > _MOST_ROWS else ""
        head = "<tr><th>line<th>id<th>finding</tr>"
        body.append(
            f"<details><summary>all {len(findings)}</summary><table class=findings>{head}{rows}</table>{rest}</details>"
        )
    return _PAGE.format(style=_STYLE, body="\n".join(body))


def _summary(examination: Examination) -> str:
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


def _by_kind(examination: Examination) -> dict[str, list[Finding]]:
    groups: dict[str, list[Finding]] = defaultdict(list)
    for finding in examination.findings:
        groups[finding.kind].append(finding)
    return {kind: groups[kind] for kind in KINDS if kind in groups}


def _measured(cases: Sequence[Case]) -> Iterator[tuple[str, str, np.ndarray]]:
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


def _counts_table(examination: Examination) -> str:
    counts = examination.counts()
    if not counts:
        return "<p>Nothing is wrong.</p>"
    rows = "".join(
        f'<tr class="{KINDS[kind].level}"><td><a href="#{kind}">{kind}</a><td>{KINDS[kind].level}'
        f"<td class=number>{count:,}<td>{escape(KINDS[kind].meaning)}</tr>"
        for kind, count in counts.items()
    )
    return f"<table><tr><th>kind<th>level<th>count<th>meaning</tr>{rows}</table>"


def _row(finding: Finding) -> str:
    location = f"{finding.manifest}:{finding.line}"
    audio = f"<br><small>{escape(finding.audio)}</small>" if finding.audio else ""
    return f"<tr><td>{escape(location)}{audio}<td>{escape(finding.id)}<td>{escape(finding.message)}</tr>"


def _histogram(name: str, unit: str, values: np.ndarray) -> str:
    """An SVG of counts in 40 bins; values beyond four quartile ranges are in the outer bins."""
    first, third = np.quantile(values, (0.25, 0.75))
    reach = max(4 * (third - first), 1.0)  # a model's own training texts all fit to a billionth
    low, high = max(values.min(), first - reach), min(values.max(), third + reach)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(np.clip(values, low, high), bins=_BINS, range=(low, high))
    plot_height, bar_width = _HEIGHT - 2 * _MARGIN, _WIDTH / _BINS
    bars = []
    for index, count in enumerate(counts):
        height = max(plot_height * count / counts.max(), 1.0 if count else 0.0)
        corner = f'x="{index * bar_width:.1f}" y="{_HEIGHT - _MARGIN - height:.1f}"'
        title = f"{edges[index]:.2f} to {edges[index + 1]:.2f} {unit}: {count:,}"
        bars.append(
            f'<rect {corner} width="{bar_width - 1:.1f}" height="{height:.1f}"><title>{escape(title)}</title></rect>'
        )
    labels = "".join(
        f'<text x="{x}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{_short(value)}</text>'
        for x, anchor, value in ((0, "start", low), (_WIDTH / 2, "middle", (low + high) / 2), (_WIDTH, "end", high))
    )
    title = f"{name}, {unit}: median {_short(np.median(values))}, highest bar {counts.max():,}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{escape(title)}">'
        f'<text x="0" y="14">{escape(title)}</text>{"".join(bars)}{labels}</svg>'
    )


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 0.001 else "0"


def _clips(findings: Sequence[Finding], cases: Sequence[Case]) -> list[str]:
    """The worst findings of a kind that have sound, with audio players."""
    clips: list[str] = []
    for finding in sorted(findings, key=lambda finding: -finding.badness):
        if len(clips) == _CLIPS_PER_KIND:
            break
        if finding.case is None or (sound := _encoded(cases[finding.case])) is None:
            continue
        text = escape(cases[finding.case].utterance.text) or "<i>no text</i>"
        location = escape(f"{finding.manifest}:{finding.line}")
        clips.append(
            f'<figure><audio controls preload="none" src="{sound}"></audio>'
            f"<figcaption><b>{text}</b><br>{escape(finding.message)}<br><small>{location}</small></figcaption></figure>"
        )
    return clips


def _encoded(case: Case) -> str | None:
    """The first seconds of an utterance as a data URL; None if it cannot be read."""
    seconds = min(case.utterance.duration_seconds, _CLIP_SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AsrWarning)  # the finding reports the damage
            waveform = read_waveform(replace(case.utterance, duration_seconds=seconds), _CLIP_RATE)
    except AsrError:
        return None
    # Browsers play both; MP3 is a tenth of the size, but not every libsndfile can write it.
    kind = "MP3" if "MP3" in soundfile.available_formats() else "WAV"
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(waveform, -1, 1), _CLIP_RATE, format=kind)
    media = {"MP3": "mpeg", "WAV": "wav"}[kind]
    return f"data:audio/{media};base64,{base64.b64encode(buffer.getvalue()).decode()}"


_STYLE = """
:root { color-scheme: light dark; --line: #8886; --bar: #37c; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2rem; } small { opacity: .75; font-weight: normal; }
table { border-collapse: collapse; } td, th { text-align: left; vertical-align: top; padding: .2rem .9rem .2rem 0;
  border-bottom: 1px solid var(--line); } .number { text-align: right; }
.findings td { overflow-wrap: anywhere; min-width: 8rem; }
tr.broken td:nth-child(2) { color: #d33; font-weight: bold; } tr.suspect td:nth-child(2) { color: #b70; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
svg rect { fill: var(--bar); } .row { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
figure { margin: .6rem 0; display: flex; gap: 1rem; align-items: center; flex-wrap: wrap; }
figcaption { flex: 1 1 20rem; overflow-wrap: anywhere; }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>asr-data check</title><style>{style}</style></head><body>
{body}
</body></html>
"""
