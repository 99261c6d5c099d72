"""Percent and remaining time: exact for even steps, honest at the beginning, calm when steps vary."""

from __future__ import annotations

import pytest

from modules.pace import Pace, PreviewPace


class Clock:
    """A clock that is set by hand, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_even_steps_are_foretold_exactly() -> None:
    clock = Clock()
    pace = Pace(total=2, settled=0, clock=clock)
    pace.step(0, 0, 10)
    clock.now += 60  # loading
    for step in range(1, 6):
        clock.now += 2
        pace.step(0, step, 10)
        assert pace.eta == (None if step < 3 else pytest.approx(2 * (20 - step)))
    assert pace.percent == 25


def test_what_a_picture_takes_on_top_of_its_steps_is_learned() -> None:
    clock = Clock()
    pace = Pace(total=2, settled=0, clock=clock)
    for index in range(2):
        for step in range(1, 11):
            clock.now += 1
            pace.step(index, step, 10)
        clock.now += 5  # decoding and saving
        pace.settle(index)
    assert pace.overhead == pytest.approx(5, abs=0.01)
    assert pace.percent == 99
    later = Pace(total=1, settled=0, overhead=pace.overhead, clock=clock)
    for step in range(1, 11):
        clock.now += 1
        later.step(0, step, 10)
    assert later.eta == pytest.approx(5, abs=0.01)


def test_pictures_made_before_a_restart_count() -> None:
    pace = Pace(total=4, settled=3, clock=Clock())
    assert pace.percent == 75
    pace.step(3, 5, 10)
    assert pace.percent == 87


def test_one_slow_step_does_not_make_the_time_jump() -> None:
    clock = Clock()
    pace = Pace(total=1, settled=0, clock=clock)
    for step in range(1, 51):
        clock.now += 10 if step == 50 else 1
        pace.step(0, step, 100)
    assert pace.eta is not None and 50 <= pace.eta < 150


def test_previews_come_a_few_times_a_second_and_less_often_where_they_are_dear() -> None:
    def made_in_ten_seconds(cost: float) -> int:
        now = [0.0]

        def preview() -> str:
            now[0] += cost
            return "preview"

        pace, made = PreviewPace(lambda: now[0]), 0
        while now[0] < 10:
            made += pace.take(preview) is not None
            now[0] += 0.01
        return made

    counts = [made_in_ten_seconds(cost) for cost in (0.0, 0.005, 0.015, 0.2)]
    assert 36 <= counts[1] <= counts[0] <= 41
    assert 17 <= counts[2] <= 20, "3 % of the time"
    assert 8 <= counts[3] <= 9, "one a second all the same"
