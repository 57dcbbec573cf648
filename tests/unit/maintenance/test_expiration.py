"""Which snapshots an expiration gives up, rule by rule.

Goal: each rule of the plan can be read off one example. Method: a history of twenty snapshots, one
an hour, the newest committed an hour ago.
"""

from dataclasses import replace

from k2i_core.iceberg.gateway import RefView, SnapshotView, TableView
from k2i_core.ledger import CHECKPOINT_KEY
from k2i_core.maintenance.expiration import ExpirationLimits, plan_expiration

HOUR = 3_600.0
HOUR_MS = 3_600_000
NOW_MS = 10_000 * HOUR_MS
COUNT = 20
APPEND, REPLACE = {"operation": "append"}, {"operation": "replace"}
BY_AGE = ExpirationLimits(
    age_seconds_max=10 * HOUR, count_min=3, count_max=100, reader_grace_seconds=HOUR
)


def history(**changes: object) -> TableView:
    snapshots = {
        n: SnapshotView(n, n - 1 or None, n, NOW_MS - (COUNT - n + 1) * HOUR_MS, APPEND)
        for n in range(1, COUNT + 1)
    }
    view = TableView(
        table_uuid="uuid",
        format_version=2,
        head_snapshot_id=COUNT,
        snapshots=snapshots,
        checkpoint_property=None,
        last_sequence_number=COUNT,
        last_updated_ms=NOW_MS - HOUR_MS,
        schema_id=0,
        spec_id=0,
        metadata_location="",
        field_ids={},
        handle=None,
        refs={"main": RefView(COUNT)},
    )
    return replace(view, **changes)


def removed(view: TableView, limits: ExpirationLimits = BY_AGE) -> tuple[int, ...]:
    return plan_expiration(view, limits, NOW_MS).removed_snapshot_ids


def numbers(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


def test_old_ones_go() -> None:
    assert removed(history()) == numbers(1, 10)


def test_the_newest_stay_whatever_their_age_and_the_commit_itself_is_one_of_them() -> None:
    limits = replace(BY_AGE, age_seconds_max=0.0, count_min=15, reader_grace_seconds=0.0)

    assert removed(history(), limits) == numbers(1, 6)


def test_too_many_go_whatever_their_age() -> None:
    limits = replace(BY_AGE, age_seconds_max=1e9, count_max=8)

    assert removed(history(), limits) == numbers(1, 13)


def test_a_snapshot_waits_for_readers_until_what_followed_it_is_old_enough() -> None:
    limits = replace(BY_AGE, age_seconds_max=0.0, count_min=1, reader_grace_seconds=4.5 * HOUR)

    plan = plan_expiration(history(), limits, NOW_MS)

    # 17 was followed four hours ago.
    assert plan.removed_snapshot_ids == numbers(1, 15)
    assert plan.waiting_count == 4


def test_the_head_stays() -> None:
    view = history()
    only = replace(
        view, head_snapshot_id=1, refs={"main": RefView(1)}, snapshots={1: view.snapshots[1]}
    )

    assert removed(only, replace(BY_AGE, count_min=1, reader_grace_seconds=0.0)) == ()


def test_a_tag_keeps_one_snapshot() -> None:
    refs = {"main": RefView(COUNT), "audit": RefView(4, is_branch=False)}
    view = history(refs=refs)
    carried = {**view.snapshots, 4: replace(view.snapshots[4], summary={CHECKPOINT_KEY: "{}"})}

    assert removed(replace(view, snapshots=carried)) == (1, 2, 3, 5, 6, 7, 8, 9, 10)


def test_a_tag_keeps_the_checkpoint_below_it_and_what_leads_there() -> None:
    refs = {"main": RefView(COUNT), "audit": RefView(6, is_branch=False)}
    view = history(refs=refs)
    carried = {**view.snapshots, 4: replace(view.snapshots[4], summary={CHECKPOINT_KEY: "{}"})}

    assert removed(replace(view, snapshots=carried)) == (1, 2, 3, 7, 8, 9, 10)


def test_a_branch_has_limits_of_its_own_where_they_keep_more() -> None:
    longer = {"main": RefView(COUNT, max_snapshot_age_ms=15 * HOUR_MS)}
    more = {"main": RefView(COUNT, min_snapshots_to_keep=18)}
    shorter = {"main": RefView(COUNT, max_snapshot_age_ms=1, min_snapshots_to_keep=1)}

    assert removed(history(refs=longer)) == numbers(1, 5)
    assert removed(history(refs=more)) == numbers(1, 3)
    assert removed(history(refs=shorter)) == numbers(1, 10)


def test_another_branch_is_kept_like_main() -> None:
    refs = {"main": RefView(COUNT), "trial": RefView(8)}
    view = history(refs=refs)
    carried = {**view.snapshots, 7: replace(view.snapshots[7], summary={CHECKPOINT_KEY: "{}"})}

    # Its newest three, and not what lies between the two.
    assert removed(replace(view, snapshots=carried)) == (1, 2, 3, 4, 5, 9, 10)


def test_what_a_rewind_left_behind_goes_when_it_is_old_and_its_readers_are_gone() -> None:
    view = history()
    stray = SnapshotView(99, 5, 5, NOW_MS - 15 * HOUR_MS, APPEND)
    fresh = SnapshotView(98, 18, 19, NOW_MS - 11 * HOUR_MS, APPEND)
    with_strays = replace(view, snapshots={**view.snapshots, 99: stray, 98: fresh})
    grace = replace(BY_AGE, reader_grace_seconds=1.5 * HOUR)

    assert 99 in removed(with_strays, grace)
    assert 98 not in removed(with_strays, grace)  # followed by 20 an hour ago


def test_one_append_is_not_worth_a_commit_that_adds_a_snapshot_itself() -> None:
    limits = replace(BY_AGE, age_seconds_max=19.5 * HOUR)
    view = history()

    assert removed(view, limits) == ()
    replaced = {**view.snapshots, 2: replace(view.snapshots[2], summary=REPLACE)}
    assert removed(replace(view, snapshots=replaced), limits) == (1,)


def test_a_named_snapshot_is_kept_also_where_only_its_id_is_known() -> None:
    assert 4 not in removed(history(named_snapshot_ids=frozenset({4})))
