"""The login in a real browser: nothing before it, everything after it, and out again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.ui.conftest import Served, Visitor, serve, settle

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A page with accounts."""
    root = tmp_path_factory.mktemp("house")
    accounts = [{"user": "ann", "pass": "eins"}, {"user": "bob", "pass": "zwei"}]
    (root / "auth.json").write_text(json.dumps(accounts))
    found = serve(root)
    yield found
    found.stop()


def sign_in(visitor: Visitor, house: Served, user: str, password: str) -> Page:
    page = visitor.context.new_page()
    page.goto(house.address)
    assert page.url.endswith("/login")
    page.fill("[name=user]", user)
    page.fill("[name=password]", password)
    page.click("button")
    return page


def test_somebody_signs_in_makes_a_picture_and_signs_out(visitor: Visitor, another: Visitor, house: Served) -> None:
    visitor.expected = ("status of 401",)
    page = sign_in(visitor, house, "ann", "wrong")
    page.wait_for_selector("[role=alert]:has-text('do not go together')")
    assert page.input_value("[name=user]") == "ann" and page.evaluate("document.activeElement.name") == "password"
    page.fill("[name=password]", "eins")
    page.keyboard.press("Enter")
    settle(page)
    page.fill("#prompt textarea", "pace=0.01 a cat")
    page.click("#generate_button")
    page.wait_for_selector("#canvas .tile img")
    other = sign_in(another, house, "bob", "zwei")
    settle(other)
    assert other.locator("#canvas .tile img").count() == 0, "another person has another queue"
    page.reload()
    settle(page)
    page.click("#logout_button")
    page.wait_for_selector("[name=password]")
    page.goto(house.address)
    assert page.url.endswith("/login")
