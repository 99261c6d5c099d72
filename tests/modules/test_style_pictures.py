"""Pictures of styles: whole, harmless and small for every style that comes with the project, and for hostile ones."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from modules.api.routes import router
from modules.style_pictures import style_picture
from modules.styles import RANDOM_STYLE, Shelf, Style, read_styles

STYLES = Path(__file__).resolve().parents[2] / "sdxl_styles"
HARMLESS = {"svg", "rect", "circle", "path", "g", "text"}


def tags(picture: str) -> set[str]:
    return {each.tag.rpartition("}")[2] for each in ElementTree.fromstring(picture).iter()}


def test_every_style_has_a_picture() -> None:
    styles = read_styles([STYLES]).styles
    pictures = {name: style_picture(style) for name, style in styles.items()}
    assert all(tags(picture) <= HARMLESS and len(picture) < 16_000 for picture in pictures.values())
    assert len(set(pictures.values())) > 0.98 * len(styles), "but for namesakes of two families"
    assert pictures["Pixel Art"] == style_picture(styles["Pixel Art"]), "the same each time"


@pytest.mark.parametrize("name", ["<script>x</script>", '"><a href="//x">', "x" * 200, "日本の 版画", "&amp; '", "  a"])
def test_no_name_leaves_its_picture(name: str) -> None:
    assert tags(style_picture(Style(name, name, ""))) <= HARMLESS


def test_pictures_are_served_by_the_name_of_a_style_alone() -> None:
    app = FastAPI()
    app.include_router(router(lambda identity: None, lambda: Shelf({"A & B": Style("A & B", "{prompt}", "")})))
    client = TestClient(app)
    answer = client.get("/style-picture", params={"name": "A & B"})
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/svg+xml"
    assert client.get("/style-picture", params={"name": RANDOM_STYLE}).status_code == 200
    assert client.get("/style-picture", params={"name": "../media.json"}).status_code == 404
