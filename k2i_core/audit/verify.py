"""`k2i verify`: the table against its own ledger, and against the topic, offset by offset.

Two levels. Ledger against data needs the table alone. Topic against table also reads every offset
that the topic still holds between the log start and the checkpoint. Either way the answer names
the exact ranges that break invariant I1, and says nothing about offsets above the checkpoint.

Memory holds compressed offset sets, not rows: a few bytes for a run of offsets.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
from pyiceberg.table import Table

from k2i_core.audit.findings import Finding, FindingKind, PartitionProof, Verification
from k2i_core.audit.offset_set import SeenOffsets, offsets_bitmap, ranges_of
from k2i_core.audit.offsets_read import FileOffsets, LiveFile, live_files, read_offsets
from k2i_core.audit.proof import PartitionClaim, TopicContents, prove_partition
from k2i_core.audit.seen_items import SeenItems
from k2i_core.errors import ErrorKind, UnavailableError
from k2i_core.iceberg.types import holds_items
from k2i_core.ledger import Entry, LedgerRange, Totals
from k2i_core.offsets import OffsetRange, TopicPartition, Watermarks
from k2i_core.records import dropped_name


@dataclass(frozen=True, slots=True)
class TopicOffsets:
    """Records of one Kafka partition, by offset only.

    Attributes:
        offsets: n offsets, ascending.
        is_tombstone: n booleans: whether the record's value is null.
    """

    topic_partition: TopicPartition
    offsets: pa.Int64Array
    is_tombstone: pa.BooleanArray


class TopicReader(Protocol):
    """Kafka as the proof needs it, read_committed."""

    def watermarks(
        self,
        topic_partitions: Collection[TopicPartition],
    ) -> Mapping[TopicPartition, Watermarks]:
        """Return log start and last stable offset, asked from the broker now."""
        ...

    def read(self, ranges: Collection[OffsetRange]) -> Iterator[TopicOffsets]:
        """Yield every record that exists in the ranges (at most one range a Kafka partition).

        Ends when each range is read to its end, offsets without a record included.

        Raises:
            UnavailableError: The broker did not answer in time.

        """
        ...


@dataclass(frozen=True, slots=True)
class RetainedRanges:
    """`k2i.ranges` of one retained ancestor of the head."""

    sequence_number: int
    ranges: tuple[LedgerRange, ...]


@dataclass(frozen=True, slots=True)
class StoredLedger:
    """A table's ledger as read from one load, the same load whose rows are proven.

    Attributes:
        entry: The current entry.
        retained: The ranges of the ancestors that are still there, in any order.
    """

    entry: Entry
    retained: tuple[RetainedRanges, ...] = ()


@dataclass(frozen=True, slots=True)
class DeadLetterTable:
    """The dead-letter table, loaded after the target, so that it holds at least what that needs.

    Attributes:
        target_table: The name of the target in its `target_table` column.
        since_sequence_numbers: From its own ledger entry.
    """

    table: Table
    target_table: str
    since_sequence_numbers: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one stage has come; counts are rows or offsets.

    Attributes:
        stage: `rows`, `dead letters`, `dropped` or `topic`.
        total_count: An upper bound; a compacted topic ends below it.
    """

    stage: str
    done_count: int
    total_count: int


def verify(
    table: Table,
    ledger: StoredLedger,
    *,
    dead_letters: DeadLetterTable | None = None,
    topic: TopicReader | None = None,
    range_count_max: int = 100,
    on_progress: Callable[[Progress], None] | None = None,
) -> Verification:
    """Prove that the table holds every offset that it moved past exactly once.

    Args:
        table: The target; its current snapshot is read.
        ledger: Read from the same load.
        dead_letters: None when the pipeline has no dead-letter table yet.
        topic: Compare with the topic too; None proves data against ledger only.
        range_count_max: Ranges listed in one finding; the rest is counted.
        on_progress: Called now and then, from this thread.

    Returns:
        The figures and findings; `holds` is the answer.

    Raises:
        UnavailableError: The store or the broker did not answer; nothing is proven, call again.
        ConfigError: The table has delete files of another engine.

    """
    notify = on_progress or _ignore
    since = ledger.entry.since_sequence_numbers
    rows = _read_table(table, None, since, "rows", notify)
    dead, dropped = _TableOffsets(), _TableOffsets()
    if dead_letters is not None:
        name, since_then = dead_letters.target_table, dead_letters.since_sequence_numbers
        dead = _read_table(dead_letters.table, name, since_then, "dead letters", notify)
        dropped = _read_table(dead_letters.table, dropped_name(name), since_then, "dropped", notify)
    claims = {claim.topic_partition: claim for claim in _claims(ledger)}
    contents = _read_topic(topic, claims, notify) if topic is not None else {}
    findings = [*rows.findings, *dead.findings]
    proofs: list[PartitionProof] = []
    for topic_partition, claim in sorted(claims.items()):
        proof, found = prove_partition(
            claim,
            rows.seen[topic_partition],
            dead.seen[topic_partition],
            contents.get(topic_partition),
            range_count_max,
            dropped.seen[topic_partition].distinct,
            rows.items.get(topic_partition),
        )
        proofs.append(proof)
        findings += found
    findings += _unclaimed(rows.seen, claims, range_count_max)
    snapshot = table.current_snapshot()
    return Verification(
        table=".".join(table.name()),
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        partitions=tuple(proofs),
        findings=tuple(findings),
        foreign_row_count=rows.foreign_row_count,
        topic_compared=topic is not None,
    )


def _ignore(_progress: Progress) -> None:
    """Take the place of a progress callback."""


@dataclass(slots=True)
class _TableOffsets:
    """Everything one table says about offsets.

    Attributes:
        items: The same by the numbers of the rows, of a table with several rows of a record.
    """

    seen: defaultdict[TopicPartition, SeenOffsets] = field(
        default_factory=lambda: defaultdict(SeenOffsets)
    )
    items: defaultdict[TopicPartition, SeenItems] = field(
        default_factory=lambda: defaultdict(SeenItems)
    )
    foreign_row_count: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])


def _read_table(
    table: Table,
    target_table: str | None,
    since: Mapping[str, int],
    stage: str,
    notify: Callable[[Progress], None],
) -> _TableOffsets:
    files = live_files(table)
    total_count = sum(file.row_count for file in files)
    done_count = 0
    offsets = _TableOffsets()
    with_items = target_table is None and holds_items(table.schema())
    notify(Progress(stage, 0, total_count))
    for file in files:
        try:
            for batch in read_offsets(
                table.io,
                file,
                target_table=target_table,
                since_sequence_numbers=since,
                with_items=with_items,
            ):
                _take(offsets, batch)
                done_count += batch.row_count
                notify(Progress(stage, done_count, total_count))
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            offsets.findings.append(_unreadable(file, error))
        except OSError as error:
            message = f"data file path={file.path} cannot be read; check the store and call again"
            raise UnavailableError(message, kind=ErrorKind.STORAGE_UNAVAILABLE) from error
    for topic_partition, items in offsets.items.items():
        offsets.seen[topic_partition] = items.offsets()
    return offsets


def _take(offsets: _TableOffsets, batch: FileOffsets) -> None:
    offsets.foreign_row_count += batch.foreign_row_count
    for partition in batch.partitions:
        if partition.items is None:
            offsets.seen[partition.topic_partition].add(partition.offsets)
        else:
            offsets.items[partition.topic_partition].add(partition.offsets, partition.items)


def _unreadable(file: LiveFile, error: Exception) -> Finding:
    fault = "is gone" if isinstance(error, FileNotFoundError) else "is not a whole Parquet file"
    detail = f"live data file {fault}: path={file.path} rows={file.row_count}"
    return Finding(FindingKind.FILE_UNREADABLE, None, (), 0, 0, detail)


def _claims(ledger: StoredLedger) -> Iterable[PartitionClaim]:
    entry = ledger.entry
    retained: defaultdict[TopicPartition, list[LedgerRange]] = defaultdict(list)
    for commit in sorted(ledger.retained, key=lambda c: c.sequence_number):
        for ledger_range in commit.ranges:
            topic_partition = ledger_range.offsets.topic_partition
            # Ranges of a deleted topic of the same name are no part of this claim.
            if commit.sequence_number >= entry.since_sequence_numbers.get(topic_partition.topic, 0):
                retained[topic_partition].append(ledger_range)
    for topic_partition, next_offset in entry.checkpoint.next_offsets.items():
        yield PartitionClaim(
            topic_partition,
            first_offset=entry.first_offsets.get(topic_partition, next_offset),
            next_offset=next_offset,
            totals=entry.totals.get(topic_partition, Totals()),
            retained=tuple(retained[topic_partition]),
        )


def _read_topic(
    topic: TopicReader,
    claims: Mapping[TopicPartition, PartitionClaim],
    notify: Callable[[Progress], None],
) -> Mapping[TopicPartition, TopicContents]:
    watermarks = topic.watermarks(frozenset(claims))
    contents = {tp: TopicContents(w.low, w.high) for tp, w in watermarks.items()}
    ranges = [
        OffsetRange(tp, start_offset, next_offset)
        for tp, start_offset, next_offset in (
            (
                tp,
                max(claims[tp].first_offset, watermarks[tp].low),
                min(claims[tp].next_offset, watermarks[tp].high),
            )
            for tp in sorted(contents)
        )
        if start_offset < next_offset
    ]
    total_count = sum(len(r) for r in ranges)
    starts = {r.topic_partition: r.start_offset for r in ranges}
    positions = dict(starts)
    notify(Progress("topic", 0, total_count))
    for batch in topic.read(ranges) if ranges else ():
        if not len(batch.offsets):
            continue
        content = contents[batch.topic_partition]
        content.records |= offsets_bitmap(batch.offsets)
        content.tombstones |= offsets_bitmap(batch.offsets.filter(batch.is_tombstone))
        positions[batch.topic_partition] = batch.offsets[-1].as_py() + 1
        done_count = sum(positions.values()) - sum(starts.values())
        notify(Progress("topic", done_count, total_count))
    return contents


def _unclaimed(
    seen: Mapping[TopicPartition, SeenOffsets],
    claims: Mapping[TopicPartition, PartitionClaim],
    range_count_max: int,
) -> Iterable[Finding]:
    for topic_partition in sorted(seen.keys() - claims.keys()):
        offsets = seen[topic_partition].distinct
        ranges, unlisted_count = ranges_of(topic_partition, offsets, range_count_max)
        yield Finding(
            FindingKind.OUTSIDE_RANGE,
            topic_partition,
            ranges,
            len(offsets),
            unlisted_count,
            "rows of a Kafka partition that the ledger does not know",
        )
