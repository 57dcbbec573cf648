"""Goal: partition and sort texts mean what Iceberg means by them, for the types Iceberg allows.

Method: tables of texts; the accepted types are compared with PyIceberg's own transforms, which
commit the specs.
"""

import pyarrow as pa
import pyiceberg.transforms as iceberg
import pytest
from pyiceberg.io.pyarrow import pyarrow_to_schema
from pyiceberg.table.name_mapping import MappedField, NameMapping

from k2i_core.config import PartitionField, SortField
from k2i_core.config.layout import column_type
from k2i_core.schema.arrow_types import to_arrow
from k2i_core.schema.iceberg_types import IcebergField, PrimitiveType
from k2i_core.schema.type_texts import parse_type


@pytest.mark.parametrize(
    ("text", "field", "name"),
    [
        ("region", PartitionField("identity", "region"), "region"),
        ("identity(region)", PartitionField("identity", "region"), "region"),
        (" bucket( 16 ,id ) ", PartitionField("bucket", "id", 16), "id_bucket_16"),
        ("truncate(4, sku)", PartitionField("truncate", "sku", 4), "sku_trunc_4"),
        ("year(at)", PartitionField("year", "at"), "at_year"),
        ("month(at)", PartitionField("month", "at"), "at_month"),
        ("day(shop.at)", PartitionField("day", "shop.at"), "shop.at_day"),
        ("hour(at)", PartitionField("hour", "at"), "at_hour"),
        ("void(at)", PartitionField("void", "at"), "at_null"),
        ("day(`a (b)`)", PartitionField("day", "a (b)"), "a (b)_day"),
    ],
)
def test_a_partition_text_is_read_and_written(text, field, name):
    assert PartitionField.parse(text) == field
    assert PartitionField.parse(str(field)) == field
    assert field.name == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "days(at)",
        "Day(at)",
        "day()",
        "day(4, at)",
        "bucket(at)",
        "bucket(at, 4)",
        "bucket(-1, at)",
        "bucket(4 at)",
        "truncate(2147483648, a)",
        "day(at",
    ],
)
def test_anything_else_is_no_partition_text(text):
    with pytest.raises(ValueError, match=r"is not a transform|needs a number"):
        PartitionField.parse(text)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("a", SortField("a")),
        ("a asc", SortField("a", nulls_first=True)),
        ("a DESC", SortField("a", descending=True, nulls_first=False)),
        ("a nulls last", SortField("a", nulls_first=False)),
        ("a.b  desc  nulls  first", SortField("a.b", descending=True, nulls_first=True)),
        ("`a desc` desc", SortField("a desc", descending=True, nulls_first=False)),
    ],
)
def test_a_sort_text_is_read_and_written(text, field):
    assert SortField.parse(text) == field
    assert SortField.parse(str(field)) == field


TYPES = [
    "boolean",
    "int",
    "long",
    "float",
    "double",
    "decimal(9,2)",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "string",
    "binary",
    "uuid",
    "fixed[4]",
    "list<int>",
    "map<string, int>",
    "struct<a: int>",
]

TRANSFORMS = {
    "a": iceberg.IdentityTransform(),
    "bucket(4, a)": iceberg.BucketTransform(4),
    "truncate(4, a)": iceberg.TruncateTransform(4),
    "year(a)": iceberg.YearTransform(),
    "month(a)": iceberg.MonthTransform(),
    "day(a)": iceberg.DayTransform(),
    "hour(a)": iceberg.HourTransform(),
    "void(a)": iceberg.VoidTransform(),
}


@pytest.mark.parametrize("text", TRANSFORMS)
@pytest.mark.parametrize("type_text", TYPES)
def test_a_transform_takes_the_types_that_pyiceberg_takes(text, type_text):
    type_ = parse_type(type_text)
    arrow = pa.schema([pa.field("a", to_arrow(type_))])
    inner = [MappedField(field_id=i, names=[n]) for i, n in enumerate(NESTED_NAMES, start=2)]
    mapping = NameMapping([MappedField(field_id=1, names=["a"], fields=inner)])
    source = pyarrow_to_schema(arrow, mapping).fields[0].field_type
    taken = PartitionField.parse(text).refusal(type_) is None
    assert taken == TRANSFORMS[text].can_transform(source)


NESTED_NAMES = ["element", "key", "value", "a"]


def test_a_column_is_found_by_name_or_through_structs():
    columns = (
        IcebergField("a", parse_type("struct<b: struct<c: long>, l: list<struct<x: int>>>")),
        IcebergField("a.b", PrimitiveType.STRING),
    )
    assert column_type(columns, "a.b") is PrimitiveType.STRING
    assert column_type(columns, "a.b.c") is PrimitiveType.LONG
    for absent in ("b", "a.c", "a.b.c.d", "a.l.element.x", "a.l.x", ""):
        assert column_type(columns, absent) is None
