"""Which old snapshots an append may give up, so that metadata stays small while a table is fed.

Every retained snapshot is in the one metadata file that each commit rewrites: at a flush a second
there would be a hundred thousand of them within a day. So an append also removes the oldest ones,
in the same request, as far as the pipeline's `maintenance.expiration` allows:

- more than `count_max` retained, or older than `age_seconds_max`; never the newest `count_min`, nor
  what branch `main` itself says is to be kept
- only the old end of the head's own history, so that the ancestors that remain stay in one piece
- never one that a branch or tag names, never one that was the head within the last `grace_seconds`:
  its readers are still planning
- never one whose child is anything but an append, because its child dropped files that it still
  has: the scheduled expiration deletes those and would lose track of them. Only a table that holds
  twice `count_max` gives them up too, and leaves the files to orphan removal

Only metadata is given up. Data files stay, because what an append follows holds nothing that the
append does not hold. Pure.
"""

from dataclasses import dataclass

from k2i_core.iceberg.gateway import RefView, SnapshotView, TableView

REMOVED_MAX = 50
"""Snapshots given up by one commit. Larger makes one commit slow after a long pause; smaller never
catches up with a table that another program fed."""

MAIN = "main"

FAR_TOO_MANY = 2
"""Times `count_max` from which appends pass what is not an append. Larger lets metadata grow for
longer where expiration is off; smaller leaves to orphan removal what expiration would delete."""


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

    def of_branch(self, ref: RefView | None) -> "RetentionLimits":
        """Return the limits with what a branch itself asks to keep, where that is more."""
        if ref is None:
            return self
        count_min = max(self.count_min, ref.min_snapshots_to_keep or 0)
        return RetentionLimits(
            age_seconds_max=max(self.age_seconds_max, (ref.max_snapshot_age_ms or 0) / 1000),
            count_min=count_min,
            count_max=max(self.count_max, count_min),
            grace_seconds=self.grace_seconds,
        )


def removable(view: TableView, limits: RetentionLimits, now_ms: int) -> tuple[int, ...]:
    """Return the snapshots to give up with the next commit, oldest first."""
    ancestors = list(view.ancestors())
    limits = limits.of_branch(view.refs.get(MAIN))
    removed: list[int] = []
    # The commit itself adds one.
    retained_count = len(ancestors) + 1
    is_far_too_many = retained_count > FAR_TOO_MANY * limits.count_max
    # Without the head, which stays in any case.
    for child, snapshot in zip(reversed(ancestors[:-1]), reversed(ancestors[1:]), strict=True):
        age_seconds = (now_ms - snapshot.timestamp_ms) / 1000
        is_over = retained_count > limits.count_max or age_seconds > limits.age_seconds_max
        if (
            not is_over
            or retained_count <= limits.count_min
            or (now_ms - child.timestamp_ms) / 1000 < limits.grace_seconds
            or snapshot.snapshot_id in view.named_snapshot_ids
            or not (is_append(child) or is_far_too_many)
            or len(removed) >= REMOVED_MAX
        ):
            break
        removed.append(snapshot.snapshot_id)
        retained_count -= 1
    return tuple(removed)


def is_append(snapshot: SnapshotView) -> bool:
    """Tell whether the snapshot holds every file that its parent holds."""
    return snapshot.summary.get("operation") == "append"
