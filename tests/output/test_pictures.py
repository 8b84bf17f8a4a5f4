"""The pictures of a training and of a transcript: what their lines say, and that they are pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.errors import ConfigError
from asr.output.pictures import (
    MOST_SECONDS,
    ROW_SECONDS,
    _draw_spectrogram,
    _draw_spikes,
    _draw_words,
    _training_figure,
    check_picture,
    training_curve,
    transcript_picture,
)
from asr.text.transcript import Timeline, Word

plt = pytest.importorskip("matplotlib.pyplot")

# Two steps an epoch, three epochs; the third step was skipped since its loss was not finite.
RECORDS: list[dict[str, Any]] = [
    {"kind": "step", "step": 1, "loss": 4.0},
    {"kind": "step", "step": 2, "loss": 2.0},
    {"kind": "epoch", "step": 2, "epoch": 1, "wer": 1.0, "cer": 0.75, "loss": 2.5},
    {"kind": "step", "step": 3, "loss": None},
    {"kind": "note", "step": 3, "text": "step skipped"},
    {"kind": "step", "step": 4, "loss": 1.5},
    {"kind": "epoch", "step": 4, "epoch": 2, "wer": 0.25, "cer": 0.125, "loss": None},
    {"kind": "step", "step": 5, "loss": 0.5},
    {"kind": "step", "step": 6, "loss": 1.0},
    {"kind": "epoch", "step": 6, "epoch": 3, "wer": 0.5, "cer": 0.2, "loss": 0.8},
    {"kind": "step", "step": 7, "loss": 99.0},  # of an epoch that has not ended
]


def test_the_lines_are_the_means_of_epochs_and_the_dev_figures() -> None:
    losses, errors = _training_figure(RECORDS).axes
    lines = {line.get_label(): line.get_xydata().T.tolist() for axes in (losses, errors) for line in axes.get_lines()}
    assert lines.pop("training, per character") == [[1, 2, 3], [3.0, 1.5, 0.75]]
    epochs, dev_losses = lines.pop("dev, per character")
    assert epochs == [1, 2, 3]
    assert dev_losses[::2] == [2.5, 0.8] and math.isnan(dev_losses[1])
    assert lines == {
        "dev WER, best 25.0 %": [[1, 2, 3], [100.0, 25.0, 50.0]],
        "dev CER, best 12.5 %": [[1, 2, 3], [75.0, 12.5, 20.0]],
    }
    assert losses.get_ylabel() == "CTC loss (nats)" and losses.get_yscale() == "linear"
    assert errors.get_xlabel() == "epoch" and errors.get_ylabel() == "error rate (%)"


def test_a_run_from_a_model_begins_at_epoch_0_and_fills_the_axes() -> None:
    start = {"kind": "epoch", "step": 0, "epoch": 0, "wer": 0.2, "cer": 0.05, "loss": 0.02}
    epoch = {"kind": "epoch", "step": 1, "epoch": 1, "wer": 0.16, "cer": 0.04, "loss": 0.6}
    figure = _training_figure([start, {"kind": "step", "step": 1, "loss": 0.5}, epoch])
    losses, errors = figure.axes
    lines = {line.get_label(): line.get_xydata().T.tolist() for line in errors.get_lines()}
    assert lines["dev WER, best 16.0 %"] == [[0, 1], [20.0, 16.0]]
    assert errors.get_ylim() == pytest.approx((0, 21.6))
    figure.canvas.draw()
    assert losses.get_yscale() == "log"  # from 0.02 to 0.6
    labels = {label.get_text() for label in [*losses.get_yticklabels(), *losses.get_yticklabels(minor=True)]}
    assert {"0.02", "0.05", "0.1", "0.2", "0.5"} <= labels and not any("10^" in label for label in labels)


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    training_curve(RECORDS, tmp_path / "curve.png")
    image = plt.imread(tmp_path / "curve.png")
    assert image.shape[:2] == (720, 960)
    assert len({tuple(pixel) for row in image for pixel in row.round(1)}) > 3  # not blank


def test_a_training_of_one_epoch_has_a_picture(tmp_path: Path) -> None:
    training_curve(RECORDS[:3], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


LINE = Timeline(frame_seconds=0.04, duration_seconds=2.0)
WORDS = [
    Word(text="A", start_frame=5, end_frame=6, confidence=1.0, timeline=LINE),
    Word(text="BA", start_frame=20, end_frame=31, confidence=0.5, timeline=LINE),
]


def make_emission() -> np.ndarray:
    """50 frames of Φ, space, A, B, C; an A in frame 5, a B in 20 and 21, an A in 30; C is never heard."""
    spikes = np.full((50, 5), 1e-3)
    for frame in range(50):
        spikes[frame, {5: 2, 12: 1, 20: 3, 21: 3, 30: 2}.get(frame, 0)] = 0.9 if frame == 21 else 0.8
    return np.log(spikes)


def make_axes():
    from matplotlib.figure import Figure

    return Figure().subplots()


def test_each_label_that_is_heard_has_a_line_and_its_name_above_its_peaks() -> None:
    axes = make_axes()
    _draw_spikes(axes, make_emission(), [" ", "A", "B", "C"], 0.04)
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines) == ["Φ", "␣", "A", "B"]
    assert lines["A"].get_ydata()[[5, 6, 30]] == pytest.approx([0.8, 1e-3, 0.8])
    assert lines["A"].get_xdata()[:2] == pytest.approx([0.02, 0.06])
    marks = sorted((round(text.xy[0], 2), text.get_text()) for text in axes.texts)
    assert marks == [(0.22, "A"), (0.5, "␣"), (0.86, "B"), (1.22, "A")]


def test_words_lie_at_their_times_and_are_paler_the_less_sure() -> None:
    axes = make_axes()
    _draw_words(axes, WORDS)
    bars = [(bar.get_x(), bar.get_width(), bar.get_alpha()) for bar in axes.patches]
    assert np.array(bars) == pytest.approx(np.array([(0.2, 0.04, 0.8), (0.8, 0.44, 0.5)]))
    assert [text.get_text() for text in axes.texts] == ["A", "BA"]


def test_a_tone_is_a_line_in_the_spectrogram() -> None:
    axes = make_axes()
    _draw_spectrogram(axes, np.sin(2 * np.pi * 2000 * np.arange(16000) / 16000).astype(np.float32), 16000)
    (image,) = axes.get_images()
    power = np.asarray(image.get_array())
    left, right, low, high = image.get_extent()
    assert (left, low, high) == (0, 0, 8.0) and right == pytest.approx(1.0, abs=0.02)
    assert power.argmax(axis=0) / (len(power) - 1) * high == pytest.approx(2.0, abs=0.03)


@pytest.mark.parametrize("text", ["$x$", "$5", "^_{", "$\\foo$", "50%"])
def test_marks_of_formulas_are_only_text(text: str, tmp_path: Path) -> None:
    word = Word(text=text, start_frame=5, end_frame=6, confidence=1.0, timeline=LINE)
    draw(tmp_path / "a.png", characters=[" ", "$", "B", "C"], words=[word])
    axes = make_axes()
    _draw_words(axes, [word])
    _draw_spikes(axes, make_emission(), [" ", "$", "B", "C"], 0.04)
    assert [mark.get_text() for mark in axes.texts if not mark.get_parse_math()][:1] == [text]
    assert not any(mark.get_parse_math() for mark in axes.texts)


def draw(path: Path, **changes: Any) -> tuple[int, int]:
    """Draws a picture; its height and width, once it is seen not to be blank."""
    facts: dict[str, Any] = {
        "waveform": np.zeros(32000, dtype=np.float32),
        "sample_rate": 16000,
        "emission": make_emission(),
        "characters": [" ", "A", "B", "C"],
        "words": WORDS,
        "timeline": LINE,
    }
    transcript_picture(path, **{**facts, **changes})
    image = plt.imread(path)
    assert len(np.unique(image[:, :800].round(1).reshape(-1, image.shape[2]), axis=0)) > 5
    return image.shape[:2]


def test_the_picture_of_a_transcript_is_a_png_in_a_folder_that_it_makes(tmp_path: Path) -> None:
    assert draw(tmp_path / "new" / "a.png") == (600, 800)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_of_no_sound_there_is_a_picture(tmp_path: Path) -> None:
    timeline = Timeline(frame_seconds=0.04, duration_seconds=0.0)
    nothing = {"waveform": np.zeros(0, dtype=np.float32), "emission": np.zeros((0, 5)), "words": []}
    assert draw(tmp_path / "0.png", timeline=timeline, **nothing) == (600, 800)


def test_of_an_hour_there_is_a_picture_of_the_first_minute_that_says_so(tmp_path: Path, monkeypatch) -> None:
    from matplotlib.axes import Axes

    titles: list[str] = []
    monkeypatch.setattr(Axes, "set_title", lambda axes, text, **more: titles.append(text))
    draw(tmp_path / "0.png")
    assert titles == []
    hour = Timeline(frame_seconds=0.04, duration_seconds=3600.0)
    words = [
        Word(text="A", start_frame=i * 100, end_frame=i * 100 + 5, confidence=1.0, timeline=hour) for i in range(900)
    ]
    facts = {"emission": np.tile(make_emission(), (1800, 1)), "words": words, "timeline": hour, "sample_rate": 100}
    whole, minute = (np.zeros(seconds * 100, dtype=np.float32) for seconds in (3600, 60))
    assert draw(tmp_path / "1.png", waveform=whole, **facts) == (600 * MOST_SECONDS / ROW_SECONDS, 150 * ROW_SECONDS)
    assert draw(tmp_path / "2.png", waveform=minute, **facts) == (600 * MOST_SECONDS / ROW_SECONDS, 150 * ROW_SECONDS)
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    assert titles == ["the first 60 of 3600 seconds"] * 2


def test_without_matplotlib_a_sentence_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    check_picture(Path("x.png"))
    monkeypatch.setattr("asr.output.pictures.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="a picture needs matplotlib, which is not installed: pip install"):
        check_picture(Path("x.png"))
