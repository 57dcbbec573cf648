"""Rows in the table's sort order.

Goal: a file that claims a sort order is in that order, by Iceberg's rules, whatever its types.
Method: sort shuffled columns and compare; write files and read them back.
"""

import math
import os
import random
import struct
import uuid
from collections import Counter
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from k2i_core.parquet.sorting import sort_rows
from k2i_core.write_target import PartitionField, SortKey, WriteLimits
from tests.unit.parquet.memory_store import MemoryStore, rows_with, with_field_ids

NAN = math.nan


def sorted_values(column: pa.Array, **key) -> list:
    rows = pa.RecordBatch.from_pydict({"c": column})
    return sort_rows(rows, (SortKey(("c",), **key),)).column(0).to_pylist()


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({}, [None, 1, 2, 3]),
        ({"nulls_first": False}, [1, 2, 3, None]),
        ({"descending": True}, [None, 3, 2, 1]),
        ({"descending": True, "nulls_first": False}, [3, 2, 1, None]),
    ],
)
def test_direction_and_nulls_are_independent(key: dict, expected: list) -> None:
    assert sorted_values(pa.array([2, None, 3, 1]), **key) == expected


@pytest.mark.parametrize("float_type", [pa.float32(), pa.float64()])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("nulls_first", [False, True])
def test_floats_are_in_total_order(float_type, descending: bool, nulls_first: bool) -> None:
    ordered = [-math.inf, -2.5, -0.0, 0.0, 0.5, 3.0, math.inf, NAN]
    shuffled = [None, *random.Random(7).sample(ordered, len(ordered))]

    values = sorted_values(
        pa.array(shuffled, float_type), descending=descending, nulls_first=nulls_first
    )

    expected = list(reversed(ordered)) if descending else list(ordered)
    expected.insert(0 if nulls_first else len(expected), None)
    assert [repr(value) for value in values] == [repr(value) for value in expected]


def test_a_negative_nan_is_below_all() -> None:
    (negative_nan,) = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0000))

    values = sorted_values(pa.array([-math.inf, negative_nan, 1.0]))

    assert math.isnan(values[0])
    assert values[1:] == [-math.inf, 1.0]


@pytest.mark.parametrize(
    "ordered",
    [
        pa.array([False, True]),
        pa.array([-5, 0, 9], pa.int32()),
        pa.array([Decimal("-1.00"), Decimal("0.10"), Decimal("7.00")], pa.decimal128(38, 2)),
        pa.array([-1, 0, 1], pa.date32()),
        pa.array([0, 1], pa.time64("us")),
        pa.array([-1, 1], pa.timestamp("us", "UTC")),
        pa.array(["", "a", "b", "ä", "\U0001f600"]),
        pa.array([b"", b"\x00", b"\x7f", b"\xff"]),
        pa.array([b"\x00\x01", b"\xff\x00"], pa.binary(2)),
        pa.array([uuid.UUID(int=1).bytes, uuid.UUID(int=2**127).bytes], pa.uuid()),
    ],
    ids=lambda column: str(column.type),
)
def test_every_type_that_can_be_sorted_is(ordered: pa.Array) -> None:
    shuffled = ordered.take(pa.array(list(reversed(range(len(ordered))))))

    assert sorted_values(shuffled) == ordered.to_pylist()


def test_later_keys_decide_ties_and_equal_rows_keep_their_order() -> None:
    rows = rows_with(0, a=pa.array([1, 1, 0, 1, 0]), b=pa.array(["x", "y", "x", "x", None]))

    keys = (SortKey(("a",)), SortKey(("b",), descending=True, nulls_first=False))
    sorted_rows = sort_rows(rows, keys).to_pylist()

    assert [row["_kafka"]["offset"] for row in sorted_rows] == [2, 4, 1, 0, 3]


def test_a_key_may_be_transformed_or_nested() -> None:
    rows = rows_with(
        0, s=pa.array([{"n": 12}, None, {"n": 25}, {"n": 3}], pa.struct([("n", pa.int64())]))
    )
    tens = SortKey(("s", "n"), descending=True, transform=lambda column: pc.divide(column, 10))

    sorted_rows = sort_rows(rows, (tens,)).to_pylist()

    assert [row["_kafka"]["offset"] for row in sorted_rows] == [1, 2, 0, 3]


def test_a_file_is_sorted_as_a_whole_and_says_so() -> None:
    store = MemoryStore()
    numbers = random.Random(1).sample(range(10_000), 10_000)
    batches = [
        rows_with(start, n=pa.array(numbers[start : start + 500]))
        for start in range(0, 10_000, 500)
    ]
    target = store.target(
        with_field_ids(batches[0].schema),
        sort_keys=(SortKey(("n",), descending=True, nulls_first=False),),
        sort_order_id=4,
        limits=WriteLimits(row_group_rows_max=1_000),
    )

    (file,) = store.write(target, *batches)

    assert [row["n"] for row in store.rows_of(file)] == list(reversed(range(10_000)))
    assert file.sort_order_id == 4
    assert file.footer.num_row_groups == 10
    assert file.footer.row_group(0).sorting_columns == (
        pq.SortingColumn(0, descending=True, nulls_first=False),
    )


def test_parquet_is_told_only_the_keys_that_are_columns() -> None:
    store = MemoryStore()
    rows = rows_with(0, a=pa.array([1]), s=pa.array([{"x": 1, "y": 2}]))
    keys = (
        SortKey(("s", "y")),
        SortKey(("a",), transform=lambda column: column),
        SortKey(("s", "x")),
    )

    (file,) = store.write(
        store.target(with_field_ids(rows.schema), sort_keys=keys, sort_order_id=1), rows
    )

    assert file.footer.row_group(0).sorting_columns == (
        pq.SortingColumn(2, descending=False, nulls_first=True),
    )


def random_rows(start: int, count: int) -> pa.RecordBatch:
    return rows_with(
        start,
        n=pa.array([int.from_bytes(os.urandom(4)) for _ in range(count)]),
        payload=pa.array([os.urandom(30).hex() for _ in range(count)]),
    )


def test_sorted_files_are_cut_at_their_true_size() -> None:
    store = MemoryStore()
    batches = [random_rows(start, 1_000) for start in range(0, 60_000, 1_000)]
    target = store.target(
        with_field_ids(batches[0].schema),
        sort_keys=(SortKey(("n",)),),
        sort_order_id=1,
        target_file_bytes=500_000,
    )

    files = store.write(target, *batches)

    assert len(files) > 2
    assert all(425_000 <= file.byte_count <= 575_000 for file in files[:-1])
    assert sum(file.row_count for file in files) == 60_000
    for file in files:
        values = [row["n"] for row in store.rows_of(file)]
        assert values == sorted(values)


def test_memory_is_bounded_at_the_price_of_smaller_sorted_files() -> None:
    store = MemoryStore()
    first = random_rows(0, 1_000)
    target = store.target(
        with_field_ids(first.schema),
        sort_keys=(SortKey(("n",)),),
        sort_order_id=1,
        limits=WriteLimits(buffered_bytes_max=first.nbytes * 5),
    )
    writer = store.writer(target)

    for start in range(0, 20_000, 1_000):
        writer.write(random_rows(start, 1_000))
        assert writer.buffered_bytes <= first.nbytes * 5
    files = writer.close()

    assert 3 <= len(files) <= 7
    for file in files:
        values = [row["n"] for row in store.rows_of(file)]
        assert values == sorted(values)


def test_each_partition_is_sorted() -> None:
    store = MemoryStore()
    batches = [random_rows(start, 1_000) for start in range(0, 5_000, 1_000)]
    parity = PartitionField(
        "parity", ("n",), lambda column: pc.bit_wise_and(column, pa.scalar(1, pa.int64()))
    )
    target = store.target(
        with_field_ids(batches[0].schema),
        partition_fields=(parity,),
        sort_keys=(SortKey(("n",)),),
        sort_order_id=1,
    )

    files = store.write(target, *batches)

    assert Counter(file.iceberg_partition for file in files) == {(0,): 1, (1,): 1}
    for file in files:
        values = [row["n"] for row in store.rows_of(file)]
        assert values == sorted(values)
        assert {value % 2 for value in values} == {file.iceberg_partition[0]}
