"""Keys as a column, beside the columns of the value.

Goal: each record becomes one row with its own key, or one dead letter that says whether key or
value is to blame; no key is null; keys grow as values do. Method: keys of every format, written by
hand or by another library, good and bad ones mixed, against what they were made of.
"""

import io
import json
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.decode.json_keys import JsonKeyDecoder
from k2i_core.decode.key_columns import PlainKeyDecoder, with_avro_column
from k2i_core.decode.record_decoder import KeyColumn, Part, RecordDecoder, ValueDecoder
from k2i_core.decode.reserved import ReservingDecoder
from k2i_core.decode.schema_decoder import SchemaDecoder
from k2i_core.records import POLLED_SCHEMA, DecodedValues
from k2i_core.schema.registered import SchemaLanguage, WriterSchema

A = pa.field("a", pa.int64())


def records(*pairs: tuple[bytes | None, bytes]) -> pa.RecordBatch:
    listed = [
        {"topic": "orders", "partition": 0, "offset": n, "key": key, "value": value}
        for n, (key, value) in enumerate(pairs)
    ]
    return pa.RecordBatch.from_pylist(listed, schema=POLLED_SCHEMA)


def keyed(schema: pa.Schema, keys: ValueDecoder, *, may_add_columns: bool = False) -> RecordDecoder:
    rest = pa.schema([field for field in schema if field.name != "_key"])
    strict = JsonDecoder(rest)
    growing = ReservingDecoder(JsonDecoder(rest, may_add_columns=True), strict, frozenset({"_key"}))
    value = Part(growing if may_add_columns else strict)
    return RecordDecoder(schema, value, KeyColumn("_key", Part(keys)))


def json_keys(
    type_: pa.DataType | None, *, may_add_columns: bool = False, required: bool = False
) -> RecordDecoder:
    own = [] if type_ is None else [pa.field("_key", type_, nullable=not required)]
    keys = JsonKeyDecoder("_key", pa.schema(own), time_formats={}, may_add_columns=may_add_columns)
    return keyed(pa.schema([A, *own]), keys, may_add_columns=may_add_columns)


def failures(decoded: DecodedValues) -> list[tuple[int, str, str]]:
    return [(f.index, f.stage, f.error_class) for f in decoded.failures]


def test_a_record_is_a_row_with_its_key_or_a_dead_letter_of_key_or_value() -> None:
    decoded = json_keys(pa.struct([pa.field("id", pa.int64())])).decode(
        records(
            (b'{"id": 1}', b'{"a": 10}'),
            (b"{", b'{"a": 11}'),
            (None, b'{"a": 12}'),
            (b'{"id": 3}', b"{"),
            (b"7", b"{"),
            (b'{"id": 5}', b'{"a": 15}'),
        )
    )
    assert decoded.rows.to_pylist() == [
        {"a": 10, "_key": {"id": 1}},
        {"a": 12, "_key": None},
        {"a": 15, "_key": {"id": 5}},
    ]
    assert decoded.row_indices is not None
    assert decoded.row_indices.to_pylist() == [0, 2, 5]
    assert failures(decoded) == [
        (1, "key", "invalid_json"),
        (3, "value", "invalid_json"),
        (4, "key", "not_an_object"),
    ]


kinds = st.sampled_from([b'{"id": 1}', b'{"id": "x"}', b"null", b"", None, b"\xff"])
values = st.sampled_from([b'{"a": 1}', b'{"a": "x"}', b"{"])


@given(st.lists(st.tuples(kinds, values), max_size=6))
def test_a_verdict_does_not_depend_on_the_records_beside_it(
    pairs: list[tuple[bytes | None, bytes]],
) -> None:
    decoder = json_keys(pa.struct([pa.field("id", pa.int64())]))
    together = decoder.decode(records(*pairs))
    rows: list[dict[str, Any]] = []
    bad: list[tuple[int, str, str]] = []
    for place, pair in enumerate(pairs):
        alone = decoder.decode(records(pair))
        rows += alone.rows.to_pylist()
        bad += [(place, stage, error_class) for _, stage, error_class in failures(alone)]
    assert together.rows.to_pylist() == rows
    assert failures(together) == bad


def test_plain_json_keys_become_a_plain_column() -> None:
    good = [b'"x"', b' "\\u00e9\\"" ', b'""', b"null"]
    bad = [b'"x" ', b'"x", "b": 1', b'x"', b"[1]", b'{"id": 1}', b'"\xff"', b"1"]
    decoded = json_keys(pa.string()).decode(records(*((key, b"{}") for key in good + bad)))
    assert decoded.rows.column("_key").to_pylist() == ["x", 'é"', "", None, "x"]
    assert [(place, stage) for place, stage, _ in failures(decoded)] == [
        (place, "key") for place in range(5, 11)
    ]


@pytest.mark.parametrize(
    ("key", "column"),
    [
        (b'{"id": 1, "part": {"n": "x"}}', "struct<id: int64, part: struct<n: string>>"),
        (b"17", "int64"),
        (b'"x"', "string"),
        (b"1.5", "double"),
        (b"null", None),
    ],
)
def test_a_table_without_a_key_column_gets_what_the_first_keys_are(
    key: bytes, column: str | None
) -> None:
    decoded = json_keys(None, may_add_columns=True).decode(records((None, b"{}"), (key, b"{}")))
    found = decoded.proposed_schema
    assert (None if found is None else str(found.field("_key").type)) == column


def test_keys_grow_then_values_and_what_a_bad_record_holds_becomes_no_column() -> None:
    pairs = [(b'{"id": 1, "region": "eu"}', b'{"a": 1, "b": true}'), (b"{", b'{"c": 1}')]
    struct = pa.struct([pa.field("id", pa.int64())])
    first = json_keys(struct, may_add_columns=True).decode(records(*pairs)).proposed_schema
    assert first is not None
    assert first.names == ["a", "_key"]
    wider = first.field("_key").type
    assert str(wider) == "struct<id: int64, region: string>"
    second = json_keys(wider, may_add_columns=True).decode(records(*pairs)).proposed_schema
    assert second is not None
    assert second.names == ["a", "_key", "b"]


def test_a_value_cannot_name_a_column_as_the_key_is_named() -> None:
    decoder = json_keys(pa.string(), may_add_columns=True)
    pairs = [(b'"x"', b'{"a": 1, "_KEY": 2}'), (b'"y"', b'{"a": 2}')]
    assert decoder.decode(records(*pairs)).proposed_schema is None
    decoded = decoder.decode(records(*pairs))
    assert decoded.rows.to_pylist() == [{"a": 2, "_key": "y"}]
    assert failures(decoded) == [(0, "value", "unknown_field")]


def test_a_required_key_is_there() -> None:
    decoded = json_keys(pa.string(), required=True).decode(
        records((None, b"{}"), (b'"x"', b"{}"), (b"null", b"{}"))
    )
    assert decoded.rows.column("_key").to_pylist() == ["x"]
    assert failures(decoded) == [
        (0, "key", "required_field_missing"),
        (2, "key", "required_field_missing"),
    ]


def test_a_required_key_stays_required_when_it_gets_a_field() -> None:
    struct = pa.struct([pa.field("id", pa.int64())])
    growing = json_keys(struct, may_add_columns=True, required=True)
    found = growing.decode(records((b'{"id": 1, "region": "eu"}', b"{}"))).proposed_schema
    assert found is not None
    wider = pa.struct([("id", pa.int64()), ("region", pa.string())])
    assert found.field("_key") == pa.field("_key", wider, nullable=False)


PLAIN: list[tuple[str, pa.DataType, list[bytes], list[Any], list[bytes]]] = [
    ("raw", pa.binary(), [b"", b"\xff"], [b"", b"\xff"], []),
    ("string", pa.string(), [b"", "é".encode()], ["", "é"], [b"\xff"]),
    ("int", pa.int32(), [b"\0\0\1\0", b"\xff\xff\xff\xfe"], [256, -2], [b"", b"\1", b"\0" * 8]),
    ("long", pa.int64(), [b"\0" * 7 + b"\5", b"\x80" + b"\0" * 7], [5, -(2**63)], [b"\0" * 9]),
]


@pytest.mark.parametrize(("kind", "type_", "good", "expected", "bad"), PLAIN)
def test_keys_of_kafkas_own_serializers(
    kind: str, type_: pa.DataType, good: list[bytes], expected: list[Any], bad: list[bytes]
) -> None:
    own = pa.schema([pa.field("_key", type_)])
    keys = PlainKeyDecoder(kind, "_key", own, may_add_columns=False)
    decoded = keyed(pa.schema([*own, A]), keys).decode(
        records(*((key, b'{"a": 1}') for key in [*bad, *good]))
    )
    assert decoded.rows.column("_key").to_pylist() == expected
    assert [place for place, stage, _ in failures(decoded) if stage == "key"] == [*range(len(bad))]
    missing = PlainKeyDecoder(kind, "_key", pa.schema([]), may_add_columns=True)
    grown = keyed(pa.schema([A]), missing, may_add_columns=True).decode(records((good[0], b"{}")))
    assert grown.proposed_schema == pa.schema([A, *own])


AVRO_KEYS: list[tuple[Any, list[Any]]] = [
    ("string", ["x", ""]),
    ("long", [1, -5]),
    (["null", "int"], [None, 3]),
    ({"type": "record", "name": "K", "fields": [{"name": "id", "type": "long"}]}, [{"id": 7}]),
    ({"type": "array", "items": "string"}, [["a", "b"], []]),
]


@pytest.mark.parametrize(("described", "wanted"), AVRO_KEYS)
def test_an_avro_key_is_a_column_whatever_its_schema_is(described: Any, wanted: list[Any]) -> None:
    schema = WriterSchema(None, SchemaLanguage.AVRO, json.dumps(described))
    encoded: list[bytes] = []
    for each in wanted:
        written = io.BytesIO()
        fastavro.schemaless_writer(written, fastavro.parse_schema(described), each)
        encoded.append(written.getvalue())
    around = with_avro_column(schema, "_key")
    own = AvroReader(around).row_schema
    keys = SchemaDecoder(own, around, AvroReader)
    decoded = keyed(pa.schema([A, *own]), keys).decode(records(*((k, b"{}") for k in encoded)))
    assert decoded.rows.column("_key").to_pylist() == wanted


def test_an_avro_key_whose_schema_is_no_schema_is_refused_by_its_reader() -> None:
    broken = WriterSchema(1, SchemaLanguage.AVRO, '"int"}, {"name": "x"')
    assert with_avro_column(broken, "_key") is broken


def test_schemas_that_keys_or_values_miss_are_asked_for() -> None:
    class Known:
        def find(self, schema_id: object) -> None:
            """Know nothing."""

    own = pa.schema([pa.field("_key", pa.string())])
    decoder = keyed(pa.schema([A, *own]), SchemaDecoder(own, Known(), AvroReader))
    decoded = decoder.decode(records((b"\0\0\0\0\7", b"{}"), (None, b"{}")))
    assert decoded.missing_schema_ids == {7}


def test_no_records_and_no_keys_are_fine() -> None:
    decoder = json_keys(pa.string())
    assert decoder.decode(records()).rows.num_rows == 0
    decoded = decoder.decode(records((None, b'{"a": 1}'), (None, b'{"a": 2}')))
    assert decoded.rows.to_pylist() == [{"a": 1, "_key": None}, {"a": 2, "_key": None}]
