"""Subtitles and TextGrids: hand-written examples of each format, and what `asr.output.formats` itself writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asr.errors import DataError
from asr.importing.segments import read_segments
from asr.importing.subtitles import Segment
from asr.output.formats import to_srt, to_vtt
from asr.text.transcript import Hypothesis, Timeline, Transcript, Word

SRT = """\ufeff1
00:00:00,500 --> 00:00:02,000 X1:40 X2:600
{\\an8}<i>Hello</i>
there.

2
00:01:02,250 --> 01:00:03,5
3 < 4 & so on
"""

VTT = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE this is
not said

intro
00:01.000 --> 00:02.500 align:start
<v.loud Ann Lee>Fish &amp; chips</v>

00:03.000 --> 00:04.000
<v Ann>one</v> <v Bo>two</v>

00:05.000 --> 00:06.000
"""

LONG_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 3.5
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 3.5
        points: size = 1
        points [1]:
            number = 1.25
            mark = "4 5"
    item [2]:
        class = "IntervalTier"
        name = "Ann"
        xmin = 0
        xmax = 3.5
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = "she said ""yes"" = 7"
        intervals [2]:
            xmin = 1.5
            xmax = 3.5
            text = ""
    item [3]:
        class = "IntervalTier"
        name = "Bo"
        xmin = 0
        xmax = 3.5
        intervals: size = 1
        intervals [1]:
            xmin = 2
            xmax = 3e0
            text = "是"
"""

SHORT_GRID = (
    '"ooTextFile"\n"TextGrid"\n0\n3.5\n<exists>\n1\n"IntervalTier"\n"Ann"\n0 3.5 1\n0 1.5 "she said ""yes"" = 7"\n'
)


def put(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def test_srt(tmp_path: Path) -> None:
    one, two = read_segments(put(tmp_path, "a.SRT", SRT.replace("\n", "\r\n")))
    assert one == Segment(start_seconds=0.5, end_seconds=2.0, text="Hello there.", line=2)
    assert two == Segment(start_seconds=62.25, end_seconds=3603.5, text="3 < 4 & so on", line=7)


def test_vtt(tmp_path: Path) -> None:
    one, two = read_segments(put(tmp_path, "a.vtt", VTT))
    assert one == Segment(start_seconds=1.0, end_seconds=2.5, text="Fish & chips", line=10, speaker="Ann Lee")
    assert (two.text, two.speaker) == ("one two", None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_textgrid(tmp_path: Path, encoding: str) -> None:
    path = put(tmp_path, "a.TextGrid", LONG_GRID, encoding)
    expected = Segment(start_seconds=0.0, end_seconds=1.5, text='she said "yes" = 7', line=25)
    assert read_segments(path) == [expected]
    assert read_segments(path, tier="Bo")[0].text == "是" and read_segments(path, tier="Bo")[0].end_seconds == 3.0
    assert [(s.speaker, s.line) for s in read_segments(path, tiers_are_speakers=True)] == [("Ann", 25), ("Bo", 39)]
    (short,) = read_segments(put(tmp_path, "b.TextGrid", SHORT_GRID))
    assert (short.start_seconds, short.end_seconds, short.text) == (0.0, 1.5, expected.text)


@pytest.mark.parametrize(("write", "suffix"), [(to_srt, ".srt"), (to_vtt, ".vtt")])
def test_what_we_write_is_read(tmp_path: Path, write, suffix: str) -> None:
    timeline = Timeline(frame_seconds=0.01, duration_seconds=20.0)
    words = tuple(
        Word(text=text, start_frame=start, end_frame=start + 80, confidence=1.0, timeline=timeline)
        for text, start in (("R&D", 100), ("<b>", 300), ("là", 900))
    )
    text = " ".join(word.text for word in words)
    hypothesis = Hypothesis(text=text, score=0.0, tokens=(), spans=())
    transcript = Transcript(text=text, words=words, hypotheses=(hypothesis,), timeline=timeline)
    segments = read_segments(put(tmp_path, f"a{suffix}", write(transcript)))
    assert segments[0].start_seconds == 1.0 and segments[-1].text == "là" and segments[-1].start_seconds == 9.0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.vtt", "00:01.000 --> 00:02.000\nhm\n", "a.vtt:1: must begin with WEBVTT, got '00:01"),
        ("a.TextGrid", "hello", "a.TextGrid:1: a TextGrid must have a string here, got the end"),
        ("a.TextGrid", '"ooTextFile" "PitchTier"', "a.TextGrid:1: must be a TextGrid that Praat saved"),
        ("a.TextGrid", LONG_GRID[:-40], "a.TextGrid:40: a TextGrid must have a (string|number) here, got the end"),
        ("a.TextGrid", LONG_GRID.replace('"Bo"', '"Ann"'), "a.TextGrid:34: tiers must have different names.*'Ann'"),
        ("a.TextGrid", '"ooTextFile" "TextGrid" 0 1 <exists> 1.5', "a.TextGrid:1: .* at most 9 digits here, got '1.5'"),
        ("a.TextGrid", '"ooTextFile" "TextGrid" 0 1 <exists> 1 "IntervalTier" "a" 0 1 1 0 5% "x"',
         "a.TextGrid:1: a TextGrid must have seconds here, got '5%'"),
        ("a.TextGrid", '"ooTextFile" "TextGrid" 0 1 <exists> 0',
         "must have an interval tier, but its interval tiers are: none"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_segments(put(tmp_path, name, text))


def test_a_vtt_header_without_an_empty_line_hides_no_cue(tmp_path: Path) -> None:
    (segment,) = read_segments(put(tmp_path, "a.vtt", "WEBVTT\n00:01.000 --> 00:02.000\nhello\n"))
    assert isinstance(segment, Segment) and (segment.text, segment.line) == ("hello", 2)


def test_a_textgrid_of_an_hour_takes_no_minutes(tmp_path: Path) -> None:
    """45,000 intervals: with a count of lines for each token it took a quarter of an hour."""
    intervals = "\n".join(f'{n / 10}\n{(n + 1) / 10}\n"word"' for n in range(45_000))
    grid = f'"ooTextFile"\n"TextGrid"\n0\n4500\n<exists>\n1\n"IntervalTier"\n"words"\n0\n4500\n45000\n{intervals}\n'
    segments = read_segments(put(tmp_path, "a.TextGrid", grid))
    assert len(segments) == 45_000 and segments[-1].line == 12 + 3 * 44_999


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.srt", "1\n00:00:01,0 -> 00:00:02,0\nhm\n", r"a.srt:1: a subtitle must have times.*got '1'"),
        ("a.srt", SRT + "\nstray\n", r"a.srt:10: a subtitle must.*'stray'; it may be a part of the one before, so"),
        ("a.srt", "00:00:03,0 --> 00:00:02,0\nhm\n", "a.srt:1: a segment must end after it begins, got 3 to 2 s"),
    ],
)  # fmt: skip
def test_a_cue_that_is_wrong_is_said_in_its_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    (wrong,) = [found for found in read_segments(tmp_path / name) if isinstance(found, DataError)]
    with pytest.raises(DataError, match=message):
        raise wrong


def test_a_tier_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must have the interval tier 'Cy', but its interval tiers are: 'Ann', 'Bo'"):
        read_segments(put(tmp_path, "a.TextGrid", LONG_GRID), tier="Cy")


def times_and_texts(path: Path) -> list[tuple[float, float, str]]:
    return [(s.start_seconds, s.end_seconds, s.text) for s in read_segments(path) if isinstance(s, Segment)]


KENNEDY = [
    "And so my fellow Americans",
    "ask not what your country can do for you",
    "ask what you can do for your country",
]

NUMBERED = """1
00:00:00,000 --> 00:00:03,000
And so my fellow Americans
2
00:00:03,000 --> 00:00:08,000
ask not what
your country can do for you
3
00:00:08,000 --> 00:00:11,000
ask what you can do for your country
"""


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.srt", NUMBERED, [2, 5, 9]),
        ("a.srt", NUMBERED.replace("\n2\n", "\n \n2\n"), [2, 6, 10]),  # parted by a space
        ("a.srt", NUMBERED.replace("1\n0", "0").replace("\n2\n", "\n").replace("\n3\n", "\n"), [1, 3, 6]),
        ("a.vtt", "WEBVTT\n" + NUMBERED.replace(",", "."), [3, 6, 10]),
    ],
)
def test_cues_need_no_empty_lines_between_them(tmp_path: Path, name: str, text: str, lines: list[int]) -> None:
    path = put(tmp_path, name, text)
    assert times_and_texts(path) == list(zip((0.0, 3.0, 8.0), (3.0, 8.0, 11.0), KENNEDY, strict=True))
    assert [segment.line for segment in read_segments(path)] == lines


def test_a_number_that_is_said_is_no_number_of_a_cue(tmp_path: Path) -> None:
    text = "1\n00:00:00,0 --> 00:00:01,0\n1961\n2\n00:00:01,0 --> 00:00:02,0\n7\n\n00:00:02,0 --> 00:00:03,0\nend\n8\n"
    assert [text for *_, text in times_and_texts(put(tmp_path, "a.srt", text))] == ["1961", "7", "end 8"]
    unnumbered = "00:00:00,0 --> 00:00:01,0\n1961\n00:00:01,0 --> 00:00:02,0\n7\n"
    assert [text for *_, text in times_and_texts(put(tmp_path, "a.srt", unnumbered))] == ["1961", "7"]


ROLLING = """WEBVTT
Kind: captions

00:00:00.000 --> 00:00:03.000 align:start position:0%
{blank}
And<00:00:00.500><c> so</c><00:00:01.000><c> my fellow</c><00:00:02.000><c> Americans</c>

00:00:03.000 --> 00:00:03.010 align:start position:0%
And so my fellow Americans
{space}

00:00:03.010 --> 00:00:08.000 align:start position:0%
And so my fellow Americans
ask<00:00:03.500><c> not what your country can do for you</c>

00:00:08.000 --> 00:00:08.010 align:start position:0%
ask not what your country can do for you
{space}

00:00:08.010 --> 00:00:11.000 align:start position:0%
ask not what your country can do for you
ask<00:00:08.500><c> what you can do for your country</c>
"""
ROLLED = list(zip((0.0, 3.01, 8.01), (3.0, 8.0, 11.0), KENNEDY, strict=True))


@pytest.mark.parametrize("blank", [" ", ""])
@pytest.mark.parametrize("suffix", [".vtt", ".srt"])
def test_rolling_captions_count_each_line_once(tmp_path: Path, suffix: str, blank: str) -> None:
    text = ROLLING.format(blank=blank, space=" ")
    if suffix == ".srt":
        text = re.sub(r"<[^>]*>| align.*", "", text[text.index("00:00") :]).replace(".", ",")
    assert times_and_texts(put(tmp_path, f"a{suffix}", text)) == ROLLED


def test_lines_that_grow_and_lines_that_move_up(tmp_path: Path) -> None:
    texts = ["a", "a b", "a b\nc", "a b\nc", "c\nd"]
    path = put(tmp_path, "a.srt", cues(*((n, n + 1, text) for n, text in enumerate(texts))))
    assert times_and_texts(path) == [(0.0, 1.0, "a"), (1.0, 2.0, "b"), (2.0, 3.0, "c"), (4.0, 5.0, "d")]


def test_what_is_said_twice_is_said_twice(tmp_path: Path) -> None:
    texts = ["No.", "No.", "No way.", "Why?", "Why? Not", "I see.", "You see.", "Yes."]
    path = put(tmp_path, "a.srt", cues(*((n, n + 1, text) for n, text in enumerate(texts))))
    assert [text for *_, text in times_and_texts(path)] == texts


def cues(*timed: tuple[float, float, str]) -> str:
    return "".join(f"00:00:{start:06.3f} --> 00:00:{end:06.3f}\n{text}\n\n" for start, end, text in timed)


def test_cues_that_overlap_become_one(tmp_path: Path) -> None:
    path = put(tmp_path, "a.srt", cues(
        (0, 2, "one"), (2, 5, "two"), (3, 4, "three"), (6, 7, "five"), (5.05, 6.05, "four"), (8, 9, "six"),
        (8, 9, "six"), (9, 10, "seven"),
    ))  # fmt: skip
    assert times_and_texts(path) == [
        (0, 2, "one"), (2, 5, "two three"), (6, 7, "five"), (5.05, 6.05, "four"), (8, 9, "six"), (9, 10, "seven"),
    ]  # fmt: skip
    voices = cues((0, 2, "<v Ann>one"), (1, 3, "<v Bo>two"), (4, 5, "<v Bo>three"), (6, 7, "four"))
    first, *_ = read_segments(put(tmp_path, "a.vtt", f"WEBVTT\n\n{voices}"))
    assert isinstance(first, Segment) and (first.text, first.speaker, first.end_seconds) == ("one two", None, 3.0)


def test_cues_that_stay_while_the_next_is_said_end_as_that_begins(tmp_path: Path) -> None:
    path = put(tmp_path, "a.srt", cues((0, 4, "one"), (2, 6, "two"), (4, 8, "three"), (6, 9, "four"), (9, 10, "five")))
    assert times_and_texts(path) == [(0, 2, "one"), (2, 4, "two"), (4, 6, "three"), (6, 9, "four"), (9, 10, "five")]


def test_entities_are_characters(tmp_path: Path) -> None:
    path = put(tmp_path, "a.srt", cues((0, 1, "R&amp;D &gt;&gt; a&nbsp;b &lt;i&gt; AT&T &nope; &")))
    assert times_and_texts(path) == [(0, 1, "R&D >> a b <i> AT&T &nope; &")]


def test_wrong_times_are_an_error_among_good_cues(tmp_path: Path) -> None:
    digits = "9" * 20
    text = f"1\n{digits}:00:00,0 --> {digits}:00:01,0\nx\n2\n00:00:01,0 --> 00:00:02,0\ny\n3\n00:0:5 --> 00:0:6\nz\n"
    wrong, good, also_wrong = read_segments(put(tmp_path, "a.srt", text))
    assert isinstance(good, Segment) and good.text == "y"
    assert "a.srt:2: a subtitle must have times" in str(wrong) and "a.srt:8: a subtitle must" in str(also_wrong)
    wrong_intervals = '0 3.5 3\n0 1e999 "a"\n1e308 1e309 "b"\n0 1.5 '
    found = read_segments(put(tmp_path, "a.TextGrid", SHORT_GRID.replace("0 3.5 1\n0 1.5 ", wrong_intervals)))
    assert [type(each) for each in found] == [DataError, DataError, Segment]
    assert "a.TextGrid:10: a segment must end within 1e+09 s, got 0 to inf s" in str(found[0])


def test_a_textgrid_with_a_count_of_5000_digits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.TextGrid:9: .* a whole number of at most 9 digits here, got '9{39}$"):
        read_segments(put(tmp_path, "a.TextGrid", SHORT_GRID.replace("0 3.5 1", f"0 3.5 {'9' * 5000}")))


@pytest.mark.parametrize(
    "begin",
    ["<v ", "<v.a", "<v a ", "<", "</a", "{\\", "{\\a", "&#", "&a;", "1:1", "-->", "1:1-->", "a ", " ", "\n", "9"],
)
def test_a_megabyte_of_beginnings_is_soon_read(tmp_path: Path, begin: str) -> None:
    """The voice pattern took 25 s for 60 KB of the first, and would take two hours for this."""
    text = f"WEBVTT\n\n00:00.000 --> 00:01.000\n{begin * (1_000_000 // len(begin))}\n"
    assert len(read_segments(put(tmp_path, "a.vtt", text))) <= 2


@pytest.mark.parametrize("begin", ['"', '""', '"a', "1", "1e", "1.", "<exists", "-", "1 "])
def test_a_megabyte_of_a_textgrid_is_soon_refused(tmp_path: Path, begin: str) -> None:
    with pytest.raises(DataError, match="a TextGrid must have"):
        read_segments(put(tmp_path, "a.TextGrid", '"ooTextFile" "TextGrid" ' + begin * (1_000_000 // len(begin))))
