"""Judgements about metadata and files, without a table.

Goal: each judgement finds its own fault, names it, and accuses no table of what other writers may
leave out.
Method: pure functions over made-up deltas.
"""

from dataclasses import replace

import pytest

from k2i_core.audit.table_checks import (
    FileColumn,
    TableColumn,
    judge_chain,
    judge_claims,
    judge_files,
    judge_footers,
    judge_manifest_counts,
    judge_schema,
    judge_totals,
)
from k2i_core.audit.table_delta import Chain, SnapshotChange, TableMark
from k2i_core.ledger import (
    CHECKPOINT_KEY,
    OPERATION_KEY,
    RANGES_KEY,
    Entry,
    Identity,
    LedgerRange,
    Totals,
    encode_entry,
    encode_ranges,
)
from k2i_core.offsets import Checkpoint, OffsetRange, TopicPartition
from tests.unit.audit.made_delta import delta, file, snapshot

MARK = TableMark("uuid", 200, 2, {})
TOTALS = {"total_records": 30, "total_data_files": 3, "total_files_size": 3_000}
BEFORE = snapshot(
    2, **{**TOTALS, "total_records": 20, "total_data_files": 2, "total_files_size": 2_000}
)
ADDED = {"added_records": 10, "added_data_files": 1, "added_files_size": 1_000}
APPEND = snapshot(3, **TOTALS, **ADDED)


@pytest.mark.parametrize("chain", [c for c in Chain if c is not Chain.BROKEN])
def test_every_explained_history_passes_with_a_note(chain):
    answer = judge_chain(delta([SnapshotChange(APPEND, ())], chain=chain), MARK)

    assert not answer.faults
    assert answer.note


def test_a_broken_chain_names_both_snapshots():
    answer = judge_chain(delta([SnapshotChange(APPEND, ())], chain=Chain.BROKEN), MARK)

    assert answer.faults == ("audited snapshot_id=200 is no ancestor of snapshot_id=300 any more",)


def test_files_that_are_gone_or_of_another_size_are_named():
    gone, cut, whole = file("gone", 3), file("cut", 3), file("whole", 3)
    sizes = {gone.path: None, cut.path: 999, whole.path: 1_000}

    assert judge_files([gone, cut, whole], sizes).faults == (
        "missing: lake/gone.parquet",
        "bytes=999, the manifest says 1000: lake/cut.parquet",
    )


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("total_records", "total-records=31 of snapshot_id=300, expected 30"),
        ("total_data_files", "total-data-files=31 of snapshot_id=300, expected 3"),
        ("total_files_size", "total-files-size=31 of snapshot_id=300, expected 3000"),
    ],
)
def test_a_total_that_does_not_add_up_is_named(key, fault):
    wrong = snapshot(3, **{**TOTALS, key: 31}, **ADDED)

    assert judge_totals(delta([SnapshotChange(APPEND, ())], before=BEFORE)).faults == ()
    assert judge_totals(delta([SnapshotChange(wrong, ())], before=BEFORE)).faults == (fault,)


def test_totals_go_down_by_what_is_deleted():
    replaced = snapshot(
        4,
        operation="replace",
        **{**TOTALS, "total_data_files": 1, "total_files_size": 2_500},
        added_records=30,
        added_data_files=1,
        added_files_size=2_500,
        deleted_records=30,
        deleted_data_files=3,
        removed_files_size=3_000,
    )
    changes = [SnapshotChange(APPEND, ()), SnapshotChange(replaced, ())]

    assert judge_totals(delta(changes, before=BEFORE)).faults == ()


def test_totals_that_a_writer_left_out_are_not_judged():
    silent, later = snapshot(3), snapshot(4, **TOTALS)
    changes = [SnapshotChange(silent, ()), SnapshotChange(later, ())]

    assert judge_totals(delta(changes, before=BEFORE)).faults == ()


def test_after_an_expiration_the_first_total_is_believed_and_the_next_is_judged():
    first = snapshot(3, **TOTALS, **ADDED)
    wrong = snapshot(4, **TOTALS, **ADDED)
    changes = [SnapshotChange(first, ()), SnapshotChange(wrong, ())]

    assert len(judge_totals(delta(changes, chain=Chain.GIVEN_UP)).faults) == 3


def test_a_full_audit_compares_the_heads_totals_with_all_files():
    live = (file("a", 1), file("b", 2), file("c", 3, 9))
    answer = judge_totals(delta([SnapshotChange(APPEND, ())], chain=Chain.FIRST, live=live))

    assert answer.faults == (
        "total-records=30 of the head, its manifests say 29",
        "total-files-size=3000 of the head, its manifests say 2900",
    )


@pytest.mark.parametrize(
    ("added", "removed", "fault_count"),
    [
        ((file("a", 3),), (), 0),
        ((file("a", 3, 9),), (), 1),
        ((), (), 2),
        ((file("a", 3, 5), file("b", 3, 5)), (), 1),
    ],
)
def test_manifests_have_to_list_what_the_summary_says(added, removed, fault_count):
    answer = judge_manifest_counts([SnapshotChange(APPEND, added, removed)])

    assert len(answer.faults) == fault_count


def test_what_a_summary_does_not_say_is_not_judged():
    assert judge_manifest_counts([SnapshotChange(snapshot(3), (file("a", 3),))]).faults == ()


P0 = TopicPartition("orders", 0)


def entry_text(next_offset: int, rows: int) -> str:
    identity = Identity("orders", "c", {"orders": "t"})
    return encode_entry(Entry(identity, Checkpoint({P0: next_offset}), totals={P0: Totals(rows)}))


def claiming(rows: int, *, with_ranges: bool = True, operation: str = "append"):
    offsets = LedgerRange(OffsetRange(P0, 20, 30), Totals(rows, 10 - rows))
    ranges = {RANGES_KEY: encode_ranges([offsets])} if with_ranges else {}
    checkpoint = {CHECKPOINT_KEY: entry_text(30, 20 + rows), OPERATION_KEY: operation}
    return replace(APPEND, summary={**APPEND.summary, **checkpoint, **ranges})


CARRIER = replace(BEFORE, summary={CHECKPOINT_KEY: entry_text(20, 20)})


@pytest.mark.parametrize("with_ranges", [True, False])
@pytest.mark.parametrize(("rows", "is_right"), [(10, True), (9, False)])
def test_a_commit_adds_as_many_rows_as_it_claims(with_ranges, rows, is_right):
    change = SnapshotChange(claiming(rows, with_ranges=with_ranges), (file("a", 3, 10),))
    answer = judge_claims(delta([change], before=CARRIER))

    assert bool(answer.faults) is not is_right
    assert answer.figures == {"claimed_rows": rows}


def test_other_commits_claim_no_rows():
    foreign = SnapshotChange(APPEND, (file("a", 3),))
    rewind = SnapshotChange(claiming(9, operation="rewind"), ())
    without_predecessor = SnapshotChange(claiming(9, with_ranges=False), (file("a", 3),))

    assert not judge_claims(delta([foreign], before=CARRIER)).faults
    assert not judge_claims(delta([rewind], before=CARRIER)).faults
    assert not judge_claims(delta([without_predecessor])).faults


def test_footers_that_count_other_rows_or_cannot_be_read_are_named():
    a, b, c = file("a", 3), file("b", 3), file("c", 3)

    assert judge_footers([a, b, c], {a.path: 10, b.path: 9, c.path: "no magic bytes"}).faults == (
        "rows=9, the manifest says 10: lake/b.parquet",
        "cannot be read: lake/c.parquet: no magic bytes",
    )


COLUMNS = {
    1: TableColumn(1, frozenset({"id", "order_id"}), frozenset({"BIGINT", "INTEGER"})),
    2: TableColumn(2, frozenset({"_kafka"}), None),
}


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        (FileColumn("p", 1, "order_id", "BIGINT"), ""),
        (FileColumn("p", 1, "id", "INTEGER"), ""),
        (FileColumn("p", 2, "_kafka", None), ""),
        (
            FileColumn("p", 1, "order_id", "VARCHAR"),
            "column order_id is VARCHAR, the table has BIGINT",
        ),
        (FileColumn("p", 1, "extra", "BIGINT"), "column extra has field id 1"),
        (FileColumn("p", 7, "extra", "BIGINT"), "column extra has field id 7"),
        (FileColumn("p", None, "extra", "BIGINT"), "column extra has no field id"),
    ],
)
def test_a_column_is_known_by_id_name_and_type(column, fault):
    answer = judge_schema([column], COLUMNS, is_without_ids_allowed=False)

    assert bool(answer.faults) is bool(fault)
    assert all(one.startswith(fault) for one in answer.faults)


def test_files_without_ids_pass_where_the_table_maps_names():
    column = FileColumn("p", None, "extra", "BIGINT")

    assert not judge_schema([column], COLUMNS, is_without_ids_allowed=True).faults


def test_the_same_fault_of_many_files_is_said_once():
    columns = [FileColumn(f"p{n}", None, "extra", "BIGINT") for n in range(50)]

    assert judge_schema(columns, COLUMNS, is_without_ids_allowed=False).faults == (
        "column extra has no field id, first in p0",
    )
