"""Messages to columns.

Goal: what a producer wrote is what the columns hold, byte for byte, absent apart from empty.
Method: librdkafka's own message objects, built by hand, compared value by value.
"""

from datetime import UTC, datetime

import pytest
from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    TIMESTAMP_NOT_AVAILABLE,
    Message,
)

from k2i_core.kafka.batches import TIMESTAMP_MS_MAX, chunk_of
from k2i_core.offsets import TopicPartition
from k2i_core.records import POLLED_SCHEMA


def message(
    offset: int = 0,
    *,
    topic: str = "orders",
    partition: int = 0,
    key: bytes | None = None,
    value: bytes | None = b"{}",
    timestamp: tuple[int, int] = (TIMESTAMP_CREATE_TIME, 1_700_000_000_123),
    headers: list[tuple[str, str | bytes | None]] | None = None,
) -> Message:
    return Message(
        topic=topic,
        partition=partition,
        offset=offset,
        key=key,
        value=value,
        timestamp=timestamp,
        headers=headers,
    )


def test_rows_keep_order_and_schema() -> None:
    messages = [message(4, value=b"a"), message(9, partition=1, value=b"b"), message(5)]

    records = chunk_of(messages, "orders").records

    assert records.schema == POLLED_SCHEMA
    assert records.column("offset").to_pylist() == [4, 9, 5]
    assert records.column("partition").to_pylist() == [0, 1, 0]
    assert records.column("topic").to_pylist() == ["orders"] * 3
    records.validate(full=True)


def test_absent_and_empty_stay_apart() -> None:
    messages = [message(0, key=None, value=None), message(1, key=b"", value=b"")]

    records = chunk_of(messages, "orders").records

    assert records.column("value").to_pylist() == [None, b""]
    assert records.column("key").to_pylist() == [None, b""]


def test_headers_keep_order_repeats_and_null_values() -> None:
    headers: list[tuple[str, str | bytes | None]] = [("a", b"1"), ("a", None), ("ü", b"")]
    messages = [message(0, headers=headers), message(1), message(2, headers=[])]

    found = chunk_of(messages, "orders").records.column("headers").to_pylist()

    assert found[0] == [
        {"key": "a", "value": b"1"},
        {"key": "a", "value": None},
        {"key": "ü", "value": b""},
    ]
    assert found[1] is None


@pytest.mark.parametrize("kind", [TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME])
def test_a_timestamp_is_milliseconds_in_utc(kind: int) -> None:
    records = chunk_of([message(timestamp=(kind, 1_700_000_000_123))], "orders").records

    expected = datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)
    assert records.column("timestamp").to_pylist() == [expected]


@pytest.mark.parametrize("milliseconds", [-1, TIMESTAMP_MS_MAX + 1, 2**63 - 1, -(2**63)])
def test_a_timestamp_that_is_none_is_null_and_its_neighbours_are_not(milliseconds: int) -> None:
    odd = message(0, timestamp=(TIMESTAMP_NOT_AVAILABLE, milliseconds))

    records = chunk_of([odd, message(1)], "orders").records

    assert records.column("timestamp").is_null().to_pylist() == [True, False]


def test_the_last_timestamp_that_fits_is_kept() -> None:
    fits = message(0, timestamp=(TIMESTAMP_CREATE_TIME, TIMESTAMP_MS_MAX))

    column = chunk_of([fits], "orders").records.column("timestamp")

    assert column.cast("int64").to_pylist() == [TIMESTAMP_MS_MAX * 1000]


def test_the_position_is_after_the_last_offset_of_each_partition() -> None:
    messages = [message(4), message(0, partition=1), message(7), message(3, partition=1)]

    next_offsets = chunk_of(messages, "orders").next_offsets

    assert next_offsets == {TopicPartition("orders", 0): 8, TopicPartition("orders", 1): 4}


def test_topics_are_told_apart_when_there_are_several() -> None:
    messages = [message(4, topic="a"), message(9, topic="b"), message(5, topic="a")]

    chunk = chunk_of(messages, None)

    assert chunk.records.column("topic").to_pylist() == ["a", "b", "a"]
    assert chunk.next_offsets == {TopicPartition("a", 0): 6, TopicPartition("b", 0): 10}


def test_bytes_are_those_of_keys_values_and_headers() -> None:
    messages = [
        message(0, key=b"12", value=b"345", headers=[("hé", b"67"), ("i", None)]),
        message(1, key=None, value=None),
    ]

    assert chunk_of(messages, "orders").byte_count == 2 + 3 + len("hé".encode()) + 2 + 1
