"""Flushes added up to what one materialization says.

Goal: nothing between two publications is left out or counted twice.
Method: made-up flush reports of two Kafka partitions.
"""

from typing import Any, cast

from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import (
    CommitReport,
    CountedRange,
    FlushReport,
    Generation,
    RangeCounts,
    WrittenFile,
)
from k2i_dagster.running.reporting import added_up

P0 = TopicPartition("orders", 0)
P1 = TopicPartition("orders", 1)


def written(byte_count: int) -> WrittenFile:
    return WrittenFile("f", 1, byte_count, (), 0, 0, None, cast("Any", None), 0.0)


def flush(
    number: int,
    ranges: dict[TopicPartition, tuple[int, int]],
    *,
    dead: int = 0,
    commit_ms: float = 5.0,
    waited_ms: float = 100.0,
    visible_ms: float | None = None,
) -> FlushReport:
    counted = tuple(
        CountedRange(
            OffsetRange(tp, start, end),
            RangeCounts(row_count=end - start - dead, dead_letter_count=dead),
        )
        for tp, (start, end) in sorted(ranges.items())
    )
    files = (written(10), written(20))
    dead_files = (written(1),) if dead else ()
    generation = Generation(number, counted, files, dead_files, 0.0)
    return FlushReport(
        generation,
        CommitReport(100 + number, 1, commit_ms),
        CommitReport(200 + number, 1, 1.0) if dead else None,
        seal_to_commit_milliseconds=commit_ms,
        oldest_to_commit_milliseconds=waited_ms,
        produced_to_visible_milliseconds=visible_ms,
    )


def test_counts_and_sizes_are_sums():
    flushed = added_up([flush(1, {P0: (0, 10)}, dead=2), flush(2, {P0: (10, 15), P1: (0, 4)})])

    assert flushed.flush_count == 2
    assert (flushed.counts.row_count, flushed.counts.dead_letter_count) == (17, 2)
    assert (flushed.file_count, flushed.byte_count) == (4, 60)
    assert flushed.dead_letter_file_count == 1


def test_times_are_the_worst_ones():
    flushed = added_up(
        [
            flush(1, {P0: (0, 1)}, commit_ms=70, waited_ms=100),
            flush(2, {P0: (1, 2)}, commit_ms=5, waited_ms=2500),
        ]
    )

    assert (flushed.commit_ms_max, flushed.freshness_seconds_max) == (70, 2.5)


def test_freshness_of_hot_rows_is_the_worst_one_that_is_known():
    shown = [flush(1, {P0: (0, 1)}, visible_ms=20), flush(2, {P0: (1, 2)})]

    assert added_up(shown).visible_seconds_max == 0.02
    assert added_up(shown[1:]).visible_seconds_max is None


def test_the_snapshots_are_the_last_ones_of_each_table():
    flushed = added_up(
        [flush(1, {P0: (0, 9)}, dead=1), flush(2, {P0: (9, 20)}, dead=1), flush(3, {P0: (20, 21)})]
    )

    assert (flushed.snapshot_id, flushed.dead_letter_snapshot_id) == (103, 202)
    assert added_up([flush(1, {P0: (0, 9)})]).dead_letter_snapshot_id is None


def test_ranges_reach_from_the_first_start_to_the_last_end():
    flushed = added_up([flush(1, {P0: (5, 10)}), flush(2, {P0: (10, 15), P1: (3, 4)})])

    assert flushed.ranges == (OffsetRange(P0, 5, 15), OffsetRange(P1, 3, 4))
    assert [len(step) for step in flushed.steps] == [1, 2]
