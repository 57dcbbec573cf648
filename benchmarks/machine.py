"""Where and when figures were measured; without it nobody can compare them."""

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from k2i_core.clock import Clock

ROOT = Path(__file__).parents[1]

LIBRARIES = ("confluent-kafka", "pyarrow", "pyiceberg")

COPY_BYTES = 64 * 1024 * 1024
"""What is copied to see how fast memory is. Smaller stays in the processor's cache; larger takes
longer before every benchmark."""
COPIES = 8


@dataclass(frozen=True, slots=True)
class Circumstances:
    """One machine at one moment.

    Attributes:
        load_average: Over the minute before; above about 0.3 somebody else was busy too, and the
            figures say little.
        copied_bytes_per_second: By one thread, from memory to memory. Guests on the same hardware
            share it, which no load average shows: where it halves, so do all rates.
    """

    measured_at: str
    commit: str
    has_changes: bool
    processor: str
    processor_count: int
    memory_bytes: int | None
    system: str
    load_average: float
    copied_bytes_per_second: float
    versions: dict[str, str]


def circumstances(clock: Clock) -> Circumstances:
    """Look around."""
    measured_at = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    versions = {name: version(name) for name in LIBRARIES}
    return Circumstances(
        measured_at=measured_at.isoformat(timespec="seconds"),
        commit=_git("rev-parse", "--short=12", "HEAD") or "unknown",
        has_changes=bool(_git("status", "--porcelain")),
        processor=_processor(),
        processor_count=os.cpu_count() or 1,
        memory_bytes=_memory_bytes(),
        system=f"{platform.system()} {platform.release()}",
        load_average=round(os.getloadavg()[0], 2),
        copied_bytes_per_second=_copied_bytes_per_second(clock),
        versions={"python": platform.python_version(), **versions},
    )


def _copied_bytes_per_second(clock: Clock) -> float:
    source, target = bytearray(COPY_BYTES), bytearray(COPY_BYTES)
    target[:] = source  # so that the pages of both are there
    started = clock.boot_seconds()
    for _ in range(COPIES):
        target[:] = source
    return round(COPIES * COPY_BYTES / (clock.boot_seconds() - started))


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
        )
    except OSError:
        return ""  # Safe because the figures are as good without the commit's name.
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
