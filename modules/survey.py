"""The numbers that are needed before a model is loaded: what its file holds, what this machine has. Loads nothing."""

from __future__ import annotations

from pathlib import Path

from ldm_patched.modules.checkpoint_layout import UNET_PREFIX, VAE_PREFIX
from ldm_patched.modules.devices import Placement, Sizes, look, main_memory, others_hold, place, unused_gpu
from ldm_patched.modules.memory import Policy
from ldm_patched.modules.state_dict import TensorInfo, read_header
from modules.conditions import Computing, Unused
from modules.machine import nvidia_card
from modules.preflight import Doing, Has, Needs, ahead

WISHES = ("low-vram", "no-vram")


def survey(path: Path, policy: Policy, given_back: int = 0, stepped_down: bool = False) -> Computing:
    """What will compute with a checkpoint, and what is to be said before it is loaded.

    given_back: bytes that what is loaded now leaves behind. stepped_down: whether memory ran out before. Raises
    ``ValueError`` and ``OSError`` for a file or a policy that cannot be used: loading says the same, in words.
    """
    infos, _ = read_header(path)
    hardware = look(policy)
    sizes = Sizes(
        sum(_count(info) for name, info in infos.items() if name.startswith(UNET_PREFIX)),
        sum(_count(info) for name, info in infos.items() if not name.startswith((UNET_PREFIX, VAE_PREFIX))),
        sum(_count(info) for name, info in infos.items() if name.startswith(VAE_PREFIX)),
    )
    stored = infos[UNET_PREFIX + "input_blocks.0.0.weight"].dtype if sizes.unet else next(iter(infos.values())).dtype
    placement = place(hardware, sizes, stored, policy)
    on_gpu = hardware.kind != "cpu"
    gpu, unused = _unused(policy, on_gpu, stepped_down)
    total, free = main_memory()
    has = Has(
        gpu=hardware.name if on_gpu else gpu,
        unused=unused if policy.mode != "cpu" else "",
        gpu_free=hardware.free if on_gpu else None,
        main=total,
        main_free=None if free is None else free + (0 if on_gpu else given_back),
    )
    doing = Doing(
        on_gpu=on_gpu,
        streamed=placement.streamed,
        offload=placement.offload,
        eight_bit=placement.eight_bit,
        wished=policy.mode in WISHES or bool(policy.offload) or stepped_down,
    )
    unet, towers, vae = _bytes(sizes, placement)
    main = unet + towers + vae if not on_gpu else unet + towers if placement.streamed else 0
    needs = Needs(name=path.name, file=path.stat().st_size, gpu=unet + towers + vae, main=main)
    return Computing(
        device=placement.device.type,
        gpu=has.gpu,
        unused=unused,
        streamed=placement.streamed and on_gpu,
        eight_bit=placement.eight_bit,
        stepped_down=stepped_down,
        wished=policy.mode in WISHES and not stepped_down,
        gpu_memory=hardware.memory if on_gpu else 0,
        gpu_others=others_hold(placement.device),
        loading=True,
        ahead=ahead(needs, has, doing),
    )


def _unused(policy: Policy, on_gpu: bool, stepped_down: bool) -> tuple[str, Unused]:
    """The name of a GPU that is there and does not compute, and why not."""
    gpu, why = unused_gpu(policy)
    if why == "wish" and stepped_down:
        return gpu, ""  # nobody has wished that
    if not gpu and not on_gpu and policy.mode != "cpu" and nvidia_card():
        return "an NVIDIA GPU", "driver"
    return gpu, why


def _count(info: TensorInfo) -> int:
    return (info.end - info.begin) // info.dtype.itemsize


def _bytes(sizes: Sizes, placement: Placement) -> tuple[int, int, int]:
    """Of UNet, text encoders and autoencoder, in the numbers in which they compute."""
    unet = sizes.unet * (1 if placement.eight_bit else placement.unet.itemsize)
    return unet, sizes.towers * placement.towers.itemsize, sizes.vae * placement.vae.itemsize
