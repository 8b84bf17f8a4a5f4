"""All pictures; matplotlib is loaded with the first one."""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.errors import ConfigError
from asr.files.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from asr.text.aligned_text import Segment
    from asr.text.transcript import Timeline, Word

MOST_SECONDS = 60.0
"""The longest sound that `transcript_picture` draws."""
ROW_SECONDS = 10.0
"""The sound of one row of a picture; in a longer one, words and labels would overlap."""

_WINDOW, _HOP = 0.025, 0.01  # of the spectrogram, in seconds
_LOGARITHMIC = 10.0  # the largest ratio of losses on a linear axis
_DYNAMIC_RANGE = 70.0  # dB below the loudest sound; speech has no more
_VISIBLE = 0.05  # probability
_OTHERS = (".pdf", ".svg", ".jpg", ".jpeg", ".gif", ".webp", ".eps", ".ps", ".tif", ".tiff")
_COLORS = [f"tab:{name}" for name in ("blue", "orange", "green", "red", "purple", "brown", "pink", "olive", "cyan")]


def check_picture(path: Path) -> None:
    """Check, before work begins, that a picture can be written to the path.

    Raises:
        ConfigError: matplotlib is not installed, or the suffix is of another kind of picture.
    """
    if path.suffix.lower() in _OTHERS:
        raise ConfigError(f"a picture must be a PNG, whose name ends in .png; got {path}")
    if find_spec("matplotlib") is None:
        raise ConfigError("a picture needs matplotlib, which is not installed: pip install matplotlib")


def training_curve(records: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draw loss and dev error rates over the epochs of a run as a PNG; epoch 0 is the model before training.

    Args:
        records: from `asr.training.log.read_log`, one epoch at least; figures that are None are left out.
        path: file of the picture.
    Raises:
        ImportError: matplotlib is not installed.
    """
    with replacing(path) as file:
        _training_figure(records).savefig(file, dpi=120, format="png")


def _training_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Two axes, losses above and error rates below."""
    from matplotlib.figure import Figure

    epochs = [record for record in records if record["kind"] == "epoch"]
    numbers = [record["epoch"] for record in epochs]  # from 0 on if the run started from a model
    figure = Figure(figsize=(8, 6), layout="constrained")
    losses, errors = figure.subplots(2, 1, sharex=True)
    training = _epoch_means(records, [record["step"] for record in epochs])
    losses.plot(numbers, training, marker=".", label="training, per character")
    losses.plot(numbers, [_number(record["loss"]) for record in epochs], marker=".", label="dev, per character")
    _scale_losses(losses)
    for name in ("wer", "cer"):
        rates = [100 * record[name] for record in epochs]
        errors.plot(numbers, rates, marker=".", label=f"dev {name.upper()}, best {min(rates):.1f} %")
    highest = _heights(errors).max(initial=0.0)
    errors.set(xlabel="epoch", ylabel="error rate (%)", ylim=(0, 1.08 * highest or 1.0))
    errors.locator_params(axis="x", integer=True)
    for axes in (losses, errors):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _scale_losses(axes: Axes) -> None:
    """Plain numbers beside the axis, which is logarithmic if the losses span more than a power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    losses = _heights(axes)
    axes.set(ylabel="CTC loss (nats)")
    if len(losses) and losses.max() > _LOGARITHMIC * losses.min() > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)


def _heights(axes: Axes) -> np.ndarray:
    """The finite values of all lines."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()])
    return values[np.isfinite(values)]


def _epoch_means(records: Sequence[dict[str, Any]], ends: Sequence[int]) -> list[float]:
    """Mean training loss of each epoch, without skipped steps, given the last step of each epoch."""
    losses: list[list[float]] = [[] for _ in ends]
    for record in records:
        if record["kind"] == "step" and record["loss"] is not None and record["step"] <= ends[-1]:
            losses[bisect_left(ends, record["step"])].append(record["loss"])
    return [fmean(epoch) if epoch else math.nan for epoch in losses]


def _number(value: float | None) -> float:
    """NaN for None, for which matplotlib leaves a gap."""
    return math.nan if value is None else value


def transcript_picture(
    path: str | os.PathLike[str],
    *,
    waveform: np.ndarray,
    sample_rate: int,
    emission: np.ndarray,
    characters: Sequence[str],
    words: Sequence[Word | Segment],
    timeline: Timeline,
) -> None:
    """Draw spectrogram, probabilities of the labels and words, over one time axis, as a PNG with a row for ten seconds.

    Of a longer recording, the picture shows the first `MOST_SECONDS`, and its title says so.

    Args:
        path: file of the picture.
        waveform: (N,) samples in [-1, 1], the first `MOST_SECONDS` at least.
        sample_rate: samples per second.
        emission: (T, V) natural log-probabilities, as long as the waveform at least; column 0 is Φ.
        characters: V - 1 characters, of the labels from 1 on.
        words: with start and end in seconds.
        timeline: of the recording.
    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    seconds = max(min(timeline.duration_seconds, MOST_SECONDS), timeline.frame_seconds)
    num_rows = math.ceil(seconds / ROW_SECONDS)
    row_seconds = min(seconds, ROW_SECONDS)
    width = max(8.0, 1.5 * row_seconds)
    figure = Figure(figsize=(width, 6 * num_rows), layout="constrained")
    axes = figure.subplots(3 * num_rows, 1, gridspec_kw={"height_ratios": (3, 3, 1) * num_rows})
    for row in range(num_rows):
        sound, labels, text = axes[3 * row : 3 * row + 3]
        start, end = row * row_seconds, (row + 1) * row_seconds
        _draw_spectrogram(sound, waveform[: math.ceil(seconds * sample_rate)], sample_rate)
        first, last = (math.ceil(time / timeline.frame_seconds) for time in (start, min(end, seconds)))
        _draw_spikes(labels, emission[first:last], characters, timeline.frame_seconds, first=first)
        _draw_words(text, [word for word in words if word.start < min(end, seconds) and word.end > start])
        for part in (sound, labels, text):
            part.set(xlim=(start, end))
            part.locator_params(axis="x", nbins=round(width))
            part.tick_params(labelbottom=part is text)
        text.set(xlabel="seconds")
    if timeline.duration_seconds > seconds:
        axes[0].set_title(f"the first {seconds:g} of {timeline.duration_seconds:.0f} seconds", loc="left")
    with replacing(path) as file:
        figure.savefig(file, dpi=100, format="png")


def _draw_spectrogram(axes: Axes, waveform: np.ndarray, sample_rate: int) -> None:
    """Power in dB."""
    window = round(_WINDOW * sample_rate)
    if len(waveform) < window:
        waveform = np.pad(waveform, (0, window - len(waveform)))
    starts = np.arange(0, len(waveform) - window + 1, round(_HOP * sample_rate))
    frames = waveform[starts[:, None] + np.arange(window)] * np.hanning(window)
    power = 10 * np.log10(np.abs(np.fft.rfft(frames, axis=1)) ** 2 + 1e-10)
    axes.imshow(
        power.T,
        origin="lower",
        aspect="auto",
        extent=(0, (starts[-1] + window) / sample_rate, 0, sample_rate / 2000),
        vmin=power.max() - _DYNAMIC_RANGE,
        cmap="magma",
    )
    axes.set(ylabel="kHz")


def _draw_spikes(
    axes: Axes, emission: np.ndarray, characters: Sequence[str], frame_seconds: float, *, first: int = 0
) -> None:
    """One line for each label with a probable frame, with its character above each peak; Φ grey.

    `first` is the number of the first frame.
    """
    times = (np.arange(first, first + len(emission)) + 0.5) * frame_seconds
    probabilities = np.exp(emission)
    axes.plot(times, probabilities[:, 0], color="0.8", label="Φ")
    best = emission.argmax(axis=1)
    for label, character in enumerate(characters, start=1):
        if probabilities[:, label].max(initial=0.0) < _VISIBLE:
            continue
        shown = "␣" if character == " " else character
        color = _COLORS[label % len(_COLORS)]  # the same in each row
        axes.plot(times, probabilities[:, label], label=shown, color=color)
        is_best = best == label
        edges = np.flatnonzero(np.diff(is_best, prepend=False, append=False))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            peak = start + int(emission[start:end, label].argmax())
            point = times[peak], probabilities[peak, label]
            axes.annotate(shown, point, ha="center", va="bottom", fontsize=8, color=color, parse_math=False)
    axes.set(ylabel="probability (grey: Φ)", ylim=(0, 1.15))


def _draw_words(axes: Axes, words: Sequence[Word | Segment]) -> None:
    """A bar for each word, paler with less confidence, with the word in it."""
    for row, word in enumerate(words):
        axes.barh(0, word.end - word.start, left=word.start, alpha=0.2 + 0.6 * word.confidence, color="C0")
        point = word.start, 0.5 + 0.35 * (row % 2)  # two heights, so that neighbours do not overlap
        axes.annotate(word.text, point, ha="left", va="bottom", fontsize=8, clip_on=True, parse_math=False)
    axes.set(ylim=(-0.5, 1.3), yticks=[], ylabel="words")
