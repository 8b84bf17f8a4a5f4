from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction

import numpy as np
import pytest

from asr.errors import InputError
from asr.text.transcript import Hypothesis, Timeline, Transcript, Word, find_words, join_transcripts

MINUTE = Timeline(frame_seconds=0.04, duration_seconds=60.0)


def make_words(*entries: tuple[str, int, int], timeline: Timeline = MINUTE) -> tuple[Word, ...]:
    return tuple(
        Word(text=text, start_frame=start, end_frame=end, confidence=0.5, timeline=timeline)
        for text, start, end in entries
    )


def make_transcript(text: str, *entries: tuple[str, int, int], timeline: Timeline = MINUTE, **more) -> Transcript:
    tokens, spans = tuple(range(1, len(entries) + 1)), tuple((start, end) for _, start, end in entries)
    hypothesis = Hypothesis(text=text, score=-1.5, tokens=tokens, spans=spans)
    words = make_words(*entries, timeline=timeline)
    return Transcript(text=text, words=words, hypotheses=(hypothesis,), timeline=timeline, **more)


def test_an_hour_of_frames_does_not_drift():
    timeline = Timeline(frame_seconds=0.04, duration_seconds=3600.0)
    for frame in range(0, 90001, 7):
        assert abs(timeline.seconds(frame) - float(Fraction(frame, 25))) <= 1e-12


@pytest.mark.parametrize("frame_seconds", [0.01, 0.04, 0.03, 1.0, 0.001])
def test_whole_frames_are_counted_exactly(frame_seconds):
    for num_frames in range(300):
        timeline = Timeline(frame_seconds=frame_seconds, duration_seconds=num_frames * frame_seconds)
        assert timeline.num_frames == num_frames


@pytest.mark.parametrize(("duration", "num_frames"), [(0.0, 0), (0.001, 0), (0.005, 1), (0.041, 1), (0.043, 2)])
def test_a_frame_counts_if_it_begins_before_the_last_two_milliseconds(duration, num_frames):
    assert Timeline(frame_seconds=0.04, duration_seconds=duration).num_frames == num_frames


def test_a_last_piece_has_the_frames_that_the_whole_has_left():
    for num_frames in range(2, 2000):
        whole = Timeline(frame_seconds=640 / 16000, duration_seconds=(num_frames * 640 + 32) / 16000)  # 2 ms of a next
        for start in (1, num_frames // 2, num_frames - 1):
            rest = replace(whole, duration_seconds=((num_frames - start) * 640 + 32) / 16000)
            assert start + rest.num_frames == whole.num_frames


def test_times_lie_within_the_recording_and_start_before_they_end():
    rng = np.random.default_rng(5)
    for duration in rng.uniform(0.01, 3.0, size=300):
        timeline = Timeline(frame_seconds=0.04, duration_seconds=float(duration))
        last = timeline.num_frames
        (word,) = make_words(("A", last - 1, last), timeline=timeline)
        assert 0 <= word.start < word.end <= duration
        assert round(word.start, 3) < round(word.end, 3)


def test_word_times_by_hand():
    (word,) = make_words(("SIX", 25, 30))
    assert (word.start, word.end) == (1.0, 1.2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ONE TWO  THREE", ["ONE", "TWO", "THREE"]),
        (" don't\tstop ", ["don't", "stop"]),
        ("好棒棒", ["好", "棒", "棒"]),
        ("我用Python写", ["我", "用", "Python", "写"]),
        ("你好\u3001世界。", ["你", "好\u3001", "世", "界。"]),
        ("\U00020000々", ["\U00020000", "々"]),
        ("한국어 カタカナ", ["한국어", "カタカナ"]),
        ("", []),
        ("  ", []),
    ],
)
def test_words_end_at_spaces_and_around_han_characters(text, words):
    spans = list(find_words(text))
    assert [text[start:end] for start, end in spans] == words


def test_joined_pieces_keep_their_frames():
    first = make_transcript("ONE TWO", ("ONE", 0, 4), ("TWO", 9, 12), name="a", model="m", options={"beam_width": 1})
    silent = make_transcript("")
    last = make_transcript("SIX", ("SIX", 3, 5))
    timeline = Timeline(frame_seconds=0.04, duration_seconds=10000.0)
    joined = join_transcripts([first, silent, last], [0, 700, 200_000], timeline=timeline)
    assert joined.text == "ONE TWO SIX"
    assert [(word.text, word.start_frame, word.end_frame) for word in joined.words] == [
        ("ONE", 0, 4),
        ("TWO", 9, 12),
        ("SIX", 200_003, 200_005),
    ]
    assert joined.words[2].start == 200_003 * 0.04
    assert {word.timeline for word in joined.words} == {timeline}
    assert joined.duration_seconds == 10000.0
    assert joined.hypotheses == (
        Hypothesis(text="ONE TWO SIX", score=-4.5, tokens=(1, 2, 1), spans=((0, 4), (9, 12), (200_003, 200_005))),
    )
    assert (joined.name, joined.model, joined.options) == ("a", "m", {"beam_width": 1})


def test_joining_one_piece_changes_nothing():
    piece = make_transcript("ONE TWO", ("ONE", 0, 4), ("TWO", 9, 12))
    assert join_transcripts([piece], [0], timeline=MINUTE) == piece


def test_joining_nothing_is_an_empty_transcript():
    joined = join_transcripts([], [], timeline=MINUTE)
    assert (joined.text, joined.words, joined.duration_seconds) == ("", (), 60.0)
    assert joined.hypotheses == (Hypothesis(text="", score=0.0, tokens=(), spans=()),)


@pytest.mark.parametrize(
    ("left", "right", "joined"),
    [("好", "棒", "好棒"), ("好", "A", "好 A"), ("A", "好", "A 好"), ("A", "B", "A B")],
)
def test_han_characters_meet_without_a_space(left, right, joined):
    pieces = [make_transcript(left, (left, 0, 2)), make_transcript(right, (right, 0, 2))]
    assert join_transcripts(pieces, [0, 2], timeline=MINUTE).text == joined


def test_pieces_that_do_not_join_are_refused():
    piece = make_transcript("ONE", ("ONE", 3, 7))
    with pytest.raises(InputError, match="each transcript must have its offset; got 1 and 2"):
        join_transcripts([piece], [0, 5], timeline=MINUTE)
    with pytest.raises(InputError, match="'ONE' starts in frame 6, before the end, 7, of the word before"):
        join_transcripts([piece, piece], [0, 3], timeline=MINUTE)
    with pytest.raises(InputError, match="within the 1500 frames of the recording; 'ONE' ends at 1501"):
        join_transcripts([piece], [1494], timeline=MINUTE)
    with pytest.raises(InputError, match=r"frames of 0\.02 s; one has 0\.04 s"):
        join_transcripts([piece], [0], timeline=replace(MINUTE, frame_seconds=0.02))


@pytest.mark.parametrize("value", [0.0, -0.04, math.nan, math.inf])
def test_frames_without_a_length_are_refused(value):
    with pytest.raises(InputError, match="frame_seconds must be positive and finite"):
        Timeline(frame_seconds=value, duration_seconds=1.0)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_durations_out_of_range_are_refused(value):
    with pytest.raises(InputError, match="duration_seconds must be finite and not negative"):
        Timeline(frame_seconds=0.04, duration_seconds=value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": ""}, "a word must have characters, none of them white space; got ''"),
        ({"text": "A B"}, "none of them white space; got 'A B'"),
        ({"start_frame": -1}, "must satisfy 0 <= start < end; got -1 and 5"),
        ({"start_frame": 5}, "must satisfy 0 <= start < end; got 5 and 5"),
        ({"confidence": 1.01}, r"confidence of 'A' must lie in 0 \.\. 1; got 1\.01"),
        ({"confidence": math.nan}, "must lie in 0 .. 1; got nan"),
    ],
)
def test_impossible_words_are_refused(change, message):
    values = {"text": "A", "start_frame": 4, "end_frame": 5, "confidence": 0.5, "timeline": MINUTE}
    with pytest.raises(InputError, match=message):
        Word(**(values | change))


def test_a_hypothesis_without_its_spans_is_refused():
    with pytest.raises(InputError, match="one span a token; got 2 tokens and 1 spans"):
        Hypothesis(text="AB", score=-1.0, tokens=(1, 2), spans=((0, 1),))


def test_transcripts_that_contradict_themselves_are_refused():
    good = make_transcript("A B", ("A", 0, 2), ("B", 2, 4))
    with pytest.raises(
        InputError, match=r"words of a transcript must be the words of its text; got \['A', 'B'\] for 'A'"
    ):
        replace(good, text="A")
    with pytest.raises(InputError, match="'B' starts in frame 1, before the end, 2"):
        replace(good, words=make_words(("A", 0, 2), ("B", 1, 4)))
    with pytest.raises(InputError, match="within the 1500 frames of the recording; 'B' ends at 1501"):
        replace(good, words=make_words(("A", 0, 2), ("B", 2, 1501)))
    with pytest.raises(InputError, match="all words must share the transcript's timeline"):
        replace(good, timeline=Timeline(frame_seconds=0.04, duration_seconds=50.0))
    with pytest.raises(InputError, match="at least one hypothesis"):
        replace(good, hypotheses=())


def test_transcripts_are_frozen():
    with pytest.raises(FrozenInstanceError):
        make_transcript("").text = "A"


def test_a_printed_transcript_shows_its_words_but_not_what_the_search_knew():
    shown = repr(make_transcript("A B", ("A", 0, 4), ("B", 5, 9), model="m", options={"lm": "file"}))
    assert "text='A B'" in shown and "model='m'" in shown
    assert "hypotheses" not in shown and "lm" not in shown
