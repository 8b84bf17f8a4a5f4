"""Subtitles with new times."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.output.retiming import retime, text_of_subtitles
from asr.text.aligned_text import AlignedText, Segment
from asr.text.cues import find_cues
from asr.text.transcript import Timeline, find_words

SRT = """\ufeff1
00:00:05,000 --> 00:00:06,000
<i>Hello</i> there,
- General &amp; friends!

2
00:00:07,000 --> 00:00:08,000 X1:100
[music]

3
00:00:09,000 --> 00:00:10,500
{\\an8}It's 5 o'clock.
4
00:00:11,000 --> 00:00:12,000
Bye.
"""
VTT = """WEBVTT - a title

NOTE
nothing here is a cue

intro
00:05.000 --> 00:06.000 align:start
<v Ann>Hello

00:09.000 --> 00:10.000
Bye
"""


def aligned(subtitles: str, times: dict[int, tuple[float, float]], duration: float = 100.0) -> AlignedText:
    """The text of the subtitles with these times of its words, by their numbers; others have none."""
    text = text_of_subtitles(subtitles)
    timeline = Timeline(frame_seconds=0.01, duration_seconds=duration)
    words = tuple(
        Segment(text=text[start:end], start_frame=0, end_frame=1, score=0.0, timeline=timeline, position=start,
                edges=times[number])
        for number, (start, end) in enumerate(find_words(text)) if number in times
    )  # fmt: skip
    sentences = (Segment(text=text, start_frame=0, end_frame=1, score=0.0, timeline=timeline, parts=words),)
    return AlignedText(
        text=text, sentences=sentences if words else (), untimed=(), dropped=Counter(), score=0.0, timeline=timeline
    )


def test_the_text_of_cues_is_without_markup():
    assert text_of_subtitles(SRT) == "Hello there,\n- General & friends!\n\n[music]\n\nIt's 5 o'clock.\n\nBye."
    assert text_of_subtitles(VTT) == "Hello\n\nBye"
    assert [(cue.start, cue.end) for cue in find_cues(SRT)] == [(5, 6), (7, 8), (9, 10.5), (11, 12)]
    assert find_cues("no cues --> here\n") == []


def test_only_times_change():
    # words: Hello there, - General & friends! [music] It's 5 o'clock. Bye.
    times = {0: (1.0, 1.5), 1: (1.5, 2.0), 5: (3.0, 4.0), 7: (8.0, 9.0), 9: (9.5, 10.2504), 10: (3599.9999, 3600.3)}
    out = retime(SRT, aligned(SRT, times, duration=4000.0))
    assert re.findall(r"(\S+) --> (\S+)", out) == [
        ("00:00:01,000", "00:00:04,000"), ("00:00:05,333", "00:00:06,667"),  # in proportion, between 4 and 8
        ("00:00:08,000", "00:00:10,250"), ("01:00:00,000", "01:00:01,000"),  # a short cue stays for a second
    ]  # fmt: skip
    assert re.sub(r"\d\d:\d\d:\d\d,\d+", "", out) == re.sub(r"\d\d:\d\d:\d\d,\d+", "", SRT)


def test_a_vtt_keeps_its_form_and_gets_hours_only_if_it_needs_them():
    out = retime(VTT, aligned(VTT, {0: (2.0, 3.5), 1: (3600.0, 3601.5)}, duration=4000.0))
    assert out == VTT.replace("00:05.000 --> 00:06.000", "00:02.000 --> 00:03.500").replace(
        "00:09.000 --> 00:10.000", "01:00:00.000 --> 01:00:01.500"
    )


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_cues_stay_in_order_without_overlap_whatever_is_timed(data):
    count = data.draw(st.integers(1, 8))
    old = data.draw(st.lists(st.integers(0, 9000), min_size=2 * count, max_size=2 * count))
    if data.draw(st.booleans()):
        old.sort()
    subtitles = "".join(
        f"{number}\n00:00:{start // 1000:02d},{start % 1000:03d} --> 00:00:{end // 1000:02d},{end % 1000:03d}\nw\n\n"
        for number, (start, end) in enumerate(zip(old[::2], old[1::2], strict=True), 1)
    )
    timed = data.draw(st.sets(st.integers(0, count - 1)))
    bounds = sorted(data.draw(st.lists(st.integers(1, 950), min_size=2 * count, max_size=2 * count, unique=True)))
    times = {number: (bounds[2 * number] / 100, bounds[2 * number + 1] / 100) for number in timed}
    new = [(cue.start, cue.end) for cue in find_cues(retime(subtitles, aligned(subtitles, times, duration=10.0)))]
    flat = [time for pair in new for time in pair]
    assert flat == sorted(flat) and flat[0] >= 0 and flat[-1] <= 10.0
    for number, (start, _) in times.items():
        assert new[number][0] == pytest.approx(start, abs=0.001)
