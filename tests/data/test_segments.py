"""Subtitles and TextGrids: hand-written examples of each format, and what `asr.formats` itself writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr.data.segments import Segment, read_segments, read_text
from asr.errors import DataError
from asr.formats import to_srt, to_vtt
from asr.transcript import Hypothesis, Timeline, Transcript, Word

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
        ("a.TextGrid", '"ooTextFile" "TextGrid" 0 1 <exists> 1.5', "a.TextGrid:1: .* a whole number here, got '1.5'"),
        ("a.TextGrid", '"ooTextFile" "TextGrid" 0 1 <exists> 1 "IntervalTier" "a" 0 1 1 0 5% "x"',
         "a.TextGrid:1: a TextGrid must have seconds here, got '5%'"),
        ("a.TextGrid", '"ooTextFile" "TextGrid" 0 1 <exists> 0', "a tier of intervals , but its tiers are: none"),
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
        ("a.srt", SRT + "\nstray\n", r"a.srt:10: a subtitle must.*'stray'; it and the one before are left out, of"),
        ("a.srt", "00:00:03,0 --> 00:00:02,0\nhm\n", "a.srt:1: a segment must end after it begins, got 3 to 2 s"),
    ],
)  # fmt: skip
def test_a_cue_that_is_wrong_is_said_in_its_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    (wrong,) = [found for found in read_segments(tmp_path / name) if isinstance(found, DataError)]
    with pytest.raises(DataError, match=message):
        raise wrong


def test_a_tier_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must have a tier of intervals 'Cy', but its tiers are: 'Ann', 'Bo'"):
        read_segments(put(tmp_path, "a.TextGrid", LONG_GRID), tier="Cy")


def test_text_of_any_encoding(tmp_path: Path) -> None:
    assert read_text(put(tmp_path, "a.txt", "\ufeffGrüße")) == "Grüße"
    assert read_text(put(tmp_path, "a.txt", "Grüße", "latin-1"), "latin-1") == "Grüße"
    with pytest.raises(DataError, match=r"a.txt:2: must be text in utf-8, or say .* with --encoding: invalid"):
        read_text(put(tmp_path, "a.txt", "one\nGrüße", "latin-1"))
    with pytest.raises(DataError, match=r"none.txt: cannot be read: No such file"):
        read_text(tmp_path / "none.txt")
