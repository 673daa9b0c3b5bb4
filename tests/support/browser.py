"""A real Chromium, and a page in it that tells of everything it should not have done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

Scheme = Literal["light", "dark"]
REQUIRE_BROWSER = "PORTWRIGHT_REQUIRE_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, headless; without one the test is skipped, or fails where one is required."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get(REQUIRE_BROWSER):
            pytest.fail(f"{REQUIRE_BROWSER} is set, and there is no Chromium: apt-get install chromium")
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Opened:
    """A page that was opened from a file."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """Console errors and warnings, uncaught errors, dialogs and requests beyond the file itself."""

    def say(self, complaint: str) -> None:
        self.complaints.append(complaint)

    def dismiss(self, dialog: Dialog) -> None:
        self.say(f"dialog: {dialog.message}")
        dialog.dismiss()


@contextmanager
def opened(browser: Browser, path: Path, width: int, scheme: Scheme) -> Iterator[Opened]:
    """The file in a window of that width."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        page = context.new_page()
        found = Opened(page)
        page.on("console", lambda message: found.say(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: found.say(f"error: {error}"))
        page.on("dialog", found.dismiss)
        page.on("request", lambda request: None if request.url == path.as_uri() else found.say(request.url))
        page.goto(path.as_uri())
        yield found
    finally:
        context.close()
