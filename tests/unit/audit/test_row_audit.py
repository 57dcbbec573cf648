"""The quick audit's windows and verdicts, without a table.

Goal: an audit looks at every offset exactly once over its life, and each fault ends in the answer
that is named after it.
Method: pure functions over made-up ledgers and counts; the SQL is tried on real tables elsewhere.
"""

import json
from dataclasses import replace

import pytest

from k2i_core.audit.row_audit import (
    AuditMark,
    AuditScope,
    AuditWindow,
    PartitionCount,
    audit_scope,
    dead_letters_sql,
    judge_dead_letters,
    judge_rows,
    mark_of,
    new_rows_condition,
    read_mark,
    rows_sql,
    slice_count,
)
from k2i_core.ledger import Entry, Identity, Totals
from k2i_core.offsets import Checkpoint, TopicPartition

P0 = TopicPartition("orders", 0)
P1 = TopicPartition("orders", 1)
LEDGER = Entry(
    Identity("orders", "c", {"orders": "t"}),
    Checkpoint({P0: 100, P1: 50}),
    totals={P0: Totals(90, 5, 0, 5), P1: Totals(20)},
    first_offsets={P0: 0, P1: 30},
)
LATER = replace(
    LEDGER,
    checkpoint=Checkpoint({P0: 130, P1: 50}),
    totals={P0: Totals(118, 7, 0, 5), P1: Totals(20)},
)
WINDOW = AuditWindow(P0, 0, 100, Totals(90, 5, 0, 5), is_whole=True)
SCOPE = AuditScope((WINDOW,), ())
GOOD = PartitionCount(P0, 90, 90)


def test_the_first_audit_looks_at_everything():
    assert audit_scope(LEDGER, None).windows == (
        WINDOW,
        AuditWindow(P1, 30, 50, Totals(20), is_whole=True),
    )


def test_the_next_audit_looks_at_what_came_since_with_its_own_counts():
    first, second = audit_scope(LATER, mark_of(LEDGER)).windows

    assert first == AuditWindow(P0, 100, 130, Totals(28, 2), is_whole=False)
    assert second.offset_count == 0


def test_a_mark_survives_being_stored():
    stored = json.loads(json.dumps(mark_of(LATER).to_json()))

    assert read_mark(stored) == mark_of(LATER)


@pytest.mark.parametrize(
    "document", [None, {}, {"version": 2, "topics": {}}, {"version": 1, "topics": [1]}, "text"]
)
def test_anything_else_is_no_mark(document):
    assert read_mark(document) is None


def test_a_mark_that_a_rewind_left_behind_is_not_believed():
    windows = audit_scope(LEDGER, mark_of(LATER)).windows

    assert windows[0] == WINDOW


def test_a_mark_below_the_tables_first_offset_is_not_believed():
    older = replace(LEDGER, checkpoint=Checkpoint({P1: 20}), totals={P1: Totals(9)})

    assert audit_scope(LEDGER, mark_of(older)).windows[1].claimed == Totals(20)


def test_a_new_kafka_partition_is_looked_at_from_its_first_offset():
    only_first = replace(LEDGER, checkpoint=Checkpoint({P0: 100}), totals={P0: Totals(90, 5, 0, 5)})

    assert audit_scope(LATER, mark_of(only_first)).windows[1].start_offset == 30


def test_a_topic_that_was_created_again_is_left_out_and_named():
    scope = audit_scope(replace(LEDGER, since_sequence_numbers={"orders": 7}), None)

    assert scope == AuditScope((), ("orders",))


def faulty(counts, scope=SCOPE):
    return {a.question for a in judge_rows(scope, counts, ["order_id"]) if a.faults}


@pytest.mark.parametrize(
    ("count", "questions"),
    [
        (GOOD, set()),
        (replace(GOOD, row_count=89, distinct_count=89), {"row_counts"}),
        (replace(GOOD, row_count=91, distinct_count=90), {"row_counts", "no_duplicates"}),
        (replace(GOOD, distinct_count=89), {"no_duplicates"}),
        (replace(GOOD, stray_count=1), {"no_strays"}),
        (replace(GOOD, null_count=1), {"required_columns"}),
    ],
)
def test_each_fault_has_its_answer(count, questions):
    assert faulty([count]) == questions


def test_a_window_without_any_row_is_a_fault_when_rows_are_claimed():
    assert faulty([]) == {"row_counts"}


def test_rows_of_an_unknown_kafka_partition_are_strays():
    assert faulty([GOOD, PartitionCount(P1, 0, 0, stray_count=4)]) == {"no_strays"}


def test_more_records_than_offsets_are_a_fault_of_the_ledger():
    crowded = AuditScope((replace(WINDOW, claimed=Totals(90, 5, 0, 6)),), ())

    assert faulty([GOOD], crowded) == {"row_counts"}


@pytest.mark.parametrize(
    ("count", "has_faults"),
    [(PartitionCount(P0, 5, 5), False), (PartitionCount(P0, 4, 4), True), (None, True)],
)
def test_dead_letters_are_counted_too(count, has_faults):
    answer = judge_dead_letters(SCOPE, [count] if count else [])

    assert bool(answer.faults) is has_faults


def test_doubled_dead_letters_are_found_when_another_is_lost():
    assert judge_dead_letters(SCOPE, [PartitionCount(P0, 5, 4)]).faults


def test_names_cannot_leave_their_quotes():
    topic = "o'; DROP TABLE x; --"
    window = replace(WINDOW, topic_partition=TopicPartition(topic, 0))
    scope = AuditScope((window,), ("an'other",))

    assert "'o''; DROP TABLE x; --'" in rows_sql('"sales"."orders"', scope, ['a"b'])
    assert "'an''other'" in rows_sql('"sales"."orders"', scope, ['a"b'])
    assert '"a""b" IS NULL' in rows_sql('"sales"."orders"', scope, ['a"b'])
    assert "'x''y'" in dead_letters_sql('"sales"."d"', "x'y", scope)


def test_rows_beyond_the_first_of_their_record_are_counted_beside_the_records():
    claimed = Totals(90, 5, 0, 5, extra_row_count=30)
    scope = AuditScope((replace(WINDOW, claimed=claimed),), ())
    whole = PartitionCount(P0, 120, 120, extra_row_count=30)

    assert faulty([whole], scope) == set()
    lost = replace(whole, row_count=119, distinct_count=119, extra_row_count=29)
    assert faulty([lost], scope) == {"row_counts"}
    assert faulty([replace(whole, extra_row_count=31)], scope) == {"row_counts"}
    assert faulty([replace(whole, distinct_count=119)], scope) == {"no_duplicates"}
    assert read_mark(AuditMark({P0: 100}, {P0: claimed}).to_json()).totals == {P0: claimed}
    assert "count(DISTINCT (r.o, r.i))" in rows_sql("t", scope, [], holds_items=True)
    assert "count(DISTINCT r.o)" in rows_sql("t", scope, [])


def test_offsets_that_were_audited_before_and_appended_again_are_duplicates():
    later = replace(WINDOW, start_offset=90, claimed=Totals(10), is_whole=False)
    counts = [PartitionCount(P0, 10, 10, repeated_count=3)]
    answers = {a.question: a.faults for a in judge_rows(AuditScope((later,), ()), counts, [])}

    assert answers["no_duplicates"] == ("orders/0[90,100): appended again, from below=3",)
    assert not answers["row_counts"]


def test_counts_of_slices_of_the_offsets_add_up():
    one = PartitionCount(P0, 5, 4, 3, 2, 1)

    assert one.plus(one) == PartitionCount(P0, 10, 8, 6, 4, 2)
    assert [slice_count(n) for n in (0, 20_000_000, 20_000_001)] == [1, 1, 2]
    assert '"offset" % 3 = 2' in rows_sql("t", SCOPE, [], offsets_slice=(2, 3))
    assert "%" not in rows_sql("t", SCOPE, [])


def test_rows_that_a_rewrite_carried_over_are_new_when_their_offsets_are():
    empty = replace(WINDOW, topic_partition=P1, start_offset=50, next_offset=50)
    scope = AuditScope((replace(WINDOW, start_offset=90), empty), ())

    assert new_rows_condition(scope) == (
        '(_kafka."topic" = \'orders\' AND _kafka."partition" = 0 AND _kafka."offset" >= 90)'
    )
    assert new_rows_condition(AuditScope((empty,), ())) == "FALSE"


def test_a_mark_from_before_a_replay_is_not_believed_for_that_kafka_partition():
    replayed = replace(LATER, totals={**LATER.totals, P0: Totals(121, 4, 0, 5, 0, 3)})

    first, second = audit_scope(replayed, mark_of(LEDGER)).windows
    again, _ = audit_scope(replayed, read_mark(mark_of(replayed).to_json())).windows

    assert (first.start_offset, first.is_whole) == (0, True)
    assert second.start_offset == 50
    assert again.start_offset == 130


def test_dead_letters_that_became_rows_are_still_counted_in_their_table():
    window = AuditWindow(P0, 0, 100, Totals(93, 2, 0, 5, 0, 3), is_whole=True)
    scope = AuditScope((window,), ())

    assert judge_dead_letters(scope, [PartitionCount(P0, 5, 5)]).faults == ()
    assert judge_dead_letters(scope, [PartitionCount(P0, 2, 2)]).faults
