"""The models in memory, by what a job asks for; knows no prompt, no sampling and no queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ldm_patched.modules.conditioning import NUMBER_WIDTH, REFINER_NUMBERS
from ldm_patched.modules.deltas import Patch
from ldm_patched.modules.lora import LoraSpec, read_lora
from ldm_patched.modules.parts import FileIdentity
from ldm_patched.modules.patches import Patcher
from ldm_patched.modules.sd import VAE, Checkpoint, Refiner, load_checkpoint, load_refiner, load_vae
from ldm_patched.modules.text_cache import TextCache
from modules.model_folders import ModelFolders
from modules.plan import ImageJob
from modules.previews import Preview, preview_for


class ModelError(ValueError):
    """A model that is missing or cannot do what is asked of it; the message is fit for the user's eyes."""


@dataclass(frozen=True)
class ModelSpec:
    """The models of a job, by their names. Equal specs mean that there is nothing to load."""

    checkpoint: str
    refiner: str
    vae: str
    loras: tuple[tuple[str, float], ...]

    @staticmethod
    def of(job: ImageJob) -> ModelSpec:
        """What a job asks for. A refiner that would come too late for any step is not asked for."""
        refiner = job.refiner if job.switch < job.steps else ""
        return ModelSpec(job.checkpoint, refiner, job.vae, job.loras)


@dataclass(frozen=True)
class LoadedModel:
    """Everything that a job computes with. LoRAs are merged into it and are no part of its spec."""

    spec: ModelSpec
    checkpoint: Checkpoint
    refiner: Refiner | None
    vae: VAE
    preview: Preview


Note = Callable[[str], None]
"""Told, in a sentence for the user, what is left out of a picture."""


class Loras:
    """The LoRA files that are merged into one model."""

    def __init__(self, patcher: Patcher) -> None:
        self._patcher = patcher
        self._read: dict[FileIdentity, Patch] = {}

    def apply(self, wanted: Sequence[tuple[Path, float]], note: Note) -> None:
        """Make these files the model's LoRAs, each with its strength. One that cannot be used is left out, in words."""
        patches: list[tuple[Patch, float]] = []
        for path, strength in wanted:
            try:
                identity = LoraSpec.of(path, strength).file
                patch = self._read.get(identity) or read_lora(path, self._patcher.names)
            except ValueError as error:
                note(f"{str(error).rstrip('.')}. The picture is made without this LoRA.")
                continue
            if notice := patch.notice():
                note(notice)
            patches.append((patch, strength))
        self._read = {patch.identity: patch for patch, _ in patches}
        self._patcher.apply(patches)


class Loader:
    """Loads what a job asks for, and keeps it for the next one."""

    def __init__(self, folders: ModelFolders, cache: TextCache | None = None) -> None:
        self._folders = folders
        self._cache = cache
        self._loaded: LoadedModel | None = None
        self._loras: Loras | None = None
        self._refiner_loras: Loras | None = None

    @property
    def loaded(self) -> LoadedModel | None:
        """The models of the last job."""
        return self._loaded

    def load(self, spec: ModelSpec, note: Note) -> LoadedModel:
        """The models of a spec; what the last one asked for too is not loaded again.

        note: is told of LoRAs that cannot be used. Raises ``ModelError``, and ``WeightsError`` for a file that is not
        what it should be.
        """
        loaded = self._networks(replace(spec, loras=()))
        found = [(path, strength) for name, strength in spec.loras if (path := self._lora(name, note)) is not None]
        if self._loras is None and found:
            self._loras = Loras(Patcher.of(loaded.checkpoint))
        if self._loras is not None:
            self._loras.apply(found, note)
        # An SDXL refiner is another network, for which LoRAs are not made; a second SDXL model takes them as well.
        refiner = loaded.refiner
        if refiner is not None and refiner.kind == "sdxl" and refiner.unet is not loaded.checkpoint.unet:
            if self._refiner_loras is None and found:
                self._refiner_loras = Loras(Patcher(refiner.kind, refiner.unet, {}))
            if self._refiner_loras is not None:
                self._refiner_loras.apply(found, _nobody)
        return loaded

    def _networks(self, spec: ModelSpec) -> LoadedModel:
        before = self._loaded
        if before is not None and before.spec == spec:
            return before
        self._loaded = None  # what is not needed any more goes before anything new comes
        checkpoint = before.checkpoint if before is not None and before.spec.checkpoint == spec.checkpoint else None
        # A refiner that is, or was, the base model itself shares its network, with whatever is merged into that.
        apart = before is not None and spec.checkpoint != spec.refiner == before.spec.refiner != before.spec.checkpoint
        refiner = before.refiner if before is not None and apart else None
        before = None
        if checkpoint is None:
            self._loras = None
        if refiner is None:
            self._refiner_loras = None
        checkpoint = checkpoint or self._checkpoint(spec.checkpoint)
        if spec.refiner and spec.refiner == spec.checkpoint:
            refiner = _itself(checkpoint)
        elif spec.refiner:
            refiner = refiner or self._refiner(spec.refiner, spec.checkpoint, checkpoint)
        else:
            refiner = None
        vae = load_vae(self._find("vae", spec.vae), checkpoint.vae) if spec.vae else checkpoint.vae
        preview = preview_for(checkpoint.metadata, self._folders.previews, checkpoint.unet.device)
        self._loaded = LoadedModel(spec, checkpoint, refiner, vae, preview)
        return self._loaded

    def _checkpoint(self, name: str) -> Checkpoint:
        checkpoint = load_checkpoint(self._find("checkpoints", name), cache=self._cache)
        if checkpoint.kind == "sdxl_refiner":
            raise ModelError(f"{name} is a refiner: it finishes pictures of another model, and cannot begin one.")
        return checkpoint

    def _refiner(self, name: str, base_name: str, base: Checkpoint) -> Refiner:
        refiner = load_refiner(self._find("checkpoints", name))
        if "sd15" in (refiner.kind, base.kind):
            raise ModelError(
                f"{name} cannot refine pictures of {base_name}: their latents differ. Choose an SDXL refiner, "
                "or a second SDXL model."
            )
        params, wanted = refiner.unet.params, base.unet.params
        pooled = base.clip.params["clip_g"]
        if refiner.kind == "sdxl_refiner":
            fits = (params.context_dim, params.adm_channels) == (
                pooled.width,
                pooled.projection_dim + REFINER_NUMBERS * NUMBER_WIDTH,
            )
        else:
            fits = (params.context_dim, params.adm_channels) == (wanted.context_dim, wanted.adm_channels)
        if not fits:
            raise ModelError(
                f"{name} cannot refine pictures of {base_name}: it reads texts {params.context_dim} wide, which the "
                "text encoders of that model do not write."
            )
        return refiner

    def _lora(self, name: str, note: Note) -> Path | None:
        try:
            return self._find("loras", name)
        except ModelError as error:
            note(f"{error} The picture is made without this LoRA.")
            return None

    def _find(self, kind: str, name: str) -> Path:
        folders = self._folders.of(kind)
        found = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if found is None:
            places = ", ".join(str(folder) for folder in folders)
            raise ModelError(f"The file {name} is not there. Put it into {places}.")
        return found


def _nobody(sentence: str) -> None:
    """What a second model leaves out of a LoRA, the first one has reported."""


def _itself(checkpoint: Checkpoint) -> Refiner:
    return Refiner(checkpoint.kind, checkpoint.unet, checkpoint.prediction, checkpoint.zero_terminal_snr)
