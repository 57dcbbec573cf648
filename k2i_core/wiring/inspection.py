"""What a pipeline's tables hold now, for everybody who only looks."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from k2i_core.audit.verify import DeadLetterTable, RetainedRanges, StoredLedger, TopicOffsets
from k2i_core.clock import Clock, RandomIds
from k2i_core.config import Pipeline
from k2i_core.crash_points import Observer, ignore
from k2i_core.errors import ConfigError, ErrorKind, UnavailableError
from k2i_core.iceberg.ancestry import read_entry
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.gateway import SnapshotView, TableView
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.iceberg.views import table_of
from k2i_core.ingest.circuit_breaker import Seen
from k2i_core.kafka.settings import TimestampStart
from k2i_core.kafka.source import KafkaSource
from k2i_core.ledger import (
    CHECKPOINT_KEY,
    OPERATION_KEY,
    RANGES_KEY,
    Entry,
    Share,
    decode_entry,
    decode_ranges,
    ranges_between,
)
from k2i_core.offsets import OffsetRange, TopicPartition, Watermarks
from k2i_core.records import PolledBatch
from k2i_core.wiring.settings import catalog_opener, commit_limits, kafka_settings

TOPIC_SILENCE_SECONDS_MAX = 60.0
"""How long a reading of the topic may bring nothing. Larger waits longer for a dead broker."""


@dataclass(frozen=True, slots=True)
class InspectedTable:
    """One load of a table and its ledger entry; both None-safe for a pipeline that never ran.

    Attributes:
        view: For the protocol.
        table: For readers; the same load.
        entry: None when k2i never committed to it.
    """

    view: TableView
    table: Table
    entry: Entry | None

    @property
    def retained_ranges(self) -> tuple[RetainedRanges, ...]:
        """The ranges of every retained ancestor of the head.

        A commit that touched many Kafka partitions lists none: they are the difference between
        its checkpoint and the one before it.
        """
        carriers = [s for s in self.view.ancestors() if CHECKPOINT_KEY in s.summary]
        retained: list[RetainedRanges] = []
        for snapshot, before in pairwise([*carriers, None]):
            assert snapshot is not None
            if RANGES_KEY in snapshot.summary:
                ranges = decode_ranges(snapshot.summary[RANGES_KEY])
            elif before is not None and snapshot.summary.get(OPERATION_KEY) == "append":
                ranges = ranges_between(_entry_of(before), _entry_of(snapshot))
            else:
                continue
            retained.append(RetainedRanges(snapshot.sequence_number, ranges))
        return tuple(retained)


def _entry_of(snapshot: SnapshotView) -> Entry:
    return decode_entry(snapshot.summary[CHECKPOINT_KEY])


def inspect_target(pipeline: Pipeline) -> InspectedTable:
    """Load the target table.

    Raises:
        ConfigError: It does not exist yet.
        CorruptionError: Its ledger cannot be believed.

    """
    return _inspect(pipeline, pipeline.table.identifier)


def inspect_dead_letters(pipeline: Pipeline) -> InspectedTable | None:
    """Load the dead-letter table; None while it does not exist."""
    try:
        return _inspect(pipeline, pipeline.dead_letter_table)
    except ConfigError as error:
        if error.kind is ErrorKind.TABLE_MISSING:
            return None
        raise


def _inspect(pipeline: Pipeline, identifier: str) -> InspectedTable:
    gateway = PyIcebergGateway(catalog_opener(pipeline), identifier)
    view = gateway.load()
    entry = read_entry(view, partial(gateway.has_live_entry, view))
    return InspectedTable(view, table_of(view), entry)


def stored_ledger(inspected: InspectedTable) -> StoredLedger:
    """Return the ledger as `verify` takes it.

    Raises:
        ConfigError: k2i never committed to the table.

    """
    if inspected.entry is None:
        name = ".".join(inspected.table.name())
        message = f"table={name} has no checkpoint: k2i never committed to it"
        raise ConfigError(message)
    return StoredLedger(inspected.entry, inspected.retained_ranges)


def seen_by(table: InspectedTable, share: Share) -> Iterator[Seen]:
    """Yield what the newest retained commits of a worker's Kafka partitions held, newest first.

    What was filtered is none of the table's business.
    """
    for retained in table.retained_ranges:
        mine = [r for r in retained.ranges if share.holds(r.offsets.topic_partition) and not r.lost]
        yield Seen(
            sum(r.totals.accounted_count - r.totals.filtered_count for r in mine),
            sum(r.totals.dead_letter_count for r in mine),
        )


def dead_letters_for_proof(pipeline: Pipeline) -> DeadLetterTable | None:
    """Return the dead-letter table as `verify` takes it; None while it does not exist."""
    inspected = inspect_dead_letters(pipeline)
    if inspected is None:
        return None
    since = inspected.entry.since_sequence_numbers if inspected.entry else {}
    return DeadLetterTable(inspected.table, pipeline.table.identifier, since)


def operator_committer(
    pipeline: Pipeline, identifier: str, clock: Clock, *, observe: Observer = ignore
) -> TableCommitter:
    """Return what commits an operator's decision, and logs no attempt.

    What a crash leaves behind is orphan removal's: no worker's log knows of it.
    """
    return TableCommitter(
        PyIcebergGateway(catalog_opener(pipeline), identifier),
        clock,
        RandomIds(),
        commit_limits(pipeline),
        log_attempt=lambda _table, _snapshot_id: None,
        observe=observe,
    )


def open_source(
    pipeline: Pipeline, clock: Clock, *, call_timeout_seconds: float | None = None
) -> KafkaSource:
    """Return a source of the pipeline's topics; the caller closes it."""
    settings = kafka_settings(pipeline)
    if call_timeout_seconds is not None:
        settings = replace(settings, call_timeout_seconds=call_timeout_seconds)
    return KafkaSource(settings, clock)


def offsets_at(pipeline: Pipeline, timestamp_ms: int, clock: Clock) -> dict[TopicPartition, int]:
    """Return the offset of the first record of each Kafka partition that is not older.

    Args:
        pipeline: Whose topics.
        timestamp_ms: Milliseconds since 1970 UTC, as the records' own timestamps.
        clock: For the waits.

    Raises:
        UnavailableError: No broker answered in time; try again.
        ConfigError: A topic does not exist, or access is refused.

    """
    settings = replace(kafka_settings(pipeline), start=TimestampStart(timestamp_ms))
    source = KafkaSource(settings, clock)
    try:
        return dict(source.start_offsets(source.partitions()))
    finally:
        source.close()


class SourceTopicReader:
    """Implements `audit.verify.TopicReader` by reading the topic once, offsets only."""

    def __init__(self, source: KafkaSource, clock: Clock) -> None:
        """Read through `source`, which is used for nothing else meanwhile."""
        self._source = source
        self._clock = clock

    def watermarks(
        self, topic_partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, Watermarks]:
        """Return log start and last stable offset, asked from the broker now."""
        return self._source.watermarks(topic_partitions)

    def read(self, ranges: Collection[OffsetRange]) -> Iterator[TopicOffsets]:
        """Yield every record that exists in the ranges."""
        self._source.assign({r.topic_partition: r.start_offset for r in ranges})
        ends = {r.topic_partition: r.next_offset for r in ranges}
        open_partitions = set(ends)
        heard = self._clock.boot_seconds()
        while open_partitions:
            polled = self._source.poll(0.5)
            if polled is None:
                if self._clock.boot_seconds() - heard > TOPIC_SILENCE_SECONDS_MAX:
                    names = ", ".join(str(tp) for tp in sorted(open_partitions))
                    message = f"nothing was read from {names} for {TOPIC_SILENCE_SECONDS_MAX:.0f} s"
                    raise UnavailableError(message)
                continue
            heard = self._clock.boot_seconds()
            for offset_range in polled.ranges:
                topic_partition = offset_range.topic_partition
                if topic_partition in open_partitions:
                    yield _offsets_of(polled, topic_partition, ends[topic_partition])
                    if offset_range.next_offset >= ends[topic_partition]:
                        open_partitions.discard(topic_partition)


def _offsets_of(polled: PolledBatch, topic_partition: TopicPartition, end: int) -> TopicOffsets:
    records = polled.records
    topic = pa.array([topic_partition.topic], pa.string())
    here = (
        (records.column("partition").to_numpy() == topic_partition.kafka_partition)
        & pc.is_in(records.column("topic"), topic).to_numpy(zero_copy_only=False)
        & (records.column("offset").to_numpy() < end)
    )
    offsets = records.column("offset").to_numpy()[here]
    is_tombstone = records.column("value").is_null().to_numpy(zero_copy_only=False)[here]
    return TopicOffsets(
        topic_partition,
        pa.array(offsets.astype(np.int64), pa.int64()),
        pa.array(is_tombstone, pa.bool_()),
    )
