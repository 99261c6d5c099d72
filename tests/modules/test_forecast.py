"""How long tasks will take, against histories whose law is known."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from modules.forecast import Timing, Work, ends, expected, work_of
from modules.parameters import GenerationParameters
from modules.plan import ModelFacts

WORK = Work("sdxl", "", "dpmpp_2m_sde_gpu", 1.0, 30, 2)


def took(work: Work) -> float:
    return 2.0 + 0.1 * work.amount


def history(*works: Work) -> list[Timing]:
    return [Timing(work, took(work)) for work in works]


def test_nothing_is_foretold_of_a_model_that_was_never_used() -> None:
    assert expected(WORK, []) is None
    assert expected(WORK, history(replace(WORK, model="other"))) is None
    assert expected(WORK, history(WORK)) == pytest.approx(8.0)


def test_other_sizes_and_steps_follow_from_fixed_part_and_work() -> None:
    known = history(*(replace(WORK, steps=steps) for steps in (4, 8, 20)))
    assert expected(replace(WORK, steps=60, megapixels=0.5), known) == pytest.approx(2.0 + 0.1 * 60)
    assert expected(replace(WORK, passes=1), known) == pytest.approx(2.0 + 0.1 * 30)
    assert expected(replace(WORK, steps=60), history(WORK)) == pytest.approx(16.0), "of one task only in proportion"


def test_a_quarter_of_disturbed_tasks_moves_it_little() -> None:
    chance = random.Random(5)
    works = [
        replace(WORK, steps=chance.choice((8, 20, 30, 60)), megapixels=chance.choice((0.5, 1.0))) for _ in range(24)
    ]
    known = [
        Timing(work, took(work) * (20 if number % 4 == 0 else chance.uniform(0.95, 1.05)))
        for number, work in enumerate(works)
    ]
    unseen = replace(WORK, steps=45, megapixels=0.8)
    assert expected(unseen, known) == pytest.approx(took(unseen), rel=0.15)


def test_the_most_similar_decide_once_there_are_enough() -> None:
    other = replace(WORK, sampler="heun")
    slow = [Timing(other, 50.0)] * 9
    assert expected(WORK, [*slow, *[Timing(WORK, 8.0)] * 3]) == 8.0
    assert expected(other, [*slow, *[Timing(WORK, 8.0)] * 3]) == 50.0


def test_what_was_long_ago_does_not_count() -> None:
    assert expected(WORK, [*[Timing(WORK, 4.0)] * 24, *[Timing(WORK, 40.0)] * 100]) == 4.0


def test_it_is_never_negative() -> None:
    odd = [Timing(replace(WORK, steps=steps), seconds) for steps, seconds in ((10, 9.0), (20, 5.0), (30, 1.0))]
    for steps in (1, 100):
        found = expected(replace(WORK, steps=steps), odd)
        assert found is not None and found > 0


def test_tasks_end_one_after_the_other_as_far_as_is_known() -> None:
    assert ends([2.0, 3.0, 4.0]) == [2.0, 5.0, 9.0]
    assert ends([2.0, None, 4.0]) == [2.0, None, None]
    assert ends([5.0, 1.0, 1.0, 4.0], engines=2) == [5.0, 1.0, 2.0, 6.0]


def test_the_work_of_a_picture_is_what_its_mode_makes_of_it() -> None:
    facts = ModelFacts(native=1024)
    usual = {"aspect_ratios_selection": "1024*1024", "guidance_scale": 4.0}
    slow = work_of(GenerationParameters.from_mapping(usual), facts)
    assert (slow.steps, slow.passes, round(slow.megapixels, 6)) == (30, 2, 1.048576)
    fast = work_of(GenerationParameters.from_mapping({**usual, "performance_selection": "Lightning"}), facts)
    assert (fast.steps, fast.passes, fast.sampler) == (4, 1, "euler")
    forced = work_of(GenerationParameters.from_mapping({**usual, "advanced.overwrite_step": 7}), facts)
    assert forced.steps == 7
