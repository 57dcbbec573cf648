"""A queue that `k2i-native` drains, and a source whose native part fails.

Goal: what librdkafka says arrives where it arrives in Python, and a failure of the native part
costs nothing that was polled and nothing that was not.
Method: a library written here, so that this holds without the wheel as well; that real messages
become the same columns is shown on a real broker, `tests/integration/kafka/test_reading.py`.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from k2i_core.errors import ConfigError
from k2i_core.kafka.native_queue import NativeQueue, assign_natively
from k2i_core.kafka.queue import MessageQueue
from k2i_core.kafka.reports import ClientReports
from k2i_core.kafka.settings import KafkaSettings, Secrets
from k2i_core.kafka.source import KafkaSource
from k2i_core.native import INTERFACE
from k2i_core.offsets import TopicPartition, Watermarks
from k2i_core.records import POLLED_SCHEMA
from tests.fakes.time_and_ids import ScriptedClock

ZERO = TopicPartition("orders", 0)
SETTINGS = KafkaSettings(bootstrap_servers="127.0.0.1:1", group_id="x", topics=("orders",))
ROWS = pa.RecordBatch.from_pylist(
    [{"topic": "orders", "partition": 0, "offset": 7, "value": b"{}"}], schema=POLLED_SCHEMA
)


class FakeConsumer:
    """Hands out one record, some errors and some reports."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.asked: list[tuple[int, int]] = []
        self.is_closed = False

    def fetch(self, count: int, timeout_ms: int, /) -> int:
        self.asked.append((count, timeout_ms))
        return 1

    def take(self) -> Any:
        passing = [(KafkaError._TRANSPORT, "away")]
        stop = ((KafkaError._BAD_MSG, "bad"), "orders", 0)
        return ROWS, 2, 0, [("orders", 0, 8)], [("orders", 1, 9)], passing, stop

    def take_reports(self) -> Any:
        lines = [(3, "FAIL", "k2i#consumer-1", "connection refused")]
        return [(KafkaError._ALL_BROKERS_DOWN, "all down", False)], lines

    def watermarks(self, topic: str, kafka_partition: int, /) -> tuple[int, int] | None:
        return {("orders", 0): (3, 8), ("orders", 1): (-1001, -1001)}.get((topic, kafka_partition))

    def close(self) -> None:
        self.is_closed = True


class Library:
    INTERFACE = INTERFACE
    __version__ = "0"
    JsonReader: Any = None

    def __init__(self, make_consumer: Callable[..., Any] = FakeConsumer) -> None:
        self.Consumer = make_consumer


def failing(*_: object) -> Any:
    message = "panicked at src/somewhere.rs:1"
    raise RuntimeError(message)


def reports() -> ClientReports:
    return ClientReports(ScriptedClock(), Secrets({}))


def test_records_ends_and_errors_are_told_apart() -> None:
    queue = NativeQueue(FakeConsumer(), reports())

    taken = queue.take()

    assert taken.records is ROWS
    assert (taken.byte_count, taken.unreadable_header_count) == (2, 0)
    assert taken.next_offsets == {ZERO: 8}
    assert taken.ends == {TopicPartition("orders", 1): 9}
    assert [error.code() for error in taken.passing] == [KafkaError._TRANSPORT]
    assert taken.stop is not None
    assert taken.stop.error.code() == KafkaError._BAD_MSG
    assert taken.stop.topic_partition == ZERO


def test_what_librdkafka_reports_is_heard_after_each_fetch() -> None:
    heard, consumer = reports(), FakeConsumer()

    with capture_logs() as lines:
        assert NativeQueue(consumer, heard).fetch(5, 0.0259) == 1

    assert consumer.asked == [(5, 25)]
    assert heard.is_in_doubt
    assert "all down" in str(heard.health().last_error)
    assert any("connection refused" in str(line) for line in lines)


def test_properties_are_spelled_as_librdkafka_wants_them() -> None:
    made: list[FakeConsumer] = []

    def make(*arguments: Any) -> FakeConsumer:
        made.append(FakeConsumer(*arguments))
        return made[0]

    assigned = assign_natively(Library(make), {"a": True, "b": 5, "c": "X"}, {ZERO: 7}, reports())
    assigned.close()

    library, properties, positions, passing_codes, schema = made[0].arguments
    assert "confluent_kafka" in library
    assert properties == [("a", "true"), ("b", "5"), ("c", "X")]
    assert positions == [("orders", 0, 7)]
    assert KafkaError._TRANSPORT in passing_codes
    assert KafkaError._BAD_MSG not in passing_codes
    assert schema == POLLED_SCHEMA
    assert made[0].is_closed


def test_watermarks_that_are_not_known_are_none() -> None:
    assigned = assign_natively(Library(), {}, {ZERO: 7}, reports())

    assert assigned.watermarks(ZERO) == Watermarks(3, 8)
    assert assigned.watermarks(TopicPartition("orders", 1)) is None
    assert assigned.watermarks(TopicPartition("orders", 2)) is None


def test_a_property_that_librdkafka_refuses_is_a_setting_to_mend() -> None:
    def refuse(*_: object) -> Any:
        raise ValueError(KafkaError._INVALID_ARG, "no such property")

    with pytest.raises(KafkaException, match="no such property"):
        assign_natively(Library(refuse), {}, {ZERO: 7}, reports())
    with pytest.raises(ConfigError, match="no such property"):
        KafkaSource(SETTINGS, ScriptedClock(), Library(refuse)).assign({ZERO: 7})


def test_a_native_part_that_fails_while_polling_is_replaced_at_the_same_position() -> None:
    consumer = FakeConsumer()
    source = KafkaSource(SETTINGS, ScriptedClock(), Library(lambda *_: consumer))
    source.assign({ZERO: 7})
    consumer.take = failing  # type: ignore[method-assign]

    try:
        assert source.poll(0) is None
        assert consumer.is_closed
        assert source._reader is not None
        assert isinstance(source._reader._queue, MessageQueue)
        assert source._reader.positions == {ZERO: 7}
    finally:
        source.close()


def test_a_native_part_that_fails_at_once_is_not_used() -> None:
    source = KafkaSource(SETTINGS, ScriptedClock(), Library(failing))

    try:
        source.assign({ZERO: 7})
        assert source._reader is not None
        assert isinstance(source._reader._queue, MessageQueue)
    finally:
        source.close()
