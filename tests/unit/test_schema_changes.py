"""Goal: a diff names exactly what must change, and a policy allows exactly its share of it.

Method: tables of (table column, row column, expected change), at the top and inside list, map and
struct; schemas are written as type texts, so a case reads as people write it.
"""

import pyarrow as pa
import pytest

from k2i_core.schema.arrow_types import to_arrow
from k2i_core.schema.changes import (
    AddColumn,
    Incompatible,
    MakeOptional,
    SchemaDiff,
    Widen,
    apply,
    diff,
)
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.schema.type_texts import parse_type


def arrow(text):
    return to_arrow(parse_type(text))


def schema_of(text):
    """Read `a: int, b: string not null` as a schema."""
    return pa.schema(list(arrow(f"struct<{text}>"))) if text else pa.schema([])


WIDENINGS = [
    ("int", "long"),
    ("float", "double"),
    ("decimal(9,2)", "decimal(18,2)"),
]

NESTS = {
    "top level": ("c: {}", ("c",)),
    "struct field": ("s: struct<x: string, c: {}>", ("s", "c")),
    "list element": ("l: list<{}>", ("l", "element")),
    "map value": ("m: map<string, {}>", ("m", "value")),
    "deep": ("d: list<struct<m: map<int, list<{}>>>>", ("d", "element", "m", "value", "element")),
}


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize(("narrow", "wide"), WIDENINGS)
def test_a_wider_row_type_widens_the_column_wherever_it_is(nest, narrow, wide):
    text, path = NESTS[nest]
    current, wanted = schema_of(text.format(narrow)), schema_of(text.format(wide))
    found = diff(current, wanted)
    assert found == SchemaDiff((Widen(path, arrow(narrow), arrow(wide)),))
    assert apply(current, found) == wanted


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize(("narrow", "wide"), WIDENINGS)
def test_a_narrower_row_type_fits_as_it_is(nest, narrow, wide):
    text, _ = NESTS[nest]
    assert diff(schema_of(text.format(wide)), schema_of(text.format(narrow))).is_empty


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ("int", "string"),
        ("long", "double"),
        ("int", "double"),
        ("double", "long"),
        ("decimal(9,2)", "decimal(18,3)"),
        ("decimal(9,2)", "decimal(9,1)"),
        ("timestamp", "timestamptz"),
        ("date", "timestamp"),
        ("fixed[4]", "fixed[5]"),
        ("string", "list<string>"),
        ("struct<a: int>", "map<string, int>"),
    ],
)
def test_any_other_change_of_type_is_incompatible(nest, table, rows):
    text, path = NESTS[nest]
    found = diff(schema_of(text.format(table)), schema_of(text.format(rows)))
    reason = f"the table has {table}, the rows have {rows}"
    assert found == SchemaDiff((), (Incompatible(path, reason),))


@pytest.mark.parametrize("nest", NESTS)
def test_optional_rows_make_a_required_column_optional(nest):
    text, path = NESTS[nest]
    current, wanted = schema_of(text.format("int not null")), schema_of(text.format("int"))
    found = diff(current, wanted)
    assert found == SchemaDiff((MakeOptional(path),))
    assert apply(current, found) == wanted
    assert diff(wanted, current).is_empty


def test_a_column_of_nulls_only_needs_an_optional_column_of_any_type():
    wanted = pa.schema([pa.field("c", pa.null())])
    assert diff(schema_of("c: int"), wanted).is_empty
    assert diff(schema_of("c: int not null"), wanted) == SchemaDiff((MakeOptional(("c",)),))
    assert diff(schema_of("x: int"), wanted).is_empty
    nulls = pa.schema([pa.field("l", pa.list_(pa.null()))])
    assert diff(schema_of("l: list<int>"), nulls).is_empty
    assert diff(schema_of("l: list<int not null>"), nulls).changes == (
        MakeOptional(("l", "element")),
    )


def test_added_columns_come_last_at_their_level_in_the_order_of_the_rows():
    current = schema_of("a: int, s: struct<x: int>, l: list<struct<y: int>>")
    wanted = schema_of("n: string, l: list<struct<z: long, y: int>>, s: struct<w: int, x: int>")
    found = diff(current, wanted)
    assert found == SchemaDiff(
        (
            AddColumn(("n",), pa.string()),
            AddColumn(("l", "element", "z"), pa.int64()),
            AddColumn(("s", "w"), pa.int32()),
        )
    )
    assert apply(current, found) == schema_of(
        "a: int, s: struct<x: int, w: int>, l: list<struct<y: int, z: long>>, n: string"
    )


def test_a_required_column_is_added_only_to_an_empty_table():
    wanted = schema_of("a: int not null")
    refused = diff(schema_of(""), wanted)
    assert refused.incompatibilities == (
        Incompatible(("a",), "a required column cannot be added, rows so far have no value"),
    )
    found = diff(schema_of(""), wanted, table_is_empty=True)
    assert found == SchemaDiff((AddColumn(("a",), pa.int32(), required=True),))
    assert apply(schema_of(""), found) == wanted


def test_a_missing_column_is_null_unless_the_table_requires_it():
    assert diff(schema_of("a: int, b: int"), schema_of("a: int")).is_empty
    found = diff(
        schema_of("a: int not null, s: struct<x: int not null>"), schema_of("s: struct<y: int>")
    )
    assert [change for change in found.changes if isinstance(change, MakeOptional)] == [
        MakeOptional(("s", "x"), is_missing=True),
        MakeOptional(("a",), is_missing=True),
    ]
    assert not found.is_allowed(SchemaEvolution.ADD_COLUMNS)
    assert found.is_allowed(SchemaEvolution.FULL)
    empty_struct = pa.schema([pa.field("s", pa.struct([]))])
    assert not diff(schema_of("s: struct<x: int not null>"), empty_struct).is_empty


@pytest.mark.parametrize(
    ("table", "rows", "path"),
    [
        ("Amount: int", "amount: int", ("amount",)),
        ("s: struct<Amount: int>", "s: struct<AMOUNT: int>", ("s", "AMOUNT")),
    ],
)
def test_names_that_differ_only_in_letter_case_are_refused(table, rows, path):
    found = diff(schema_of(table), schema_of(rows))
    assert found == SchemaDiff(
        (), (Incompatible(path, 'differs only in letter case from "Amount"'),)
    )


def test_a_name_that_the_rows_have_twice_is_refused():
    wanted = pa.schema([pa.field("a", pa.int32()), pa.field("a", pa.int32())])
    assert diff(schema_of("a: int"), wanted).incompatibilities == (
        Incompatible(("a",), "is there twice"),
    )


def test_a_map_key_never_changes():
    found = diff(schema_of("m: map<int, int>"), schema_of("m: map<long, int>"))
    assert found.incompatibilities == (
        Incompatible(("m", "key"), "the table has int, the rows have long"),
    )
    assert diff(schema_of("m: map<long, int>"), schema_of("m: map<int, int>")).is_empty


def test_large_layouts_of_an_arrow_reader_count_as_plain_ones():
    current = pa.schema(
        [
            pa.field("s", pa.large_string()),
            pa.field("l", pa.large_list(pa.field("element", pa.struct([("x", pa.int32())])))),
        ]
    )
    assert diff(current, schema_of("s: string, l: list<struct<x: int>>")).is_empty
    found = diff(current, schema_of("l: list<struct<x: long, y: int>>"))
    changed = apply(current, found)
    assert changed.field("l").type == pa.large_list(
        pa.field("element", pa.struct([("x", pa.int64()), ("y", pa.int32())]))
    )


def test_field_ids_survive_a_change():
    field = pa.field("a", pa.int32(), metadata={"PARQUET:field_id": "7"})
    current = pa.schema([field], metadata={"k": "v"})
    changed = apply(current, diff(current, schema_of("a: long, b: int")))
    assert changed.field("a").metadata == {b"PARQUET:field_id": b"7"}
    assert changed.metadata == {b"k": b"v"}


def test_a_type_that_iceberg_lacks_is_incompatible_not_an_exception():
    wanted = pa.schema([pa.field("a", pa.duration("s")), pa.field("b", pa.duration("s"))])
    found = diff(schema_of("a: int"), wanted)
    assert [incompatible.path for incompatible in found.incompatibilities] == [("a",), ("b",)]


ALL_CHANGES = diff(schema_of("w: int, o: int not null"), schema_of("n: int, w: long, o: int"))


def test_strict_allows_no_change():
    assert ALL_CHANGES.refusals(SchemaEvolution.STRICT) == (
        "add column n int: not allowed by schema_evolution=strict",
        "widen w from int to long: not allowed by schema_evolution=strict",
        "make o optional: not allowed by schema_evolution=strict",
    )
    assert SchemaDiff().is_allowed(SchemaEvolution.STRICT)


def test_add_columns_allows_columns_and_wider_types_only():
    assert ALL_CHANGES.refusals(SchemaEvolution.ADD_COLUMNS) == (
        "make o optional: not allowed by schema_evolution=add_columns",
    )


def test_full_allows_every_change_but_never_what_is_incompatible():
    assert ALL_CHANGES.is_allowed(SchemaEvolution.FULL)
    impossible = diff(schema_of("a: int"), schema_of("a: string, b: int"))
    assert impossible.refusals(SchemaEvolution.FULL) == (
        "a: the table has int, the rows have string",
    )
