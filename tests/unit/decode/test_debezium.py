"""Debezium's change events as rows, over every format that they come in.

Goal: a row is what the database's row is after the change, a delete is the row before it, what the
change was stands beside it, and what is no change of a row is a dead letter. Method: events as
Debezium's documentation shows them, with and without schemas beside them, and fastavro's.
"""

import base64
import io
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.connect_json import ConnectJsonDecoder, PayloadDecoder, cut_payloads
from k2i_core.decode.connect_types import with_logical_types
from k2i_core.decode.debezium import DebeziumDecoder, unwrapped_schema, wrapped_schema
from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.decode.record_decoder import ValueDecoder
from k2i_core.decode.schema_decoder import SchemaDecoder
from k2i_core.records import DecodedValues
from k2i_core.schema.registered import SchemaLanguage, WriterSchema

NOTHING = pa.schema([])
SOURCE = {"version": "3.0.0", "connector": "postgresql", "db": "shop", "lsn": 24023128}
ANN, EVE = {"id": 1004, "name": "Ann", "age": 40}, {"id": 1004, "name": "Eve", "age": None}


def event(op: str, before: Any, after: Any, **more: Any) -> dict[str, Any]:
    envelope = {"before": before, "after": after, "source": SOURCE, "op": op}
    return {**envelope, "ts_ms": 1559033904863, "ts_us": 1559033904863441, **more}


def texts(*events: Any) -> pa.BinaryArray:
    listed = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in events]
    array = pa.array(listed, pa.binary())
    assert isinstance(array, pa.BinaryArray)
    return array


def make_json(row_schema: pa.Schema, *, may_add_columns: bool) -> ValueDecoder:
    plain = JsonDecoder(row_schema, may_add_columns=may_add_columns)
    return ConnectJsonDecoder(plain, may_add_columns=may_add_columns, time_formats={})


def decoder(schema: pa.Schema, *, is_strict: bool = False) -> DebeziumDecoder:
    return DebeziumDecoder(schema, make_json, may_add_columns=not is_strict)


def grown_by(
    values: pa.BinaryArray, schema: pa.Schema = NOTHING
) -> tuple[pa.Schema, DecodedValues]:
    """Decode as often as columns are added."""
    for _ in range(3):
        decoded = decoder(schema).decode(values)
        if decoded.proposed_schema is None:
            return schema, decoded
        schema = decoded.proposed_schema
    raise AssertionError(schema)


def shown(rows: pa.RecordBatch) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "__source"} for row in rows.to_pylist()]


def test_changes_become_rows_that_say_what_the_change_was() -> None:
    schema, decoded = grown_by(
        texts(
            event("r", None, ANN),
            event("u", ANN, EVE),
            event("d", EVE, None),
            event("c", None, {"id": 7, "name": "Bob", "age": 1}),
        )
    )
    assert schema.names == ["id", "name", "age", "__op", "__ts_ms", "__source", "__before"]
    at = {"__ts_ms": 1559033904863}
    assert shown(decoded.rows) == [
        {**ANN, "__op": "r", **at, "__before": None},
        {**EVE, "__op": "u", **at, "__before": ANN},
        {**EVE, "__op": "d", **at, "__before": EVE},
        {"id": 7, "name": "Bob", "age": 1, "__op": "c", **at, "__before": None},
    ]
    assert decoded.rows.column("__source").to_pylist() == [SOURCE] * 4
    assert not decoded.failures


def test_what_is_no_change_of_a_row_is_a_dead_letter_and_its_neighbours_are_not() -> None:
    events = [
        event("c", None, ANN),
        event("t", None, None),
        event("c", None, None),
        event("d", None, None),
        {"id": 1},
        b"{",
        event("m", None, None, message={"prefix": "x"}),
        {**event("c", None, ANN), "op": None},
        event("c", None, {**ANN, "id": "x"}),
        event("d", EVE, None),
    ]
    schema = grown_by(texts(events[0], event("c", None, {"name": "n"})))[0]
    together = decoder(schema).decode(texts(*events))
    assert [row["name"] for row in together.rows.to_pylist()] == ["Ann", "Eve"]
    assert [(f.index, f.error_class) for f in together.failures] == [
        (1, "invalid_envelope"),
        (2, "invalid_envelope"),
        (3, "invalid_envelope"),
        (4, "invalid_envelope"),
        (5, "invalid_json"),
        (6, "invalid_envelope"),
        (7, "invalid_envelope"),
        (8, "wrong_type"),
    ]
    for place, each in enumerate(events):
        alone = decoder(schema).decode(texts(each))
        assert bool(alone.failures) == any(f.index == place for f in together.failures)


def test_a_delete_fills_what_the_database_tells_and_a_required_column_wants_more() -> None:
    columns = [pa.field("id", pa.int64()), pa.field("name", pa.string())]
    deleted = texts(event("d", {"id": 1}, None))
    strict = unwrapped_schema(wrapped_schema(pa.schema(columns)), pa.schema(columns))
    decoded = decoder(strict, is_strict=True).decode(deleted)
    assert shown(decoded.rows)[0]["id"] == 1
    required = pa.schema([field.with_nullable(field.name != "name") for field in strict])
    decoded = decoder(required, is_strict=True).decode(deleted)
    assert [f.error_class for f in decoded.failures] == ["required_field_missing"]


def test_a_strict_table_keeps_what_it_has_and_passes_over_the_rest_of_the_envelope() -> None:
    table = pa.schema(
        [("id", pa.int64()), ("name", pa.string()), ("__op", pa.string()), ("__ts_ms", pa.int64())]
    )
    decoded = decoder(table, is_strict=True).decode(
        texts(
            event("c", None, {"id": 1, "name": "a"}, new_in_version_9={"a": 1}),
            event("c", None, {"id": 2, "name": "b", "extra": 1}),
        )
    )
    assert decoded.rows.to_pylist() == [
        {"id": 1, "name": "a", "__op": "c", "__ts_ms": 1559033904863}
    ]
    assert [f.error_class for f in decoded.failures] == ["unknown_field"]


def test_a_strict_table_that_cannot_say_what_a_change_was_takes_none() -> None:
    table = pa.schema([("id", pa.int64()), ("name", pa.string())])
    decoded = decoder(table, is_strict=True).decode(texts(event("d", {"id": 1}, None)))
    assert [f.error_class for f in decoded.failures] == ["unknown_field"]
    wanted = decoder(table).decode(texts(event("d", {"id": 1}, None))).proposed_schema
    assert wanted is not None
    assert wanted.names == ["id", "name", "__op", "__ts_ms", "__source", "__before"]


def test_a_table_grows_by_after_before_and_source_and_never_by_a_name_of_the_envelope() -> None:
    schema, _ = grown_by(texts(event("c", None, ANN)))
    values = texts(
        event("u", {**ANN, "old": 1.5}, {**ANN, "new": "x"}),
        event("c", None, {**ANN, "__OP": 1, "_kafka": 2}),
    )
    wider, decoded = grown_by(values, schema)
    assert wider.names[: len(schema.names)] == schema.names
    assert wider.names[len(schema.names) :] == ["new", "old"]
    assert [field.name for field in wider.field("__before").type] == [
        "id", "name", "age", "new", "old",
    ]  # fmt: skip
    assert decoded.rows.column("__before").to_pylist()[0]["old"] == 1.5
    assert [(f.index, f.error_class) for f in decoded.failures] == [(1, "unknown_field")]


def connect(kind: str, field: str, name: str | None = None, **more: Any) -> dict[str, Any]:
    named = {} if name is None else {"name": name, "version": 1}
    return {"type": kind, "optional": True, "field": field, **named, **more}


def local(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC).replace(tzinfo=None) + timedelta(
        microseconds=microseconds
    )


TIME, DATA = "io.debezium.time.", "org.apache.kafka.connect.data."
UNSCALED = base64.b64encode((-123456).to_bytes(3, "big", signed=True)).decode()
LOGICAL: list[tuple[dict[str, Any], Any, Any]] = [
    (connect("int32", "c", f"{TIME}Date"), 19000, date(2022, 1, 8)),
    (connect("int32", "c", f"{DATA}Date"), -1, date(1969, 12, 31)),
    (connect("int32", "c", f"{TIME}Time"), 3_723_004, time(1, 2, 3, 4000)),
    (connect("int64", "c", f"{TIME}MicroTime"), 3_723_000_004, time(1, 2, 3, 4)),
    (connect("int64", "c", f"{TIME}NanoTime"), 3_723_000_004_999, time(1, 2, 3, 4)),
    (connect("int64", "c", f"{TIME}Timestamp"), -1, local(-1000)),
    (connect("int64", "c", f"{TIME}MicroTimestamp"), 5, local(5)),
    (
        connect("int64", "c", f"{TIME}NanoTimestamp"),
        -1,
        local(-1),
    ),
    (connect("int64", "c", f"{DATA}Timestamp"), 1, datetime(1970, 1, 1, 0, 0, 0, 1000, UTC)),
    (
        connect("string", "c", f"{TIME}ZonedTimestamp"),
        "2020-03-31T15:13:00.5+02:00",
        datetime(2020, 3, 31, 13, 13, 0, 500_000, UTC),
    ),
    (connect("string", "c", "io.debezium.data.Uuid"), str(UUID(int=5)), UUID(int=5)),
    (connect("string", "c", "io.debezium.data.Json"), '{"a": 1}', '{"a": 1}'),
    (
        connect(
            "bytes",
            "c",
            f"{DATA}Decimal",
            parameters={"scale": "2", "connect.decimal.precision": "10"},
        ),
        UNSCALED,
        Decimal("-1234.56"),
    ),
    (connect("bytes", "c", f"{DATA}Decimal", parameters={"scale": "0"}), "AQ==", Decimal(1)),
    (connect("bytes", "c"), "AQI=", b"\1\2"),
    (
        connect(
            "struct",
            "c",
            "io.debezium.data.VariableScaleDecimal",
            fields=[connect("int32", "scale"), connect("bytes", "value")],
        ),
        {"scale": 1, "value": "AQ=="},
        {"scale": 1, "value": b"\1"},
    ),
    (connect("array", "c", items=connect("int32", "")), [1, 2], [1, 2]),
]


def envelope_schema(*fields: dict[str, Any]) -> dict[str, Any]:
    row = {"type": "struct", "optional": True, "fields": [connect("int64", "id"), *fields]}
    source = {"type": "struct", "fields": [connect("string", "db")], "field": "source"}
    members = [{**row, "field": "before"}, {**row, "field": "after"}, source]
    plain = [connect("string", "op"), connect("int64", "ts_ms"), connect("int64", "ts_us")]
    return {"type": "struct", "fields": [*members, *plain], "name": "shop.orders.Envelope"}


def in_wrapper(schema: Any, op: str, before: Any, after: Any) -> dict[str, Any]:
    return {"schema": schema, "payload": {**event(op, before, after), "source": {"db": "shop"}}}


@pytest.mark.parametrize(("described", "written", "expected"), LOGICAL)
def test_the_schema_beside_a_payload_says_what_its_numbers_and_texts_are(
    described: dict[str, Any], written: Any, expected: Any
) -> None:
    schema = envelope_schema(described)
    events = [
        in_wrapper(schema, "c", None, {"id": 1, "c": written}),
        in_wrapper(schema, "d", {"id": 2, "c": None}, None),
        in_wrapper(schema, "c", None, {"id": 3, "c": [[]]}),
    ]
    table, decoded = grown_by(texts(*events))
    assert decoded.rows.column("c").to_pylist() == [expected, None]
    assert decoded.rows.column("id").to_pylist() == [1, 2]
    assert [f.index for f in decoded.failures] == [2]
    assert table.names == ["id", "c", "__op", "__ts_ms", "__source", "__before"]


@pytest.mark.parametrize(
    ("name", "kind", "written"),
    [
        (f"{TIME}Date", "int32", 2**31 - 1),
        (f"{TIME}Time", "int32", 86_400_000),
        (f"{TIME}NanoTime", "int64", -1),
        (f"{TIME}NanoTimestamp", "int64", 1.5),
        (f"{TIME}Timestamp", "int64", 2**62),
    ],
)
def test_a_number_that_is_no_such_time_is_a_dead_letter(name: str, kind: str, written: Any) -> None:
    schema = envelope_schema(connect(kind, "c", name))
    good = in_wrapper(schema, "c", None, {"id": 1, "c": 0})
    bad = in_wrapper(schema, "c", None, {"id": 2, "c": written})
    _, decoded = grown_by(texts(bad, good, bad))
    assert decoded.rows.column("id").to_pylist() == [1]
    assert [f.index for f in decoded.failures] == [0, 2]


def test_payloads_of_several_schemas_and_events_without_one_lie_side_by_side() -> None:
    older, newer = envelope_schema(), envelope_schema(connect("string", "name"))
    values = texts(
        in_wrapper(newer, "c", None, {"id": 1, "name": "a"}),
        event("c", None, {"id": 2}),
        in_wrapper(older, "c", None, {"id": 3}),
        json.dumps(in_wrapper(newer, "c", None, {"id": 4, "name": "b"}), indent=1).encode() + b"\n",
        in_wrapper("nonsense", "c", None, {"id": 5}),
        b'{"schema": {}, "payload": {"op": "c"}, "x": {}}',
        in_wrapper(older, "c", None, {"id": 6}),
        b'{"schema": null, "payload": ' + json.dumps(event("c", None, {"id": 7})).encode() + b"}",
    )
    _, decoded = grown_by(values)
    assert decoded.rows.column("id").to_pylist() == [1, 2, 3, 4, 6, 7]
    assert decoded.rows.column("name").to_pylist() == ["a", None, None, "b", None, None]
    assert [(f.index, f.error_class) for f in decoded.failures] == [
        (4, "unusable_schema"),
        (5, "unusable_schema"),
    ]


def test_payloads_are_cut_out_alike_however_many_beginnings_there_are() -> None:
    values = [f'{{"schema":{{"n":{n % 150}}},"payload":{{"a":{n}}}}}'.encode() for n in range(400)]
    found = {
        place: (group.schema, content)
        for group in cut_payloads(texts(*values))
        for place, content in zip(group.places.tolist(), group.contents.to_pylist(), strict=True)
    }
    assert found == {n: (f'{{"n":{n % 150}}}', f'{{"a":{n}}}'.encode()) for n in range(400)}


def test_a_key_is_read_without_the_schema_beside_it() -> None:
    columns = pa.schema([("id", pa.int64())])
    keys = texts(b'{"id": 1}', {"schema": connect("struct", ""), "payload": {"id": 2}}, b"{")
    decoded = PayloadDecoder(JsonDecoder(columns)).decode(keys)
    assert decoded.rows.to_pylist() == [{"id": 1}, {"id": 2}]
    assert [f.index for f in decoded.failures] == [2]


def test_avro_events_are_rows_with_the_types_that_connect_names() -> None:
    def named(kind: str, name: str) -> list[Any]:
        return ["null", {"type": kind, "connect.version": 1, "connect.name": name}]

    row = {
        "type": "record",
        "name": "Value",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "born", "type": named("int", f"{TIME}Date")},
            {"name": "seen", "type": named("long", f"{TIME}MicroTimestamp")},
            {"name": "token", "type": named("string", "io.debezium.data.Uuid")},
        ],
    }
    source = {"type": "record", "name": "Source", "fields": [{"name": "db", "type": "string"}]}
    envelope = {
        "type": "record",
        "name": "Envelope",
        "namespace": "shop.orders",
        "fields": [
            {"name": "before", "type": ["null", row]},
            {"name": "after", "type": ["null", "Value"]},
            {"name": "source", "type": source},
            {"name": "op", "type": "string"},
            {"name": "ts_ms", "type": ["null", "long"]},
            {"name": "transaction", "type": ["null", "string"]},
        ],
    }
    writer = fastavro.parse_schema(json.loads(json.dumps(envelope)))
    seen = {"id": 1, "born": 19000, "seen": 5, "token": str(UUID(int=9))}

    def written(op: str, before: Any, after: Any) -> bytes:
        buffer = io.BytesIO()
        record = {"before": before, "after": after, "source": {"db": "shop"}, "op": op, "ts_ms": 7}
        fastavro.schemaless_writer(buffer, writer, {**record, "transaction": None})
        return buffer.getvalue()

    schema = with_logical_types(WriterSchema(None, SchemaLanguage.AVRO, json.dumps(envelope)))

    def make(row_schema: pa.Schema, *, may_add_columns: bool) -> ValueDecoder:
        return SchemaDecoder(row_schema, schema, AvroReader, may_add_columns=may_add_columns)

    values = texts(written("c", None, seen), written("d", seen, None), b"\0")
    table = unwrapped_schema(AvroReader(schema).row_schema, NOTHING)
    assert (
        DebeziumDecoder(NOTHING, make, may_add_columns=True).decode(values).proposed_schema == table
    )
    decoded = DebeziumDecoder(table, make, may_add_columns=True).decode(values)
    read = {
        "id": 1,
        "born": date(2022, 1, 8),
        "seen": local(5),
        "token": UUID(int=9),
    }
    change = {"__ts_ms": 7, "__source": {"db": "shop"}}
    assert decoded.rows.to_pylist() == [
        {**read, "__op": "c", **change, "__before": None},
        {**read, "__op": "d", **change, "__before": read},
    ]
    assert [(f.index, f.error_class) for f in decoded.failures] == [(2, "invalid_encoding")]


HOSTILE = [
    b"\xff",
    b'{"schema":',
    b'{"schema":\xff,"payload":{}}',
    b'{"schema":' + b"[" * 100_000,
    b'{"schema":{"type":"struct"},"payload":{"op":"c"}}',
    b'{"schema":{"type":"struct","fields":[1,{"field":"op"}]},"payload":{"op":"c"}}',
    b'{"schema":{"type":"struct","fields":[]},"payload":{"op":"c"}} }',
    b'{"schema":[],"payload":7',
    json.dumps({"schema": envelope_schema(connect("int64", "x"), connect("string", "X"))}).encode(),
]


def test_whatever_stands_beside_a_payload_nothing_is_raised_and_neighbours_are_rows() -> None:
    twice = envelope_schema(connect("int64", "x"), connect("string", "X"), connect("int64", "x"))
    table, decoded = grown_by(
        texts(*HOSTILE, in_wrapper(twice, "c", None, {"id": 1, "x": 2}), *HOSTILE)
    )
    assert table.names[:2] == ["id", "x"]
    assert decoded.rows.column("id").to_pylist() == [1]
    assert len(decoded.failures) == 2 * len(HOSTILE)


maps = st.sampled_from([None, {"id": 1}, {"id": 2, "name": "n"}, {"id": "x"}, {"more": 1}])
extras = st.sampled_from([{}, {"more": 1}, {"more": "x"}, {"more": [{"a": 1}]}, {"ts_us": "x"}])
events = st.builds(
    lambda op, before, after, more: event(op, before, after, **more),
    st.sampled_from(["c", "u", "d", "r", "t"]),
    maps,
    maps,
    extras,
)


@settings(max_examples=20)  # each makes a dozen decoders
@given(st.lists(st.tuples(events, st.booleans()), max_size=5))
def test_an_event_is_the_same_row_or_dead_letter_alone_and_in_any_batch(
    drawn: list[tuple[dict[str, Any], bool]],
) -> None:
    beside = envelope_schema(connect("string", "name"))
    values = [{"schema": beside, "payload": each} if has else each for each, has in drawn]
    columns = pa.schema([("id", pa.int64()), ("name", pa.string())])
    table = unwrapped_schema(wrapped_schema(columns), columns)
    one = decoder(table, is_strict=True)
    together = one.decode(texts(*values))
    rows: list[dict[str, Any]] = []
    bad: list[int] = []
    for place, value in enumerate(values):
        alone = one.decode(texts(value))
        rows += alone.rows.to_pylist()
        bad += [place] * len(alone.failures)
        (each, _) = drawn[place]
        if alone.rows.num_rows:
            (made,) = alone.rows.to_pylist()
            source = each["before"] if each["op"] == "d" else each["after"]
            assert (made["id"], made["name"]) == (source.get("id"), source.get("name"))
    assert together.rows.to_pylist() == rows
    # Of several faults, which one is named may depend on how the others were found.
    assert [failure.index for failure in together.failures] == bad
