"""Memory over many pictures: sizes, LoRAs, refiners and models in turns; measures no speed.

`python -m benchmarks.soak` makes 300 pictures of the built-in miniature by the real application, every task of another
size, with other LoRAs, every third with another model, and looks at the main memory of application and engine after
each. Whatever is loaded, cached or remembered must be there after the 50th picture: from then on both must stay flat.
Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import Request, urlopen

from benchmarks.served import ROOT, Application, free_port

SETTLED = 50  # pictures
EACH = 2  # pictures of a task
RATIOS = ("1024*1024", "1152*896", "896*1152", "1344*768", "768*1344", "1536*640")
MODELS = ("pinhole-mini-base.safetensors", "another.safetensors")
LORAS = ("pinhole-mini-lcm-lora.safetensors", "pinhole-mini-blueprint-lora.safetensors", "None")
MODES = ("Speed", "Extreme Speed", "Lightning")


def order(number: int, chance: random.Random) -> dict[str, object]:
    """A task that is unlike the one before."""
    return {
        "prompt": f"a {chance.choice(('red', 'blue', 'green'))} cat in the snow, {number}",
        "image_number": EACH,
        "aspect_ratios_selection": RATIOS[number % len(RATIOS)],
        "base_model": MODELS[number // 3 % 2],
        "refiner_model": chance.choice(("None", "pinhole-mini-refiner.safetensors")),
        "performance_selection": MODES[number % len(MODES)],
        "lora_1.enabled": True,
        "lora_1.name": chance.choice(LORAS),
        "lora_1.weight": round(chance.uniform(-1, 2), 2),
    }


def asked(address: str, body: object = None) -> dict[str, object]:
    """An answer of the application."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(address, data), timeout=60) as answer:
        told: dict[str, object] = json.load(answer)
    return told


def megabytes(process: int) -> float:
    """What a process has in main memory of its own, without files that it maps."""
    status = Path(f"/proc/{process}/status").read_text()
    return (
        sum(float(line.split()[1]) for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem"))) / 1024
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make many pictures and look at the memory.")
    parser.add_argument("--pictures", type=int, default=300)
    wanted = parser.parse_args().pictures
    chance, rows = random.Random(0), []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        models = home / "checkpoints"
        models.mkdir()
        for path in (ROOT / "models" / "checkpoints").glob("*.safetensors"):
            shutil.copy(path, models)
        shutil.copy(models / MODELS[0], models / MODELS[1])
        application = Application(home, free_port(), {"path_checkpoints": str(models)})
        application.start()
        try:
            for number in range(wanted // EACH):
                task = asked(f"{application.address}/tasks", order(number, chance))["id"]
                while (state := asked(f"{application.address}/tasks/{task}")["state"]) in ("waiting", "running"):
                    time.sleep(0.1)
                engine, process = application.engine(), application.process
                assert state == "done" and engine is not None and process is not None, state
                rows.append((megabytes(process.pid), megabytes(engine)))
                if (number + 1) * EACH % 50 == 0:
                    sys.stdout.write(f"{(number + 1) * EACH} pictures: {rows[-1][0]:.0f} and {rows[-1][1]:.0f} MB\n")
                    sys.stdout.flush()
        finally:
            application.kill()
    settled = rows[SETTLED // EACH :] or rows
    third = max(1, len(settled) // 3)
    for name, column in zip(("application", "engine"), zip(*settled, strict=True), strict=True):
        first, last = statistics.median(column[:third]), statistics.median(column[-third:])
        sys.stdout.write(
            f"{name:12} after the {SETTLED}th: median of the first third {first:.0f} MB, of the last {last:.0f} MB "
            f"({last / first:.3f}), highest {max(column):.0f} MB\n"
        )


if __name__ == "__main__":
    main()
