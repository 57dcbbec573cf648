"""What docs/formats.md says is what the program does.

Goal: no row of a table of types and no example can become untrue unnoticed. Method: take every
table row and YAML block out of the page and try it against the code.
"""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest

from k2i_core.config.load import read_pipeline
from k2i_core.decode import arrow_columns
from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.connect_types import connect_columns
from k2i_core.decode.csv_decoder import CsvDecoder
from k2i_core.decode.csv_fields import CsvDialect
from k2i_core.decode.json_schema import columns_of
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.msgpack_decoder import MsgpackDecoder
from k2i_core.decode.proto_decoder import ProtoReader
from k2i_core.decode.proto_schema import read_descriptors
from k2i_core.schema.arrow_types import arrow_type_text, to_arrow
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from k2i_core.schema.type_texts import parse_type
from k2i_core.wiring.proto_compiler import FILE_NAME, compile_proto

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
NO_COLUMN = "no column"


def table_of(heading: str) -> list[tuple[str, str]]:
    section = PAGE.split(f"\n### {heading}\n")[1].split("\n##")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return [
        (example, column.strip())
        for examples, column in rows
        for example in re.findall(r"`([^`]+)`", examples)
    ]


def text_of(schema: pa.Schema) -> str:
    assert schema.names[-1] == "last"
    return arrow_type_text(schema.field("x").type) if len(schema.names) > 1 else NO_COLUMN


@pytest.mark.parametrize(("example", "column"), table_of("Avro"))
def test_avro_types_become_what_the_page_says(example: str, column: str) -> None:
    fields = [{"name": "x", "type": json.loads(example)}, {"name": "last", "type": "int"}]
    text = json.dumps({"type": "record", "name": "Row", "fields": fields})
    schema = AvroReader(WriterSchema(1, SchemaLanguage.AVRO, text)).row_schema
    assert text_of(schema) == column


@pytest.mark.parametrize(("example", "column"), table_of("JSON Schema"))
def test_json_schemas_become_what_the_page_says(example: str, column: str) -> None:
    properties = {"x": json.loads(example), "last": {"type": "integer"}}
    text = json.dumps({"type": "object", "properties": properties})
    assert text_of(columns_of(WriterSchema(1, SchemaLanguage.JSON_SCHEMA, text))) == column


def test_protobuf_types_become_what_the_page_says() -> None:
    table = table_of("Protobuf")
    imports = ("timestamp", "duration", "wrappers", "struct", "empty", "any", "field_mask")
    lines = [f'import "google/protobuf/{name}.proto";' for name in imports]
    rows = [
        f"message M{n} {{ {kind} x = 1; int32 last = 2; }}" for n, (kind, _) in enumerate(table)
    ]
    others = (
        "enum Color { NONE = 0; } message Item { string sku = 1; } "
        "message Node { int32 value = 1; Node next = 2; }"
    )
    text = "\n".join(['syntax = "proto3";', *lines, others, *rows])
    serialized = compile_proto(WriterSchema(1, SchemaLanguage.PROTOBUF, text))
    compiled = read_descriptors(serialized, FILE_NAME)
    found = [
        (kind, text_of(ProtoReader(compiled, f"M{n}", is_framed=True).row_schema))
        for n, (kind, _) in enumerate(table)
    ]
    assert found == table


@pytest.mark.parametrize(("example", "column"), table_of("CSV"))
def test_csv_texts_fill_the_column_that_the_page_says(example: str, column: str) -> None:
    schema = pa.schema([pa.field("x", to_arrow(parse_type(column)))])
    decoder = CsvDecoder(schema, CsvDialect(("x",)), time_formats={})
    decoded = decoder.decode(pa.array([example.encode()], pa.binary()))
    assert not decoded.failures
    assert decoded.rows.column("x").null_count == 0


MSGPACK_VALUES: dict[str, bytes] = {
    "nil": b"\xc0",
    "true": b"\xc3",
    "int": b"\xd0\xff",
    "uint 64 above the largest long": b"\xcf" + b"\xff" * 8,
    "float 32": b"\xca" + bytes(4),
    "float 64": b"\xcb" + bytes(8),
    "str": b"\xa1a",
    "str like 2026-02-28T12:00:00Z": b"\xb42026-02-28T12:00:00Z",
    "bin": b"\xc4\x01a",
    "timestamp": b"\xd6\xff" + bytes(4),
    "array of int": b"\x91\x01",
    "map of int": b"\x81\xa1a\x01",
}


@pytest.mark.parametrize(("example", "column"), table_of("MessagePack"))
def test_msgpack_values_become_what_the_page_says(example: str, column: str) -> None:
    record = b"\x82\xa1x" + MSGPACK_VALUES[example] + b"\xa4last\x01"
    decoder = MsgpackDecoder(pa.schema([]), may_add_columns=True, time_formats={})
    grown = decoder.decode(pa.array([record], pa.binary())).proposed_schema
    assert grown is not None
    assert text_of(grown) == column
    decoded = MsgpackDecoder(grown, time_formats={}).decode(pa.array([record], pa.binary()))
    assert decoded.rows.num_rows == 1


ARROW_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "decimal32": pa.decimal32(9, 2),
    "decimal64": pa.decimal64(9, 2),
    "decimal128": pa.decimal128(9, 2),
    "decimal256": pa.decimal256(9, 2),
    "time32": pa.time32("ms"),
    "time64": pa.time64("ns"),
    "timestamp": pa.timestamp("ns"),
    "timestamp with a zone": pa.timestamp("s", tz="Europe/Berlin"),
    "dictionary": pa.dictionary(pa.int8(), pa.string()),
    "fixed_size_binary": pa.binary(4),
    "list": pa.list_(pa.int32()),
    "large_list": pa.large_list(pa.int32()),
    "fixed_size_list": pa.list_(pa.int32(), 2),
    "list_view": pa.list_view(pa.int32()),
    "map": pa.map_(pa.string(), pa.int32()),
    "struct": pa.struct([("a", pa.int32())]),
}


@pytest.mark.parametrize(("example", "column"), table_of("Arrow"))
def test_arrow_types_become_what_the_page_says(example: str, column: str) -> None:
    type_ = ARROW_TYPES.get(example) or getattr(pa, example)()
    schema = pa.schema([pa.field("x", type_), pa.field("last", pa.int32())])
    assert text_of(arrow_columns.columns_of(schema)) == column
    if column != NO_COLUMN:
        nulls = pa.nulls(2, type_) if type_ != pa.uuid() else pa.array([None] * 2, type_)
        assert arrow_columns.column_of(nulls, to_arrow(parse_type(column))).null_count == 2


@pytest.mark.parametrize(("example", "column"), table_of("Kafka Connect"))
def test_connect_types_become_what_the_page_says(example: str, column: str) -> None:
    fields = [{**json.loads(example), "field": "x"}, {"type": "int32", "field": "last"}]
    columns, _ = connect_columns({"type": "struct", "fields": fields})
    assert text_of(columns) == column


BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_is_a_valid_pipeline(block: str) -> None:
    assert read_pipeline(block, "formats.md").name


def test_there_are_examples_and_every_error_class_named_exists() -> None:
    assert len(BLOCKS) >= 5
    section = PAGE.split("## Dead letters of these formats")[1]
    named = re.findall(r"^\| `([a-z_0-9]+)`", section, re.MULTILINE)
    assert set(named) <= {str(each) for each in ErrorClass}
    assert len(named) >= 5
