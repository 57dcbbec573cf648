"""Properties of the plan of snapshot expiration.

Goal: no history, however it branched and was rewound, loses a snapshot that somebody names, reads
or needs for its checkpoint, and no file is deleted or forgotten. Method: random histories with
appends, replacements, rewinds, branches and tags, each snapshot with the set of files it holds; the
plan is compared with what that model says.
"""

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from k2i_core.iceberg.ancestry import carrier_of
from k2i_core.iceberg.gateway import RefView, SnapshotView, TableView
from k2i_core.iceberg.unreachable import _without_appended_child
from k2i_core.ledger import CHECKPOINT_KEY
from k2i_core.maintenance.expiration import ExpirationLimits, plan_expiration

NOW_MS = 1_000_000_000


@dataclass
class History:
    view: TableView
    files: dict[int, frozenset[int]]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw up to 25 snapshots; each on the head, or on an older one after a rewind."""
    count = draw(st.integers(1, 25))
    timestamps = sorted(draw(st.lists(st.integers(0, NOW_MS), min_size=count, max_size=count)))
    snapshots: dict[int, SnapshotView] = {}
    files: dict[int, frozenset[int]] = {0: frozenset()}
    head = 0
    for n in range(1, count + 1):
        parent = draw(st.sampled_from([head, head, head, *files]))
        is_append = draw(st.integers(0, 3)) > 0 or not files[parent]
        held = files[parent] | {n}
        if not is_append:
            held -= {draw(st.sampled_from(sorted(files[parent])))}
        summary = {"operation": "append" if is_append else "replace"}
        if draw(st.integers(0, 4)):
            summary[CHECKPOINT_KEY] = "{}"
        snapshots[n] = SnapshotView(n, parent or None, n, timestamps[n - 1], summary)
        files[n] = held
        head = n if draw(st.integers(0, 9)) else head or n
    refs = {"main": RefView(head)}
    for number in range(draw(st.integers(0, 3))):
        refs[f"ref {number}"] = RefView(
            draw(st.integers(1, count)),
            is_branch=draw(st.booleans()),
            max_snapshot_age_ms=draw(st.none() | st.integers(1, NOW_MS)),
            min_snapshots_to_keep=draw(st.none() | st.integers(1, 10)),
        )
    del files[0]
    view = TableView(
        table_uuid="uuid",
        format_version=2,
        head_snapshot_id=head,
        snapshots=snapshots,
        checkpoint_property=None,
        last_sequence_number=count,
        last_updated_ms=timestamps[-1],
        schema_id=0,
        spec_id=0,
        metadata_location="",
        field_ids={},
        handle=None,
        named_snapshot_ids=frozenset(r.snapshot_id for n, r in refs.items() if n != "main"),
        refs=refs,
    )
    return History(view, files)


limits = st.builds(
    ExpirationLimits,
    age_seconds_max=st.integers(0, NOW_MS // 1000).map(float),
    count_min=st.integers(1, 10),
    count_max=st.integers(10, 20),
    reader_grace_seconds=st.integers(0, NOW_MS // 1000).map(float),
)


def retained(view: TableView, removed: set[int]) -> TableView:
    """The view after the removal, as catalogs leave it: children of removed ones have no parent."""
    left = {
        i: SnapshotView(
            i,
            None if s.parent_snapshot_id in removed else s.parent_snapshot_id,
            s.sequence_number,
            s.timestamp_ms,
            s.summary,
        )
        for i, s in view.snapshots.items()
        if i not in removed
    }
    return TableView(**{**{f: getattr(view, f) for f in view.__slots__}, "snapshots": left})


@given(histories(), limits)
def test_nothing_that_is_named_goes(history: History, limit: ExpirationLimits) -> None:
    removed = set(plan_expiration(history.view, limit, NOW_MS).removed_snapshot_ids)

    assert not removed & {ref.snapshot_id for ref in history.view.refs.values()}


@given(histories(), limits)
def test_what_is_left_of_the_main_history_is_one_piece(
    history: History, limit: ExpirationLimits
) -> None:
    removed = set(plan_expiration(history.view, limit, NOW_MS).removed_snapshot_ids)
    ids = [s.snapshot_id for s in history.view.ancestors()]
    left = [s.snapshot_id for s in retained(history.view, removed).ancestors()]

    assert ids[: len(left)] == left
    # One more is there than is asked for: the commit that does it.
    assert len(left) >= min(len(ids), limit.count_min - 1)


@given(histories(), limits)
def test_every_branch_and_tag_keeps_its_checkpoint(
    history: History, limit: ExpirationLimits
) -> None:
    removed = set(plan_expiration(history.view, limit, NOW_MS).removed_snapshot_ids)
    after = retained(history.view, removed)

    for name, ref in history.view.refs.items():
        before = carrier_of(history.view, ref.snapshot_id)
        if name != "main" and before is not None:
            found = carrier_of(after, ref.snapshot_id)
            assert found is not None
            assert found.snapshot_id == before.snapshot_id


@given(histories(), limits)
def test_what_was_the_head_within_the_grace_time_stays(
    history: History, limit: ExpirationLimits
) -> None:
    removed = set(plan_expiration(history.view, limit, NOW_MS).removed_snapshot_ids)
    chain = list(history.view.ancestors())

    for child, snapshot in pairwise(chain):
        if (NOW_MS - child.timestamp_ms) / 1000 < limit.reader_grace_seconds:
            assert snapshot.snapshot_id not in removed
    in_a_history = {
        s.snapshot_id
        for ref in history.view.refs.values()
        for s in history.view.ancestors_of(ref.snapshot_id)
    }
    for stray in removed - in_a_history:
        left_ms = min(
            (s.timestamp_ms for s in chain if s.sequence_number > stray),
            default=history.view.last_updated_ms,
        )
        assert (NOW_MS - left_ms) / 1000 >= limit.reader_grace_seconds


@given(histories(), limits)
def test_files_are_looked_for_wherever_they_can_be(
    history: History, limit: ExpirationLimits
) -> None:
    removed = set(plan_expiration(history.view, limit, NOW_MS).removed_snapshot_ids)
    kept = frozenset().union(*(f for i, f in history.files.items() if i not in removed))
    unreachable = frozenset().union(*(history.files[i] for i in removed)) - kept

    looked_at = _without_appended_child(history.view, removed)

    assert unreachable <= frozenset().union(*(history.files[i] for i in looked_at))


@given(histories(), limits)
def test_with_time_everything_that_was_kept_for_readers_goes(
    history: History, limit: ExpirationLimits
) -> None:
    plan = plan_expiration(history.view, limit, NOW_MS)
    later = plan_expiration(history.view, limit, NOW_MS * 3)

    assert later.waiting_count == 0 or not history.view.snapshots
    assert set(plan.removed_snapshot_ids) <= set(later.removed_snapshot_ids)
