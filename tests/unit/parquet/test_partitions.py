"""Rows of many Iceberg partitions.

Goal: every row lands in exactly one file, that of its partition; order within a partition is kept;
handles and memory stay bounded however many partitions there are.
Method: write with plain Arrow functions as transforms and look into every file.
"""

import math
import os
import sys
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from k2i_core.errors import IncompatibleSchemaError
from k2i_core.parquet.partitions import split
from k2i_core.records import WrittenFile
from k2i_core.write_target import PartitionField, WriteLimits
from tests.unit.parquet.memory_store import MemoryStore, rows_with, with_field_ids


def identity(name: str, *path: str) -> PartitionField:
    return PartitionField(name, path or (name,), lambda column: column)


def day(name: str) -> PartitionField:
    return PartitionField(f"{name}_day", (name,), lambda column: pc.floor_temporal(
        column, unit="day").cast(pa.date32()))  # fmt: skip


def void(name: str) -> PartitionField:
    return PartitionField(
        f"{name}_void", (name,), lambda column: pa.nulls(len(column), column.type)
    )


def write(
    store: MemoryStore, fields: tuple[PartitionField, ...], *batches: pa.RecordBatch, **changes
) -> tuple[WrittenFile, ...]:
    schema = with_field_ids(batches[0].schema)
    return store.write(store.target(schema, partition_fields=fields, **changes), *batches)


def test_another_thread_may_ask_how_much_waits_while_partitions_are_added() -> None:
    store = MemoryStore()
    rows = rows_with(0, key=pa.array(range(3_000)))
    target = store.target(with_field_ids(rows.schema), partition_fields=(identity("key"),))
    writer = store.writer(replace(target, limits=WriteLimits(row_group_rows_max=3_000)))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as lane:
            writing = lane.submit(writer.write, rows)
            while not writing.done():
                assert writer.buffered_bytes >= 0
            writing.result()
    finally:
        sys.setswitchinterval(interval)

    assert writer.buffered_bytes > 0


def test_every_row_is_in_the_file_of_its_partition_and_in_order() -> None:
    store = MemoryStore()
    batches = [
        rows_with(
            start,
            key=pa.array([n * 7 % 5 for n in range(start, start + 100)]),
            n=pa.array(range(start, start + 100)),
        )
        for start in range(0, 1_000, 100)
    ]

    files = write(store, (identity("key"),), *batches)

    assert sorted(file.iceberg_partition for file in files) == [(0,), (1,), (2,), (3,), (4,)]
    for file in files:
        rows = store.rows_of(file)
        (key,) = file.iceberg_partition
        assert [row["n"] for row in rows] == [n for n in range(1_000) if n * 7 % 5 == key]
        assert [row["_kafka"]["offset"] for row in rows] == [row["n"] for row in rows]


def test_several_fields_make_one_partition_each_pair() -> None:
    store = MemoryStore()
    rows = rows_with(
        0,
        a=pa.array(["x", "y", "x", None, "x", None]),
        b=pa.array([1, 1, 2, 1, 1, None], pa.int32()),
    )

    files = write(store, (identity("a"), identity("b")), rows)

    counts = {file.iceberg_partition: file.row_count for file in files}
    assert counts == {("x", 1): 2, ("y", 1): 1, ("x", 2): 1, (None, 1): 1, (None, None): 1}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([True, None, False]), {True, None, False}),
        (pa.array([0, 86_400_000_000], pa.timestamp("us")), {0, 86_400_000_000}),
        (pa.array([-1, None], pa.timestamp("us", "UTC")), {-1, None}),
        (pa.array([19_000, -1], pa.date32()), {19_000, -1}),
        (pa.array([1, 2], pa.time64("us")), {1, 2}),
        (pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)), {Decimal("1.50"), None}),
        (pa.array([b"ab", b""]), {b"ab", b""}),
        (pa.array([b"abcd", None], pa.binary(4)), {b"abcd", None}),
        (pa.array([uuid.UUID(int=7).bytes, None], pa.uuid()), {uuid.UUID(int=7).bytes, None}),
        (pa.array(["", "ü", None]), {"", "ü", None}),
        (pa.array([1.5, None]), {1.5, None}),
    ],
)
def test_partition_values_are_in_icebergs_representation(column, expected) -> None:
    files = write(MemoryStore(), (identity("c"),), rows_with(0, c=column))

    assert {file.iceberg_partition[0] for file in files} == expected
    assert len(files) == len(expected)


def test_zeros_of_both_signs_and_nan_are_partitions_of_their_own() -> None:
    column = pa.array([0.0, -0.0, math.nan, 0.0, math.nan])
    rows = rows_with(0, c=column)

    files = write(MemoryStore(), (identity("c"),), rows, rows)

    assert sorted(repr(file.iceberg_partition) for file in files) == ["(-0.0,)", "(0.0,)", "(nan,)"]


def test_day_is_days_since_the_epoch_and_void_is_null() -> None:
    rows = rows_with(0, t=pa.array([0, 86_400_000_000, -1], pa.timestamp("us", "UTC")))

    files = write(MemoryStore(), (day("t"), void("t")), rows)

    assert {file.iceberg_partition for file in files} == {(0, None), (1, None), (-1, None)}


def test_a_source_within_a_struct_is_null_where_the_struct_is() -> None:
    customer = pa.array([{"id": 1}, None, {"id": None}], pa.struct([("id", pa.int64())]))

    files = write(
        MemoryStore(), (identity("id", "customer", "id"),), rows_with(0, customer=customer)
    )

    counts = {file.iceberg_partition: file.row_count for file in files}
    assert counts == {(1,): 1, (None,): 2}


def test_nested_columns_survive_the_split() -> None:
    store = MemoryStore()
    item = pa.struct([("a", pa.int64())])
    nested = [None, [], [None], [{"a": None}], [{"a": 1}, None]]
    rows = rows_with(
        0,
        key=pa.array([0, 1, 0, 1, 0]),
        items=pa.array(nested, pa.list_(item)),
        named=pa.array(
            [None, [], [("k", None)], [("k", {"a": 2})], []], pa.map_(pa.string(), item)
        ),
        id=pa.array([uuid.UUID(int=n).bytes for n in range(5)], pa.uuid()),
    )

    files = write(store, (identity("key"),), rows)

    expected = {row["_kafka"]["offset"]: row for row in rows.to_pylist()}
    for row in (row for file in files for row in store.rows_of(file)):
        assert row == expected[row["_kafka"]["offset"]]


def test_a_value_that_has_no_partition_stops_the_table_and_is_not_quoted() -> None:
    lowest = pa.array([Decimal("-9999999.99")], pa.decimal128(9, 2))
    too_low = pa.array([-(10**9)], pa.int64()).cast(pa.decimal128(19, 0)).cast(pa.decimal128(21, 2))
    (_, buffer) = too_low.buffers()
    outside = pa.Array.from_buffers(pa.decimal128(9, 2), 1, [None, buffer])
    fields = (PartitionField("p", ("price",), lambda _column: outside),)

    with pytest.raises(IncompatibleSchemaError, match="column=price") as caught:
        write(MemoryStore(), fields, rows_with(0, price=lowest))

    assert "9999" not in str(caught.value)


def test_a_transform_that_fails_stops_the_table() -> None:
    def fail(_column: pa.Array) -> pa.Array:
        message = "out of range"
        raise OverflowError(message)

    with pytest.raises(IncompatibleSchemaError, match="field=p"):
        write(MemoryStore(), (PartitionField("p", ("n",), fail),), rows_with(0, n=pa.array([1])))


def test_open_files_are_bounded_and_no_row_is_lost_by_it() -> None:
    store = MemoryStore()
    limits = WriteLimits(row_group_rows_max=50, buffered_bytes_max=20_000, open_files_max=3)
    batches = [
        rows_with(start, key=pa.array([n % 20 for n in range(50)])) for start in range(0, 5_000, 50)
    ]

    files = write(store, (identity("key"),), *batches, limits=limits)

    assert store.open_count_max == 3
    offsets = Counter(row["_kafka"]["offset"] for f in files for row in store.rows_of(f))
    assert offsets == Counter(range(5_000))


def test_the_file_that_was_written_to_last_stays_open() -> None:
    store = MemoryStore()
    limits = WriteLimits(row_group_rows_max=10, open_files_max=2)

    def only(key: int, start: int) -> pa.RecordBatch:
        return rows_with(start, key=pa.array([key] * 10))

    batches = [only(key, n * 10) for n, key in enumerate([0, 1, 0, 2, 0, 3, 0])]
    files = write(store, (identity("key"),), *batches, limits=limits)

    assert Counter(file.iceberg_partition for file in files) == {(k,): 1 for k in range(4)}


def test_waiting_rows_never_exceed_the_limit() -> None:
    store = MemoryStore()
    limits = WriteLimits(row_group_rows_max=1_000, buffered_bytes_max=100_000)
    first = rows_with(0, key=pa.array([n % 40 for n in range(500)]))
    target = store.target(
        with_field_ids(first.schema), partition_fields=(identity("key"),), limits=limits
    )
    writer = store.writer(target)

    for start in range(0, 20_000, 500):
        writer.write(rows_with(start, key=pa.array([n % 40 for n in range(500)])))
        assert writer.buffered_bytes <= 100_000

    assert sum(file.row_count for file in writer.close()) == 20_000


def test_a_partitions_rows_do_not_keep_other_rows_in_memory() -> None:
    rows = rows_with(
        0, key=pa.array([1] + [0] * 9_999), payload=pa.array([os.urandom(100)] * 10_000)
    )

    parts = dict(split(rows, (identity("key"),)))

    assert parts[(1,)].num_rows == 1
    assert parts[(1,)].get_total_buffer_size() < 10_000


def test_one_partition_alone_is_passed_on_without_a_copy() -> None:
    rows = rows_with(0, key=pa.array([7] * 100))

    ((iceberg_partition, passed),) = split(rows, (identity("key"),))

    assert iceberg_partition == (7,)
    assert passed is rows


def test_each_partition_rolls_by_itself() -> None:
    store = MemoryStore()
    batches = [
        rows_with(
            start,
            key=pa.array([n % 2 for n in range(1_000)]),
            payload=pa.array([os.urandom(100) for _ in range(1_000)]),
        )
        for start in range(0, 10_000, 1_000)
    ]
    limits = WriteLimits(row_group_rows_max=500)

    files = write(store, (identity("key"),), *batches, target_file_bytes=200_000, limits=limits)

    assert Counter(file.iceberg_partition for file in files) == {(0,): 3, (1,): 3}
    assert sum(file.row_count for file in files) == 10_000
