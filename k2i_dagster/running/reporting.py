"""Flushes since the last publication, added up to what one materialization says. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import FlushReport, RangeCounts


@dataclass(frozen=True, slots=True)
class Flushed:
    """One or more flushes of one worker, in commit order.

    Attributes:
        counts: What became of the records.
        byte_count: Of the target's files.
        commit_ms_max: The slowest commit.
        freshness_seconds_max: From the first poll of the oldest record to its commit, at worst.
        visible_seconds_max: From a record's timestamp to its row among the hot rows, at worst;
            None where rows are not shown before they are committed.
        snapshot_id: Of the last commit to the target.
        dead_letter_snapshot_id: Of the last commit to the dead-letter table; None without one.
        steps: The ranges of each flush, oldest first.
    """

    flush_count: int
    counts: RangeCounts
    file_count: int
    byte_count: int
    dead_letter_file_count: int
    commit_ms_max: float
    freshness_seconds_max: float
    visible_seconds_max: float | None
    snapshot_id: int
    dead_letter_snapshot_id: int | None
    steps: tuple[tuple[OffsetRange, ...], ...]

    @property
    def ranges(self) -> tuple[OffsetRange, ...]:
        """From the first to the last offset of each Kafka partition, over all flushes."""
        starts: dict[TopicPartition, int] = {}
        ends: dict[TopicPartition, int] = {}
        for offset_range in (one for step in self.steps for one in step):
            starts.setdefault(offset_range.topic_partition, offset_range.start_offset)
            ends[offset_range.topic_partition] = offset_range.next_offset
        return tuple(OffsetRange(tp, starts[tp], ends[tp]) for tp in sorted(starts))


def added_up(reports: Sequence[FlushReport]) -> Flushed:
    """Return what the flushes did together.

    Args:
        reports: At least one, in commit order.

    """
    assert reports
    generations = [report.generation for report in reports]
    dead_letter_commits = [r.dead_letter_commit for r in reports if r.dead_letter_commit]
    last_dead_letters = dead_letter_commits[-1].snapshot_id if dead_letter_commits else None
    visible_ms = [r.produced_to_visible_milliseconds for r in reports]
    seen_ms = [ms for ms in visible_ms if ms is not None]
    return Flushed(
        flush_count=len(reports),
        counts=sum((generation.counts for generation in generations), RangeCounts()),
        file_count=sum(len(generation.files) for generation in generations),
        byte_count=sum(file.byte_count for g in generations for file in g.files),
        dead_letter_file_count=sum(len(generation.dead_letter_files) for generation in generations),
        commit_ms_max=max(report.commit.milliseconds for report in reports),
        freshness_seconds_max=max(r.oldest_to_commit_milliseconds for r in reports) / 1000,
        visible_seconds_max=max(seen_ms) / 1000 if seen_ms else None,
        snapshot_id=reports[-1].commit.snapshot_id,
        dead_letter_snapshot_id=last_dead_letters,
        steps=tuple(
            tuple(counted.offsets for counted in generation.ranges) for generation in generations
        ),
    )
