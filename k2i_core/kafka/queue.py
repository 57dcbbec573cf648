"""What waits for an assigned consumer, taken as columns: the seam between polling and librdkafka.

A reader asks for some messages, perhaps for some more, and then for all of them as columns. Nothing
behind an error that stops the reader is taken, because it may lie behind what could not be read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka import TopicPartition as KafkaTopicPartition

from k2i_core.kafka.batches import Chunk, chunk_of
from k2i_core.kafka.failures import PASSING, Reaction, reaction_to
from k2i_core.kafka.reports import ClientReports
from k2i_core.kafka.settings import PropertyValue
from k2i_core.offsets import TopicPartition, Watermarks

CHUNK_RECORDS = 2_000
"""Messages taken from librdkafka at once. Larger makes them leave the processor's cache before they
are columns (a fifth more processor time at 10,000), smaller pays each call more often."""


@dataclass(frozen=True, slots=True)
class Stop:
    """An error that ends reading, and the Kafka partition that it is about, if it is about one."""

    error: KafkaError
    topic_partition: TopicPartition | None


@dataclass(frozen=True, slots=True)
class Taken:
    """Messages up to the first error that stops.

    Attributes:
        records: n rows × POLLED_SCHEMA, n > 0; None without a record.
        byte_count: Bytes of keys, values and headers.
        next_offsets: The position behind the last record, per Kafka partition that has one.
        unreadable_header_count: Records whose headers are null because a key is not UTF-8.
        ends: Where the log ends now, of Kafka partitions that were read up to there.
        passing: Errors that librdkafka recovers from by itself.
        stop: What ended it.
    """

    records: pa.RecordBatch | None = None
    byte_count: int = 0
    next_offsets: Mapping[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    unreadable_header_count: int = 0
    ends: Mapping[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    passing: Sequence[KafkaError] = ()
    stop: Stop | None = None


class RecordQueue(Protocol):
    """Messages of one assignment; used by one thread."""

    @property
    def chunk_records(self) -> int:
        """How many messages are best taken at once."""
        ...

    def fetch(self, count: int, timeout_seconds: float) -> int:
        """Add up to `count` messages to those that wait to be taken, and return how many came.

        Waits until they are there or time is up.
        """
        ...

    def take(self) -> Taken:
        """Turn all that was fetched into columns."""
        ...


@dataclass(frozen=True, slots=True)
class Assigned:
    """A consumer with its assignment.

    Attributes:
        queue: Its messages.
        watermarks: Log start and end as the last fetch said, without asking; None when unknown.
        close: Leaves; takes at most a few seconds.
    """

    queue: RecordQueue
    watermarks: Callable[[TopicPartition], Watermarks | None]
    close: Callable[[], None]


def assign(
    properties: Mapping[str, PropertyValue],
    next_offsets: Mapping[TopicPartition, int],
    reports: ClientReports,
) -> Assigned:
    """Return a consumer that reads exactly these Kafka partitions from these offsets on.

    Raises:
        KafkaException: librdkafka does not know a property or its value.

    """
    consumer = Consumer(reports.attached_to(properties))
    consumer.assign(
        [
            KafkaTopicPartition(tp.topic, tp.kafka_partition, next_offset)
            for tp, next_offset in sorted(next_offsets.items())
        ]
    )

    def watermarks(topic_partition: TopicPartition) -> Watermarks | None:
        kafka_partition = KafkaTopicPartition(
            topic_partition.topic, topic_partition.kafka_partition
        )
        low, high = consumer.get_watermark_offsets(kafka_partition, cached=True)
        return Watermarks(low, high) if 0 <= low <= high else None

    topics = {tp.topic for tp in next_offsets}
    return Assigned(
        MessageQueue(consumer, topics.pop() if len(topics) == 1 else None),
        watermarks,
        consumer.close,
    )


class MessageSource(Protocol):
    """The one method of a librdkafka consumer that a queue of messages needs."""

    def consume(self, num_messages: int, timeout: float, /) -> list[Message]:
        """Return up to `num_messages` messages, waiting until they are there or time is up."""
        ...


class MessageQueue:
    """Takes messages as Python objects, and makes columns of them."""

    chunk_records = CHUNK_RECORDS

    def __init__(self, consumer: MessageSource, topic: str | None) -> None:
        """Bind the consumer; `topic` is that of all messages where it is known to be one."""
        self._consumer = consumer
        self._topic = topic
        self._fetched: list[Message] = []

    def fetch(self, count: int, timeout_seconds: float) -> int:
        """Add messages to those that wait."""
        messages = self._consumer.consume(count, timeout_seconds)
        self._fetched += messages
        return len(messages)

    def take(self) -> Taken:
        """Turn what was fetched into columns, once, because the fixed cost of that is dear."""
        messages, self._fetched = self._fetched, []
        records: Sequence[Message] = messages
        ends: dict[TopicPartition, int] = {}
        passing: list[KafkaError] = []
        stop: Stop | None = None
        if any(map(Message.error, messages)):
            records, stop = _without_errors(messages, ends, passing)
        chunk = chunk_of(records, self._topic) if records else None
        return _taken(chunk, ends, passing, stop)


def _without_errors(
    messages: Sequence[Message], ends: dict[TopicPartition, int], passing: list[KafkaError]
) -> tuple[list[Message], Stop | None]:
    records: list[Message] = []
    for message in messages:
        error = message.error()
        if error is None:
            records.append(message)
        elif (reaction := reaction_to(error)) is Reaction.END_REACHED:
            ends[_partition_of(message)] = cast("int", message.offset())
        elif reaction in PASSING:
            passing.append(error)
        else:
            is_about_one = message.topic() is not None and (message.partition() or 0) >= 0
            return records, Stop(error, _partition_of(message) if is_about_one else None)
    return records, None


def _taken(
    chunk: Chunk | None,
    ends: Mapping[TopicPartition, int],
    passing: Sequence[KafkaError],
    stop: Stop | None,
) -> Taken:
    if chunk is None:
        return Taken(ends=ends, passing=passing, stop=stop)
    return Taken(
        records=chunk.records,
        byte_count=chunk.byte_count,
        next_offsets=chunk.next_offsets,
        unreadable_header_count=chunk.unreadable_header_count,
        ends=ends,
        passing=passing,
        stop=stop,
    )


def _partition_of(message: Message) -> TopicPartition:
    return TopicPartition(cast("str", message.topic()), cast("int", message.partition()))
