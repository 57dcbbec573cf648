"""From what a person asks of a backfill to where each Kafka partition begins and ends. Pure.

A backfill goes on from the table's checkpoint, like every worker: nothing can be read twice. So a
configured start decides only for Kafka partitions without a checkpoint, and for the others it is
a claim that is checked:

| configured start, checkpoint there | outcome |
|---|---|
| above it | refused: the offsets between would be lost |
| between the table's first offset and it | fine: what is there already is not read again |
| below the table's first offset | refused: rows cannot be added before the first ones |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from k2i_core.config import StartOffsets
from k2i_core.errors import ConfigError
from k2i_core.ledger import Entry
from k2i_core.offsets import TopicPartition, Watermarks

_OFFSETS_FORM = "write offsets as {topic: {kafka partition: [start, end]}}, either may be null"
_TIMESTAMPS_FORM = (
    "write timestamps as {start: 2026-01-01T00:00:00Z, end: …} with a zone, or as milliseconds"
)


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """What the run's config says; offsets by Kafka partition, times in milliseconds."""

    starts: Mapping[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    ends: Mapping[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    start_timestamp_ms: int | None = None
    end_timestamp_ms: int | None = None

    @property
    def has_start(self) -> bool:
        """Tell whether a start was asked for."""
        return bool(self.starts) or self.start_timestamp_ms is not None


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """Where reading begins and ends.

    Attributes:
        starts: Of Kafka partitions without a checkpoint.
        ends: The next offset after the last one wanted, of every Kafka partition.
        record_span: Offsets between where reading begins and ends.
    """

    starts: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    record_span: int

    @property
    def start_policy(self) -> StartOffsets:
        """The starts as the pipeline's start policy."""
        by_topic: dict[str, dict[int, int]] = {}
        for topic_partition, offset in self.starts.items():
            by_topic.setdefault(topic_partition.topic, {})[topic_partition.kafka_partition] = offset
        return StartOffsets(by_topic)


def read_request(offsets: object, timestamps: object) -> BackfillRequest:
    """Read the run's config.

    Raises:
        ConfigError: It is not in the form that the message names.

    """
    starts, ends = _read_offsets(offsets)
    start_ms, end_ms = _read_timestamps(timestamps)
    if (starts and start_ms is not None) or (ends and end_ms is not None):
        message = "offsets and timestamps name the same bound; leave one of them out"
        raise ConfigError(message)
    return BackfillRequest(starts, ends, start_ms, end_ms)


def plan_backfill(
    request: BackfillRequest,
    *,
    entry: Entry | None,
    marks: Mapping[TopicPartition, Watermarks],
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> BackfillPlan:
    """Decide where each Kafka partition begins and ends.

    Args:
        request: What was asked for.
        entry: The table's ledger; None for a new table.
        marks: Of every Kafka partition of the pipeline.
        starts: Where the requested time begins each one; without one, where the pipeline's own
            policy begins those that have no checkpoint.
        ends: Where the requested time, or else the log, ends each one.

    Raises:
        ConfigError: The request cannot be carried out without losing or doubling rows; one line
            for each Kafka partition.

    """
    refusals = [
        f"{tp}: no such Kafka partition in this pipeline"
        for tp in sorted({*request.starts, *request.ends} - marks.keys())
    ]
    begin = {**starts, **request.starts}
    end = {**ends, **request.ends}
    checkpoint = entry.checkpoint.next_offsets if entry else {}
    for topic_partition, mark in sorted(marks.items()):
        if entry is not None and topic_partition in checkpoint:
            claimed = begin.get(topic_partition) if request.has_start else None
            first = entry.first_offsets.get(topic_partition, 0)
            if refusal := _refused_start(claimed, first, checkpoint[topic_partition]):
                refusals.append(f"{topic_partition}: {refusal}")
        elif not mark.low <= begin[topic_partition] <= mark.high:
            refusals.append(
                f"{topic_partition}: start={begin[topic_partition]} is outside the log "
                f"[{mark.low},{mark.high})"
            )
        if end[topic_partition] > mark.high:
            refusals.append(
                f"{topic_partition}: end={end[topic_partition]} is not in the topic yet, it ends "
                f"at {mark.high}"
            )
    if refusals:
        raise ConfigError("\n".join(refusals))
    new = {tp: offset for tp, offset in begin.items() if tp not in checkpoint}
    positions = {**new, **checkpoint}
    span = sum(max(0, end[tp] - positions[tp]) for tp in marks)
    return BackfillPlan(new, {tp: end[tp] for tp in marks}, span)


def _refused_start(start: int | None, first_offset: int, next_offset: int) -> str | None:
    if start is None:
        return None
    if start > next_offset:
        return (
            f"start={start} leaves a gap after the checkpoint={next_offset}; leave it out to go on "
            "from there"
        )
    if start < first_offset:
        return (
            f"start={start} is before the table's first offset={first_offset}, and rows cannot be "
            "added before those; read them into a table of their own"
        )
    return None


def _read_offsets(
    offsets: object,
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    starts: dict[TopicPartition, int] = {}
    ends: dict[TopicPartition, int] = {}
    try:
        for topic, partitions in cast("Mapping[str, Any]", offsets or {}).items():
            for kafka_partition, bounds in partitions.items():
                start, end = bounds
                topic_partition = TopicPartition(str(topic), int(kafka_partition))
                for bound, kept in ((start, starts), (end, ends)):
                    if bound is not None:
                        kept[topic_partition] = _offset(bound)
                if start is not None and end is not None and start > end:
                    message = f"{topic_partition}: start={start} is above end={end}"
                    raise ConfigError(message)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(_OFFSETS_FORM) from error
    return starts, ends


def _offset(bound: object) -> int:
    if not isinstance(bound, int) or isinstance(bound, bool) or bound < 0:
        raise ValueError(bound)
    return bound


def _read_timestamps(timestamps: object) -> tuple[int | None, int | None]:
    if timestamps is None:
        return None, None
    if not isinstance(timestamps, Mapping) or not timestamps.keys() <= {"start", "end"}:
        raise ConfigError(_TIMESTAMPS_FORM)
    named = cast("Mapping[str, object]", timestamps)
    start, end = _milliseconds(named.get("start")), _milliseconds(named.get("end"))
    if start is not None and end is not None and start > end:
        message = f"timestamps: start={named['start']} is after end={named['end']}"
        raise ConfigError(message)
    return start, end


def _milliseconds(moment: object) -> int | None:
    if moment is None or (isinstance(moment, int) and not isinstance(moment, bool)):
        return moment
    try:
        parsed = datetime.fromisoformat(str(moment))
    except ValueError as error:
        raise ConfigError(_TIMESTAMPS_FORM) from error
    if parsed.tzinfo is None:
        raise ConfigError(_TIMESTAMPS_FORM)
    return int(parsed.timestamp() * 1000)
