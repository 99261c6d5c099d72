"""Why a picture takes long: the table of reasons, and what Linux tells of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules.conditions import Computing, Readings
from modules.machine import Machine, memory_kills, nvidia_card
from modules.slowness import REASONS, SLOW, Situation, why_slow

GPU = Computing(device="cuda", gpu="GeForce RTX 3060", gpu_memory=12 << 30)
CPU = Computing(device="cpu")
QUIET = Readings()


def situation(
    computing: Computing = GPU,
    readings: Readings = QUIET,
    seconds: float = 40.0,
    times: float = 1.0,
    first: bool = False,
) -> Situation:
    return Situation(computing, readings, seconds, int(1024 * 1024 * times), 1024 * 1024, first)


def gpu(**values: object) -> Computing:
    return Computing(**{"device": "cuda", "gpu": "GeForce RTX 3060", "gpu_memory": 12 << 30, **values})  # type: ignore[arg-type]


def cpu(**values: object) -> Computing:
    return Computing(**{"device": "cpu", **values})  # type: ignore[arg-type]


# From the most important reason to the least: each situation has the reasons of all below it as well.
TABLE = [
    (situation(cpu(unused="kernels", gpu="RTX 5090"), Readings(swapped=9e7, others=0.9)), "main memory is full"),
    (situation(cpu(unused="kernels", gpu="RTX 5090"), Readings(others=0.9)), "no code for RTX 5090"),
    (situation(cpu(unused="driver", gpu="an NVIDIA GPU"), Readings(others=0.9)), "cannot reach it"),
    (situation(cpu(unused="wish", gpu="RTX 5090"), Readings(others=0.9)), "--always-cpu leaves RTX 5090 alone"),
    (situation(cpu(stepped_down=True, gpu="GTX 1060"), Readings(others=0.9)), "GTX 1060 had too little memory"),
    (situation(cpu(), Readings(others=0.4), times=4), "other programs take 40%"),
    (situation(gpu(streamed=True, gpu_others=6 << 30), times=4), "other programs hold 6.4 of 12.9 GB"),
    (situation(gpu(streamed=True, wished=True), times=4), "as the flag says"),
    (situation(gpu(streamed=True), times=4), "Start with --unet-in-int8"),
    (situation(cpu(), times=4), "4.0 times as many pixels"),
    (situation(cpu(), first=True), "there is no GPU that Pinhole can use"),
    (situation(gpu(), first=True), "The first picture after a model was loaded"),
]


@pytest.mark.parametrize(("it", "words"), TABLE, ids=[words for _, words in TABLE])
def test_the_most_important_reason_is_told_alone(it: Situation, words: str) -> None:
    said = why_slow(it)
    assert words in said and said.count("Slow because") <= 1 and said.endswith(".")


def test_every_reason_is_in_the_table() -> None:
    assert len(TABLE) == len(REASONS) and len({why_slow(it) for it, _ in TABLE}) == len(REASONS)


@pytest.mark.parametrize("it", [situation(seconds=SLOW - 1, first=True), situation(), situation(times=1.2)])
def test_nothing_is_said_where_nothing_is_slow(it: Situation) -> None:
    assert why_slow(it) == ""


def test_what_is_done_already_is_not_advised() -> None:
    for computing in (gpu(streamed=True, eight_bit=True), cpu(eight_bit=True)):
        assert "--unet-in-int8" not in why_slow(situation(computing, Readings(swapped=9e7)))
    assert "--unet-in-int8" not in why_slow(situation(gpu(streamed=True, eight_bit=True)))


def write(proc: Path, stat: str, swapped: int) -> None:
    proc.mkdir(exist_ok=True)
    (proc / "stat").write_text(f"cpu  {stat} 0 0 0\ncpu0 1 2 3\n")
    (proc / "vmstat").write_text(f"nr_free_pages 5\npswpin {swapped}\npswpout {swapped}\n")


def test_swapping_and_crowds_are_read_from_the_system(tmp_path: Path) -> None:
    clock = iter([0.0, 10.0, 20.0, 30.0]).__next__
    write(tmp_path, "1000 0 0 5000 0 0 0", 100)
    machine = Machine(tmp_path, clock)
    write(tmp_path, "3000 0 0 5000 0 0 0", 10_100)  # 20 seconds of processors, all busy, hardly any with us
    busy = machine.look()
    assert busy.swapped == pytest.approx(20_000 * 4096 / 10) and busy.others > 0.8
    write(tmp_path, "4000 0 0 6000 0 0 0", 10_100)  # half of it is idle: nobody is in the way
    assert machine.look() == Readings()
    (tmp_path / "stat").unlink()
    (tmp_path / "vmstat").write_text("nonsense")
    assert machine.look() == Readings(), "another system tells nothing"


def test_a_card_that_is_plugged_in_is_seen(tmp_path: Path) -> None:
    for name, vendor, kind in (("a", "0x8086", "0x030000"), ("b", "0x10de", "0x040300")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    assert not nvidia_card(tmp_path), "another maker's display, and a sound device"
    (tmp_path / "b" / "class").write_text("0x030200\n")
    assert nvidia_card(tmp_path)
    assert not nvidia_card(tmp_path / "nowhere")


def test_how_often_memory_ran_out(tmp_path: Path) -> None:
    assert memory_kills(tmp_path) is None
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 3\npswpin 0\n")
    assert memory_kills(tmp_path) == 3
    (tmp_path / "vmstat").write_text("nr_free_pages 5\n")
    assert memory_kills(tmp_path) is None
