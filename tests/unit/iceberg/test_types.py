"""Arrow schemas become Iceberg schemas and come back, with an id on every field.

Goal: rows written with a table's Arrow schema are read by field id by every engine.
"""

from collections.abc import Iterator

import pyarrow as pa
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import (
    IntegerType,
    LongType,
    NestedField,
    TimestampNanoType,
)

from k2i_core.errors import ConfigError
from k2i_core.iceberg.tables import with_kafka
from k2i_core.iceberg.types import FIELD_ID_KEY, arrow_schema, iceberg_schema
from k2i_core.records import DEAD_LETTER_SCHEMA, KAFKA_TYPE

EVERYTHING = pa.schema(
    [
        pa.field("bool", pa.bool_()),
        pa.field("int", pa.int32(), nullable=False),
        pa.field("long", pa.int64()),
        pa.field("float", pa.float32()),
        pa.field("double", pa.float64()),
        pa.field("decimal", pa.decimal128(20, 4)),
        pa.field("date", pa.date32()),
        pa.field("time", pa.time64("us")),
        pa.field("timestamp", pa.timestamp("us")),
        pa.field("timestamptz", pa.timestamp("us", tz="UTC")),
        pa.field("string", pa.string()),
        pa.field("binary", pa.binary()),
        pa.field("uuid", pa.uuid()),
        pa.field("fixed", pa.binary(7)),
        pa.field("list", pa.list_(pa.field("element", pa.int32(), nullable=False))),
        pa.field("map", pa.map_(pa.string(), pa.field("value", pa.float64(), nullable=False))),
        pa.field(
            "items",
            pa.list_(
                pa.field(
                    "element",
                    pa.struct(
                        [
                            pa.field("sku", pa.string(), nullable=False),
                            pa.field("tags", pa.map_(pa.string(), pa.list_(pa.date32()))),
                        ]
                    ),
                )
            ),
        ),
    ]
)


def fields_of(type_or_schema: pa.Schema | pa.DataType) -> Iterator[pa.Field]:
    match type_or_schema:
        case pa.Schema() | pa.StructType():
            inner = list(type_or_schema)
        case pa.ListType():
            inner = [type_or_schema.value_field]
        case pa.MapType():
            inner = [type_or_schema.key_field, type_or_schema.item_field]
        case _:
            inner = []
    for field in inner:
        yield field
        yield from fields_of(field.type)


@pytest.mark.parametrize("schema", [EVERYTHING, DEAD_LETTER_SCHEMA, with_kafka(EVERYTHING)])
def test_a_schema_comes_back_as_it_was(schema: pa.Schema) -> None:
    assert arrow_schema(iceberg_schema(schema)).equals(schema)


def test_every_field_at_every_level_has_an_id_of_its_own() -> None:
    fields = list(fields_of(arrow_schema(iceberg_schema(with_kafka(EVERYTHING)))))

    ids = [int((field.metadata or {})[FIELD_ID_KEY]) for field in fields]

    assert len(ids) == len(set(ids)) > 30


def test_kafka_is_last_whatever_the_tables_order() -> None:
    schema = Schema(
        *iceberg_schema(pa.schema([pa.field("_kafka", KAFKA_TYPE)])).fields,
        NestedField(100, "added_by_spark", LongType()),
        NestedField(101, "b", IntegerType()),
    )

    assert arrow_schema(schema).names == ["added_by_spark", "b", "_kafka"]


@pytest.mark.parametrize(
    "arrow_type", [pa.timestamp("ns"), pa.duration("s"), pa.uint64(), pa.null()], ids=str
)
def test_a_type_that_iceberg_lacks_is_refused(arrow_type: pa.DataType) -> None:
    with pytest.raises(ConfigError, match="Iceberg has no type"):
        iceberg_schema(pa.schema([pa.field("c", arrow_type)]))


def test_a_type_of_a_newer_format_is_refused_by_name() -> None:
    schema = Schema(NestedField(1, "at", TimestampNanoType()))

    with pytest.raises(ConfigError, match=r"column='at'.*timestamp_ns"):
        arrow_schema(schema)
