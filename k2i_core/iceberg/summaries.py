"""The summary of a snapshot: what it added and removed, and the totals after it. Pure.

Source:
    The optional snapshot summary fields of the Iceberg specification.

"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table.snapshots import Operation, Snapshot, Summary

_DATA_TOTALS = {
    "total-data-files": ("added-data-files", "deleted-data-files"),
    "total-records": ("added-records", "deleted-records"),
    "total-files-size": ("added-files-size", "removed-files-size"),
}
"""Cumulative entries → what a snapshot adds to each and takes from it."""

_OTHER_TOTALS = ("total-delete-files", "total-position-deletes", "total-equality-deletes")
"""Carried on: k2i writes no delete files and removes none."""

KEPT_ENTRIES = frozenset(
    {*_DATA_TOTALS, *_OTHER_TOTALS, *(name for pair in _DATA_TOTALS.values() for name in pair)}
)
"""Entries of a summary that reports read, besides k2i's own."""


@dataclass(frozen=True, slots=True)
class FileChanges:
    """The data files that a snapshot adds and removes."""

    added: Sequence[DataFile] = ()
    removed: Sequence[DataFile] = ()


def make_summary(
    operation: Operation,
    parent: Snapshot | None,
    changes: FileChanges,
    specs: Mapping[int, PartitionSpec],
    entries: Mapping[str, str],
) -> Summary:
    """Make a snapshot's summary.

    Args:
        operation: `append`, or `replace` for one that changes no row.
        parent: Whose totals it goes on from; None for the first snapshot.
        changes: Its files.
        specs: The table's, by id.
        entries: The caller's own.

    """
    counts = {
        "added-data-files": len(changes.added),
        "deleted-data-files": len(changes.removed),
        "added-records": sum(f.record_count for f in changes.added),
        "deleted-records": sum(f.record_count for f in changes.removed),
        "added-files-size": sum(f.file_size_in_bytes for f in changes.added),
        "removed-files-size": sum(f.file_size_in_bytes for f in changes.removed),
    }
    summary = {key: str(value) for key, value in counts.items() if value}
    touched = {
        (f.spec_id, str(f.partition))
        for f in (*changes.added, *changes.removed)
        if specs[f.spec_id].fields
    }
    if touched:
        summary["changed-partition-count"] = str(len(touched))
    before = _totals_of(parent)
    # A total that a foreign writer left out stays out, because ours would be wrong.
    for total, (added, removed) in _DATA_TOTALS.items():
        if before.get(total, "").isdecimal():
            summary[total] = str(int(before[total]) + counts[added] - counts[removed])
    for total in _OTHER_TOTALS:
        if before.get(total, "").isdecimal():
            summary[total] = before[total]
    return Summary(operation, **summary, **entries)


def _totals_of(parent: Snapshot | None) -> Mapping[str, str]:
    if parent is None:
        return dict.fromkeys((*_DATA_TOTALS, *_OTHER_TOTALS), "0")
    return parent.summary.additional_properties if parent.summary else {}
