"""The page for everybody: by axe-core's judgement, by keys alone, on a phone, told when all is done, installed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.ui.conftest import Served, Visitor, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

SERIOUS = ("serious", "critical")
FOCUSED = """() => {
  const at = document.activeElement;
  const box = at.getBoundingClientRect();
  const style = getComputedStyle(at);
  const around = at.closest('label, .wrap, .block');
  const seen = (each) => each && (parseFloat(getComputedStyle(each).outlineWidth) > 0
    && getComputedStyle(each).outlineStyle !== 'none' || getComputedStyle(each).boxShadow !== 'none');
  return { id: at.id || at.className || at.tagName, name: at.getAttribute('aria-label') || at.labels?.[0]?.textContent
    || at.textContent || at.title || at.placeholder || '', visible: box.width > 0 && box.height > 0, marked:
    Boolean(seen(at) || seen(around)) };
}"""
NOTIFICATIONS = """
window.notified = [];
window.Notification = class {
  static permission = 'granted';
  static requestPermission() { return Promise.resolve('granted'); }
  constructor(title, options) { window.notified.push([title, options.body]); }
  addEventListener() {}
  close() {}
};
Document.prototype.hasFocus = () => false;
"""


@pytest.fixture(params=["light", "dark"])
def coloured(request: pytest.FixtureRequest, chromium: Browser) -> Iterator[Visitor]:
    """A person whose system has light or dark colours."""
    context = chromium.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme=request.param, reduced_motion="reduce", bypass_csp=True
    )
    yield Visitor(context)
    context.close()


def findings(page: Page) -> list[str]:
    """What axe-core calls serious or worse, in a line each."""
    from axe_playwright_python.sync_playwright import Axe

    result: dict[str, Any] = Axe().run(page).response
    assert {"color-contrast", "button-name"} <= {each["id"] for each in result["passes"]}
    return [
        f"{each['impact']} {each['id']}: {node['html'][:160]} ({node.get('failureSummary', '')[:200]})"
        for each in result["violations"] if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]  # fmt: skip


def make_one(page: Page, prompt: str = "pace=0.01 a red cat") -> None:
    page.fill("#prompt textarea", prompt)
    page.click("#generate_button")
    page.wait_for_selector("#canvas .tile img.final")
    page.wait_for_selector(":root[data-run='idle']", state="attached")


def test_axe_finds_nothing_serious_anywhere(coloured: Visitor, served: Served) -> None:
    page = coloured.open(served)
    found = {"first visit": findings(page)}
    page.fill("#prompt textarea", "pace=0.5 a red cat")
    page.click("#generate_button")
    page.wait_for_selector("#canvas .tile img.preview")
    found["generating"] = findings(page)
    page.click("#stop_button")
    page.wait_for_selector(":root[data-run='idle']", state="attached")
    make_one(page)
    page.check("#advanced_checkbox input")
    for tab in ("Settings", "Styles", "Models", "Advanced", "Metadata"):
        page.click(f"button[role=tab]:has-text('{tab}')")
        page.wait_for_timeout(300)
        found[tab] = findings(page)
    page.click("#queue_switch")
    page.click("#final_switch")
    page.wait_for_timeout(500)
    found["queue and final prompt"] = findings(page)
    page.click("#canvas .tile >> nth=0")
    page.wait_for_selector(".lightbox[open]")
    found["large picture"] = findings(page)
    page.keyboard.press("Escape")
    page.click("#owner_button")
    page.wait_for_selector(".owner-row")
    found["settings of this machine"] = findings(page)
    page.keyboard.press("Escape")
    page.click("#history_button")
    page.wait_for_selector("[class^=history] img")
    found["history"] = findings(page)
    assert {place: each for place, each in found.items() if each} == {}


def test_keys_alone_reach_everything_and_show_where_they_are(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    page.check("#advanced_checkbox input")
    page.wait_for_timeout(500)
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    for _ in range(150):  # all the way round, from wherever it begins
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUSED)
        if at["id"] not in ("BODY", "HTML"):
            seen.setdefault((at["id"], at["name"]), at)
    ids = {at["id"] for at in seen.values()}
    assert {"history_button", "language_select", "owner_button", "theme_button", "generate_button"} <= ids
    assert {"queue_switch", "forever_switch", "final_switch", "ratio_button", "preset_manage"} <= ids
    assert [at for at in seen.values() if not at["visible"] or not at["name"].strip()] == []
    assert [at["id"] + ": " + at["name"] for at in seen.values() if not at["marked"]] == []


def test_a_picture_is_made_looked_at_and_found_again_by_keys_alone(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    page.focus("#prompt textarea")
    page.keyboard.type("pace=0.01 a blue boat")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#canvas .tile img.final")
    page.wait_for_selector(":root[data-run='idle']", state="attached")
    page.focus("#canvas .tile")
    page.keyboard.press("Enter")
    page.wait_for_selector(".lightbox[open]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    page.wait_for_selector(".lightbox", state="hidden")
    page.focus("#history_button")
    page.keyboard.press("Enter")
    page.wait_for_selector("[class^=history] img")
    page.keyboard.press("Escape")
    page.wait_for_selector(".history", state="hidden")


def test_a_phone_can_prompt_generate_stop_look_and_save(another: Visitor, served: Served) -> None:
    page = another.open(served)
    page.fill("#prompt textarea", "pace=2 a red cat")
    page.click("#generate_button")
    page.wait_for_selector("#canvas .tile img.preview")
    page.click("#stop_button")
    page.wait_for_selector(":root[data-run='idle']", state="attached")
    make_one(page)
    page.click("#canvas .tile >> nth=0")
    page.wait_for_selector(".lightbox[open]")
    with page.expect_download() as download:
        page.click(".lightbox a[download]")
    assert download.value.suggested_filename.endswith(".png")


def test_who_wants_to_is_told_when_everything_is_done(visitor: Visitor, served: Served) -> None:
    visitor.context.add_init_script(NOTIFICATIONS)
    page = visitor.open(served)
    make_one(page)
    assert page.evaluate("notified") == [], "nobody has asked for it"
    page.click("#queue_switch")
    page.check("[data-bell=note]")
    page.check("[data-bell=sound]")
    page.fill("#prompt textarea", "pace=0.3 a red cat")
    page.click("#generate_button")
    page.wait_for_selector("#canvas .tile img.preview")
    page.click("#generate_button")
    page.wait_for_selector(".queue-task[data-state=waiting]")
    page.wait_for_function("notified.length")
    page.wait_for_timeout(3000)
    assert page.evaluate("notified") == [["Pinhole", "2 pictures, finished."]], "once, after the last task"
    page.reload()
    settle(page)
    assert page.is_checked("[data-bell=note]") and page.is_checked("[data-bell=sound]")


def test_the_page_can_be_installed(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    session = visitor.context.new_cdp_session(page)
    told = session.send("Page.getAppManifest")
    assert told["errors"] == []
    manifest = json.loads(told["data"])
    assert (manifest["name"], manifest["start_url"], manifest["display"]) == ("Pinhole", "/", "standalone")
    for icon in manifest["icons"]:
        answer = page.request.get(f"{told['url'].rpartition('/')[0]}/{icon['src']}")
        assert answer.ok and answer.headers["content-type"] == icon["type"]
    errors = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    assert [each["errorId"] for each in errors] in ([], ["in-incognito"]), "a test's browser is a private window"
