"""Records whose schema is named in a header, beside records that begin with it.

Goal: what a header says is read as Confluent's own deserializer reads it, wherever the record lies
in its batch. Method: random headers around random contents, cut out of a larger batch, against that
deserializer and a line of Python a record.
"""

import io
import struct
from typing import Any, cast

import pyarrow as pa
from confluent_kafka.schema_registry import dual_schema_id_deserializer
from confluent_kafka.schema_registry.serde import SchemaId
from confluent_kafka.serialization import (
    MessageField,
    SerializationContext,
    SerializationError,
)
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.decode.conform import Faults
from k2i_core.decode.cursors import Cursors
from k2i_core.decode.schema_frames import read_frames
from k2i_core.decode.schema_headers import KEY_HEADER, VALUE_HEADER, begin_with_schema
from k2i_core.records import HEADERS_TYPE

NUMBER, GUID = b"\0\0\0\1\2", b"\1" + bytes(range(100, 116))
FRAMES = (NUMBER, GUID, b"\1" + bytes(16))
NO_FRAMES = (b"", b"\0\0\0\1", b"\2\0\0\0\1", GUID[:-1])

headers = st.lists(
    st.tuples(
        st.sampled_from([VALUE_HEADER, KEY_HEADER, "trace"]),
        st.sampled_from([*FRAMES, *NO_FRAMES, None]),
    ),
    max_size=3,
)
contents = st.sampled_from([NUMBER + b"x", GUID, b"plain", b"", b"\0\0"])
records = st.lists(st.tuples(contents, st.none() | headers), max_size=6)
Record = tuple[bytes, list[tuple[str, bytes | None]] | None]


def arrays(listed: list[Record], skipped: int) -> tuple[pa.BinaryArray, "pa.ListArray[Any]"]:
    values = pa.array([value for value, _ in listed], pa.binary())
    spelled = [
        None if each is None else [{"key": key, "value": value} for key, value in each]
        for _, each in listed
    ]
    return (
        cast("pa.BinaryArray", values.slice(skipped)),
        cast("pa.ListArray[Any]", pa.array(spelled, HEADERS_TYPE).slice(skipped)),
    )


def as_confluent_reads(record: Record) -> tuple[Any, bytes] | None:
    value, listed = record
    context = SerializationContext("orders", MessageField.VALUE, listed)
    schema_id = SchemaId("AVRO")
    try:
        rest = dual_schema_id_deserializer(value, context, schema_id)
    except (SerializationError, EOFError, struct.error, ValueError):
        return None  # The last two are what it makes of a frame that is cut off.
    return schema_id.id if schema_id.guid is None else schema_id.guid, rest.read()


@given(records, st.integers(0, 2))
def test_a_header_says_what_confluents_deserializer_takes_it_for(
    listed: list[Record], skipped: int
) -> None:
    values, spelled = arrays(listed, skipped)
    framed = begin_with_schema(values, spelled, VALUE_HEADER, has_indices=False)
    cursors, faults = Cursors.of(framed), cast("Faults", {})
    frames = read_frames(cursors, faults)
    for place, record in enumerate(listed[skipped:]):
        expected = as_confluent_reads(record)
        if place in faults:
            assert expected is None
            continue
        rest = cursors.whole[cursors.positions[place] : cursors.ends[place]]
        assert (frames.schema_id(int(frames.numbers[place])), rest) == expected


@given(st.lists(st.integers(0, 300), max_size=3), st.booleans(), st.integers(0, 3))
def test_the_indices_of_a_protobuf_message_are_in_the_header_and_all_of_them(
    indices: list[int], is_guid: bool, cut: int
) -> None:
    schema_id = SchemaId("PROTOBUF", 7, "00010203-0405-0607-0809-0a0b0c0d0e0f", indices or [0])
    whole = schema_id.guid_to_bytes() if is_guid else schema_id.id_to_bytes()
    header = whole[: len(whole) - cut]
    values, spelled = arrays([(b"content", [(VALUE_HEADER, header)])], 0)
    framed = begin_with_schema(values, spelled, VALUE_HEADER, has_indices=True)
    assert framed.to_pylist() == [b"" if cut else whole + b"content"]
    if not cut:
        known = SchemaId("PROTOBUF")
        assert known.from_bytes(io.BytesIO(header)).read() == b""


def test_where_no_record_has_the_header_nothing_is_copied() -> None:
    values, spelled = arrays([(b"x", [("trace", b"1")]), (b"y", None)], 0)
    assert begin_with_schema(values, spelled, VALUE_HEADER, has_indices=False) is values
