"""Makes pictures with settings drawn at random, each again from its own file in a new process; compares the pixels.

`python -m benchmarks.again [--count 30]` prints a line for every picture and, at the end, how many came out the same.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from modules.choices import METADATA_SCHEMES, OUTPUT_FORMATS, SAMPLERS, SCHEDULERS

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = (
    "a __color__ cat in the snow, watercolor",
    "a (red:1.3) boat and a yellow star, on the beach",
    "a green house at night, neon\nstars, a moon",
    "红色的猫, a red cat, __mood__",
    "",
)
STYLES = ("[]", '["Fooocus V2"]', '["SAI Anime"]', '["Random Style"]', '["Fooocus Enhance", "Fooocus Sharp"]')


def settings_of(rng: random.Random) -> list[str]:
    """Flags of `entry.py generate` for a task of two pictures."""
    values = {
        "image_number": 2,
        "image_seed": rng.randrange(2**63),
        "style_selections": rng.choice(STYLES),
        "guidance_scale": round(rng.uniform(1, 9), 2),
        "sharpness": round(rng.uniform(0, 10), 2),
        "overwrite_step": rng.randint(3, 8),
        "overwrite_width": rng.choice((-1, 192, 256, 264)),
        "overwrite_height": rng.choice((-1, 192, 256, 312)),
        "sampler_name": rng.choice(SAMPLERS),
        "scheduler_name": rng.choice([name for name in SCHEDULERS if not name.startswith(("edm", "ddim"))]),
        "clip_skip": rng.randint(1, 3),
        "adm_scaler_end": round(rng.random(), 2),
        "guidance_rescale": round(rng.choice((0.0, rng.random())), 2),
        "freeu_enabled": rng.random() < 0.3,
        "output_format": rng.choice(OUTPUT_FORMATS),
        "metadata_scheme": rng.choice(METADATA_SCHEMES),
    }
    flags = ["--preset", "mini", "--prompt", rng.choice(PROMPTS)]
    for key, value in values.items():
        flags += ["--set", f"{key}={value}"]
    return flags


def pictures(home: Path, flags: list[str]) -> list[Path]:
    """The files that one process wrote."""
    command = [sys.executable, "entry.py", "generate", *flags, "--out", str(home / "out")]
    environ = {**os.environ, "path_data": str(home / "data")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environ)
    if done.returncode:
        raise SystemExit(f"{' '.join(flags)}\n{done.stderr}")
    return [Path(line) for line in done.stdout.splitlines()]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    same = total = 0
    with tempfile.TemporaryDirectory() as folder:
        while total < args.count:
            flags = settings_of(rng)
            for path in pictures(Path(folder) / f"task-{total}", flags)[: args.count - total]:
                (again,) = pictures(Path(folder) / f"again-{total}", ["--from", str(path)])
                with Image.open(path) as first, Image.open(again) as second:
                    equal = first.size == second.size and first.tobytes() == second.tobytes()
                same, total = same + equal, total + 1
                sys.stdout.write(f"{total}: {'the same' if equal else 'DIFFERENT'}  {' '.join(flags)!r}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{same} of {total} are the same\n")
    raise SystemExit(same != total)


if __name__ == "__main__":
    main()
