"""How an audit finds what is new, and how it tells appends from rewrites.

Goal: every commit since the mark is looked at once, whatever was expired, rewound or rolled back in
between; files are attributed to the commit that added them, also when they are gone again.
Method: made-up histories; no table.
"""

import json
from dataclasses import replace

import pytest

from k2i_core.audit.audit_state import AuditState, read_state
from k2i_core.audit.content_checks import NullCount
from k2i_core.audit.row_audit import AuditMark
from k2i_core.audit.table_delta import (
    Chain,
    SnapshotChange,
    TableMark,
    attribute,
    history_since,
)
from k2i_core.ledger import Totals
from k2i_core.offsets import TopicPartition
from tests.unit.audit.made_delta import delta, file, snapshot

ONE, TWO, THREE, FOUR = (snapshot(number) for number in (1, 2, 3, 4))
MARK = TableMark("uuid", TWO.snapshot_id, TWO.sequence_number, {"total-records": 20})


def test_without_a_mark_all_that_is_retained_is_new():
    history = history_since([TWO, ONE], "uuid", None)

    assert (history.chain, history.new, history.is_whole) == (Chain.FIRST, (ONE, TWO), True)


def test_what_came_after_the_marked_snapshot_is_new():
    history = history_since([FOUR, THREE, TWO, ONE], "uuid", MARK)

    assert (history.chain, history.new) == (Chain.CONTINUED, (THREE, FOUR))
    assert (history.before, history.is_whole) == (TWO, False)


def test_nothing_is_new_when_the_head_is_marked():
    assert history_since([TWO, ONE], "uuid", MARK).new == ()


def test_an_expired_mark_is_gone_on_from_by_sequence_number():
    history = history_since([FOUR, THREE], "uuid", MARK)

    assert (history.chain, history.new) == (Chain.GIVEN_UP, (THREE, FOUR))
    assert (history.before, history.is_whole) == (None, False)


def test_a_mark_that_is_no_ancestor_breaks_the_chain_and_all_is_audited():
    rolled = replace(FOUR, parent_snapshot_id=ONE.snapshot_id)
    history = history_since([rolled, ONE], "uuid", MARK)

    assert (history.chain, history.new, history.is_whole) == (Chain.BROKEN, (ONE, rolled), True)


def test_a_rewind_by_k2i_explains_it():
    rewound = replace(FOUR, summary={"k2i.operation": "rewind"})

    assert history_since([rewound, ONE], "uuid", MARK).chain is Chain.REWOUND


def test_another_table_of_the_same_name_is_audited_from_its_start():
    assert history_since([FOUR, TWO], "another", MARK).chain is Chain.RECREATED


def test_files_belong_to_the_commit_that_added_them():
    history = history_since([FOUR, THREE, TWO], "uuid", MARK)
    a, b = file("a", 3), file("b", 4)

    changes = attribute(history, [a, b], {})

    assert [change.added for change in changes] == [(a,), (b,)]


def test_a_file_that_was_rewritten_since_still_counts_for_its_append():
    history = history_since([FOUR, THREE, TWO], "uuid", MARK)
    old, small, large = file("old", 1), file("small", 3), file("large", 4, 20)

    append, rewrite = attribute(history, [large], {FOUR.snapshot_id: ((large,), (old, small))})

    assert append == SnapshotChange(THREE, (small,), ())
    assert rewrite == SnapshotChange(FOUR, (large,), (old, small))


def test_rewritten_rows_are_told_from_appended_ones_whatever_their_sequence_number():
    # A compaction keeps the rows' sequence number and adds the file under its own.
    large = file("large", 4, 20, sequence_number=1)
    new = file("new", 3)
    found = delta(
        [SnapshotChange(THREE, (new,)), SnapshotChange(FOUR, (large,), (file("old", 1),))]
    )

    assert (found.appended, found.rewritten) == ((new,), (large,))


def test_files_of_commits_that_are_not_retained_are_not_taken_for_appended():
    lone = file("lone", 3)
    found = delta([SnapshotChange(FOUR, ())], live=(lone,), chain=Chain.GIVEN_UP)

    assert (found.appended, found.rewritten) == ((), (lone,))


STATE = AuditState(
    AuditMark({TopicPartition("a", 0): 7}, {TopicPartition("a", 0): Totals(7)}),
    replace(MARK, snapshot_id=2**63 - 1),
    {3: NullCount(1, 4)},
)


def test_a_state_survives_being_stored():
    assert read_state(json.loads(json.dumps(STATE.to_json()))) == STATE


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"version": 1, "topics": {}},
        {**STATE.to_json(), "version": 3},
        {**STATE.to_json(), "ledger": {}},
        {**STATE.to_json(), "table": {"snapshot": "x"}},
        {**STATE.to_json(), "nulls": {"1": [2]}},
    ],
)
def test_anything_else_is_no_state(document):
    assert read_state(document) is None
