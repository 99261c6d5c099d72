"""How fast the networks are beside diffusers', with the same random weights, in turns in one process; knows no prompt.

`python -m benchmarks.compare` takes SDXL at its full size and 512x512: a UNet step (both sides of guidance in one
batch) and a VAE decode, in bfloat16 against diffusers' eager channels_last in bfloat16 and its default, float32.
The networks in one dtype share their weights, so that 18 GB of memory are enough, 7 with `--no-fp32`.
`--cuda` takes 1024x1024 in float16 against diffusers eager and compiled (Linux, minutes of compiling), and whole
pictures beside: `--steps` of dpmpp_2m_sde with Karras' levels and guidance 4, from noise to pixels.

Every round runs each contestant once; what is told is the median, and the median of the ratio within a round. On a
processor the time is what the process used of it, which other programs do not lengthen; `--wall` takes the clock's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.networks import MINI, MINI_VAE, SDXL, SDXL_VAE, adopt, diffusers_unet, diffusers_vae, on_meta
from ldm_patched.ldm.attention import split_qkv
from ldm_patched.ldm.unet import UNet, UNetParams, timestep_embedding
from ldm_patched.ldm.vae import AutoencoderKL, VAEParams
from ldm_patched.modules.conditioning import SizeVectors
from ldm_patched.modules.model_sampling import EpsSampling
from ldm_patched.modules.sample import prepare_noise, sample
from ldm_patched.modules.samplers import Guidance, GuidedDenoiser, TextCondition
from ldm_patched.modules.schedulers import calculate_sigmas

OURS = "ours"
TOKENS = 77
GUIDANCE = 4.0
LATENT_SCALE = 0.13025
SIZES = 6 * 256
"""How much of a size vector is made of six sizes; the rest of it is the pooled text."""


@dataclass(frozen=True)
class Inputs:
    """What the UNet is told in one step: a latent for both sides of guidance, their texts and sizes."""

    latent: Tensor
    context: Tensor
    pooled: Tensor
    sizes: Tensor

    @classmethod
    def random(cls, params: UNetParams, pixels: int, device: torch.device, dtype: torch.dtype) -> Inputs:
        """pixels: width and height of the picture."""
        generator = torch.Generator().manual_seed(2)
        latent = torch.randn(1, 4, pixels // 8, pixels // 8, generator=generator)
        return cls(
            latent.repeat(2, 1, 1, 1).to(device, dtype, memory_format=torch.channels_last),
            torch.randn(2, TOKENS, params.context_dim, generator=generator).to(device, dtype),
            torch.randn(2, params.adm_channels - SIZES, generator=generator).to(device, dtype),
            torch.tensor([[pixels, pixels, 0, 0, pixels, pixels]] * 2, device=device),
        )

    def to(self, dtype: torch.dtype) -> Inputs:
        """In another dtype, contiguous, as diffusers makes them."""
        latent, context, pooled = (part.to(dtype).contiguous() for part in (self.latent, self.context, self.pooled))
        return Inputs(latent, context, pooled, self.sizes)

    @property
    def vector(self) -> Tensor:
        """The size vectors as our UNet takes them."""
        embedded = timestep_embedding(self.sizes.flatten(), 256).view(2, -1)
        return torch.cat([self.pooled, embedded.to(self.pooled.dtype)], dim=1)


def fill(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Give a network on the meta device random weights with which signals keep their size."""
    pool = torch.randn(1 << 24, generator=torch.Generator().manual_seed(0)).to(dtype)  # one draw for all of them
    state = {}
    for index, (name, empty) in enumerate(network.state_dict().items()):
        begin = 7919 * index % (len(pool) // 2)
        section = pool[begin : begin + empty.numel()]
        values = section.repeat(-(-empty.numel() // len(section)))[: empty.numel()].view(empty.shape)
        if empty.ndim > 1:
            values = values * empty[0].numel() ** -0.5
        else:
            values = values * 0.1 + float(name.endswith("weight"))
        if empty.ndim == 4:
            values = values.contiguous(memory_format=torch.channels_last)
        state[name] = values.to(device)
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False).eval()


def their_step(unet: Any, inputs: Inputs, timestep: Any, latent: Tensor | None = None) -> Tensor:
    """A step as diffusers' pipeline calls it. latent: in place of the inputs' own."""
    added = {"text_embeds": inputs.pooled, "time_ids": inputs.sizes}
    x = inputs.latent if latent is None else latent
    out: Tensor = unet(x, timestep, inputs.context, added_cond_kwargs=added, return_dict=False)[0]
    return out


@dataclass(frozen=True)
class Theirs:
    """Diffusers' two networks in one dtype, and how they are called."""

    unet: Any
    vae: Any
    inputs: Inputs

    def compiled(self) -> Theirs:
        """As its documentation recommends for speed; the compiling is done by the first call."""
        unet, vae = (torch.compile(part, mode="max-autotune", fullgraph=True) for part in (self.unet, self.vae.decode))
        return Theirs(unet, _Decode(vae), self.inputs)

    def step(self) -> Tensor:
        """One UNet call."""
        return their_step(self.unet, self.inputs, torch.tensor(500, device=self.inputs.sizes.device))

    def decode(self) -> Tensor:
        """One VAE call."""
        out: Tensor = self.vae.decode(self.inputs.latent[:1] / LATENT_SCALE, return_dict=False)[0]
        return out

    def picture(self, steps: int) -> Tensor:
        """From noise to pixels by the scheduler of the same family."""
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

        scheduler: Any = DPMSolverMultistepScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", algorithm_type="sde-dpmsolver++",
            use_karras_sigmas=True,
        )  # fmt: skip
        device, dtype = self.inputs.latent.device, self.inputs.latent.dtype
        scheduler.set_timesteps(steps, device=device)
        generator = torch.Generator(device).manual_seed(0)
        x = torch.randn(self.inputs.latent[:1].shape, generator=generator, device=device, dtype=dtype)
        x = x * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            both = scheduler.scale_model_input(torch.cat([x, x]), timestep)
            cond, uncond = their_step(self.unet, self.inputs, timestep, both).chunk(2)
            guided = uncond + GUIDANCE * (cond - uncond)
            x = scheduler.step(guided, timestep, x, generator=generator, return_dict=False)[0]
        out: Tensor = self.vae.decode(x.to(dtype) / LATENT_SCALE, return_dict=False)[0]
        return out


@dataclass(frozen=True)
class _Decode:
    decode: Callable[..., Any]


class Ours:
    """Our two networks with random weights."""

    def __init__(self, unet: UNetParams, vae: VAEParams, inputs: Inputs) -> None:
        """inputs: their device and dtype are the networks'."""
        self.inputs = inputs
        self.params = (unet, vae)
        self.unet = on_meta(lambda: UNet(unet))
        self.vae = on_meta(lambda: AutoencoderKL(vae))
        for network in (self.unet, self.vae):
            fill(network, inputs.latent.device, inputs.latent.dtype)
        vector = inputs.vector
        # Once per job, not once per step.
        self._time = self.unet.project_time(torch.full((2,), 500.0, device=vector.device), vector)
        self._text = [self.unet.project_text(inputs.context)]

    def theirs(self, dtype: torch.dtype | None = None) -> Theirs:
        """Diffusers with the same weights: shared ones, or copies in another dtype as diffusers holds them."""
        states = (
            {f"model.diffusion_model.{name}": tensor for name, tensor in split_qkv(self.unet.state_dict()).items()},
            {f"first_stage_model.{name}": tensor for name, tensor in self.vae.state_dict().items()},
        )
        built = []
        for converted in (diffusers_unet(self.params[0], states[0]), diffusers_vae(self.params[1], states[1])):
            network = on_meta(converted[0])
            tensors = converted[1]
            if dtype is not None:
                tensors = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
            adopt(network, tensors)
            built.append(network)
        return Theirs(built[0], built[1], self.inputs if dtype is None else self.inputs.to(dtype))

    def step(self) -> Tensor:
        """One UNet call."""
        out: Tensor = self.unet(self.inputs.latent, self._time, self._text)
        return out

    def decode(self) -> Tensor:
        """One VAE call."""
        return self.vae.decode(self.inputs.latent[:1] / LATENT_SCALE)

    def picture(self, steps: int) -> Tensor:
        """From noise to pixels by the application's own sampling, with what is done once per job."""
        vector = self.inputs.vector
        sides = [
            TextCondition(self.inputs.context[row : row + 1], SizeVectors(vector[row : row + 1], vector[row : row + 1]))
            for row in range(2)
        ]
        model_sampling = EpsSampling()
        sigmas = calculate_sigmas(model_sampling, "karras", steps)
        denoiser = GuidedDenoiser(
            self.unet, model_sampling, sides[0], sides[1], Guidance(scale=GUIDANCE), sigmas, adm_scaler_end=0.0
        )
        noise = prepare_noise(self.inputs.latent[:1].shape, 0)
        start = torch.zeros_like(noise, device=vector.device)
        latent = sample(denoiser, noise, start, sigmas, "dpmpp_2m_sde", 0)
        return self.vae.decode((latent / LATENT_SCALE).to(vector.dtype))


Call = Callable[[], Tensor]


def times(calls: Mapping[str, Call], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for counts in [False] + [True] * rounds:
        for name, call in calls.items():
            begin = clock()
            call()
            if counts:
                taken[name].append(clock() - begin)
    return taken


def report(title: str, taken: Mapping[str, list[float]]) -> None:
    """Medians, and how many times as fast we are."""
    for name, seconds in taken.items():
        ratio = statistics.median(other / ours for other, ours in zip(seconds, taken[OURS], strict=True))
        print(f"{title:12} {name:22} {statistics.median(seconds):9.3f} s   ours is {ratio:5.2f}x as fast", flush=True)


def _cuda_clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


@torch.inference_mode()
def compare(ours: Ours, others: Mapping[str, Theirs], rounds: int, clock: Callable[[], float], steps: int) -> None:
    """Print the parts, and whole pictures if there are `steps`."""
    contestants: dict[str, Ours | Theirs] = {OURS: ours, **others}
    for title, calls in (
        ("UNet step", {name: each.step for name, each in contestants.items()}),
        ("VAE decode", {name: each.decode for name, each in contestants.items()}),
        ("picture", {name: partial(each.picture, steps) for name, each in contestants.items() if steps}),
    ):
        report(title, times(calls, rounds, clock))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare the networks' speed with diffusers'.")
    parser.add_argument("--cuda", action="store_true", help="on the GPU, with diffusers compiled and whole pictures")
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), help="default: bfloat16, float16 on a GPU")
    parser.add_argument("--pixels", type=int, help="width and height; default: 512, 1024 on a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of whole pictures; default: none, 30 on a GPU")
    parser.add_argument("--threads", type=int, help="of the processor")
    parser.add_argument("--wall", action="store_true", help="the clock's time on a processor, for an idle machine")
    parser.add_argument("--no-fp32", action="store_true", help="leave out diffusers' default")
    parser.add_argument("--no-compile", action="store_true", help="leave out compiled diffusers on a GPU")
    parser.add_argument("--mini", action="store_true", help="the built-in family's sizes, to try this out")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    device = torch.device("cuda" if given.cuda else "cpu")
    dtype = getattr(torch, given.dtype or ("float16" if given.cuda else "bfloat16"))
    unet, vae = (MINI, MINI_VAE) if given.mini else (SDXL, SDXL_VAE)
    pixels = given.pixels or (1024 if given.cuda else 512)
    ours = Ours(unet, vae, Inputs.random(unet, pixels, device, dtype))
    others = {f"diffusers {dtype}".replace("torch.", ""): ours.theirs()}
    if given.cuda and not given.no_compile:
        others["diffusers compiled"] = ours.theirs().compiled()
    if not given.no_fp32 and not given.cuda:
        others["diffusers float32"] = ours.theirs(torch.float32)
    clock = _cuda_clock if given.cuda else time.perf_counter if given.wall else time.process_time
    print(f"torch {torch.__version__}, {device}, {dtype}, {pixels}x{pixels}, {torch.get_num_threads()} threads")
    steps = given.steps if given.steps is not None else 30 if given.cuda else 0
    compare(ours, others, given.rounds, clock, steps)


if __name__ == "__main__":
    main()
