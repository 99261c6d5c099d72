"""Where prompts get words and names from: the folders that the settings name; knows no prompt and no parameter."""

from __future__ import annotations

from functools import partial

from modules.files import ModelFiles
from modules.prompts import Sources
from modules.settings import Settings
from modules.styles import read_styles
from modules.wildcards import WildcardFolder


def prompt_sources(settings: Settings) -> Sources:
    """What the folders hold now. Made anew for each task, so that a changed file counts from the next task on."""
    loras = ModelFiles(settings.models.loras)
    return Sources(
        wildcards=WildcardFolder(settings.wildcards),
        styles=partial(read_styles, settings.styles),
        loras=loras.names,
        lora_text_width=lambda name: loras.facts(name).text_width,
        lora_folder=" or ".join(map(str, loras.folders)),
    )
