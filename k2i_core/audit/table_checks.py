"""Judgements about a table's metadata and files: facts in, an answer for each check out. Pure.

How the facts are read is `delta_read` and the query engine's business; which check asks what stands
in `catalogue`. What is judged by the rows themselves is in `content_checks` and `row_audit`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from k2i_core.audit import catalogue
from k2i_core.audit.row_audit import AuditAnswer
from k2i_core.audit.table_delta import (
    TOTALS,
    Chain,
    FileEntry,
    SnapshotChange,
    SnapshotFacts,
    TableDelta,
    TableMark,
)
from k2i_core.ledger import (
    CHECKPOINT_KEY,
    OPERATION_KEY,
    RANGES_KEY,
    decode_entry,
    decode_ranges,
    ranges_between,
)

_CHAIN_NOTES = {
    Chain.FIRST: "everything was audited",
    Chain.CONTINUED: "goes on from the last audited snapshot",
    Chain.GIVEN_UP: "the last audited snapshot was expired; what is younger was audited",
    Chain.REWOUND: "the table was rewound with k2i: everything was audited again",
    Chain.RECREATED: "the table was created again: everything was audited",
    Chain.BROKEN: "everything was audited again",
}


def judge_chain(delta: TableDelta, mark: TableMark | None) -> AuditAnswer:
    """Judge whether the last audited snapshot is still part of the history."""
    chain = delta.history.chain
    faults: tuple[str, ...] = ()
    if chain is Chain.BROKEN and mark is not None:
        audited, head = mark.snapshot_id, delta.head.snapshot_id
        faults = (f"audited snapshot_id={audited} is no ancestor of snapshot_id={head} any more",)
    figures = {"new_snapshots": len(delta.history.new), "new_files": len(delta.live)}
    return AuditAnswer(catalogue.CHAIN, faults, figures, _CHAIN_NOTES[chain])


def judge_files(entries: Sequence[FileEntry], sizes: Mapping[str, int | None]) -> AuditAnswer:
    """Judge whether the files exist, with the sizes that the manifests say."""
    faults: list[str] = []
    for entry in entries:
        size = sizes[entry.path]
        if size is None:
            faults.append(f"missing: {entry.path}")
        elif size != entry.byte_count:
            faults.append(f"bytes={size}, the manifest says {entry.byte_count}: {entry.path}")
    figures = {"files": len(entries), "bytes": sum(entry.byte_count for entry in entries)}
    return AuditAnswer(catalogue.FILES, tuple(faults), figures)


def judge_totals(delta: TableDelta) -> AuditAnswer:
    """Judge the cumulative entries of the summaries against what each commit says it changed.

    An entry that a writer left out is not judged. In a full audit the head's are judged against
    its manifests, too.
    """
    before = delta.history.before
    previous = dict(before.totals) if before else {}
    faults: list[str] = []
    judged_count = 0
    for snapshot in delta.history.new:
        if snapshot.sequence_number == 1:
            previous = dict.fromkeys(TOTALS, 0)
        totals = snapshot.totals
        for key in sorted({*totals} & {*previous}):
            added, deleted = (snapshot.number(name) or 0 for name in TOTALS[key])
            judged_count += 1
            if totals[key] != previous[key] + added - deleted:
                faults.append(
                    f"{key}={totals[key]} of snapshot_id={snapshot.snapshot_id}, expected "
                    f"{previous[key] + added - deleted}"
                )
        previous = totals
    if delta.is_whole:
        faults += _head_faults(delta)
    return AuditAnswer(catalogue.SUMMARY_TOTALS, tuple(faults), {"totals": judged_count})


def _head_faults(delta: TableDelta) -> list[str]:
    live = {
        "total-records": sum(entry.row_count for entry in delta.live),
        "total-data-files": len(delta.live),
        "total-files-size": sum(entry.byte_count for entry in delta.live),
    }
    if delta.has_delete_files:
        # Their bytes count, too.
        del live["total-files-size"]
    return [
        f"{key}={delta.head.totals[key]} of the head, its manifests say {count}"
        for key, count in live.items()
        if delta.head.totals.get(key, count) != count
    ]


def judge_manifest_counts(changes: Sequence[SnapshotChange]) -> AuditAnswer:
    """Judge whether manifests list what the summaries say was added and removed."""
    faults: list[str] = []
    for change in changes:
        summary = change.snapshot
        listed = {
            "added-data-files": len(change.added),
            "added-records": sum(entry.row_count for entry in change.added),
            "deleted-data-files": len(change.removed),
            "deleted-records": sum(entry.row_count for entry in change.removed),
        }
        for key, count in listed.items():
            said = summary.number(key)
            # Nothing added is often left out, and old writers leave out the files.
            if said is not None and said != count:
                faults.append(
                    f"{key}={said} of snapshot_id={summary.snapshot_id}, its manifests list {count}"
                )
    figures = {
        "snapshots": len(changes),
        "rows": sum(entry.row_count for change in changes for entry in change.added),
    }
    return AuditAnswer(catalogue.MANIFEST_COUNTS, tuple(faults), figures)


def judge_claims(delta: TableDelta) -> AuditAnswer:
    """Judge whether each worker's commit added as many rows as it claims offsets for."""
    carrier: SnapshotFacts | None = delta.history.before
    if carrier is not None and CHECKPOINT_KEY not in carrier.summary:
        carrier = None
    faults: list[str] = []
    claimed_count = 0
    for change in delta.changes:
        snapshot = change.snapshot
        if CHECKPOINT_KEY not in snapshot.summary:
            continue
        claimed = _claimed_rows(snapshot, carrier)
        carrier = snapshot
        if claimed is None:
            continue
        claimed_count += claimed
        listed = sum(entry.row_count for entry in change.added)
        if listed != claimed:
            faults.append(
                f"snapshot_id={snapshot.snapshot_id} claims rows={claimed}, added {listed}"
            )
    return AuditAnswer(catalogue.CLAIMED_COUNTS, tuple(faults), {"claimed_rows": claimed_count})


def _claimed_rows(snapshot: SnapshotFacts, before: SnapshotFacts | None) -> int | None:
    """Return the rows that a commit claims; None for one that appended none or does not say."""
    if snapshot.summary.get(OPERATION_KEY, "append") != "append":
        return None
    if RANGES_KEY in snapshot.summary:
        ranges = decode_ranges(snapshot.summary[RANGES_KEY])
    elif before is not None:
        # Commits that touched many Kafka partitions list none.
        ranges = ranges_between(
            decode_entry(before.summary[CHECKPOINT_KEY]),
            decode_entry(snapshot.summary[CHECKPOINT_KEY]),
        )
    else:
        return None
    return sum(one.totals.table_row_count for one in ranges)


def judge_footers(entries: Sequence[FileEntry], footers: Mapping[str, int | str]) -> AuditAnswer:
    """Judge whether footers count the rows that the manifests say.

    Args:
        entries: Files that exist with the right size.
        footers: Path → rows, or why the footer cannot be read.

    """
    faults: list[str] = []
    for entry in entries:
        found = footers[entry.path]
        if isinstance(found, str):
            faults.append(f"cannot be read: {entry.path}: {found}")
        elif found != entry.row_count:
            faults.append(f"rows={found}, the manifest says {entry.row_count}: {entry.path}")
    figures = {"files": len(entries), "rows": sum(entry.row_count for entry in entries)}
    return AuditAnswer(catalogue.FOOTERS, tuple(faults), figures)


@dataclass(frozen=True, slots=True)
class FileColumn:
    """One column of a data file: a field of its Parquet schema that is no list's inner part.

    Attributes:
        field_id: None where the writer gave none.
        type_name: The query engine's name of a leaf's type; None for a struct or list.
    """

    path: str
    field_id: int | None
    name: str
    type_name: str | None


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One field of the table.

    Attributes:
        names: Under which it was known in any schema of the table.
        type_names: The query engine's names of its type, and of those that it was widened from;
            None for a struct, list or map.
    """

    field_id: int
    names: frozenset[str]
    type_names: frozenset[str] | None


def judge_schema(
    columns: Iterable[FileColumn],
    table: Mapping[int, TableColumn],
    *,
    is_without_ids_allowed: bool,
) -> AuditAnswer:
    """Judge whether every column of the files is one of the table's.

    Args:
        columns: Of all files.
        table: Field id → the table's field, of all its schemas.
        is_without_ids_allowed: Whether the table maps columns by name, so that files need no ids.

    """
    faults: dict[str, str] = {}
    column_count = 0
    for column in columns:
        column_count += 1
        fault = _column_fault(column, table, is_without_ids_allowed=is_without_ids_allowed)
        if fault:
            # Once for each kind of fault, because a wrong writer writes many files.
            faults.setdefault(fault, column.path)
    listed = tuple(f"{fault}, first in {path}" for fault, path in faults.items())
    return AuditAnswer(catalogue.FILE_SCHEMA, listed, {"columns": column_count})


def _column_fault(
    column: FileColumn, table: Mapping[int, TableColumn], *, is_without_ids_allowed: bool
) -> str:
    if column.field_id is None:
        return "" if is_without_ids_allowed else f"column {column.name} has no field id"
    field = table.get(column.field_id)
    if field is None:
        return f"column {column.name} has field id {column.field_id}, which the table does not have"
    if column.name not in field.names:
        known = ", ".join(sorted(field.names))
        return f"column {column.name} has field id {column.field_id}, which is the table's {known}"
    is_leaf = column.type_name is not None
    if field.type_names is None or not is_leaf or column.type_name in field.type_names:
        return ""
    return f"column {column.name} is {column.type_name}, the table has {min(field.type_names)}"
