"""Sets of offsets of one Kafka partition, small enough for any table.

A compressed bitmap holds a run of offsets in a few bytes and a lone offset in about two, whatever
the order they arrive in, so that a proof over a hundred million rows needs no spill and no second
pass. A row's offset that arrives twice is remembered as doubled, not merged away.

Pure values; no I/O.
"""

import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
from pyroaring import BitMap64

from k2i_core.offsets import OffsetRange, TopicPartition


def offsets_bitmap(offsets: pa.Int64Array) -> BitMap64:
    """Return the distinct offsets.

    Args:
        offsets: n offsets without nulls, in any order.

    """
    values = offsets.buffers()[1]
    if values is None or not len(offsets):
        return BitMap64()
    width = 8
    start = offsets.offset * width
    window = memoryview(values)[start : start + len(offsets) * width]
    # Safe because offsets are never negative; an array of the right type skips per-item boxing.
    return BitMap64(array.array("Q", window.tobytes()))


def outside(bitmap: BitMap64, start_offset: int, next_offset: int) -> BitMap64:
    """Return the offsets that are not in `[start_offset, next_offset)`.

    Costs what the bitmap holds, not what the interval spans: offsets may be far above zero.
    """
    kept = bitmap.copy()
    if start_offset < next_offset:
        kept.remove_range(start_offset, next_offset)
    return kept


def within(bitmap: BitMap64, start_offset: int, next_offset: int) -> BitMap64:
    """Return the offsets that are in `[start_offset, next_offset)`."""
    return bitmap - outside(bitmap, start_offset, next_offset)


def absent_from(bitmap: BitMap64, start_offset: int, next_offset: int) -> BitMap64:
    """Return the offsets of `[start_offset, next_offset)` that the bitmap does not hold.

    Costs what the interval spans (1 s for 5 * 10**10 offsets): for intervals that should be full.
    """
    absent = BitMap64()
    if start_offset < next_offset:
        absent.add_range(start_offset, next_offset)
    return absent - bitmap


@dataclass(slots=True)
class SeenOffsets:
    """The offsets of one Kafka partition that one table holds.

    Attributes:
        distinct: Each offset once.
        doubled: Those that occur more than once.
        count: Rows, repetitions included.
    """

    distinct: BitMap64 = field(default_factory=BitMap64)
    doubled: BitMap64 = field(default_factory=BitMap64)
    count: int = 0

    def add(self, offsets: pa.Int64Array) -> None:
        """Take n more offsets without nulls, in any order."""
        arrived = offsets_bitmap(offsets)
        if len(arrived) != len(offsets):
            self.doubled |= _repeated(offsets)
        if self.distinct.intersect(arrived):
            self.doubled |= self.distinct & arrived
        self.distinct |= arrived
        self.count += len(offsets)

    def count_between(self, start_offset: int, next_offset: int) -> int:
        """Return how many distinct offsets lie in `[start_offset, next_offset)`."""
        return count_between(self.distinct, start_offset, next_offset)


def _repeated(offsets: pa.Int64Array) -> BitMap64:
    counted = pc.value_counts(offsets)
    is_repeated = pc.greater(counted.field("counts"), pa.scalar(1, pa.int64()))
    return offsets_bitmap(cast("pa.Int64Array", counted.field("values").filter(is_repeated)))


def count_between(bitmap: BitMap64, start_offset: int, next_offset: int) -> int:
    """Return how many offsets of the bitmap lie in `[start_offset, next_offset)`."""
    if start_offset >= next_offset:
        return 0
    return bitmap.range_cardinality(start_offset, next_offset)


def merged_ranges(ranges: Iterable[OffsetRange]) -> list[OffsetRange]:
    """Join ranges of one Kafka partition where they touch or overlap; ascending."""
    merged: list[OffsetRange] = []
    for offsets in sorted(ranges):
        if merged and offsets.start_offset <= merged[-1].next_offset:
            last = merged.pop()
            next_offset = max(last.next_offset, offsets.next_offset)
            merged.append(OffsetRange(last.topic_partition, last.start_offset, next_offset))
        else:
            merged.append(offsets)
    return merged


def ranges_of(
    topic_partition: TopicPartition,
    bitmap: BitMap64,
    range_count_max: int,
) -> tuple[tuple[OffsetRange, ...], int]:
    """List the bitmap as exact ranges, lowest first.

    Args:
        topic_partition: Whose offsets they are.
        bitmap: The offsets.
        range_count_max: Where to stop, so that a broken table does not fill the screen.

    Returns:
        The ranges, and how many offsets the ranges left out hold.

    """
    ranges: list[OffsetRange] = []
    listed_count = 0
    position = 0
    while len(ranges) < range_count_max and listed_count < len(bitmap):
        start_offset = bitmap.next_set_bit(position)
        next_offset = _run_end(bitmap, start_offset)
        ranges.append(OffsetRange(topic_partition, start_offset, next_offset))
        listed_count += next_offset - start_offset
        position = next_offset
    return tuple(ranges), len(bitmap) - listed_count


def _run_end(bitmap: BitMap64, start_offset: int) -> int:
    """Find the first offset after `start_offset` that is not in the bitmap, by doubling steps."""
    step = 1
    while bitmap.contains_range(start_offset, start_offset + 2 * step):
        step *= 2
    # The run reaches `inside` and stops before `outside`.
    inside, outside = start_offset + step, start_offset + 2 * step
    while outside - inside > 1:
        middle = (inside + outside) // 2
        if bitmap.contains_range(start_offset, middle):
            inside = middle
        else:
            outside = middle
    return inside
