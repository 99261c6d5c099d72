"""From folders on the disk to the jobs of a task, and what a task says about what is missing there."""

from __future__ import annotations

import json

from modules.async_worker import AsyncWorker, Finish
from modules.parameters import GenerationParameters
from modules.plan import ModelFacts, plan
from modules.prompt_sources import prompt_sources
from modules.settings import Settings
from tests.modules.conftest import safetensors


def test_lists_styles_and_loras_of_the_folders_are_used(settings: Settings) -> None:
    settings.wildcards.mkdir()
    (settings.wildcards / "color.txt").write_text("red\ngreen\n")
    own = settings.styles[1]
    own.mkdir(parents=True)
    (own / "mine.json").write_text(
        json.dumps([{"name": "my-ink", "prompt": "ink, {prompt}", "negative_prompt": "oil"}])
    )
    safetensors(settings.models.loras[0] / "people" / "x.safetensors", ["a.lora_up.weight"])
    parameters = GenerationParameters(
        prompt="a __color__ cat <lora:x:0.5>", style_selections=("My Ink",), image_seed=3, image_number=3
    ).with_set(["read_wildcards_in_order=true"])
    jobs = plan(parameters, ModelFacts(256), prompt_sources(settings), print)
    assert [job.positive for job in jobs] == [(f"ink, a {color} cat",) for color in ("red", "green", "red")]
    assert {(job.negative, job.styles, job.loras) for job in jobs} == {
        (("oil",), ("My Ink",), (("people/x.safetensors", 0.5),))
    }


def test_a_task_says_what_it_left_out_and_makes_its_pictures(settings: Settings, worker: AsyncWorker) -> None:
    parameters = GenerationParameters(prompt="pace=0 __nothing__", style_selections=("Gone",), image_number=2)
    *_, end = worker.follow(worker.submit(parameters, "me"))
    assert isinstance(end, Finish) and (end.state, len(end.pictures)) == ("done", 2)
    assert end.message.count("There is no list nothing.txt") == 1 == end.message.count("There is no style 'Gone'")
    assert end.pictures[0].facts["job"]["positive"] == ["pace=0 nothing"]
