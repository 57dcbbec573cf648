"""Judgements about what is in files, without a table.

Goal: rewrites that change anything are found, columns that run empty are found without crying wolf,
and impossible statistics, small files, readers that disagree and shared keys are named.
Method: pure functions over made-up facts; rewrites also as a property over any split of rows.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.audit.content_checks import (
    Fingerprint,
    NullCount,
    count_nulls,
    judge_nulls,
    judge_rewrites,
    judge_second_reader,
    judge_small_files,
    judge_statistics,
    judge_unique_key,
    judge_user_check,
)
from k2i_core.audit.table_delta import SnapshotChange
from tests.unit.audit.made_delta import file, snapshot

REPLACE = snapshot(4, operation="replace")
OLD, OTHER, NEW = file("old", 1), file("other", 2), file("new", 4, 20)
REWRITE = SnapshotChange(REPLACE, (NEW,), (OLD, OTHER))


def printed(offsets_and_hashes):
    total = Fingerprint()
    for offset, hashed in offsets_and_hashes:
        total = total.plus(Fingerprint(1, offset, hashed, hashed))
    return total


ROWS = st.lists(
    st.tuples(st.integers(0, 2**40), st.integers(0, 2**64 - 1)), min_size=1, max_size=20
)


@given(rows=ROWS, data=st.data())
def test_the_same_rows_in_any_order_and_any_files_are_neutral(rows, data):
    cut = data.draw(st.integers(0, len(rows)))
    prints = {
        OLD.path: {"orders/0": printed(rows[:cut])},
        OTHER.path: {"orders/0": printed(rows[cut:])},
        NEW.path: {"orders/0": printed(data.draw(st.permutations(rows)))},
    }

    assert not judge_rewrites([REWRITE], prints, has_delete_files=False).faults


@given(rows=ROWS, data=st.data())
def test_a_row_that_is_lost_doubled_or_changed_is_found(rows, data):
    index = data.draw(st.integers(0, len(rows) - 1))
    offset, hashed = rows[index]
    changed = data.draw(
        st.sampled_from(
            [
                [*rows[:index], *rows[index + 1 :]],
                [*rows, rows[index]],
                [*rows[:index], (offset, hashed ^ 1), *rows[index + 1 :]],
                [*rows[:index], (offset + 1, hashed), *rows[index + 1 :]],
            ]
        )
    )
    prints = {
        OLD.path: {"orders/0": printed(rows)},
        OTHER.path: {},
        NEW.path: {"orders/0": printed(changed)},
    }

    assert judge_rewrites([REWRITE], prints, has_delete_files=False).faults


def test_rows_that_moved_to_another_kafka_partition_are_found():
    prints = {
        OLD.path: {"orders/0": printed([(1, 5)])},
        OTHER.path: {},
        NEW.path: {"orders/1": printed([(1, 5)])},
    }

    assert judge_rewrites([REWRITE], prints, has_delete_files=False).faults == (
        "snapshot_id=400: orders/0: removed rows=1, put back 0",
        "snapshot_id=400: orders/1: removed rows=0, put back 1",
    )


def test_a_rewrite_whose_files_are_gone_is_not_accused():
    answer = judge_rewrites([REWRITE], {NEW.path: {}}, has_delete_files=False)

    assert (answer.faults, answer.figures["unproven"]) == ((), 1)
    assert "1 commits" in answer.note


NAMES = {1: "note"}


@pytest.mark.parametrize(
    ("new", "before", "warns"),
    [
        (NullCount(0, 100), NullCount(0, 100), False),
        (NullCount(100, 100), NullCount(0, 100), True),
        (NullCount(100, 100), NullCount(60, 100), True),
        (NullCount(100, 100), NullCount(99, 100), False),
        (NullCount(100, 100), NullCount(100, 100), False),
        (NullCount(60, 100), NullCount(10, 100), True),
        (NullCount(50, 100), NullCount(10, 100), False),
        (NullCount(19, 19), NullCount(0, 100), False),
        (NullCount(100, 100), NullCount(0, 19), False),
        (NullCount(0, 100), NullCount(100, 100), False),
    ],
)
def test_a_column_that_runs_empty_warns(new, before, warns):
    answer = judge_nulls({1: new}, {1: before}, NAMES)

    assert bool(answer.faults) is warns
    assert not answer.is_error


def test_a_new_column_without_any_value_warns_but_not_at_the_first_audit():
    assert judge_nulls({1: NullCount(50, 50)}, {2: NullCount(0, 50)}, NAMES).faults
    assert not judge_nulls({1: NullCount(50, 50)}, {}, NAMES).faults


def test_nulls_are_added_up_where_a_writer_counted_them():
    counted = file("a", 3, value_counts={1: 10, 2: 10}, null_counts={1: 4, 2: 1})
    silent = file("b", 3)

    assert count_nulls([counted, silent, counted], [1]) == {1: NullCount(8, 20)}


def test_the_past_fades():
    assert NullCount(10, 100).faded(NullCount(1, 50)) == NullCount(6, 100)


@pytest.mark.parametrize(
    ("statistics", "fault"),
    [
        ({"value_counts": {1: 10}, "null_counts": {1: 11}}, "note: more nulls than values"),
        (
            {"lower_bounds": {1: b"b"}, "upper_bounds": {1: b"a"}},
            "note: lower bound above upper bound",
        ),
        ({"lower_bounds": {1: b"a"}, "upper_bounds": {1: b"a"}}, ""),
        ({"lower_bounds": {1: b"b"}}, ""),
        ({"lower_bounds": {9: b"b"}, "upper_bounds": {9: b"a"}}, ""),
        ({"null_counts": {1: 3}}, ""),
    ],
)
def test_impossible_statistics_warn(statistics, fault):
    entry = file("a", 3, **statistics)
    answer = judge_statistics([entry], NAMES, lambda _, lower, upper: lower > upper)

    assert answer.faults == ((f"{fault}, first in {entry.path}",) if fault else ())


@pytest.mark.parametrize(
    ("small", "large", "warns"), [(100, 0, False), (101, 0, True), (101, 101, False)]
)
def test_many_small_files_warn(small, large, warns):
    entries = [file("s", 1, 1)] * small + [file("l", 1, 100)] * large
    answer = judge_small_files(entries, lambda byte_count: byte_count < 5_000)

    assert bool(answer.faults) is warns


def test_readers_that_disagree_are_an_error():
    assert not judge_second_reader({"a/0": (3, 3)}, {"a/0": (3, 3)}).faults
    assert judge_second_reader({"a/0": (3, 3)}, {"a/0": (3, 4)}).faults
    assert judge_second_reader({"a/0": (3, 3)}, {}).faults
    assert judge_second_reader({}, {"a/1": (1, 0)}).faults
    assert not judge_second_reader({"a/0": (3, 3)}, None).faults


def test_keys_and_users_checks_fail_by_what_is_returned():
    assert not judge_unique_key(["id"], 0, 0).faults
    assert judge_unique_key(["id"], 2, 5).faults == ("keys=2 of (id) are shared by rows=5",)
    assert not judge_user_check("mine", 0, is_error=True).faults
    assert judge_user_check("mine", 3, is_error=False).faults == ("rows returned=3",)
    assert not judge_user_check("mine", 3, is_error=False).is_failed_error
