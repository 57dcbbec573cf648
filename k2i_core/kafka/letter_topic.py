"""Copies of dead letters in a Kafka topic, for consumers that live there.

A copy and nothing more: the dead-letter table has the letters, and nothing is read from the topic.
So a broker that refuses costs a limited time for each commit that has dead letters, never a letter
and never a row. What was not confirmed in time is counted by the caller and not tried again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from k2i_core.clock import Clock
from k2i_core.kafka.settings import KafkaSettings, PropertyValue, client_properties
from k2i_core.records import KAFKA_COLUMN

QUEUE_KILOBYTES_MAX = 32 * 1024
"""Of copies that wait for the broker. Larger costs memory; smaller lets many letters wait for room,
which counts against the time that they have."""

ROOM_SECONDS = 0.05
"""How long one wait for room in the queue takes. Larger reacts to a confirmation later."""

HEADER_PREFIX = "k2i."


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of the letters of one commit.

    Attributes:
        count: Confirmed by the broker.
        missing_count: Not confirmed in time.
        reason: Of one of those.
    """

    count: int
    missing_count: int
    reason: str | None


class LetterTopic:
    """Writes dead letters to one topic; used by one thread."""

    def __init__(
        self, settings: KafkaSettings, topic: str, pipeline: str, clock: Clock, seconds_max: float
    ) -> None:
        """Bind a topic; nothing is asked of a broker yet.

        Args:
            settings: How to reach the cluster.
            topic: Is not created here.
            pipeline: Named in the headers.
            clock: For the limit.
            seconds_max: How long the copies of one commit may take together.

        """
        self._properties = _producer_properties(settings, seconds_max)
        self._topic = topic
        self._pipeline = pipeline
        self._clock = clock
        self._seconds_max = seconds_max
        self._producer: Producer | None = None

    def copy(self, batches: Iterable[pa.RecordBatch]) -> Copied:
        """Write the letters of one commit, and wait until the broker has confirmed them.

        Args:
            batches: Rows × DEAD_LETTER_SCHEMA; one of them is held at a time.

        """
        count = 0
        delivered = _Delivered()
        deadline = self._clock.boot_seconds() + self._seconds_max
        for batch in batches:
            count += batch.num_rows
            if not delivered.is_over:
                self._send_all(batch, delivered, deadline)
        while (
            self._producer is not None
            and delivered.answers < delivered.sent
            and self._clock.boot_seconds() < deadline
        ):
            self._producer.poll(ROOM_SECONDS)
        missing = count - delivered.count
        reason = delivered.reason or "the broker did not answer"
        return Copied(delivered.count, missing, reason if missing else None)

    def close(self) -> None:
        """Let go of the client; what is not confirmed by now was counted already."""
        self._producer = None

    def _send_all(self, batch: pa.RecordBatch, delivered: "_Delivered", deadline: float) -> None:
        try:
            producer = self._producer = self._producer or Producer(dict(self._properties))
            for letter in batch.to_pylist():
                self._send(producer, letter, delivered, deadline)
        except KafkaException as error:
            # A client that failed for good never sends again; the next commit gets a new one.
            self._producer = None
            delivered.is_over = True
            delivered.refused(cast("KafkaError", error.args[0]))

    def _send(
        self,
        producer: Producer,
        letter: Mapping[str, Any],
        delivered: "_Delivered",
        deadline: float,
    ) -> None:
        origin: Mapping[str, Any] = letter[KAFKA_COLUMN]
        headers = [(each["key"], each["value"]) for each in origin["headers"] or ()]
        while self._clock.boot_seconds() < deadline:
            try:
                producer.produce(
                    self._topic,
                    value=letter["value"],
                    key=origin["key"],
                    headers=[*headers, *self._own_headers(letter, origin)],
                    on_delivery=delivered.answered,
                )
            except BufferError:
                producer.poll(ROOM_SECONDS)
                continue
            except KafkaException as error:
                reason = cast("KafkaError", error.args[0])
                if reason.fatal():
                    raise
                delivered.refused(reason)  # larger than the topic allows, for example
                return
            delivered.sent += 1
            producer.poll(0)
            return

    def _own_headers(
        self, letter: Mapping[str, Any], origin: Mapping[str, Any]
    ) -> list[tuple[str, bytes]]:
        named = {
            "pipeline": self._pipeline,
            "table": letter["target_table"],
            **{name: origin[name] for name in ("topic", "partition", "offset")},
            **{name: letter[name] for name in ("stage", "error_class", "fingerprint", "message")},
        }
        if letter["schema_id"] is not None:
            named["schema_id"] = letter["schema_id"]
        return [(HEADER_PREFIX + name, str(value).encode()) for name, value in named.items()]


class _Delivered:
    """What became of the copies of one commit."""

    def __init__(self) -> None:
        self.sent = 0
        self.answers = 0
        self.count = 0
        self.reason: str | None = None
        self.is_over = False

    def answered(self, error: KafkaError | None, _message: Message) -> None:
        """Take the broker's verdict on one copy; called within the producer's `poll`."""
        self.answers += 1
        if error is None:
            self.count += 1
        else:
            self.refused(error)

    def refused(self, error: KafkaError) -> None:
        """Keep the first reason: a name of librdkafka, which holds neither content nor secret."""
        self.reason = self.reason or error.name()


def _producer_properties(settings: KafkaSettings, seconds_max: float) -> dict[str, PropertyValue]:
    owned: dict[str, PropertyValue] = {
        "acks": "all",
        # A retry of the client's own makes no second copy; a worker that starts again may.
        "enable.idempotence": True,
        "message.timeout.ms": int(seconds_max * 1000),
        "queue.buffering.max.kbytes": QUEUE_KILOBYTES_MAX,
        "log_level": 3,
    }
    return {**client_properties(settings), **owned}
