"""The page of a transcript: its words, times and sound, nothing from outside, nothing that is not escaped."""

from __future__ import annotations

import base64
import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

from asr.output.formats import transcript_cues
from asr.output.page import to_page
from asr.output.subtitles import SubtitleOptions
from tests.output.test_formats import EMPTY, speak

EVIL = "</script><img"


class Reader(HTMLParser):
    """The tags, and for each word its attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[tuple[dict[str, str], str]] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][1].get("class") == "w" and data.strip():
            self.words.append((self.tags[-1][1], data))


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_words_have_their_times_and_confidences():
    transcript = speak("A B & <i> C", frames_a_word=25)
    reader = read(to_page(transcript, b"sound"))
    assert [(float(facts["data-start"]), text) for facts, text in reader.words] == [
        (word.start, word.text) for word in transcript.words
    ]
    assert {facts["style"] for facts, _ in reader.words} == {"--c:0.99"}


def test_each_cue_is_a_line_with_what_the_subtitles_show():
    transcript = speak("THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG AND RUNS " * 4, frames_a_word=9)
    for options in (SubtitleOptions(), SubtitleOptions(line_width=20)):
        items = [facts for tag, facts in read(to_page(transcript, b"", subtitles=options)).tags if tag == "li"]
        cues = transcript_cues(transcript, options)
        assert [(item["data-start"], item["data-end"], item["data-lines"].split("\n")) for item in items] == [
            (str(cue.start / 1000), str(cue.end / 1000), cue.texts) for cue in cues
        ]


def test_the_sound_is_in_the_page_and_nothing_comes_from_outside():
    page = to_page(speak("A"), bytes(range(256)))
    ((source,),) = [[facts["src"]] for tag, facts in read(page).tags if tag == "audio"]
    assert base64.b64decode(source.removeprefix("data:audio/mpeg;base64,")) == bytes(range(256))
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|@import|url\(", page)


def test_names_and_words_cannot_become_markup():
    transcript = speak(f'{EVIL} "quoted" {EVIL}')
    transcript = replace(transcript, name=f"folder/{EVIL} $title")
    page = to_page(transcript, b"")
    assert page.count("</script>") == 1 and "<img" not in page
    assert html.escape(f"folder/{EVIL} $title") in page
    assert json.loads(re.search(r"const name = (.*), lineWidth", page)[1]) == "script><img $title"


def test_speakers_are_names_without_a_time():
    transcript = speak("A B")
    words = tuple(replace(word, speaker="ANN") for word in transcript.words)
    page = to_page(replace(transcript, words=words), b"")
    assert '<span class="speaker">[ANN]:</span> <span class="w"' in page


def test_of_nothing_said_there_is_a_page():
    assert not [tag for tag, _ in read(to_page(EMPTY, b"")).tags if tag == "li"]
