"""Offset sets: exact whatever the order, the repetition and the size of the numbers.

Goal: nothing is merged away and ranges are listed exactly.
Method: small cases by hand; random ones against Python sets are in tests/property.
"""

import pyarrow as pa
from pyroaring import BitMap64

from k2i_core.audit.offset_set import (
    SeenOffsets,
    absent_from,
    merged_ranges,
    offsets_bitmap,
    outside,
    ranges_of,
    within,
)
from k2i_core.offsets import OffsetRange, TopicPartition

P0 = TopicPartition("orders", 0)


def test_a_slice_of_an_array_gives_only_its_own_offsets():
    assert list(offsets_bitmap(pa.array(range(10), pa.int64())[3:6])) == [3, 4, 5]


def test_an_empty_array_gives_an_empty_set():
    assert not offsets_bitmap(pa.array([], pa.int64()))


def test_offsets_beyond_32_bits_are_exact():
    base = 2 * 10**12
    assert list(offsets_bitmap(pa.array([base + 1, base], pa.int64()))) == [base, base + 1]


def test_an_offset_seen_twice_is_doubled_across_and_within_batches():
    seen = SeenOffsets()
    seen.add(pa.array([1, 2, 2, 3], pa.int64()))
    seen.add(pa.array([3, 4], pa.int64()))

    assert (list(seen.distinct), list(seen.doubled), seen.count) == ([1, 2, 3, 4], [2, 3], 6)


def test_a_very_long_run_is_one_range_found_without_walking_it():
    offsets = absent_from(BitMap64(), 7, 10**9) | BitMap64([5])

    ranges, unlisted_count = ranges_of(P0, offsets, 10)

    assert ranges == (OffsetRange(P0, 5, 6), OffsetRange(P0, 7, 10**9))
    assert unlisted_count == 0


def test_cutting_at_an_interval_is_exact_and_does_not_walk_it():
    offsets = BitMap64([3, 2**40, 2**50])

    assert list(within(offsets, 4, 2**50)) == [2**40]
    assert list(outside(offsets, 4, 2**50)) == [3, 2**50]
    assert list(within(offsets, 9, 9)) == []
    assert list(outside(offsets, 9, 9)) == list(offsets)


def test_ranges_that_touch_are_listed_as_one():
    ranges = [OffsetRange(P0, 20, 30), OffsetRange(P0, 0, 10), OffsetRange(P0, 10, 15)]

    assert merged_ranges(ranges) == [OffsetRange(P0, 0, 15), OffsetRange(P0, 20, 30)]


def test_ranges_beyond_the_limit_are_counted():
    ranges, unlisted_count = ranges_of(P0, BitMap64([1, 3, 5, 6, 9]), 2)

    assert [r.start_offset for r in ranges] == [1, 3]
    assert unlisted_count == 3
