"""Rows that do not have exactly the table's schema.

Goal: what can be written without losing anything is written; everything else is refused by name.
Method: conform single batches and compare.
"""

import uuid
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from k2i_core.errors import IncompatibleSchemaError
from k2i_core.parquet.conform import Conformer
from tests.unit.parquet.memory_store import with_field_ids


def conform(column: pa.Array, table_type: pa.DataType) -> pa.RecordBatch:
    rows = pa.RecordBatch.from_pydict({"c": column})
    return Conformer(with_field_ids(pa.schema([("c", table_type)]))).conform(rows)


def test_rows_of_the_tables_schema_pass_unchanged() -> None:
    schema = with_field_ids(pa.schema([("a", pa.int64())]))
    rows = pa.RecordBatch.from_pydict({"a": [1, 2]}, schema=schema)

    assert Conformer(schema).conform(rows) is rows


def test_rows_without_field_ids_get_them_without_a_copy() -> None:
    struct = pa.struct([("x", pa.list_(pa.int64()))])
    column = pa.array([{"x": [1, None]}, None], struct)

    conformed = conform(column, struct)

    assert conformed.schema.field("c").metadata == {b"PARQUET:field_id": b"1"}
    read = conformed.column(0)
    assert read.to_pylist() == column.to_pylist()
    assert read.flatten()[0].values.buffers()[1].address == (
        column.flatten()[0].values.buffers()[1].address
    )


def test_an_absent_optional_column_becomes_null() -> None:
    schema = with_field_ids(pa.schema([("a", pa.int64()), ("b", pa.list_(pa.string()))]))

    conformed = Conformer(schema).conform(pa.RecordBatch.from_pydict({"a": [1, 2]}))

    assert conformed.to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": None}]


def test_columns_are_matched_by_name_not_by_place() -> None:
    schema = with_field_ids(pa.schema([("a", pa.int64()), ("b", pa.int64())]))

    conformed = Conformer(schema).conform(pa.RecordBatch.from_pydict({"b": [2], "a": [1]}))

    assert conformed.to_pylist() == [{"a": 1, "b": 2}]


def test_an_absent_nested_field_becomes_null() -> None:
    column = pa.array([{"x": 1}, None], pa.struct([("x", pa.int64())]))

    conformed = conform(column, pa.struct([("x", pa.int64()), ("y", pa.string())]))

    assert conformed.column(0).to_pylist() == [{"x": 1, "y": None}, None]


@pytest.mark.parametrize(
    ("column", "table_type", "expected"),
    [
        (pa.array([1, None], pa.int32()), pa.int64(), [1, None]),
        (pa.array([1, None], pa.uint8()), pa.int32(), [1, None]),
        (pa.array([1.5], pa.float32()), pa.float64(), [1.5]),
        (pa.array(["a"], pa.large_string()), pa.string(), ["a"]),
        (pa.array(["a", "a"]).dictionary_encode(), pa.string(), ["a", "a"]),
        (pa.array([b"a"], pa.large_binary()), pa.binary(), [b"a"]),
        (pa.array([None, None]), pa.list_(pa.string()), [None, None]),
        (pa.array([b"0123456789abcdef"], pa.binary(16)), pa.uuid(),
         [uuid.UUID(bytes=b"0123456789abcdef")]),
        (pa.array([Decimal("1.50")], pa.decimal128(5, 2)), pa.decimal128(9, 2), [Decimal("1.50")]),
        (pa.array([1_000], pa.timestamp("ms", "UTC")), pa.timestamp("us", "UTC"),
         [datetime.fromtimestamp(1, UTC)]),
        (pa.array([[1], None], pa.large_list(pa.int32())), pa.list_(pa.int64()), [[1], None]),
    ],
)  # fmt: skip
def test_what_fits_is_widened(column, table_type, expected) -> None:
    conformed = conform(column, table_type)

    assert conformed.column(0).to_pylist() == expected
    assert conformed.schema.field("c").type == table_type


@pytest.mark.parametrize(
    ("column", "table_type"),
    [
        (pa.array(["1"]), pa.int64()),
        (pa.array([1]), pa.string()),
        (pa.array([1]), pa.float64()),
        (pa.array([1.0]), pa.int64()),
        (pa.array([1]), pa.timestamp("us")),
        (pa.array([1], pa.timestamp("us")), pa.timestamp("us", "UTC")),
        (pa.array([1], pa.timestamp("us", "UTC")), pa.timestamp("us")),
        (pa.array([1], pa.int64()), pa.bool_()),
        (pa.array([[1]]), pa.int64()),
        (pa.array([["1"]]), pa.list_(pa.int64())),
        (pa.array([{"x": "1"}]), pa.struct([("x", pa.int64())])),
    ],
)
def test_another_kind_of_type_is_refused(column: pa.Array, table_type: pa.DataType) -> None:
    with pytest.raises(IncompatibleSchemaError, match="column=c"):
        conform(column, table_type)


def test_a_value_out_of_range_is_refused_without_quoting_it() -> None:
    with pytest.raises(IncompatibleSchemaError) as caught:
        conform(pa.array([987_654_321_987]), pa.int32())

    assert "987" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "table_type", "path"),
    [
        (pa.array([{"x": 1, "y": 2}]), pa.struct([("x", pa.int64())]), "c.y"),
        (
            pa.array([[{"x": 1, "y": 2}]]),
            pa.list_(pa.struct([("x", pa.int64())])),
            "c.element.y",
        ),
        (
            pa.array([[("k", {"x": 1, "y": 2})]],
                     pa.map_(pa.string(), pa.struct([("x", pa.int64()), ("y", pa.int64())]))),
            pa.map_(pa.string(), pa.struct([("x", pa.int64())])),
            "c.value.y",
        ),
    ],
)  # fmt: skip
def test_a_nested_field_that_the_table_lacks_is_refused(column, table_type, path) -> None:
    with pytest.raises(IncompatibleSchemaError, match=f"no column={path}"):
        conform(column, table_type)


def test_a_column_that_the_table_lacks_is_refused() -> None:
    schema = with_field_ids(pa.schema([("a", pa.int64())]))

    with pytest.raises(IncompatibleSchemaError, match="'surprise'"):
        Conformer(schema).conform(pa.RecordBatch.from_pydict({"a": [1], "surprise": [2]}))


def test_a_null_in_a_required_column_is_refused() -> None:
    schema = with_field_ids(pa.schema([pa.field("a", pa.int64(), nullable=False)]))

    with pytest.raises(IncompatibleSchemaError, match="column=a is required and null_count=1"):
        Conformer(schema).conform(pa.RecordBatch.from_pydict({"a": [1, None]}))


def test_an_absent_required_column_is_refused() -> None:
    schema = with_field_ids(
        pa.schema([pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.int64())])
    )

    with pytest.raises(IncompatibleSchemaError, match="column=a"):
        Conformer(schema).conform(pa.RecordBatch.from_pydict({"b": [1]}))


def test_rows_may_change_their_shape_from_batch_to_batch() -> None:
    conformer = Conformer(with_field_ids(pa.schema([("a", pa.int64()), ("b", pa.string())])))
    shapes = [{"a": [1]}, {"b": ["x"]}, {"b": ["y"], "a": [2]}, {"a": [3]}]

    rows = [conformer.conform(pa.RecordBatch.from_pydict(shape)).to_pylist()[0] for shape in shapes]

    assert rows == [
        {"a": 1, "b": None},
        {"a": None, "b": "x"},
        {"a": 2, "b": "y"},
        {"a": 3, "b": None},
    ]
