"""Rows of a writer's columns become rows of the table's, or say why not.

Goal: every line of the module's table, in both directions, at the top and inside of lists, maps and
structs; a row that does not fit harms no other.
Method: one writer's column and one table column each, and what comes of each value.
"""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from k2i_core.decode.conform import conform
from k2i_core.decode.growth import grown

TIMESTAMPTZ = pa.timestamp("us", tz="UTC")


def fit(values: list[Any], writer: pa.DataType, table: pa.DataType, **formats: str) -> list[Any]:
    """Return each row's value, or the error class in angle brackets."""
    rows = pa.RecordBatch.from_arrays([pa.array(values, writer)], names=["x"])
    made, faults = conform(rows, pa.schema([pa.field("x", table)]), formats)
    made.validate()
    return [
        f"<{faults[place][0]}>" if place in faults else value
        for place, value in enumerate(made.column("x").to_pylist())
    ]


CASES: list[tuple[pa.DataType, pa.DataType, list[tuple[Any, Any]]]] = [
    (pa.int32(), pa.int64(), [(1, 1), (None, None)]),
    (pa.int64(), pa.int32(), [(7, 7), (2**31, "<number_out_of_range>")]),
    (pa.int64(), pa.float64(), [(2**53 + 1, 2.0**53)]),
    (pa.int64(), pa.decimal128(5, 2), [(999, Decimal(999)), (1000, "<number_out_of_range>")]),
    (pa.float64(), pa.float32(), [(0.5, 0.5), (1e300, "<number_out_of_range>")]),
    (pa.float32(), pa.float64(), [(0.5, 0.5), (float("inf"), float("inf"))]),
    (pa.float64(), pa.int64(), [(1.0, "<wrong_type>"), (None, None)]),
    (
        pa.decimal128(10, 3),
        pa.decimal128(5, 2),
        [(Decimal("1.250"), Decimal("1.25")), (Decimal("1.255"), "<number_out_of_range>")],
    ),
    (pa.string(), pa.binary(), [("ä", "ä".encode())]),
    (pa.binary(), pa.string(), [(b"a", "a"), (b"\xff", "<invalid_utf8>")]),
    (pa.binary(2), pa.binary(), [(b"ab", b"ab")]),
    (
        pa.string(),
        TIMESTAMPTZ,
        [("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))],
    ),
    (pa.string(), pa.date32(), [("2026-01-02", date(2026, 1, 2)), ("soon", "<invalid_value>")]),
    (pa.string(), pa.uuid(), [(str(UUID(int=5)), UUID(int=5)), ("5", "<invalid_value>")]),
    (pa.string(), pa.decimal128(5, 2), [("1.5", Decimal("1.5")), ("x", "<invalid_value>")]),
    (pa.string(), pa.int64(), [("1", "<wrong_type>")]),
    (TIMESTAMPTZ, pa.timestamp("us"), [(datetime(2026, 1, 1, tzinfo=UTC), "<wrong_type>")]),
    (
        pa.list_(pa.field("element", pa.int64())),
        pa.list_(pa.field("element", pa.int32())),
        [([1, None], [1, None]), ([1, 2**40], "<number_out_of_range>"), (None, None), ([], [])],
    ),
    (
        pa.map_(pa.string(), pa.int32()),
        pa.map_(pa.string(), pa.int64()),
        [([("a", 1)], [("a", 1)]), (None, None)],
    ),
    (
        pa.struct([pa.field("a", pa.int32()), pa.field("b", pa.string())]),
        pa.struct([pa.field("c", pa.string()), pa.field("a", pa.int64())]),
        [
            ({"a": 1, "b": None}, {"c": None, "a": 1}),
            ({"a": 1, "b": "lost"}, "<unknown_field>"),
            (None, None),
        ],
    ),
    (
        pa.struct([pa.field("a", pa.int32())]),
        pa.struct([pa.field("a", pa.int32(), nullable=False)]),
        [({"a": 1}, {"a": 1}), ({"a": None}, "<required_field_missing>"), (None, None)],
    ),
]


@pytest.mark.parametrize(
    ("writer", "table", "values"), CASES, ids=[f"{a}→{b}" for a, b, _ in CASES]
)
def test_a_value_fits_exactly_or_its_row_says_why_not(
    writer: pa.DataType, table: pa.DataType, values: list[tuple[Any, Any]]
) -> None:
    assert fit([before for before, _ in values], writer, table) == [after for _, after in values]


def test_a_number_with_a_time_format_is_a_timestamp() -> None:
    expected = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert fit([1000], pa.int64(), TIMESTAMPTZ, x="epoch_ms") == [expected]
    assert fit([1000], pa.int64(), TIMESTAMPTZ) == ["<wrong_type>"]


def test_what_the_writer_lacks_is_null_or_a_fault_where_it_is_required() -> None:
    rows = pa.RecordBatch.from_arrays([pa.array([1, 2])], names=["a"])
    table = pa.schema([pa.field("b", pa.string()), pa.field("a", pa.int64())])
    assert conform(rows, table, {})[0].to_pylist() == [{"b": None, "a": 1}, {"b": None, "a": 2}]
    required = pa.schema([pa.field("b", pa.string(), nullable=False), pa.field("a", pa.int64())])
    assert set(conform(rows, required, {})[1]) == {0, 1}


def test_a_table_grows_by_what_it_can_and_keeps_what_it_has() -> None:
    table = pa.schema(
        [pa.field("a", pa.int32()), pa.field("s", pa.struct([pa.field("b", pa.int32())]))]
    )
    writer = pa.schema(
        [
            pa.field("A", pa.int32()),
            pa.field("a", pa.int64()),
            pa.field("_Kafka", pa.int64()),
            pa.field("s", pa.struct([pa.field("c", pa.string()), pa.field("b", pa.string())])),
            pa.field("new", pa.list_(pa.field("element", pa.int32()))),
        ]
    )
    wanted = grown(table, writer)
    assert wanted == pa.schema(
        [
            pa.field("a", pa.int64()),
            pa.field("s", pa.struct([pa.field("b", pa.int32()), pa.field("c", pa.string())])),
            pa.field("new", pa.list_(pa.field("element", pa.int32()))),
        ]
    )
    assert grown(wanted, writer) is wanted
