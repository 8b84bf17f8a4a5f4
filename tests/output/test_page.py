"""The page of a transcript: its words, times and sound, nothing from outside, nothing that is not escaped."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import asr
from asr.output.formats import transcript_cues
from asr.output.page import to_page
from asr.output.subtitles import SubtitleOptions
from tests.browser import browsing, needs_chromium
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


@pytest.fixture(scope="module")
def browse() -> Iterator[Any]:
    with browsing() as open_page:
        yield open_page


@needs_chromium
def test_a_browser_plays_lights_words_and_saves_what_was_edited(browse, tmp_path):
    transcript = replace(speak("ONE TWO THREE FOUR", frames_a_word=25), name="numbers")
    seconds = transcript.words[-1].end + 1
    soundfile.write(tmp_path / "sound.mp3", np.zeros(round(seconds * 16_000)), 16_000, format="MP3")
    (tmp_path / "numbers.html").write_text(to_page(transcript, (tmp_path / "sound.mp3").read_bytes()))
    page, problems = browse((tmp_path / "numbers.html").as_uri())
    words = page.locator(".w")
    assert words.all_inner_texts() == ["ONE", "TWO", "THREE", "FOUR"]
    third = transcript.words[2]
    words.nth(2).click()
    page.wait_for_selector(".w.now")
    assert page.locator(".w.now").all_inner_texts() == ["THREE"]
    assert page.evaluate("sound.currentTime") == pytest.approx(third.start, abs=0.01)
    page.keyboard.press("Control+Backspace")
    assert page.evaluate("sound.currentTime") == pytest.approx(max(third.start - 3, 0), abs=0.01)

    def saved(button: str) -> str:
        with page.expect_download() as download:
            page.click(f"#{button}")
        return Path(download.value.path()).read_text(encoding="utf-8")

    assert saved("srt") == asr.to_srt(transcript)
    words.nth(3).click()
    page.keyboard.press("End")
    page.keyboard.type(" five")
    assert saved("text") == "ONE TWO THREE FOUR five\n"
    assert "FOUR five" in saved("srt")
    edited = saved("page")
    assert "FOUR five" in edited and 'class="w now"' not in edited
    assert not problems
