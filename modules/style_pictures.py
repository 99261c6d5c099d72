"""A small picture for every style, drawn from the style's own words: palette, texture, letters; knows no model.

An SVG of 128 by 128 without script, link or outside font. The same style gives the same picture everywhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from random import Random
from types import MappingProxyType

from modules.styles import EXPANSION_STYLE, RANDOM_STYLE, Style

SIDE = 128
MAX_TITLE = 48  # characters that are shown of a name
FAMILIES = re.compile(r"(?:sai|mre|misc|fooocus|futuristic|game|photo|papercraft|ads|artstyle) (?=\S)", re.I)

# (words, background, middle, accent): the row with most words among the style's is taken
PALETTES: tuple[tuple[str, str, str, str], ...] = (
    ("neon cyber synthwave vaporwave laser hologram arcade", "#170b2e", "#5b1fa6", "#ff3fa4"),
    ("space galaxy cosmic nebula star astral", "#0a1030", "#2b3f8f", "#e8d9ff"),
    ("horror dark gothic grim macabre noir shadow dystopian", "#141214", "#4a3438", "#c23b3b"),
    ("gold baroque byzantine gilded regal art-deco deco klimt", "#2a1d0e", "#8a6420", "#f0c659"),
    ("forest nature leaf moss garden green biomechanical jungle", "#18331f", "#4c8a4f", "#e3edb8"),
    ("sea ocean underwater wave ice blue winter arctic", "#0c2f4a", "#3b86b0", "#d9f2f5"),
    ("sunset desert warm clay terracotta fire ember", "#5a1f16", "#d9703a", "#ffd58a"),
    ("pastel cute kawaii soft dream fairy candy watercolor", "#f7e6ee", "#a8cfe6", "#e58fae"),
    ("pop comic cartoon toy lego play bright flat graffiti", "#fff2c9", "#2f86d6", "#e8402f"),
    ("sepia vintage antique retro tintype victorian steampunk", "#e6d3b1", "#9a744b", "#4c3423"),
    ("paper origami craft collage quilling kirigami fold", "#f3ece0", "#d98c6a", "#3c6e71"),
    ("ink pencil sketch line charcoal etching monochrome black", "#f4f2ec", "#b9b5ab", "#2a2826"),
    ("photo film cinematic lens portrait analog camera bokeh", "#1d2326", "#5d7076", "#f2d7b0"),
    ("3d render isometric low-poly clay voxel plastic", "#dfe6ee", "#7f9bbd", "#e08e45"),
    ("oil impressionist canvas painting brush fresco", "#33475b", "#c99b53", "#f0e2b9"),
)

Texture = Callable[[Random, Sequence[str]], str]


def _halftone(random: Random, colours: Sequence[str]) -> str:
    dots = [(x, y, 0.6 + 4.2 * (x + y) / 256) for y in range(6, SIDE, 12) for x in range(6, SIDE, 12)]
    return "".join(f'<circle cx="{x}" cy="{y}" r="{r:.1f}" fill="{colours[1]}"/>' for x, y, r in dots)


def _pixels(random: Random, colours: Sequence[str]) -> str:
    cells = [(x, y) for y in range(0, SIDE, 16) for x in range(0, SIDE, 16) if random.random() < 0.2 + y / 190]
    return "".join(
        f'<rect x="{x}" y="{y}" width="16" height="16" fill="{random.choice(colours[1:])}" opacity=".7"/>'
        for x, y in cells
    )


def _hatching(random: Random, colours: Sequence[str]) -> str:
    strokes = [(random.randrange(-20, 128), random.randrange(-10, 128), random.randrange(20, 60)) for _ in range(46)]
    lines = "".join(f"M{x} {y + size}L{x + size} {y}" for x, y, size in strokes)
    return f'<path d="{lines}" stroke="{colours[1]}" stroke-width="1.4" stroke-linecap="round" fill="none"/>'


def _washes(random: Random, colours: Sequence[str]) -> str:
    return "".join(
        f'<circle cx="{random.randrange(SIDE)}" cy="{random.randrange(SIDE)}" r="{random.randrange(18, 46)}"'
        f' fill="{random.choice(colours[1:])}" opacity=".28"/>'
        for _ in range(9)
    )


def _facets(random: Random, colours: Sequence[str]) -> str:
    parts = []
    for place in range(0, SIDE, 32):
        for across in range(0, SIDE, 32):
            colour, opacity = random.choice(colours[1:]), random.choice((".2", ".4", ".6"))
            corner = random.choice((f"{across} {place + 32}", f"{across + 32} {place}"))
            outline = f"M{across} {place}L{corner}L{across + 32} {place + 32}z"
            parts.append(f'<path d="{outline}" fill="{colour}" opacity="{opacity}"/>')
    return "".join(parts)


def _stars(random: Random, colours: Sequence[str]) -> str:
    points = [(random.randrange(SIDE), random.randrange(SIDE), random.choice((0.6, 0.9, 1.6))) for _ in range(60)]
    stars = "".join(f'<circle cx="{x}" cy="{y}" r="{r}" fill="{colours[2]}"/>' for x, y, r in points)
    return f'<circle cx="96" cy="34" r="30" fill="{colours[1]}" opacity=".8"/>{stars}'


def _waves(random: Random, colours: Sequence[str]) -> str:
    rows = "".join(f"M-8 {y}q18 -14 36 0t36 0t36 0t36 0" for y in range(8, SIDE + 12, 14))
    return f'<path d="{rows}" stroke="{colours[1]}" stroke-width="3" fill="none"/>'


def _rays(random: Random, colours: Sequence[str]) -> str:
    rays = "".join(f"M64 140L{x} -10L{x + 14} -10z" for x in range(-90, 230, 30))
    return f'<path d="{rays}" fill="{colours[1]}" opacity=".55"/>'


def _aperture(random: Random, colours: Sequence[str]) -> str:
    rings = "".join(
        f'<circle cx="64" cy="64" r="{r}" fill="none" stroke="{colours[1]}" stroke-width="{w}" opacity=".6"/>'
        for r, w in ((58, 2), (46, 9), (30, 1.5))
    )
    return f'{rings}<circle cx="46" cy="44" r="7" fill="{colours[2]}" opacity=".35"/>'


def _stitches(random: Random, colours: Sequence[str]) -> str:
    rows = "".join(f"M{x} {y}l5 7l5 -7" for y in range(2, SIDE, 10) for x in range(4, SIDE, 12))
    return f'<path d="{rows}" stroke="{colours[1]}" stroke-width="2.2" fill="none" opacity=".8"/>'


def _blueprint(random: Random, colours: Sequence[str]) -> str:
    lines = "".join(f"M{x} 0V128M0 {x}H128" for x in range(0, SIDE, 16))
    return f'<path d="{lines}M16 112L64 20L112 112z" stroke="{colours[1]}" stroke-width="1.2" fill="none"/>'


# (words, texture, letters): as with palettes
TEXTURES: tuple[tuple[str, Texture, str], ...] = (
    ("light glow cinematic ray dramatic sun poster", _rays, "sans-serif"),
    ("comic pop halftone print risograph manga screenprint newspaper", _halftone, "sans-serif"),
    ("pixel 8-bit 16-bit voxel minecraft retro lego mosaic glitch arcade", _pixels, "monospace"),
    ("pencil sketch line ink charcoal etching engraving drawing hatching woodcut", _hatching, "serif"),
    ("watercolor wash oil impressionist painting brush gouache pastel dream abstract", _washes, "serif"),
    ("paper origami low-poly cubist crystal geometric facet kirigami stained papercut", _facets, "sans-serif"),
    ("space galaxy star cosmic night nebula alien futuristic", _stars, "sans-serif"),
    ("sea ocean wave water fluid psychedelic surreal liquid nouveau", _waves, "serif"),
    ("photo film lens camera portrait analog bokeh macro dslr", _aperture, "sans-serif"),
    ("textile knit wool embroidery felt craft quilt tapestry fabric yarn", _stitches, "serif"),
    (
        "architecture architectural blueprint technical isometric render 3d interior",
        _blueprint,
        "monospace",
    ),
)


def style_picture(style: Style) -> str:
    """The SVG of a style; what is written in it is escaped."""
    words = set(re.findall(r"[a-z0-9-]+", f"{style.name} {style.prompt}".casefold()))
    named = set(re.findall(r"[a-z0-9-]+", style.name.casefold()))
    random = Random(hashlib.sha256(style.name.encode("utf-8", "replace")).digest())
    palette = max(PALETTES, key=lambda row: (_score(row[0], words, named), random.random()))
    texture = max(TEXTURES, key=lambda row: (_score(row[0], words, named), random.random()))
    colours = palette[1:]
    dark = int(colours[0][1:3], 16) < 0x80
    plate, ink = ("#000", "#fff") if dark else ("#fff", "#1d1b19")
    rows = _lines(style.name)
    size = min(22, int(112 / (0.58 * max(map(len, rows)))))
    top = 120 - (len(rows) - 1) * (size + 2)
    letters = "".join(
        f'<text x="64" y="{top + place * (size + 2)}" text-anchor="middle">{escape(row)}</text>'
        for place, row in enumerate(rows)
    )
    height = len(rows) * (size + 2) + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" height="{SIDE}">'
        f'<rect width="{SIDE}" height="{SIDE}" fill="{colours[0]}"/>{texture[1](random, colours)}'
        f'<rect x="0" y="{SIDE - height}" width="{SIDE}" height="{height}" fill="{plate}" opacity=".62"/>'
        f'<rect x="0" y="{SIDE - height - 3}" width="{SIDE}" height="3" fill="{colours[2]}"/>'
        f'<g font-family="{texture[2]}" font-weight="700" font-size="{size}" fill="{ink}">{letters}</g></svg>'
    )


# Of the names that no file holds.
SPECIAL_STYLES: Mapping[str, Style] = MappingProxyType(
    {
        RANDOM_STYLE: Style(RANDOM_STYLE, "abstract pop pixel", ""),
        EXPANSION_STYLE: Style(EXPANSION_STYLE, "cinematic film photo", ""),
    }
)


def _score(row: str, words: set[str], named: set[str]) -> int:
    """How well a row suits: its words among the style's, those in the name counted three times more."""
    wanted = set(row.split())
    return len(wanted & words) + 3 * len(wanted & named)


def _lines(name: str) -> list[str]:
    """A style's name without its family, in at most three lines of about equal length."""
    family = FAMILIES.match(name)
    title = name[family.end() :] if family else name
    title = title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 1]}…"
    rows: list[str] = []
    for word in (piece for whole in title.split() for piece in (whole[:16], whole[16:32], whole[32:]) if piece):
        if rows and len(rows[-1]) + len(word) < 12:
            rows[-1] += f" {word}"
        else:
            rows.append(word)
    return (rows if len(rows) <= 4 else [*rows[:3], f"{rows[3]}…"]) or [name[:16]]
