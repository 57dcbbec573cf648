"""Snapshots, files and deltas without a table, for this folder's tests."""

from dataclasses import replace
from typing import Any

from k2i_core.audit.table_delta import (
    Chain,
    FileEntry,
    History,
    SnapshotChange,
    SnapshotFacts,
    TableDelta,
)


def snapshot(number: int, *, operation: str = "append", **summary: Any) -> SnapshotFacts:
    """Snapshot 100 * number with sequence number `number`, child of the one before it."""
    return SnapshotFacts(
        100 * number,
        100 * (number - 1) if number > 1 else None,
        number,
        1_000 * number,
        operation,
        {key.replace("_", "-"): str(value) for key, value in summary.items()},
    )


def file(name: str, number: int, rows: int = 10, **changes: Any) -> FileEntry:
    """A file that snapshot `number` added."""
    entry = FileEntry(f"lake/{name}.parquet", rows, 100 * rows, 100 * number, number, number)
    return replace(entry, **changes)


def delta(
    changes: list[SnapshotChange],
    *,
    chain: Chain = Chain.CONTINUED,
    before: SnapshotFacts | None = None,
    live: tuple[FileEntry, ...] | None = None,
) -> TableDelta:
    snapshots = tuple(change.snapshot for change in changes)
    added = tuple(entry for change in changes for entry in change.added)
    return TableDelta(
        "uuid",
        snapshots[-1],
        History(chain, snapshots, before),
        tuple(changes),
        added if live is None else live,
    )
