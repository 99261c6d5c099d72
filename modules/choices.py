"""The vocabulary users choose from: names only; knows nothing of what the names do."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from types import MappingProxyType

from modules.performance import MODES

PERFORMANCE_MODES: tuple[str, ...] = tuple(MODES)

SAMPLERS: tuple[str, ...] = (
    "euler", "euler_ancestral", "heun", "heunpp2", "dpm_2", "dpm_2_ancestral", "lms", "dpm_fast", "dpm_adaptive",
    "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_sde_gpu", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu",
    "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm", "lcm", "tcd", "restart", "ddim", "uni_pc", "uni_pc_bh2",
)  # fmt: skip

# the names of the samplers in texts that other programs read; of two with one name the first is meant
A1111_SAMPLERS: Mapping[str, str] = MappingProxyType(
    {
        "euler": "Euler", "euler_ancestral": "Euler a", "heun": "Heun", "dpm_2": "DPM2", "dpm_2_ancestral": "DPM2 a",
        "lms": "LMS", "dpm_fast": "DPM fast", "dpm_adaptive": "DPM adaptive", "dpmpp_2s_ancestral": "DPM++ 2S a",
        "dpmpp_sde": "DPM++ SDE", "dpmpp_sde_gpu": "DPM++ SDE", "dpmpp_2m": "DPM++ 2M",
        "dpmpp_2m_sde": "DPM++ 2M SDE", "dpmpp_2m_sde_gpu": "DPM++ 2M SDE", "lcm": "LCM", "tcd": "TCD",
        "restart": "Restart", "ddim": "DDIM", "uni_pc": "UniPC",
    }
)  # fmt: skip

SCHEDULERS: tuple[str, ...] = (
    "normal", "karras", "exponential", "sgm_uniform", "simple", "ddim_uniform", "lcm", "turbo", "align_your_steps",
    "tcd", "edm_playground_v2.5",
)  # fmt: skip

REFINER_SWAP_METHODS: tuple[str, ...] = ("joint", "separate", "vae")

NO_MODEL = "None"
"""What stands for no refiner, and for no LoRA."""
OWN_VAE = "Default (model)"
"""What stands for the VAE that a checkpoint brings along."""

METADATA_SCHEMES: tuple[str, ...] = ("fooocus", "a1111")
"""What other programs can read in a picture: a JSON record, or lines of text."""

OUTPUT_FORMATS: tuple[str, ...] = ("png", "jpeg", "webp")

ASPECT_RATIOS: tuple[str, ...] = (
    "704*1408", "704*1344", "768*1344", "768*1280", "832*1216", "832*1152", "896*1152", "896*1088", "960*1088",
    "960*1024", "1024*1024", "1024*960", "1088*960", "1088*896", "1152*896", "1152*832", "1216*832", "1280*768",
    "1344*768", "1344*704", "1408*704", "1472*704", "1536*640", "1600*640", "1664*576", "1728*576",
)  # fmt: skip

MAX_SEED = 2**63 - 1
MAX_CLIP_SKIP = 12


def parse_aspect_ratio(value: str) -> tuple[int, int]:
    """Width and height in pixels of ``"1152*896"`` or of its label ``"1152×896 ∣ 9:7"``.

    Raises ``ValueError`` naming the text when it is not two positive numbers.
    """
    numbers = value.strip().partition(" ")[0].replace("×", "*").replace("x", "*").split("*")
    if len(numbers) != 2 or not all(number.isascii() and number.isdigit() and int(number) > 0 for number in numbers):
        raise ValueError(f"aspect ratio {value!r} is not of the form 1152*896")
    return int(numbers[0]), int(numbers[1])


def aspect_ratio_label(value: str) -> str:
    """The words shown for an aspect ratio: ``"1152*896"`` -> ``"1152×896 ∣ 9:7"``. Plain text, no HTML."""
    width, height = parse_aspect_ratio(value)
    divisor = gcd(width, height)
    return f"{width}×{height} ∣ {width // divisor}:{height // divisor}"


def metadata_scheme_label(value: str) -> str:
    """The words shown for a metadata scheme."""
    return {"fooocus": "fooocus (json)", "a1111": "a1111 (plain text)"}[value]
