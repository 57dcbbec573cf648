"""Where time, waiting and fresh ids come from; everything else takes them as arguments.

Safe because of that: a simulation replaces both, and one seed gives one run.
"""

import threading
import time
import uuid
from typing import Protocol


class Clock(Protocol):
    """Time as the engine needs it."""

    def now_ms(self) -> int:
        """Return wall-clock milliseconds since 1970-01-01T00:00:00Z; may jump."""
        ...

    def boot_seconds(self) -> float:
        """Return seconds that never go back and that count a suspended host as time passed."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait at most `seconds`; returns early once the process is asked to stop."""
        ...


class IdSource(Protocol):
    """Fresh ids that no other process draws."""

    def snapshot_id(self) -> int:
        """Return a positive 63-bit Iceberg snapshot id."""
        ...

    def token(self) -> str:
        """Return 32 hexadecimal digits for file names and commit ids."""
        ...


class SystemClock:
    """The machine's clock; `sleep` ends early when `stop` is set."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self._stop = stop or threading.Event()
        # Linux counts suspended time only in CLOCK_BOOTTIME; macOS does in its CLOCK_MONOTONIC.
        self._boot_clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now_ms(self) -> int:
        """Return wall-clock milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def boot_seconds(self) -> float:
        """Return seconds since boot, suspension included."""
        return time.clock_gettime(self._boot_clock)

    def sleep(self, seconds: float) -> None:
        """Wait at most `seconds`, less when the stop event is set meanwhile."""
        self._stop.wait(seconds)


class RandomIds:
    """Ids from the operating system's random source."""

    def snapshot_id(self) -> int:
        """Fold a random UUID to 63 bits, as Iceberg's own writers do."""
        bits = uuid.uuid4().int
        return ((bits >> 64) ^ bits) & 0x7FFF_FFFF_FFFF_FFFF

    def token(self) -> str:
        """Return a random UUID as 32 hexadecimal digits."""
        return uuid.uuid4().hex
