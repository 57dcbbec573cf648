"""Goal: an inferred type becomes one that Iceberg stores, and what is always null vanishes.

Method: one table of Arrow types with the type text of what is stored.
"""

import pyarrow as pa
import pytest

from k2i_core.errors import ConfigError
from k2i_core.schema.arrow_types import arrow_type_text
from k2i_core.schema.inferred import clean_inferred, clean_inferred_type

NOTHING = pa.struct([pa.field("n", pa.null())])

CLEANED = [
    (pa.int8(), "int"),
    (pa.uint16(), "int"),
    (pa.uint32(), "long"),
    (pa.uint64(), "decimal(20,0)"),
    (pa.float16(), "float"),
    (pa.date64(), "date"),
    (pa.time32("ms"), "time"),
    (pa.time64("ns"), "time"),
    (pa.timestamp("s"), "timestamp"),
    (pa.timestamp("ns", tz="Europe/Berlin"), "timestamptz"),
    (pa.large_string(), "string"),
    (pa.string_view(), "string"),
    (pa.large_binary(), "binary"),
    (pa.binary(4), "fixed[4]"),
    (pa.uuid(), "uuid"),
    (pa.decimal32(5, 2), "decimal(5,2)"),
    (pa.decimal256(38, 3), "decimal(38,3)"),
    (pa.decimal128(4, -2), "decimal(6,0)"),
    (pa.decimal128(2, 4), "decimal(4,4)"),
    (pa.dictionary(pa.int32(), pa.large_string()), "string"),
    (pa.run_end_encoded(pa.int32(), pa.int8()), "int"),
    (pa.large_list(pa.int8()), "list<int>"),
    (pa.list_(pa.float32(), 3), "list<float>"),
    (pa.list_view(pa.large_list_view(pa.string())), "list<list<string>>"),
    (pa.map_(pa.large_string(), pa.timestamp("ms")), "map<string, timestamp>"),
    (
        pa.struct(
            [
                pa.field("a", pa.int64()),
                pa.field("never", pa.null()),
                pa.field("gone", NOTHING),
                pa.field("empties", pa.list_(pa.null())),
                pa.field("b", pa.list_(pa.field("item", pa.int8(), nullable=False))),
            ]
        ),
        "struct<a: long, b: list<int not null>>",
    ),
]


@pytest.mark.parametrize(("inferred", "stored"), CLEANED, ids=lambda value: str(value)[:40])
def test_an_inferred_type_becomes_what_iceberg_stores(inferred, stored):
    cleaned = clean_inferred_type(inferred)
    assert cleaned is not None
    assert arrow_type_text(cleaned) == stored


@pytest.mark.parametrize(
    "inferred",
    [
        pa.null(),
        pa.struct([]),
        NOTHING,
        pa.list_(pa.null()),
        pa.list_(NOTHING),
        pa.map_(pa.string(), pa.null()),
        pa.dictionary(pa.int8(), pa.null()),
    ],
    ids=str,
)
def test_nothing_is_stored_of_what_was_null_everywhere(inferred):
    assert clean_inferred_type(inferred) is None


@pytest.mark.parametrize(
    "inferred", [pa.duration("s"), pa.decimal256(39, 0), pa.month_day_nano_interval()], ids=str
)
def test_a_type_without_counterpart_is_refused(inferred):
    with pytest.raises(ConfigError, match="Iceberg"):
        clean_inferred_type(inferred)


def test_a_schema_keeps_order_nullability_and_metadata_of_what_stays():
    inferred = pa.schema(
        [
            pa.field("b", pa.large_string(), nullable=False, metadata={"doc": "text"}),
            pa.field("n", pa.null()),
            pa.field("a", pa.int8()),
        ]
    )
    cleaned = clean_inferred(inferred)
    assert cleaned.names == ["b", "a"]
    assert not cleaned.field("b").nullable
    assert cleaned.field("b").metadata == {b"doc": b"text"}
    assert cleaned.types == [pa.string(), pa.int32()]
