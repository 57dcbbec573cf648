"""Goal: one field of records of every format is read as text, and what has none gives null.

Method: records of all kinds in one array beside broken ones and tombstones, against what they were
made of; MessagePack against each record alone, whatever stands beside the field.
"""

import io
import json
import random
from collections.abc import Callable
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from google.protobuf import message_factory
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.csv_fields import CsvDialect
from k2i_core.decode.cursors import Cursors
from k2i_core.decode.field_peeks import (
    ArrowFieldPeek,
    CsvFieldPeek,
    JsonSchemaFieldPeek,
    MsgpackFieldPeek,
    SchemaFieldPeek,
)
from k2i_core.decode.proto_decoder import ProtoReader
from k2i_core.decode.proto_schema import CompiledSchema, read_descriptors
from k2i_core.schema.registered import SchemaId, SchemaLanguage, WriterSchema
from k2i_core.wiring.proto_compiler import FILE_NAME, compile_proto
from tests.arrow_streams import stream
from tests.property.msgpack_records import encode

Peek = Callable[[pa.BinaryArray], pa.StringArray]


def texts(peek: Peek, *values: bytes | None) -> list[str | None]:
    return peek(pa.array(values, pa.binary())).to_pylist()


def test_csv_has_it_where_the_dialect_says():
    peek = CsvFieldPeek("type", CsvDialect(("id", "type"), delimiter=";"))

    assert texts(peek, b'1;"a;b"', None, b"2;", b"3;order\n", b"4", b"5;7", b"6;\xff") == [
        *("a;b", None, None, "order", None, "7", None)
    ]
    assert texts(peek) == []


values = st.one_of(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), st.none())
odd = st.one_of(st.booleans(), st.floats(), st.lists(values, max_size=2), st.binary(max_size=2))
below = st.dictionaries(st.sampled_from(["kind", "x"]), st.one_of(values, odd), max_size=2)
maps = st.dictionaries(st.sampled_from(["type", "y", "z"]), st.one_of(below, odd), max_size=3)


@given(st.lists(st.one_of(maps, st.none(), odd), max_size=10), st.integers(0, 2**32))
def test_messagepack_has_it_in_maps_whatever_stands_beside_it(listed, seed):
    chosen = random.Random(seed)
    written = [None if one is None else encode(one, chosen) for one in listed]
    written += [b"\xc1", b"\x81"]
    peek = MsgpackFieldPeek("type.kind")

    def expected(one: Any) -> str | None:
        found = one.get("type") if isinstance(one, dict) else None
        kind = found.get("kind") if isinstance(found, dict) else None
        if isinstance(kind, bytes):
            return as_text(kind)
        is_text = isinstance(kind, str | int) and not isinstance(kind, bool)
        return str(kind) if is_text else None

    assert texts(peek, *written) == [*map(expected, listed), None, None]


def as_text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def test_json_schema_has_it_behind_the_frame():
    frame = b"\0\0\0\0\7"
    peek = JsonSchemaFieldPeek("a.type")
    found = texts(
        peek,
        frame + b'{"a": {"type": "order"}}',
        b"other" + b'{"a": {"type": "unframed"}}',
        None,
        frame + b'{"a": {"type": 7}}',
        frame + b"{",
        b"\0",
    )

    assert found == ["order", None, None, "7", None, None]


def test_arrow_has_it_in_streams_of_one_row_of_any_type_that_is_text_or_a_whole_number():
    kinds = [
        pa.array(["order"]),
        pa.array(["order"]).dictionary_encode(),
        pa.array(["order"], pa.string_view()),
        pa.array([7], pa.int8()),
        pa.array([2**64 - 1], pa.uint64()),
        pa.array([0.5]),
        pa.array([b"order"]),
        pa.array([None], pa.string()),
    ]
    found = ["order"] * 3 + ["7", str(2**64 - 1), None, None, None]
    plain = [stream(type=kind, id=pa.array([1])) for kind in kinds]
    below = [stream(a=pa.StructArray.from_arrays([kind], ["type"])) for kind in kinds]
    broken = [stream(type=pa.array(["order"] * 2)), plain[0][:-30], b"", stream(id=kinds[0])]

    assert texts(ArrowFieldPeek("type"), None, *plain, *broken) == [None, *found, *[None] * 4]
    assert texts(ArrowFieldPeek("a.type"), *plain, *below) == [*[None] * len(plain), *found]
    assert texts(ArrowFieldPeek("type")) == []


AVRO = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "type", "type": ["null", "string"]},
        {"name": "in", "type": {"type": "record", "name": "In", "fields": []}},
    ],
}
AVRO["fields"][2]["type"]["fields"] = [
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}}
]
OTHER = {"type": "record", "name": "Other", "fields": [{"name": "type", "type": "double"}]}


class Registered:
    """A registry that is asked for each schema once."""

    def __init__(self, *schemas: WriterSchema) -> None:
        self.schemas = dict(enumerate(schemas, 1))
        self.known: dict[SchemaId, WriterSchema] = {}

    def find(self, schema_id: SchemaId) -> WriterSchema | None:
        return self.known.get(schema_id)

    def fetch(self, schema_ids: frozenset[SchemaId]) -> None:
        self.known |= {schema_id: self.schemas[int(str(schema_id))] for schema_id in schema_ids}


def avro(number: int, schema: dict[str, Any], record: dict[str, Any]) -> bytes:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, schema, record)
    return b"\0" + number.to_bytes(4) + written.getvalue()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("type", ["x", None, None, None, None, None]),
        ("id", ["1", "2", None, None, None, None]),
        ("in.kind", ["A", "B", None, None, None, None]),
        ("in", [None] * 6),
        ("type.below", [None] * 6),
    ],
)
def test_avro_has_it_by_the_writer_s_schema(path, found):
    schemas = [
        WriterSchema(n, SchemaLanguage.AVRO, json.dumps(schema))
        for n, schema in enumerate((AVRO, OTHER), 1)
    ]
    registry = Registered(*schemas)
    peek = SchemaFieldPeek(path, registry, AvroReader, registry.fetch)
    first = avro(1, AVRO, {"id": 1, "type": "x", "in": {"kind": "A"}})
    second = avro(1, AVRO, {"id": 2, "type": None, "in": {"kind": "B"}})

    assert texts(peek, first, second, avro(2, OTHER, {"type": 0.5}), first[:6], b"x", None) == found


PROTO = """
syntax = "proto3"; package shop;
message Order { string type = 1; message Line { int32 count = 1; } Line line = 2; }
message Refund { string type = 1; }
"""


@pytest.fixture(scope="module")
def compiled() -> CompiledSchema:
    return read_descriptors(
        compile_proto(WriterSchema(1, SchemaLanguage.PROTOBUF, PROTO)), FILE_NAME
    )


def proto(compiled: CompiledSchema, indices: bytes, name: str, **fields: Any) -> bytes:
    described = compiled.pool.FindMessageTypeByName(name)
    message = message_factory.GetMessageClass(described)(**fields)
    return indices + message.SerializeToString()


def test_protobuf_has_it_and_the_message_s_name(compiled):
    reader = ProtoReader(compiled, None, is_framed=True)
    registry = Registered(WriterSchema(1, SchemaLanguage.PROTOBUF, PROTO))
    contents = [
        proto(compiled, b"\0", "shop.Order", type="order", line={"count": 3}),
        proto(compiled, b"\2\2", "shop.Refund", type="refund"),
        proto(compiled, b"\4\0\0", "shop.Order.Line", count=7),
        proto(compiled, b"\2\x0e", "shop.Refund", type="nobody"),
    ]
    framed = [b"\0\0\0\0\1" + content for content in contents]
    peeks = [
        SchemaFieldPeek(path, registry, lambda _: reader, registry.fetch)
        for path in ("type", "line.count")
    ]

    assert texts(peeks[0], *framed, None) == ["order", "refund", None, None, None]
    assert texts(peeks[1], *framed, None) == ["3", None, None, None, None]
    assert reader.names(Cursors.of(pa.array([*contents, b""], pa.binary()))).to_pylist() == [
        *("shop.Order", "shop.Refund", "shop.Order.Line", None, None)
    ]
