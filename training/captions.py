"""Words for scenes, in many shapes; it does not know how a scene looks once it is drawn."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from types import MappingProxyType

from training.world import Scene, Thing

PLACE_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "meadow": (
            "in a meadow",
            "in a meadow",
            "in a green meadow",
            "on a meadow",
            "in a grassy field",
            "on the grass",
            "in the grass",
        ),
        "beach": ("on the beach", "on the beach", "at the beach", "at the seaside", "on a sandy beach", "by the sea"),
        "desert": ("in the desert", "in the desert", "in a desert", "in a sandy desert", "among desert dunes"),
        "snow": (
            "in the snow",
            "in the snow",
            "in a snowy landscape",
            "in winter",
            "in a winter landscape",
            "on snowy ground",
        ),
        "forest": ("in the forest", "in a forest", "in a forest", "in the woods", "among forest trees"),
        "city": ("in the city", "in the city", "in a city", "on a city street", "in a city street", "in town"),
        "night": (
            "at night",
            "at night",
            "on a starry night",
            "under a starry sky",
            "in the night",
            "under the night sky",
        ),
        "underwater": (
            "underwater",
            "underwater",
            "under water",
            "under the sea",
            "in the deep sea",
            "under the ocean",
        ),
    }
)
PLACE_TAGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "meadow": ("meadow", "meadow", "grassy meadow"),
        "beach": ("beach", "sandy beach", "seaside"),
        "desert": ("desert", "sandy desert", "desert dunes"),
        "snow": ("snow", "snowy landscape", "winter"),
        "forest": ("forest", "woods", "deep forest"),
        "city": ("city", "city street", "city skyline"),
        "night": ("night", "starry night", "night sky"),
        "underwater": ("underwater", "under water", "underwater scene"),
    }
)
MEDIUM_TAGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "flat illustration": (
            "flat illustration",
            "flat illustration",
            "flat vector illustration",
            "flat design",
            "vector art",
            "flat vector art",
        ),
        "watercolor": ("watercolor", "watercolor", "watercolor painting", "watercolour", "soft watercolor"),
        "pixel art": ("pixel art", "pixel art", "8-bit pixel art", "retro pixel art"),
        "pencil sketch": ("pencil sketch", "pencil sketch", "pencil drawing", "colored pencil sketch", "sketch"),
        "oil painting": ("oil painting", "oil painting", "oil on canvas", "rich oil painting"),
        "neon": ("neon", "neon", "neon lights", "glowing neon", "neon sign", "neon glow"),
    }
)
MEDIUM_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "flat illustration": ("flat illustration of", "a flat illustration of", "flat vector illustration of"),
        "watercolor": ("watercolor of", "a watercolor of", "watercolor painting of", "a watercolor painting of"),
        "pixel art": ("pixel art of", "pixel art of", "8-bit pixel art of"),
        "pencil sketch": ("pencil sketch of", "a pencil sketch of", "pencil drawing of", "a pencil drawing of"),
        "oil painting": ("oil painting of", "an oil painting of", "an oil painting of"),
        "neon": ("neon picture of", "glowing neon picture of", "neon art of", "a neon sign of"),
    }
)
SIDE_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "left": ("on the left", "on the left", "on the left side", "to the left"),
        "center": ("in the center", "in the middle", "in the center", "in the centre"),
        "right": ("on the right", "on the right", "on the right side", "to the right"),
    }
)
SIZE_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"small": ("small", "small", "little", "tiny"), "large": ("large", "large", "big", "huge")}
)
SUBJECT_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"balloon": ("hot-air balloon", "hot air balloon", "balloon"), "boat": ("boat", "boat", "sailboat")}
)
EMPTY_WORDS: tuple[str, ...] = (
    "beautiful",
    "highly detailed",
    "masterpiece",
    "cute",
    "cinematic light",
    "best quality",
    "charming",
    "lovely colors",
    "professional",
    "sharp",
)

KEEP_COLOUR, KEEP_PLACE, KEEP_MEDIUM, KEEP_SIDE, KEEP_SIZE = 0.9, 0.85, 0.85, 0.55, 0.35
EMPTY_SHARE = 0.2

# In the templates: {thing} "a small red cat", {side}, {where} "in a meadow", {in} "watercolor", {of} "a watercolor of",
# and as bare tags {name} "cat", {article} "a cat", {colour}, {size}, {tag} "meadow".
ONE_THING: tuple[str, ...] = (
    "{thing} {side}, {where}, {in}",
    "{thing} {side} {where}, {in}",
    "{thing} {where} {side}, {in}",
    "{thing} {where}, {side}, {in}",
    "{of} {thing} {where} {side}",
    "{of} {thing} {side}, {where}",
    "{of} {thing} {side} {where}",
    "{in}, {thing} {where}, {side}",
    "{in}, {thing} {side}, {tag}",
    "{in}, {article}, {size}, {colour}, {side}, {tag}",
    "{article}, {colour}, {size}, {tag}, {side}, {in}",
    "{colour} {name}, {size}, {tag}, {in}, {side}",
    "{tag}, {thing} {side}, {in}",
    "{where}, {thing} {side}, {in}",
    "{side} {thing}, {where}, {in}",
    "{thing}, {in}, {where}, {side}",
    "{thing}, {tag}, {in}, {side}",
    "a picture of {thing} {side} {where}, {in}",
    "there is {thing} {side}, {where}, {in}",
    "{of} {thing}, {tag}, {side}",
    "{article} {where}, the {name} is {colour}, {size}, {side}, {in}",
    "{size} {colour} {name} {side} {tag} {in}",
)
PAIR: tuple[str, ...] = (
    "{pair}, {where}, {in}",
    "{pair} {where}, {in}",
    "{of} {pair} {where}",
    "{of} {pair}, {where}",
    "{in}, {pair}, {where}",
    "{in}, {pair}, {tag}",
    "{tag}, {pair}, {in}",
    "{where}, {pair}, {in}",
    "{pair}, {tag}, {in}",
    "{pair}, {in}, {where}",
    "a picture of {pair} {where}, {in}",
    "there is {pair}, {where}, {in}",
)


def caption(scene: Scene, rng: random.Random) -> str:
    """One of many ways to word the scene; what it says is true, but it may leave things out."""
    keep_place, keep_medium = rng.random() < KEEP_PLACE, rng.random() < KEEP_MEDIUM
    empty = rng.choice(EMPTY_WORDS) if rng.random() < EMPTY_SHARE else ""
    words = {
        "where": rng.choice(PLACE_WORDS[scene.place]) if keep_place else "",
        "tag": rng.choice(PLACE_TAGS[scene.place]) if keep_place else "",
        "in": rng.choice(MEDIUM_TAGS[scene.medium]) if keep_medium else "",
        "of": rng.choice(MEDIUM_OF[scene.medium]) if keep_medium else "",
    }
    adjective = empty if empty in ("beautiful", "cute", "charming") and rng.random() < 0.6 else ""
    if len(scene.things) == 2:
        words["pair"] = _pair(scene.things[0], scene.things[1], rng)
        text = rng.choice(PAIR).format(**words)
    else:
        thing = scene.things[0]
        name = _name(thing.subject, rng)
        colour = _colour(thing.colour, rng) if rng.random() < KEEP_COLOUR else ""
        size = rng.choice(SIZE_WORDS[thing.size]) if rng.random() < KEEP_SIZE else ""
        words |= {
            "name": name,
            "article": _article(name),
            "thing": _article(" ".join(word for word in (adjective, size, colour, name) if word)),
            "colour": colour,
            "size": size,
            "side": rng.choice(SIDE_WORDS[thing.side]) if rng.random() < KEEP_SIDE else "",
        }
        text = rng.choice(ONE_THING).format(**words)
        if not colour:
            text = text.replace(f"the {name} is ,", "")
    text = _tidy(text)
    if empty and not adjective:
        text = f"{empty}, {text}" if rng.random() < 0.4 else f"{text}, {empty}"
    roll = rng.random()
    if roll < 0.06:
        text = text[0].upper() + text[1:]
    elif roll < 0.12:
        text += "."
    return text


def full_caption(scene: Scene) -> str:
    """The plain wording that names every attribute."""
    place, medium = PLACE_WORDS[scene.place][0], scene.medium
    if len(scene.things) == 2:
        first, second = (_article(f"{thing.colour} {thing.subject}") for thing in scene.things)
        return f"{first} on the left and {second} on the right, {place}, {medium}"
    thing = scene.things[0]
    return f"{_article(f'{thing.size} {thing.colour} {thing.subject}')} {SIDE_WORDS[thing.side][0]}, {place}, {medium}"


def _pair(left: Thing, right: Thing, rng: random.Random) -> str:
    a, b = (_coloured(thing, rng) for thing in (left, right))
    roll = rng.random()
    if roll < 0.4:
        return f"{a} on the left and {b} on the right"
    if roll < 0.65:
        return f"{a} and {b}"
    if roll < 0.72:
        return f"{a} next to {b}"
    if roll < 0.8:
        return f"{b} on the right and {a} on the left"
    if roll < 0.9:
        return f"{b} to the right of {a}"
    return f"{a} to the left of {b}"


def _coloured(thing: Thing, rng: random.Random) -> str:
    colour = _colour(thing.colour, rng) if rng.random() < KEEP_COLOUR else ""
    return _article(f"{colour} {_name(thing.subject, rng)}".strip())


def _name(subject: str, rng: random.Random) -> str:
    return rng.choice(SUBJECT_WORDS.get(subject, (subject,)))


def _colour(colour: str, rng: random.Random) -> str:
    return "grey" if colour == "gray" and rng.random() < 0.5 else colour


def _article(words: str) -> str:
    return f"an {words}" if words[:1] in "aeio" or words.startswith("umb") else f"a {words}"


def _tidy(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s*,(\s*,)*\s*", ", ", text)
    return text.strip(" ,")
