"""Reads from a table's manifests what changed since the last audit, and from its store file sizes.

Only manifests that were written since the mark are opened, and of commits that are no appends their
own ones; the cost follows what is new. A rewrite of all manifests makes one audit read them all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pyarrow.fs import FileInfo, FileType
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import (
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from k2i_core.audit.table_delta import (
    FileEntry,
    SnapshotFacts,
    TableDelta,
    TableMark,
    attribute,
    history_since,
)
from k2i_core.errors import ConfigError
from k2i_core.iceberg.failures import translated

READER_COUNT = 8
"""Manifests read at once: on an object store each read waits for the network."""


def read_delta(table: Table, mark: TableMark | None) -> TableDelta:
    """Read what changed since a mark.

    Args:
        table: A fresh load.
        mark: Of the last audit; None for everything.

    Raises:
        ConfigError: The table has no snapshot yet.
        UnavailableError: A manifest cannot be read; load the table again.
        CorruptionError: A manifest cannot be understood.

    """
    name = ".".join(table.name())
    ancestors = tuple(_ancestors(table))
    if not ancestors:
        message = f"table={name} has no snapshot: nothing was ever committed to it"
        raise ConfigError(message)
    uuid = str(table.metadata.table_uuid)
    history = history_since(ancestors, uuid, mark)
    since = mark.sequence_number if mark is not None and not history.is_whole else None
    with translated(f"read manifests of table {name}"):
        manifests = _manifests(table, ancestors[0].snapshot_id)
        live = tuple(_live(table.io, manifests, since))
        own = {
            snapshot.snapshot_id: _own_entries(table, snapshot)
            for snapshot in history.new
            if not snapshot.is_append
        }
    return TableDelta(
        uuid,
        ancestors[0],
        history,
        attribute(history, live, own),
        live,
        any(m.content is ManifestContent.DELETES and _has_live(m) for m in manifests),
    )


def file_sizes(io: FileIO, paths: Sequence[str]) -> dict[str, int | None]:
    """Ask the store for the sizes of files, many at once.

    Returns:
        Path → bytes; None for a file that does not exist.

    Raises:
        UnavailableError: The store did not answer.

    """
    with translated("ask the store for sizes of data files"):
        if not isinstance(io, PyArrowFileIO):
            with ThreadPoolExecutor(READER_COUNT) as pool:
                return dict(zip(paths, pool.map(partial(_size_of, io), paths), strict=True))
        groups: dict[tuple[str, str], dict[str, str]] = {}
        for path in paths:
            scheme, netloc, inner = io.parse_location(path, io.properties)
            groups.setdefault((scheme, netloc), {})[path] = inner
        sizes: dict[str, int | None] = {}
        for (scheme, netloc), inner_paths in groups.items():
            infos = io.fs_by_scheme(scheme, netloc).get_file_info(list(inner_paths.values()))
            sizes |= zip(inner_paths, map(_size, infos), strict=True)
        return sizes


def _size(info: FileInfo) -> int | None:
    return info.size if info.type is FileType.File else None


def _size_of(io: FileIO, path: str) -> int | None:
    file = io.new_input(path)
    return len(file) if file.exists() else None


def _ancestors(table: Table) -> Iterator[SnapshotFacts]:
    # By id at once, because PyIceberg searches all snapshots for each.
    snapshots = {snapshot.snapshot_id: snapshot for snapshot in table.metadata.snapshots}
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield _facts(snapshot)
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else snapshots.get(parent)


def _facts(snapshot: Snapshot) -> SnapshotFacts:
    summary = snapshot.summary
    return SnapshotFacts(
        snapshot.snapshot_id,
        snapshot.parent_snapshot_id,
        snapshot.sequence_number or 0,
        snapshot.timestamp_ms,
        summary.operation.value if summary else "append",
        summary.additional_properties if summary else {},
    )


def _manifests(table: Table, snapshot_id: int) -> list[ManifestFile]:
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    assert snapshot is not None, "it was found in this very metadata"
    return snapshot.manifests(table.io)


def _live(io: FileIO, manifests: Iterable[ManifestFile], since: int | None) -> Iterator[FileEntry]:
    """Yield the live data files, those added after a sequence number, or all."""
    opened = [
        manifest
        for manifest in manifests
        if manifest.content is ManifestContent.DATA
        and (since is None or (manifest.sequence_number or 0) > since)
    ]
    for entries in _read(io, opened, discard_deleted=True):
        for entry in entries:
            file = _file_entry(entry)
            if since is None or file.added_sequence_number > since:
                yield file


def _own_entries(
    table: Table, snapshot: SnapshotFacts
) -> tuple[tuple[FileEntry, ...], tuple[FileEntry, ...]]:
    """Return the files that a commit's own manifests added, and those that they removed."""
    manifests = [
        manifest
        for manifest in _manifests(table, snapshot.snapshot_id)
        if manifest.added_snapshot_id == snapshot.snapshot_id
        and manifest.content is ManifestContent.DATA
    ]
    added: list[FileEntry] = []
    removed: list[FileEntry] = []
    for entries in _read(table.io, manifests, discard_deleted=False):
        for entry in entries:
            if entry.snapshot_id != snapshot.snapshot_id:
                continue
            if entry.status == ManifestEntryStatus.ADDED:
                added.append(_file_entry(entry))
            elif entry.status == ManifestEntryStatus.DELETED:
                removed.append(_file_entry(entry))
    return tuple(added), tuple(removed)


def _read(
    io: FileIO, manifests: Sequence[ManifestFile], *, discard_deleted: bool
) -> list[list[ManifestEntry]]:
    def fetch(manifest: ManifestFile) -> list[ManifestEntry]:
        return manifest.fetch_manifest_entry(io, discard_deleted=discard_deleted)

    if len(manifests) <= 1:
        return [fetch(manifest) for manifest in manifests]
    with ThreadPoolExecutor(READER_COUNT) as pool:
        return list(pool.map(fetch, manifests))


def _has_live(manifest: ManifestFile) -> bool:
    # Old writers did not say, and then there may be some.
    counts = (manifest.added_files_count, manifest.existing_files_count)
    return any(count is None or count > 0 for count in counts)


def _file_entry(entry: ManifestEntry) -> FileEntry:
    file = entry.data_file
    sequence_number = entry.sequence_number or 0
    values: Mapping[int, int] | None = file.value_counts
    return FileEntry(
        file.file_path,
        file.record_count,
        file.file_size_in_bytes,
        entry.snapshot_id or 0,
        sequence_number,
        entry.file_sequence_number or sequence_number,
        values,
        file.null_value_counts,
        file.lower_bounds,
        file.upper_bounds,
    )
