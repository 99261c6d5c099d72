"""Small pictures of an unfinished latent, for the eye only; knows no sampling and no engine process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ldm_patched.ldm.preview import PreviewDecoder
from ldm_patched.modules.checkpoint_layout import Kind
from ldm_patched.modules.state_dict import TensorFile, WeightsError

METADATA_KEY = "pinhole.preview"
"""Key of a checkpoint's metadata that names the preview decoder trained for its latents."""

Linear = tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]
# Linear fits of latents to colours, 0..255: rows of factors for red, green, blue, and their offsets. SDXL's are those
# of the article "Explaining the SDXL latent space" (huggingface.co/blog), Stable Diffusion 1's those of "Decoding
# latents to RGB without upscaling" (discuss.huggingface.co, 23204), which are for colours -1..1.
_SDXL: Linear = (
    ((60.0, -60.0, 25.0, -70.0), (60.0, -5.0, 15.0, -50.0), (60.0, 10.0, -5.0, -35.0)),
    (150.0, 140.0, 130.0),
)
_SD15: Linear = (
    ((38.0, 23.8, -20.1, -23.5), (26.4, 36.5, 24.1, -34.6), (26.5, 22.1, 33.7, -60.3)),
    (127.5, 127.5, 127.5),
)


class Preview(Protocol):
    """Turns a scaled latent [1, 4, h, w] into uint8 [height, width, 3] on the CPU."""

    def __call__(self, x0: Tensor) -> Tensor:
        """The small picture."""


def preview_for(
    metadata: Mapping[str, str], folder: Path, device: torch.device, dtype: torch.dtype, kind: Kind
) -> Preview:
    """The best preview of a checkpoint: the decoder that it names, if that lies in `folder`, else a linear fit.

    dtype: in which a decoder computes on the device.
    """
    name = metadata.get(METADATA_KEY, "")
    path = folder / name
    # The name comes out of a file that anyone may have written: it may only name a file of this folder.
    if not name or Path(name).name != name or not path.is_file():
        return LinearPreview(_SD15 if kind == "sd15" else _SDXL)
    file = TensorFile(path)
    with torch.device("meta"):
        decoder = PreviewDecoder()
    try:
        decoder.load_state_dict({key: _laid_out(file[key].to(device, dtype)) for key in file}, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{name} is not a preview decoder: its tensors have other names or sizes") from error
    return DecodedPreview(decoder.requires_grad_(False).eval(), dtype)


class DecodedPreview:
    """By a preview decoder, at twice the latent's size."""

    def __init__(self, decoder: PreviewDecoder, dtype: torch.dtype) -> None:
        self._decoder = decoder
        self._dtype = dtype

    def __call__(self, x0: Tensor) -> Tensor:
        """See `Preview`."""
        picture = self._decoder(_laid_out(x0[:1].to(self._dtype)))[0].permute(1, 2, 0).float()
        small: Tensor = (picture * 127.5 + 127.5).clamp_(0, 255).to(torch.uint8).cpu()
        return small


def _laid_out(tensor: Tensor) -> Tensor:
    """In the layout in which convolutions are fastest."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


class LinearPreview:
    """By a linear map of the four channels to colours, at the latent's size."""

    def __init__(self, fit: Linear) -> None:
        self._colours, self._offsets = fit

    def __call__(self, x0: Tensor) -> Tensor:
        """See `Preview`."""
        weights = torch.tensor(self._colours, device=x0.device)
        offsets = torch.tensor(self._offsets, device=x0.device)
        return (x0[0].float().permute(1, 2, 0) @ weights.T + offsets).clamp_(0, 255).to(torch.uint8).cpu()
