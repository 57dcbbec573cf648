"""Which old snapshots an append may give up, so that metadata stays small while a table is fed.

Every retained snapshot is in the one metadata file that each commit rewrites: at a flush a second
there would be a hundred thousand of them within a day. So an append also removes the oldest ones,
in the same request, as far as the pipeline's `maintenance.expiration` allows:

- more than `count_max` retained, or older than `age_seconds_max`; never the newest `count_min`
- only the old end of the head's own history, so that the ancestors that remain stay in one piece
- never one that a branch or tag names, never one younger than `grace_seconds`: its readers are
  still planning

Only metadata is given up. Data files stay, because appends remove none; what compaction replaced
is for the scheduled expiration. Pure.
"""

from dataclasses import dataclass

from k2i_core.iceberg.gateway import TableView

REMOVED_MAX = 50
"""Snapshots given up by one commit. Larger makes one commit slow after a long pause; smaller never
catches up with a table that another program fed."""


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """`maintenance.expiration` of the pipeline file.

    Attributes:
        grace_seconds: A reader that loaded a snapshot this long ago has opened its manifests.
    """

    age_seconds_max: float
    count_min: int
    count_max: int
    grace_seconds: float = 60.0


def removable(view: TableView, limits: RetentionLimits, now_ms: int) -> tuple[int, ...]:
    """Return the snapshots to give up with the next commit, oldest first."""
    ancestors = list(view.ancestors())
    removed: list[int] = []
    # The commit itself adds one.
    retained_count = len(ancestors) + 1
    for snapshot in reversed(ancestors):
        age_seconds = (now_ms - snapshot.timestamp_ms) / 1000
        is_over = retained_count > limits.count_max or age_seconds > limits.age_seconds_max
        if (
            not is_over
            or retained_count <= limits.count_min
            or age_seconds < limits.grace_seconds
            or snapshot.snapshot_id in view.named_snapshot_ids
            or snapshot.snapshot_id == view.head_snapshot_id
            or len(removed) >= REMOVED_MAX
        ):
            break
        removed.append(snapshot.snapshot_id)
        retained_count -= 1
    return tuple(removed)
