"""A browser, and a page served by a process of its own: what the tests of the page share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip
HOW_TO = "no Chromium was found: install one (Debian: apt install chromium) or run `playwright install chromium`"
PATIENCE = 90_000  # ms; a machine that trains a model at the same time is slow


@dataclass
class Served:
    """A page that is being served. ``root`` is the home of its application."""

    address: str
    root: Path
    process: subprocess.Popen[str]

    def stop(self) -> None:
        """Ends the server as a person would. Pages that are still open complain of it: they are left before."""
        self.process.terminate()
        self.process.wait(30)


# A page that is left cuts its own streams short, and Gradio writes that to the console although nobody is there to
# read it: nothing between these words and the next page is a complaint.
LEAVING = "the page is being left"
TELL_LEAVING = f"window.addEventListener('beforeunload', () => console.debug('{LEAVING}'))"


@dataclass
class Visitor:
    """A person at a browser of their own, and what their browser complained about."""

    context: BrowserContext
    complaints: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()  # what the browser may rightly complain of, in part
    leaving: set[Page] = field(default_factory=set)

    def open(self, served: Served) -> Page:
        """A tab with the page in it, ready to be used."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE)
        page.add_init_script(TELL_LEAVING)
        page.on("console", lambda message: self._note_console(page, message.type, message.text))
        page.on("pageerror", lambda error: self._complain(page, str(error)))
        page.on("domcontentloaded", lambda page: self.leaving.discard(page))
        page.on("request", lambda request: self._note_outsider(request.url, served.address))
        page.goto(served.address)
        settle(page)
        return page

    def leave(self) -> None:
        """Closes every tab."""
        self.context.close()

    def _note_console(self, page: Page, kind: str, text: str) -> None:
        if text == LEAVING:
            self.leaving.add(page)
        elif kind == "error":
            self._complain(page, text)

    def _complain(self, page: Page, text: str) -> None:
        if page not in self.leaving:
            self.complaints.append(text)

    def _note_outsider(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            self.complaints.append(f"asked {url}")


def settle(page: Page) -> None:
    """Waits until the page can be used."""
    page.wait_for_selector("#canvas .welcome", state="attached")
    page.wait_for_selector("#generate_button", state="attached")
    page.wait_for_function("window.pinhole && document.querySelector('#prompt textarea')")
    page.wait_for_timeout(500)


def serve(root: Path, port: int = 0) -> Served:
    """Starts a process that serves the page of the application in ``root``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ui.page_server", str(root), str(port)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    words = process.stdout.readline().split()
    assert "at" in words, "the page's process ended before it answered"
    return Served(words[words.index("at") + 1], root, process)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium: the system's, else Playwright's own, else the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    with playwright.sync_playwright() as driver:
        if found is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip(HOW_TO)
        opened = driver.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page, served for all tests that do no harm to the server."""
    found = serve(tmp_path_factory.mktemp("home"))
    yield found
    found.stop()


@pytest.fixture
def visitor(chromium: Browser) -> Iterator[Visitor]:
    """One person. At the end their browser must have had nothing to complain about."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    person = Visitor(context)
    yield person
    person.leave()
    assert [each for each in person.complaints if not any(part in each for part in person.expected)] == []


@pytest.fixture
def another(chromium: Browser) -> Iterator[Visitor]:
    """A second person, who knows nothing of the first."""
    context = chromium.new_context(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    yield Visitor(context)
    context.close()
