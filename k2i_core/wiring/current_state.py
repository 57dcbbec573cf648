"""What a pipeline's table holds now and how far behind it is, as plain values: for orchestration.

Reads the catalog and asks the broker; changes nothing.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from k2i_core.clock import Clock
from k2i_core.config import Pipeline, StartPolicy
from k2i_core.errors import ConfigError, ErrorKind
from k2i_core.iceberg.column_names import table_columns
from k2i_core.iceberg.tables import with_kafka
from k2i_core.iceberg.types import arrow_schema
from k2i_core.ingest.ports import Source
from k2i_core.kafka.source import KafkaSource
from k2i_core.ledger import Entry, Totals
from k2i_core.offsets import OffsetRange, TopicPartition, Watermarks
from k2i_core.schema.arrow_types import from_arrow, to_arrow_schema
from k2i_core.schema.changes import diff
from k2i_core.schema.iceberg_types import IcebergField
from k2i_core.wiring.inspection import InspectedTable, inspect_target, open_source, stored_ledger

BROKER_SECONDS_MAX = 5.0
"""How long a lag is worth waiting for. Larger holds up those who ask beside a broker that is
down; smaller calls a busy broker gone."""


@dataclass(frozen=True, slots=True)
class CommittedState:
    """One load of the target table.

    Attributes:
        snapshot_id: The head.
        committed_ms: When it was committed.
        metadata_location: Of this load.
        columns: As the table has them, `_kafka` last.
        next_offsets: The checkpoint.
        totals: What became of all records so far, over all Kafka partitions.
        commits: The ranges of the retained commits, oldest first.
        schema_problems: Why the table is paused, and what it lacks for the declared columns, one
            line each.
    """

    snapshot_id: int
    committed_ms: int
    metadata_location: str
    columns: tuple[IcebergField, ...]
    next_offsets: Mapping[TopicPartition, int]
    totals: Totals
    commits: tuple[tuple[OffsetRange, ...], ...]
    schema_problems: tuple[str, ...]


def committed_state(pipeline: Pipeline) -> CommittedState:
    """Load the target table.

    Raises:
        ConfigError: It does not exist, or k2i never committed to it.
        CorruptionError: Its ledger cannot be believed.
        UnavailableError: The catalog did not answer.

    """
    inspected = inspect_target(pipeline)
    ledger = stored_ledger(inspected)
    head = inspected.view.snapshots[inspected.view.head_snapshot_id or 0]
    fields = arrow_schema(inspected.table.schema())
    commits = sorted(_current_commits(ledger.entry, inspected))
    return CommittedState(
        snapshot_id=head.snapshot_id,
        committed_ms=head.timestamp_ms,
        metadata_location=inspected.view.metadata_location,
        columns=tuple(IcebergField(f.name, from_arrow(f.type), not f.nullable) for f in fields),
        next_offsets=ledger.entry.checkpoint.next_offsets,
        totals=total_counts(ledger.entry),
        commits=tuple(ranges for _, ranges in commits),
        schema_problems=(*_pause_of(inspected), *_schema_problems(pipeline, inspected)),
    )


def ledger_entry(pipeline: Pipeline) -> Entry | None:
    """Return what the target table says about Kafka; None for one that k2i never committed to.

    Raises:
        CorruptionError: Its ledger cannot be believed.
        UnavailableError: The catalog did not answer.

    """
    try:
        return inspect_target(pipeline).entry
    except ConfigError as error:
        if error.kind is ErrorKind.TABLE_MISSING:
            return None
        raise


@dataclass(frozen=True, slots=True)
class TopicBounds:
    """The pipeline's topics as they are now.

    Attributes:
        marks: Log start and end of every Kafka partition.
        starts: Where the start policy would begin those that were asked about.
    """

    marks: Mapping[TopicPartition, Watermarks]
    starts: Mapping[TopicPartition, int]


def topic_bounds(
    pipeline: Pipeline, clock: Clock, *, known: Collection[TopicPartition] = ()
) -> TopicBounds:
    """Ask the broker.

    Args:
        pipeline: Whose topics.
        clock: For time limits.
        known: Kafka partitions whose start does not matter, because they have a checkpoint.

    Raises:
        UnavailableError: It did not answer in time.
        ConfigError: A topic is missing, access is refused, or an offset is outside the log.

    """
    source = open_source(pipeline, clock)
    try:
        topic_partitions = source.partitions()
        return TopicBounds(
            source.watermarks(topic_partitions),
            source.start_offsets(topic_partitions - set(known)),
        )
    finally:
        source.close()


def starting_at(pipeline: Pipeline, start: StartPolicy) -> Pipeline:
    """Return the same pipeline with another start for Kafka partitions without a checkpoint."""
    kafka = pipeline.kafka.model_copy(update={"start": start})
    return pipeline.model_copy(update={"kafka": kafka})


def total_counts(entry: Entry) -> Totals:
    """Return the sum over all Kafka partitions."""
    total = Totals()
    for counts in entry.totals.values():
        total = total.plus(counts)
    return total


def _current_commits(
    entry: Entry, inspected: InspectedTable
) -> list[tuple[int, tuple[OffsetRange, ...]]]:
    """Return sequence number and ranges of each commit, without those of deleted topics."""
    since = entry.since_sequence_numbers
    return [
        (
            retained.sequence_number,
            tuple(
                r.offsets
                for r in retained.ranges
                if retained.sequence_number >= since.get(r.offsets.topic_partition.topic, 0)
            ),
        )
        for retained in inspected.retained_ranges
    ]


def _pause_of(inspected: InspectedTable) -> tuple[str, ...]:
    pause = inspected.view.paused
    return () if pause is None else (f"the table is paused: {pause}; see `k2i table resume`",)


def _schema_problems(pipeline: Pipeline, inspected: InspectedTable) -> tuple[str, ...]:
    declared = pipeline.declared_columns()
    if declared is None:
        return ()
    current = table_columns(inspected.table)
    found = diff(current, with_kafka(to_arrow_schema(declared)))
    return (
        *(str(change) for change in found.changes),
        *(str(incompatibility) for incompatibility in found.incompatibilities),
    )


class LagMeter:
    """Asks the broker how many messages are not in the table yet; close it."""

    def __init__(self, pipeline: Pipeline, clock: Clock) -> None:
        """Prepare a client of its own; connects at the first question."""
        self._source: KafkaSource = open_source(
            pipeline, clock, call_timeout_seconds=BROKER_SECONDS_MAX
        )

    def lag(self, next_offsets: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        """Return messages at and above the checkpoint, per Kafka partition.

        Raises:
            UnavailableError: The broker did not answer in time.
            ConfigError: A topic is missing, or access is refused.

        """
        return measured_lag(self._source, next_offsets)

    def close(self) -> None:
        """Leave."""
        self._source.close()


def measured_lag(
    source: Source, next_offsets: Mapping[TopicPartition, int]
) -> Mapping[TopicPartition, int]:
    """Return the lag of every Kafka partition; one without a checkpoint counts as unread."""
    marks = source.watermarks(source.partitions())
    return {
        tp: max(0, mark.high - max(mark.low, next_offsets.get(tp, mark.low)))
        for tp, mark in marks.items()
    }
