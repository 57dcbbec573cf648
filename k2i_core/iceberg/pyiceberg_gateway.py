"""The table gateway over PyIceberg: metadata files written here, one request, nothing else.

PyIceberg's own commit is not used, for three measured reasons: it retries a lost race on the new
head with our old checkpoint, so that a fenced worker succeeds; after a conflict that was in truth a
replayed request it deletes the manifests of the snapshot that landed; and each of its commits
copies all snapshots some twenty times. What is used of it: catalogs, models, Avro files, stores.

An append is always a fast append, with the occasional merge of small manifests (`manifests`). A
table without changes to its files still gets a snapshot, which carries the checkpoint.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertCurrentSchemaId,
    AssertDefaultSpecId,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotsUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from k2i_core.errors import CommitStateUnknownError, CorruptionError, ErrorKind
from k2i_core.iceberg.clustering import ClusterMemory
from k2i_core.iceberg.data_files import DataFileMaker
from k2i_core.iceberg.failures import foreign_exceptions, reason, translate, translated
from k2i_core.iceberg.gateway import RefView, SnapshotChange, SnapshotView, TableView
from k2i_core.iceberg.locations import is_inside, normalise
from k2i_core.iceberg.manifests import NewSnapshot, read_live_entries, write_append
from k2i_core.iceberg.refs import assert_refs
from k2i_core.iceberg.replace import ManifestMemory, NewFiles
from k2i_core.iceberg.summaries import KEPT_ENTRIES, FileChanges, make_summary
from k2i_core.iceberg.views import table_of
from k2i_core.ledger import CHECKPOINT_KEY
from k2i_core.pauses import ACCEPTED_KEY, PAUSED_KEY
from k2i_core.records import WrittenFile

K2I_PREFIX = "k2i."


@dataclass(frozen=True, slots=True)
class Request:
    """What `prepare` hands to `send`."""

    table: Table = field(repr=False)
    updates: tuple[TableUpdate, ...]
    requirements: tuple[TableRequirement, ...]
    removed_snapshot_ids: tuple[int, ...] = ()
    keeps_removed_files: bool = False


class PyIcebergGateway:
    """One table through one catalog connection; used by one thread.

    Every load makes a new `Table`: PyIceberg's loses commits when two threads share one.
    """

    def __init__(self, open_catalog: Callable[[], Catalog], identifier: str) -> None:
        """Name a table; nothing is opened yet.

        Args:
            open_catalog: Called at the first use, and again until it succeeds.
            identifier: Namespace and name, joined by dots.

        """
        self._open_catalog = open_catalog
        self._identifier = identifier
        self._catalog: Catalog | None = None
        self._data_files = DataFileMaker()
        self._manifests = ManifestMemory()
        self._clusters = ClusterMemory()
        self._field_ids: dict[tuple[str, int], frozenset[int]] = {}
        self._snapshots: dict[int, SnapshotView] = {}
        self._store: FileIO | None = None
        self._store_settings: Mapping[str, object] = {}
        self._loaded: Table | None = None

    @property
    def identifier(self) -> str:
        """Namespace and name, joined by dots."""
        return self._identifier

    def load(self) -> TableView:
        """Load the current metadata."""
        catalog = self._connect()
        with translated(f"load table {self._identifier}"):
            table = catalog.load_table(self._identifier)
        table.io = self._store_for(table.io)
        self._loaded = table
        metadata = table.metadata
        uuid = str(metadata.table_uuid)
        schema_ids = [schema.schema_id for schema in metadata.schemas]
        main = metadata.refs.get(MAIN_BRANCH)
        return TableView(
            table_uuid=uuid,
            format_version=metadata.format_version,
            head_snapshot_id=main.snapshot_id if main else None,
            snapshots=self._views_of(metadata.snapshots),
            checkpoint_property=metadata.properties.get(CHECKPOINT_KEY),
            properties={
                key: text
                for key in (PAUSED_KEY, ACCEPTED_KEY)
                if (text := metadata.properties.get(key))
            },
            # Format version 1 has none.
            last_sequence_number=getattr(metadata, "last_sequence_number", 0),
            last_updated_ms=metadata.last_updated_ms,
            schema_id=metadata.current_schema_id,
            spec_id=metadata.default_spec_id,
            metadata_location=table.metadata_location,
            field_ids={i: self._ids_of(uuid, table, i) for i in schema_ids},
            named_snapshot_ids=frozenset(
                ref.snapshot_id for name, ref in metadata.refs.items() if name != MAIN_BRANCH
            ),
            handle=table,
            refs={
                name: RefView(
                    ref.snapshot_id,
                    is_branch=ref.snapshot_ref_type is SnapshotRefType.BRANCH,
                    max_snapshot_age_ms=ref.max_snapshot_age_ms,
                    min_snapshots_to_keep=ref.min_snapshots_to_keep,
                )
                for name, ref in metadata.refs.items()
            },
        )

    def prepare(self, view: TableView, change: SnapshotChange) -> Request:
        """Write manifests for `change` on top of `view`; nothing is visible yet."""
        table = table_of(view)
        assert change.timestamp_ms > view.last_updated_ms
        # A rewind needs no update of its own: the new snapshot is a child of the old one, and the
        # one move of `main` goes from the head that is asserted to that child.
        parent_snapshot_id = view.head_snapshot_id
        if change.rewind_to_snapshot_id is not None:
            parent_snapshot_id = change.rewind_to_snapshot_id
        with translated(f"write manifests of table {self._identifier}"):
            new = NewSnapshot(table, change.snapshot_id, parent_snapshot_id)
            manifest_list, changes = self._write_manifests(new, change)
        parent = None
        if parent_snapshot_id is not None:
            parent = table.metadata.snapshot_by_id(parent_snapshot_id)
        updates: list[TableUpdate] = [
            AddSnapshotUpdate(
                snapshot=Snapshot.model_validate(
                    {
                        "snapshot-id": change.snapshot_id,
                        "parent-snapshot-id": parent_snapshot_id,
                        "sequence-number": table.metadata.next_sequence_number(),
                        "timestamp-ms": change.timestamp_ms,
                        "manifest-list": manifest_list,
                        "summary": make_summary(
                            Operation.REPLACE if change.is_replace else Operation.APPEND,
                            parent,
                            changes,
                            table.specs(),
                            change.summary,
                        ),
                        "schema-id": view.schema_id,
                    }
                )
            ),
            _move_main(table, change.snapshot_id),
        ]
        if change.properties:
            updates.insert(0, SetPropertiesUpdate(updates=dict(change.properties)))
        if change.removed_snapshot_ids:
            removed = list(change.removed_snapshot_ids)
            updates.append(RemoveSnapshotsUpdate.model_validate({"snapshot-ids": removed}))
        requirements = _requirements(view)
        if change.removed_snapshot_ids:
            requirements += assert_refs(self._connect(), table.metadata)
        return Request(
            table,
            tuple(updates),
            requirements,
            change.removed_snapshot_ids,
            keeps_removed_files=change.keeps_removed_files,
        )

    def _write_manifests(self, new: NewSnapshot, change: SnapshotChange) -> tuple[str, FileChanges]:
        """Write what a snapshot needs; returns its manifest list's location and its files."""
        if change.replacements:
            replacements = [
                NewFiles(r.removed_paths, self._make_data_files(new.table, r.files))
                for r in change.replacements
            ]
            return self._manifests.replace(new, replacements)
        if change.clusters_manifests:
            return self._clusters.cluster(new), FileChanges()
        data_files = self._make_data_files(new.table, change.files)
        return write_append(new, data_files), FileChanges(data_files)

    def _make_data_files(self, table: Table, files: Sequence[WrittenFile]) -> tuple[DataFile, ...]:
        assert all(file.spec_id == table.metadata.default_spec_id for file in files)
        return tuple(self._data_files.make(table, file) for file in files)

    def send(self, request: object) -> None:
        """Ask the catalog once."""
        assert isinstance(request, Request)
        catalog = self._connect()
        try:
            response = catalog.commit_table(request.table, request.requirements, request.updates)
        except CommitFailedException as error:
            raise translate(error, f"commit to table {self._identifier}") from error
        except foreign_exceptions() as error:
            message = (
                f"the outcome of a commit to table={self._identifier} is unknown: {reason(error)}"
            )
            raise CommitStateUnknownError(message) from error
        _delete_forgotten_metadata(request.table, response.metadata)
        if request.removed_snapshot_ids and not request.keeps_removed_files:
            _delete_removed_lists(request.table, response.metadata, request.removed_snapshot_ids)

    def has_live_entry(self, view: TableView, snapshot_id: int) -> bool:
        """Tell whether the head's manifests hold a live file that `snapshot_id` added."""
        if view.head_snapshot_id is None:
            return False
        table = table_of(view)
        with translated(f"read manifests of table {self._identifier}"):
            head = table.metadata.snapshot_by_id(view.head_snapshot_id)
            assert head is not None
            entries = read_live_entries(table.io, head.manifests(table.io))
            return any(entry.snapshot_id == snapshot_id for entry in entries)

    def missing(self, view: TableView, paths: Collection[str]) -> set[str]:
        """Return those of `paths` that are no live data files of the head; cheap to repeat."""
        if view.head_snapshot_id is None:
            return set(paths)
        table = table_of(view)
        with translated(f"read manifests of table {self._identifier}"):
            manifests = NewSnapshot(table, 0, view.head_snapshot_id).parent_manifests()
            return self._manifests.missing(table.io, manifests, paths)

    def reachable(self, view: TableView, paths: Collection[str]) -> set[str]:
        """Return those of `paths`, data files, that any retained snapshot of `view` reaches.

        Newest first, each manifest once, and no further than the last path is found.
        """
        table = table_of(view)
        missing = {normalise(path) for path in paths}
        manifest_paths: set[str] = set()
        with translated(f"read manifests of table {self._identifier}"):
            for snapshot in _widest(table.metadata.snapshots):
                manifests = [
                    manifest
                    for manifest in snapshot.manifests(table.io)
                    if manifest.manifest_path not in manifest_paths
                ]
                manifest_paths.update(manifest.manifest_path for manifest in manifests)
                entries = read_live_entries(table.io, manifests)
                while missing and (entry := next(entries, None)):
                    missing.discard(normalise(entry.data_file.file_path))
                if not missing:
                    break
        return {path for path in paths if normalise(path) not in missing}

    def delete_files(self, paths: Collection[str]) -> None:
        """Delete data files that no snapshot needs; one that is gone already is fine.

        Raises:
            CorruptionError: A path is not in the table's data; nothing was deleted.
            UnavailableError: The store failed; some may be deleted, call again.

        """
        if self._loaded is None:
            self.load()
        table = self._loaded
        assert table is not None
        provider = table.location_provider()
        for path in paths:
            if not is_inside(path, (table.location(), provider.data_path)) or is_inside(
                path, (provider.metadata_path,)
            ):
                message = f"refused to delete path={path!r}: no data file of {self._identifier}"
                raise CorruptionError(message, kind=ErrorKind.PATH_OUTSIDE_TABLE)
        for path in paths:
            with translated(f"delete a file of table {self._identifier}"):
                try:
                    table.io.delete(path)
                except FileNotFoundError:
                    continue

    def _connect(self) -> Catalog:
        if self._catalog is None:
            self._catalog = self._open_catalog()
        return self._catalog

    def _store_for(self, fresh: FileIO) -> FileIO:
        """Return the store used so far unless its settings changed: it has connections open."""
        settings = {k: v for k, v in fresh.properties.items() if not k.startswith(K2I_PREFIX)}
        if self._store is None or settings != self._store_settings:
            self._store, self._store_settings = fresh, settings
        return self._store

    def _views_of(self, snapshots: Sequence[Snapshot]) -> Mapping[int, SnapshotView]:
        """Return the views of all snapshots, which do not change but for a parent that expired."""
        views: dict[int, SnapshotView] = {}
        for snapshot in snapshots:
            view = self._snapshots.get(snapshot.snapshot_id)
            if view is None or view.parent_snapshot_id != snapshot.parent_snapshot_id:
                view = _snapshot_view(snapshot)
            views[view.snapshot_id] = view
        self._snapshots = views
        return views

    def _ids_of(self, uuid: str, table: Table, schema_id: int) -> frozenset[int]:
        """Return the ids of all fields of a schema, which never change under its id."""
        key = (uuid, schema_id)
        if key not in self._field_ids:
            self._field_ids[key] = frozenset(table.schemas()[schema_id].field_ids)
        return self._field_ids[key]


def _widest(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Return, newest first, snapshots that together reach every file that any of them reaches.

    By the Iceberg specification an `append` removes nothing, so it reaches all that its parent
    does. Of a long history of appends only the newest manifest list has to be read.
    """
    covered = {
        snapshot.parent_snapshot_id
        for snapshot in snapshots
        if snapshot.summary is not None and snapshot.summary.operation is Operation.APPEND
    }
    widest = [snapshot for snapshot in snapshots if snapshot.snapshot_id not in covered]
    return sorted(widest, key=lambda snapshot: snapshot.sequence_number or 0, reverse=True)


def _requirements(view: TableView) -> tuple[TableRequirement, ...]:
    head = {"ref": MAIN_BRANCH, "snapshot-id": view.head_snapshot_id}
    return (
        AssertTableUUID(uuid=UUID(view.table_uuid)),
        AssertRefSnapshotId.model_validate(head),
        AssertCurrentSchemaId.model_validate({"current-schema-id": view.schema_id}),
        AssertDefaultSpecId.model_validate({"default-spec-id": view.spec_id}),
    )


def _snapshot_view(snapshot: Snapshot) -> SnapshotView:
    """Keep of the summary what the protocol and reports read; the rest is a word per partition."""
    summary: dict[str, str] = {}
    if snapshot.summary is not None:
        stored = snapshot.summary.additional_properties
        summary = {k: v for k, v in stored.items() if k.startswith(K2I_PREFIX) or k in KEPT_ENTRIES}
        summary["operation"] = snapshot.summary.operation.value
    return SnapshotView(
        snapshot_id=snapshot.snapshot_id,
        parent_snapshot_id=snapshot.parent_snapshot_id,
        sequence_number=snapshot.sequence_number or 0,
        timestamp_ms=snapshot.timestamp_ms,
        summary=summary,
    )


def _move_main(table: Table, snapshot_id: int) -> SetSnapshotRefUpdate:
    """Point `main` at the snapshot and repeat what it says about expiration, or that is lost."""
    main = table.metadata.refs.get(MAIN_BRANCH)
    return SetSnapshotRefUpdate.model_validate(
        {
            "ref-name": MAIN_BRANCH,
            "type": SnapshotRefType.BRANCH,
            "snapshot-id": snapshot_id,
            "max-ref-age-ms": main.max_ref_age_ms if main else None,
            "max-snapshot-age-ms": main.max_snapshot_age_ms if main else None,
            "min-snapshots-to-keep": main.min_snapshots_to_keep if main else None,
        }
    )


def _delete_forgotten_metadata(before: Table, after: TableMetadata) -> None:
    """Delete metadata files that a landed commit dropped from the metadata log, if the table says.

    Safe because the table no longer names them. One that cannot be deleted is garbage, no fault;
    one that is gone was deleted by the catalog, as some REST servers do.
    """
    if before.properties.get("write.metadata.delete-after-commit.enabled", "false") != "true":
        return
    named = {entry.metadata_file for entry in after.metadata_log}
    for entry in before.metadata.metadata_log:
        if entry.metadata_file not in named:
            with suppress(*foreign_exceptions()):
                before.io.delete(entry.metadata_file)


def _delete_removed_lists(
    before: Table, after: TableMetadata, removed_snapshot_ids: Sequence[int]
) -> None:
    """Delete manifest lists of removed snapshots, and manifests that only those had.

    A manifest once merged away never comes back, so in one unbroken history the oldest snapshot
    that is left tells which manifests are still needed. With side histories (tags, branches,
    rewinds) only the lists go, which belong to one snapshot each; the scheduled expiration looks
    at everything. Safe because the table no longer names the snapshots; what cannot be deleted is
    garbage, no fault.
    """
    left = {snapshot.snapshot_id: snapshot for snapshot in after.snapshots}
    if any(snapshot_id in left for snapshot_id in removed_snapshot_ids):
        return
    if not after.metadata_log or after.metadata_log[-1].metadata_file != before.metadata_location:
        return  # something else came between, which may have been a tag on a removed snapshot
    history: list[Snapshot] = []
    main = after.refs.get(MAIN_BRANCH)
    snapshot_id = main.snapshot_id if main else None
    while snapshot_id is not None and snapshot_id in left:
        history.append(left[snapshot_id])
        snapshot_id = left[snapshot_id].parent_snapshot_id
    with suppress(*foreign_exceptions()):
        doomed: set[str] = set()
        for removed_id in removed_snapshot_ids:
            removed = before.metadata.snapshot_by_id(removed_id)
            assert removed is not None
            if history and len(history) == len(left):
                doomed |= {m.manifest_path for m in removed.manifests(before.io)}
            doomed.add(removed.manifest_list)
        if history and len(history) == len(left):
            doomed -= {m.manifest_path for m in history[-1].manifests(before.io)}
        for path in doomed:
            before.io.delete(path)
