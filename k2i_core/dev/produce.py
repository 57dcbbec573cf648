"""Events into a topic: idempotent, acknowledged by all replicas, at a chosen rate or flat out.

Ids go on where the topic ends. The last record of a Kafka partition carries the highest id of that
partition, because an idempotent producer keeps the order; the topic itself therefore tells the
next free id, and no state beside it can disagree.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,  # pyright: ignore[reportPrivateImportUsage] - documented there
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage] - likewise
)

from k2i_core.clock import Clock, SystemClock
from k2i_core.dev.orders import EPOCH_MS, ORDERS, BadKind, EventMaker, read_event_id
from k2i_core.errors import ConfigError, UnavailableError

_ANSWER_SECONDS = 10.0
_POLL_SECONDS = 0.05
_FLUSH_SECONDS_MAX = 30.0
"""Larger: Ctrl-C waits longer for a broker that is down. Smaller: a slow broker fails a run whose
records it would have taken."""
_CHUNK = 8_192
"""Events made at a time when there is no rate. Larger: more memory and a longer wait for a stop.
Smaller: more overhead for each event."""
_QUEUED_MAX = 80_000
"""Events that wait for Kafka. Larger: more memory. Smaller: a short pause of Kafka is a pause of
ours."""
_TICK_SECONDS = 0.02
"""How often a paced run sends. Larger: the traffic comes in bursts. Smaller: more wake-ups."""
_SLOW_RATE = 1_000.0
_SLOW_TICK_SECONDS = 0.1
"""The same below that rate, because one event takes nearly as long to make as a hundred."""
# librdkafka's own codes: the underscore is part of their public names.
_PARTITION_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001 - see above
_TIMED_OUT = KafkaError._TIMED_OUT  # noqa: SLF001 - see above
_HEADERS: list[tuple[str, str | bytes | None]] = [
    ("source", b"k2i-dev"),
    ("content-type", b"application/json"),
]


def create_topic(
    bootstrap_servers: str,
    topic: str,
    partition_count: int,
    *,
    settings: Mapping[str, str] | None = None,
    client: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
) -> bool:
    """Create a topic if it is missing, and wait until it can be used.

    Args:
        bootstrap_servers: Where the broker is.
        topic: Its name.
        partition_count: Kafka partitions of a new topic; an existing one keeps its own.
        settings: Kafka's topic settings, such as `retention.ms`.
        client: Further librdkafka settings, such as `security.protocol`.
        clock: For the wait.

    Returns:
        Whether it was created.

    Raises:
        ConfigError: Kafka refuses the name or a setting.
        UnavailableError: The broker does not answer, or the topic does not become usable.
    """
    clock = clock or SystemClock()
    admin = AdminClient({"log_level": 0, **(client or {}), "bootstrap.servers": bootstrap_servers})
    new_topic = NewTopic(topic, partition_count, config=dict(settings or {}))
    is_new = True
    try:
        admin.create_topics([new_topic], request_timeout=_ANSWER_SECONDS)[topic].result()
    except KafkaException as error:
        reason: KafkaError = error.args[0]
        is_new = reason.code() != KafkaError.TOPIC_ALREADY_EXISTS
        if is_new and _is_refusal(reason):
            message = f"kafka refuses topic={topic}: {reason.str()}"
            raise ConfigError(message) from error
        if is_new:
            raise _unavailable(bootstrap_servers) from error
    deadline = clock.boot_seconds() + _ANSWER_SECONDS
    # The answer comes before the broker knows the topic itself.
    while not _end_offsets(admin, topic):
        if clock.boot_seconds() >= deadline:
            message = f"topic={topic} was created and cannot be used seconds={_ANSWER_SECONDS:.0f}"
            raise UnavailableError(message)
        clock.sleep(_POLL_SECONDS)
    return is_new


def next_event_id(
    bootstrap_servers: str, topic: str, *, client: Mapping[str, Any] | None = None
) -> int:
    """Return an id above every event in the topic; 0 for a topic without one.

    Raises:
        UnavailableError: The broker does not answer, or the topic is missing.
    """
    settings = {"log_level": 0, **(client or {}), "bootstrap.servers": bootstrap_servers}
    ends = _end_offsets(AdminClient(settings), topic)
    if not ends:
        raise _unavailable(bootstrap_servers)
    consumer = Consumer(
        {
            **settings,
            "group.id": "k2i-dev-next-event-id",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            # Where retention has taken the last record there is nothing to learn.
            "auto.offset.reset": "latest",
        }
    )
    try:
        last_ids = _read_last_ids(consumer, topic, ends)
    except KafkaException as error:
        raise _unavailable(bootstrap_servers) from error
    finally:
        consumer.close()
    # Never below the number of records, which is right where retention has taken all of them.
    return max([sum(ends.values()), *(last_id + 1 for last_id in last_ids)])


@dataclass(frozen=True, slots=True)
class ProduceReport:
    """What a run sent; everything in it is acknowledged.

    Attributes:
        start_id: The first event's id.
        next_id: The id after the last event.
        bad: Id → what is wrong with that event.
        seconds: From the first event to the last acknowledgement.
    """

    start_id: int
    next_id: int
    bad: Mapping[int, BadKind]
    seconds: float

    @property
    def count(self) -> int:
        """How many events were sent."""
        return self.next_id - self.start_id


class EventProducer:
    """Sends consecutive events of one set to one topic.

    `next_id` and `bad` may be read from another thread while a run is under way.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        *,
        event_set: EventMaker = ORDERS,
        start_id: int = 0,
        seed: int = 0,
        bad_share: float = 0.0,
        has_headers: bool = False,
        client: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Connect lazily: a broker that is down shows in `run`.

        Args:
            bootstrap_servers: Where the broker is.
            topic: An existing topic.
            event_set: What to send.
            start_id: The first event's id, see `next_event_id`.
            seed: For the events' values.
            bad_share: How probable it is for an event to be bad.
            has_headers: Whether each record carries two headers.
            client: Further librdkafka settings, such as `security.protocol`.
            clock: For the pace; its time is that of paced events.
        """
        self.next_id = start_id
        self.bad: dict[int, BadKind] = {}
        self._topic = topic
        self._event_set = event_set
        self._seed = seed
        self._bad_share = bad_share
        self._headers = _HEADERS if has_headers else None
        self._clock = clock or SystemClock()
        self._bootstrap_servers = bootstrap_servers
        self._undelivered: list[KafkaError] = []
        self._producer = Producer(
            {
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                "batch.size": 1_000_000,
                "queue.buffering.max.messages": _QUEUED_MAX,
                "queue.buffering.max.kbytes": 1_048_576,  # never reached: events are small
                "delivery.timeout.ms": 120_000,
                "delivery.report.only.error": True,
                "log_level": 0,
                **(client or {}),
                "bootstrap.servers": bootstrap_servers,
            }
        )

    def run(
        self,
        *,
        rate: float = 0.0,
        count: int | None = None,
        stop: threading.Event | None = None,
    ) -> ProduceReport:
        """Send events until there are `count`, or until asked to stop, and wait for Kafka.

        Args:
            rate: Events a second; 0 for as fast as Kafka takes them. Events of a paced run happen
                now, those of others one millisecond apart from 2026-01-01. What an outage of Kafka
                held back is sent when it ends.
            count: How many; None for no end but `stop`.
            stop: Ends the run early.

        Raises:
            UnavailableError: Kafka did not take an event; which ones are missing is not known.
        """
        assert count is not None or stop is not None
        stop = stop or threading.Event()
        start_id, began = self.next_id, self._clock.boot_seconds()
        end_id = None if count is None else start_id + count
        tick_seconds = _TICK_SECONDS if rate >= _SLOW_RATE else _SLOW_TICK_SECONDS
        while not stop.is_set() and self.next_id != end_id:
            due = self.next_id + _CHUNK
            epoch_ms = EPOCH_MS
            if rate > 0:
                self._clock.sleep(tick_seconds)
                elapsed = self._clock.boot_seconds() - began
                due = min(due, start_id + int(elapsed * rate))
                epoch_ms = self._clock.now_ms() - due
            self._wait_for_room(stop)
            if not stop.is_set():
                self._send(due if end_id is None else min(due, end_id), epoch_ms)
        self._flush()
        bad = {event_id: kind for event_id, kind in self.bad.items() if event_id >= start_id}
        return ProduceReport(start_id, self.next_id, bad, self._clock.boot_seconds() - began)

    def _send(self, next_id: int, epoch_ms: int) -> None:
        events = self._event_set.make(
            self.next_id,
            next_id - self.next_id,
            seed=self._seed,
            bad_share=self._bad_share,
            epoch_ms=epoch_ms,
        )
        if self._headers is None:
            messages = [
                {"value": value, "key": key}
                for key, value in zip(events.keys, events.values, strict=True)
            ]
            accepted_count = self._producer.produce_batch(
                self._topic, messages, on_delivery=self._on_delivery
            )
            # Safe because there was room for all of them; a part would break the order of ids.
            assert accepted_count == len(messages)
        else:
            for key, value in zip(events.keys, events.values, strict=True):
                self._producer.produce(
                    self._topic, value, key, headers=self._headers, on_delivery=self._on_delivery
                )
        self.next_id = next_id
        self.bad.update(events.bad)

    def _wait_for_room(self, stop: threading.Event) -> None:
        # Ends at the latest with the delivery timeout: then the queued records fail.
        self._producer.poll(0)
        while len(self._producer) > _QUEUED_MAX - _CHUNK and not stop.is_set():
            self._producer.poll(_POLL_SECONDS)
            self._raise_if_undelivered()
        self._raise_if_undelivered()

    def _flush(self) -> None:
        unsent_count = self._producer.flush(_FLUSH_SECONDS_MAX)
        self._raise_if_undelivered()
        if unsent_count:
            raise _unavailable(self._bootstrap_servers)

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._undelivered.append(error)

    def _raise_if_undelivered(self) -> None:
        if self._undelivered:
            raise _unavailable(self._bootstrap_servers) from KafkaException(self._undelivered[0])


def fill(
    bootstrap_servers: str,
    topic: str,
    count: int,
    *,
    event_set: EventMaker = ORDERS,
    start_id: int = 0,
    seed: int = 0,
    bad_share: float = 0.0,
    partition_count: int = 4,
    has_headers: bool = False,
) -> ProduceReport:
    """Create the topic if it is missing and put `count` events into it as fast as possible.

    Args:
        bootstrap_servers: Where the broker is.
        topic: Its name.
        count: How many events.
        event_set: What to send.
        start_id: The first event's id.
        seed: For the events' values.
        bad_share: How probable it is for an event to be bad.
        partition_count: Kafka partitions of a new topic.
        has_headers: Whether each record carries two headers.

    Raises:
        UnavailableError: The broker does not answer or take all of them.
    """
    create_topic(bootstrap_servers, topic, partition_count)
    producer = EventProducer(
        bootstrap_servers,
        topic,
        event_set=event_set,
        start_id=start_id,
        seed=seed,
        bad_share=bad_share,
        has_headers=has_headers,
    )
    return producer.run(count=count)


def _end_offsets(admin: AdminClient, topic: str) -> dict[int, int]:
    """Kafka partition → end offset; empty while the topic is not usable."""
    try:
        metadata = admin.list_topics(topic, timeout=_ANSWER_SECONDS).topics[topic]
        partitions = [TopicPartition(topic, partition) for partition in metadata.partitions]
        if metadata.error is not None or not partitions:
            return {}
        latest = cast("OffsetSpec", OffsetSpec.latest())  # a singleton, typed as if it may be None
        answers = admin.list_offsets(dict.fromkeys(partitions, latest))
        return {
            one.partition: answer.result(_ANSWER_SECONDS).offset for one, answer in answers.items()
        }
    except (KafkaException, TimeoutError):
        return {}


def _read_last_ids(consumer: Consumer, topic: str, ends: Mapping[int, int]) -> list[int]:
    waiting = {partition for partition, end in ends.items() if end > 0}
    consumer.assign([TopicPartition(topic, one, ends[one] - 1) for one in waiting])
    last_ids: list[int] = []
    while waiting:
        message = consumer.poll(_ANSWER_SECONDS)
        if message is None:
            raise KafkaException(KafkaError(_TIMED_OUT))
        error = message.error()
        # End of partition without a record: retention has taken it, or it is a control record.
        if error is not None and error.code() != _PARTITION_EOF:
            raise KafkaException(error)
        event_id = read_event_id(message.value() or b"") if error is None else None
        last_ids += [] if event_id is None else [event_id]
        waiting.discard(message.partition() or 0)
    return last_ids


def _is_refusal(error: KafkaError) -> bool:
    return error.code() in {
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.POLICY_VIOLATION,
    }


def _unavailable(bootstrap_servers: str) -> UnavailableError:
    return UnavailableError(f"kafka does not answer or take records kafka={bootstrap_servers}")
