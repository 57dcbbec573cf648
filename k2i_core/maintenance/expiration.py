"""Snapshot expiration: which snapshots go, and then the files that only they needed.

The plan is pure. It keeps, of the history of every branch, one unbroken piece from its newest
snapshot on, so that ancestors stay ancestors; all that a tag names; the nearest snapshot with a
checkpoint below every branch and tag; and whatever a reader may still be working on.

**Readers.** A reader works on the snapshot that was the newest when it loaded the table. So a
snapshot stays until the one that followed it is `reader_grace_seconds` old. Nothing is forgotten in
between: a snapshot that is too young to go today is still there tomorrow, with all it names.

The act is one commit, an empty one that carries the checkpoint on and gives up the snapshots in the
same request, asserting `main`, all branches and tags, and the table's uuid. It moves the head, so
that nothing built on the old one can land any more. Files are deleted only after a fresh load has
that commit in its history and lacks the snapshots. Killed anywhere, it leaves files that orphan
removal takes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from k2i_core.clock import Clock
from k2i_core.crash_points import CrashPoint, Observer, ignore
from k2i_core.errors import CorruptionError, ErrorKind
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.decisions import Decision, decide_carry
from k2i_core.iceberg.deletion import delete_files, outside, refuse_if_kept
from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.gateway import RefView, SnapshotView, TableView
from k2i_core.iceberg.refs import lost_refs
from k2i_core.iceberg.retention import MAIN, is_append
from k2i_core.iceberg.unreachable import (
    RemovedFiles,
    removed_files,
    unreachable_data_files,
    without_snapshots,
)
from k2i_core.iceberg.views import table_of, view_of
from k2i_core.ledger import CHECKPOINT_KEY, Entry
from k2i_core.maintenance.report import MaintenanceReport, Progress, no_progress
from k2i_core.records import TableState

REMOVED_MAX = 5_000
"""Snapshots given up by one run. Larger makes one commit slow in catalogs that look for each id in
turn; smaller needs more runs after a table was left alone."""


@dataclass(frozen=True, slots=True)
class ExpirationLimits:
    """`maintenance.expiration` of the pipeline file.

    Attributes:
        age_seconds_max: Older snapshots go.
        count_min: Newest snapshots of every branch that stay whatever their age.
        count_max: Snapshots beyond this number go whatever their age.
        reader_grace_seconds: See the module.
    """

    age_seconds_max: float
    count_min: int
    count_max: int
    reader_grace_seconds: float


@dataclass(frozen=True, slots=True)
class ExpirationPlan:
    """What to give up.

    Attributes:
        removed_snapshot_ids: Oldest first.
        waiting_count: Snapshots that would go but for a reader that may still be at work.
    """

    removed_snapshot_ids: tuple[int, ...]
    waiting_count: int = 0


def plan_expiration(view: TableView, limits: ExpirationLimits, now_ms: int) -> ExpirationPlan:
    """Choose the snapshots to give up; pure.

    Args:
        view: One load.
        limits: What the pipeline file says; a branch's own limits stand where they keep more.
        now_ms: Milliseconds since 1970 UTC.

    """
    histories: set[int] = set()
    kept: set[int] = set()
    waiting: set[int] = set()
    refs = dict(view.refs)
    if view.head_snapshot_id is not None:
        refs.setdefault(MAIN, RefView(view.head_snapshot_id))
    for named in view.named_snapshot_ids - {ref.snapshot_id for ref in refs.values()}:
        refs[f"snapshot {named}"] = RefView(named, is_branch=False)
    for name, ref in refs.items():
        history = list(view.ancestors_of(ref.snapshot_id))
        histories.update(s.snapshot_id for s in history)
        for snapshot, is_waiting in _kept_of(name, ref, history, limits, now_ms):
            kept.add(snapshot.snapshot_id)
            if is_waiting:
                waiting.add(snapshot.snapshot_id)
    strays = [s for i, s in view.snapshots.items() if i not in histories]
    strays.sort(key=lambda s: s.sequence_number)
    over_count = len(kept) + len(strays) + 1 - limits.count_max
    for number, stray in enumerate(strays):
        is_due = number < over_count or _seconds(stray.timestamp_ms, now_ms) > (
            limits.age_seconds_max
        )
        is_read = _seconds(_left_ms(view, stray), now_ms) < limits.reader_grace_seconds
        if not is_due or is_read:
            kept.add(stray.snapshot_id)
        if is_due and is_read:
            waiting.add(stray.snapshot_id)
    removed = [s for i, s in view.snapshots.items() if i not in kept]
    removed.sort(key=lambda s: s.sequence_number)
    if len(removed) == 1 and _has_appended_child(view, removed[0]):
        removed = []  # the commit adds a snapshot itself, and this one holds nothing to win
    return ExpirationPlan(tuple(s.snapshot_id for s in removed[:REMOVED_MAX]), len(waiting))


def _kept_of(
    name: str, ref: RefView, history: list[SnapshotView], limits: ExpirationLimits, now_ms: int
) -> Iterator[tuple[SnapshotView, bool]]:
    """Yield what a branch or tag keeps, newest first, and whether only its readers keep it."""
    is_main = name == MAIN
    count_min = max(limits.count_min, ref.min_snapshots_to_keep or 0)
    count_max = max(limits.count_max, count_min) if is_main else len(history)
    age_seconds_max = max(limits.age_seconds_max, (ref.max_snapshot_age_ms or 0) / 1000)
    # The commit that gives up snapshots becomes the newest of `main`, and carries the checkpoint.
    has_carrier = is_main
    is_open = True
    for position, snapshot in enumerate(history):
        number = position + is_main
        is_due = position > 0 and (
            not ref.is_branch
            or number >= count_max
            or (number >= count_min and _seconds(snapshot.timestamp_ms, now_ms) > age_seconds_max)
        )
        is_read = (
            ref.is_branch
            and position > 0
            and _seconds(history[position - 1].timestamp_ms, now_ms) < limits.reader_grace_seconds
        )
        is_open = is_open and (not is_due or is_read)
        if not is_open and has_carrier:
            return
        yield snapshot, is_open and is_due
        has_carrier = has_carrier or CHECKPOINT_KEY in snapshot.summary


def _has_appended_child(view: TableView, parent: SnapshotView) -> bool:
    children = (s for s in view.snapshots.values() if s.parent_snapshot_id == parent.snapshot_id)
    return any(is_append(child) for child in children)


def _left_ms(view: TableView, stray: SnapshotView) -> int:
    """Return when the head moved on from a snapshot that is in nobody's history any more."""
    newer = [s.timestamp_ms for s in view.ancestors() if s.sequence_number > stray.sequence_number]
    # None newer: it may have been the head a moment ago.
    return min(newer, default=view.last_updated_ms)


def _seconds(since_ms: int, now_ms: int) -> float:
    return (now_ms - since_ms) / 1000


@dataclass(frozen=True, slots=True)
class ExpiredSnapshots:
    """What an expiration gave up.

    Attributes:
        before: The load that it was decided on.
        after: A later one, with the commit and without the snapshots.
        plan: What is gone.
        snapshot_id: Of the commit.
    """

    before: TableView
    after: TableState
    plan: ExpirationPlan
    snapshot_id: int


@dataclass(slots=True)
class _Deleted:
    data_file_count: int = 0
    data_bytes: int = 0
    metadata_file_count: int = 0
    metadata_bytes: int = 0
    outside_count: int = 0


def expire_table(
    committer: TableCommitter,
    limits: ExpirationLimits,
    clock: Clock,
    *,
    is_dry_run: bool = False,
    progress: Progress = no_progress,
    observe: Observer = ignore,
) -> MaintenanceReport:
    """Give up snapshots and delete what only they needed.

    Args:
        committer: The table.
        limits: Which snapshots.
        clock: Now, and for the report.
        is_dry_run: Only tell what would happen.
        progress: Told what is being done.
        observe: Told about every step.

    Raises:
        ConfigError: k2i never committed to the table, or it may not be deleted from.
        UnavailableError: Catalog or store failed; run it again.
        CorruptionError: The ledger cannot be believed, or a tag was lost to a catalog that cannot
            be asked to keep it; no file was deleted.

    """
    started = clock.boot_seconds()
    state = committer.inspect()
    view = view_of(state)
    refuse_if_kept(table_of(view))
    decide_carry(state.entry)
    plan = plan_expiration(view, limits, clock.now_ms())
    if not plan.removed_snapshot_ids or is_dry_run:
        after = without_snapshots(view, plan.removed_snapshot_ids)
        doomed = _measure(committer, view, TableState(state.entry, after), plan, progress)
        seconds = clock.boot_seconds() - started
        return _report(committer.identifier, view, plan, doomed, seconds, is_dry_run=is_dry_run)
    progress("removing snapshots", 0, len(plan.removed_snapshot_ids))
    expired = give_up_snapshots(committer, limits, clock)
    observe(CrashPoint.SNAPSHOTS_REMOVED)
    plan, gone = expired.plan, expired.plan.removed_snapshot_ids
    progress("removing snapshots", len(gone), len(gone))
    deleted = _Deleted()
    notes: tuple[str, ...] = ()
    if gone:
        notes = _check_refs(expired.before, view_of(expired.after), gone)
    if gone and not notes:
        deleted = _delete(committer, expired, progress, observe)
    return _report(
        committer.identifier,
        view,
        plan,
        deleted,
        clock.boot_seconds() - started,
        is_dry_run=False,
        snapshot_id=expired.snapshot_id,
        notes=notes,
    )


def give_up_snapshots(
    committer: TableCommitter, limits: ExpirationLimits, clock: Clock
) -> ExpiredSnapshots:
    """Commit an expiration, and load the table until the load contains it; deletes no file.

    Raises:
        ConfigError: k2i never committed to the table.
        FencedError: The commit was rolled back at once.
        UnavailableError: The catalog failed; run it again.

    """
    attempts: dict[int | None, tuple[TableView, ExpirationPlan]] = {}

    def decide(view: TableView, stored: Entry | None) -> Decision:
        planned = plan_expiration(view, limits, clock.now_ms())
        attempts[view.head_snapshot_id] = (view, planned)
        return decide_carry(stored, removed_snapshot_ids=planned.removed_snapshot_ids)

    committed = committer.maintain("expiration", decide)
    after = committer.inspect_after(committed.snapshot_id)
    snapshots = view_of(after).snapshots
    # Which of the attempts it was that landed, is told by the head that it was built on.
    before, plan = attempts[snapshots[committed.snapshot_id].parent_snapshot_id]
    gone = tuple(i for i in plan.removed_snapshot_ids if i not in snapshots)
    return ExpiredSnapshots(
        before, after, ExpirationPlan(gone, plan.waiting_count), committed.snapshot_id
    )


def _check_refs(before: TableView, after: TableView, gone: tuple[int, ...]) -> tuple[str, ...]:
    """Tell why no file may be deleted; nothing when all is well.

    Raises:
        CorruptionError: A branch or tag went with a snapshot.

    """
    identifier = ".".join(table_of(after).name())
    with translated(f"read the metadata log of table {identifier}"):
        lost = lost_refs(table_of(before), table_of(after), gone)
    if lost is None:
        return ("files are left to orphan removal: the metadata log is too short to compare refs",)
    if lost:
        names = ", ".join(f"{name}={snapshot_id}" for name, snapshot_id in sorted(lost.items()))
        message = (
            f"table={identifier} lost refs that were made while their snapshots expired: {names}; "
            f"no file was deleted; to read them, register the metadata file "
            f"{table_of(before).metadata_location} as a table"
        )
        raise CorruptionError(message, kind=ErrorKind.TABLE_CHANGED)
    return ()


def _measure(
    committer: TableCommitter,
    before: TableView,
    after: TableState,
    plan: ExpirationPlan,
    progress: Progress,
) -> _Deleted:
    """Sum up what would be deleted."""
    found = _Deleted()
    if not plan.removed_snapshot_ids:
        return found
    files = removed_files(before, view_of(after), plan.removed_snapshot_ids)
    for portion in unreachable_data_files(
        before, files, lambda paths: committer.reachable(after, paths)
    ):
        found.data_file_count += len(portion)
        found.data_bytes += sum(portion.values())
        progress("looking for files", found.data_file_count, found.data_file_count)
    _count_metadata(found, files)
    return found


def _delete(
    committer: TableCommitter, expired: ExpiredSnapshots, progress: Progress, observe: Observer
) -> _Deleted:
    """Delete data files first: they are named in the manifests that go next."""
    deleted = _Deleted()
    before, after = expired.before, expired.after
    table = table_of(view_of(after))
    files = removed_files(before, view_of(after), expired.plan.removed_snapshot_ids)
    for portion in unreachable_data_files(
        before, files, lambda paths: committer.reachable(after, paths)
    ):
        # A file that was added from elsewhere may belong to somebody else, too.
        foreign = set(outside(table, portion.keys()))
        inside = [path for path in portion if path not in foreign]
        deleted.outside_count += len(foreign)
        done, total = deleted.data_file_count, deleted.data_file_count + len(inside)
        deleted.data_file_count += delete_files(
            table,
            inside,
            lambda count, d=done, t=total: progress("deleting data files", d + count, t),
        )
        deleted.data_bytes += sum(portion[path] for path in inside)
    observe(CrashPoint.EXPIRED_FILES_DELETED)
    metadata = [*files.manifest_bytes, *files.statistics_bytes, *files.manifest_lists]
    foreign = set(outside(table, metadata))
    deleted.outside_count += len(foreign)
    inside = [path for path in metadata if path not in foreign]
    delete_files(
        table, inside, lambda count: progress("deleting metadata files", count, len(inside))
    )
    observe(CrashPoint.EXPIRED_METADATA_DELETED)
    _count_metadata(deleted, files)
    return deleted


def _count_metadata(found: _Deleted, files: RemovedFiles) -> None:
    found.metadata_file_count = (
        len(files.manifest_bytes) + len(files.statistics_bytes) + len(files.manifest_lists)
    )
    found.metadata_bytes = sum(files.manifest_bytes.values()) + sum(files.statistics_bytes.values())


def _report(
    identifier: str,
    before: TableView,
    plan: ExpirationPlan,
    deleted: _Deleted,
    seconds: float,
    *,
    is_dry_run: bool,
    snapshot_id: int | None = None,
    notes: tuple[str, ...] = (),
) -> MaintenanceReport:
    removed_count = len(plan.removed_snapshot_ids)
    verb = "would remove" if is_dry_run else "removed"
    file_count = deleted.data_file_count + deleted.metadata_file_count
    did = (
        f"{verb} {removed_count:,} of {len(before.snapshots):,} snapshots and {file_count:,} files"
        if removed_count
        else f"nothing to expire among {len(before.snapshots):,} snapshots"
    )
    if plan.waiting_count:
        waiting = f"{plan.waiting_count:,} snapshots wait for readers (reader_grace)"
        notes = (*notes, waiting)
    if deleted.outside_count:
        notes = (*notes, f"{deleted.outside_count:,} files outside the table's location were kept")
    return MaintenanceReport(
        step="expiration",
        table=identifier,
        is_dry_run=is_dry_run,
        did=did,
        figures={
            "snapshots_before_count": len(before.snapshots),
            "snapshots_removed_count": removed_count,
            "snapshots_waiting_count": plan.waiting_count,
            "data_files_deleted_count": deleted.data_file_count,
            "data_files_deleted_bytes": deleted.data_bytes,
            "metadata_files_deleted_count": deleted.metadata_file_count,
            "metadata_files_deleted_bytes": deleted.metadata_bytes,
            "duration_seconds": round(seconds, 3),
        },
        snapshot_ids=() if snapshot_id is None else (snapshot_id,),
        notes=notes,
    )
