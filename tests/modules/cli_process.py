"""``generate`` or ``plot`` in a process of its own, with the stand-in engine: ROOT, the command, its arguments."""

from __future__ import annotations

import sys
from pathlib import Path

from modules import cli
from tests.modules.stand_in import build

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[3:], Path(sys.argv[1]), build, sys.argv[2]))
