"""Time that only moves when a test says so, and ids in a known order."""

from collections.abc import Callable
from itertools import count

EPOCH_MS = 1_700_000_000_000


class ScriptedClock:
    """Boot and wall clock in step; sleeping is moving the time."""

    def __init__(self, start: float = 0.0) -> None:
        self.seconds = start
        self.wall_offset_ms = 0
        self.slept: list[float] = []
        self.on_sleep: Callable[[float], None] = lambda _: None

    def now_ms(self) -> int:
        return EPOCH_MS + int(self.seconds * 1000) + self.wall_offset_ms

    def boot_seconds(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        self.on_sleep(self.seconds)


class CountingIds:
    """1, 2, 3 and so on."""

    def __init__(self) -> None:
        self._next = count(1)

    def snapshot_id(self) -> int:
        return next(self._next)

    def token(self) -> str:
        return f"{next(self._next):032x}"
