"""Goal: the type texts lose nothing, and a diff, once applied, leaves nothing to change.

Method: generated Iceberg types and schemas; wanted schemas are made from the current one by the
steps that a stream of records really takes, and independently as well.
"""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.schema.arrow_types import arrow_type_text, from_arrow, to_arrow
from k2i_core.schema.changes import apply, diff
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.schema.inferred import clean_inferred, clean_inferred_type
from k2i_core.schema.type_texts import parse_type, type_text

NAMES = st.one_of(
    st.sampled_from(["a", "b", "c", "total", "order-id", "x.y"]),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=6),
)

PRIMITIVES = st.one_of(
    st.sampled_from(
        [
            pa.bool_(),
            pa.int32(),
            pa.int64(),
            pa.float32(),
            pa.float64(),
            pa.date32(),
            pa.time64("us"),
            pa.timestamp("us"),
            pa.timestamp("us", tz="UTC"),
            pa.string(),
            pa.binary(),
            pa.uuid(),
        ]
    ),
    st.integers(1, 38).flatmap(
        lambda precision: st.integers(0, precision).map(lambda s: pa.decimal128(precision, s))
    ),
    st.integers(1, 2**31 - 1).map(pa.binary),
)


def fields(types):
    """Fields of a struct or schema, with names that differ in more than case."""
    return st.lists(
        st.builds(pa.field, NAMES, types, st.booleans()),
        min_size=1,
        max_size=4,
        unique_by=lambda field: field.name.casefold(),
    )


def nested(types):
    return st.one_of(
        st.builds(lambda t, n: pa.list_(pa.field("element", t, n)), types, st.booleans()),
        st.builds(lambda k, v, n: pa.map_(k, pa.field("value", v, n)), types, types, st.booleans()),
        fields(types).map(pa.struct),
    )


TYPES = st.recursive(PRIMITIVES, nested, max_leaves=8)

SCHEMAS = fields(TYPES).map(pa.schema)


@given(TYPES)
def test_every_type_is_read_back_as_it_was_written(type_):
    read = parse_type(arrow_type_text(type_))
    assert to_arrow(read) == type_
    assert from_arrow(type_) == read
    assert parse_type(type_text(read)) == read


@given(TYPES)
def test_a_storable_type_is_clean_already(type_):
    assert clean_inferred_type(type_) == type_


@given(SCHEMAS)
def test_rows_of_the_tables_own_schema_need_no_change(schema):
    assert diff(schema, schema).is_empty


@given(SCHEMAS, SCHEMAS, st.booleans())
def test_after_the_changes_the_rows_fit(current, wanted, table_is_empty):
    found = diff(current, wanted, table_is_empty=table_is_empty)
    if found.incompatibilities:
        assert not found.is_allowed(SchemaEvolution.FULL)
        return
    changed = apply(current, found)
    assert diff(changed, wanted).is_empty
    assert changed.names[: len(current.names)] == current.names
    if not table_is_empty:
        assert diff(changed, current).incompatibilities == (), "old rows still fit"


@given(st.data(), SCHEMAS)
def test_columns_dropped_widened_or_reordered_by_records_never_stop_the_table(data, schema):
    optional = pa.schema([optional_field(field) for field in schema])
    wanted = data.draw(st.permutations(list(optional)).map(pa.schema))
    dropped = wanted.remove(0)
    assert diff(optional, wanted).is_empty
    assert diff(optional, dropped).is_empty
    back = diff(dropped, wanted)
    assert back.is_allowed(SchemaEvolution.ADD_COLUMNS)
    assert set(apply(dropped, back)) == set(wanted)


@given(SCHEMAS)
def test_cleaning_twice_changes_nothing_more(schema):
    large = pa.schema([field.with_type(pa.large_list(field.type)) for field in schema])
    cleaned = clean_inferred(large)
    assert clean_inferred(cleaned) == cleaned
    assert diff(large, cleaned).is_empty


def optional_field(field):
    return field.with_nullable(True).with_type(optional_type(field.type))


def optional_type(type_):
    if isinstance(type_, pa.StructType):
        return pa.struct([optional_field(field) for field in type_])
    if isinstance(type_, pa.ListType):
        return pa.list_(optional_field(type_.value_field))
    if isinstance(type_, pa.MapType):
        return pa.map_(type_.key_type, optional_field(type_.item_field))
    return type_
