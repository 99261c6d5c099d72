"""Writes many pictures of the picture-book world with their captions; it does not know how they will be trained on."""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.lib.format import open_memmap

from training.captions import caption
from training.draw import render
from training.world import sample_scene

# The sizes of the full model's list, a quarter as large, as (width, height) with the wider side first.
_WIDE: tuple[tuple[int, int], ...] = (
    (352, 176),
    (336, 176),
    (336, 192),
    (320, 192),
    (304, 208),
    (288, 208),
    (288, 224),
    (272, 224),
    (272, 240),
    (256, 240),
    (256, 256),
    (368, 176),
    (384, 160),
)
BUCKETS: tuple[tuple[int, int], ...] = _WIDE + tuple((h, w) for w, h in _WIDE if w != h)
MIXED_BUCKETS: tuple[tuple[int, int], ...] = ((288, 224), (224, 288), (304, 208), (208, 304), (336, 192), (192, 336))
CAPTIONS_PER_PICTURE = 4
SQUARE_SHARE = 0.5


@dataclass(frozen=True)
class Shard:
    """A run of pictures of one bucket for one worker to draw."""

    images: Path
    lines: Path
    width: int
    height: int
    start: int
    stop: int
    seed: int
    held_out: bool


def plan(count: int, size: int, multi_aspect: bool) -> list[tuple[int, int, int]]:
    """How many pictures of each (width, height) to draw."""
    if not multi_aspect:
        return [(size, size, count)]
    square = round(count * SQUARE_SHARE)
    rest = count - square
    shares = [rest // len(MIXED_BUCKETS) + (i < rest % len(MIXED_BUCKETS)) for i in range(len(MIXED_BUCKETS))]
    sizes = [(w * size // 256, h * size // 256) for w, h in MIXED_BUCKETS]
    return [(size, size, square)] + [(w, h, n) for (w, h), n in zip(sizes, shares, strict=True) if n]


def draw_shard(shard: Shard) -> None:
    """Draws one run of pictures into the shared array and writes its lines."""
    cv2.setNumThreads(1)
    images = open_memmap(shard.images, mode="r+")
    with shard.lines.open("w", encoding="utf-8") as out:
        for index in range(shard.start, shard.stop):
            # Every picture has its own chances, so the number of workers changes nothing.
            rng = random.Random(f"{shard.seed}/{shard.width}x{shard.height}/{index}")
            scene = sample_scene(rng, held_out=shard.held_out)
            images[index] = render(scene, shard.width, shard.height)
            record = {
                "bucket": f"{shard.width}x{shard.height}",
                "index": index,
                **asdict(scene),
                "captions": [caption(scene, rng) for _ in range(CAPTIONS_PER_PICTURE)],
            }
            out.write(json.dumps(record) + "\n")
    images.flush()


def write(out: Path, count: int, size: int, seed: int, workers: int, multi_aspect: bool, held_out: bool) -> None:
    """Writes images-WxH.npy for every bucket and scenes.jsonl for all of them, in the order of the arrays."""
    out.mkdir(parents=True, exist_ok=True)
    shards: list[Shard] = []
    for width, height, number in plan(count, size, multi_aspect):
        path = out / f"images-{width}x{height}.npy"
        open_memmap(path, mode="w+", dtype=np.uint8, shape=(number, height, width, 3)).flush()
        pieces = max(1, min(workers * 4, number // 64))
        bounds = [number * i // pieces for i in range(pieces + 1)]
        for i, (start, stop) in enumerate(itertools.pairwise(bounds)):
            lines = out / f"scenes-{width}x{height}-{i:03d}.part"
            shards.append(Shard(path, lines, width, height, start, stop, seed, held_out))
    if workers > 1:
        with multiprocessing.Pool(workers) as pool:
            pool.map(draw_shard, shards, chunksize=1)
    else:
        for shard in shards:
            draw_shard(shard)
    with (out / "scenes.jsonl").open("w", encoding="utf-8") as whole:
        for shard in shards:
            whole.write(shard.lines.read_text(encoding="utf-8"))
            shard.lines.unlink()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draw pictures of the picture-book world with captions.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the arrays and the lines")
    parser.add_argument("--count", type=int, required=True, help="how many pictures")
    parser.add_argument("--size", type=int, default=256, help="side of a square picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--multi-aspect", action="store_true", help="half of the pictures in other aspect ratios")
    parser.add_argument("--held-out", action="store_true", help="only combinations kept out of training")
    args = parser.parse_args()
    write(args.out, args.count, args.size, args.seed, args.workers, args.multi_aspect, args.held_out)


if __name__ == "__main__":
    main()
