"""Which model files work together, in words; knows their cards and neither page nor engine."""

from __future__ import annotations

from modules.files import KINDS
from modules.model_cards import Card

# kind of the base's text width -> widths that a refiner for its pictures may take
_REFINED_BY = {2048: (1280, 2048), 192: (128, 192)}
_SHORT = {"vae": "a VAE", "unet": "a UNet alone", "lora": "a LoRA", "unknown": "unknown"}


def badges(card: Card) -> tuple[str, ...]:
    """What a file is, in a few words each, the most important first."""
    if card.problem:
        return ("cannot be read",)
    what = card.family if card.kind in ("sdxl-base", "sdxl-refiner", "sd15") else _SHORT[card.kind]
    if card.kind == "lora":
        network = card.network if card.network != "LoRA" else ""
        rank = f"rank {card.rank}" if card.rank else ""
        what = f"for {card.family}" if card.family else "base unknown"
        return tuple(filter(None, (what, network, rank, *_ways(card))))
    return (what or KINDS[card.kind], *_ways(card))


def label(name: str, card: Card | None) -> str:
    """A file as it is listed: its name, which stays searchable, and what it is."""
    return name if card is None else f"{name}  ·  {badges(card)[0]}"


def listed_order(card: Card | None, base: Card | None) -> int:
    """Where a file comes in a list: what fits first, then what is unknown, then what cannot be used."""
    if card is None:
        return 1
    if card.problem:
        return 4
    if card.kind == "lora":
        unknown = base is None or not card.family
        return 1 if unknown else 0 if base is not None and _for_each_other(card, base) else 2
    return {"sdxl-base": 0, "sdxl-refiner": 1, "sd15": 2}.get(card.kind, 3)


def base_problem(name: str, card: Card) -> str:
    """Why a file cannot be the base model; empty if it can."""
    if card.problem:
        return card.problem
    if card.kind == "sdxl-refiner":
        return (
            f"{name} is a refiner: it can only finish a picture that a base model has begun. "
            "Choose it as the refiner, and an SDXL checkpoint here."
        )
    if card.kind in ("lora", "vae", "unet"):
        return f"{name} cannot be the base model: it looks like {KINDS[card.kind]}, needed is {KINDS['sdxl-base']}."
    return ""


def refiner_problem(name: str, card: Card, base_name: str, base: Card) -> str:
    """Why a file cannot be the refiner of this base; empty if it can."""
    if card.problem:
        return card.problem
    if card.kind in ("lora", "vae", "unet"):
        wanted = "an SDXL refiner, an SDXL model or an SD 1.5 model"
        return f"{name} is no refiner: it looks like {KINDS[card.kind]}. Needed is {wanted}."
    if base.kind == "sd15":
        return f"{base_name} is an SD 1.5 model, and refiners go with SDXL models."
    if card.kind == "sd15":
        return ""
    if name == base_name:
        return f"{name} is the base model already: as its own refiner it changes next to nothing."
    fitting = _REFINED_BY.get(base.width) if base.kind == "sdxl-base" else None
    if card.width and fitting and card.width not in fitting:
        return f"{name} is {_a(card.family)} and does not go with {base_name}, which is {_a(base.family)}."
    return ""


def lora_problem(name: str, card: Card, base_name: str, base: Card) -> str:
    """Why a file has no effect on this base as a LoRA; empty if it may have."""
    if card.problem:
        return card.problem
    if card.kind not in ("lora", "unknown"):
        return f"{name} is no LoRA: it looks like {KINDS[card.kind]}."
    if not base_problem(base_name, base) and not _for_each_other(card, base):
        return f"{name} was trained for {card.family} and does nothing for {base_name}, which is {_a(base.family)}."
    return ""


def _for_each_other(lora: Card, base: Card) -> bool:
    """Whether a LoRA fits a base, as far as can be known; what cannot be known is no reason against it."""
    if lora.width and base.width:
        return lora.width == base.width
    return not lora.family or not base.family or lora.family == base.family


def _ways(card: Card) -> tuple[str, ...]:
    """How a model is to be used, where that differs from most."""
    few = f"few-step {card.few_step}" if card.few_step else ""
    return tuple(filter(None, ("v-prediction" if card.v_prediction else "", few)))


def _a(family: str) -> str:
    return family if family else "another kind of model"
