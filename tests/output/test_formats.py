from __future__ import annotations

import html
import itertools
import json
import re
import unicodedata
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from asr.errors import ConfigError
from asr.output.formats import ALIGNMENT_WRITERS, WRITERS, to_explanation, write
from asr.output.subtitles import SubtitleOptions
from asr.text.aligned_text import AlignedText, Missing, Segment, Unspoken
from asr.text.transcript import Hypothesis, SpottedHotword, Timeline, Transcript, Word, find_words

FRAME = 0.04


def make_transcript(
    entries: list[tuple[str, int, int]], *, text: str | None = None, duration_seconds: float = 7200.0, **more
) -> Transcript:
    """Words with their first frame and the frame after their last; the text is theirs with spaces unless given."""
    timeline = Timeline(frame_seconds=FRAME, duration_seconds=duration_seconds)
    text = " ".join(word for word, _, _ in entries) if text is None else text
    words = tuple(
        Word(text=word, start_frame=start, end_frame=end, confidence=0.98761, timeline=timeline)
        for word, start, end in entries
    )
    hypothesis = Hypothesis(text=text, score=-12.345678, tokens=(), spans=())
    return Transcript(text=text, words=words, hypotheses=(hypothesis,), timeline=timeline, **more)


def speak(text: str, *, frames_a_word: int = 8, first: int = 0, **more) -> Transcript:
    """The text, word after word without a pause."""
    spans = list(find_words(text))
    entries = [
        (text[a:b], first + i * frames_a_word, first + (i + 1) * frames_a_word - 1) for i, (a, b) in enumerate(spans)
    ]
    return make_transcript(entries, text=text, **more)


EMPTY = make_transcript([], duration_seconds=1.5)
SHORT = make_transcript(
    [("HELLO", 25, 40), ("WORLD", 45, 60)],
    duration_seconds=3.0001,
    name="my file",
    model="an4",
    options={"beam_width": 1},
)


ASS_HEADER = WRITERS["ass"](EMPTY)


# Parsers of the two subtitle formats, written from their descriptions and not from the writers.


def milliseconds(stamp: str, mark: str) -> int:
    match = re.fullmatch(rf"(\d\d+):([0-5]\d):([0-5]\d){re.escape(mark)}(\d\d\d)", stamp)
    assert match, stamp
    hours, minutes, seconds, thousandths = map(int, match.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths


def parse_cue(lines: list[str], mark: str) -> tuple[int, int, list[str]]:
    start, arrow, end = lines[0].split(" ")
    assert arrow == "-->"
    assert lines[1:] and all(lines[1:])
    return milliseconds(start, mark), milliseconds(end, mark), lines[1:]


def parse_srt(document: str) -> list[tuple[int, int, list[str]]]:
    assert document == "" or document.endswith("\n\n")
    blocks = document.split("\n\n")[:-1]
    cues = []
    for number, block in enumerate(blocks, start=1):
        lines = block.split("\n")
        assert lines[0] == str(number)
        cues.append(parse_cue(lines[1:], ","))
    return cues


def parse_vtt(document: str) -> list[tuple[int, int, list[str]]]:
    header, *blocks = document.removesuffix("\n\n").split("\n\n")
    assert header == "WEBVTT"
    cues = []
    for block in blocks:
        start, end, lines = parse_cue(block.split("\n"), ".")
        assert not re.search(r"<|-->|&(?!amp;|lt;|gt;)", "\n".join(lines))
        cues.append((start, end, [html.unescape(line) for line in lines]))
    return cues


def columns(line: str) -> int:
    return len(line) + sum(unicodedata.east_asian_width(character) in ("W", "F") for character in line)


def test_the_parsers_read_a_published_example():
    srt = "1\n00:02:16,612 --> 00:02:19,376\nSenator, we're making\nour final approach.\n\n"  # SubRip, on Wikipedia
    assert parse_srt(srt) == [(136612, 139376, ["Senator, we're making", "our final approach."])]
    vtt = "WEBVTT\n\n00:00:13.000 --> 00:00:16.100\nAT&amp;T &lt;3\n\n"
    assert parse_vtt(vtt) == [(13000, 16100, ["AT&T <3"])]


def test_the_formats_by_hand():
    written = {name: write(SHORT) for name, write in WRITERS.items()}
    assert ASS_HEADER.startswith("[Script Info]\nScriptType: v4.00+\n")
    assert written == {
        "txt": "HELLO WORLD\n",
        "json": '{"text": "HELLO WORLD", "segments": ['
        '{"id": 0, "start": 1.0, "end": 2.4, "text": "HELLO WORLD", "words": ['
        '{"text": "HELLO", "start": 1.0, "end": 1.6, "confidence": 0.9876}, '
        '{"text": "WORLD", "start": 1.8, "end": 2.4, "confidence": 0.9876}], "confidence": 0.9876}], '
        '"words": [{"text": "HELLO", "start": 1.0, "end": 1.6, "confidence": 0.9876}, '
        '{"text": "WORLD", "start": 1.8, "end": 2.4, "confidence": 0.9876}], '
        '"hypotheses": [{"text": "HELLO WORLD", "score": -12.3457}], '
        '"duration": 3.0, "model": "an4", "options": {"beam_width": 1}}\n',
        "srt": "1\n00:00:01,000 --> 00:00:02,400\nHELLO WORLD\n\n",
        "vtt": "WEBVTT\n\n00:00:01.000 --> 00:00:02.400\nHELLO WORLD\n\n",
        "ass": ASS_HEADER + "Dialogue: 0,0:00:01.00,0:00:02.40,Default,,0,0,0,,HELLO WORLD\n",
        "ctm": "my_file 1 1.000 0.600 HELLO 0.988\nmy_file 1 1.800 0.600 WORLD 0.988\n",
        "tsv": "start\tend\ttext\n1000\t2400\tHELLO WORLD\n",
    }


def test_an_empty_transcript_is_fine_in_each():
    written = {name: write(EMPTY) for name, write in WRITERS.items()}
    assert json.loads(written.pop("json")) == {
        "text": "",
        "segments": [],
        "words": [],
        "hypotheses": [{"text": "", "score": -12.3457}],
        "duration": 1.5,
        "model": "",
        "options": {},
    }
    assert written == {
        "txt": "\n",
        "srt": "",
        "vtt": "WEBVTT\n\n",
        "ass": ASS_HEADER,
        "ctm": "",
        "tsv": "start\tend\ttext\n",
    }


def test_json_is_one_line_and_keeps_its_characters():
    line = WRITERS["json"](speak('好棒棒 "é"'))
    assert line.count("\n") == 1 and line.endswith("\n")
    assert "好棒棒" in line and "é" in line
    assert [word["text"] for word in json.loads(line)["words"]] == ["好", "棒", "棒", '"é"']


def test_json_has_the_scores_and_hotwords_of_each_hypothesis():
    spotted = (
        SpottedHotword(text="HELLO", start_frame=25, end_frame=40),
        SpottedHotword(text="NEW WORLD", start_frame=45, end_frame=80),  # the last frame is cut short by the end
    )
    facts = {"tokens": (), "spans": ()}
    hypotheses = (
        Hypothesis(text="a", score=-1.23456, acoustic=-9.87654, lm=-2.0, hotwords=spotted, **facts),
        Hypothesis(text="b", score=-3.0, acoustic=-3.0, **facts),
        Hypothesis(text="c", score=-4.0, lm=0.0, **facts),
    )
    document = json.loads(WRITERS["json"](replace(SHORT, hypotheses=hypotheses)))
    assert document["hypotheses"] == [
        {
            "text": "a", "score": -1.2346, "acoustic": -9.8765, "lm": -2.0,
            "hotwords": [
                {"text": "HELLO", "start": 1.0, "end": 1.6}, {"text": "NEW WORLD", "start": 1.8, "end": 3.0}
            ],
        },
        {"text": "b", "score": -3.0, "acoustic": -3.0},
        {"text": "c", "score": -4.0, "lm": 0.0},
    ]  # fmt: skip


def test_json_times_are_milliseconds_two_hours_in():
    words = json.loads(WRITERS["json"](speak("A B", first=179_983)))["words"]
    assert [(word["start"], word["end"]) for word in words] == [(7199.32, 7199.6), (7199.64, 7199.92)]


def test_hours_are_written():
    (cue,) = WRITERS["srt"](speak("A", first=91_000)).split("\n\n")[:-1]
    assert cue == "1\n01:00:40,000 --> 01:00:40,834\nA"
    assert "01:00:40.000 --> 01:00:40.834" in WRITERS["vtt"](speak("A", first=91_000))


def test_ctm_fields_and_durations_add_up():
    transcript = speak("ONE TWO THREE", first=3, name="folder/a b\tc")
    for line, word in zip(WRITERS["ctm"](transcript).splitlines(), transcript.words, strict=True):
        utterance, channel, start, duration, text, confidence = line.split(" ")
        assert (utterance, channel, text, confidence) == ("folder/a_b_c", "1", word.text, "0.988")
        assert float(start) == pytest.approx(word.start, abs=5e-4)
        assert float(start) + float(duration) == pytest.approx(word.end, abs=5e-4)
    assert WRITERS["ctm"](speak("ONE")).startswith("audio 1 0.000 0.280 ONE")


def test_ctm_has_the_channels_of_a_call_one_after_the_other():
    entries = [("HOW", 0, 25), ("YES", 25, 50), ("ARE", 50, 75), ("YOU", 75, 100)]
    transcript = make_transcript(entries, duration_seconds=8.0, name="call")
    how, yes, are, you = with_speakers(transcript, "CHANNEL_0", "CHANNEL_1", "CHANNEL_0", "CHANNEL_0").words
    transcript = replace(transcript, text="HOW ARE YES YOU", words=(how, are, yes, you))
    lines = [line.split()[1:5] for line in WRITERS["ctm"](transcript).splitlines()]
    assert [(channel, start, word) for channel, start, _, word in lines] == [
        ("1", "0.000", "HOW"), ("1", "2.000", "ARE"), ("1", "3.000", "YOU"), ("2", "1.000", "YES")
    ]  # fmt: skip


def test_ctm_has_no_control_characters_of_a_name():
    evil = "evil\x1b[31m\n\x07name\x9b1m\x7f"
    assert WRITERS["ctm"](speak("ONE", name=evil)).startswith("evil_[31m_name_1m 1 0.000 0.280 ONE")
    aligned = replace(ALIGNED, name=evil)
    assert ALIGNMENT_WRITERS["ctm"](aligned, "word").startswith("evil_[31m_name_1m 1 ")
    assert WRITERS["ctm"](speak("ONE", name="\x1b\n")).startswith("audio 1 ")


def test_a_text_has_a_line_for_each_sentence_or_pause():
    entries = [("A", 0, 10), ("BE.", 12, 20), ("C", 21, 30), ("D", 43, 50)]
    assert WRITERS["txt"](make_transcript(entries)) == "A BE.\nC\nD\n"


def test_segments_of_json_are_the_lines_of_the_text():
    entries = [("A", 0, 10), ("B.", 12, 20), ("C", 43, 50)]
    document = json.loads(WRITERS["json"](make_transcript(entries)))
    assert [(segment["id"], segment["text"]) for segment in document["segments"]] == [(0, "A B."), (1, "C")]
    assert [word for segment in document["segments"] for word in segment["words"]] == document["words"]
    assert [segment["end"] for segment in document["segments"]] == [0.8, 2.0]


def with_speakers(transcript: Transcript, *names: str) -> Transcript:
    words = tuple(replace(word, speaker=name) for word, name in zip(transcript.words, names, strict=True))
    return replace(transcript, words=words)


def test_speakers_are_in_each_format():
    entries = [("YES", 25, 50), ("NO", 50, 75), ("NO", 75, 100)]
    transcript = with_speakers(make_transcript(entries, duration_seconds=8.0), "ANN", "BOB", "BOB")
    assert WRITERS["txt"](transcript) == "[ANN]: YES\n[BOB]: NO NO\n"
    assert parse_srt(WRITERS["srt"](transcript)) == [
        (1000, 1916, ["[ANN]: YES"]),
        (2000, 4000, ["[BOB]: NO NO"]),
    ]
    assert parse_vtt(WRITERS["vtt"](transcript)) == parse_srt(WRITERS["srt"](transcript))
    document = json.loads(WRITERS["json"](transcript))
    assert [word["speaker"] for word in document["words"]] == ["ANN", "BOB", "BOB"]
    assert [segment["speaker"] for segment in document["segments"]] == ["ANN", "BOB"]


def test_the_name_of_a_speaker_is_never_alone_in_a_cue():
    entries = [
        ("YES", 25, 50),
        ("INCOMPREHENSIBILITIES", 50, 75),
        *(("EXTRAORDINARILY", 75 + n, 76 + n) for n in range(4)),
    ]
    transcript = with_speakers(make_transcript(entries, duration_seconds=8.0), "ANN", *["SPEAKER_01"] * 5)
    words = parse_srt(WRITERS["srt"](transcript, SubtitleOptions(level="word")))
    assert [lines for _, _, lines in words[:3]] == [
        ["[ANN]: YES"],
        ["[SPEAKER_01]: INCOMPREHENSIBILITIES"],
        ["EXTRAORDINARILY"],
    ]
    assert all(start < end for start, end, _ in words)
    narrow = SubtitleOptions(level="word", line_width=21)
    assert parse_srt(WRITERS["srt"](transcript, narrow))[1][2] == ["[SPEAKER_01]:", "INCOMPREHENSIBILITIES"]
    for options in (None, narrow):
        cues = parse_srt(WRITERS["srt"](transcript, options))
        assert not [lines for _, _, lines in cues if lines == ["[SPEAKER_01]:"]]


def test_highlighted_words_are_marked_one_after_the_other():
    options = SubtitleOptions(highlight_words=True)
    assert WRITERS["vtt"](speak("A <b>", frames_a_word=50), options) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n<u>A</u> &lt;b&gt;\n\n"
        "00:00:02.000 --> 00:00:03.960\nA <u>&lt;b&gt;</u>\n\n"
    )
    assert WRITERS["srt"](speak("A B", frames_a_word=50), options).split("\n")[2] == "<u>A</u> B"
    line = WRITERS["ass"](speak("A {B}", frames_a_word=50), options).splitlines()[-1]
    assert line == "Dialogue: 0,0:00:00.00,0:00:03.96,Default,,0,0,0,,{\\k200}A {\\k196}(B)"


def test_highlighted_cues_show_the_text_of_plain_ones():
    transcript = speak("THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG AND RUNS", frames_a_word=9)
    marked = parse_srt(WRITERS["srt"](transcript, SubtitleOptions(highlight_words=True)))
    ((start, end, lines),) = parse_srt(WRITERS["srt"](transcript))
    assert len(marked) == len(transcript.words)
    assert (marked[0][0], marked[-1][1]) == (start, end)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(marked))
    for (_, _, shown), word in zip(marked, transcript.words, strict=True):
        assert [re.sub("</?u>", "", line) for line in shown] == lines
        assert f"<u>{word.text}</u>" in " ".join(shown)
    ass = WRITERS["ass"](transcript, SubtitleOptions(highlight_words=True)).splitlines()[-1].partition(",,0,0,0,,")[2]
    assert re.sub(r"\{\\k\d+\}", "", ass) == r"\N".join(lines)
    assert sum(map(int, re.findall(r"k(\d+)", ass))) == round((end - start) / 10)


def test_a_cue_for_each_word():
    cues = parse_vtt(WRITERS["vtt"](speak("A B C", frames_a_word=25), SubtitleOptions(level="word")))
    assert cues == [(0, 960, ["A"]), (1000, 1960, ["B"]), (2000, 2960, ["C"])]


def test_write_takes_the_format_of_the_suffix(tmp_path):
    for name, writer in WRITERS.items():
        write(SHORT, tmp_path / f"talk.{name.upper()}")
        assert (tmp_path / f"talk.{name.upper()}").read_text() == writer(SHORT)
    write(SHORT, tmp_path / "talk", format="vtt", subtitles=SubtitleOptions(level="word"))
    assert (tmp_path / "talk").read_text().count("-->") == 2
    with pytest.raises(ConfigError, match=r"written as txt, json, .*, tsv, not as 'doc': talk\.doc"):
        write(SHORT, "talk.doc")


def test_long_text_is_broken_into_two_even_lines():
    transcript = speak("THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG AND RUNS", frames_a_word=9)
    ((_, _, lines),) = parse_srt(WRITERS["srt"](transcript))
    assert lines == ["THE QUICK BROWN FOX JUMPS", "OVER THE LAZY DOG AND RUNS"]


def test_42_columns_are_one_line_and_43_two():
    for length, num_lines in ((40, 1), (41, 2)):
        ((_, _, lines),) = parse_srt(WRITERS["srt"](speak("A " + "B" * length, frames_a_word=40)))
        assert len(lines) == num_lines


def test_chinese_characters_take_two_columns():
    cues = parse_srt(WRITERS["srt"](speak("好棒" * 30, frames_a_word=3)))
    assert [[len(line) for line in lines] for _, _, lines in cues] == [[21, 21], [18]]


def test_no_cue_lasts_more_than_seven_seconds():
    cues = parse_srt(WRITERS["srt"](speak("A B C D E F G", frames_a_word=50)))  # words of 1.96 s every 2 s
    assert [lines for _, _, lines in cues] == [["A B C"], ["D E"], ["F G"]]  # none alone
    ((start, end, _),) = parse_srt(WRITERS["srt"](make_transcript([("A", 0, 500)])))
    assert (start, end) == (0, 7000)


def test_a_short_cue_stays_for_the_shortest_time_if_it_can():
    entries = [("A", 0, 1), ("B", 60, 61), ("C", 200, 201)]
    cues = parse_srt(WRITERS["srt"](make_transcript(entries, duration_seconds=8.5)))
    assert [(start, end) for start, end, _ in cues] == [(0, 834), (2400, 3234), (8000, 8500)]
    assert WRITERS["tsv"](make_transcript(entries)).splitlines()[1:] == ["0\t40\tA", "2400\t2440\tB", "8000\t8040\tC"]


def test_a_word_too_wide_for_a_line_is_cut():
    cues = parse_srt(WRITERS["srt"](make_transcript([("A" * 100, 0, 100)])))
    lines = [line for _, _, lines in cues for line in lines]
    assert "".join(lines) == "A" * 100 and max(map(len, lines)) == 42
    assert cues[0][0] == 0 and cues[-1][1] >= 4000


@pytest.mark.parametrize("word", ["<i>", "-->", "--->", "&amp;", "a&b", "x-->y", "<", "\\h", "{b}"])
def test_marks_of_the_format_are_only_text(word):
    transcript = speak(f"A {word} B")
    assert parse_vtt(WRITERS["vtt"](transcript))[0][2] == [f"A {word} B"]
    assert parse_srt(WRITERS["srt"](transcript))[0][2] == [re.sub("--+>", "->", f"A {word} B")]
    assert WRITERS["txt"](transcript) == f"A {word} B\n"


def random_transcript(rng: np.random.Generator, *, separator: str, longest: int) -> Transcript:
    """Words at random: most follow at once, some after a pause, and a few last for many seconds."""
    characters = list("ABCé&<>-'" if separator else "我你好棒")
    entries, frame = [], int(rng.integers(0, 20))
    for _ in range(int(rng.integers(1, 120))):
        word = "".join(rng.choice(characters, size=min(int(rng.geometric(0.15)), longest)))
        end = frame + int(rng.integers(1, 12 if rng.random() < 0.98 else 300))
        entries.append((word, frame, end))
        frame = end + int(rng.choice([0, 1, 3, 12, 13, 60]))
    text = separator.join(word for word, _, _ in entries)
    return make_transcript(entries, text=text, duration_seconds=entries[-1][2] * FRAME - rng.uniform(0.0, 0.03))


@pytest.mark.parametrize(("separator", "longest"), [(" ", 42), (" ", 200), ("", 1)])
def test_subtitles_of_random_speech_keep_the_rules_and_lose_nothing(separator, longest):
    rng = np.random.default_rng(20061)
    for _ in range(150):
        transcript = random_transcript(rng, separator=separator, longest=longest)
        cues = parse_vtt(WRITERS["vtt"](transcript))
        last_end = 0
        for start, end, lines in cues:
            assert last_end <= start < end <= round(transcript.duration_seconds * 1000)
            assert end - start <= 7000
            assert len(lines) <= 2
            assert all(columns(line) <= 42 and line == line.strip() for line in lines)
            last_end = end
        said = [separator.join(lines) for _, _, lines in cues]
        if longest <= 42:  # else a word may lie in several lines
            assert separator.join(said) == transcript.text
            assert {start for start, _, _ in cues} <= {round(word.start * 1000) for word in transcript.words}
        assert "".join(said).replace(" ", "") == transcript.text.replace(" ", "")

        srt = parse_srt(WRITERS["srt"](transcript))
        assert [(start, end) for start, end, _ in srt] == [(start, end) for start, end, _ in cues]
        header, *rows = (row.split("\t") for row in WRITERS["tsv"](transcript).splitlines())
        assert header == ["start", "end", "text"]
        assert [text for _, _, text in rows] == WRITERS["txt"](transcript).splitlines()
        assert "".join(text for _, _, text in rows).replace(" ", "") == transcript.text.replace(" ", "")


# Aligned texts.

LINE = Timeline(frame_seconds=FRAME, duration_seconds=4.0)


def make_segment(text: str, start: int, end: int, *parts: Segment) -> Segment:
    return Segment(text=text, start_frame=start, end_frame=end, score=-0.0125, timeline=LINE, parts=parts)


def make_word(text: str, start: int, end: int) -> Segment:
    """A word whose characters share its frames evenly."""
    letters = [letter.upper() for letter in text if letter.isalpha()]
    edges = np.linspace(start, end, len(letters) + 1).astype(int).tolist()
    return make_segment(text, start, end, *map(make_segment, letters, edges[:-1], edges[1:]))


ALIGNED = AlignedText(
    text='"Go," he said -- 3 times --\nto me. 12. Yes & <no>. 4',
    sentences=(
        make_segment(
            '"Go," he said -- 3 times -- to me. 12.', 5, 46,
            make_word('"Go,"', 5, 7), make_word("he", 8, 10), make_word("said", 12, 16), make_word("times", 20, 26),
            make_word("to", 30, 32), make_word("me.", 40, 46),
        ),
        make_segment("Yes & <no>. 4", 60, 75, make_word("Yes", 60, 66), make_word("<no>.", 70, 75)),
    ),
    untimed=("--", "3", "--", "12.", "&", "4"),
    dropped=Counter({"3": 1, "1": 1, "2": 1, "4": 1}),
    score=-3.25,
    timeline=LINE,
    name="a talk",
    model="an4",
)  # fmt: skip


def parse_textgrid(document: str) -> dict[str, list[tuple[float, float, str]]]:
    """The intervals of each tier, which are seen to touch and to fill the time."""
    lines = iter(document.splitlines())
    assert [next(lines) for _ in range(4)] == ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0"]
    values = re.findall(r'^\s*(\w+|intervals: size) = (?:"((?:[^"]|"")*)"|(\S+))$', document, flags=re.MULTILINE)
    pairs = [(key, text.replace('""', '"') if not number else float(number)) for key, text, number in values]
    pairs = pairs[next(i for i, pair in enumerate(pairs) if pair[0] == "size") :]
    duration = float(re.findall(r"^xmax = (\S+)$", document, flags=re.MULTILINE)[0])
    num_tiers = pairs.pop(0)[1]
    tiers: dict[str, list[tuple[float, float, str]]] = {}
    while pairs:
        assert pairs.pop(0) == ("class", "IntervalTier")
        name = pairs.pop(0)[1]
        assert [pairs.pop(0), pairs.pop(0)] == [("xmin", 0.0), ("xmax", duration)]
        count = pairs.pop(0)[1]
        tiers[name] = []
        last_end = 0.0
        for _ in range(int(count)):
            (_, start), (_, end), (_, text) = pairs.pop(0), pairs.pop(0), pairs.pop(0)
            assert start == last_end < end
            tiers[name].append((start, end, text))
            last_end = end
        assert last_end == duration
    assert len(tiers) == num_tiers
    return tiers


@pytest.mark.parametrize("level", ["sentence", "word", "character"])
def test_textgrid_has_tiers_that_touch_down_to_the_level(level):
    tiers = parse_textgrid(ALIGNMENT_WRITERS["TextGrid"](ALIGNED, level))
    assert list(tiers) == ["sentences", "words", "characters"][: len(tiers)]
    assert len(tiers) == {"sentence": 1, "word": 2, "character": 3}[level]
    for name, intervals in tiers.items():
        expected = ALIGNED.segments(name.removesuffix("s"))
        assert [(start, end, text) for start, end, text in intervals if text] == [
            (round(segment.start, 3), round(segment.end, 3), segment.text) for segment in expected
        ]


def test_json_has_segments_down_to_the_level():
    for level, keys in (("sentence", 1), ("word", 2), ("character", 3)):
        document = json.loads(ALIGNMENT_WRITERS["json"](ALIGNED, level))
        tiers = ["sentences", "words", "characters"][:keys]
        assert list(document) == ["text", *tiers, "untimed", "missing", "unspoken", "score", "duration", "model"]
        for tier in tiers:
            segments = ALIGNED.segments(tier.removesuffix("s"))
            assert [entry["text"] for entry in document[tier]] == [segment.text for segment in segments]
    assert document["words"][3] == {"text": "times", "start": 0.8, "end": 1.04, "confidence": 0.9876}
    assert document["text"] == ALIGNED.text and document["untimed"] == list(ALIGNED.untimed)
    assert (document["score"], document["duration"], document["model"]) == (-3.25, 4.0, "an4")
    passages = {
        "missing": (Missing(start=1.0, end=2.5004, heard="A B"),),
        "unspoken": (Unspoken(first=3, end=9, text="c d"),),
    }
    document = json.loads(ALIGNMENT_WRITERS["json"](replace(ALIGNED, **passages), "word"))
    assert document["missing"] == [{"start": 1.0, "end": 2.5, "heard": "A B"}]
    assert document["unspoken"] == [{"first": 3, "end": 9, "text": "c d"}]


def test_ctm_of_an_aligned_text_has_words_or_characters():
    lines = ALIGNMENT_WRITERS["ctm"](ALIGNED, "word").splitlines()
    assert lines[0] == 'a_talk 1 0.200 0.080 "Go," 0.988'
    assert len(lines) == 8
    assert ALIGNMENT_WRITERS["ctm"](ALIGNED, "character").splitlines()[0] == "a_talk 1 0.200 0.040 G 0.988"
    with pytest.raises(ConfigError, match="ctm must have the level word or character"):
        ALIGNMENT_WRITERS["ctm"](ALIGNED, "sentence")


def test_cues_of_sentences_show_words_without_a_time():
    cues = parse_srt(ALIGNMENT_WRITERS["srt"](ALIGNED, "sentence"))
    assert [lines for _, _, lines in cues] == [['"Go," he said -- 3 times -- to me. 12.'], ["Yes & <no>. 4"]]
    assert [(start, end) for start, end, _ in cues] == [(200, 2100), (2400, 3234)]
    assert parse_vtt(ALIGNMENT_WRITERS["vtt"](ALIGNED, "sentence")) == cues


def test_cues_of_words_and_characters_hold_one_each():
    for level in ("word", "character"):
        cues = parse_vtt(ALIGNMENT_WRITERS["vtt"](ALIGNED, level))
        assert [lines for _, _, lines in cues] == [[segment.text] for segment in ALIGNED.segments(level)]
        assert [start for start, _, _ in cues] == [round(segment.start * 1000) for segment in ALIGNED.segments(level)]
        assert all(end <= following for (_, end, _), (following, _, _) in itertools.pairwise(cues))


def test_a_long_sentence_has_several_cues_and_none_has_two_sentences():
    words = [make_word(f"word{chr(97 + number % 26)}", number * 2, number * 2 + 2) for number in range(40)]
    long = make_segment(" ".join(word.text for word in words), 0, 80, *words)
    short = make_segment("End.", 81, 82, make_word("End.", 81, 82))
    aligned = AlignedText(
        text=f"{long.text} End.", sentences=(long, short), untimed=(), dropped=Counter(), score=-1.0, timeline=LINE
    )
    cues = parse_srt(ALIGNMENT_WRITERS["srt"](aligned, "sentence"))
    assert len(cues) > 3 and cues[-1][2] == ["End."]
    assert " ".join(line for _, _, lines in cues for line in lines) == aligned.text
    assert all(columns(line) <= 42 for _, _, lines in cues for line in lines)


def test_an_explanation_has_the_parts_of_each_score_and_marks_what_differs():
    timeline = Timeline(frame_seconds=0.04, duration_seconds=1.0)
    facts = {"tokens": (), "spans": ()}
    hypotheses = (
        Hypothesis(text="A PEAR", score=-2.0, acoustic=-3.0, rnn=-4.0, word_score=1.0, hotword_score=2.0, **facts),
        Hypothesis(text="A PAIR", score=-9.25, acoustic=-2.25, rnn=-16.0, word_score=1.0, **facts),
        Hypothesis(text="PEAR", score=-30.0, acoustic=-20.0, rnn=-22.0, word_score=1.0, **facts),
    )
    words = tuple(
        Word(text=text, start_frame=frame, end_frame=frame + 1, confidence=1.0, timeline=timeline)
        for frame, text in enumerate(("A", "PEAR"))
    )
    transcript = Transcript(
        text="A PEAR", words=words, hypotheses=hypotheses, timeline=timeline, options={"rescore_weight": 0.5}
    )
    assert to_explanation(transcript).splitlines() == [
        "     score  acoustic       rnn     words  hotwords  text",
        "     -2.00     -3.00     -2.00      1.00      2.00  A [PEAR]",
        "     -9.25     -2.25     -8.00      1.00      0.00  A [PAIR]",
        "    -30.00    -20.00    -11.00      1.00      0.00  [] PEAR",
    ]


def test_an_explanation_of_one_greedy_hypothesis_marks_nothing():
    timeline = Timeline(frame_seconds=0.04, duration_seconds=1.0)
    best = Hypothesis(text="", score=-0.5, tokens=(), spans=())
    transcript = Transcript(text="", words=(), hypotheses=(best,), timeline=timeline)
    assert to_explanation(transcript).splitlines() == ["     score  acoustic  text", "     -0.50     -0.50"]
