"""The page's handlers on a real queue with the stand-in pipeline, and the server around them; no browser."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, cast

import gradio as gr
import pytest
from fastapi.testclient import TestClient

import webui
from modules.api.front import OWNER_COOKIE
from modules.api.public import Public
from modules.api.routes import assets_address, head, router
from modules.api.server import application, give_gradio_a_folder
from modules.async_worker import AsyncWorker
from modules.choices import NO_MODEL
from modules.files import ModelLibrary
from modules.https import Reach
from modules.parameters import BUILT_IN_MODEL, GenerationParameters, leaves, parameters_to_ctrls
from modules.presets import MINI_PRESET
from modules.settings import Settings
from modules.ui.models_tab import files_listed
from modules.ui.theme import theme
from tests.ldm_patched.tiny import TINY_REFINER_ALONE, TINY_SD15, TINY_SDXL, write
from tests.modules.conftest import SDXL_NAMES, open_worker, safetensors, settings, worker

__all__ = ["open_worker", "settings", "worker"]  # fixtures

ME = gr.Request(cookies={OWNER_COOKIE: "m" * 24})
SOMEBODY_ELSE = gr.Request(cookies={OWNER_COOKIE: "s" * 24})
NOBODY = gr.Request(cookies={})


@pytest.fixture
def handlers(settings: Settings, worker: AsyncWorker) -> webui.Handlers:
    """The page's handlers in a fresh home."""
    return webui.Handlers(settings, ModelLibrary(settings.models), worker, lambda: None)


def ctrls(**changes: Any) -> list[Any]:
    """What the page sends."""
    return parameters_to_ctrls(GenerationParameters(prompt="pace=0", image_seed=7).with_values(changes))


def views(stream: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return [update["value"] for update in stream]


def test_generate_streams_a_task_from_its_beginning_to_its_end(handlers: webui.Handlers, tmp_path: Path) -> None:
    seen = views(handlers.generate_clicked(ME, *ctrls(prompt="pace=0.02")))  # slow enough for a preview to be seen
    assert (seen[0]["state"], seen[0]["count"], seen[0]["width"], seen[0]["height"]) == ("waiting", 2, 72, 56)
    assert any(view["preview"] for view in seen)
    assert seen[-1]["state"] == "done"
    assert [picture["seed"] for picture in seen[-1]["pictures"]] == ["7", "8"]
    percents = [view["percent"] for view in seen]
    assert percents == sorted(percents)
    assert str(tmp_path) not in json.dumps(seen), "the page learns no path"


@pytest.mark.parametrize(
    ("position", "value", "words"),
    [
        ("image_seed", "twelve", "Seed: 'twelve' is not a whole number"),
        ("sharpness", 31, "Image Sharpness: 31 is outside 0 to 30"),
        ("sharpness", None, "Image Sharpness: None"),
        ("image_number", float("nan"), "Image Number"),
        ("performance_selection", "Warp", "'Warp' is not one of"),
        ("prompt", "x" * 100_000, "100000 characters"),
        ("base_model", "gone.safetensors", "gone.safetensors is not in"),
        ("base_model", "../secret.safetensors", "is not a plain file name"),
    ],
)
def test_what_cannot_be_is_refused_in_words(handlers: webui.Handlers, position: str, value: Any, words: str) -> None:
    values = ctrls()
    values[[leaf.path for leaf in leaves()].index(position)] = value
    (answer,) = views(handlers.generate_clicked(ME, *values))
    assert answer["state"] == "refused" and words in answer["message"]
    assert handlers.worker.running("m" * 24) is None


def test_a_page_of_another_version_is_told_to_reload(handlers: webui.Handlers) -> None:
    (answer,) = views(handlers.generate_clicked(ME, *ctrls()[:-1]))
    assert "reload" in answer["message"]


def test_a_file_that_is_no_base_model_is_refused_before_it_is_queued(handlers: webui.Handlers) -> None:
    safetensors(handlers.settings.models.checkpoints[0] / "lora.safetensors", ["a.lora_up.weight"])
    (answer,) = views(handlers.generate_clicked(ME, *ctrls(base_model="lora.safetensors")))
    assert "looks like a LoRA" in answer["message"]


def test_coming_back_finds_the_running_task_and_the_finished_one(handlers: webui.Handlers) -> None:
    stream = handlers.generate_clicked(ME, *ctrls(prompt="pace=0.05"))
    task = next(stream)["value"]["task"]
    cast(Generator[Any], stream).close()  # the tab is closed
    back = handlers.resume(ME, "")
    assert next(back)["value"]["task"] == task
    assert views(handlers.resume(SOMEBODY_ELSE, task)) == [], "a task is shown to nobody else"
    assert views(handlers.resume(NOBODY, "")) == []
    assert views(back)[-1]["state"] == "done", "the task went on without a listener"
    assert views(handlers.resume(ME, task))[-1]["pictures"]
    assert views(handlers.resume(ME, "")) == [], "a new tab begins empty when nothing runs"
    assert views(handlers.resume(ME, "20990101-000000-000000000000")) == []


def test_stop_and_skip_belong_to_the_task_and_its_owner(handlers: webui.Handlers) -> None:
    stream = handlers.generate_clicked(ME, *ctrls(prompt="pace=0.05"))
    task = next(stream)["value"]["task"]
    while next(stream)["value"]["percent"] == 0:
        pass
    handlers.stop(SOMEBODY_ELSE, task)
    handlers.stop(ME, "")
    handlers.skip(SOMEBODY_ELSE, task)
    assert handlers.worker.running("m" * 24) == task
    handlers.skip(ME, task)
    time.sleep(0.3)
    handlers.stop(ME, task)
    last = views(stream)[-1]
    assert last["state"] == "stopped" and last["pictures"] == []


def test_a_failed_task_says_why_and_keeps_what_was_finished(handlers: webui.Handlers) -> None:
    last = views(handlers.generate_clicked(ME, *ctrls(prompt="pace=0 fail=2")))[-1]
    assert (last["state"], last["level"], len(last["pictures"])) == ("failed", "error", 1)
    assert "This picture is refused." in last["message"]


def test_many_may_watch_one_task(handlers: webui.Handlers) -> None:
    task = next(handlers.generate_clicked(ME, *ctrls(prompt="pace=0.02")))["value"]["task"]
    streams = [handlers.resume(ME, task) for _ in range(20)]
    assert [views(stream)[-1]["state"] for stream in streams] == ["done"] * 20


def test_a_preset_changes_what_it_names(handlers: webui.Handlers) -> None:
    updates = handlers.presets.chosen(MINI_PRESET, *ctrls(prompt="stay", guidance_scale=9))
    values = dict(zip((leaf.path for leaf in leaves()), updates, strict=False))
    assert values["guidance_scale"]["value"] == 3.0
    assert (values["prompt"]["value"], values["image_seed"]["value"]) == ("stay", "7")
    assert ("72×56 (9:7)", "1152*896") in values["aspect_ratios_selection"]["choices"]
    assert updates[-1]["value"] == ""


def test_a_preset_s_files_are_listed_whether_they_are_there_or_not(handlers: webui.Handlers) -> None:
    folder = handlers.settings.models.loras[0]
    folder.mkdir(parents=True, exist_ok=True)
    safetensors(folder / "fresh.safetensors", ["a.lora_up.weight"])  # after the page was built
    loras = [[True, "fresh.safetensors", 1.0], [True, "gone.safetensors", 1.0]]
    preset = {"default_model": BUILT_IN_MODEL, "default_loras": loras, "default_vae": "gone-too.safetensors"}
    (handlers.settings.presets / "files.json").write_text(json.dumps(preset))
    values = dict(zip((leaf.path for leaf in leaves()), handlers.presets.chosen("files", *ctrls()), strict=False))
    for path in ("lora_1.name", "lora_2.name", "lora_3.name", "advanced.vae_name", "base_model", "refiner_model"):
        value, choices = values[path]["value"], values[path]["choices"]
        assert value in [each for _, each in choices], path
    assert "fresh.safetensors" in [each for _, each in values["lora_5.name"]["choices"]]


def test_a_broken_preset_changes_nothing_and_says_so(handlers: webui.Handlers) -> None:
    (handlers.settings.presets / "bad.json").write_text('{"default_cfg_scale": "<b>"}')
    *updates, note = handlers.presets.chosen("bad", *ctrls())
    assert all("value" not in update for update in updates)
    assert "guidance_scale" in note["value"] and "<b>" not in note["value"]


def test_presets_are_saved_from_the_page_and_what_cannot_be_is_said_in_words(handlers: webui.Handlers) -> None:
    desk, own = handlers.presets, handlers.presets.own

    def save(name: Any, *ticks: bool, may_replace: bool = False, **changes: Any) -> list[dict[str, Any]]:
        return desk.save(may_replace, "mini", name, *(ticks or (False,) * 3), *ctrls(**changes))

    preset, start, said = save("<b>", sharpness=3)
    assert "&#x27;&lt;b&gt;&#x27;" in said["value"] and "<b>" not in said["value"] and preset["value"] == "mini"
    preset, start, said = save("水彩", True, True, True, sharpness=3)
    assert ("水彩 · yours", "水彩") in preset["choices"] and (preset["value"], start["value"]) == ("水彩", "水彩")
    assert desk.start().parameters.sharpness == 3 and desk.start().parameters.image_seed == 7
    assert (
        "preset-exists" in save("水彩")[2]["value"]
        and "preset-exists" not in save("水彩", may_replace=True)[2]["value"]
    )
    assert desk.start().parameters.image_seed == -1, "the seed is part of it only where it was asked for"
    values = ctrls()
    values[[leaf.path for leaf in leaves()].index("image_seed")] = "twelve"
    assert (
        "Seed: &#x27;twelve&#x27; is not" in desk.save(False, "mini", "new", False, False, False, *values)[2]["value"]
    )
    assert own.names() == ["水彩"]
    _, start, said = desk.remove("水彩")
    assert start["value"] == "" and "is deleted" in said["value"]
    for answer in (desk.remove("default"), desk.rename("default", "x"), desk.start_with("mini", "gone")):
        assert "preset-problem" in answer[2]["value"]


def test_a_page_that_was_built_with_another_start_is_brought_up_to_date(handlers: webui.Handlers) -> None:
    desk = handlers.presets
    built = desk.start()
    assert "value" not in desk.opened(built)[3]
    (desk.own.folder).mkdir(parents=True)
    (desk.own.folder / "default.json").write_text("nonsense")
    lists, _, note, *values = desk.opened(built)
    assert lists["value"] == "mini" and "default.json cannot be read" in note["value"]
    assert len(values) == len(leaves()) and all("value" in each for each in values)


def test_sizes_are_those_of_the_model(handlers: webui.Handlers) -> None:
    safetensors(handlers.settings.models.checkpoints[0] / "full.safetensors", SDXL_NAMES)
    ratios, note, refiner = handlers.model_chosen("full.safetensors", NO_MODEL)
    assert ("1152×896 (9:7)", "1152*896") in ratios["choices"] and note["value"] == "" and "value" not in refiner
    ratios, note, _ = handlers.model_chosen("gone.safetensors", NO_MODEL)
    assert "gone.safetensors is not in" in note["value"]


def test_a_refiner_stays_as_long_as_it_goes_with_the_model(handlers: webui.Handlers) -> None:
    folder = handlers.settings.models.checkpoints[0]
    write(folder / "refiner.safetensors", TINY_REFINER_ALONE)
    write(folder / "small.safetensors", TINY_SDXL)
    write(folder / "sd15.safetensors", TINY_SD15)
    _, note, refiner = handlers.model_chosen("small.safetensors", "refiner.safetensors")
    assert note["value"] == "" and "value" not in refiner
    _, note, refiner = handlers.model_chosen("sd15.safetensors", "refiner.safetensors")
    assert "No refiner is used: sd15.safetensors is an SD 1.5 model" in note["value"]
    assert refiner["value"] == NO_MODEL


@pytest.fixture
def client(handlers: webui.Handlers) -> Iterator[TestClient]:
    """The whole server, asked from this machine."""
    give_gradio_a_folder(handlers.settings.data / "gradio")
    assets = assets_address()
    page = webui.build_ui(handlers, assets)
    public, routes = Public(handlers.settings, Reach()), router(handlers.worker.picture)
    app = application(page, theme(), routes, head(assets), "127.0.0.1", lambda app: app, public)
    with TestClient(app, base_url="http://127.0.0.1:7865") as opened:
        yield opened


def test_the_page_is_ours_and_asks_nobody_else(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert assets_address() in answer.text
    assert "miniature" in answer.text, "what must be known about the model is said at first sight"
    assert not re.findall(r'(?:src|href|content)="(?:https?:)?//', answer.text)
    assert re.fullmatch(r"[\w-]{32}", client.cookies[OWNER_COOKIE])
    assert OWNER_COOKIE not in client.get("/").headers.get("set-cookie", ""), "an owner stays the same"
    settings = json.loads(re.findall(r"window.gradio_config = (\{.*?\});</script>", answer.text)[0])
    assert settings["footer_links"] == [] and not settings["analytics_enabled"] and not settings["run_history"]
    assert not settings["connect_heartbeat"], "an idle tab keeps no connection: browsers have six for one server"


def test_nothing_but_the_page_is_served(client: TestClient, settings: Settings) -> None:
    left = settings.data / "gradio" / "left.txt"
    left.write_text("secret")
    for path in (f"/gradio_api/file={left}", "/gradio_api/info", "/docs"):
        assert client.get(path).status_code == 404
    assert client.post("/gradio_api/upload", files={"files": b"x"}).status_code == 404


def test_other_pages_give_no_orders(client: TestClient) -> None:
    for origin in ("null", "http://evil.example", "http://127.0.0.1:9999"):
        assert client.post("/gradio_api/queue/join", json={}, headers={"origin": origin}).status_code == 403
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403


def test_a_form_of_impossible_values_is_answered_by_words_not_by_an_error(client: TestClient) -> None:
    config = client.get("/config").json()
    generate = next(each for each in config["dependencies"] if "pinhole.generate" in str(each["js"]))
    body = {"data": ["x"] * len(generate["inputs"]), "fn_index": generate["id"], "session_hash": "s"}
    assert client.post("/gradio_api/queue/join", json=body).status_code == 200
    with client.stream("GET", "/gradio_api/queue/data?session_hash=s") as stream:
        text = "".join(stream.iter_text())
    assert "is not one of Quality, Speed" in text


def test_new_files_are_listed_and_what_is_chosen_stays(handlers: webui.Handlers) -> None:
    folder = handlers.settings.models.loras[0]
    folder.mkdir(parents=True, exist_ok=True)
    safetensors(folder / "fresh.safetensors", ["a.lora_up.weight"])
    models, loras = files_listed(
        handlers.catalogue, ["base_model", "lora_1.name"], 9.0, "gone.safetensors", "gone.safetensors", "None"
    )
    assert ("gone.safetensors", "gone.safetensors") in models["choices"]
    assert loras["choices"] == [("None", "None"), ("fresh.safetensors  ·  base unknown", "fresh.safetensors")]
