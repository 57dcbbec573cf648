"""What a CSV record means, and what the table gets because of it.

Goal: each rule of docs/formats.md about CSV. Method: a few records and their rows; the properties
are in tests/property/test_decode_csv.py.
"""

from typing import Any

import pyarrow as pa
import pytest

from k2i_core.decode.csv_decoder import CsvDecoder
from k2i_core.decode.csv_fields import CsvDialect
from k2i_core.errors import ConfigError
from k2i_core.records import DecodedValues

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int32(), nullable=False),
        pa.field("ratio", pa.float32()),
        pa.field("name", pa.string()),
    ]
)
NAMES = ("id", "ratio", "name")


def decode(
    *values: bytes, schema: pa.Schema = SCHEMA, names: tuple[str, ...] = NAMES, may_add: bool
) -> DecodedValues:
    decoder = CsvDecoder(schema, CsvDialect(names), time_formats={}, may_add_columns=may_add)
    return decoder.decode(pa.array(values, pa.binary()))


def reasons(decoded: DecodedValues) -> list[tuple[int, str, str]]:
    return [(f.index, f.error_class, f.message) for f in decoded.failures]


def test_a_field_without_quotes_that_is_empty_has_no_value_and_one_with_quotes_is_text() -> None:
    rows = decode(b"1,,", b'2,0.5,""\n', b'3,"1","a, ""b""\n"', may_add=False).rows.to_pylist()
    assert rows == [
        {"id": 1, "ratio": None, "name": None},
        {"id": 2, "ratio": 0.5, "name": ""},
        {"id": 3, "ratio": 1.0, "name": 'a, "b"\n'},
    ]


def test_each_reason_names_the_field_and_never_shows_it() -> None:
    decoded = decode(
        b",,", b"x,,", b"1,,,", b'1,,"a', b"1,,a\nb", b"1,,\xff", b'1,,a"b"', may_add=False
    )
    assert decoded.rows.num_rows == 0
    assert reasons(decoded) == [
        (0, "required_field_missing", "id: required, but missing or null"),
        (1, "invalid_value", "id: expected int, got text that is not one"),
        (2, "invalid_encoding", "expected fields=3, got fields=4"),
        (3, "invalid_encoding", "a quote is not closed"),
        (4, "invalid_encoding", "a line break stands outside of quotes"),
        (5, "invalid_utf8", "name: not utf-8"),
        (6, "invalid_encoding", "a quote stands in a field that does not begin and end so"),
    ]


def test_a_field_that_the_table_lacks_becomes_a_text_column_or_must_be_empty() -> None:
    names = (*NAMES, "more")
    decoded = decode(b"1,,,", b"2,,,x", names=names, may_add=False)
    assert reasons(decoded) == [(1, "unknown_field", "more: the schema has no such field")]
    proposed = decode(b"1,,,", names=names, may_add=True).proposed_schema
    assert proposed == SCHEMA.append(pa.field("more", pa.string()))
    assert decode(b"1,,,", schema=proposed, names=names, may_add=True).rows.num_rows == 1


def test_a_table_column_that_no_field_fills_is_null() -> None:
    wider = SCHEMA.append(pa.field("tags", pa.list_(pa.field("element", pa.string()))))
    row = {"id": 1, "ratio": None, "name": "a", "tags": None}
    assert decode(b"1,,a", schema=wider, may_add=True).rows.to_pylist() == [row]


@pytest.mark.parametrize(
    ("value", "column", "wider"),
    [(b"3000000000,1,a", "id", pa.int64()), (b"1,1e39,a", "ratio", pa.float64())],
)
def test_a_number_that_a_wider_type_holds_widens_the_column(
    value: bytes, column: str, wider: Any
) -> None:
    [refused] = reasons(decode(value, may_add=False))
    assert refused[1] == "number_out_of_range"
    proposed = decode(b"1,1,a", value, may_add=True).proposed_schema
    assert proposed is not None
    place = SCHEMA.get_field_index(column)
    field = SCHEMA.field(column)
    assert proposed == SCHEMA.set(place, field.with_type(wider))
    # A record that is bad in another way widens nothing, nor does a number that nothing holds.
    assert decode(value + b',"', may_add=True).proposed_schema is None
    assert decode(value + b"\xff", may_add=True).proposed_schema is None
    assert decode(b"9" * 20 + b",1e400,", may_add=True).proposed_schema is None


def test_columns_that_no_text_fills_are_refused_at_the_start() -> None:
    schema = pa.schema([pa.field("tags", pa.list_(pa.field("element", pa.string())))])
    with pytest.raises(ConfigError, match="column=tags type=list<string>"):
        decode(schema=schema, names=("tags",), may_add=True)


def test_bad_records_alone_add_no_column_and_no_records_are_no_rows() -> None:
    assert decode(b"", b'"', names=(*NAMES, "more"), may_add=True).proposed_schema is None
    assert decode(may_add=True).rows.num_rows == 0
