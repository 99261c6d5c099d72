"""Tests of the picture-book world: scenes, captions and pictures; they do not train or judge any model."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.captions import MEDIUM_OF, MEDIUM_TAGS, PLACE_TAGS, PLACE_WORDS, caption, full_caption
from training.draw import BACKDROPS, render, thing_masks
from training.render import BUCKETS, plan, write
from training.world import (
    COLOUR_RGB,
    COLOURS,
    MEDIA,
    PLACES,
    SIDES,
    SUBJECTS,
    Scene,
    Thing,
    held_out_combinations,
    is_held_out,
    sample_scene,
)


def _scene(
    subject: str = "cat",
    colour: str = "red",
    place: str = "meadow",
    medium: str = "flat illustration",
    side: str = "center",
    size: str = "large",
    seed: int = 7,
) -> Scene:
    return Scene((Thing(subject, colour, side, size),), place, medium, seed)


def _lab(rgb: np.ndarray) -> np.ndarray:
    pixels = np.asarray(rgb, np.float32).reshape(1, -1, 3) / 255
    lab: np.ndarray = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    return lab.reshape(-1, 3)


def test_vocabulary_has_the_promised_size() -> None:
    assert (len(SUBJECTS), len(COLOURS), len(PLACES), len(MEDIA)) == (16, 12, 8, 6)


@pytest.mark.parametrize(
    "bad",
    [
        ("dog", "red", "left", "small"),
        ("cat", "mauve", "left", "small"),
        ("cat", "red", "top", "small"),
        ("cat", "red", "left", "vast"),
    ],
)
def test_unknown_words_are_refused(bad: tuple[str, str, str, str]) -> None:
    with pytest.raises(ValueError):
        Thing(*bad)


def test_held_out_combinations_are_never_sampled_and_leave_enough() -> None:
    total = len(SUBJECTS) * len(COLOURS) * len(PLACES) * len(MEDIA)
    kept_out = held_out_combinations()
    assert 0.045 < len(kept_out) / total < 0.075
    for axis, words in enumerate((SUBJECTS, COLOURS, PLACES, MEDIA)):
        counts = Counter(combination[axis] for combination in kept_out)
        assert all(counts[word] < 0.15 * total / len(words) for word in words)
    rng = random.Random(3)
    pairs = 0
    for _ in range(3000):
        scene = sample_scene(rng)
        pairs += len(scene.things) == 2
        assert not any(is_held_out(t.subject, t.colour, scene.place, scene.medium) for t in scene.things)
        if len(scene.things) == 2:
            first, second = scene.things
            assert (first.side, second.side) == ("left", "right")
            assert first.subject != second.subject and first.colour != second.colour
    assert 0.16 < pairs / 3000 < 0.24
    for _ in range(50):
        scene = sample_scene(rng, held_out=True)
        (thing,) = scene.things
        assert is_held_out(thing.subject, thing.colour, scene.place, scene.medium)


def test_sampling_and_rendering_repeat() -> None:
    assert [sample_scene(random.Random(5)) for _ in range(3)] == [sample_scene(random.Random(5)) for _ in range(3)]
    for medium in MEDIA:
        assert np.array_equal(render(_scene(medium=medium)), render(_scene(medium=medium)))
        assert not np.array_equal(render(_scene(medium=medium)), render(_scene(medium=medium, seed=8)))


def test_a_thing_lies_where_its_scene_has_it_and_the_seed_chooses_one_of_three_backdrops() -> None:
    scenes = [Scene((Thing("fish", "red", "left", "large"),), "meadow", "flat illustration", seed) for seed in range(9)]
    assert len({thing_masks(scene, 64, 64)[0].tobytes() for scene in scenes}) == 1
    pictures = [render(scene, 64, 64).tobytes() for scene in scenes]
    assert len(set(pictures)) == BACKDROPS == 3
    assert pictures[:3] == pictures[3:6] == pictures[6:]


@pytest.mark.parametrize("size", [(256, 256), (352, 176), (176, 352), (288, 224), (384, 160), (128, 128), (64, 64)])
def test_any_aspect_can_be_drawn(size: tuple[int, int]) -> None:
    width, height = size
    for i, medium in enumerate(MEDIA):
        for side in SIDES if i == 0 else (SIDES[i % 3],):
            scene = _scene(SUBJECTS[i], place=PLACES[i], medium=medium, side=side)
            picture = render(scene, width, height)
            assert picture.shape == (height, width, 3) and picture.dtype == np.uint8
            (mask,) = thing_masks(scene, width, height)
            centre = float(np.argwhere(mask > 127)[:, 1].mean()) / width
            assert {"left": centre < 0.46, "center": 0.4 < centre < 0.6, "right": centre > 0.54}[side]


def test_half_size_is_the_same_picture() -> None:
    for medium in MEDIA:
        scene = _scene(medium=medium)
        half = cv2.resize(render(scene), (128, 128), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(half - render(scene, 128, 128).astype(int)).mean() < 9


@pytest.mark.parametrize("medium", MEDIA)
def test_every_subject_shows_in_every_medium(medium: str) -> None:
    for i, subject in enumerate(SUBJECTS):
        scene = _scene(subject, COLOURS[i % 12], PLACES[i % 8], medium)
        other = _scene(subject, COLOURS[(i + 4) % 12], PLACES[i % 8], medium)
        (mask,) = thing_masks(scene, 128, 128)
        inside = mask > 127
        assert 0.08 < inside.mean() < 0.5
        change = np.abs(render(scene, 128, 128).astype(int) - render(other, 128, 128).astype(int)).mean(axis=2)
        assert change[inside].mean() > 15


def test_small_is_smaller_than_large() -> None:
    for subject in SUBJECTS:
        small, large = (
            int((thing_masks(_scene(subject, size=size), 128, 128)[0] > 127).sum()) for size in ("small", "large")
        )
        assert large > 2 * small


def test_dominant_colour_is_the_named_one() -> None:
    canon = _lab(np.array([COLOUR_RGB[colour] for colour in COLOURS]))
    right = 0
    for i, subject in enumerate(SUBJECTS):
        for j, colour in enumerate(COLOURS):
            scene = _scene(subject, colour, PLACES[(i + j) % 8], seed=i * 12 + j)
            inside = render(scene, 128, 128)[thing_masks(scene, 128, 128)[0] > 200]
            nearest = ((_lab(inside)[:, None] - canon) ** 2).sum(axis=2).argmin(axis=1)
            right += int(np.bincount(nearest, minlength=12).argmax()) == j
    assert right >= 0.9 * len(SUBJECTS) * len(COLOURS)


def test_captions_say_what_is_there() -> None:
    rng = random.Random(1)
    shapes: set[str] = set()
    named: Counter[str] = Counter()
    count = 2000
    for _ in range(count):
        scene = sample_scene(rng)
        text = caption(scene, rng)
        low = text.lower()
        assert "  " not in text and ",," not in text and " ," not in text and "{" not in text and text.strip() == text
        for thing in scene.things:
            assert thing.subject in low
        colours = {thing.colour for thing in scene.things}
        for word in COLOURS:
            said = word in low.replace("grey", "gray").replace("colored", "").replace("green meadow", "").split()
            assert not said or word in colours
        named["colour"] += all(c in low.replace("grey", "gray") for c in colours)
        named["place"] += any(word in low for word in (*PLACE_WORDS[scene.place], *PLACE_TAGS[scene.place]))
        named["medium"] += any(word in low for word in (*MEDIUM_TAGS[scene.medium], *MEDIUM_OF[scene.medium]))
        shapes.add(text)
    assert len(shapes) > 0.9 * count
    assert named["colour"] > 0.8 * count and named["place"] > 0.8 * count and named["medium"] > 0.8 * count
    assert named["colour"] < 0.97 * count and named["place"] < 0.97 * count and named["medium"] < 0.97 * count


def test_captions_name_sides_of_pairs_truly() -> None:
    scene = Scene((Thing("cat", "red", "left", "small"), Thing("star", "blue", "right", "small")), "snow", "neon", 1)
    assert full_caption(scene) == "a red cat on the left and a blue star on the right, in the snow, neon"
    for seed in range(200):
        text = caption(scene, random.Random(seed)).lower()
        if "to the right of" in text:
            assert text.index("star") < text.index("cat")
        elif "star on the right" in text:
            assert "cat on the left" in text
        else:
            assert text.index("cat") < text.index("star")


def test_full_caption_names_everything() -> None:
    assert full_caption(_scene("umbrella", "orange", "beach", "oil painting", "right", "large")) == (
        "a large orange umbrella on the right, on the beach, oil painting"
    )


def test_written_set_is_whole_whatever_the_workers(tmp_path: Path) -> None:
    assert {(256, 256), (368, 176), (176, 368), (160, 384)} <= set(BUCKETS)
    assert sum(n for _, _, n in plan(101, 256, True)) == 101
    for workers in (1, 2):
        write(tmp_path / str(workers), 24, 64, 5, workers, True, False)
    first, second = tmp_path / "1", tmp_path / "2"
    assert (first / "scenes.jsonl").read_text() == (second / "scenes.jsonl").read_text()
    records = [json.loads(line) for line in (first / "scenes.jsonl").read_text().splitlines()]
    assert len(records) == 24 and all(len(record["captions"]) == 4 for record in records)
    for path in first.glob("*.npy"):
        images = np.load(path)
        assert np.array_equal(images, np.load(second / path.name))
        assert images.reshape(len(images), -1).std(axis=1).min() > 5
