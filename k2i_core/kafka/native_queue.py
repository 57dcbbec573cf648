"""What waits for an assigned consumer, taken as columns by `k2i-native`: no Python for a record.

It is librdkafka's own consumer, of the very copy that confluent-kafka brings, with the same
properties; only what drains its queue is another. What an error means is decided in `failures` on
either path.
"""

import sys
from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaError, KafkaException, cimpl

from k2i_core.kafka.failures import PASSING, REACTIONS
from k2i_core.kafka.queue import Assigned, Stop, Taken
from k2i_core.kafka.reports import ClientReports
from k2i_core.kafka.settings import PropertyValue
from k2i_core.native import NativeConsumer, NativeLibrary
from k2i_core.offsets import TopicPartition, Watermarks
from k2i_core.records import POLLED_SCHEMA

_PYTHON_LEVELS = (50, 50, 50, 40, 30, 20, 20, 10)
"""Level of syslog, as librdkafka logs → level of Python's logging."""


def assign_natively(
    library: NativeLibrary,
    properties: Mapping[str, PropertyValue],
    next_offsets: Mapping[TopicPartition, int],
    reports: ClientReports,
) -> Assigned:
    """Return a consumer that reads exactly these Kafka partitions from these offsets on.

    Raises:
        KafkaException: librdkafka does not know a property or its value.
        RuntimeError: The native part failed; whatever it was asked, ask Python.

    """
    try:
        consumer = library.Consumer(
            str(cimpl.__file__),
            [(name, _spelled(value)) for name, value in properties.items()],
            [(tp.topic, tp.kafka_partition, offset) for tp, offset in sorted(next_offsets.items())],
            {code for code, reaction in REACTIONS.items() if reaction in PASSING},
            POLLED_SCHEMA,
        )
    except ValueError as error:
        raise KafkaException(KafkaError(*error.args)) from error

    def watermarks(topic_partition: TopicPartition) -> Watermarks | None:
        marks = consumer.watermarks(topic_partition.topic, topic_partition.kafka_partition)
        return Watermarks(*marks) if marks is not None and 0 <= marks[0] <= marks[1] else None

    queue = NativeQueue(consumer, reports)

    def close() -> None:
        consumer.close()

    return Assigned(queue, watermarks, close)


class NativeQueue:
    """Has `k2i-native` fetch and take, and passes on what librdkafka says about itself."""

    chunk_records = sys.maxsize
    """A poll in one piece, because several would be copied together."""

    def __init__(self, consumer: NativeConsumer, reports: ClientReports) -> None:
        self._consumer = consumer
        self._reports = reports

    def fetch(self, count: int, timeout_seconds: float) -> int:
        """Add messages to those that wait."""
        came = self._consumer.fetch(count, int(timeout_seconds * 1000))
        errors, lines = self._consumer.take_reports()
        for code, reason, is_fatal in errors:
            self._reports.on_error(KafkaError(code, reason, fatal=is_fatal))
        for level, facility, client, line in lines:
            self._reports.log(_PYTHON_LEVELS[level & 7], "%s [%s] %s", facility, client, line)
        return came

    def take(self) -> Taken:
        """Turn what was fetched into columns."""
        records, byte_count, unreadable, next_offsets, ends, passing, stop = self._consumer.take()
        return Taken(
            records=records,
            byte_count=byte_count,
            next_offsets=_by_partition(next_offsets),
            unreadable_header_count=unreadable,
            ends=_by_partition(ends),
            passing=[KafkaError(code, reason) for code, reason in passing],
            stop=None if stop is None else _stop_of(*stop),
        )


def _by_partition(positions: Iterable[tuple[str, int, int]]) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, partition): offset for topic, partition, offset in positions}


def _stop_of(error: tuple[int, str], topic: str | None, kafka_partition: int) -> Stop:
    if topic is None or kafka_partition < 0:
        return Stop(KafkaError(*error), None)
    return Stop(KafkaError(*error), TopicPartition(topic, kafka_partition))


def _spelled(value: PropertyValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
