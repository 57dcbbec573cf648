"""`verify` on real tables.

Goal: every way in which a table can break the promise is found, with the exact offsets, and a
table that keeps it is never accused.
Method: a real table in a SQLite catalog, filled by an independent writer; one fault is seeded at a
time, into a ledger that claims otherwise. Each fault is looked for with and without the topic.
"""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2i_core.audit.findings import FindingKind, Verification
from k2i_core.audit.verify import Progress, verify
from k2i_core.errors import ErrorKind, UnavailableError
from k2i_core.ledger import Totals
from k2i_core.offsets import TopicPartition
from tests.integration.audit.ledger_table import (
    P0,
    P1,
    FakeTopic,
    LedgerTable,
)


@pytest.fixture
def lake(tmp_path) -> LedgerTable:
    return LedgerTable.create(tmp_path)


def prove(lake: LedgerTable, topic: FakeTopic | None = None, **options) -> Verification:
    return verify(lake.table, lake.ledger(), dead_letters=lake.dead_letters, topic=topic, **options)


def found(verification: Verification) -> dict[FindingKind, list[tuple[int, int]]]:
    kinds: dict[FindingKind, list[tuple[int, int]]] = {}
    for finding in verification.findings:
        ranges = [(r.start_offset, r.next_offset) for r in finding.ranges]
        kinds.setdefault(finding.kind, []).extend(ranges)
    return kinds


def fill(lake: LedgerTable) -> None:
    """Two Kafka partitions, three commits, two dead letters, one partition starting at 50."""
    lake.commit(P0, 0, 100, rows=[o for o in range(100) if o != 40], dead=[40])
    lake.commit(P1, 50, 80, rows=range(50, 80))
    lake.commit(P0, 100, 200, rows=[o for o in range(100, 200) if o != 150], dead=[150])


WHOLE_TOPIC = FakeTopic({P0: range(220), P1: range(90)})


@pytest.mark.parametrize("topic", [None, WHOLE_TOPIC])
def test_a_table_that_keeps_its_promise_holds(lake, topic):
    fill(lake)

    verification = prove(lake, topic)

    assert verification.holds
    assert verification.row_count == 228
    assert verification.dead_letter_count == 2
    assert [p.topic_partition for p in verification.partitions] == [P0, P1]
    assert verification.partitions[1].row_offset_min == 50


def test_what_the_topic_has_beyond_the_checkpoint_is_unread_not_missing(lake):
    fill(lake)

    verification = prove(lake, WHOLE_TOPIC)

    assert [p.topic.unread_count for p in verification.partitions] == [20, 10]


@pytest.mark.parametrize("topic", [None, WHOLE_TOPIC])
def test_a_doubled_batch_is_listed_exactly(lake, topic):
    fill(lake)
    lake.append_rows(P0, list(range(10, 20)))

    assert found(prove(lake, topic)) == {FindingKind.DOUBLED: [(10, 20)]}


def test_an_offset_doubled_within_one_file_is_listed(lake):
    lake.commit(P0, 0, 10, rows=[*range(10), 3, 3], claim=Totals(row_count=10))

    assert found(prove(lake)) == {FindingKind.DOUBLED: [(3, 4)]}


@pytest.mark.parametrize("topic", [None, WHOLE_TOPIC])
def test_a_gap_is_listed_exactly(lake, topic):
    rows = [o for o in range(220) if not 100 <= o < 120]
    lake.commit(P0, 0, 220, rows=rows, claim=Totals(row_count=220))

    assert found(prove(lake, topic)) == {
        FindingKind.COUNT_MISMATCH: [(0, 220)],
        FindingKind.MISSING: [(100, 120)],
    }


@pytest.mark.parametrize("topic", [None, WHOLE_TOPIC])
def test_a_gap_that_a_doubled_batch_of_the_same_size_hides_is_found(lake, topic):
    rows = [*range(100), *range(40, 50), *range(110, 220)]
    lake.commit(P0, 0, 220, rows=rows, claim=Totals(row_count=220))

    faults = found(prove(lake, topic))

    assert faults[FindingKind.DOUBLED] == [(40, 50)]
    assert faults[FindingKind.MISSING] == [(100, 110)]


def test_a_gap_in_a_range_with_tombstones_is_known_exactly_from_the_topic(lake):
    rows = [o for o in range(100) if o not in {7, 8, 55}]
    lake.commit(P0, 0, 100, rows=rows, claim=Totals(row_count=98, tombstone_count=2))
    topic = FakeTopic({P0: range(100)}, tombstones={P0: [7, 8]})

    assert found(prove(lake)) == {FindingKind.COUNT_MISMATCH: [(0, 100)]}
    assert found(prove(lake, topic))[FindingKind.MISSING] == [(55, 56)]


@pytest.mark.parametrize("topic", [None, WHOLE_TOPIC])
def test_a_row_that_is_also_a_dead_letter_is_listed(lake, topic):
    fill(lake)
    lake.add_dead_letters(P0, [60, 61])

    assert found(prove(lake, topic))[FindingKind.ROW_AND_DEAD_LETTER] == [(60, 62)]


@pytest.mark.parametrize("topic", [None, WHOLE_TOPIC])
def test_a_dead_letter_that_never_arrived_is_missing(lake, topic):
    rows = [o for o in range(100) if o != 40]
    lake.commit(P0, 0, 100, rows=rows, claim=Totals(row_count=99, dead_letter_count=1))

    faults = found(prove(lake, topic))

    assert faults[FindingKind.MISSING] == [(40, 41)]
    assert faults[FindingKind.COUNT_MISMATCH] == [(0, 100)]


def test_a_dead_letter_of_another_target_explains_nothing(lake):
    rows = [o for o in range(100) if o != 40]
    lake.commit(P0, 0, 100, rows=rows, claim=Totals(row_count=99, dead_letter_count=1))
    lake.add_dead_letters(P0, [40], target="sales.returns")

    assert found(prove(lake))[FindingKind.MISSING] == [(40, 41)]


def test_dead_letters_above_the_checkpoint_are_pending_not_wrong(lake):
    fill(lake)
    lake.add_dead_letters(P0, [203, 204])

    verification = prove(lake)

    assert verification.holds
    assert verification.partitions[0].pending_dead_letter_count == 2


def test_totals_that_are_not_the_sum_of_the_ranges_are_a_checkpoint_mismatch(lake):
    fill(lake)
    ledger = lake.ledger()
    wrong = {**ledger.entry.totals, P0: Totals(row_count=197, dead_letter_count=2)}
    ledger = replace(ledger, entry=replace(ledger.entry, totals=wrong))

    verification = verify(lake.table, ledger, dead_letters=lake.dead_letters)

    assert found(verification) == {
        FindingKind.CHECKPOINT_MISMATCH: [(0, 200)],
        FindingKind.COUNT_MISMATCH: [(0, 200)],
    }


def test_totals_below_the_retained_ranges_are_checked_by_themselves(lake):
    fill(lake)
    ledger = lake.ledger()
    newest = replace(ledger, retained=ledger.retained[1:])

    assert verify(lake.table, newest, dead_letters=lake.dead_letters).holds
    wrong = {**newest.entry.totals, P0: Totals(row_count=197, dead_letter_count=2)}
    newest = replace(newest, entry=replace(newest.entry, totals=wrong))
    assert found(verify(lake.table, newest, dead_letters=lake.dead_letters)) == {
        FindingKind.COUNT_MISMATCH: [(0, 100)]
    }


def test_totals_smaller_than_the_retained_ranges_are_a_checkpoint_mismatch(lake):
    lake.commit(P0, 0, 10, rows=range(10))
    lake.commit(P0, 10, 20, rows=range(10, 20))
    ledger = lake.ledger()
    entry = replace(ledger.entry, totals={P0: Totals(row_count=9)})
    newest = replace(ledger, entry=entry, retained=ledger.retained[1:])

    finding = verify(lake.table, newest).findings[0]

    assert finding.kind is FindingKind.CHECKPOINT_MISMATCH
    assert "below the sum" in finding.detail


def test_retained_ranges_with_a_commit_taken_out_leave_a_gap_in_the_chain(lake):
    lake.commit(P0, 0, 10, rows=range(10))
    lake.commit(P0, 10, 20, rows=range(10, 20))
    lake.commit(P0, 20, 30, rows=range(20, 30))
    ledger = lake.ledger()
    holed = replace(ledger, retained=(ledger.retained[0], ledger.retained[2]))

    assert found(verify(lake.table, holed)) == {FindingKind.CHECKPOINT_MISMATCH: [(10, 20)]}


@pytest.mark.parametrize("offset", [49, 80, 2**40])
def test_a_row_outside_the_partitions_range_is_listed(lake, offset):
    fill(lake)
    lake.append_rows(P1, [offset])

    assert found(prove(lake)) == {FindingKind.OUTSIDE_RANGE: [(offset, offset + 1)]}


def test_rows_of_a_partition_that_the_ledger_does_not_know_are_listed(lake):
    fill(lake)
    lake.append_rows(TopicPartition("returns", 3), [5, 6])

    (finding,) = prove(lake).findings

    assert finding.kind is FindingKind.OUTSIDE_RANGE
    assert str(finding.topic_partition) == "returns/3"


def test_offsets_without_a_record_are_no_gap(lake):
    lake.commit(P0, 0, 100, rows=range(0, 100, 2))
    topic = FakeTopic({P0: list(range(0, 100, 2))}, high={P0: 100})

    verification = prove(lake, topic)

    assert verification.holds
    assert verification.partitions[0].without_record_count == 50


def test_rows_that_the_topic_no_longer_has_are_counted_and_fine(lake):
    fill(lake)
    topic = FakeTopic({P0: range(120, 220), P1: range(90)}, low={P0: 120})

    verification = prove(lake, topic)

    assert verification.holds
    assert verification.partitions[0].topic.no_longer_in_topic_count == 120


def test_tombstones_and_filtered_records_are_accounted_for(lake):
    skipped = {3, 4, 5, 6}
    lake.commit(
        P0,
        0,
        20,
        rows=[o for o in range(20) if o not in skipped],
        claim=Totals(row_count=16, filtered_count=1, tombstone_count=3),
    )
    topic = FakeTopic({P0: range(20)}, tombstones={P0: [3, 4, 5]})

    assert prove(lake, topic).holds
    one_fewer = replace(topic, tombstones={P0: [3, 4]})
    (finding,) = prove(lake, one_fewer).findings
    assert finding.kind is FindingKind.MISSING
    assert "missing=1 of these" in finding.detail


def test_a_tombstone_stored_as_a_row_is_listed(lake):
    lake.commit(P0, 0, 20, rows=range(20))
    topic = FakeTopic({P0: range(20)}, tombstones={P0: [3]})

    assert found(prove(lake, topic)) == {
        FindingKind.TOMBSTONE_IN_TABLE: [(3, 4)],
        FindingKind.COUNT_MISMATCH: [(0, 20)],
    }


def test_an_accepted_gap_is_not_missing(lake):
    lake.commit(P0, 0, 10, rows=range(10))
    lake.commit(P0, 10, 30, rows=[], claim=Totals(), lost=True)
    lake.commit(P0, 30, 40, rows=range(30, 40))

    assert prove(lake).holds
    assert prove(lake, FakeTopic({P0: range(30, 40)}, low={P0: 30})).holds
    assert prove(lake, FakeTopic({P0: range(40)})).holds
    assert prove(lake).partitions[0].claimed.lost_count == 20


def test_a_checkpoint_above_the_end_of_the_topic_is_a_mismatch(lake):
    fill(lake)
    topic = FakeTopic({P0: range(150), P1: range(90)})

    assert found(prove(lake, topic)) == {FindingKind.CHECKPOINT_MISMATCH: [(150, 200)]}


def test_rows_of_a_deleted_topic_of_the_same_name_are_left_out(lake):
    lake.commit(P0, 0, 100, rows=range(100))
    accepted_at = lake.table.current_snapshot().sequence_number + 1
    lake.entry = replace(
        lake.entry,
        totals={},
        first_offsets={},
        checkpoint=type(lake.entry.checkpoint)(),
        since_sequence_numbers={"orders": accepted_at},
    )
    lake.commit(P0, 0, 30, rows=range(30))

    verification = verify(lake.table, lake.ledger(), topic=FakeTopic({P0: range(30)}))

    assert verification.holds
    assert verification.row_count == 30


def test_rows_that_did_not_come_from_kafka_are_counted_apart(lake, tmp_path):
    fill(lake)
    path = f"{tmp_path}/foreign.parquet"
    pq.write_table(pa.table({"order_id": [1, 2, 3]}), path)
    with lake.table.update_schema() as update:
        update.make_column_optional("_kafka")
    lake.table.add_files([path])

    verification = prove(lake)

    assert verification.holds
    assert verification.foreign_row_count == 3


def test_a_live_file_that_is_gone_is_a_finding(lake):
    fill(lake)
    path = next(iter(lake.table.inspect.files()["file_path"])).as_py()
    lake.table.io.delete(path)

    verification = prove(lake)

    unreadable = [f for f in verification.findings if f.kind is FindingKind.FILE_UNREADABLE]
    assert path in unreadable[0].detail
    assert not verification.holds


def test_a_cut_off_file_is_a_finding(lake):
    fill(lake)
    path = next(iter(lake.table.inspect.files()["file_path"])).as_py()
    with Path(path.removeprefix("file://")).open("r+b") as file:
        file.truncate(100)

    assert FindingKind.FILE_UNREADABLE in found(prove(lake))


def test_a_manifest_that_is_gone_is_unavailable_not_a_wrong_answer(lake):
    fill(lake)
    table = lake.table
    table.io.delete(table.current_snapshot().manifest_list)

    with pytest.raises(UnavailableError) as error:
        verify(table, lake.ledger())

    assert error.value.kind is ErrorKind.STORAGE_UNAVAILABLE


def test_a_broken_table_lists_only_so_many_ranges_and_counts_the_rest(lake):
    lake.commit(P0, 0, 100, rows=range(0, 100, 2), claim=Totals(row_count=100))

    verification = prove(lake, range_count_max=5)

    missing = next(f for f in verification.findings if f.kind is FindingKind.MISSING)
    assert len(missing.ranges) == 5
    assert (missing.offset_count, missing.unlisted_count) == (50, 45)
    assert str(missing).endswith("[9,10) and 45 more offsets")


def test_a_table_without_snapshots_and_without_partitions_holds(lake):
    verification = prove(lake)

    assert verification.holds
    assert verification.snapshot_id is None


def test_progress_ends_at_the_total_of_each_stage(lake):
    fill(lake)
    steps: list[Progress] = []

    prove(lake, WHOLE_TOPIC, on_progress=steps.append)

    last = {step.stage: (step.done_count, step.total_count) for step in steps}
    assert last == {
        "rows": (228, 228),
        "dead letters": (2, 2),
        "dropped": (2, 2),
        "topic": (230, 230),
    }


def test_the_answer_is_json(lake):
    fill(lake)
    lake.append_rows(P0, [5])

    answer = json.loads(json.dumps(prove(lake, WHOLE_TOPIC).to_json()))

    assert answer["holds"] is False
    assert answer["table"] == "sales.orders"
    assert answer["findings"][0]["ranges"] == [[5, 6]]
    assert answer["partitions"][0]["in_topic"]["records"] == 200
