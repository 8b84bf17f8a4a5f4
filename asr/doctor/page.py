"""The page of an examination: counts, histograms, clips of the worst, and what a model heard beside each text."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import soundfile

from asr.data.waveforms import read_waveform
from asr.doctor.checks import KINDS, Case, Finding
from asr.doctor.examination import Examination
from asr.doctor.report import by_kind, measured, summary
from asr.errors import AsrError, AsrWarning, visible
from asr.text.metrics import align_tokens, word_errors

_CLIP_RATE, _CLIP_SECONDS = 16_000, 12.0
_CLIPS_PER_KIND, _MOST_ROWS = 4, 1000
_MOST_HEARD = 20_000  # utterances in the table of what the model heard, those with the most errors
_SILENT = frozenset({"missing", "empty", "not-sound", "manifest", "silent", "not-finite"})  # nothing to listen to
_BINS, _WIDTH, _HEIGHT, _MARGIN = 40, 460, 150, 26


def to_html(examination: Examination) -> str:
    """One page: counts, histograms, clips of the worst findings of each kind, all findings, and what the model heard.

    There are four clips of a kind, at most 12 seconds each, at 16 kHz. The page lists the first thousand findings of a
    kind, and the number of the others. Where a model compared the texts, a table has each text beside what the model
    heard, word by word. Its sound is played from the files; all else is in the page.
    """
    body = [f"<h1>The doctor’s report</h1><p>{escape(summary(examination))}</p>", _counts_table(examination)]
    histograms = "".join(_histogram(name, unit, values) for name, unit, values in measured(examination.cases))
    body.append(f'<h2>Measurements</h2><div class="row">{histograms}</div>' if histograms else "")
    for kind, findings in by_kind(examination).items():
        meaning = KINDS[kind].meaning
        body.append(f'<h2 id="{kind}">{kind} <small>{len(findings)} × {escape(meaning)}</small></h2>')
        body += _clips(findings, examination.cases) if kind not in _SILENT and KINDS[kind].level != "note" else []
        rows = "".join(_row(finding) for finding in findings[:_MOST_ROWS])
        rest = f"<p>… and {len(findings) - _MOST_ROWS} more: see the JSON</p>" if len(findings) > _MOST_ROWS else ""
        head = "<tr><th>line<th>id<th>finding</tr>"
        body.append(
            f"<details><summary>all {len(findings)}</summary><table class=findings>{head}{rows}</table>{rest}</details>"
        )
    body += _heard(examination.cases)
    return _PAGE.format(style=_STYLE, body="\n".join(body))


def _heard(cases: Sequence[Case]) -> list[str]:
    """A table of the texts and what the model heard, most errors first, which a click on a column sorts."""
    rows: list[tuple[float, str]] = []
    for case in cases:
        if case.match is None:
            continue
        errors = word_errors(case.text, case.match.heard)
        rate = 100 * errors.errors / max(errors.reference_length, 1)
        utterance = case.utterance
        start = utterance.start_seconds
        sound = f"{Path(utterance.audio).resolve().as_uri()}#t={start:.3f},{start + utterance.duration_seconds:.3f}"
        rows.append(
            (
                rate,
                f"<tr><td class=number data-value={rate:.4f}>{rate:.0f} %"
                f"<td class=number data-value={min(case.match.cost, 1e9):.4f}>{case.match.cost:.2f}"
                f"<td class=number data-value={case.seconds:.3f}>{case.seconds:.1f}"
                f'<td><button data-sound="{escape(sound)}" aria-label="play {escape(utterance.id)}">▶</button>'
                f"<td>{_compared(case.text, case.match.heard)}<br><small>{escape(visible(case.location))} "
                f"{escape(visible(utterance.id))}</small></tr>",
            )
        )
    if not rows:
        return []
    rows.sort(key=lambda row: -row[0])
    left_out = f"<p>… and {len(rows) - _MOST_HEARD} more, with fewer errors</p>" if len(rows) > _MOST_HEARD else ""
    columns = ("errors", "misfit, nats/character", "seconds", "", "text: <del>written</del> <ins>heard</ins>")
    head = "".join(
        f"<th><button>{name}</button>" if number < 3 else f"<th>{name}" for number, name in enumerate(columns)
    )
    body = "".join(row for _, row in rows[:_MOST_HEARD])
    return [
        "<h2>What the model heard</h2><p>Click a column to sort by it. A button plays the sound from its file.</p>"
        f'<audio id="player"></audio><table id="heard"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        f"{left_out}<script>{_SCRIPT}</script>"
    ]


def _compared(text: str, heard: str) -> str:
    """The words of a text; those that were not heard are deleted, those that were heard in their place inserted."""
    parts = []
    for _, written, other in align_tokens(text.split(), heard.split()):
        if written == other:
            parts.append(escape(str(written)))
            continue
        parts += [f"<del>{escape(visible(str(written)))}</del>"] * (written is not None)
        parts += [f"<ins>{escape(visible(str(other)))}</ins>"] * (other is not None)
    return " ".join(parts)


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
    """An SVG of counts in 40 bins; values beyond four quartile ranges are in the outer bins, which say how many."""
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
    outside = [
        (x, anchor, f"{number:,} {word} {_short(extreme)}")
        for x, anchor, number, word, extreme in (
            (0, "start", int((values < low).sum()), "below: down to", values.min()),
            (_WIDTH, "end", int((values > high).sum()), "above: up to", values.max()),
        )
        if number
    ]
    beyond = "".join(
        f'<text class="outside" x="{x}" y="{_MARGIN + 10}" text-anchor="{anchor}">{escape(text)}</text>'
        for x, anchor, text in outside
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{escape(title)}">'
        f'<text x="0" y="14">{escape(title)}</text>{"".join(bars)}{labels}{beyond}</svg>'
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
svg rect { fill: var(--bar); } svg .outside { fill: #d33; }
del { color: #d33; } ins { color: #293; text-decoration: none; border-bottom: 2px solid; }
thead button { font: inherit; font-weight: bold; border: 0; background: none; color: inherit; cursor: pointer;
  padding: 0; text-decoration: underline dotted; } #heard td:last-child { overflow-wrap: anywhere; }
.row { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
figure { margin: .6rem 0; display: flex; gap: 1rem; align-items: center; flex-wrap: wrap; }
figcaption { flex: 1 1 20rem; overflow-wrap: anywhere; }
"""

_SCRIPT = """
const player = document.getElementById("player"), body = document.querySelector("#heard tbody");
document.querySelectorAll("#heard thead button").forEach((button, column) => {
  let sign = column ? -1 : 1;
  button.onclick = () => {
    const value = row => +row.cells[column].dataset.value;
    body.append(...[...body.rows].sort((a, b) => sign * (value(a) - value(b))));
    sign = -sign;
  };
});
body.onclick = event => {
  const sound = event.target.dataset.sound;
  if (sound) { player.src = sound; player.play(); }
};
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>asr-data check</title><style>{style}</style></head><body>
{body}
</body></html>
"""
