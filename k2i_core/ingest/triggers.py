"""When a generation is sealed: by the age of its oldest record, its bytes or its records.

Pure. An idle topic's tail is sealed by age like any other; a generation that only moved positions
too, so that a checkpoint does not fall behind the topic's retention.
"""

from dataclasses import dataclass, replace

FIRST_AGE_SECONDS_MAX = 0.2
"""Age at which the first generation after a take-over is sealed. Larger lets readers wait longer
for the first rows after a start; smaller makes the one small file that it costs smaller still."""


@dataclass(frozen=True, slots=True)
class FlushLimits:
    """The `flush` section of the pipeline file.

    Attributes:
        age_seconds_max: From polling the oldest record to its commit.
        byte_count_max: Bytes of keys, values and headers in a generation.
        record_count_max: Records in a generation.
        buffered_bytes_max: Bytes held in memory by all stages together; above it, no poll.
        generations_in_flight_max: Sealed generations that wait for their commit. More lets a slow
            catalog delay fewer polls, and leaves more to read again after a crash.
    """

    age_seconds_max: float
    byte_count_max: int
    record_count_max: int
    buffered_bytes_max: int
    generations_in_flight_max: int = 3

    def for_first_generation(self) -> "FlushLimits":
        """Return the limits after a take-over, when readers have waited for the start already."""
        return replace(self, age_seconds_max=min(self.age_seconds_max, FIRST_AGE_SECONDS_MAX))


@dataclass(frozen=True, slots=True)
class Filling:
    """What has been polled into the open generation so far."""

    record_count: int = 0
    byte_count: int = 0
    first_polled_boot_seconds: float | None = None

    def with_batch(self, record_count: int, byte_count: int, boot_seconds: float) -> "Filling":
        """Return the filling after one more polled batch."""
        first = self.first_polled_boot_seconds
        return Filling(
            self.record_count + record_count,
            self.byte_count + byte_count,
            boot_seconds if first is None else first,
        )

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was polled, not even a moved position."""
        return self.first_polled_boot_seconds is None


def is_full(filling: Filling, limits: FlushLimits) -> bool:
    """Tell whether the generation has reached its size."""
    return (
        filling.byte_count >= limits.byte_count_max
        or filling.record_count >= limits.record_count_max
    )


def is_due(
    filling: Filling, limits: FlushLimits, now_boot_seconds: float, commit_seconds: float
) -> bool:
    """Tell whether to seal now.

    Args:
        filling: The open generation.
        limits: The pipeline's.
        now_boot_seconds: Now.
        commit_seconds: How long a flush takes lately: sealing that much earlier is what keeps the
            oldest record within its age. Never more than half the age, so that a slow catalog
            does not make ever smaller generations.

    """
    if filling.first_polled_boot_seconds is None:
        return False
    age_seconds = now_boot_seconds - filling.first_polled_boot_seconds
    lead_seconds = min(commit_seconds, limits.age_seconds_max / 2)
    return age_seconds + lead_seconds >= limits.age_seconds_max or is_full(filling, limits)


def seconds_until_due(
    filling: Filling, limits: FlushLimits, now_boot_seconds: float, commit_seconds: float
) -> float:
    """Return how long a poll may wait without making the flush late; never negative."""
    if filling.first_polled_boot_seconds is None:
        return limits.age_seconds_max
    age_seconds = now_boot_seconds - filling.first_polled_boot_seconds
    lead_seconds = min(commit_seconds, limits.age_seconds_max / 2)
    return max(0.0, limits.age_seconds_max - lead_seconds - age_seconds)
