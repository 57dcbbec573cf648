"""A schema contradicts the table exactly where no value of its records can be kept.

Goal: nothing that some record could fill is called a contradiction, and what is called one is so
for every value, at the top and inside of lists, maps and structs.
Method: every pair of types against `conform` itself, or against the JSON decoder.
"""

import itertools
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from k2i_core.decode import json_schema
from k2i_core.decode.conform import can_hold, conform
from k2i_core.decode.contradictions import contradictions
from k2i_core.decode.json_decoder import JsonDecoder

TIMESTAMPTZ = pa.timestamp("us", tz="UTC")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

SAMPLES: dict[pa.DataType, list[Any]] = {
    pa.bool_(): [True],
    pa.int32(): [0, 7],
    pa.int64(): [0, 7],
    pa.float32(): [0.5],
    pa.float64(): [0.5, 1.0],
    pa.decimal128(5, 2): [Decimal("1.00")],
    pa.string(): [
        *("a", "1", "2026-01-02", "12:00:00", "2026-01-02T12:00:00", "2026-01-02T12:00:00Z"),
        str(UUID(int=5)),
    ],
    pa.binary(): [b"a", b"abcd"],
    pa.binary(4): [b"abcd"],
    pa.date32(): [date(2026, 1, 2)],
    pa.time64("us"): [time(12)],
    pa.timestamp("us"): [NOON.replace(tzinfo=None)],
    TIMESTAMPTZ: [NOON],
    pa.uuid(): [UUID(int=5).bytes],
}


def around(type_: pa.DataType) -> list[pa.DataType]:
    """The type itself, and where it is the inside of another."""
    return [
        type_,
        pa.list_(pa.field("element", type_)),
        pa.map_(pa.string(), type_),
        pa.struct([pa.field("a", type_)]),
    ]


def rows_of(type_: pa.DataType, values: list[Any], inner: pa.DataType) -> pa.Array:
    leaf = pa.array(values, pa.binary(16) if inner == pa.uuid() else inner)
    if inner == pa.uuid():
        leaf = pa.ExtensionArray.from_storage(pa.uuid(), leaf)
    one_each = pa.array(range(len(values) + 1), pa.int32())
    if isinstance(type_, pa.StructType):
        return pa.StructArray.from_arrays([leaf], fields=list(type_))
    if isinstance(type_, pa.MapType):
        return pa.MapArray.from_arrays(one_each, pa.array(["k"] * len(values)), leaf, type=type_)
    if isinstance(type_, pa.ListType):
        return pa.ListArray.from_arrays(one_each, leaf, type=type_)
    return leaf


@pytest.mark.parametrize("writer", SAMPLES, ids=str)
def test_a_contradiction_is_what_no_value_survives(writer: pa.DataType) -> None:
    for table in SAMPLES:
        for writer_type, table_type in zip(around(writer), around(table), strict=True):
            schemas = [pa.schema([pa.field("x", type_)]) for type_ in (table_type, writer_type)]
            array = rows_of(writer_type, SAMPLES[writer], writer)
            _, faults = conform(pa.RecordBatch.from_arrays([array], names=["x"]), schemas[0], {})
            classes = [error_class for error_class, _ in faults.values()]
            is_hopeless = classes == ["wrong_type"] * len(array)
            found = contradictions(*schemas, {}, can_hold)
            assert bool(found) == is_hopeless, (str(writer_type), str(table_type), faults)


JSON_SAMPLES: dict[pa.DataType, list[str]] = {
    pa.bool_(): ["true"],
    pa.int64(): ["7"],
    pa.float64(): ["7", "7.5"],
    pa.string(): [json.dumps(text) for text in SAMPLES[pa.string()]] + ['"AAAA"', '"AAAAAA=="'],
    TIMESTAMPTZ: ['"2026-01-02T12:00:00Z"'],
    pa.binary(): ['"AAAA"', '"AAAAAA=="'],
}


@pytest.mark.parametrize(
    ("described", "table"), list(itertools.product(JSON_SAMPLES, SAMPLES)), ids=str
)
def test_what_json_of_a_schema_cannot_fill_is_a_contradiction(
    described: pa.DataType, table: pa.DataType
) -> None:
    texts = [b'{"x": %s}' % text.encode() for text in JSON_SAMPLES[described]]
    row_schema = pa.schema([pa.field("x", table)])
    decoded = JsonDecoder(row_schema).decode(pa.array(texts, pa.binary()))
    is_hopeless = {f.error_class for f in decoded.failures} == {"wrong_type"}
    found = contradictions(
        row_schema, pa.schema([pa.field("x", described)]), {}, json_schema.can_hold
    )
    assert bool(found) == (is_hopeless and len(decoded.failures) == len(texts))


def test_a_kind_of_column_is_no_other_kind() -> None:
    table = pa.schema([pa.field("x", pa.struct([pa.field("a", pa.int64())]))])
    for writer in (pa.int64(), pa.list_(pa.int64()), pa.map_(pa.string(), pa.int64())):
        for holds in (can_hold, json_schema.can_hold):
            (found,) = contradictions(table, pa.schema([pa.field("x", writer)]), {}, holds)
            assert found.path == "x"
            assert found.reason.startswith("the table has struct<a: long>, the records have ")


def test_names_that_no_table_tells_apart_and_required_columns_that_are_missing() -> None:
    inside = pa.struct([pa.field("b", pa.int64(), nullable=False), pa.field("c", pa.int64())])
    table = pa.schema([pa.field("a", pa.int64()), pa.field("s", inside)])
    written = pa.struct([pa.field("C", pa.int64())])
    writer = pa.schema(
        [pa.field("A", pa.int64()), pa.field("_Kafka", pa.int64()), pa.field("s", written)]
    )
    assert [str(each) for each in contradictions(table, writer, {}, can_hold)] == [
        'A: differs only in letter case from "a"',
        '_Kafka: differs only in letter case from "_kafka"',
        's.C: differs only in letter case from "c"',
        "s.b: the table requires it, the records lack it",
    ]


def test_a_time_format_lets_a_number_be_a_timestamp() -> None:
    table = pa.schema([pa.field("at", TIMESTAMPTZ)])
    writer = pa.schema([pa.field("at", pa.int64())])
    for holds in (can_hold, json_schema.can_hold):
        assert contradictions(table, writer, {}, holds)
        assert not contradictions(table, writer, {"at": "epoch_ms"}, holds)
