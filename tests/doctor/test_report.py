"""The doctor's reports: every finding in each of them, nothing a browser or terminal would take for a command."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.doctor.examination import Examination, examine
from asr.doctor.report import to_html, to_json, to_table
from tests.doctor.voices import SAMPLE_RATE, Corpus, voice

NASTY = "quick </td><script>alert('1')</script> \u202ebrown \x1b[31mfox & co"


@pytest.fixture(scope="module")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Examination:
    """A corpus with two clipped utterances, a missing one, a nasty text on loud sound, and a note."""
    rng = np.random.default_rng(0)
    corpus = Corpus(tmp_path_factory.mktemp("ill"), rng)
    for line, gain in ((3, 20.0), (5, 50.0)):
        samples, _ = soundfile.read(corpus.sound("train", line))
        corpus.replace_sound("train", line, np.clip(gain * samples, -1, 1))
    corpus.sound("train", 4).unlink()
    corpus.set_text("train", 6, NASTY)
    corpus.replace_sound("train", 6, voice(rng, seconds=2.0) + 0.2)
    corpus.set_text("train", 8, "vex dogs")
    corpus.set_text("test", 2, "vex dogs")
    return examine({str(path): split for split, path in corpus.manifests.items()})


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
    assert seen.tags.count("svg") == 3 and len(seen.sounds) == 3
    first, second = (ill.cases[line - 1].utterance.text for line in (5, 3))
    assert seen.text.index(first) < seen.text.index(second)  # the more clipped one


def test_the_clips_can_be_heard(ill: Examination) -> None:
    sounds = [base64.b64decode(sound.partition(",")[2]) for sound in Page(to_html(ill)).sounds]
    samples, rate = soundfile.read(io.BytesIO(sounds[0]))
    whole, _ = soundfile.read(ill.cases[4].utterance.audio)
    assert rate == SAMPLE_RATE and abs(len(samples) - len(whole)) < 3000  # MP3 pads
    assert np.abs(samples).max() > 0.9


def test_the_bars_of_a_histogram_are_all_utterances(ill: Examination) -> None:
    svg = re.findall(r"<svg.*?</svg>", to_html(ill), re.DOTALL)[0]
    assert sum(int(count.replace(",", "")) for count in re.findall(r": ([\d,]+)</title>", svg)) == 29


def test_the_table_fits_its_width(ill: Examination) -> None:
    table = to_table(ill, width=80)
    lines = table.splitlines()
    assert all(len(line) <= 80 or " " not in line.strip() for line in lines)
    assert lines[0].startswith("2 manifests, 30 utterances, 0.02 hours in 30 files, examined in")
    assert [line.split()[:3] for line in lines if line.startswith(("missing ", "clipped ", "dc-", "common"))] == [
        ["missing", "broken", "1"], ["clipped", "suspect", "2"], ["dc-offset", "suspect", "1"],
        ["common-text", "note", "1"],
    ]  # fmt: skip
    joined = " ".join(table.split())
    for finding in ill.findings:
        place = f"{finding.manifest}:{finding.line}: {finding.kind}: {finding.id}: "
        assert (place in joined) == (finding.level != "note")
    assert "\x1b" not in table and "\u202e" not in table


def test_the_table_says_what_it_leaves_out(ill: Examination) -> None:
    assert "... and 1 more of clipped" in to_table(ill, most=1)
    assert "more of" not in to_table(ill, most=0)


def test_json_has_everything(ill: Examination) -> None:
    document = json.loads(to_json(ill))
    assert document["counts"] == {"missing": 1, "clipped": 2, "dc-offset": 1, "common-text": 1, "marks": 1}
    assert document["healthy"] is False and document["utterances"] == 30
    assert [entry["line"] for entry in document["findings"]] == [finding.line for finding in ill.findings]
    quartiles = document["measured"]["duration"]["quartiles"]
    assert quartiles == sorted(quartiles) and quartiles[0] >= 2.0 and quartiles[-1] <= 2.4


def test_a_healthy_corpus(tmp_path: Path, rng: np.random.Generator) -> None:
    corpus = Corpus(tmp_path, rng, counts=(12, 2))
    examination = examine({str(path): split for split, path in corpus.manifests.items()})
    assert to_table(examination).endswith(
        "0 broken, 0\nsuspect\n\nnothing is wrong\n"
    ) or "nothing is wrong" in to_table(examination)
    assert "Nothing is wrong." in to_html(examination)
    assert json.loads(to_json(examination))["findings"] == []
