"""Our own styles and wildcards: they can be read, say something, and answer to the names that the field uses."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import pytest

from modules.styles import PLACEHOLDER, read_styles
from tests.architecture import ROOT
from training.captions import MEDIUM_TAGS

STYLES = ROOT / "sdxl_styles"
WILDCARDS = ROOT / "wildcards"
STYLE_FILES = sorted(STYLES.glob("*.json"))
WILDCARD_FILES = sorted(WILDCARDS.glob("*.txt"))
NEGATIVE_ONLY = {"Fooocus Enhance", "Fooocus Semi Realistic", "Fooocus Negative"}
MEDIA = {string.capwords(medium) for medium in MEDIUM_TAGS}
MAX_WORDS = 45

FAMILIES = {
    "Fooocus": "Enhance, Semi Realistic, Sharp, Masterpiece, Photograph, Negative, Cinematic, Pony",
    "SAI": """3D Model, Analog Film, Anime, Cinematic, Comic Book, Craft Clay, Digital Art, Enhance, Fantasy Art,
        Isometric, Line Art, Lowpoly, Neonpunk, Origami, Photographic, Pixel Art, Texture""",
    "MRE": """Cinematic Dynamic, Spontaneous Picture, Artistic Vision, Dark Dream, Gloomy Art, Bad Dream, Underground,
        Surreal Painting, Dynamic Illustration, Undead Art, Elemental Art, Space Art, Ancient Illustration, Brave Art,
        Heroic Fantasy, Dark Cyberpunk, Lyrical Geometry, Sumi E Symbolic, Sumi E Detailed, Manga, Anime, Comic""",
    "Ads": """Advertising, Automotive, Corporate, Fashion Editorial, Food Photography, Gourmet Food Photography,
        Luxury, Real Estate, Retail""",
    "Artstyle": """Abstract, Abstract Expressionism, Art Deco, Art Nouveau, Constructivist, Cubist, Expressionist,
        Graffiti, Hyperrealism, Impressionist, Pointillism, Pop Art, Psychedelic, Renaissance, Steampunk, Surrealist,
        Typography, Watercolor""",
    "Futuristic": """Biomechanical, Biomechanical Cyberpunk, Cybernetic, Cybernetic Robot, Cyberpunk Cityscape,
        Futuristic, Retro Cyberpunk, Retro Futurism, Sci Fi, Vaporwave""",
    "Game": """Bubble Bobble, Cyberpunk Game, Fighting Game, Gta, Mario, Minecraft, Pokemon, Retro Arcade, Retro Game,
        Rpg Fantasy Game, Strategy Game, Streetfighter, Zelda""",
    "Misc": """Architectural, Disco, Dreamscape, Dystopian, Fairy Tale, Gothic, Grunge, Horror, Kawaii, Lovecraftian,
        Macabre, Manga, Metropolis, Minimalist, Monochrome, Nautical, Space, Stained Glass, Techwear Fashion, Tribal,
        Zentangle""",
    "Papercraft": """Collage, Flat Papercut, Kirigami, Paper Mache, Paper Quilling, Papercut Collage,
        Papercut Shadow Box, Stacked Papercut, Thick Layered Papercut""",
    "Photo": """Alien, Film Noir, Glamour, Hdr, Iphone Photographic, Long Exposure, Neon Noir, Silhouette,
        Tilt Shift""",
    "": """Cinematic Diva, Abstract Expressionism, Academia, Action Figure, Adorable 3D Character, Adorable Kawaii,
        Art Deco, Art Nouveau, Astral Aura, Avant Garde, Baroque, Bauhaus Style Poster, Blueprint Schematic Drawing,
        Caricature, Cel Shaded Art, Character Design Sheet, Classicism Art, Color Field Painting, Colored Pencil Art,
        Conceptual Art, Constructivism, Cubism, Dadaism, Dark Fantasy, Dark Moody Atmosphere, Dmt Art Style,
        Doodle Art, Double Exposure, Dripping Paint Splatter Art, Expressionism, Faded Polaroid Photo, Fauvism,
        Flat 2d Art, Fortnite Art Style, Futurism, Glitchcore, Glo Fi, Googie Art Style, Graffiti Art,
        Harlem Renaissance Art, High Fashion, Idyllic, Impressionism, Infographic Drawing, Ink Dripping Drawing,
        Japanese Ink Drawing, Knolling Photography, Light Cheery Atmosphere, Logo Design, Luxurious Elegance,
        Macro Photography, Mandola Art, Marker Drawing, Medievalism, Minimalism, Neo Baroque, Neo Byzantine,
        Neo Futurism, Neo Impressionism, Neo Rococo, Neoclassicism, Op Art, Ornate And Intricate,
        Pencil Sketch Drawing, Pop Art 2, Rococo, Silhouette Art, Simple Vector Art, Sketchup, Steampunk 2, Surrealism,
        Suprematism, Terragen, Tranquil Relaxing Atmosphere, Sticker Designs, Vibrant Rim Light, Volumetric Lighting,
        Watercolor 2, Whimsical And Playful, Pebble Art""",
    "Mk": """Chromolithography, Cross Processing Print, Dufaycolor Photograph, Herbarium, Punk Collage, Mosaic,
        Van Gogh, Coloring Book, Singer Sargent, Pollock, Basquiat, Andy Warhol, Halftone Print, Gond Painting,
        Albumen Print, Aquatint Print, Anthotype Print, Inuit Carving, Bromoil Print, Calotype Print, Color Sketchnote,
        Cibulak Porcelain, Alcohol Ink Art, One Line Art, Blacklight Paint, Carnival Glass, Cyanotype Print,
        Cross Stitching, Encaustic Paint, Embroidery, Gyotaku, Luminogram, Lite Brite Art, Mokume Gane, Palekh,
        Suminagashi, Scrimshaw, Shibori, Vitreous Enamel, Ukiyo E, Vintage Airline Poster, Vintage Travel Poster,
        Bauhaus Style, Afrofuturism, Atompunk, Constructivism, Chicano Art, De Stijl, Dayak Art, Fayum Portrait,
        Illuminated Manuscript, Kalighat Painting, Madhubani Painting, Pictorialism, Pichwai Painting,
        Patachitra Painting, Samoan Art Inspired, Tlingit Art, Adnate Style, Ron English Style, Shepard Fairey Style""",
}
FAMILIAR = [f"{family} {name.strip()}".strip() for family, names in FAMILIES.items() for name in names.split(",")]


def entries(path: Path) -> list[dict[str, str]]:
    read: list[dict[str, str]] = json.loads(path.read_text(encoding="ascii"))
    return read


def every_style() -> list[dict[str, str]]:
    return [entry for path in STYLE_FILES for entry in entries(path)]


def plain(name: str) -> str:
    return " ".join(name.casefold().replace("-", " ").split())


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").split("\n")


@pytest.mark.parametrize("path", STYLE_FILES, ids=lambda path: path.stem)
def test_a_style_file_has_the_fields_form(path: Path) -> None:
    styles = entries(path)
    assert styles
    assert all(list(style) == ["name", "prompt", "negative_prompt"] for style in styles)
    assert path.read_text(encoding="ascii") == json.dumps(styles, indent=2) + "\n"


def test_the_program_reads_every_style_under_its_own_name() -> None:
    shelf = read_styles([STYLES])
    assert shelf.notes == ()
    assert sorted(shelf.styles) == sorted(style["name"] for style in every_style())
    assert len(shelf.styles) >= 250


def test_no_two_styles_clash() -> None:
    names = [plain(style["name"]) for style in every_style()]
    assert sorted(set(names)) == sorted(names)
    assert not {"fooocus v2", "random style"} & set(names), "these names stand for something else"


def test_the_names_of_the_field_are_there() -> None:
    assert len(set(FAMILIAR)) == 277
    assert {*FAMILIAR, *MEDIA} - {style["name"] for style in every_style()} == set()


@pytest.mark.parametrize("path", STYLE_FILES, ids=lambda path: path.stem)
def test_every_style_says_what_it_wants_and_what_not(path: Path) -> None:
    for style in entries(path):
        name, prompt, negative = style["name"], style["prompt"], style["negative_prompt"]
        assert prompt.count(PLACEHOLDER) == (name not in NEGATIVE_ONLY), name
        assert (not prompt) == (name in NEGATIVE_ONLY), name
        own = [piece.strip() for piece in prompt.split(",") if piece.strip() != PLACEHOLDER]
        assert name in NEGATIVE_ONLY or len(own) >= (1 if name in MEDIA else 4), name
        assert len(negative.split(",")) >= 4, name
        for text in filter(None, (prompt, negative)):
            assert len(text.split()) <= MAX_WORDS, name
            # Nothing that the prompt's own syntax means something by, and no gap between two commas.
            assert re.fullmatch(r"[A-Za-z0-9 ,.'_-]+", text.replace(PLACEHOLDER, "cat")), name
            assert "__" not in text, name
            assert all(piece and piece == piece.strip() for piece in text.split(", ")), name


def test_no_style_repeats_another() -> None:
    said = [style["prompt"] for style in every_style() if style["name"] not in NEGATIVE_ONLY]
    avoided = [style["negative_prompt"] for style in every_style()]
    assert len(set(said)) == len(said)
    assert len(set(avoided)) == len(avoided)


def test_a_style_never_avoids_what_it_asks_for() -> None:
    for style in every_style():
        asked, avoided = (
            {piece.strip() for piece in style[key].split(",")} - {PLACEHOLDER} for key in ("prompt", "negative_prompt")
        )
        assert not asked & avoided, style["name"]


@pytest.mark.parametrize("name", sorted(MEDIA))
def test_a_medium_of_the_miniature_is_said_in_the_words_it_knows(name: str) -> None:
    style = read_styles([STYLES]).styles[name]
    assert style.applied("a red cat")[0] == [f"a red cat, {name.lower()}"]


@pytest.mark.parametrize("path", WILDCARD_FILES, ids=lambda path: path.stem)
def test_a_wildcard_file_is_a_clean_list(path: Path) -> None:
    *found, last = lines(path)
    assert last == "", "the file ends with a line break"
    assert len(found) >= 25
    assert len(set(found)) == len(found)
    for entry in found:
        assert re.fullmatch(r"[a-z0-9][a-z0-9 '.-]*[a-z0-9]", entry), entry
        assert "  " not in entry, entry
        assert len(entry) <= 40, entry


def test_there_are_enough_wildcards() -> None:
    names = {path.stem for path in WILDCARD_FILES}
    assert len(names) >= 16
    assert {"color", "animal", "flower", "medium", "light", "lens", "weather", "mood", "place"} <= names
    assert all(re.fullmatch(r"[a-z]+([_-][a-z]+)*", name) for name in names)
    assert sum(len(lines(path)) - 1 for path in WILDCARD_FILES) >= 1500


def test_a_place_fits_after_in() -> None:
    for place in lines(WILDCARDS / "place.txt")[:-1]:
        assert re.match(r"an [aeiou]|a [^aeiou]", place), place
