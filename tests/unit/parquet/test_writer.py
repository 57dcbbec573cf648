"""The rolling writer on one open file.

Goal: every row arrives once, in order, in files of the right size, with the facts a commit needs,
and memory stays bounded; a failing store ends the generation and nothing else.
Method: write to a store in memory, which can fail at any call, and read the files back with Arrow.
"""

import errno
import gc
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2i_core.errors import ErrorKind, IncompatibleSchemaError, UnavailableError
from k2i_core.parquet.writer import RollingWriter
from k2i_core.write_target import WriteLimits
from tests.unit.parquet.memory_store import (
    FixedClock,
    MemoryStore,
    integers,
    rows_with,
    with_field_ids,
)

MIB = 1024 * 1024


def incompressible(start: int, count: int, bytes_per_row: int = 100) -> pa.RecordBatch:
    payload = pa.array([os.urandom(bytes_per_row) for _ in range(count)], pa.binary())
    return rows_with(start, payload=payload)


def offsets_in(store: MemoryStore, files) -> list[int]:
    return [row["_kafka"]["offset"] for file in files for row in store.rows_of(file)]


def test_every_row_arrives_once_and_in_order() -> None:
    store = MemoryStore()
    batches = [integers(start, 700) for start in range(0, 7_000, 700)]

    files = store.write(store.target(with_field_ids(batches[0].schema)), *batches)

    assert [row["id"] for row in store.rows_of(files[0])] == list(range(7_000))
    assert offsets_in(store, files) == list(range(7_000))


def test_a_file_comes_with_the_facts_a_commit_needs() -> None:
    store = MemoryStore()
    rows = integers(0, 10)

    (file,) = store.write(store.target(with_field_ids(rows.schema)), rows)

    assert file.path == "file-0"
    assert file.row_count == 10
    assert file.byte_count == len(store.contents["file-0"])
    assert file.iceberg_partition == ()
    assert (file.schema_id, file.spec_id, file.sort_order_id) == (3, 5, None)
    assert file.created_boot_seconds == 1234.5
    written = pq.read_metadata(pa.BufferReader(store.contents["file-0"]))
    assert file.footer.equals(written)


def test_nothing_written_makes_no_file() -> None:
    store = MemoryStore()
    target = store.target(with_field_ids(integers(0, 1).schema))

    assert store.write(target, integers(0, 0)) == ()
    assert store.events == []


def test_field_ids_reach_every_nested_field() -> None:
    store = MemoryStore()
    schema = with_field_ids(integers(0, 1).schema)

    (file,) = store.write(store.target(schema), integers(0, 3))

    read = store.table_of(file).schema
    assert read.field("id").metadata[b"PARQUET:field_id"] == b"1"
    headers = read.field("_kafka").type.field("headers")
    assert headers.metadata[b"PARQUET:field_id"] == b"8"
    assert headers.type.value_field.metadata[b"PARQUET:field_id"] == b"9"
    assert headers.type.value_field.type.field("value").metadata[b"PARQUET:field_id"] == b"11"


def test_small_batches_are_gathered_into_row_groups() -> None:
    store = MemoryStore()
    batches = [integers(start, 90) for start in range(0, 3_600, 90)]
    limits = WriteLimits(row_group_rows_max=1_000)

    (file,) = store.write(store.target(with_field_ids(batches[0].schema), limits=limits), *batches)

    sizes = [file.footer.row_group(n).num_rows for n in range(file.footer.num_row_groups)]
    assert sum(sizes) == 3_600
    assert max(sizes) <= 1_000
    assert min(sizes[:-1]) >= 500


def test_one_huge_batch_is_cut_into_row_groups() -> None:
    store = MemoryStore()
    limits = WriteLimits(row_group_rows_max=1_000)
    target = store.target(with_field_ids(integers(0, 1).schema), limits=limits)

    (file,) = store.write(target, integers(0, 2_500))

    sizes = [file.footer.row_group(n).num_rows for n in range(file.footer.num_row_groups)]
    assert sum(sizes) == 2_500
    assert max(sizes) <= 1_000


def test_wide_rows_make_row_groups_of_few_rows() -> None:
    store = MemoryStore()
    limits = WriteLimits(row_group_bytes_max=MIB)
    batches = [incompressible(start, 10, bytes_per_row=100_000) for start in range(0, 60, 10)]

    (file,) = store.write(store.target(with_field_ids(batches[0].schema), limits=limits), *batches)

    sizes = [file.footer.row_group(n).num_rows for n in range(file.footer.num_row_groups)]
    assert max(sizes) <= 11


@pytest.mark.parametrize("is_compressible", [True, False])
def test_files_are_cut_at_their_true_size(is_compressible: bool) -> None:
    store = MemoryStore()
    if is_compressible:
        batches = [
            rows_with(n, text=pa.array([os.urandom(10).hex() * 10 for _ in range(2_000)]))
            for n in range(0, 100_000, 2_000)
        ]
    else:
        batches = [incompressible(start, 2_000) for start in range(0, 40_000, 2_000)]
    target_bytes = 500_000
    target = store.target(with_field_ids(batches[0].schema), target_file_bytes=target_bytes)

    files = store.write(target, *batches)

    assert len(files) > 2
    for file in files[:-1]:
        assert target_bytes * 0.85 <= file.byte_count <= target_bytes * 1.15
    assert files[-1].byte_count <= target_bytes * 1.15
    assert sum(file.row_count for file in files) == sum(batch.num_rows for batch in batches)


def test_a_path_is_announced_before_its_file_is_created() -> None:
    store = MemoryStore()
    batches = [incompressible(start, 1_000) for start in range(0, 4_000, 1_000)]
    target = store.target(with_field_ids(batches[0].schema), target_file_bytes=100_000)

    files = store.write(target, *batches)

    assert len(files) > 1
    expected = [(event, file.path) for file in files for event in ("announced", "created")]
    assert store.events == expected


def test_no_file_is_created_when_its_path_cannot_be_announced() -> None:
    store = MemoryStore()

    def refuse(path: str) -> None:
        message = f"the transaction log is full path={path}"
        raise UnavailableError(message)

    target = store.target(with_field_ids(integers(0, 1).schema))
    writer = RollingWriter(target, FixedClock(), refuse)
    writer.write(integers(0, 5))

    with pytest.raises(UnavailableError):
        writer.close()
    assert store.events == []


def test_rows_wait_in_memory_only_until_they_are_worth_a_row_group() -> None:
    store = MemoryStore()
    limits = WriteLimits(row_group_rows_max=1_000)
    writer = store.writer(store.target(with_field_ids(integers(0, 1).schema), limits=limits))

    writer.write(integers(0, 600))
    assert writer.buffered_bytes > 0
    writer.write(integers(600, 600))
    assert writer.buffered_bytes == 0


@pytest.mark.parametrize("codec", ["zstd", "snappy", "gzip", "lz4", "brotli", "none"])
def test_every_codec_is_written_and_read(codec: str) -> None:
    store = MemoryStore()
    level = 1 if codec in ("zstd", "gzip", "brotli") else None
    schema = with_field_ids(integers(0, 1).schema)

    (file,) = store.write(store.target(schema, codec=codec, codec_level=level), integers(0, 500))

    expected = {"none": "UNCOMPRESSED"}.get(codec, codec.upper())
    group = file.footer.row_group(0)
    assert {group.column(n).compression for n in range(group.num_columns)} == {expected}
    assert offsets_in(store, [file]) == list(range(500))


def test_bounds_and_null_counts_are_in_the_footer() -> None:
    store = MemoryStore()
    rows = rows_with(0, id=pa.array([7, None, 3], pa.int64()))

    (file,) = store.write(store.target(with_field_ids(rows.schema)), rows)

    statistics = file.footer.row_group(0).column(0).statistics
    assert (statistics.min, statistics.max, statistics.null_count) == (3, 7, 1)


def test_nulls_and_empties_in_nested_columns_stay_apart() -> None:
    store = MemoryStore()
    item = pa.struct([("a", pa.int64()), ("tags", pa.list_(pa.string()))])
    values = {
        "items": pa.array([None, [], [None], [{"a": None, "tags": None}], [{"a": 1, "tags": []}]],
                          pa.list_(item)),
        "named": pa.array([None, [], [("x", None)], [("y", {"a": 2, "tags": [None]})], []],
                          pa.map_(pa.string(), item)),
        "one": pa.array([None, {"a": None, "tags": None}, {"a": 1, "tags": []},
                         {"a": 2, "tags": [None, "z"]}, None], item),
    }  # fmt: skip
    rows = rows_with(0, **values)

    (file,) = store.write(store.target(with_field_ids(rows.schema)), rows)

    read = store.table_of(file)
    for name, column in values.items():
        assert read.column(name).to_pylist() == column.to_pylist()


@pytest.mark.parametrize(
    ("fault", "action"),
    [
        ({"fails_on_open": True}, "create"),
        ({"fail_write_after_bytes": 0}, "create"),
        ({"fail_write_after_bytes": 4}, "write"),
        ({"fails_on_close": True}, "finish"),
    ],
)
def test_a_failing_store_is_unavailable(fault: dict, action: str) -> None:
    store = MemoryStore(**fault)
    writer = store.writer(store.target(with_field_ids(integers(0, 1).schema)))
    writer.write(integers(0, 5))

    with pytest.raises(UnavailableError, match=f"could not {action} path=file-0") as caught:
        writer.close()

    assert caught.value.kind is ErrorKind.STORAGE_UNAVAILABLE
    assert "error=ENOSPC" in str(caught.value)
    assert "free space" in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    writer.abandon()
    assert store.open_paths == set()


def test_a_file_that_exists_already_is_never_overwritten() -> None:
    store = MemoryStore(fails_on_open=True, make_error=lambda: FileExistsError(errno.EEXIST, "x"))
    writer = store.writer(store.target(with_field_ids(integers(0, 1).schema)))
    writer.write(integers(0, 5))

    with pytest.raises(UnavailableError, match="EEXIST"):
        writer.close()


def test_a_store_that_fails_in_the_middle_fails_the_write() -> None:
    store = MemoryStore(fail_write_after_bytes=50_000)
    limits = WriteLimits(row_group_rows_max=500)
    schema = with_field_ids(incompressible(0, 1).schema)
    writer = store.writer(store.target(schema, limits=limits))

    writer.write(incompressible(0, 400))
    with pytest.raises(UnavailableError, match="could not write"):
        writer.write(incompressible(400, 5_000))

    with pytest.raises(AssertionError):
        writer.write(incompressible(0, 1))
    with pytest.raises(AssertionError):
        writer.close()
    writer.abandon()


def test_an_abandoned_file_has_no_footer(monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    store = MemoryStore()
    limits = WriteLimits(row_group_rows_max=100)
    writer = store.writer(store.target(with_field_ids(integers(0, 1).schema), limits=limits))
    writer.write(integers(0, 1_000))

    writer.abandon()
    writer.abandon()
    del writer
    gc.collect()

    assert store.open_paths == set()
    assert not store.contents["file-0"].endswith(b"PAR1")
    assert complaints == []


def test_nothing_can_be_written_after_the_end() -> None:
    store = MemoryStore()
    target = store.target(with_field_ids(integers(0, 1).schema))
    closed, abandoned = store.writer(target), store.writer(target)

    closed.close()
    abandoned.abandon()

    for writer in (closed, abandoned):
        with pytest.raises(AssertionError):
            writer.write(integers(0, 1))


def test_abandon_keeps_quiet_when_the_store_fails_again() -> None:
    store = MemoryStore(fails_on_close=True)
    limits = WriteLimits(row_group_rows_max=100)
    writer = store.writer(store.target(with_field_ids(integers(0, 1).schema), limits=limits))
    writer.write(integers(0, 1_000))

    writer.abandon()


def test_a_null_in_a_required_nested_field_is_refused() -> None:
    store = MemoryStore()
    schema = with_field_ids(
        pa.schema([pa.field("a", pa.list_(pa.field("element", pa.int64(), nullable=False)))])
    )
    rows = pa.RecordBatch.from_pydict({"a": pa.array([[1, None]], pa.list_(pa.int64()))})
    writer = store.writer(store.target(schema))
    writer.write(rows)

    with pytest.raises(IncompatibleSchemaError, match="required"):
        writer.close()
    writer.abandon()
