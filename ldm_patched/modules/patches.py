"""Patches are merged into the networks of a checkpoint and taken out again, bit by bit. Knows no file.

A patched weight is W + sum of strength * change, computed in float32 from the pristine weight and rounded once to the
dtype it is stored in. Nothing is ever subtracted, so nothing drifts: the pristine weight is kept as long as a weight is
patched. In main memory that is the network's own tensor, also where it lies in the memory-mapped file, and the merged
one is new; on a device, or in page-locked memory, it is a copy in main memory and the merged weight is written where
the pristine one was, so that captured graphs and transfers stay valid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from ldm_patched.ldm.clip import ClipText
from ldm_patched.ldm.unet import UNet
from ldm_patched.modules.checkpoint_layout import Kind, Translation, to_transformers_layout, unet_to_published
from ldm_patched.modules.deltas import Delta, Patch, Target
from ldm_patched.modules.lora_names import NameTable
from ldm_patched.modules.parts import FileIdentity, Part
from ldm_patched.modules.quantised import renew
from ldm_patched.modules.sd import CLIP, Checkpoint

_PIECE = 1 << 17
"""Numbers of a weight that a thread of a processor merges at once: 512 KiB in float32."""

Recipe = tuple[tuple[FileIdentity, float], ...]
"""Which files change a weight, and how strongly."""

Change = tuple[FileIdentity, float, Target, Delta]


class Patcher:
    """The UNet and the text towers of one model, and what is merged into them.

    towers: those on the meta device have names and shapes only, until `clip` has loaded them; without a clip, what is
    meant for them is left to another patcher. compute: where merging is computed; None means where each weight lies.
    """

    def __init__(
        self,
        kind: Kind,
        unet: UNet,
        towers: Mapping[Part, ClipText],
        clip: CLIP | None = None,
        compute: torch.device | None = None,
    ) -> None:
        self._clip = clip
        self._unet = unet
        self._compute = compute
        self._parameters: dict[Target, nn.Parameter] = {}  # by our own names, under which projections are fused
        self._owner: dict[Target, Target] = {}  # published name -> our own
        self._pristine: dict[Target, Tensor] = {}
        self._recipes: dict[Target, Recipe | None] = {}  # None: being written
        self._active: list[tuple[Patch, float]] = []
        networks: dict[Part, nn.Module] = {"unet": unet, **towers}
        shapes: dict[Part, dict[str, tuple[int, ...]]] = {part: {} for part in networks}
        for part, network in networks.items():
            for name, parameter in network.named_parameters():
                own = Target(part, name)
                self._parameters[own] = parameter
                for published, view in _published(own, parameter.data).items():
                    self._owner[Target(part, published)] = own
                    shapes[part][published] = tuple(view.shape)
        self.names = NameTable.of(kind, unet.params.context_dim, shapes)
        """Every weight under all its names, which reading a LoRA needs."""

    @classmethod
    def of(cls, checkpoint: Checkpoint, compute: torch.device | None = None) -> Patcher:
        """For a checkpoint that has no patches yet. Texts are encoded anew when a tower changes.

        The text encoders are loaded for the first patch that changes them.
        """
        return cls(checkpoint.kind, checkpoint.unet, _skeletons(checkpoint.clip), checkpoint.clip, compute)

    @classmethod
    def beside(cls, clip: CLIP, kind: Kind, unet: UNet) -> Patcher:
        """For a UNet that has no patches yet and whose texts another model encodes, whose patcher does that part."""
        return cls(kind, unet, _skeletons(clip))

    @property
    def patched(self) -> int:
        """How many parameters are not the checkpoint's own."""
        return len(self._recipes)

    def apply(self, patches: Sequence[tuple[Patch, float]]) -> frozenset[Part]:
        """Make these the patches of the networks, each with its strength, in place of those merged before.

        patches: read with this patcher's `names`; ValueError otherwise.
        Touches only weights whose patches change. The order does not matter; strength 0 is no patch; a patch given
        twice counts twice. Returns the parts that changed. After an error, such as memory running out, every weight is
        the checkpoint's own.
        """
        # Sorted, so that sums are rounded in the same way for every order of the patches.
        active = sorted((pair for pair in patches if pair[1]), key=lambda pair: (pair[0].identity, pair[1]))
        with ExitStack() as after_an_error, torch.inference_mode(False), torch.no_grad():
            after_an_error.callback(self._undo)
            self._load_towers_for(active)
            wanted = self._by_parameter(active)
            recipes = {own: _recipe(changes) for own, changes in wanted.items()}
            stale = [own for own in self._parameters if self._recipes.get(own, ()) != recipes.get(own, ())]
            if self._clip is not None:
                self._clip.weights_are(None)
            for own in stale:
                if own in wanted:
                    self._merge(own, wanted[own])
                else:
                    self._restore(own)
            self._renew(stale)
            after_an_error.pop_all()
        self._now(active)
        return frozenset(own.part for own in stale)

    def restore(self) -> frozenset[Part]:
        """Make every weight the checkpoint's own again, to the last bit. Returns the parts that changed."""
        return self.apply(())

    def recipe(self, *parts: Part) -> Recipe:
        """Which files change these parts, and how strongly: the key of whatever is computed with them."""
        changing = (pair for pair in self._active if any(target.part in parts for target in pair[0].deltas))
        return tuple((patch.identity, strength) for patch, strength in changing)

    def _now(self, active: list[tuple[Patch, float]]) -> None:
        self._active = active
        if self._clip is not None:
            self._clip.weights_are(self.recipe("clip_l", "clip_g"))

    def _undo(self) -> None:
        """Make every weight the checkpoint's own. Hardly needs memory, so that it can follow upon a lack of it."""
        patched = list(self._recipes)
        for own in patched:
            self._restore(own)
        self._renew(patched)
        self._now([])

    def _renew(self, changed: Iterable[Target]) -> None:
        """Let layers that are stored in eight bits follow their weights."""
        if any(own.part == "unet" for own in changed):
            renew(self._unet)

    def _load_towers_for(self, patches: Sequence[tuple[Patch, float]]) -> None:
        """Have the text encoders in memory if they are ours and one of the patches changes them."""
        if self._clip is None or not any(target.part != "unet" for patch, _ in patches for target in patch.deltas):
            return
        for tower in self._clip.encoder.towers:
            for name, parameter in tower.model.named_parameters():
                self._parameters[Target(tower.part, name)] = parameter

    def _by_parameter(self, patches: Sequence[tuple[Patch, float]]) -> dict[Target, list[Change]]:
        """What changes each parameter, in the order of the patches. Raises ValueError for another model's patch."""
        wanted: dict[Target, list[Change]] = {}
        for patch, strength in patches:
            if not patch.deltas.keys() <= self._owner.keys():
                raise ValueError(f"{patch.identity.name} was read for another model")
            for target, delta in patch.deltas.items():
                own = self._owner[target]
                if not self._parameters[own].is_meta:
                    wanted.setdefault(own, []).append((patch.identity, strength, target, delta))
        return wanted

    def _merge(self, own: Target, changes: Sequence[Change]) -> None:
        parameter = self._parameters[own]
        source = self._pristine.get(own, parameter.data)
        if own not in self._pristine:
            self._pristine[own] = source.to("cpu", copy=True) if _stays(parameter) else source
        self._recipes[own] = None
        is_pristine = parameter.data_ptr() == self._pristine[own].data_ptr()
        merged = torch.empty_like(source) if is_pristine else parameter.data
        before = _published(own, source.to(self._compute or parameter.device))
        for name, after in _published(own, merged).items():
            mine = [(delta, strength) for _, strength, target, delta in changes if target.name == name]
            _sum(after, before[name], mine)
        parameter.data = merged
        self._recipes[own] = _recipe(changes)

    def _restore(self, own: Target) -> None:
        parameter = self._parameters[own]
        self._recipes[own] = None
        if _stays(parameter):
            parameter.data.copy_(self._pristine[own])
        else:
            parameter.data = self._pristine[own]
        del self._pristine[own], self._recipes[own]


def _skeletons(clip: CLIP) -> dict[Part, ClipText]:
    """The text towers without their weights."""
    with torch.device("meta"):
        return {part: ClipText(params) for part, params in clip.params.items()}


def _sum(after: Tensor, before: Tensor, changes: Sequence[tuple[Delta, float]]) -> None:
    """Write the sum of a pristine weight and its changes, computed where the pristine weight is."""
    if not changes:
        after.copy_(before)
    for rows, parts in _pieces(before, changes) if changes else ():
        merged = before[rows].to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for delta, strength in parts:
            delta.add_to(merged, before[rows], strength)
        after[rows].copy_(merged)


def _pieces(
    weight: Tensor, changes: Sequence[tuple[Delta, float]]
) -> Iterator[tuple[slice, Sequence[tuple[Delta, float]]]]:
    """Rows of a weight and what changes them: few enough for the cache on a processor, all at once elsewhere."""
    step = max(1, torch.get_num_threads() * _PIECE * len(weight) // weight.numel())
    whole = weight.device.type != "cpu" or len(weight) <= step
    if whole or any(delta.rows(0, 1) is None for delta, _ in changes):
        yield slice(None), changes
        return
    for begin in range(0, len(weight), step):
        end = begin + step
        yield slice(begin, end), [(delta.rows(begin, end) or delta, strength) for delta, strength in changes]


def _recipe(changes: Sequence[Change]) -> Recipe:
    return tuple((identity, strength) for identity, strength, _, _ in changes)


def _stays(parameter: nn.Parameter) -> bool:
    """Whether others hold on to the place of a parameter in memory."""
    return parameter.device.type != "cpu" or parameter.is_pinned()


def _published(own: Target, tensor: Tensor) -> dict[str, Tensor]:
    """A parameter under its published names. The tensors are views, so they can be written to."""
    translate: Translation = unet_to_published if own.part == "unet" else to_transformers_layout
    return translate({own.name: tensor})
