"""Segments: by hand, and that a stream of parts gives those of the whole."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from asr.text.segments import LONGEST_SEGMENT, find_segments, find_turns, stream_segments
from asr.text.transcript import Timeline, Word, join_texts

LINE = Timeline(frame_seconds=0.1, duration_seconds=10_000.0)


def words_of(text: str, *, frames: int = 3, pauses: dict[int, int] | None = None) -> tuple[Word, ...]:
    """The words of a text, one frame between them or, before some of them, the given number."""
    words, frame = [], 0
    for number, word in enumerate(text.split()):
        frame += (pauses or {}).get(number, 1)
        words.append(Word(text=word, start_frame=frame, end_frame=frame + frames, confidence=0.5, timeline=LINE))
        frame += frames
    return tuple(words)


def texts(text: str, words: tuple[Word, ...]) -> list[str]:
    return [segment.text for segment in find_segments(text, words)]


def test_a_segment_ends_at_a_sentence_a_pause_and_another_speaker():
    text = "He said: go. Then Dr. No went, and 3.5 cats. fell"
    assert texts(text, words_of(text)) == ["He said: go.", "Then Dr. No went, and 3.5 cats. fell"]
    assert texts("A B C", words_of("A B C", pauses={1: 4, 2: 5})) == ["A B", "C"]
    first, second = words_of("A B")
    spoken = (first, Word(**{**vars(second), "speaker": "ANN"}))
    assert [(segment.text, segment.speaker) for segment in find_segments("A B", spoken)] == [("A", ""), ("B", "ANN")]
    assert len(find_turns("A B C", words_of("A B C", pauses={2: 50}))) == 1


def test_long_speech_without_a_pause_is_cut_at_the_longest_gap():
    text = " ".join(f"w{number}" for number in range(100))
    words = words_of(text, pauses={30: 3, 31: 2})
    segments = find_segments(text, words)
    assert segments[0].words[-1].text == "w29"
    assert all(segment.end - segment.start <= LONGEST_SEGMENT for segment in segments)


def test_han_characters_have_no_spaces_in_a_segment():
    words = words_of("我 们 Python 写")
    assert texts("我们 Python 写", words) == ["我们 Python 写"]


def test_start_end_and_confidence():
    (segment,) = find_segments("A B", words_of("A B"))
    assert (segment.start, segment.end, segment.confidence) == (0.1, 0.8, 0.5)
    assert find_segments("", ()) == []


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["A", "b", "Yes.", "好"]), st.sampled_from([0, 1, 2, 4, 5, 9])), max_size=80),
    st.lists(st.integers(0, 80), max_size=8),
)
def test_a_stream_of_parts_gives_the_segments_of_the_whole(entries, cuts):
    words, frame = [], 0
    for word, pause in entries:
        frame += pause
        words.append(Word(text=word, start_frame=frame, end_frame=frame + 6, confidence=0.5, timeline=LINE))
        frame += 6
    edges = sorted({0, *(min(cut, len(words)) for cut in cuts), len(words)})
    parts = [words[first:last] for first, last in pairwise(edges)]
    spoken = [
        (
            join_texts([word.text for word in part]),
            part,
            words[last].start if last < len(words) else frame * 0.1 + 3,  # no word of the next part is earlier
        )
        for part, last in zip(parts, edges[1:], strict=True)
    ]
    whole = find_segments(join_texts([word.text for word in words]), words)
    assert list(stream_segments(spoken)) == whole
    assert [word for segment in whole for word in segment.words] == words


def test_a_segment_comes_before_the_next_part_is_read():
    first, _ = words_of("A B", pauses={1: 8})

    def parts():
        yield "A", (first,), 1.0  # half a second of silence after it
        raise AssertionError("the segment was final")

    assert next(stream_segments(parts())).text == "A"
