"""A headless Chromium for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@contextmanager
def browsing(*flags: str) -> Iterator[Callable[..., tuple[Any, list[str]]]]:
    """A function that opens a page and lists its problems: errors, and requests for anything but itself."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no Chromium driver is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])

        def open_page(url: str, **options: Any) -> tuple[Any, list[str]]:
            page, problems = browser.new_page(**options), []
            page.set_default_timeout(60_000)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda message: message.type == "error" and problems.append(message.text))
            page.on(
                "request",
                lambda request: request.url.startswith((url, "blob:", "data:")) or problems.append(request.url),
            )
            page.goto(url)
            return page, problems

        yield open_page
        browser.close()
