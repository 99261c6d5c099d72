"""The models in memory, by what a job asks for; knows no prompt, no sampling and no queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ldm_patched.ldm.interposer import Interposer
from ldm_patched.modules.autoencoder import VAE
from ldm_patched.modules.bridge import INTERPOSER_FILE, load_interposer
from ldm_patched.modules.conditioning import NUMBER_WIDTH, REFINER_NUMBERS
from ldm_patched.modules.deltas import Patch
from ldm_patched.modules.devices import give_back_memory
from ldm_patched.modules.lora import LoraSpec, read_lora
from ldm_patched.modules.memory import AUTOMATIC, Policy
from ldm_patched.modules.parts import FileIdentity
from ldm_patched.modules.patches import Patcher
from ldm_patched.modules.sd import Checkpoint, Refiner, discard, load_checkpoint, load_refiner, load_vae
from ldm_patched.modules.state_dict import WeightsError
from ldm_patched.modules.text_cache import TextCache
from modules.files import ModelFileError, ModelLibrary
from modules.model_folders import ModelFolders
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


@dataclass(frozen=True)
class Sources:
    """The files of a spec as they were when they were loaded. Equal ones mean that what is loaded is up to date."""

    checkpoint: FileIdentity
    refiner: FileIdentity | None
    vae: FileIdentity | None
    interposer: FileIdentity | None


@dataclass(frozen=True)
class LoadedModel:
    """Everything that a job computes with. LoRAs are merged into it and are no part of its spec.

    A refiner of another family (SD 1.5) is a whole checkpoint: it has latents and texts of its own. interposer: goes
    from the base's latents to that one's, if it is there. preview, refiner_preview: of what each of them makes.
    """

    spec: ModelSpec
    sources: Sources
    checkpoint: Checkpoint
    refiner: Refiner | Checkpoint | None
    vae: VAE
    preview: Preview
    refiner_preview: Preview
    interposer: Interposer | None = None

    @property
    def painter(self) -> VAE:
        """What makes the picture of a finished latent."""
        return self.refiner.vae if isinstance(self.refiner, Checkpoint) else self.vae

    @property
    def encoded(self) -> int:
        """How many texts the text encoders have encoded so far."""
        own = self.refiner.clip.encoded if isinstance(self.refiner, Checkpoint) else 0
        return self.checkpoint.clip.encoded + own

    @property
    def weighs(self) -> int:
        """Bytes of main memory that are free again when it is gone."""
        networks = [self.checkpoint.unet, self.vae.model, *([] if self.refiner is None else [self.refiner.unet])]
        if self.checkpoint.clip.loaded:
            networks += [tower.model for tower in self.checkpoint.clip.encoder.towers]
        weights = {each for network in networks for each in network.parameters() if each.device.type == "cpu"}
        return sum(each.numel() * each.itemsize for each in weights)

    def discard(self) -> None:
        """Give back all memory at once, whoever still holds on to the models."""
        for model in (self.checkpoint, self.refiner, self.vae):
            if model is not None:
                discard(model)


Note = Callable[[str], None]
"""Told, in a sentence for the user, what is left out of a picture."""


class Loras:
    """The LoRA files that are merged into one model."""

    def __init__(self, patcher: Patcher, share: str = "The picture") -> None:
        """share: what the model makes, as the beginning of a sentence."""
        self._patcher = patcher
        self._share = share
        self._read: dict[FileIdentity, Patch] = {}

    def apply(self, wanted: Sequence[tuple[Path, float]], note: Note) -> list[tuple[Path, float]]:
        """Make these files the model's LoRAs, each with its strength. Returns those that can be used.

        The others are left out, in words. After an error, such as memory running out, none is merged.
        """
        usable: list[tuple[Path, float]] = []
        patches: list[tuple[Patch, float]] = []
        for path, strength in wanted:
            try:
                identity = LoraSpec.of(path, strength).file
                patch = self._read.get(identity) or read_lora(path, self._patcher.names)
            except ValueError as error:
                note(f"{str(error).rstrip('.')}. {self._share} is made without this LoRA.")
                continue
            if notice := patch.notice():
                note(notice)
            usable.append((path, strength))
            patches.append((patch, strength))
        self._read = {patch.identity: patch for patch, _ in patches}
        self._patcher.apply(patches)
        return usable


class Loader:
    """Loads what a job asks for, and keeps it for the next one."""

    def __init__(self, folders: ModelFolders, cache: TextCache | None = None, policy: Policy = AUTOMATIC) -> None:
        """policy: where models lie and in which numbers they compute."""
        self._folders = folders
        self._library = ModelLibrary(folders)
        self._cache = cache
        self._policy = policy
        self._loaded: LoadedModel | None = None
        self._loras: Loras | None = None
        self._refiner_loras: Loras | None = None

    @property
    def loaded(self) -> LoadedModel | None:
        """The models of the last job."""
        return self._loaded

    def load(self, spec: ModelSpec, note: Note) -> LoadedModel:
        """The models of a spec. What the last one asked for too is not loaded again, unless its file has changed.

        All files are looked up before the first is loaded. note: is told of LoRAs that cannot be used. Raises
        ``ModelFileError``, ``ModelError``, and ``WeightsError`` for a file that is not what it should be.
        """
        sources = self._sources(spec)
        found = [(path, strength) for name, strength in spec.loras if (path := self._lora(name, note)) is not None]
        loaded = self._networks(replace(spec, loras=()), sources, note)
        said: list[str] = []

        def tell(sentence: str) -> None:
            said.append(sentence)
            note(sentence)

        if self._loras is None and found:
            self._loras = Loras(Patcher.of(loaded.checkpoint))
        if self._loras is not None:
            found = self._loras.apply(found, tell)

        def tell_of_refiner(sentence: str) -> None:
            if sentence not in said:
                note(f"{spec.refiner}: {sentence}")

        self._load_refiner_loras(loaded, found, tell_of_refiner)
        return loaded

    def _load_refiner_loras(self, loaded: LoadedModel, found: Sequence[tuple[Path, float]], note: Note) -> None:
        """A second SDXL model takes those LoRAs that the base takes; for an SDXL refiner none are made."""
        refiner = loaded.refiner
        if isinstance(refiner, Refiner) and refiner.kind == "sdxl_refiner" and found:
            note(
                "It takes no LoRAs and may paint over what they do. Choose no refiner, or let it come later, if their "
                "style is lost."
            )
        if not isinstance(refiner, Refiner) or refiner.kind != "sdxl" or refiner.unet is loaded.checkpoint.unet:
            return
        if self._refiner_loras is None and found:
            patcher = Patcher.beside(loaded.checkpoint.clip, refiner.kind, refiner.unet)
            self._refiner_loras = Loras(patcher, "Its part of the picture")
        if self._refiner_loras is not None:
            self._refiner_loras.apply(found, note)

    def _sources(self, spec: ModelSpec) -> Sources:
        def source(kind: str, name: str) -> FileIdentity:
            try:
                return FileIdentity.of(self._library.find(kind, name))
            except OSError as error:
                raise ModelError(f"{name} cannot be read: {error.strerror or error}") from None

        return Sources(
            source("checkpoints", spec.checkpoint),
            source("checkpoints", spec.refiner) if spec.refiner else None,
            source("vae", spec.vae) if spec.vae else None,
            self._interposer_file() if spec.refiner else None,
        )

    def _interposer_file(self) -> FileIdentity | None:
        try:
            return FileIdentity.of(self._folders.previews / INTERPOSER_FILE)
        except OSError:
            return None

    def _networks(self, spec: ModelSpec, sources: Sources, note: Note) -> LoadedModel:
        before = self._loaded
        if before is not None and (before.spec, before.sources) == (spec, sources):
            return before
        self._loaded = None  # what is not needed any more goes before anything new comes
        old = None if before is None else before.sources
        checkpoint = before.checkpoint if before and old and old.checkpoint == sources.checkpoint else None
        vae = before.vae if before and old and checkpoint and old.vae == sources.vae else None
        # A refiner that is, or was, the base model itself shares its network, with whatever is merged into that.
        apart = old is not None and sources.checkpoint != sources.refiner == old.refiner != old.checkpoint
        refiner = before.refiner if before is not None and apart else None
        before = None
        if checkpoint is None:
            self._loras = None
        if refiner is None:
            self._refiner_loras = None
        if old is not None and checkpoint is None:
            give_back_memory()
        checkpoint = checkpoint or self._checkpoint(sources.checkpoint, spec)
        if sources.refiner == sources.checkpoint:
            refiner = _itself(checkpoint)
        elif sources.refiner is not None:
            refiner = refiner or load_refiner(Path(sources.refiner.path), cache=self._cache, policy=self._policy)
            _check_refiner(refiner, checkpoint, spec)
        else:
            refiner = None
        if vae is None:
            vae = checkpoint.vae if sources.vae is None else load_vae(Path(sources.vae.path), checkpoint.vae)
        preview = second = self._preview(checkpoint)
        interposer = None
        if isinstance(refiner, Checkpoint):
            second = self._preview(refiner)
            interposer = self._interposer(sources.interposer, checkpoint, note)
        self._loaded = LoadedModel(spec, sources, checkpoint, refiner, vae, preview, second, interposer)
        return self._loaded

    def _preview(self, checkpoint: Checkpoint) -> Preview:
        place = checkpoint.placement
        return preview_for(
            checkpoint.metadata, self._folders.previews, checkpoint.unet.device, place.vae, checkpoint.kind
        )

    def _interposer(self, source: FileIdentity | None, checkpoint: Checkpoint, note: Note) -> Interposer | None:
        if source is None:
            return None
        try:
            return load_interposer(Path(source.path), checkpoint.placement.device)
        except WeightsError as error:
            note(f"{error}. The refiner is given the picture instead of its latent.")
            return None

    def _checkpoint(self, source: FileIdentity, spec: ModelSpec) -> Checkpoint:
        checkpoint = load_checkpoint(Path(source.path), cache=self._cache, policy=self._policy)
        if checkpoint.kind == "sdxl_refiner":
            raise ModelError(
                f"{spec.checkpoint} is a refiner: it finishes pictures of another model, and cannot begin one."
            )
        return checkpoint

    def _lora(self, name: str, note: Note) -> Path | None:
        try:
            return self._library.find("loras", name)
        except ModelFileError as error:
            note(f"{error} The picture is made without this LoRA.")
            return None


def _check_refiner(refiner: Refiner | Checkpoint, base: Checkpoint, spec: ModelSpec) -> None:
    """Refuses, in words, what cannot go on with the base model's pictures or read its texts."""
    if base.kind == "sd15":
        raise ModelError(
            f"{spec.checkpoint} is a Stable Diffusion 1.5 model, whose pictures no refiner takes over. Choose an SDXL "
            "model as the base, or no refiner."
        )
    if isinstance(refiner, Checkpoint):
        return
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
            f"{spec.refiner} cannot refine pictures of {spec.checkpoint}: it reads texts {params.context_dim} wide, "
            "which the text encoders of that model do not write."
        )


def _itself(checkpoint: Checkpoint) -> Refiner:
    kind, unet, prediction = checkpoint.kind, checkpoint.unet, checkpoint.prediction
    return Refiner(kind, unet, prediction, checkpoint.zero_terminal_snr, checkpoint.placement)
