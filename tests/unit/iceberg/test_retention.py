"""Goal: metadata stays small, and no snapshot goes that somebody may still need.

Method: a history of twenty snapshots, one a minute, and one rule at a time.
"""

from dataclasses import replace

from k2i_core.iceberg.gateway import RefView, SnapshotView, TableView
from k2i_core.iceberg.retention import REMOVED_MAX, RetentionLimits, removable

MINUTE_MS = 60_000
NOW_MS = 1_000 * MINUTE_MS
COUNT = 20
APPEND, REPLACE = {"operation": "append"}, {"operation": "replace"}
BY_COUNT = RetentionLimits(age_seconds_max=10**9, count_min=3, count_max=10, grace_seconds=0)


def history(
    count: int = COUNT,
    *,
    named: frozenset[int] = frozenset(),
    replaces: frozenset[int] = frozenset(),
) -> TableView:
    """Snapshots 1 to `count`; the newest was committed now."""
    snapshots = {
        n: SnapshotView(
            n,
            n - 1 or None,
            n,
            NOW_MS - (count - n) * MINUTE_MS,
            REPLACE if n in replaces else APPEND,
        )
        for n in range(1, count + 1)
    }
    return TableView(
        table_uuid="uuid",
        format_version=2,
        head_snapshot_id=count,
        snapshots=snapshots,
        checkpoint_property=None,
        last_sequence_number=count,
        last_updated_ms=NOW_MS,
        schema_id=0,
        spec_id=0,
        metadata_location="",
        field_ids={},
        handle=None,
        named_snapshot_ids=named,
    )


def test_a_short_history_is_left_alone() -> None:
    assert removable(history(9), BY_COUNT, NOW_MS) == ()


def test_the_commit_itself_counts() -> None:
    assert removable(history(10), BY_COUNT, NOW_MS) == (1,)


def test_the_oldest_go_first_until_the_count_fits() -> None:
    assert removable(history(), BY_COUNT, NOW_MS) == tuple(range(1, 12))


def test_old_ones_go_whatever_the_count() -> None:
    limits = replace(BY_COUNT, age_seconds_max=15 * 60, count_max=1_000)

    assert removable(history(), limits, NOW_MS) == (1, 2, 3, 4)


def test_the_newest_stay_whatever_their_age() -> None:
    limits = replace(BY_COUNT, age_seconds_max=0, count_min=15)

    assert removable(history(), limits, NOW_MS) == tuple(range(1, 7))


def test_the_head_stays_in_any_case() -> None:
    limits = RetentionLimits(age_seconds_max=0, count_min=1, count_max=1, grace_seconds=-1)

    assert removable(history(2), limits, NOW_MS) == (1,)


def test_the_grace_time_counts_from_when_a_snapshot_was_followed() -> None:
    limits = replace(BY_COUNT, grace_seconds=17 * 60)

    assert removable(history(), limits, NOW_MS) == (1, 2)


def test_what_something_else_than_an_append_followed_is_left_to_expiration() -> None:
    assert removable(history(19, replaces=frozenset({4})), BY_COUNT, NOW_MS) == (1, 2)


def test_a_snapshot_that_does_not_say_what_it_did_is_no_append() -> None:
    view = history(19)
    silent = replace(view.snapshots[3], summary={})

    removed = removable(replace(view, snapshots={**view.snapshots, 3: silent}), BY_COUNT, NOW_MS)

    assert removed == (1,)


def test_where_expiration_does_not_run_far_too_many_go_all_the_same() -> None:
    replaces = frozenset({4})

    assert removable(history(19, replaces=replaces), BY_COUNT, NOW_MS)[-1] == 2
    assert removable(history(20, replaces=replaces), BY_COUNT, NOW_MS)[-1] == 11


def test_what_the_branch_itself_wants_to_keep_stays() -> None:
    by_count = RefView(COUNT, min_snapshots_to_keep=18)
    by_age = RefView(COUNT, max_snapshot_age_ms=17 * MINUTE_MS)
    aging = replace(BY_COUNT, age_seconds_max=60.0, count_max=1_000)

    assert removable(replace(history(), refs={"main": by_count}), BY_COUNT, NOW_MS) == (1, 2, 3)
    assert removable(replace(history(), refs={"main": by_age}), aging, NOW_MS) == (1, 2)


def test_a_tagged_snapshot_stops_it_so_that_the_history_stays_in_one_piece() -> None:
    assert removable(history(named=frozenset({4})), BY_COUNT, NOW_MS) == (1, 2, 3)


def test_one_commit_gives_up_a_bounded_number() -> None:
    assert len(removable(history(500), BY_COUNT, NOW_MS)) == REMOVED_MAX


def test_a_side_history_is_not_touched() -> None:
    view = history(5)
    side = SnapshotView(99, None, 1, 0, {})
    limits = replace(BY_COUNT, count_max=3)

    removed = removable(replace(view, snapshots={**view.snapshots, 99: side}), limits, NOW_MS)

    assert removed == (1, 2, 3)
