"""A real replay or drop that kills itself (SIGKILL) at the n-th announcement of a step.

    python -m tests.e2e.replaying_child PIPELINE_FILE replay|drop STEP OCCURRENCE

Without a kill it ends when it is done. Everything but the observers is what production runs.
"""

import os
import signal
import sys
from pathlib import Path

from k2i_core.config import load_pipeline
from k2i_core.dead_letters.drop import drop
from k2i_core.dead_letters.reading import Selection
from k2i_core.dead_letters.replay import replay
from k2i_core.wiring.dead_letters import letter_parts


def main() -> None:
    path, what, step, occurrence = sys.argv[1:]
    left = int(occurrence)

    def observe(now: str) -> None:
        nonlocal left
        left -= now == step
        if now == step and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    parts = letter_parts(load_pipeline(Path(path)), observe=observe, observe_commit=observe)
    {"replay": replay, "drop": drop}[what](parts, Selection())


if __name__ == "__main__":
    main()
