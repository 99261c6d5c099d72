"""How long the expansion takes to add words to a prompt: `python -m benchmarks.expansion`.

The built-in language model and 20 prompts with a seed each, warm, none of them asked for twice; the model reads its
files before, which is timed apart. `--folder` takes another one, in the layout of published GPT-2 models.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from modules.expansion import Expansions, added_words

BUILT_IN = Path(__file__).parent.parent / "models" / "prompt_expansion" / "pinhole-mini"
BAR = 0.3  # seconds
SUBJECTS = ("a red fox", "an old lighthouse", "a bowl of cherries", "a knight", "a small yellow boat on the left")
PLACES = ("in the snow", "at night, neon", "by the sea, oil painting", "under a wide sky, (golden hour:1.2), grass")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=BUILT_IN)
    folders = [parser.parse_args().folder, BUILT_IN]
    prompts = [f"{subject} {place}" for subject in SUBJECTS for place in PLACES]
    expand = Expansions(folders)
    begin = time.perf_counter()
    expand("a cat", 0, print)
    print(f"first prompt, with reading the files: {time.perf_counter() - begin:.3f} s")
    seconds, words = [], []
    for seed, prompt in enumerate(prompts):
        begin = time.perf_counter()
        text = expand(prompt, seed, print)
        seconds.append(time.perf_counter() - begin)
        words.append(len(added_words(prompt, text).split()))
    median, slowest = statistics.median(seconds), max(seconds)
    print(f"{len(prompts)} prompts, warm: median {median:.3f} s, slowest {slowest:.3f} s; the bar is {BAR} s")
    print(f"words added: median {statistics.median(words):g}, from {min(words)} to {max(words)}")


if __name__ == "__main__":
    main()
