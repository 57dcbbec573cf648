"""librdkafka messages to Arrow columns, without a Python loop over records.

Each column is one C accessor mapped over the list. The order of cost, per record: creating the
message inside librdkafka's binding, timestamp, then key, value and offset; headers cost only where
there are any.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Message

from k2i_core.offsets import TopicPartition
from k2i_core.records import HEADERS_TYPE, POLLED_SCHEMA, TIMESTAMP_TYPE

TIMESTAMP_MS_MAX = (2**63 - 1) // 1000
"""The last millisecond that Arrow can hold as microseconds."""

_MILLISECONDS = itemgetter(1)
"""Of a message's timestamp, which is a pair of kind and milliseconds."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some messages as columns.

    Attributes:
        records: n rows × POLLED_SCHEMA.
        byte_count: Bytes of keys, values and headers.
        next_offsets: The position after the chunk, per Kafka partition in it.
        unreadable_header_count: Records whose headers are null because a key is not UTF-8.
    """

    records: pa.RecordBatch
    byte_count: int
    next_offsets: Mapping[TopicPartition, int]
    unreadable_header_count: int


def chunk_of(messages: Sequence[Message], topic: str | None) -> Chunk:
    """Turn messages into columns.

    Args:
        messages: n messages without errors, n > 0, offsets ascending within a Kafka partition.
        topic: Their topic where it is known to be one, else None.

    Returns:
        n rows, in the order of the messages.

    """
    assert messages
    kafka_partitions = cast("list[int]", list(map(Message.partition, messages)))
    offsets = cast("list[int]", list(map(Message.offset, messages)))
    # Offsets ascend, and of equal keys a dict keeps the last value: the last offset of each.
    if topic is None:
        names = cast("list[str]", list(map(Message.topic, messages)))
        topics = pa.array(names, pa.string())
        last_offsets = dict(zip(zip(names, kafka_partitions, strict=True), offsets, strict=True))
        next_offsets = {TopicPartition(*k): offset + 1 for k, offset in last_offsets.items()}
    else:
        topics = pa.repeat(pa.scalar(topic, pa.string()), len(messages))
        last_of_partition = dict(zip(kafka_partitions, offsets, strict=True))
        next_offsets = {TopicPartition(topic, k): o + 1 for k, o in last_of_partition.items()}
    keys = pa.array(list(map(Message.key, messages)), pa.binary())
    values = pa.array(list(map(Message.value, messages)), pa.binary())
    headers, unreadable_header_count = _headers(messages)
    records = pa.RecordBatch.from_arrays(
        [
            topics,
            pa.array(kafka_partitions, pa.int32()),
            pa.array(offsets, pa.int64()),
            _timestamps(messages),
            keys,
            headers,
            values,
        ],
        schema=POLLED_SCHEMA,
    )
    return Chunk(
        records=records,
        byte_count=_byte_count(keys) + _byte_count(values) + _headers_byte_count(headers),
        next_offsets=next_offsets,
        unreadable_header_count=unreadable_header_count,
    )


def _timestamps(messages: Sequence[Message]) -> pa.Array:
    pairs = map(Message.timestamp, messages)
    milliseconds = np.fromiter(map(_MILLISECONDS, pairs), np.int64, len(messages))
    # Kafka writes -1 for "none", and a producer may send any number: one that has no microseconds
    # in 64 bits is no timestamp.
    unusable = (milliseconds < 0) | (milliseconds > TIMESTAMP_MS_MAX)
    mask = unusable if unusable.any() else None
    microseconds = np.where(unusable, 0, milliseconds) * 1000
    return pa.array(microseconds, pa.int64(), mask=mask).cast(TIMESTAMP_TYPE)


def _headers(messages: Sequence[Message]) -> tuple[pa.Array, int]:
    """Return the column, and for how many records it is null because nobody can read them."""
    headers: list[Any] = []
    unreadable_count = 0
    remaining = map(Message.headers, messages)
    while len(headers) < len(messages):
        try:
            headers.extend(remaining)
        except (SystemError, UnicodeDecodeError):
            # A header key that is not UTF-8 makes the library fail; the record itself is good.
            # Its headers must not be asked for again: the library would then hand out a tuple
            # with nothing where the key should be, and touching that ends the process.
            headers.append(None)
            unreadable_count += 1
    if any(headers):
        return pa.array(headers, HEADERS_TYPE), unreadable_count
    return pa.nulls(len(messages), HEADERS_TYPE), unreadable_count


def _byte_count(array: pa.BinaryArray) -> int:
    """Return the bytes of all values, from where Arrow says the first begins and the last ends."""
    offsets = array.buffers()[1]
    if len(array) == 0 or offsets is None:
        return 0
    bounds = np.frombuffer(memoryview(offsets), np.int32)
    return int(bounds[array.offset + len(array)] - bounds[array.offset])


def _headers_byte_count(headers: pa.Array) -> int:
    if headers.null_count == len(headers):
        return 0
    pairs = pc.list_flatten(headers)
    return _byte_count(pc.struct_field(pairs, 0)) + _byte_count(pc.struct_field(pairs, 1))
