"""Many small files become few, and nothing else changes.

Goal: after compaction every row is there once with every value, the checkpoint stands, three
readers agree, and files are few and in order. Method: real tables in SQLite catalogs, fed through
the real writer and the real commit loop, compacted by the real thing, and compared with what was
read before.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, DayTransform
from pyiceberg.types import DoubleType, IntegerType, LongType, StringType

from k2i_core.errors import ConfigError, CorruptionError, ErrorKind
from k2i_core.iceberg.operations import Gap, decide_accept_gap
from k2i_core.iceberg.tables import SortedBy, TableSettings, Transformed
from k2i_core.iceberg.types import arrow_schema
from k2i_core.maintenance.compaction import compact_table
from k2i_core.maintenance.rows_proof import RowProof
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import DEAD_LETTER_SCHEMA
from tests.integration.maintenance.fed_table import (
    P0,
    ROWS,
    FedTable,
    options,
    orders,
    sqlite_properties,
)
from tests.integration.parquet.edge_rows import all_rows, all_types, to_batches
from tests.integration.parquet.iceberg_tables import storable_schema
from tests.integration.parquet.readers import READERS, normal_rows, read_with_duckdb

pytestmark = pytest.mark.filterwarnings(
    "ignore:Iceberg scan planning with the polars_iceberg plugin"
)

ORDERS = ("none", "table", "z_order")


@pytest.fixture
def fed(tmp_path: Path) -> FedTable:
    return FedTable(sqlite_properties(tmp_path))


def by_offset(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["_kafka"]["offset"])


def seen_by_all(table: Table) -> dict[str, list[dict[str, Any]]]:
    return {name: by_offset(read(table)) for name, read in READERS.items()}


def test_small_files_become_one_and_nothing_else_changes(fed: FedTable) -> None:
    for n in range(6):
        fed.commit(orders(n * 50, 50))
    before, entry = seen_by_all(fed.table), fed.entry

    report = compact_table(fed.maintained(), options())

    assert len(fed.files()) == 1
    assert seen_by_all(fed.table) == before
    after = fed.entry
    assert (after.checkpoint, after.totals, after.owners) == (
        entry.checkpoint,
        entry.totals,
        entry.owners,
    )
    assert report.figures["files_before"] == 6
    assert report.figures["files_after"] == 1
    assert report.figures["rows_checked"] == 300
    assert report.snapshot_ids == (fed.table.current_snapshot().snapshot_id,)
    fed.commit(orders(300, 10))
    assert fed.offsets() == list(range(310))


def test_a_second_run_finds_nothing_to_do(fed: FedTable) -> None:
    for n in range(4):
        fed.commit(orders(n * 50, 50))
    compact_table(fed.maintained(), options())
    location = fed.table.metadata_location

    report = compact_table(fed.maintained(), options())

    assert fed.table.metadata_location == location
    assert report.figures["groups"] == 0
    assert "worth it from 2" in report.notes[0]


def test_a_dry_run_only_tells(fed: FedTable) -> None:
    for n in range(4):
        fed.commit(orders(n * 50, 50))
    location = fed.table.metadata_location
    data = sorted(Path(fed.table.location().removeprefix("file://"), "data").iterdir())

    report = compact_table(fed.maintained(), options(), is_dry_run=True)

    assert report.figures["files_read"] == 4
    assert report.is_dry_run
    assert fed.table.metadata_location == location
    assert sorted(Path(fed.table.location().removeprefix("file://"), "data").iterdir()) == data


def test_nothing_is_begun_when_time_is_up(fed: FedTable) -> None:
    for n in range(4):
        fed.commit(orders(n * 50, 50))

    report = compact_table(fed.maintained(), options(max_seconds=0.0))

    assert len(fed.files()) == 4
    assert "time is up: 1" in " ".join(report.notes)


@pytest.mark.parametrize("order", ORDERS)
def test_every_type_null_and_nesting_survives(tmp_path: Path, order: str, seed: int) -> None:
    schema = all_types()
    fed = FedTable(
        sqlite_properties(tmp_path),
        rows=arrow_schema(schema),
        settings=TableSettings(sort_by=(SortedBy("double", descending=True), SortedBy("text"))),
    )
    batches = to_batches(all_rows(seed, 120), storable_schema(schema), 20)
    for batch in batches:
        fed.commit_batches([batch])
    before = {name: normal_rows(read(fed.table), schema) for name, read in READERS.items()}
    in_files = file_rows(fed.table)

    compact_table(
        fed.maintained(),
        options(order=order, z_order_by=("big", "text", "moment", "huge", "key", "single")),
    )

    assert len(fed.files()) == 1
    after = {name: normal_rows(read(fed.table), schema) for name, read in READERS.items()}
    assert after == before
    # What PyIceberg's reader shows as empty is null in the files, before and after.
    assert file_rows(fed.table) == in_files
    assert fed.files()[0].sort_order_id == (1 if order == "table" else None)


def file_rows(table: Table) -> dict[int, str]:
    files = [task.file.file_path.removeprefix("file://") for task in table.scan().plan_files()]
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    return {row["id"]: repr(row) for row in rows}


def test_columns_are_matched_by_id_whatever_they_were_called(tmp_path: Path) -> None:
    customer = pa.struct([pa.field("id", pa.int32()), pa.field("name", pa.string())])
    item = pa.struct([pa.field("sku", pa.string()), pa.field("n", pa.int32())])
    rows = pa.schema(
        [
            pa.field("id", pa.int32()),
            pa.field("city", pa.string()),
            pa.field("gone", pa.string()),
            pa.field("customer", customer),
            pa.field("items", pa.list_(item)),
            pa.field("stock", pa.map_(pa.string(), item)),
        ]
    )
    fed = FedTable(sqlite_properties(tmp_path), rows=rows)
    for _ in range(2):
        fed.commit(
            [
                {
                    "id": 1,
                    "city": "Bern",
                    "gone": "x",
                    "customer": {"id": 1, "name": "a"},
                    "items": [{"sku": "s", "n": 1}, None],
                    "stock": [("k", {"sku": "s", "n": 1}), ("l", None)],
                },
                {"id": 2, "customer": None, "items": None, "stock": None},
                {"id": 3, "customer": {"id": None, "name": None}, "items": [], "stock": []},
            ]
        )
    with fed.table.update_schema(allow_incompatible_changes=True) as update:
        update.rename_column("city", "town")
        update.delete_column("gone")
        update.add_column("gone", LongType())
        update.add_column("new", DoubleType())
        update.update_column("id", LongType())
        update.rename_column("customer.name", "full_name")
        update.add_column(("customer", "age"), IntegerType())
        update.delete_column("items.element.n")
        update.add_column(("items", "added"), StringType())
        update.rename_column("stock.value.sku", "code")
        update.add_column(("stock", "m"), IntegerType())
        update.move_first("items")
    fed.commit(
        [
            {
                "id": 2**40,
                "town": "Lima",
                "gone": 7,
                "new": 1.5,
                "customer": {"id": 4, "full_name": "b", "age": 5},
                "items": [{"sku": "t", "added": "u"}],
                "stock": [("k", {"code": "c", "n": 2, "m": 3})],
            }
        ]
    )
    before = seen_by_all(fed.table)

    report = compact_table(fed.maintained(), options())

    assert report.figures["files_after"] == 1
    after = seen_by_all(fed.table)
    assert after == before
    (file,) = fed.files()
    raw = pq.read_table(file.file_path.removeprefix("file://")).to_pylist()
    null_row, empty_row = raw[1], raw[2]
    assert (null_row["items"], null_row["stock"], null_row["customer"]) == (None, None, None)
    assert (empty_row["items"], empty_row["stock"]) == ([], [])
    assert empty_row["customer"] == {"id": None, "full_name": None, "age": None}
    assert raw[0]["items"] == [{"sku": "s", "added": None}, None]
    assert raw[0]["gone"] is None


def test_a_widened_column_of_the_same_name_is_proven_too(tmp_path: Path) -> None:
    rows = pa.schema([pa.field("id", pa.int32()), pa.field("ratio", pa.float32())])
    fed = FedTable(sqlite_properties(tmp_path), rows=rows)
    fed.commit([{"id": 1, "ratio": 0.1}])
    with fed.table.update_schema() as update:
        update.update_column("id", LongType())
        update.update_column("ratio", DoubleType())
    fed.commit([{"id": 2**40, "ratio": 0.1}])
    before = seen_by_all(fed.table)

    compact_table(fed.maintained(), options())

    assert len(fed.files()) == 1
    assert seen_by_all(fed.table) == before


def test_folders_that_look_like_columns_are_only_folders(tmp_path: Path) -> None:
    settings = TableSettings(partition_by=(Transformed("identity", "city"),))
    fed = FedTable(sqlite_properties(tmp_path), settings=settings)
    for n in range(3):
        fed.commit(orders(n * 20, 20))
    with fed.table.update_spec() as update:
        update.remove_field("city")
    before = seen_by_all(fed.table)

    report = compact_table(fed.maintained(), options())

    assert report.figures["files_read"] == 12
    assert {file.spec_id for file in fed.files()} == {fed.table.spec().spec_id}
    assert seen_by_all(fed.table) == before


def test_no_rows_at_all_are_proven(tmp_path: Path) -> None:
    schema = arrow_schema(all_types())
    fed = FedTable(sqlite_properties(tmp_path), rows=schema)
    proof = RowProof(fed.table, arrow_schema(fed.table.schema()), 1 << 27)

    assert proof.check([], []) == 0
    proof.close()


PARTITIONED = TableSettings(
    partition_by=(
        Transformed("day", "at"),
        Transformed("bucket", "id", 4),
        Transformed("truncate", "city", 1),
        Transformed("identity", "flag"),
    ),
    sort_by=(SortedBy("at", descending=True), SortedBy("id", nulls_first=False)),
)
DAY_US = 86_400_000_000


def timed(start: int, count: int, days: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "id": None if n % 11 == 0 else n % 40,
            "city": ("Bern", "Lima", None, "Bonn")[n % 4],
            "flag": (True, False, None)[n % 3],
            "at": None if n % 17 == 0 else (n % days) * DAY_US + n,
        }
        for n in range(start, start + count)
    ]


TIMED = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("city", pa.string()),
        pa.field("flag", pa.bool_()),
        pa.field("at", pa.timestamp("us", tz="UTC")),
    ]
)


@pytest.mark.parametrize("order", ORDERS)
def test_each_iceberg_partition_keeps_its_own_files(tmp_path: Path, order: str) -> None:
    fed = FedTable(sqlite_properties(tmp_path), rows=TIMED, settings=PARTITIONED)
    for n in range(4):
        fed.commit(timed(n * 200, 200))
    before = seen_by_all(fed.table)
    partitions = {str(file.partition) for file in fed.files()}

    report = compact_table(fed.maintained(), options(order=order, z_order_by=("id", "at")))

    files = fed.files()
    assert len(files) == len(partitions) == report.figures["files_after"]
    assert {str(file.partition) for file in files} == partitions
    assert seen_by_all(fed.table) == before
    assert fed.table.scan("city = 'Lima' and id = 7").to_arrow().num_rows == sum(
        row["city"] == "Lima" and row["id"] == 7 for row in before["pyiceberg"]
    )


def test_files_of_an_old_spec_get_the_current_one(tmp_path: Path) -> None:
    fed = FedTable(sqlite_properties(tmp_path), rows=TIMED)
    fed.commit(timed(0, 100))
    with fed.table.update_spec() as update:
        update.add_field("at", DayTransform(), "at_day")
    fed.commit(timed(100, 100))
    with fed.table.update_spec() as update:
        update.add_field("id", BucketTransform(2), "id_bucket")
    fed.commit(timed(200, 100))
    before = seen_by_all(fed.table)

    report = compact_table(fed.maintained(), options(min_input_files=100))

    assert {file.spec_id for file in fed.files()} == {fed.table.spec().spec_id}
    assert report.figures["files_read"] == 4
    assert seen_by_all(fed.table) == before
    fed.commit(timed(300, 10))
    assert fed.offsets() == list(range(310))


@pytest.mark.parametrize("memory_bytes", [1 << 28, 1 << 18])
def test_rows_are_sorted_over_the_whole_group_however_little_memory_there_is(
    tmp_path: Path, memory_bytes: int
) -> None:
    settings = TableSettings(sort_by=(SortedBy("city"), SortedBy("id", descending=True)))
    fed = FedTable(sqlite_properties(tmp_path), settings=settings)
    for n in range(5):
        fed.commit(orders(n * 2000, 2000))

    compact_table(fed.maintained(), options(order="table", max_memory_bytes=memory_bytes))

    (file,) = fed.files()
    assert file.sort_order_id == 1
    rows = pq.read_table(file.file_path.removeprefix("file://"))
    seen = list(zip(rows["city"].to_pylist(), rows["id"].to_pylist(), strict=True))
    assert seen == sorted(seen, key=lambda row: (row[0] is not None, row[0] or "", -row[1]))
    assert fed.offsets() == list(range(10_000))


def test_along_the_z_curve_neighbours_are_near_in_every_column(tmp_path: Path) -> None:
    fed = FedTable(sqlite_properties(tmp_path))
    for n in range(4):
        fed.commit(
            [{"id": (i * 7919) % 5003, "amount": float(i % 997)} for i in range(n, 20_000, 4)]
        )

    compact_table(fed.maintained(), options(order="z_order", z_order_by=("id", "amount")))

    (file,) = fed.files()
    rows = pq.read_table(file.file_path.removeprefix("file://"))
    chunks = [rows.slice(start, 20_000 // 64) for start in range(0, 20_000, 20_000 // 64)]
    for column, width in (("id", 5003), ("amount", 997)):
        values = [chunk[column].to_pylist() for chunk in chunks]
        widths = [max(chunk) - min(chunk) for chunk in values]
        # Sorted by one of them, every chunk would have the other whole width.
        assert sum(widths) / len(widths) < 0.6 * width
    assert fed.offsets() == list(range(20_000))


def drop_a_row(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows.slice(1)


def double_a_row(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows.take(pa.array([*range(rows.num_rows), 0]))


def swap_a_value(rows: pa.RecordBatch) -> pa.RecordBatch:
    column = rows["city"].to_pylist()
    column[0], column[1] = column[1], column[0]
    index = rows.schema.get_field_index("city")
    return rows.set_column(index, rows.schema.field(index), pa.array(column, pa.string()))


def null_to_empty(rows: pa.RecordBatch) -> pa.RecordBatch:
    index = rows.schema.get_field_index("tags")
    filled = [value or [] for value in rows["tags"].to_pylist()]
    return rows.set_column(index, rows.schema.field(index), pa.array(filled, rows["tags"].type))


@pytest.mark.parametrize("damage", [drop_a_row, double_a_row, swap_a_value, null_to_empty])
def test_damaged_output_is_never_committed_and_stays_as_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    rows = ROWS.append(pa.field("tags", pa.list_(pa.string())))
    fed = FedTable(sqlite_properties(tmp_path), rows=rows)
    for n in range(4):
        fed.commit(orders(n * 50, 50))
    location = fed.table.metadata_location
    write = RollingWriter.write
    monkeypatch.setattr(RollingWriter, "write", lambda self, given: write(self, damage(given)))

    with pytest.raises(CorruptionError) as caught:
        compact_table(fed.maintained(), options())

    assert caught.value.kind is ErrorKind.ROWS_CHANGED
    assert fed.table.metadata_location == location
    (evidence,) = (word for word in str(caught.value).split() if word.startswith("file://"))
    assert Path(evidence.removeprefix("file://")).exists()


def test_the_dead_letters_are_compacted_too(tmp_path: Path) -> None:
    fed = FedTable(sqlite_properties(tmp_path), identifier="sales.dead", is_dead_letters=True)
    letter = dict.fromkeys(("target_table", "stage", "error_class", "fingerprint", "message"), "x")
    assert set(letter) < set(DEAD_LETTER_SCHEMA.names)
    for _ in range(4):
        fed.commit([{**letter, "first_seen": 0, "value": b"\xff"}] * 3)
    before = seen_by_all(fed.table)

    compact_table(fed.maintained(), options(order="table"))

    assert len(fed.files()) == 1
    assert seen_by_all(fed.table) == before


def test_a_table_that_is_not_ours_is_refused(fed: FedTable) -> None:
    fed.catalog.create_table("sales.foreign", arrow_schema(fed.table.schema()))
    foreign = FedTable.__new__(FedTable)
    foreign.properties, foreign.identifier = fed.properties, "sales.foreign"
    foreign.clock = fed.clock

    with pytest.raises(ConfigError, match="no checkpoint"):
        compact_table(foreign.maintained(), options())


def test_files_without_field_ids_are_left_alone(fed: FedTable, tmp_path: Path) -> None:
    fed.commit(orders(0, 10))
    paths = [tmp_path / f"foreign-{n}.parquet" for n in range(2)]
    for path in paths:
        pq.write_table(pa.table({"id": pa.array([1], pa.int64())}), path)
    fed.table.add_files([f"file://{path}" for path in paths])

    report = compact_table(fed.maintained(), options())

    assert len(fed.files()) == 3
    assert "no field ids" in " ".join(report.notes)
    assert report.figures["groups"] == 0


def test_rows_of_a_deleted_topic_are_never_mixed_with_those_of_its_successor(
    fed: FedTable,
) -> None:
    for n in range(3):
        fed.commit(orders(n * 10, 10))
    gap = Gap(fed.entry.identity, (), {"orders": {P0: 0}})
    fed.committer.operate("accept-gap", lambda view, stored: decide_accept_gap(view, stored, gap))
    since = fed.entry.since_sequence_numbers["orders"]
    fed.owner, _ = fed.committer.claim(fed.owner.share, gap.identity, {}, fed.owner.epoch)
    fed.next_offset = 0
    for n in range(3):
        fed.commit(orders(n * 10, 10))

    compact_table(fed.maintained(), options())

    table = fed.table
    head = table.current_snapshot()
    entries = [e for m in head.manifests(table.io) for e in m.fetch_manifest_entry(table.io)]
    rows = {e.sequence_number >= since: e.data_file.record_count for e in entries}
    assert rows == {False: 30, True: 30}
    assert len(read_with_duckdb(table)) == 60
