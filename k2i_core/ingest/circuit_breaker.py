"""The circuit breaker: most of a topic is no topic of bad records, it is a wrong setting. Pure.

Judged over the newest records of one worker, as many as `over_records`, batch by batch and before
anything of the batch is written. A batch opens the breaker when the window is full, and both the
window and the batch itself hold a larger share of dead letters than allowed: the window, because a
few bad records in a row are none of its business; the batch, because good ones after a repair must
get through while the window still remembers the bad ones.

The window begins with what the table's ledger says of the newest commits, so that a restart cannot
divert the topic bit by bit.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from k2i_core.errors import TooManyDeadLettersError
from k2i_core.records import CountedRange


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """From where on a worker stops.

    Attributes:
        max_share: The share of dead letters that may just be, from 0 to 1.
        over_records: How many records are judged together. Larger diverts more before it stops;
            smaller stops on a short run of bad ones.
    """

    max_share: float
    over_records: int


@dataclass(frozen=True, slots=True)
class Seen:
    """Some records in a row, and how many of them became dead letters."""

    record_count: int
    dead_letter_count: int

    def share_is_above(self, share: float) -> bool:
        """Tell whether more than this share of them are dead letters."""
        return self.dead_letter_count > share * self.record_count


class CircuitBreaker:
    """One session's breaker; used by the write lane alone, once begun."""

    def __init__(
        self, limits: BreakerLimits, read_recent: Callable[[], Iterable[Seen]] = tuple
    ) -> None:
        """Bind limits; nothing is read before `begin`.

        Args:
            limits: From where on to stop.
            read_recent: The newest commits of this worker's Kafka partitions, newest first.

        """
        self._limits = limits
        self._read_recent = read_recent
        self._window: deque[Seen] = deque()
        self._record_count = 0

    def begin(self) -> None:
        """Fill the window from the ledger, after the take-over."""
        self._window.clear()
        self._record_count = 0
        for seen in self._read_recent():
            self._window.appendleft(seen)
            self._record_count += seen.record_count
            if self._record_count >= self._limits.over_records:
                break

    def judge(self, ranges: Sequence[CountedRange]) -> None:
        """Take the next batch.

        Raises:
            TooManyDeadLettersError: The breaker is open: nothing of this batch may be committed.

        """
        batch = Seen(
            sum(counted.counts.record_count for counted in ranges),
            sum(counted.counts.dead_letter_count for counted in ranges),
        )
        if not batch.record_count:
            return
        self._add(batch)
        limits = self._limits
        window = Seen(self._record_count, sum(seen.dead_letter_count for seen in self._window))
        if (
            window.record_count >= limits.over_records
            and window.share_is_above(limits.max_share)
            and batch.share_is_above(limits.max_share)
        ):
            places = ", ".join(str(counted.offsets) for counted in ranges)
            message = (
                f"dead letters={window.dead_letter_count} of the newest records="
                f"{window.record_count}, more than dead_letters.max_share={limits.max_share:g}: "
                f"stopped before {places} rather than divert the topic; see "
                f"`k2i dead-letters list`, then change format or columns, or allow it with "
                f"dead_letters.max_share"
            )
            raise TooManyDeadLettersError(message)

    def _add(self, batch: Seen) -> None:
        self._window.append(batch)
        self._record_count += batch.record_count
        while self._record_count - self._window[0].record_count >= self._limits.over_records:
            self._record_count -= self._window.popleft().record_count
