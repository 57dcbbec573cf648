"""Which files are put together, and why others wait.

Goal: the work goes where it pays, and every refusal says why. Method: made-up files; the plan is a
pure function of them.
"""

from typing import Any

from k2i_core.iceberg.live_files import LiveFile
from k2i_core.maintenance.compaction_plan import PlanRules, plan_compaction
from k2i_core.maintenance.sizes import is_small

TARGET = 100
NOW_MS = 1_000_000


def file(number: int, byte_count: int = 10, **changes: Any) -> LiveFile:
    values: dict[str, Any] = {
        "path": f"f{number}",
        "spec_id": 0,
        "iceberg_partition": (),
        "byte_count": byte_count,
        "row_count": byte_count,
        "snapshot_id": number,
        "sequence_number": number,
        **changes,
    }
    return LiveFile(**values)


def rules(**changes: Any) -> PlanRules:
    values: dict[str, Any] = {
        "target_file_bytes": TARGET,
        "min_input_files": 3,
        "max_bytes": 10_000,
        "spec_id": 0,
        "now_ms": NOW_MS,
        "added_ms": {},
        **changes,
    }
    return PlanRules(**values)


def paths(plan: Any) -> list[list[str]]:
    return [[f.path for f in group.files] for group in plan.groups]


def test_a_file_is_small_below_three_quarters_of_the_target() -> None:
    assert is_small(74, 100)
    assert not is_small(75, 100)


def test_small_files_of_an_iceberg_partition_are_put_together_in_the_order_of_time() -> None:
    plan = plan_compaction([file(3), file(1), file(2), file(4, 80)], rules())

    assert paths(plan) == [["f1", "f2", "f3"]]
    assert plan.small_file_count == 3
    assert plan.skipped == ()


def test_files_of_different_partitions_are_never_put_together() -> None:
    files = [file(n, iceberg_partition=(n % 2,)) for n in range(6)]

    plan = plan_compaction(files, rules())

    assert sorted(paths(plan)) == [["f0", "f2", "f4"], ["f1", "f3", "f5"]]


def test_too_few_small_files_wait_with_the_reason() -> None:
    plan = plan_compaction([file(1), file(2)], rules())

    assert plan.groups == ()
    assert plan.skipped == ("the whole table: small files=2, worth it from 3",)


def test_what_is_still_being_written_waits_with_the_reason() -> None:
    added_ms = {1: NOW_MS - 61_000, 2: NOW_MS - 59_000, 3: NOW_MS}
    files = [file(n, iceberg_partition=("x",)) for n in (1, 2, 3)]

    plan = plan_compaction(files, rules(added_ms=added_ms))

    assert plan.groups == ()
    assert "iceberg_partition=(x): still being written" in plan.skipped[0]
    assert "only 1 are older than 60 s" in plan.skipped[0]


def test_the_newest_files_of_a_busy_partition_are_left_for_later() -> None:
    plan = plan_compaction([file(n) for n in range(5)], rules(added_ms={4: NOW_MS}))

    assert paths(plan) == [["f0", "f1", "f2", "f3"]]


def test_the_worst_partitions_come_first_within_the_budget() -> None:
    files = [file(n, iceberg_partition=("few",)) for n in range(3)]
    files += [file(n, iceberg_partition=("many",)) for n in range(10, 15)]

    plan = plan_compaction(files, rules(max_bytes=60))

    assert [group.iceberg_partition for group in plan.groups] == [("many",)]
    assert "groups left for the next run: 1" in plan.skipped[0]


def test_files_of_an_old_spec_are_taken_whatever_their_size_and_number() -> None:
    plan = plan_compaction([file(1, 500, spec_id=7), file(2, 90)], rules())

    assert paths(plan) == [["f1"]]


def test_everything_means_everything() -> None:
    added_ms = {1: NOW_MS}

    plan = plan_compaction([file(1, 500), file(2)], rules(is_everything=True, added_ms=added_ms))

    assert sorted(path for group in paths(plan) for path in group) == ["f1", "f2"]


def test_rows_of_two_eras_never_share_a_file() -> None:
    files = [file(n) for n in range(6)]

    plan = plan_compaction(files, rules(since_sequence_numbers=(3,)))

    assert paths(plan) == [["f0", "f1", "f2"], ["f3", "f4", "f5"]]


def test_other_formats_are_counted_and_left_alone() -> None:
    files = [file(n, is_parquet=n > 1) for n in range(4)]

    plan = plan_compaction(files, rules(min_input_files=2))

    assert paths(plan) == [["f2", "f3"]]
    assert plan.skipped == ("files of other formats than Parquet: 2",)


def test_a_group_is_no_larger_than_a_few_targets() -> None:
    plan = plan_compaction([file(n, 70) for n in range(12)], rules())

    assert [len(group.files) for group in plan.groups] == [5, 5, 2]


def test_a_group_has_no_more_files_than_an_attempt_can_name_quickly() -> None:
    tiny = [file(n, 1) for n in range(2_500)]

    plan = plan_compaction(tiny, rules(target_file_bytes=10_000))

    assert [len(group.files) for group in plan.groups] == [1_000, 1_000, 500]


def test_every_thread_has_a_group_when_there_is_enough_for_full_files() -> None:
    files = [file(n, 70) for n in range(4)]

    assert len(plan_compaction(files, rules()).groups) == 1
    assert len(plan_compaction(files, rules(thread_count=2)).groups) == 2
    assert len(plan_compaction([file(n) for n in range(4)], rules(thread_count=2)).groups) == 1
