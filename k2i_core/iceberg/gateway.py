"""The seam between the commit protocol and an Iceberg library.

The protocol (`ancestry`, `commit`) decides; a `TableGateway` loads, writes metadata files and sends
one request. There is one real gateway, over PyIceberg, and one in memory for the simulation; the
same contract tests run on both. A gateway never retries and never cleans up after a failed send.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from k2i_core.pauses import PAUSED_KEY, Pause, decode_pause
from k2i_core.records import WrittenFile


@dataclass(frozen=True, slots=True)
class SnapshotView:
    """One retained snapshot, as much of it as the protocol needs."""

    snapshot_id: int
    parent_snapshot_id: int | None
    sequence_number: int
    timestamp_ms: int
    summary: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RefView:
    """A branch or a tag.

    Attributes:
        max_snapshot_age_ms: The branch's own; None leaves it to whoever expires.
        min_snapshots_to_keep: Likewise.
    """

    snapshot_id: int
    is_branch: bool = True
    max_snapshot_age_ms: int | None = None
    min_snapshots_to_keep: int | None = None


@dataclass(frozen=True, slots=True)
class TableView:
    """One load of a table's metadata: consistent in itself, possibly stale.

    Attributes:
        head_snapshot_id: What branch `main` points at; None for a table without snapshots.
        field_ids: Schema id → ids of all its fields, nested ones included.
        named_snapshot_ids: What branches other than `main` and tags point at.
        refs: All branches and tags by name, `main` too.
        checkpoint_property: Text of the table property `k2i.checkpoint`, if it is set.
        properties: Those of k2i besides, by name.
        handle: The gateway's own loaded table; only the gateway looks inside.
    """

    table_uuid: str
    format_version: int
    head_snapshot_id: int | None
    snapshots: Mapping[int, SnapshotView]
    checkpoint_property: str | None
    last_sequence_number: int
    last_updated_ms: int
    schema_id: int
    spec_id: int
    metadata_location: str
    field_ids: Mapping[int, frozenset[int]]
    handle: object = field(repr=False, compare=False)
    named_snapshot_ids: frozenset[int] = frozenset()
    refs: Mapping[str, RefView] = field(default_factory=dict[str, RefView])
    properties: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def paused(self) -> Pause | None:
        """Why nothing may be appended until an operator acted."""
        return decode_pause(self.properties.get(PAUSED_KEY))

    def ancestors(self) -> Iterator[SnapshotView]:
        """Yield the head, its parent, and so on, as far as snapshots are retained."""
        return self.ancestors_of(self.head_snapshot_id)

    def ancestors_of(self, snapshot_id: int | None) -> Iterator[SnapshotView]:
        """Yield a snapshot, its parent, and so on, as far as snapshots are retained."""
        while snapshot_id is not None and (snapshot := self.snapshots.get(snapshot_id)):
            yield snapshot
            snapshot_id = snapshot.parent_snapshot_id

    def is_ancestor(self, snapshot_id: int) -> bool:
        """Tell whether the snapshot is the head or one of its retained ancestors."""
        return any(s.snapshot_id == snapshot_id for s in self.ancestors())


@dataclass(frozen=True, slots=True)
class Replacement:
    """Files that take the place of others and hold the same rows.

    Attributes:
        removed_paths: Live data files of the head, named as its manifests name them; at least one.
        files: What takes their place. They get the largest data sequence number of the removed
            ones, because that number tells which commits their rows belong to.
    """

    removed_paths: frozenset[str]
    files: tuple[WrittenFile, ...]


@dataclass(frozen=True, slots=True)
class SnapshotChange:
    """One snapshot to build on a loaded head: an append, or a replacement that changes no row.

    Attributes:
        snapshot_id: Chosen by the caller, so that it can be logged before the request is sent.
        timestamp_ms: Chosen by the caller; later than the table's last update.
        files: Data files to add; none for an empty commit that only carries a checkpoint.
        summary: Entries for the snapshot summary.
        properties: Table properties set in the same request.
        rewind_to_snapshot_id: Set `main` to this retained snapshot first and append on it; None
            appends on the head.
        removed_snapshot_ids: Snapshots to give up in the same request, which then also asserts that
            no branch or tag was made or moved since the load.
        keeps_removed_files: Leave the metadata files of removed snapshots to the caller; otherwise
            they, oldest ancestors of the head all of them, are deleted once the catalog said yes.
        replacements: Makes the snapshot one of operation `replace`.
        clusters_manifests: Likewise; rewrites manifests and changes no file.
    """

    snapshot_id: int
    timestamp_ms: int
    files: tuple[WrittenFile, ...]
    summary: Mapping[str, str]
    properties: Mapping[str, str]
    rewind_to_snapshot_id: int | None = None
    removed_snapshot_ids: tuple[int, ...] = ()
    keeps_removed_files: bool = False
    replacements: tuple[Replacement, ...] = ()
    clusters_manifests: bool = False

    def __post_init__(self) -> None:
        """Refuse what would be two operations in one snapshot."""
        assert not (self.files and self.is_replace)
        assert not (self.is_replace and self.rewind_to_snapshot_id is not None)

    @property
    def is_replace(self) -> bool:
        """Tell whether the snapshot changes no row."""
        return bool(self.replacements) or self.clusters_manifests


class TableGateway(Protocol):
    """One table through one catalog connection; used by one thread."""

    @property
    def identifier(self) -> str:
        """Namespace and name, joined by dots."""
        ...

    def load(self) -> TableView:
        """Load the current metadata.

        Raises:
            UnavailableError: The catalog or the store did not answer; back off and call again.
            ConfigError: The table does not exist, or access is refused.

        """
        ...

    def prepare(self, view: TableView, change: SnapshotChange) -> object:
        """Write manifests for `change` on top of `view`; nothing is visible yet.

        Returns:
            The request, for `send`.

        Raises:
            UnavailableError: The store did not take the metadata files; nothing was sent.
            ConflictError: A file to replace is not live; nothing was sent, plan anew.
            ConfigError: Files are to be replaced in a table with delete files.

        """
        ...

    def send(self, request: object) -> None:
        """Ask the catalog for one compare-and-set on everything `view` was loaded with.

        Asserts table uuid, head of `main`, current schema id and default spec id; where snapshots
        are removed, all branches and tags too.

        Raises:
            ConflictError: The catalog said no. A proxy may have replayed the request, so even this
                does not prove that it did not land: load and look.
            CommitStateUnknownError: Any other failure. Load and look.

        """
        ...

    def has_live_entry(self, view: TableView, snapshot_id: int) -> bool:
        """Tell whether the head's manifests hold a live file that `snapshot_id` added."""
        ...

    def missing(self, view: TableView, paths: Collection[str]) -> set[str]:
        """Return those of `paths` that are no live data files of the head; cheap to repeat.

        Raises:
            UnavailableError: A manifest could not be read; call again.

        """
        ...

    def reachable(self, view: TableView, paths: Collection[str]) -> set[str]:
        """Return those of `paths` that any retained snapshot of `view` reaches.

        Raises:
            UnavailableError: A manifest could not be read; believe nothing, call again.

        """
        ...

    def delete_files(self, paths: Collection[str]) -> None:
        """Delete files that no snapshot needs; one that is gone already is fine."""
        ...
