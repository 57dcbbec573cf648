"""Every seeded fault is caught by the check that is named after it, and a sound table never is.

Goal: an audit of what is new finds each way in which files, manifests, summaries, rows and rewrites
can break the promise, goes on from where the last one ended, and repeats what it found until it is
settled.
Method: a real table, committed to as a worker does; one fault at a time is seeded past k2i.
"""

import json
import random
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import (
    DATA_FILE_TYPE,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestEntry,
    ManifestEntryStatus,
    write_manifest,
)
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, StringType

from k2i_core.audit.catalogue import CATALOGUE
from k2i_core.audit.delta_read import read_delta
from k2i_core.audit.table_delta import Chain
from k2i_core.iceberg.column_names import table_columns
from k2i_core.iceberg.tables import evolve
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.schema.identity import Identity, identified
from k2i_core.wiring.table_audit import audit_table
from tests.integration.audit.audited_table import P0, P1, AuditedTable, failed, faults, local


@pytest.fixture
def orders(tmp_path) -> AuditedTable:
    orders = AuditedTable(tmp_path)
    for _ in range(3):
        orders.commit()
    assert failed(orders.audit()) == set()
    return orders


def test_a_sound_table_passes_and_the_next_audit_sees_only_what_is_new(orders):
    orders.commit(10)
    found = orders.audit()

    assert (failed(found), found.holds, found.chain) == (set(), True, Chain.CONTINUED)
    assert (found.offset_count, found.file_count) == (20, 1)

    nothing_new = orders.audit()
    assert (failed(nothing_new), nothing_new.offset_count, nothing_new.file_count) == (set(), 0, 0)


def test_a_worker_that_commits_faster_than_an_audit_reads_does_not_disturb_it(tmp_path):
    orders = AuditedTable(
        tmp_path,
        monitoring={"unique_key": ["order_id"]},
        checks=[{"name": "known", "sql": "SELECT 1 FROM orders WHERE FALSE", "over": "table"}],
    )
    orders.commit()
    metadata = local(orders.table.metadata_location)

    def report(stage: str) -> None:
        for _ in range(12 if stage == "rows" else 0):
            orders.commit(1)

    found = audit_table(orders.pipeline, None, is_full=True, report=report)

    assert not metadata.exists()
    assert failed(found) == set()
    assert all("cannot" not in fault for answer in found.answers for fault in answer.faults)


def test_a_full_audit_passes_and_asks_everything(tmp_path):
    orders = AuditedTable(tmp_path, monitoring={"unique_key": ["order_id"]})
    orders.commit()
    found = orders.audit(is_full=True)

    assert failed(found) == set()
    assert {answer.question for answer in found.answers} == set(CATALOGUE)
    assert found.file_count == 1


def test_a_compaction_passes_and_so_does_what_is_appended_after_it(orders):
    orders.commit()
    orders.rewrite()
    orders.commit()
    found = orders.audit()

    assert failed(found) == set()
    assert found.offset_count == 160
    orders.commit()
    assert failed(orders.audit()) == set()
    assert failed(orders.audit(is_full=True)) == set()


def test_a_batch_that_was_doubled_within_new_offsets_is_found(orders):
    orders.commit()
    orders.append_elsewhere({P0: range(130, 140)})

    assert failed(orders.audit()) == {"row_counts", "no_duplicates"}
    assert failed(orders.audit()) == {"row_counts", "no_duplicates"}


def test_a_batch_of_offsets_that_were_audited_before_is_found(orders):
    orders.append_elsewhere({P0: range(10), P1: range(10)})
    found = orders.audit()

    assert failed(found) == {"no_duplicates"}
    assert faults(found, "no_duplicates") == (
        "orders/0[120,120): appended again, from below=10",
        "orders/1[120,120): appended again, from below=10",
    )


def test_a_row_beyond_the_checkpoint_is_found(orders):
    orders.append_elsewhere({P0: [5_000]})

    assert failed(orders.audit()) == {"no_strays"}


def test_a_gap_is_found(orders):
    orders.commit(40, rows={P0: [o for o in range(120, 160) if o != 133], P1: range(120, 160)})

    assert failed(orders.audit()) == {"row_counts", "claimed_counts"}


def test_a_gap_that_a_doubled_row_makes_up_for_is_found(orders):
    rows = [*(o for o in range(120, 160) if o != 133), 140]
    orders.commit(40, rows={P0: rows, P1: range(120, 160)})

    assert failed(orders.audit()) == {"no_duplicates"}


def test_a_missing_file_is_found_by_its_name(orders):
    orders.commit()
    path = orders.files()[-1].file_path
    local(path).unlink()
    found = orders.audit()

    assert failed(found) == {"files", "row_counts"}
    assert faults(found, "files") == (f"missing: {path}",)


def test_an_old_file_that_went_missing_is_found_by_a_full_audit(orders):
    local(orders.files()[0].file_path).unlink()

    assert failed(orders.audit()) == set()
    assert {"files", "second_reader"} <= failed(orders.audit(is_full=True))


def test_a_truncated_file_is_found(orders):
    orders.commit()
    path = local(orders.files()[-1].file_path)
    path.write_bytes(path.read_bytes()[:-30])

    assert failed(orders.audit()) == {"files", "row_counts"}


def test_a_file_of_the_right_size_with_a_broken_footer_is_found(orders):
    orders.commit()
    path = local(orders.files()[-1].file_path)
    content = path.read_bytes()
    path.write_bytes(content[:-40] + b"\0" * 40)
    found = orders.audit()

    assert failed(found) == {"footers", "row_counts"}
    assert str(path) in faults(found, "footers")[0]


def test_a_file_with_broken_rows_behind_a_good_footer_is_found(orders):
    orders.commit()
    orders.commit()
    path = local(orders.files()[-1].file_path)
    column = pq.read_metadata(path).row_group(0).column(5)
    assert column.path_in_schema == "_kafka.offset"
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + 30 : column.data_page_offset + 60] = b"\xff" * 30
    path.write_bytes(bytes(content))
    found = orders.audit()

    assert failed(found) == {"footers", "row_counts"}
    assert str(path) in faults(found, "footers")[0]
    assert "second_reader" in failed(orders.audit(is_full=True))


def test_a_manifest_that_counts_other_rows_is_found(orders):
    orders.commit()
    with_other_row_count(orders, 81)

    assert failed(orders.audit()) == {"manifest_counts", "claimed_counts", "footers"}


def with_other_row_count(orders: AuditedTable, row_count: int) -> None:
    """Write the newest manifest again, in place, with another row count."""
    table = orders.table
    head = table.current_snapshot()
    manifest = next(m for m in head.manifests(table.io) if m.added_snapshot_id == head.snapshot_id)
    (entry,) = manifest.fetch_manifest_entry(table.io)
    position = [field.name for field in DATA_FILE_TYPE[2].fields].index("record_count")
    entry.data_file._data[position] = row_count
    local(manifest.manifest_path).unlink()
    with write_manifest(
        2,
        table.spec(),
        table.schema(),
        table.io.new_output(manifest.manifest_path),
        head.snapshot_id,
        "gzip",
    ) as writer:
        writer.add_entry(
            ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED,
                snapshot_id=head.snapshot_id,
                sequence_number=None,
                file_sequence_number=None,
                data_file=entry.data_file,
            )
        )


def test_a_wrong_total_is_found(orders):
    orders.commit()
    edit_summary(orders, "total-records", "9999")

    assert "summary_totals" in failed(orders.audit())


def edit_summary(orders: AuditedTable, key: str, value: str) -> None:
    path = local(orders.table.metadata_location)
    metadata = json.loads(path.read_text())
    head = next(
        s for s in metadata["snapshots"] if s["snapshot-id"] == metadata["current-snapshot-id"]
    )
    head["summary"][key] = value
    path.write_text(json.dumps(metadata))


def test_rows_that_a_rewrite_changed_are_found(orders):
    def change(rows: pa.Table) -> pa.Table:
        notes = pc.if_else(pc.equal(rows["order_id"], 7), "changed", rows["note"])
        return rows.set_column(
            rows.schema.get_field_index("note"), rows.schema.field("note"), notes
        )

    orders.rewrite(change)
    found = orders.audit()

    assert failed(found) == {"rewrites"}
    assert "orders/0: put back other rows, as many as it removed" in faults(found, "rewrites")[0]


def test_rows_that_a_rewrite_lost_are_found(orders):
    orders.rewrite(lambda rows: rows.slice(0, rows.num_rows - 1))

    assert failed(orders.audit()) == {"rewrites"}


def test_a_rewrite_that_swaps_one_row_for_another_copy_is_found(orders):
    orders.rewrite(lambda rows: pa.concat_tables([rows.slice(1), rows.slice(5, 1)]))

    assert failed(orders.audit()) == {"rewrites"}


def test_a_deletion_by_another_engine_is_found(orders):
    orders.table.delete("order_id = 7")

    assert failed(orders.audit()) == {"rewrites"}


def test_a_column_that_is_suddenly_all_null_warns(orders):
    orders.commit(note=None)
    found = orders.audit()

    assert failed(found) == {"null_rates"}
    assert found.holds
    assert faults(found, "null_rates") == ("note: 100% of 80 new values are null, 0% were before",)


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        ({"field_id": 99}, "column extra has field id 99, which the table does not have"),
        ({"field_id": None}, "column extra has no field id"),
        ({"field_id": 1}, "column extra has field id 1, which is the table's order_id"),
    ],
)
def test_a_file_with_a_foreign_column_is_found(orders, column, fault):
    write_elsewhere(orders, "extra", **column)
    found = orders.audit()

    assert failed(found) == {"file_schema"}
    assert faults(found, "file_schema")[0].startswith(fault)


def write_elsewhere(orders: AuditedTable, name: str, field_id: int | None) -> None:
    """Append a file of one column, past k2i and past PyIceberg's checks."""
    table = orders.table
    metadata = {} if field_id is None else {"PARQUET:field_id": str(field_id)}
    schema = pa.schema([pa.field(name, pa.int64(), metadata=metadata)])
    path = f"{table.location()}/data/elsewhere.parquet"
    pq.write_table(pa.table([[1, 2]], schema=schema), local(path))
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=2,
        file_size_in_bytes=local(path).stat().st_size,
    )
    file.spec_id = 0
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        append.append_data_file(file)


def test_a_snapshot_that_was_rolled_away_is_found_and_everything_is_audited(orders):
    before = orders.table.current_snapshot().snapshot_id
    orders.table.append(pa.Table.from_batches([orders.rows({P0: [3]})]).slice(0, 0))
    assert failed(orders.audit()) == set()
    orders.table.manage_snapshots().set_current_snapshot(before).commit()
    orders.commit()
    found = orders.audit()

    assert failed(found) == {"chain"}
    assert found.offset_count == 320


def test_expired_snapshots_do_not_break_the_chain(orders):
    for _ in range(3):
        orders.commit()
    table = orders.table
    ids = [s.snapshot_id for s in table.metadata.snapshots[:-1]]
    table.maintenance.expire_snapshots().by_ids(ids).commit()
    found = orders.audit()

    assert (failed(found), found.chain, found.offset_count) == (set(), Chain.GIVEN_UP, 240)


def test_a_users_check_sees_the_new_rows_only(tmp_path):
    check = {"name": "low", "sql": "SELECT * FROM orders WHERE order_id < 20 -- low ids;"}
    orders = AuditedTable(tmp_path, checks=[{**check, "severity": "warn"}])
    orders.commit()
    first = orders.audit()
    assert (failed(first), first.holds) == ({"low"}, True)
    assert faults(first, "low") == ("rows returned=20",)

    orders.rewrite()
    orders.commit()
    assert failed(orders.audit()) == set()


def test_a_users_error_is_found_again_until_it_is_settled(tmp_path):
    sql = "SELECT order_id FROM sales.orders WHERE order_id = 45"
    orders = AuditedTable(tmp_path, checks=[{"name": "no_45", "sql": sql}])
    orders.commit()
    orders.audit()
    orders.commit()

    for _ in range(2):
        found = orders.audit()
        assert (failed(found), found.holds) == ({"no_45"}, False)


def test_a_users_check_over_the_table_is_asked_by_full_audits(tmp_path):
    sql = "SELECT 1 FROM orders HAVING count(order_id) > 100"
    orders = AuditedTable(tmp_path, checks=[{"name": "few", "sql": sql, "over": "table"}])
    orders.commit()
    orders.audit()
    orders.commit()

    assert "few" not in {answer.question for answer in orders.audit().answers}
    assert failed(orders.audit(is_full=True)) == {"few"}


@pytest.mark.parametrize(
    "sql",
    ["DELETE FROM orders", "SELECT 1; SELECT 2", "SELEKT", "SELECT missing FROM orders"],
)
def test_a_users_check_that_cannot_run_fails_and_takes_no_other_down(tmp_path, sql):
    orders = AuditedTable(tmp_path, checks=[{"name": "broken", "sql": sql}])
    orders.commit()

    assert failed(orders.audit()) == {"broken"}


def test_a_users_check_reaches_nothing_but_the_table(tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    sql = f"SELECT * FROM read_csv('{secret}')"
    orders = AuditedTable(tmp_path, checks=[{"name": "reach", "sql": sql}])
    orders.commit()
    found = orders.audit()

    assert "could not be evaluated" in faults(found, "reach")[0]


def test_a_key_that_two_rows_share_is_found(tmp_path):
    orders = AuditedTable(tmp_path, monitoring={"unique_key": ["order_id", "note"]})
    orders.commit()
    orders.commit(note="fine")
    assert failed(orders.audit(is_full=True)) == set()

    by_note = AuditedTable(tmp_path / "other", monitoring={"unique_key": ["note"]})
    by_note.commit()
    found = by_note.audit(is_full=True)
    assert failed(found) == {"unique_key"}
    assert faults(found, "unique_key") == ("keys=1 of (note) are shared by rows=80",)

    columns = table_columns(by_note.table)
    remark = identified(columns.field("note"), Identity(None, ("note",))).with_name("remark")
    renamed = [remark if field.name == "note" else field for field in columns]
    evolve(by_note.catalog, by_note.identifier, pa.schema(renamed), SchemaEvolution.FULL)
    found = by_note.audit(is_full=True)
    assert faults(found, "unique_key") == ("keys=1 of (remark) are shared by rows=80",)


ALL_TYPES = [
    ("a_boolean", "boolean"),
    ("an_int", "int"),
    ("a_long", "long"),
    ("a_float", "float"),
    ("a_double", "double"),
    ("a_decimal", "decimal(20,3)"),
    ("a_date", "date"),
    ("a_time", "time"),
    ("a_timestamp", "timestamp"),
    ("a_timestamptz", "timestamptz"),
    ("a_string", "string"),
    ("a_binary", "binary"),
    ("a_uuid", "uuid"),
    ("a_fixed", "fixed[4]"),
    ("a_list", "list<int>"),
    ("a_map", "map<string, long>"),
    ("a_struct", "struct<x: int, inner: list<struct<y: string>>>"),
]


def test_every_type_is_known_in_files_and_rewrites(tmp_path):
    columns = [{"name": name, "type": type_} for name, type_ in ALL_TYPES]
    columns = [
        {"name": "order_id", "type": "long", "required": True},
        {"name": "note", "type": "string"},
        *columns,
    ]
    orders = AuditedTable(tmp_path, table={"identifier": "sales.orders", "columns": columns})
    orders.commit(5)
    assert failed(orders.audit()) == set()
    orders.rewrite()
    orders.commit(5)

    assert failed(orders.audit()) == set()
    assert failed(orders.audit(is_full=True)) == set()


def test_columns_that_were_added_renamed_and_widened_are_still_the_tables(tmp_path):
    columns = [
        {"name": "order_id", "type": "long", "required": True},
        {"name": "note", "type": "string"},
        {"name": "count", "type": "int"},
        {"name": "details", "type": "struct<x: int>"},
    ]
    check = {"name": "named", "sql": "SELECT remark, details.z FROM orders WHERE remark <> 'fine'"}
    orders = AuditedTable(
        tmp_path, table={"identifier": "sales.orders", "columns": columns}, checks=[check]
    )
    orders.commit(5)
    orders.rewrite()
    with orders.table.update_schema(allow_incompatible_changes=True) as update:
        update.rename_column("note", "remark")
        update.update_column("count", LongType())
        update.rename_column("details.x", "z")
        update.add_column("extra", StringType())

    found = orders.audit()

    assert (failed(found), found.holds) == (set(), True)
    assert failed(orders.audit(is_full=True)) == set()


def test_delete_files_of_another_engine_are_respected_by_what_counts_rows(orders, monkeypatch):
    monkeypatch.setattr(
        "k2i_core.wiring.table_audit.read_delta",
        lambda *known: replace(read_delta(*known), has_delete_files=True),
    )
    orders.commit()

    assert failed(orders.audit()) == set()


def test_a_partitioned_table_is_audited_like_any_other(tmp_path):
    columns = [
        {"name": "order_id", "type": "long", "required": True},
        {"name": "note", "type": "string"},
    ]
    table = {"identifier": "sales.orders", "columns": columns, "partition_by": ["note"]}
    orders = AuditedTable(tmp_path, table=table)
    for note in ("a b", "ü/%[x]*", None):
        orders.commit(5, note=note)

    assert failed(orders.audit()) == set()
    assert failed(orders.audit(is_full=True)) == set()


def test_files_that_a_commit_carried_into_a_new_manifest_are_not_new(orders, monkeypatch):
    monkeypatch.setattr("k2i_core.iceberg.manifests.MERGE_COUNT", 2)
    for _ in range(3):
        orders.commit()
    found = orders.audit()

    assert (failed(found), found.file_count, found.offset_count) == (set(), 3, 240)


def test_what_a_record_holds_is_not_repeated_when_a_users_check_stumbles_over_it(tmp_path):
    sql = "SELECT * FROM orders WHERE CAST(note AS INTEGER) < 0"
    orders = AuditedTable(tmp_path, checks=[{"name": "numbers", "sql": sql}])
    orders.commit(note="a secret of somebody")
    (fault,) = faults(orders.audit(), "numbers")

    assert "Could not convert string" in fault
    assert "secret" not in fault


def test_rewriting_manifests_only_changes_nothing(orders):
    orders.commit()
    orders.replace([], [], operation="manifests")
    orders.commit()

    assert failed(orders.audit()) == set()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_to_a_sound_table_it_is_not_accused(tmp_path, monkeypatch, seed):
    monkeypatch.setattr("k2i_core.iceberg.manifests.MERGE_COUNT", 3)
    dice = random.Random(seed)
    orders = AuditedTable(tmp_path)
    orders.commit(5)

    def expire() -> None:
        table = orders.table
        ids = [s.snapshot_id for s in table.metadata.snapshots[:-1]]
        table.maintenance.expire_snapshots().by_ids(ids[: dice.randint(0, len(ids))]).commit()

    deeds = {
        "commit": lambda: orders.commit(dice.randint(1, 30)),
        "rewrite": orders.rewrite,
        "rewrite manifests": lambda: orders.replace([], [], operation="manifests"),
        "expire": expire,
        "audit": orders.audit,
    }
    done: list[str] = []
    for _ in range(14):
        deed = dice.choices(list(deeds), [6, 2, 1, 1, 3])[0]
        done.append(deed)
        found = deeds[deed]()
        if deed == "audit":
            assert failed(found) == set(), done

    assert failed(orders.audit()) == set(), done
    assert failed(orders.audit(is_full=True)) == set(), done
