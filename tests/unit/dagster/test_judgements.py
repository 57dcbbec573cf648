"""What the light checks say about made-up facts.

Goal: each check is good, warns and fails where its docstring says, and names the culprit.
Method: pure functions; ranges and figures at the limits and beside them.
"""

import pytest

from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_dagster.running.judgements import (
    Grade,
    Limits,
    judge_contiguity,
    judge_dead_letters,
    judge_lag,
    judge_schema,
)

P0 = TopicPartition("orders", 0)
P1 = TopicPartition("orders", 1)


def ranges(*bounds):
    return tuple(OffsetRange(tp, start, end) for tp, start, end in bounds)


def test_commits_that_join_are_good_wherever_they_begin():
    commits = [ranges((P0, 50, 60), (P1, 0, 5)), ranges((P0, 60, 70)), ranges((P1, 5, 6))]

    verdict = judge_contiguity(commits, {P0: 70, P1: 6})

    assert verdict.grade is Grade.GOOD
    assert verdict.figures == {"commits": 3, "kafka_partitions": 2, "faults": 0}


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        ((P0, 61, 70), "orders/0[61,70) leaves a gap after 60"),
        ((P0, 59, 70), "orders/0[59,70) repeats offsets after 60"),
    ],
)
def test_a_gap_and_an_overlap_are_bad_and_named(second, fault):
    verdict = judge_contiguity([ranges((P0, 50, 60)), ranges(second)], {P0: 70})

    assert verdict.grade is Grade.BAD
    assert fault in verdict.says


@pytest.mark.parametrize("next_offset", [59, 61, None])
def test_a_checkpoint_elsewhere_than_the_last_end_is_bad(next_offset):
    checkpoint = {} if next_offset is None else {P0: next_offset}

    verdict = judge_contiguity([ranges((P0, 50, 60))], checkpoint)

    assert verdict.grade is Grade.BAD
    assert f"orders/0 ends at 60, its checkpoint is {next_offset}" in verdict.says


def test_no_commit_at_all_is_good():
    assert judge_contiguity([], {P0: 3}).grade is Grade.GOOD


@pytest.mark.parametrize(
    ("limits", "grade"),
    [
        (Limits(), Grade.GOOD),
        (Limits(warn=11), Grade.GOOD),
        (Limits(warn=10, fail=11), Grade.WARNING),
        (Limits(warn=1, fail=10), Grade.BAD),
    ],
)
def test_lag_is_judged_over_all_kafka_partitions_against_what_may_just_be(limits, grade):
    verdict = judge_lag({P0: 4, P1: 7}, limits)

    assert verdict.grade is grade
    assert verdict.figures == {"lag_messages": 11, "lag_messages_max": 7}


def test_limits_are_told_as_people_write_numbers():
    says = judge_lag({P0: 4}, Limits(warn=1_000_000)).says

    assert says == "4 messages are not in the table yet (warns above 1,000,000)"


@pytest.mark.parametrize(
    ("dead", "grade"), [(0, Grade.GOOD), (1, Grade.GOOD), (2, Grade.WARNING), (6, Grade.BAD)]
)
def test_dead_letters_are_judged_by_their_share(dead, grade):
    verdict = judge_dead_letters(dead, 100, Limits(0.01, 0.05), window="in this test")

    assert verdict.grade is grade
    assert verdict.figures["dead_letter_share"] == dead / 100


def test_no_record_has_no_dead_letters():
    assert judge_dead_letters(0, 0, Limits(0.0), window="").grade is Grade.GOOD


def test_a_table_that_lacks_a_column_is_bad():
    verdict = judge_schema(["add amount double"], column_count=3, is_declared=True)

    assert verdict.grade is Grade.BAD
    assert verdict.says == "add amount double"


def test_inferred_columns_have_nothing_to_be_compared_with():
    verdict = judge_schema([], column_count=3, is_declared=False)

    assert verdict.grade is Grade.GOOD
    assert "inferred" in verdict.says
