"""The page in a browser: nothing from elsewhere, a microphone that plays a recording, a file, and what can be saved."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
import soundfile

from asr.importing.subtitles import read_cues
from tests.browser import browsing, needs_chromium
from tests.server.conftest import MERCHANT, Server, serving


class Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))


def test_the_page_needs_nothing_else(server: Server):
    answer = httpx.get(server.url)
    assert not re.search(r"https?://(?!\")", answer.text.replace('"https:"', "").replace("https:// and", ""))
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_control_has_a_name(server: Server):
    page = Tags()
    page.feed(httpx.get(server.url).text)
    assert not any(name.startswith("on") or name == "style" for _, attributes in page.tags for name in attributes)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    roles = {attributes.get("id"): attributes.get("role") for _, attributes in page.tags}
    assert (roles["segments"], roles["status"]) == ("log", "status")


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Opens pages in Chromium, whose microphone plays the recording once."""
    sound = tmp_path_factory.mktemp("microphone") / "merchant.wav"
    samples, rate = soundfile.read(MERCHANT, dtype="int16")
    soundfile.write(sound, samples, rate)
    flags = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with browsing(*flags, f"--use-file-for-fake-audio-capture={sound}%noloop") as open_page:
        yield open_page


@needs_chromium
def test_words_appear_while_one_speaks(server: Server, browse):
    page, problems = browse(server.url)
    page.keyboard.press("Control+Space")
    page.wait_for_selector("#record[aria-pressed=true]")
    page.wait_for_selector("#unstable:not(:empty), #stable:not(:empty)")
    assert page.inner_text("#status") == "Listening"
    page.wait_for_timeout(4000)
    page.keyboard.press("Control+Space")
    page.wait_for_selector("#record[aria-pressed=false]")
    assert page.inner_text("#status") == "Done"
    words = page.locator("#segments .w").all_inner_texts()
    assert len(words) > 3 and page.inner_text("#open").strip() == ""
    assert not problems


@needs_chromium
def test_a_file_and_what_can_be_saved(server: Server, browse, recognizer):
    transcript = recognizer.transcribe(MERCHANT)
    page, problems = browse(server.url)
    assert page.locator("#srt").is_disabled()
    page.set_input_files("#file", MERCHANT)
    page.wait_for_selector("#segments li")
    words = page.locator("#segments .w")
    assert words.all_inner_texts() == [word.text for word in transcript.words]
    shades = words.evaluate_all("all => all.map(word => Number(word.style.getPropertyValue('--c')))")
    assert shades == pytest.approx([word.confidence for word in transcript.words], abs=0.006)

    def saved(suffix: str) -> str:
        with page.expect_download() as download:
            page.click(f"#{suffix}")
        assert download.value.suggested_filename == f"merchant.{suffix}"
        return Path(download.value.path()).read_text(encoding="utf-8")

    assert saved("txt").split() == transcript.text.split()
    document = json.loads(saved("json"))
    assert document["text"] == transcript.text
    assert [word["start"] for segment in document["segments"] for word in segment["words"]] == pytest.approx(
        [word.start for word in transcript.words], abs=0.001
    )
    cues = list(read_cues(saved("srt"), Path("merchant.srt")))
    assert [word for cue in cues for line in cue.lines for word in line] == transcript.text.split()
    assert not problems


@needs_chromium
def test_hotwords_are_sent(server: Server, browse, recognizer):
    page, _ = browse(server.url)
    page.get_by_label("Words to expect").fill("tentery:30, mery")
    page.set_input_files("#file", MERCHANT)
    page.wait_for_selector("#segments li")
    expected = recognizer.with_decoding({"hotwords": ("TENTERY:30", "MERY")}).transcribe(MERCHANT).text
    assert " ".join(page.locator("#segments .w").all_inner_texts()) == expected


@needs_chromium
def test_what_is_not_sound_is_told_and_a_token_is_asked_for(browse, tmp_path):
    (tmp_path / "notes.txt").write_text("not sound")
    token = "a-token-of-some-length"
    with serving(ASR_SERVE_TOKEN=token) as server:
        page, _ = browse(server.url, viewport={"width": 360, "height": 640})
        assert page.get_by_label("Token").is_hidden()
        page.set_input_files("#file", MERCHANT)
        page.wait_for_selector("#status.error")
        assert page.inner_text("#status") == "a valid token must be given, as Authorization: Bearer TOKEN"
        page.get_by_label("Token").fill(token)
        page.set_input_files("#file", tmp_path / "notes.txt")
        page.locator("#status.error", has_text="file must be sound").wait_for()
        page.set_input_files("#file", MERCHANT)
        page.wait_for_selector("#segments li")
        page.click("#record")  # the WebSocket has the token, too
        page.wait_for_selector("#unstable:not(:empty), #stable:not(:empty)")
        page.click("#record")
        page.wait_for_selector("#record[aria-pressed=false]")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360  # nothing is cut off on a phone
