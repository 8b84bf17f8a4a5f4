"""The doctor's page: every finding, nothing a browser would take for a command, and what the model heard."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import soundfile

from asr.doctor.checks import TextMatch
from asr.doctor.examination import Examination, examine
from asr.doctor.page import to_html
from tests.doctor.voices import NASTY, SAMPLE_RATE, Corpus


class Page(HTMLParser):
    """Tags, texts and sounds of a page; complains of tags that are not closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sounds: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "br", "tr", "td", "th", "p"):
            self.open.append(tag)
        self.sounds += [value or "" for name, value in attrs if name == "src"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("tr", "td", "th", "p"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_has_the_worst_first(ill: Examination) -> None:
    page = to_html(ill)
    seen = Page(page)
    assert seen.open == [] and "script" not in seen.tags and not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert NASTY.partition("\x1b")[0] in seen.text
    assert all(finding.message in seen.text for finding in ill.findings)
    assert seen.tags.count("svg") == 3 and len(seen.sounds) == 5  # the nasty text has three findings
    first, second = (ill.cases[line - 1].utterance.text for line in (5, 3))
    assert seen.text.index(first) < seen.text.index(second)  # the more clipped one


def test_the_clips_can_be_heard(ill: Examination) -> None:
    sounds = [base64.b64decode(sound.partition(",")[2]) for sound in Page(to_html(ill)).sounds]
    clips = [soundfile.read(io.BytesIO(sound)) for sound in sounds]
    assert {rate for _, rate in clips} == {SAMPLE_RATE}
    whole, _ = soundfile.read(ill.cases[4].utterance.audio)
    (clip,) = [samples for samples, _ in clips if abs(len(samples) - len(whole)) < 100]  # MP3 pads by less
    assert np.abs(clip).max() > 0.9


def test_the_bars_of_a_histogram_are_all_utterances(ill: Examination) -> None:
    svg = re.findall(r"<svg.*?</svg>", to_html(ill), re.DOTALL)[0]
    assert sum(int(count.replace(",", "")) for count in re.findall(r": ([\d,]+)</title>", svg)) == 29


def test_outliers_of_a_histogram_are_named(ill: Examination) -> None:
    cases = [replace(case, match=TextMatch(cost=0.1 + 0.01 * number)) for number, case in enumerate(ill.cases)]
    cases[7] = replace(cases[7], match=TextMatch(cost=55.5))
    seen = Page(to_html(replace(ill, cases=cases)))
    assert "1 above: up to 55.5" in seen.text and "1 below" not in seen.text


def test_each_text_is_beside_what_was_heard_word_by_word(ill: Examination) -> None:
    heard = {0: "one", 1: "three words more", 5: ill.cases[5].text}
    cases = [
        replace(case, text="two words", match=TextMatch(cost=number, heard=heard[number])) if number in heard else case
        for number, case in enumerate(ill.cases)
    ]
    cases[5] = replace(cases[5], text=ill.cases[5].text)
    page = to_html(replace(ill, cases=cases))
    seen = Page(page)
    assert seen.open == [] and seen.tags.count("script") == 1
    rows = re.findall(r"<tr><td class=number data-value=.*?</tr>", page, re.DOTALL)
    assert [re.findall(r"<td class=number data-value=([\d.]+)", row)[0] for row in rows] == [
        "100.0000",  # one word wrong, one missing
        "100.0000",  # one wrong, one too many
        "0.0000",
    ]
    assert "<del>words</del>" in rows[0] and "<ins>one</ins>" in rows[0]
    assert "<del>two</del> <ins>three</ins> words <ins>more</ins>" in rows[1]
    assert "<del>" not in rows[2] and "alert" not in re.sub("&[^;]*;", "", rows[2]).partition("<small>")[2]
    start = f"{Path(ill.cases[0].utterance.audio).resolve().as_uri()}#t=0.000,"
    assert f'data-sound="{start}' in rows[0]


def test_a_healthy_corpus_has_a_page(tmp_path: Path, rng: np.random.Generator) -> None:
    corpus = Corpus(tmp_path, rng, counts=(12, 2))
    page = to_html(examine({str(path): split for split, path in corpus.manifests.items()}))
    assert "Nothing is wrong." in page and "What the model heard" not in page
