"""Goal: every type of Iceberg stands for one Arrow type, whose rows can be written.

Method: a table of type texts and Arrow types, turned both ways; the round trip over all types is a
property test.
"""

import pyarrow as pa
import pytest

from k2i_core.errors import ConfigError
from k2i_core.schema.arrow_types import arrow_type_text, from_arrow, to_arrow, to_arrow_schema
from k2i_core.schema.iceberg_types import IcebergField, PrimitiveType
from k2i_core.schema.type_texts import parse_type

ARROW = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "decimal(9,2)": pa.decimal128(9, 2),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "string": pa.string(),
    "binary": pa.binary(),
    "uuid": pa.uuid(),
    "fixed[16]": pa.binary(16),
    "list<string>": pa.list_(pa.field("element", pa.string())),
    "list<long not null>": pa.list_(pa.field("element", pa.int64(), nullable=False)),
    "map<string, double not null>": pa.map_(
        pa.string(), pa.field("value", pa.float64(), nullable=False)
    ),
    "struct<order-id: uuid not null, b: list<string>>": pa.struct(
        [
            pa.field("order-id", pa.uuid(), nullable=False),
            pa.field("b", pa.list_(pa.field("element", pa.string()))),
        ]
    ),
}


@pytest.mark.parametrize("text", ARROW)
def test_a_type_stands_for_one_arrow_type_and_back(text):
    assert to_arrow(parse_type(text)) == ARROW[text]
    assert from_arrow(ARROW[text]) == parse_type(text)
    assert arrow_type_text(ARROW[text]) == text


def test_the_inner_fields_have_icebergs_names():
    assert to_arrow(parse_type("list<int>")).value_field.name == "element"
    assert to_arrow(parse_type("map<int, int>")).item_field.name == "value"


def test_required_parts_of_nested_types_are_not_nullable():
    arrow = to_arrow(parse_type("struct<a: list<int not null> not null, b: map<string, int>>"))
    assert not arrow.field("a").nullable
    assert not arrow.field("a").type.value_field.nullable
    assert arrow.field("b").type.item_field.nullable
    assert not arrow.field("b").type.key_field.nullable


def test_columns_become_a_schema_with_their_docs():
    schema = to_arrow_schema(
        [
            IcebergField("id", PrimitiveType.LONG, required=True),
            IcebergField("at", PrimitiveType.TIMESTAMP, doc="when"),
        ]
    )
    assert schema == pa.schema(
        [pa.field("id", pa.int64(), nullable=False), pa.field("at", pa.timestamp("us"))]
    )
    assert [field.metadata for field in schema] == [None, {b"doc": b"when"}]


@pytest.mark.parametrize(
    "type_",
    [
        pa.null(),
        pa.int8(),
        pa.uint64(),
        pa.timestamp("ns"),
        pa.timestamp("us", tz="Europe/Berlin"),
        pa.large_string(),
        pa.duration("s"),
        pa.struct([]),
        pa.decimal128(4, -2),
        pa.list_(pa.int8()),
    ],
    ids=str,
)
def test_a_type_that_iceberg_lacks_is_refused(type_):
    with pytest.raises(ConfigError, match="Iceberg has no type for Arrow's"):
        from_arrow(type_)
