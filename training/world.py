"""The vocabulary of the picture-book world and its scenes; it does not know how anything is drawn or worded."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

RGB = tuple[int, int, int]

SUBJECTS: tuple[str, ...] = (
    "cat",
    "fish",
    "bird",
    "butterfly",
    "snail",
    "tree",
    "flower",
    "mushroom",
    "house",
    "car",
    "boat",
    "rocket",
    "balloon",
    "star",
    "heart",
    "umbrella",
)

COLOUR_RGB: Mapping[str, RGB] = MappingProxyType(
    {
        "red": (222, 40, 44),
        "orange": (250, 136, 24),
        "yellow": (253, 216, 50),
        "green": (66, 170, 62),
        "teal": (14, 164, 160),
        "blue": (44, 96, 222),
        "purple": (136, 62, 190),
        "pink": (250, 130, 184),
        "brown": (128, 76, 38),
        "black": (36, 36, 42),
        "white": (250, 250, 250),
        "gray": (142, 144, 150),
    }
)
COLOURS: tuple[str, ...] = tuple(COLOUR_RGB)

PLACES: tuple[str, ...] = ("meadow", "beach", "desert", "snow", "forest", "city", "night", "underwater")
MEDIA: tuple[str, ...] = (
    "flat illustration",
    "watercolor",
    "pixel art",
    "pencil sketch",
    "oil painting",
    "neon",
)
SIDES: tuple[str, ...] = ("left", "center", "right")
SIZES: tuple[str, ...] = ("small", "large")

HELD_OUT_PERCENT = 6
TWO_SUBJECT_SHARE = 0.2


@dataclass(frozen=True)
class Thing:
    """One subject of a scene."""

    subject: str
    colour: str
    side: str
    size: str

    def __post_init__(self) -> None:
        if self.subject not in SUBJECTS:
            raise ValueError(f"unknown subject {self.subject!r}")
        if self.colour not in COLOURS:
            raise ValueError(f"unknown colour {self.colour!r}")
        if self.side not in SIDES:
            raise ValueError(f"unknown side {self.side!r}")
        if self.size not in SIZES:
            raise ValueError(f"unknown size {self.size!r}")


@dataclass(frozen=True)
class Scene:
    """One or two things in a place, drawn in a medium; the seed settles every small variation."""

    things: tuple[Thing, ...]
    place: str
    medium: str
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.things) <= 2:
            raise ValueError(f"a scene holds one or two things, not {len(self.things)}")
        if self.place not in PLACES:
            raise ValueError(f"unknown place {self.place!r}")
        if self.medium not in MEDIA:
            raise ValueError(f"unknown medium {self.medium!r}")


def is_held_out(subject: str, colour: str, place: str, medium: str) -> bool:
    """Whether this combination is kept out of training, so that it can test composition."""
    digest = hashlib.sha256(f"{subject}|{colour}|{place}|{medium}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100 < HELD_OUT_PERCENT


def held_out_combinations() -> tuple[tuple[str, str, str, str], ...]:
    """Every held-out (subject, colour, place, medium), in a fixed order."""
    return tuple(
        (subject, colour, place, medium)
        for subject in SUBJECTS
        for colour in COLOURS
        for place in PLACES
        for medium in MEDIA
        if is_held_out(subject, colour, place, medium)
    )


def sample_scene(rng: random.Random, held_out: bool = False) -> Scene:
    """A random scene: a training scene, or with held_out a one-thing scene of a held-out combination."""
    while True:
        place = rng.choice(PLACES)
        medium = rng.choice(MEDIA)
        things: tuple[Thing, ...]
        if not held_out and rng.random() < TWO_SUBJECT_SHARE:
            first, second = rng.sample(SUBJECTS, 2)
            colour_a, colour_b = rng.sample(COLOURS, 2)
            things = (Thing(first, colour_a, "left", "small"), Thing(second, colour_b, "right", "small"))
        else:
            size = "large" if rng.random() < 0.6 else "small"
            things = (Thing(rng.choice(SUBJECTS), rng.choice(COLOURS), rng.choice(SIDES), size),)
        kept_out = [is_held_out(thing.subject, thing.colour, place, medium) for thing in things]
        if any(kept_out) == held_out:
            return Scene(things, place, medium, rng.getrandbits(31))
