"""Properties of compaction's plan.

Goal: whatever a table looks like, no file is taken twice, budgets hold, and nothing is mixed that
must not be. Method: random tables and random rules.
"""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from k2i_core.iceberg.live_files import LiveFile
from k2i_core.maintenance.compaction_plan import PlanRules, plan_compaction
from k2i_core.maintenance.sizes import is_small

NOW_MS = 1_000_000


@st.composite
def tables(draw: st.DrawFn) -> list[LiveFile]:
    count = draw(st.integers(0, 60))
    return [
        LiveFile(
            path=f"f{n}",
            spec_id=draw(st.integers(0, 1)),
            iceberg_partition=(draw(st.sampled_from(["a", None, 1.5, float("nan")])),),
            byte_count=draw(st.integers(1, 300)),
            row_count=1,
            snapshot_id=n % 7,
            sequence_number=draw(st.integers(1, 20)),
            is_parquet=draw(st.integers(0, 9)) > 0,
        )
        for n in range(count)
    ]


@st.composite
def all_rules(draw: st.DrawFn) -> PlanRules:
    return PlanRules(
        target_file_bytes=draw(st.integers(1, 300)),
        min_input_files=draw(st.integers(2, 6)),
        max_bytes=draw(st.integers(1, 5_000)),
        spec_id=1,
        now_ms=NOW_MS,
        added_ms={n: NOW_MS - draw(st.integers(0, 120_000)) for n in range(4)},
        since_sequence_numbers=draw(st.lists(st.integers(1, 20), max_size=3)),
        is_everything=draw(st.booleans()),
        thread_count=draw(st.integers(1, 3)),
    )


@given(tables(), all_rules())
def test_every_file_is_in_at_most_one_group_and_budgets_hold(
    files: list[LiveFile], rules: PlanRules
) -> None:
    groups = plan_compaction(files, rules).groups

    taken = Counter(file.path for group in groups for file in group.files)
    assert all(count == 1 for count in taken.values())
    assert taken.keys() <= {file.path for file in files if file.is_parquet}
    assert sum(group.byte_count for group in groups) <= rules.max_bytes
    for group in groups:
        assert len(group.files) == 1 or group.byte_count <= rules.group_bytes_max(10**9)


@given(tables(), all_rules())
def test_nothing_is_mixed_and_nothing_is_rewritten_for_nothing(
    files: list[LiveFile], rules: PlanRules
) -> None:
    for group in plan_compaction(files, rules).groups:
        assert {repr(file.iceberg_partition) for file in group.files} == {
            repr(group.iceberg_partition)
        }
        assert {file.spec_id for file in group.files} == {group.spec_id}
        for begin in rules.since_sequence_numbers:
            assert len({file.sequence_number >= begin for file in group.files}) == 1
        if not rules.is_everything and group.spec_id == rules.spec_id:
            assert len(group.files) > 1
            assert all(is_small(file.byte_count, rules.target_file_bytes) for file in group.files)


@given(tables(), all_rules())
def test_every_iceberg_partition_is_taken_or_told_why_not(
    files: list[LiveFile], rules: PlanRules
) -> None:
    plan = plan_compaction(files, rules)

    waiting = Counter(
        (file.spec_id, repr(file.iceberg_partition))
        for file in files
        if file.is_parquet
        and (
            rules.is_everything
            or file.spec_id != rules.spec_id
            or is_small(file.byte_count, rules.target_file_bytes)
        )
    )
    taken = {(group.spec_id, repr(group.iceberg_partition)) for group in plan.groups}
    assert not waiting or taken or plan.skipped or max(waiting.values()) < 2 or _are_apart(rules)


def _are_apart(rules: PlanRules) -> bool:
    """Tell whether files may be left alone in their group: eras and small groups part them."""
    return bool(rules.since_sequence_numbers) or rules.group_bytes_max(0) < 2 * 300
