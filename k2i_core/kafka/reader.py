"""Reads one assignment: polls of bounded size, positions that pass what is not a record.

A position moves in two ways: past the last record of a Kafka partition, and to the end of the log
when librdkafka says that nothing more can be read before it. The second passes aborted records,
control records and compacted offsets, for which no record ever comes. Ranges are contiguous from
poll to poll, because each begins where the one before it ended.

Nothing that stops the reader costs records that came before it: they are returned, and the error
is raised by the next poll.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
from confluent_kafka import KafkaError

from k2i_core.clock import Clock
from k2i_core.errors import DataLossError, K2iError
from k2i_core.kafka.failures import Reaction, reaction_to, translated
from k2i_core.kafka.queue import RecordQueue, Stop, Taken
from k2i_core.kafka.settings import KafkaSettings, Secrets
from k2i_core.offsets import OffsetRange, TopicPartition, Watermarks
from k2i_core.records import POLLED_SCHEMA, PolledBatch

RECORD_BYTES_ASSUMED = 16 * 1024 * 1024
"""Size of a record before the first one was seen: so large that only one or two are asked for."""

FULL_SHARE = 0.95
"""Share of its bytes from which a poll is full. Larger asks for a few more records in most polls,
and to join them to the others copies all; smaller makes more batches."""


class ClientErrors(Protocol):
    """Where a reader reports what it sees."""

    def heard(self) -> None:
        """Note a sign of life."""
        ...

    def on_error(self, error: KafkaError) -> None:
        """Take an error that librdkafka recovers from by itself."""
        ...

    def take_topic_doubt(self) -> bool:
        """Tell whether an error since the last call says that a topic may be gone."""
        ...

    def warn(self, about: str, event: str, **values: object) -> None:
        """Log a warning, now and then when it repeats."""
        ...


@dataclass(slots=True)
class _Poll:
    """One poll while it is being filled."""

    batches: list[pa.RecordBatch] = field(default_factory=list[pa.RecordBatch])
    record_count: int = 0
    byte_count: int = 0
    next_offsets: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])


class PartitionReader:
    """Turns the messages of an assigned consumer into polled batches; used by one thread."""

    def __init__(
        self,
        queue: RecordQueue,
        next_offsets: Mapping[TopicPartition, int],
        *,
        settings: KafkaSettings,
        clock: Clock,
        errors: ClientErrors,
        secrets: Secrets,
        watermarks: Callable[[TopicPartition], Watermarks | None],
        check_topics: Callable[[], None],
    ) -> None:
        """Begin at the positions at which the consumer was assigned.

        Args:
            queue: Of a consumer that is assigned to exactly `next_offsets`.
            next_offsets: Not empty.
            settings: Limits of a poll.
            clock: For the linger time.
            errors: Told of signs of life and of errors that need nobody.
            secrets: Kept out of messages.
            watermarks: Asked for the message when an offset is gone; None when unknown.
            check_topics: Called when a topic may be gone; raises what the poll shall raise.

        """
        assert next_offsets
        self._queue = queue
        self._positions = dict(next_offsets)
        self._settings = settings
        self._clock = clock
        self._errors = errors
        self._secrets = secrets
        self._watermarks = watermarks
        self._check_topics = check_topics
        self._record_bytes = 0
        self._stopped_by: Stop | None = None

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """The next offset to read, per Kafka partition."""
        return self._positions

    def poll(self, timeout_seconds: float) -> PolledBatch | None:
        """Return what is there, after waiting up to `timeout_seconds` for the first of it.

        Raises:
            DataLossError: The next offset of a Kafka partition is gone.
            ConfigError: A topic is gone, or may not be read.
            UnavailableError: librdkafka cannot go on; build a new source.

        """
        if self._stopped_by is not None:
            raise self._error_of(self._stopped_by)
        if self._errors.take_topic_doubt():
            self._check_topics()
        poll = _Poll()
        self._fill(poll, timeout_seconds)
        ranges = self._advance(poll.next_offsets)
        if not ranges:
            assert not poll.record_count
            if self._stopped_by is not None:
                raise self._error_of(self._stopped_by)
            return None
        assert poll.record_count <= sum(map(len, ranges))
        if poll.record_count:
            self._record_bytes = max(1, poll.byte_count // poll.record_count)
        return PolledBatch(
            records=_joined(poll.batches),
            ranges=ranges,
            byte_count=poll.byte_count,
            polled_boot_seconds=self._clock.boot_seconds(),
        )

    def _fill(self, poll: _Poll, timeout_seconds: float) -> None:
        """Take what is queued in chunks; the first chunk that is not full lingers and is the last.

        A chunk becomes columns once, because the fixed cost of that is most of a small poll.
        """
        queue, asked = self._queue, self._chunk_records(poll)
        came = queue.fetch(asked, 0) or queue.fetch(1, timeout_seconds)
        if not came:
            return
        linger_until = self._clock.boot_seconds() + self._settings.poll_linger_seconds
        while True:
            wait_seconds = linger_until - self._clock.boot_seconds()
            if came < asked and wait_seconds > 0:
                came += queue.fetch(asked - came, wait_seconds)
            if came:
                self._take(queue.take(), poll)
            if came < asked or self._stopped_by is not None:
                return
            asked = self._chunk_records(poll)
            if asked == 0:
                return
            came = queue.fetch(asked, 0)

    def _chunk_records(self, poll: _Poll) -> int:
        """Return how many more messages fit the poll; 0 when it is full."""
        free_records = self._settings.poll_records_max - poll.record_count
        free_bytes = self._settings.poll_bytes_max - poll.byte_count
        if free_records <= 0 or poll.byte_count >= self._settings.poll_bytes_max * FULL_SHARE:
            return 0
        record_bytes = self._record_bytes
        if poll.record_count:
            record_bytes = max(record_bytes, poll.byte_count // poll.record_count, 1)
        record_bytes = record_bytes or RECORD_BYTES_ASSUMED
        return min(self._queue.chunk_records, free_records, max(1, free_bytes // record_bytes))

    def _take(self, taken: Taken, poll: _Poll) -> None:
        for error in taken.passing:
            self._errors.on_error(error)
        if taken.records is not None or taken.ends:
            self._errors.heard()
        if taken.unreadable_header_count:
            self._errors.warn(
                "headers",
                "header keys are not utf-8, records kept without headers",
                record_count=taken.unreadable_header_count,
                topics=", ".join(sorted({tp.topic for tp in taken.next_offsets})),
            )
        if taken.records is not None:
            poll.batches.append(taken.records)
            poll.record_count += taken.records.num_rows
            poll.byte_count += taken.byte_count
            poll.next_offsets.update(taken.next_offsets)
        for topic_partition, end in taken.ends.items():
            poll.next_offsets[topic_partition] = max(end, poll.next_offsets.get(topic_partition, 0))
        self._stopped_by = taken.stop

    def _advance(self, next_offsets: Mapping[TopicPartition, int]) -> tuple[OffsetRange, ...]:
        ranges: list[OffsetRange] = []
        for topic_partition, next_offset in sorted(next_offsets.items()):
            position = self._positions[topic_partition]
            if next_offset > position:
                ranges.append(OffsetRange(topic_partition, position, next_offset))
                self._positions[topic_partition] = next_offset
        return tuple(ranges)

    def _error_of(self, stop: Stop) -> K2iError:
        error, topic_partition = stop.error, stop.topic_partition
        if topic_partition is None:
            return translated(error, "reading", self._secrets)
        position = self._positions.get(topic_partition)
        where = f"topic={topic_partition.topic} kafka_partition={topic_partition.kafka_partition}"
        if reaction_to(error) is not Reaction.LOST:
            return translated(error, f"reading {where} next_offset={position}", self._secrets)
        return self._loss(where, topic_partition)

    def _loss(self, where: str, topic_partition: TopicPartition) -> DataLossError:
        position = self._positions[topic_partition]
        marks = self._watermarks(topic_partition)
        log_start = "unknown" if marks is None else marks.low
        log_end = "unknown" if marks is None else marks.high
        cause = "offsets were deleted before they were read"
        if marks is not None and position > marks.high:
            cause = "the log ends before the next offset: it was truncated, or the topic recreated"
        return DataLossError(
            f"{cause}: {where} next_offset={position} log_start={log_start} log_end={log_end}, "
            f"run `k2i table accept-gap` to record the loss and go on from log_start"
        )


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if not batches:
        return pa.RecordBatch.from_pylist([], schema=POLLED_SCHEMA)
    if len(batches) == 1:
        return batches[0]
    return pa.concat_batches(batches)  # pyright: ignore[reportAttributeAccessIssue] - missing from the stubs
