"""The queue in a real browser: what waits is moved, held, edited, duplicated, cancelled and brought back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.ui.conftest import Served, Visitor, serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

# The stand-in pipeline reads its pace, in seconds a step, from the prompt.
LONG = "pace=3 a red cat"
SHORT = "pace=0.01 a blue boat"
EVIL = "c <img src=x onerror=alert(1)> 雪の中の狐" + "が静かに眠っている" * 30
TASK = ".queue-task"
PROMPTS = f"[...document.querySelectorAll('{TASK} .queue-prompt')].map((each) => each.textContent)"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A page with a queue of its own."""
    found = serve(tmp_path_factory.mktemp("queue"))
    yield found
    found.stop()


def ask(page: Page, prompt: str) -> None:
    page.fill("#prompt textarea", prompt)
    page.wait_for_timeout(450)  # a quicker second press is a double click
    page.click("#generate_button")


def await_prompts(page: Page, *prompts: str) -> None:
    """Waits until the panel lists these, in this order."""
    page.wait_for_function(f"(wanted) => JSON.stringify({PROMPTS}) === JSON.stringify(wanted)", arg=list(prompts))


def queued(page: Page, *prompts: str) -> None:
    """A long run, with these prompts waiting behind it in the open panel."""
    ask(page, LONG)
    page.click("#queue_switch")
    page.wait_for_selector(f"{TASK}[data-state=running]")
    for number, prompt in enumerate(prompts, 1):
        ask(page, prompt)
        page.wait_for_selector(f"{TASK} >> nth={number}")
    await_prompts(page, LONG, *prompts)


def press(page: Page, place: int, deed: str) -> None:
    page.click(f"{TASK} >> nth={place} >> [data-deed={deed}]")


def emptied(page: Page) -> None:
    """Nothing waits and nothing runs: the next test finds the queue as it should be."""
    if page.is_visible(".queue-clear"):
        page.click(".queue-clear")
    else:
        for place in reversed(range(1, page.locator(TASK).count())):
            press(page, place, "cancel")
    await_prompts(page, LONG)
    page.click("#stop_button")
    await_prompts(page)


def test_tasks_are_moved_by_hand_and_by_buttons(visitor: Visitor, another: Visitor, home: Served) -> None:
    page = visitor.open(home)
    queued(page, "a", "b", EVIL)
    assert page.locator(".queue-words img").count() == 0
    page.wait_for_selector(".queue-sum:has-text('3 waiting')")
    page.locator(".queue-foot").scroll_into_view_if_needed()
    thumbs = [page.locator(f"{TASK} >> nth={place} >> .queue-thumb").bounding_box() for place in (1, 3)]
    first, last = (box for box in thumbs if box is not None)
    page.mouse.move(last["x"] + 20, last["y"] + 20)
    page.mouse.down()
    page.mouse.move(last["x"] + 20, last["y"] - 40, steps=3)
    page.mouse.move(first["x"] + 20, first["y"] + 10, steps=5)
    page.wait_for_timeout(200)
    page.mouse.up()
    await_prompts(page, LONG, EVIL, "a", "b")
    page.mouse.move(first["x"] + 20, first["y"] + 20)
    page.mouse.down()
    page.mouse.move(first["x"] + 20, first["y"] + 200, steps=3)
    page.keyboard.press("Escape")
    page.mouse.up()
    await_prompts(page, LONG, EVIL, "a", "b")
    page.focus(f"{TASK} >> nth=1 >> [data-deed=down]")
    page.keyboard.press("Enter")
    await_prompts(page, LONG, "a", EVIL, "b")
    assert page.evaluate(f"document.activeElement.closest('{TASK}').querySelector('.queue-prompt').textContent") == EVIL
    press(page, 3, "next")
    await_prompts(page, LONG, "b", "a", EVIL)
    stranger = another.open(home)
    stranger.click("#queue_switch")
    assert stranger.is_visible(".queue-empty") and stranger.locator(TASK).count() == 0
    page.reload()
    page.click("#queue_switch")
    await_prompts(page, LONG, "b", "a", EVIL)
    emptied(page)


def test_tasks_are_held_duplicated_cancelled_and_brought_back(visitor: Visitor, home: Served) -> None:
    page = visitor.open(home)
    queued(page, "a", "b")
    press(page, 1, "hold")
    page.wait_for_selector(f"{TASK}[data-state=held] >> text=Held")
    press(page, 1, "duplicate")
    await_prompts(page, LONG, "a", "b", "a")
    press(page, 2, "cancel")
    await_prompts(page, LONG, "a", "a")
    page.click(".queue-undo")
    await_prompts(page, LONG, "a", "b", "a")
    page.click(".queue-clear")
    await_prompts(page, LONG)
    assert page.inner_text(".queue-said") == "3 tasks cancelled."
    page.click(".queue-undo")
    await_prompts(page, LONG, "a", "b", "a")
    page.wait_for_selector(f"{TASK}[data-state=held] >> nth=0")
    page.click(".queue-hold")
    page.wait_for_function(f"document.querySelectorAll('{TASK}[data-state=held]').length === 3")
    page.click(".queue-hold:has-text('Release all')")
    page.wait_for_function(f"!document.querySelector('{TASK}[data-state=held]')")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    buttons = page.locator(f"{TASK} button:not([hidden])")
    sizes = buttons.evaluate_all("(all) => all.map((each) => each.offsetWidth)")
    assert min(sizes) >= 40, "a thumb finds it"
    page.set_viewport_size({"width": 1280, "height": 800})
    emptied(page)


def test_a_waiting_task_is_edited_in_the_form_and_keeps_its_place(visitor: Visitor, home: Served) -> None:
    page = visitor.open(home)
    queued(page, "a", "b")
    page.fill("#prompt textarea", "half a thought")
    press(page, 1, "edit")
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'a'")
    page.wait_for_selector(f"{TASK}[data-state=edited]")
    page.fill("#prompt textarea", "a, better")
    page.click("#generate_button")
    await_prompts(page, LONG, "a, better", "b")
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'half a thought'")
    assert not page.evaluate("document.documentElement.dataset.editing")
    press(page, 2, "edit")
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'b'")
    press(page, 2, "edit")
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'half a thought'")
    page.wait_for_function(f"!document.querySelector('{TASK}:is([data-state=edited], [data-state=held])')")
    emptied(page)


def test_what_waits_follows_by_itself_and_forever_goes_on_until_it_is_stopped(visitor: Visitor, home: Served) -> None:
    page = visitor.open(home)
    ask(page, "pace=0.05 a red cat")
    page.wait_for_selector("#canvas .tile img.preview")
    first = page.evaluate("pinhole.currentTask()")
    ask(page, SHORT)
    page.click("#forever_switch")
    seen = {first}
    for _ in range(3):  # what was queued, and what forever makes of the form
        page.wait_for_function("(seen) => !['', ...seen].includes(pinhole.currentTask())", arg=list(seen))
        seen.add(page.evaluate("pinhole.currentTask()"))
    page.click("#stop_button")
    page.wait_for_selector("#forever_switch[aria-checked=false]")
    page.wait_for_selector(":root[data-run='idle']", state="attached")
    last = page.evaluate("pinhole.currentTask()")
    page.wait_for_timeout(1500)
    assert page.evaluate("pinhole.currentTask()") == last and page.inner_text(".queue-sum") == ""
