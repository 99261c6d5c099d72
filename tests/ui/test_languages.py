"""The page in other languages, as a person sees it: by the browser, by choice, from the right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.ui.conftest import Served, Visitor, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

OWN_WORDS = "pace=0.01 Settings"  # somebody's words, which are also a text of the page
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Everything that is shown and has a Latin word in it, except what people wrote themselves.
VISIBLE = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!parent.checkVisibility({ visibilityProperty: true })) continue;
    if (parent.closest('script, style, [translate=no], .chips')) continue;
    if (/[A-Za-z]{3}/.test(node.nodeValue)) texts.push(node.nodeValue.trim());
  }
  return texts;
}"""
NAMES = ("pinhole", "fooocus", "hyper-sd", "karras", "sdxl", "lora", "unet", "vae", "png", "jpeg", "webp")
CHINESE = re.compile("[\u4e00-\u9fff]")

Reader = Callable[..., Visitor]


@pytest.fixture
def reader(chromium: Browser) -> Iterator[Reader]:
    """People whose browsers are set to a language."""
    people: list[Visitor] = []

    def made(locale: str, width: int = 1280) -> Visitor:
        context = chromium.new_context(locale=locale, viewport={"width": width, "height": 800}, reduced_motion="reduce")
        people.append(Visitor(context))
        return people[-1]

    yield made
    for person in people:
        person.leave()
    assert [each for person in people for each in person.complaints] == []


def says(page: Page, selector: str, text: str) -> None:
    page.wait_for_function("([selector, text]) => document.querySelector(selector)?.textContent.includes(text)",
                           arg=[selector, text])  # fmt: skip


def test_a_chinese_browser_sees_a_chinese_page_and_makes_a_picture_in_it(reader: Reader, served: Served) -> None:
    page = reader("zh-CN").open(served)
    says(page, "#generate_button", "生成")
    assert page.get_attribute("html", "lang") == "zh"
    assert "你想看到什么" in page.inner_text("#canvas")
    assert page.get_attribute("#prompt textarea", "placeholder") not in ("", "Type prompt here.")
    page.fill("#prompt textarea", OWN_WORDS)
    page.click("#generate_button")
    page.wait_for_selector("#canvas .tile img:not(.preview)")
    page.wait_for_selector(":root[data-run='idle']", state="attached")
    page.reload()
    says(page, "#generate_button", "生成")
    page.wait_for_function("words => document.querySelector('#prompt textarea').value === words", arg=OWN_WORDS)


def test_nothing_that_a_first_user_sees_is_left_in_english(reader: Reader, served: Served) -> None:
    page = reader("zh-CN").open(served)
    says(page, "#generate_button", "生成")
    page.check("#advanced_checkbox input")
    seen: set[str] = set()
    tabs = page.locator("#tabs button[role=tab], [role=tablist] button[role=tab]")
    for place in range(tabs.count()):
        if tabs.nth(place).is_visible():
            tabs.nth(place).click()
            page.wait_for_timeout(400)
            seen.update(page.evaluate(VISIBLE))
    page.click("#history_button")
    page.wait_for_timeout(400)
    seen.update(page.evaluate(VISIBLE))
    assert seen
    assert [text for text in seen if not CHINESE.search(text) and not any(name in text.lower() for name in NAMES)] == []


def test_the_language_changes_while_a_picture_is_made_and_comes_back(reader: Reader, served: Served) -> None:
    page = reader("zh-CN").open(served)
    says(page, "#generate_button", "生成")
    page.fill("#prompt textarea", "pace=1 a red cat")
    page.click("#generate_button")
    page.wait_for_selector("#canvas .tile img.preview")
    running = page.evaluate("pinhole.currentTask()")
    page.select_option("#language_select", "en")
    says(page, "#stop_button", "Stop")
    assert page.get_attribute("html", "lang") == "en"
    assert page.evaluate("pinhole.currentTask()") == running
    page.select_option("#language_select", "de")
    says(page, "#generate_button", "Erzeugen")
    page.click("#stop_button")
    page.wait_for_selector(":root[data-run='idle']", state="attached")
    page.reload()
    says(page, "#generate_button", "Erzeugen")  # what was chosen counts more than what the browser is set to


def test_what_is_chosen_in_a_translated_menu_is_what_the_engine_gets(reader: Reader, served: Served) -> None:
    page = reader("zh-CN").open(served)
    says(page, "#generate_button", "生成")
    page.check("#advanced_checkbox input")
    page.click("#performance_selection label:has-text('质量')")
    page.wait_for_timeout(500)
    page.fill("#prompt textarea", "pace=0.01 a blue boat")
    page.click("#generate_button")
    page.wait_for_selector("#canvas .tile img:not(.preview)")
    page.wait_for_selector(":root[data-run='idle']", state="attached")
    newest = max(served.root.glob("outputs/**/*.png"), key=lambda path: path.stat().st_mtime_ns)
    with Image.open(newest) as picture:
        written = json.loads(picture.info["parameters"])
    assert (written["prompt"], written["performance"]) == ("pace=0.01 a blue boat", "Quality")


def test_a_file_that_is_dropped_in_is_a_language_at_the_next_visit(
    reader: Reader, tmp_path_factory: pytest.TempPathFactory
) -> None:
    served = serve(tmp_path_factory.mktemp("home"))
    try:
        folder = served.root / "language"
        (folder / "eo.json").write_text(json.dumps({"Generate": "Generi", "Advanced": "Pli <b>multe</b>"}), "utf-8")
        (folder / "broken.json").write_text("{", "utf-8")
        page = reader("eo").open(served)
        says(page, "#generate_button", "Generi")
        assert "Pli <b>multe</b>" in page.inner_text("#advanced_checkbox")  # a text, never HTML
        assert "broken.json" in (page.locator("#language").get_attribute("title") or "")
        page.close()
    finally:
        served.stop()


def test_from_right_to_left_nothing_is_cut_off_or_overlaps(
    reader: Reader, tmp_path_factory: pytest.TempPathFactory
) -> None:
    served = serve(tmp_path_factory.mktemp("home"))
    try:
        texts = {"Generate": "إنشاء", "Advanced": "متقدم", "Settings": "الإعدادات", "History": "السجل", "Stop": "إيقاف"}
        (served.root / "language" / "ar.json").write_text(json.dumps(texts), "utf-8")
        for width in (1280, 390):
            page = reader("ar", width).open(served)
            says(page, "#generate_button", "إنشاء")
            assert page.get_attribute("html", "dir") == "rtl"
            page.check("#advanced_checkbox input")
            page.wait_for_timeout(500)
            assert page.evaluate(SIDEWAYS) <= 0
            box = page.locator("#generate_button").bounding_box()
            assert box
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            page.close()
    finally:
        served.stop()


def test_a_phone_shows_the_page_in_every_language_without_scrolling_sideways(reader: Reader, served: Served) -> None:
    page = reader("en", 390).open(served)
    page.check("#advanced_checkbox input")
    names = page.eval_on_selector_all("#language_select option", "options => options.map((each) => each.value)")
    assert set(names) >= {"en", "zh", "de", "es", "fr", "pt", "ja", "ko"}
    for name in names:
        page.select_option("#language_select", name)
        page.wait_for_function("name => document.documentElement.lang === name", arg=name)
        page.wait_for_timeout(300)
        assert page.evaluate(SIDEWAYS) <= 0, name
