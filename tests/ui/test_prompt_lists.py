"""Lists of prompts in a real browser: asked about first, queued in order, read from a file that is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ui.conftest import Served, Visitor

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow
BOX = ".list-box[open]"
DROP = """([name, text]) => {
    const carried = new DataTransfer();
    carried.items.add(new File([text], name));
    for (const kind of ["dragover", "drop"]) {
        document.querySelector("#prompt textarea")
            .dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: carried }));
    }
}"""


def ask(page: Page, prompt: str) -> None:
    page.fill("#prompt textarea", prompt)
    page.wait_for_timeout(300)
    page.click("#generate_button")
    page.wait_for_selector(BOX)


def test_a_list_is_asked_about_and_then_made(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    ask(page, "pace=0.01\n---\na <b>cat</b> --image_number 1\na dog --image_number 3\nx --ar 16:9")
    assert "2 tasks, 4 pictures" in page.inner_text(".list-sum")
    assert "ar" in page.inner_text(".list-problems") and page.locator(".list-problems li").count() == 1
    page.click(".list-cancel")
    page.wait_for_selector(BOX, state="detached")
    assert page.locator(".queue-task").count() == 0, "nothing has begun"
    page.click("#generate_button")
    page.wait_for_selector(BOX)
    page.click(".list-run")
    page.wait_for_function("document.querySelectorAll('.queue-task').length === 2 || pinhole.currentTask()")
    page.wait_for_function("[...document.querySelectorAll('#canvas .tile img')].length === 3")
    page.wait_for_function("!document.querySelector('.queue-task')")


def test_a_file_becomes_lines_of_the_prompt(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    page.fill("#prompt textarea", "soft light\n---\nold")
    page.evaluate(DROP, ["mine.csv", 'prompt,seed\n"a cat, sitting",5\na dog,\n'])
    wanted = 'soft light\n---\na cat, sitting --image_seed "5"\na dog'
    page.wait_for_function("(wanted) => document.querySelector('#prompt textarea').value === wanted", arg=wanted)
    page.evaluate(DROP, ["half.csv", "prompt,seed\na hen,1,2\na cow,3\n"])
    page.wait_for_selector("text=Line 2 has 3 cells, the first line has 2.")
    page.evaluate(DROP, ["mine.txt", "a fox\n# no\n"])
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'soft light\\n---\\na fox'")
    visitor.expected = ("status of 422",)
    page.evaluate(DROP, ["broken.csv", "sed\n1"])
    page.wait_for_selector("text=broken.csv: the first line of a table names parameters")


def test_a_list_of_nothing_is_refused_in_words(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    page.fill("#prompt textarea", "a cat\n---\n\n")
    page.wait_for_timeout(300)
    page.click("#generate_button")
    page.wait_for_selector("text=Below the line --- there is no prompt")
