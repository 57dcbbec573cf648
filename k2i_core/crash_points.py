"""Where a process may die: every step that the session and the commit loop announce.

Each step is announced when it is done, so that dying at a point is dying after that step and
before the next one. In production nobody listens; the simulation stops the world there, and the
kill tests end the process there.
"""

from collections.abc import Callable
from enum import StrEnum


class CrashPoint(StrEnum):
    """Steps in the order of a worker's life (take-over, then every flush), then maintenance's."""

    LOGS_LISTED = "logs-listed"
    TABLES_INSPECTED = "tables-inspected"
    TARGET_TAKEN_OVER = "target-taken-over"
    DEAD_LETTERS_TAKEN_OVER = "dead-letters-taken-over"
    LEDGER_READ = "ledger-read"
    VERDICTS_READ = "verdicts-read"
    RECOVERED = "recovered"
    ASSIGNED = "assigned"

    POLLED = "polled"
    FILE_LOGGED = "file-logged"
    ROWS_WRITTEN = "rows-written"
    SEALED = "sealed"
    FILES_CLOSED = "files-closed"
    TOPICS_CHECKED = "topics-checked"
    REQUEST_PREPARED = "request-prepared"
    ATTEMPT_LOGGED = "attempt-logged"
    REQUEST_SENT = "request-sent"
    DEAD_LETTERS_COMMITTED = "dead-letters-committed"
    TARGET_COMMITTED = "target-committed"
    LANDED_LOGGED = "landed-logged"
    MIRRORED = "mirrored"

    COMPACTION_PLANNED = "compaction-planned"
    GROUP_REWRITTEN = "group-rewritten"
    GROUP_PROVEN = "group-proven"
    GROUPS_COMMITTED = "groups-committed"
    MANIFESTS_PLANNED = "manifests-planned"
    MANIFESTS_COMMITTED = "manifests-committed"

    SNAPSHOTS_REMOVED = "snapshots-removed"
    EXPIRED_FILES_DELETED = "expired-files-deleted"
    EXPIRED_METADATA_DELETED = "expired-metadata-deleted"
    BARRIER_COMMITTED = "barrier-committed"
    ORPHANS_JUDGED = "orphans-judged"
    ORPHANS_DELETED = "orphans-deleted"


COMPACTION_POINTS = (
    CrashPoint.COMPACTION_PLANNED,
    CrashPoint.GROUP_REWRITTEN,
    CrashPoint.GROUP_PROVEN,
    CrashPoint.GROUPS_COMMITTED,
)
MANIFEST_POINTS = (CrashPoint.MANIFESTS_PLANNED, CrashPoint.MANIFESTS_COMMITTED)
EXPIRATION_POINTS = (
    CrashPoint.SNAPSHOTS_REMOVED,
    CrashPoint.EXPIRED_FILES_DELETED,
    CrashPoint.EXPIRED_METADATA_DELETED,
)
ORPHAN_POINTS = (
    CrashPoint.BARRIER_COMMITTED,
    CrashPoint.ORPHANS_JUDGED,
    CrashPoint.ORPHANS_DELETED,
)
MAINTENANCE_POINTS = frozenset(
    {*COMPACTION_POINTS, *MANIFEST_POINTS, *EXPIRATION_POINTS, *ORPHAN_POINTS}
)
WORKER_POINTS = tuple(point for point in CrashPoint if point not in MAINTENANCE_POINTS)


Observer = Callable[[CrashPoint], None]


def ignore(_: CrashPoint) -> None:
    """Observe nothing: what production does."""
