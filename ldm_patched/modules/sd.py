"""A checkpoint file becomes networks that are ready to use. Knows no sampler and nothing of the application.

Networks are built without memory, then get their tensors from the memory-mapped file, part by part: what has to be
copied (another dtype or device, a fused projection) is copied once and its pages are given back.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ldm_patched.ldm.clip import ClipText, ClipTextParams
from ldm_patched.ldm.unet import UNet
from ldm_patched.ldm.vae import AutoencoderKL
from ldm_patched.modules.autoencoder import VAE
from ldm_patched.modules.checkpoint_layout import (
    UNET_PREFIX,
    VAE_PREFIX,
    Kind,
    Prediction,
    Translation,
    tower_from_published,
    unet_from_published,
)
from ldm_patched.modules.conditioning import Conditioning, join_texts
from ldm_patched.modules.detection import (
    Detection,
    Skeleton,
    Unusual,
    build,
    check_complete,
    detect,
    detect_vae,
    published_shapes,
)
from ldm_patched.modules.devices import Placement, Sizes, look, place
from ldm_patched.modules.embeddings import NO_EMBEDDINGS, Embeddings, find_embeddings
from ldm_patched.modules.memory import AUTOMATIC, Policy
from ldm_patched.modules.parts import FileIdentity, TowerPart
from ldm_patched.modules.quantised import store_in_eight_bits
from ldm_patched.modules.sdxl_clip import SDXLClip, Tower, part_of
from ldm_patched.modules.state_dict import TensorFile, WeightsError, cast, with_prefix
from ldm_patched.modules.streaming import stream, visiting
from ldm_patched.modules.text_cache import TextCache
from ldm_patched.modules.token_chunks import pieces_with_embeddings

LATENT_SCALES: Mapping[Kind, float] = {"sdxl": 0.13025, "sdxl_refiner": 0.13025, "sd15": 0.18215}
"""What an autoencoder's latents are multiplied by before they are noised: it brings them to unit variance."""

_BLOCK = re.compile(r".*?\.\d+\.")
_CACHED_TEXTS = 64
ENCODING = 1
"""Of the way from a text to its conditioning; another number wherever that changes, so that no old text is taken."""
_EXACT_LAYERS = ("time_embed.", "label_emb.", "input_blocks.0.", "out.")
"""What is not worth eight bits: small, and what every number of the picture goes through."""
_WORKERS = 4
"""Threads that copy tensors out of the file: copying waits for memory pages more than it computes."""

Network = TypeVar("Network", bound=nn.Module)
Opened = tuple[TensorFile, Detection, Skeleton, Placement]


class CLIP:
    """The text encoders of a checkpoint, loaded when a text has to be encoded, and the texts they have encoded.

    A text is remembered with everything that it depends on, in memory and, where there is a `TextCache`, on the disk.
    """

    def __init__(
        self,
        load: Callable[[], SDXLClip],
        params: Mapping[TowerPart, ClipTextParams],
        device: torch.device,
        identity: Hashable = None,
        cache: TextCache | None = None,
        computes: torch.device | None = None,
    ) -> None:
        """load: reads the encoders, which have these params. device: where results are needed. identity: of their
        weights, of plain values, and of all else that their results depend on; without one nothing is kept on the
        disk. computes: where they compute, if not where they are loaded to.
        """
        self.params = params
        self._load = load
        self._encoder: SDXLClip | None = None
        self._device = device
        self._computes = computes or device
        self._identity = identity
        self._disk = cache if identity is not None else None
        self._recipe: Hashable = ()
        self.encoded = 0
        """How many texts have been encoded so far."""
        self._memory: OrderedDict[Hashable, Conditioning] = OrderedDict()

    @property
    def encoder(self) -> SDXLClip:
        """The encoders; loaded now if they have not been."""
        if self._encoder is None:
            self._encoder = self._load()
        return self._encoder

    @property
    def loaded(self) -> bool:
        """Whether the encoders are in memory."""
        return self._encoder is not None

    def weights_are(self, recipe: Hashable) -> None:
        """What is merged into the encoders: texts are remembered for each recipe. None: it is just being changed."""
        self._recipe = recipe

    def find_embeddings(self, texts: Sequence[str], folders: Sequence[Path]) -> Embeddings:
        """The embeddings that texts name, from files in folders or below; see `embeddings.find_embeddings`."""
        widths = {part: params.width for part, params in self.params.items()}
        return find_embeddings(pieces_with_embeddings(texts), folders, widths)

    def encode(
        self, texts: Sequence[str], clip_skip: int = 2, top_k: int = 1, embeddings: Embeddings = NO_EMBEDDINGS
    ) -> Conditioning:
        """Several texts, encoded one by one and joined.

        Returns [(hidden [1, 77 * chunks of all texts, context_dim], {"pooled_output": [1, width] or None})] in
        float32; the pooled vector is the sum over the first `top_k` texts. Raises PromptTooLong, and ValueError for
        a clip_skip that the encoders do not have. embeddings: those that the texts may name.
        """
        return join_texts([self._encode(text, clip_skip, embeddings) for text in texts], top_k)

    def _encode(self, text: str, clip_skip: int, embeddings: Embeddings) -> Conditioning:
        if self._recipe is None:
            return self._new(text, clip_skip, embeddings)
        key = (self._identity, self._recipe, text, clip_skip, embeddings.used_in(pieces_with_embeddings([text])))
        if key not in self._memory:
            found = None if self._disk is None else self._disk.get(key, self._device)
            self._memory[key] = found or self._new(text, clip_skip, embeddings)
            if found is None and self._disk is not None:
                self._disk.put(key, self._memory[key])
            if len(self._memory) > _CACHED_TEXTS:
                self._memory.popitem(last=False)
        self._memory.move_to_end(key)
        return self._memory[key]

    def _new(self, text: str, clip_skip: int, embeddings: Embeddings) -> Conditioning:
        self.encoded += 1
        with visiting([tower.model for tower in self.encoder.towers], self._computes):
            ((hidden, extras),) = self.encoder.encode(text, clip_skip, embeddings)
        pooled = extras["pooled_output"]
        return [(hidden.to(self._device), {"pooled_output": None if pooled is None else pooled.to(self._device)})]


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a checkpoint, on their device and in their dtype.

    prediction: what the UNet's output means. zero_terminal_snr: whether its schedule ends in pure noise. metadata: the
    file's own, as it stands there. placement: where the parts are, and where they compute.
    """

    kind: Kind
    unet: UNet
    clip: CLIP
    vae: VAE
    prediction: Prediction
    zero_terminal_snr: bool
    metadata: Mapping[str, str]
    placement: Placement


def load_checkpoint(
    path: Path, placement: Placement | None = None, cache: TextCache | None = None, policy: Policy = AUTOMATIC
) -> Checkpoint:
    """Load a single-file checkpoint of SDXL, its refiner or SD 1.5, of any width; its text encoders when they are used.

    placement: where to and in which dtypes; by default `devices` decides for what the policy wants. cache: keeps
    encoded texts beyond this process. Raises WeightsError with a message that names the file, what it looks like and
    what was expected, and DeviceError for a policy that this machine cannot follow.
    """
    return _whole(_open(path, placement, policy), cache)


def _whole(opened: Opened, cache: TextCache | None) -> Checkpoint:
    file, found, skeleton, placement = opened
    if skeleton.vae is None:
        raise WeightsError(
            f"{file.path.name} is the UNet of an SDXL refiner alone, without text encoders and VAE: it finishes "
            "pictures of another model, and cannot begin one."
        )
    unet = _load_unet(skeleton.unet, file, placement)
    clip = CLIP(
        lambda: SDXLClip(_load_towers(file, found, skeleton, placement)),
        {part_of(tower.params): tower.params for tower in found.towers},
        placement.device,
        (FileIdentity.of(file.path), str(placement.towers), placement.towers_compute.type, ENCODING),
        cache,
        placement.towers_compute,
    )
    vae = _fill(skeleton.vae, file, VAE_PREFIX, dict, (placement.vae_rests, placement.vae))
    return Checkpoint(
        kind=found.kind,
        unet=unet,
        clip=clip,
        vae=VAE(vae, LATENT_SCALES[found.kind], placement.vae_computes),
        prediction=found.prediction,
        zero_terminal_snr=found.zero_terminal_snr,
        metadata=file.metadata,
        placement=placement,
    )


@dataclass(frozen=True)
class Refiner:
    """The UNet of a checkpoint alone, for a run whose texts another checkpoint has encoded. See `Checkpoint`."""

    kind: Kind
    unet: UNet
    prediction: Prediction
    zero_terminal_snr: bool
    placement: Placement | None = None


def load_refiner(
    path: Path, placement: Placement | None = None, cache: TextCache | None = None, policy: Policy = AUTOMATIC
) -> Checkpoint | Refiner:
    """Load the UNet of a checkpoint and leave everything else in the file. See `load_checkpoint`.

    A refiner's file may hold nothing else. One of SD 1.5 is loaded whole: neither the texts nor the latents of another
    family are its own.
    """
    opened = file, found, skeleton, placement = _open(path, placement, policy)
    if found.kind == "sd15":
        return _whole(opened, cache)
    unet = _load_unet(skeleton.unet, file, placement)
    return Refiner(found.kind, unet, found.prediction, found.zero_terminal_snr, placement)


def at_work(model: Checkpoint | Refiner) -> AbstractContextManager[None]:
    """Let the UNet of a model be where it computes, if it leaves that place between its runs."""
    placement = model.placement
    if placement is None or placement.streamed or not placement.unet_leaves:
        return nullcontext()
    return visiting([model.unet], placement.device)


def discard(model: Checkpoint | Refiner | VAE) -> None:
    """Give back the memory of a model's networks at once, whoever still holds them. They can compute nothing more."""
    networks: list[nn.Module] = [model.model if isinstance(model, VAE) else model.unet]
    if isinstance(model, Checkpoint):
        networks.append(model.vae.model)
        networks += [tower.model for tower in model.clip.encoder.towers] if model.clip.loaded else []
    for network in networks:
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.data = tensor.data.new_empty(0)


def load_vae(path: Path, like: VAE) -> VAE:
    """Load an autoencoder that lies in a file of its own, with or without the prefix that it has in a checkpoint.

    like: the one whose place it takes: latents, device and dtype are the same. Raises WeightsError in words.
    """
    file = TensorFile(path)
    prefix = VAE_PREFIX if any(name.startswith(VAE_PREFIX) for name in file.infos) else ""
    shapes = {name.removeprefix(prefix): info.shape for name, info in file.infos.items() if name.startswith(prefix)}
    try:
        params = detect_vae(shapes)
    except (KeyError, Unusual, IndexError, ZeroDivisionError) as error:
        missing = f"has no tensor {prefix}{error.args[0]}" if isinstance(error, KeyError) else "has impossible sizes"
        what = str(error) if isinstance(error, Unusual) else missing
        raise WeightsError(f"{path.name} is not a VAE of the kind that is used here: it {what}") from error
    if params.latent_channels != like.model.params.latent_channels:
        raise WeightsError(
            f"{path.name} is a VAE of {params.latent_channels} latent channels, "
            f"needed are {like.model.params.latent_channels}"
        )
    try:
        with torch.device("meta"):
            model = AutoencoderKL(params)
    except (ValueError, ZeroDivisionError, RuntimeError) as error:
        raise WeightsError(f"{path.name} is a VAE of impossible sizes: {error}") from error
    check_complete(path.name, shapes, {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    weight = next(like.model.parameters())
    return VAE(_fill(model, file, prefix, dict, (weight.device, weight.dtype)), like.scale, like.computes)


def _open(path: Path, placement: Placement | None, policy: Policy) -> Opened:
    """A checkpoint's file, what it is, its networks without weights, and where those will live."""
    file = TensorFile(path)
    shapes = {name: info.shape for name, info in file.infos.items()}
    found = detect(path.name, shapes)
    skeleton = build(path.name, found)
    check_complete(path.name, shapes, published_shapes(found, skeleton))
    if placement is None:
        stored = file.infos[UNET_PREFIX + "input_blocks.0.0.weight"].dtype
        placement = place(look(policy), sizes_of(skeleton), stored, policy)
    return file, found, skeleton, placement


def sizes_of(skeleton: Skeleton) -> Sizes:
    """Numbers of parameters of the parts."""
    vae = 0 if skeleton.vae is None else _parameters(skeleton.vae)
    return Sizes(_parameters(skeleton.unet), sum(map(_parameters, skeleton.towers)), vae)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _load_unet(unet: UNet, file: TensorFile, placement: Placement) -> UNet:
    """The UNet in the form that a placement says."""
    if placement.eight_bit:  # codes are made of the file's own numbers
        stored = file.infos[UNET_PREFIX + "input_blocks.0.0.weight"].dtype
        _fill(unet, file, UNET_PREFIX, unet_from_published, (torch.device("cpu"), stored))
        store_in_eight_bits(unet, placement.unet_rests, placement.unet, _EXACT_LAYERS)
    else:
        _fill(unet, file, UNET_PREFIX, unet_from_published, (placement.unet_rests, placement.unet))
    if placement.streamed:
        stream(unet, placement.device, placement.resident)
    return unet


def _load_towers(file: TensorFile, found: Detection, skeleton: Skeleton, placement: Placement) -> list[Tower]:
    target = (placement.towers_rest, placement.towers)
    towers: list[Tower] = []
    for tower, model in zip(found.towers, skeleton.towers, strict=True):
        translate = partial(tower_from_published, tower.slot)
        loaded: ClipText = _fill(model, file, tower.slot.prefix, translate, target)
        pad = loaded.params.vocabulary - 1 if tower.slot.pads_with_end else 0
        towers.append(Tower(loaded, pad, tower.slot.final_norm))
    return towers


def _fill(
    network: Network, file: TensorFile, prefix: str, translate: Translation, target: tuple[torch.device, torch.dtype]
) -> Network:
    """Give a network on the meta device its tensors, block by block, and make it ready for inference."""
    device, dtype = target
    wanted = network.state_dict()
    state: dict[str, Tensor] = {}
    groups = list(_groups(with_prefix(file, prefix)))
    with ThreadPoolExecutor(_WORKERS) as pool:
        for group, following in zip(groups, [*groups[1:], {}], strict=True):
            file.prefetch(following.values())
            tensors = translate({short: file[name] for short, name in group.items()})
            used = {name: tensor for name, tensor in tensors.items() if name in wanted}
            state |= zip(used, pool.map(lambda tensor: _place(tensor, device, dtype), used.values()), strict=True)
            file.release(group.values())
    network.load_state_dict(state, strict=True, assign=True)
    return network.requires_grad_(False).eval()


def _place(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The tensor itself where nothing has to change. Kernels of convolutions become channels-last."""
    placed = cast(tensor.to(device), dtype)
    return placed.contiguous(memory_format=torch.channels_last) if placed.ndim == 4 else placed


def _groups(names: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Names of a part, divided by the numbered block they belong to, which bounds what is in memory twice."""
    groups: dict[str, dict[str, str]] = {}
    for short, name in names.items():
        match = _BLOCK.match(short)
        groups.setdefault(match[0] if match else "", {})[short] = name
    yield from groups.values()
