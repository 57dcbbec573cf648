"""What changed in a table since the last audit: new snapshots and the files they brought. Pure.

An audit leaves a mark: the snapshot that it audited. The next one walks from the head back to that
snapshot and looks at what lies between. When expiration gave the marked snapshot up meanwhile, the
sequence numbers still tell which files are new. When the marked snapshot is no ancestor of the
head, history was changed, and everything is audited again.

A commit that removes files is a rewrite, whoever made it: it has to put the same rows back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

from k2i_core.ledger import OPERATION_KEY

TOTALS = {
    "total-records": ("added-records", "deleted-records"),
    "total-data-files": ("added-data-files", "deleted-data-files"),
    "total-files-size": ("added-files-size", "removed-files-size"),
}
"""Cumulative entry of a summary → what a commit adds to it, and what it takes away.

Source:
    The optional snapshot summary fields of the Iceberg specification.
"""

Numbers = Mapping[int, int]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One data file, as a manifest lists it.

    Attributes:
        snapshot_id: The commit that added it.
        sequence_number: The data sequence number: which commit the rows belong to.
        added_sequence_number: That of the commit that added the file; a rewrite is younger than
            its rows.
        value_counts: Field id → values, nulls included; None where a writer left statistics out.
        null_counts: Field id → nulls.
        lower_bounds: Field id → Iceberg's binary form.
        upper_bounds: Field id → Iceberg's binary form.
    """

    path: str
    row_count: int
    byte_count: int
    snapshot_id: int
    sequence_number: int
    added_sequence_number: int
    value_counts: Numbers | None = None
    null_counts: Numbers | None = None
    lower_bounds: Mapping[int, bytes] | None = None
    upper_bounds: Mapping[int, bytes] | None = None


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """One retained snapshot.

    Attributes:
        operation: Iceberg's word: append, replace, overwrite, delete.
        summary: Everything else that it says.
    """

    snapshot_id: int
    parent_snapshot_id: int | None
    sequence_number: int
    timestamp_ms: int
    operation: str
    summary: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def is_append(self) -> bool:
        """Tell whether it says that it removed nothing."""
        removed = (self.number("deleted-data-files"), self.number("deleted-records"))
        return self.operation == "append" and not any(removed)

    def number(self, key: str) -> int | None:
        """Return a number of the summary; None when it is not there."""
        text = self.summary.get(key, "")
        return int(text) if text.isdecimal() else None

    @property
    def totals(self) -> dict[str, int]:
        """The cumulative entries that are there."""
        numbers = {key: self.number(key) for key in TOTALS}
        return {key: number for key, number in numbers.items() if number is not None}


@dataclass(frozen=True, slots=True)
class SnapshotChange:
    """One commit: what it says, and which files its manifests added and removed."""

    snapshot: SnapshotFacts
    added: tuple[FileEntry, ...]
    removed: tuple[FileEntry, ...] = ()


class Chain(StrEnum):
    """How the table's history goes on from the last audit."""

    FIRST = "first"
    """There was no audit before, or everything was asked for."""
    CONTINUED = "continued"
    """The audited snapshot is an ancestor of the head."""
    GIVEN_UP = "given-up"
    """It was expired; what is younger is known by sequence number."""
    REWOUND = "rewound"
    """An operator rewound the table with k2i."""
    RECREATED = "recreated"
    """It is another table of the same name."""
    BROKEN = "broken"
    """The audited snapshot is no ancestor of the head, and nothing explains it."""


CONTINUING = frozenset({Chain.CONTINUED, Chain.GIVEN_UP})


@dataclass(frozen=True, slots=True)
class TableMark:
    """Where the last audit of a table's files ended.

    Attributes:
        totals: The cumulative entries of that snapshot's summary.
    """

    table_uuid: str
    snapshot_id: int
    sequence_number: int
    totals: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return what `read_table_mark` reads; ids as text, which no reader rounds."""
        return {
            "table": self.table_uuid,
            "snapshot": str(self.snapshot_id),
            "sequence": self.sequence_number,
            "totals": dict(self.totals),
        }


def read_table_mark(document: object) -> TableMark:
    """Read a mark back.

    Raises:
        KeyError, TypeError, ValueError: It is none.

    """
    known = cast("Mapping[str, Any]", document)
    totals = cast("Mapping[str, Any]", known["totals"])
    return TableMark(
        str(known["table"]),
        int(known["snapshot"]),
        int(known["sequence"]),
        {str(key): int(number) for key, number in totals.items()},
    )


@dataclass(frozen=True, slots=True)
class History:
    """How the head's history relates to a mark.

    Attributes:
        chain: How it goes on.
        new: Snapshots to look at, oldest first: those after the mark, or all that are retained.
        before: The snapshot before the first of them, as far as it is known.
    """

    chain: Chain
    new: tuple[SnapshotFacts, ...]
    before: SnapshotFacts | None = None

    @property
    def is_whole(self) -> bool:
        """Tell whether everything has to be audited."""
        return self.chain not in CONTINUING


def history_since(
    ancestors: Sequence[SnapshotFacts], table_uuid: str, mark: TableMark | None
) -> History:
    """Return what came after a mark.

    Args:
        ancestors: The head and its retained ancestors, newest first; at least one.
        table_uuid: Of the table now.
        mark: Of the last audit; None for everything.

    """
    oldest_first = tuple(reversed(ancestors))
    if mark is None:
        return History(Chain.FIRST, oldest_first)
    if mark.table_uuid != table_uuid:
        return History(Chain.RECREATED, oldest_first)
    for index, snapshot in enumerate(oldest_first):
        if snapshot.snapshot_id == mark.snapshot_id:
            return History(Chain.CONTINUED, oldest_first[index + 1 :], snapshot)
    new = tuple(s for s in oldest_first if s.sequence_number > mark.sequence_number)
    if len(new) == len(oldest_first):
        return History(Chain.GIVEN_UP, new)
    is_rewound = any(s.summary.get(OPERATION_KEY) == "rewind" for s in new)
    return History(Chain.REWOUND if is_rewound else Chain.BROKEN, oldest_first)


@dataclass(frozen=True, slots=True)
class TableDelta:
    """What one audit looks at.

    Attributes:
        table_uuid: Of the table.
        head: The snapshot that is audited.
        history: What came since the mark.
        changes: The commits to look at, oldest first.
        live: Data files of the head to look at: those that are new, or all.
        has_delete_files: Whether another engine's delete files hide rows of data files.
    """

    table_uuid: str
    head: SnapshotFacts
    history: History
    changes: tuple[SnapshotChange, ...]
    live: tuple[FileEntry, ...]
    has_delete_files: bool = False

    @property
    def is_whole(self) -> bool:
        """Tell whether everything is audited."""
        return self.history.is_whole

    @property
    def rewrites(self) -> tuple[SnapshotChange, ...]:
        """The commits that removed files."""
        return tuple(change for change in self.changes if change.removed)

    @property
    def appended(self) -> tuple[FileEntry, ...]:
        """Live files whose rows their commit brought in."""
        appends = {c.snapshot.snapshot_id for c in self.changes if not c.removed}
        return tuple(entry for entry in self.live if entry.snapshot_id in appends)

    @property
    def rewritten(self) -> tuple[FileEntry, ...]:
        """Live files whose rows may have been in the table before.

        Also those of commits that are not retained any more: what they were cannot be told.
        """
        appends = {c.snapshot.snapshot_id for c in self.changes if not c.removed}
        return tuple(entry for entry in self.live if entry.snapshot_id not in appends)

    def mark(self) -> TableMark:
        """Return where the next audit may begin."""
        head = self.head
        return TableMark(self.table_uuid, head.snapshot_id, head.sequence_number, head.totals)


def attribute(
    history: History,
    live: Iterable[FileEntry],
    own: Mapping[int, tuple[Sequence[FileEntry], Sequence[FileEntry]]],
) -> tuple[SnapshotChange, ...]:
    """Say which commit added and removed which files.

    Args:
        history: The commits.
        live: The head's files that are new, or all of them.
        own: For each commit that is no append: the files that its own manifests added and removed.

    Returns:
        One change a commit. What an append added is what of it is live, and what later commits
        removed of it.

    """
    added: dict[int, list[FileEntry]] = {}
    for entry in live:
        added.setdefault(entry.snapshot_id, []).append(entry)
    by_sequence = {s.sequence_number: s.snapshot_id for s in history.new}
    for _, removed in own.values():
        for entry in removed:
            snapshot_id = by_sequence.get(entry.added_sequence_number)
            if snapshot_id is not None and snapshot_id not in own:
                added.setdefault(snapshot_id, []).append(entry)
    changes: list[SnapshotChange] = []
    for snapshot in history.new:
        if snapshot.snapshot_id in own:
            its_added, its_removed = own[snapshot.snapshot_id]
            changes.append(SnapshotChange(snapshot, tuple(its_added), tuple(its_removed)))
        else:
            changes.append(SnapshotChange(snapshot, tuple(added.get(snapshot.snapshot_id, ()))))
    return tuple(changes)
