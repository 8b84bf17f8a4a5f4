"""Speakers of words: RTTM against the overlap counted in milliseconds, channels by hand."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DataError
from asr.recognition.speakers import Turn, join_by_recording, join_channels, read_rttm, turns_of, with_speakers
from asr.text.transcript import Hypothesis, Timeline, Transcript, Word

LINE = Timeline(frame_seconds=0.1, duration_seconds=60.0)


def transcript_of(*entries: tuple[str, int, int], score: float = -1.0, line: Timeline = LINE) -> Transcript:
    words = tuple(
        Word(text=text, start_frame=start, end_frame=end, confidence=0.9, timeline=line) for text, start, end in entries
    )
    text = " ".join(word.text for word in words)
    return Transcript(
        text=text, words=words, hypotheses=(Hypothesis(text=text, score=score, tokens=(), spans=()),), timeline=line
    )


RTTM = """\
;; a comment
SPKR-INFO talk 1 <NA> <NA> <NA> unknown ann <NA> <NA>
SPEAKER talk 1 0.5 1.25 <NA> <NA> ann <NA> <NA>
SPEAKER talk 1 2.00 1.0 <NA> <NA> bob <NA>
SPEAKER call 1 0 9 <NA> <NA> eve
"""


def test_rttm_is_read_by_recording(tmp_path):
    path = tmp_path / "turns.rttm"
    path.write_text(RTTM)
    turns = read_rttm(path)
    assert turns == {
        "talk": [Turn(speaker="ann", start=0.5, end=1.75), Turn(speaker="bob", start=2.0, end=3.0)],
        "call": [Turn(speaker="eve", start=0.0, end=9.0)],
    }
    assert turns_of(turns, "day 1/talk") == turns_of(turns, "talk") == turns["talk"]
    assert turns_of(turns, "other") is None
    assert turns_of({"call": turns["call"]}, "other") == turns["call"]


@pytest.mark.parametrize(
    "line", ["SPEAKER talk 1 x 1 <NA> <NA> ann", "SPEAKER talk 1 1 -1 <NA> <NA> a", "SPEAKER talk 1"]
)
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "a.rttm").write_text(f"{RTTM}{line}\n")
    with pytest.raises(DataError, match=r"a\.rttm:6: a line must be SPEAKER <recording> <channel> <start>"):
        read_rttm(tmp_path / "a.rttm")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.sampled_from("abc")), max_size=8),
    st.integers(0, 59),
    st.integers(1, 9),
)
def test_without_common_time_the_nearest_turn_speaks(spans, start, length):
    turns = [Turn(speaker=name, start=float(begin), end=float(begin + size)) for begin, size, name in spans]
    (word,) = with_speakers(transcript_of(("a", 10 * start, min(10 * (start + length), 600))), turns).words
    middle = (word.start + word.end) / 2
    common = {turn.speaker: 0.0 for turn in turns}
    for turn in turns:
        common[turn.speaker] += max(min(turn.end, word.end) - max(turn.start, word.start), 0.0)
    if any(common.values()):
        assert common[word.speaker] == max(common.values())
    elif turns:
        distances = [max(turn.start - middle, middle - turn.end) for turn in turns]
        assert word.speaker in {
            turn.speaker for turn, distance in zip(turns, distances, strict=True) if distance == min(distances)
        }
    else:
        assert word.speaker == ""


def test_many_turns_take_little_time():
    line = Timeline(frame_seconds=0.1, duration_seconds=20_000.0)
    transcript = transcript_of(*(("a", 10 * second, 10 * second + 5) for second in range(20_000)), line=line)
    turns = [Turn(speaker=str(second % 7), start=float(second), end=second + 0.6) for second in range(20_000)]
    start = time.process_time()
    spoken = with_speakers(transcript, turns)
    assert [word.speaker for word in spoken.words] == [str(second % 7) for second in range(20_000)]
    assert time.process_time() - start < 10  # each word against each turn: minutes


def test_a_file_without_turns_and_a_missing_one(tmp_path):
    (tmp_path / "a.rttm").write_text("hello\n")
    with pytest.raises(DataError, match="has no line of a speaker"):
        read_rttm(tmp_path / "a.rttm")
    with pytest.raises(DataError, match="none"):
        read_rttm(tmp_path / "none.rttm")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 200), st.integers(1, 60)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9)), min_size=1, max_size=10),
)
def test_a_word_is_of_whoever_speaks_longest_during_it(spans, gaps):
    turns = [Turn(speaker=name, start=start / 10, end=(start + length) / 10) for name, start, length in spans]
    entries, frame = [], 0
    for gap, length in gaps:
        entries.append(("A", frame + gap, frame + gap + length))
        frame += gap + length
    for word in with_speakers(transcript_of(*entries), turns).words:
        shares = {
            name: sum(
                max(min(start + length, word.end_frame) - max(start, word.start_frame), 0)
                for other, start, length in spans
                if other == name
            )
            for name in {name for name, _, _ in spans}
        }
        if max(shares.values()):
            assert shares[word.speaker] == max(shares.values())
        else:
            middle = (word.start_frame + word.end_frame) / 2
            distances = {name: min(
                max(start - middle, middle - start - length) for other, start, length in spans if other == name
            ) for name in shares}  # fmt: skip
            assert distances[word.speaker] == pytest.approx(min(distances.values()))


def test_channels_are_joined_by_time_as_speakers():
    left = transcript_of(("HELLO", 0, 8), ("THERE", 9, 15), ("GOOD", 60, 66), score=-1.5)
    right = transcript_of(("YES", 12, 20), ("FINE", 21, 30), score=-2.0)
    joined = join_channels([left, right])
    assert joined.text == "HELLO THERE YES FINE GOOD"
    assert [(word.text, word.speaker) for word in joined.words] == [
        ("HELLO", "CHANNEL_0"), ("THERE", "CHANNEL_0"), ("YES", "CHANNEL_1"), ("FINE", "CHANNEL_1"),
        ("GOOD", "CHANNEL_0"),
    ]  # fmt: skip
    assert joined.hypotheses[0].score == -3.5
    assert join_channels([left]) is left


def test_results_of_channels_come_together_in_any_order():
    a, b, c = (transcript_of((text, 0, 5)) for text in "ABC")
    error = DataError("broken")
    owners = [0, 0, 1, 2, 2]
    results = [(4, error), (1, b), (2, c), (0, a), (3, a)]
    joined = list(join_by_recording(results, owners))
    assert [number for number, _ in joined] == [1, 0, 2]
    assert joined[0][1] is c
    assert joined[1][1].text == "A B"
    assert joined[2][1] is error


def test_words_of_one_speaker_may_not_overlap():
    transcript = transcript_of(("A", 0, 5), ("B", 5, 9))
    overlapping = (replace(transcript.words[0], end_frame=7), transcript.words[1])
    with pytest.raises(ValueError, match="words must follow one another"):
        replace(transcript, words=overlapping)
    speakers = tuple(replace(word, speaker=name) for word, name in zip(overlapping, "xy", strict=True))
    assert replace(transcript, words=speakers).words == speakers


def test_no_turns_change_nothing():
    transcript = transcript_of(("A", 0, 5))
    assert with_speakers(transcript, []) == transcript
    assert not np.any([word.speaker for word in transcript.words])
