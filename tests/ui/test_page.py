"""The page in a real browser, on a real queue with the stand-in pipeline."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.modules.conftest import SDXL_NAMES, safetensors
from tests.ui.conftest import Served, Visitor, serve, settle

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request

pytestmark = pytest.mark.slow

# The stand-in pipeline reads its pace, in seconds a step, from the prompt.
LONG = "pace=2 a red cat"
# What Gradio writes to the console when a stream ends in the middle.
CUT_OFF = ("AbortError", "Connection errored out")
SHORT = "pace=0.01 a blue boat"
FIRST_TILE = "(document.querySelector('#canvas .tile')?.getBoundingClientRect() ?? null)?.toJSON()"
# In one look, since a run may end between two: a preview is seen, and Stop beside Generate.
FIRST_TILE_OF_A_RUN = f"""() => {{
    const shown = (id) => Boolean(document.getElementById(id)?.offsetParent);
    const live = shown('stop_button') && shown('generate_button');
    return live && document.querySelector('#canvas .tile img.preview') && {FIRST_TILE};
}}"""


def ask(page: Page, prompt: str) -> None:
    page.fill("#prompt textarea", prompt)
    page.click("#generate_button")


def wait_idle(page: Page) -> None:
    page.wait_for_selector(":root[data-run='idle']", state="attached")


def wait_preview(page: Page) -> None:
    page.wait_for_selector("#canvas .tile img.preview")


def task(page: Page) -> str:
    return str(page.evaluate("pinhole.currentTask()"))


class Streams:
    """The event streams that a page has open. Gradio closes one a moment after its last event."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._open: set[Request] = set()
        page.on("request", self._begun)
        page.on("requestfinished", self._ended)
        page.on("requestfailed", self._ended)

    def _begun(self, request: Request) -> None:
        if "/queue/data" in request.url:
            self._open.add(request)

    def _ended(self, request: Request) -> None:
        self._open.discard(request)

    def wait_closed(self) -> None:
        """A server that ends before that would have its farewell shown as an error."""
        while self._open:
            self._page.wait_for_timeout(50)


def test_a_first_visit_explains_itself_and_asks_nobody_else(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    assert page.title() == "Pinhole"
    assert "What would you like to see?" in page.inner_text("#canvas")
    assert "miniature" in page.inner_text("#model_note")
    page.click("#canvas .chip >> nth=0")
    assert page.input_value("#prompt textarea") == "a red cat on the left, in a meadow, watercolor"
    assert page.evaluate("getComputedStyle(document.querySelector('#generate_button')).fontFamily").startswith(
        ('"Source Sans Pro"', "Source Sans Pro")
    )
    assert not page.is_visible("#right") and not page.is_visible("#stop_button")
    assert page.locator("footer:visible").count() == 0


def test_a_sentence_becomes_pictures(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    page.fill("#prompt textarea", "pace=0.05 a red cat")
    box = page.locator("#canvas .canvas").bounding_box()
    page.keyboard.press("Control+Enter")
    tile = page.wait_for_function(FIRST_TILE_OF_A_RUN).json_value()
    wait_idle(page)
    page.wait_for_function("document.querySelectorAll('#canvas .tile img.final.is-ready').length === 2")
    assert page.locator("#canvas .canvas").bounding_box() == box, "the canvas has jumped"
    assert page.evaluate(FIRST_TILE) == tile, "the picture has jumped"
    assert page.is_visible("#generate_button") and "finished" in page.inner_text("#canvas .status")

    address = page.get_attribute("#canvas .tile >> nth=1", "href")
    answer = page.request.get(served.address.rstrip("/") + str(address))
    assert answer.status == 200 and answer.headers["content-type"] == "image/png"
    assert "immutable" in answer.headers["cache-control"]
    page.click("#canvas .tile >> nth=1")
    assert page.inner_text(".lightbox-caption").startswith("2 of 2 · 288 × 224 · seed ")
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".lightbox-caption").startswith("1 of 2")
    page.keyboard.press("Escape")
    assert not page.is_visible(".lightbox")


def test_a_refresh_comes_back_to_the_running_task(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    page.check("#advanced_checkbox input")
    page.fill("#negative_prompt textarea", "no dogs")
    ask(page, LONG)
    wait_preview(page)
    before = task(page)
    page.wait_for_timeout(600)
    page.reload()
    settle(page)
    wait_preview(page)
    assert task(page) == before
    assert page.input_value("#prompt textarea") == LONG
    assert page.is_visible("#right") and page.is_checked("#advanced_checkbox input")
    assert page.input_value("#negative_prompt textarea") == "no dogs"
    tab = visitor.open(served)
    wait_preview(tab)
    assert task(tab) == before, "a second tab of the same browser shows the same run"
    page.click("#skip_button")
    page.wait_for_function("document.querySelector('#canvas .sentence').textContent.includes('icture 2')")
    page.click("#stop_button")
    wait_idle(page)
    wait_idle(tab)
    assert "Stopped" in page.inner_text("#canvas .status")


def test_stop_touches_nobody_else(visitor: Visitor, another: Visitor, served: Served) -> None:
    page, other = visitor.open(served), another.open(served)
    ask(page, LONG)
    wait_preview(page)
    ask(other, SHORT)
    other.wait_for_function("document.querySelector('#canvas .sentence').textContent.includes('1 task is before')")
    assert task(other) != task(page)
    other.click("#stop_button")
    wait_idle(other)
    assert page.evaluate("document.documentElement.dataset.run") == "live"
    page.click("#stop_button")
    wait_idle(page)


def test_what_was_stopped_goes_on_when_asked(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    ask(page, "pace=0.1 a red cat")
    page.wait_for_selector("#canvas .tile img.final")
    page.click("#stop_button")
    wait_idle(page)
    before = task(page)
    assert page.locator("#canvas .tile").count() == 1
    page.click("#canvas .rest")
    assert not page.is_visible("#canvas .rest")
    page.wait_for_function("document.querySelectorAll('#canvas .tile img.final').length === 2")
    wait_idle(page)
    assert task(page) == before and not page.is_visible("#canvas .rest")


def test_a_closed_tab_stops_nothing(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    ask(page, LONG)
    wait_preview(page)
    before = task(page)
    page.close()
    page = visitor.open(served)
    page.wait_for_function(f"pinhole.currentTask() === {before!r}")
    wait_preview(page)
    page.click("#stop_button")
    wait_idle(page)


def test_what_cannot_be_is_said_in_words(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    page.check("#advanced_checkbox input")
    page.uncheck("#seed_random input")
    assert page.input_value("#image_seed textarea, #image_seed input").isdigit()
    page.fill("#image_seed textarea, #image_seed input", "twelve")
    for _ in range(2):  # the same refusal is seen each time
        ask(page, SHORT)
        page.wait_for_function("document.querySelector('#canvas .notice').textContent.includes('twelve')")
        wait_idle(page)
        assert page.input_value("#prompt textarea") == SHORT
    page.fill("#image_seed textarea, #image_seed input", "12")
    ask(page, SHORT)
    page.wait_for_selector("#canvas .tile img.final")
    wait_idle(page)
    assert not page.is_visible("#canvas .notice")
    assert "seed 12" in str(page.get_attribute("#canvas .tile >> nth=0", "aria-label"))
    ask(page, "fail=2 pace=0.01")
    page.wait_for_function("document.querySelector('#canvas .notice').textContent.includes('This picture is refused')")
    wait_idle(page)
    assert page.locator("#canvas .tile").count() == 1, "what was finished before stays in sight"


def test_an_engine_that_dies_is_said_in_words(visitor: Visitor, served: Served, tmp_path: Path) -> None:
    page = visitor.open(served)
    ask(page, f"die-once=1 pace=0.05 mark={tmp_path / 'mark'}")
    page.wait_for_function("document.querySelector('#canvas .notice').textContent.includes('started again')")
    wait_idle(page)
    page.wait_for_function("document.querySelectorAll('#canvas .tile img.final').length === 2")


def test_nothing_written_becomes_html(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    ask(page, "pace=0.01 <img src=x onerror=\"document.title='caught'\">{{1+1}}${document.title='caught'}`")
    page.wait_for_selector("#canvas .tile img.final")
    wait_idle(page)
    page.click("#canvas .tile >> nth=0")
    page.keyboard.press("Escape")
    assert page.title() == "Pinhole"


def test_sizes_follow_the_model(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    page.check("#advanced_checkbox input")
    page.click("#ratio_button")
    assert page.inner_text("#aspect_ratios_selection label.selected").split()[0] == "288×224"
    page.click("button[role=tab]:has-text('Models')")
    page.click("#base_model input")
    page.click("ul[role=listbox] li:has-text('other')")
    page.click("button[role=tab]:has-text('Settings')")
    page.wait_for_function(
        "document.querySelector('#aspect_ratios_selection label.selected').textContent.includes('1152×896')"
    )


def test_the_page_takes_its_task_up_again_when_the_server_comes_back(visitor: Visitor, tmp_path: Path) -> None:
    first = serve(tmp_path)
    visitor.expected = (*CUT_OFF, "network error", "ERR_", "Failed to fetch")
    page = visitor.open(first)
    streams = Streams(page)
    ask(page, "pace=1 a red cat")
    wait_preview(page)
    before = task(page)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    page.wait_for_function("document.querySelector('#canvas .notice').textContent.includes('connection to Pinhole')")
    port = int(first.address.rstrip("/").rpartition(":")[2])
    second = serve(tmp_path, port)
    try:
        page.wait_for_function(f"window.pinhole?.currentTask() === {before!r}")
        wait_preview(page)
        page.click("#stop_button")
        wait_idle(page)
        streams.wait_closed()
    finally:
        visitor.leave()
        second.stop()


def test_a_script_that_got_into_the_page_does_not_run(visitor: Visitor, served: Served) -> None:
    visitor.expected = ("Content Security Policy", "violates the following")
    page = visitor.open(served)
    page.evaluate("""() => {
        const box = document.body.appendChild(document.createElement('div'));
        box.innerHTML = '<img src="/alive" onerror="window.hit = 1"><a href="javascript:window.hit = 2">x</a>';
        box.querySelector('a').click();
        const script = document.createElement('script');
        script.textContent = 'window.hit = 3';
        document.body.append(script);
    }""")
    page.wait_for_timeout(500)
    assert page.evaluate("window.hit") is None
    assert visitor.complaints, "the browser says that it was kept from it"


def test_what_others_wrote_is_shown_as_words(visitor: Visitor, served: Served) -> None:
    visitor.expected = ("status of 4",)
    bad = "<img src=x onerror=window.hit=1>"
    for kind, name in (("loras", bad), ("checkpoints", f"a{bad}"), ("embeddings", f"b{bad}")):
        safetensors(served.root / "models" / kind / f"{name}.safetensors", SDXL_NAMES, {"modelspec.title": bad})
    (served.root / "wildcards").mkdir(exist_ok=True)
    (served.root / "wildcards" / "evil.txt").write_text(bad)
    page = visitor.open(served)
    page.check("#advanced_checkbox input")
    page.fill("#prompt textarea", f"pace=0.01 {bad} __evil__ <lora:{bad}:1>")
    page.click("#final_switch")
    page.click("#queue_switch")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#canvas .tile img.final")
    wait_idle(page)
    for tab in ("Models", "Metadata"):
        page.click(f"button[role=tab]:has-text('{tab}')")
        page.wait_for_timeout(500)
    page.click("#canvas .tile >> nth=0")
    page.wait_for_selector(".lightbox[open]")
    page.keyboard.press("Escape")
    page.click("#history_button")
    page.wait_for_selector("[class^=history] img")
    page.click(".history-open >> nth=0")
    page.wait_for_timeout(500)
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src=x]").count() == 0
