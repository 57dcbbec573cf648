"""Manifests of a snapshot that replaces files, built anew for every attempt at little cost.

A replacement races with appends, and whoever takes longer to build an attempt starves. So what
does not depend on the attempt is kept from one to the next: which files a manifest holds (a
manifest never changes), and the rewritten manifests. Only what was appended meanwhile is read.

| manifest of the head | in the new snapshot |
|---|---|
| holds none of the removed files | carried as it is |
| holds some | rewritten once without them: the others become `existing` |
| - | one of the new files, with the data sequence number of the rows that they hold |
| - | one for each spec with the removed files as `deleted`, for who reads changes; next gone |

The rewritten ones name no snapshot of this commit, so that a second attempt can use those of the
first. What no attempt landed with is garbage, for orphan removal.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
)
from pyiceberg.typedef import Record

from k2i_core.errors import ConfigError, ConflictError, ErrorKind
from k2i_core.iceberg.manifests import NewSnapshot, added, existing, read_entries
from k2i_core.iceberg.summaries import FileChanges

MANIFESTS_READ_AT_ONCE = 16
"""Larger holds more manifest entries in memory; smaller waits for the store more often."""


@dataclass(frozen=True, slots=True)
class NewFiles:
    """One replacement, with its files as manifest entries have them."""

    removed_paths: frozenset[str]
    data_files: tuple[DataFile, ...]


@dataclass(frozen=True, slots=True)
class _Split:
    """A manifest without some of its files.

    Attributes:
        removed: Their entries, as small as the specification allows.
        rest: The manifest of the others; None when there are none.
    """

    removed: tuple[ManifestEntry, ...]
    rest: ManifestFile | None


@dataclass(slots=True)
class ManifestMemory:
    """What is known of one table's manifests; used by one thread."""

    _paths: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    _splits: dict[tuple[str, frozenset[str]], _Split] = field(
        default_factory=dict[tuple[str, frozenset[str]], _Split]
    )

    def missing(
        self, io: FileIO, manifests: Sequence[ManifestFile], paths: Iterable[str]
    ) -> set[str]:
        """Return those of `paths` that are no live data files of the manifests.

        Raises:
            OSError: A manifest cannot be read.

        """
        self._read(io, manifests)
        wanted = set(paths)
        for manifest in manifests:
            if manifest.content == ManifestContent.DATA:
                wanted -= self._paths[manifest.manifest_path]
        return wanted

    def replace(
        self, new: NewSnapshot, replacements: Sequence[NewFiles]
    ) -> tuple[str, FileChanges]:
        """Write all manifests of a replacing snapshot and the list of them.

        Returns:
            The location of the manifest list, and which files change.

        Raises:
            ConflictError: A file to remove is not live.
            ConfigError: The table has delete files, which name rows by file.
            OSError: The store failed.

        """
        manifests = new.parent_manifests()
        check_no_deletes(manifests)
        removed_paths = frozenset(path for r in replacements for path in r.removed_paths)
        gone = self.missing(new.table.io, manifests, removed_paths)
        if gone:
            message = (
                f"files to replace are no longer in the table: count={len(gone)}; somebody else "
                f"replaced them, plan anew"
            )
            raise ConflictError(message, kind=ErrorKind.INPUTS_GONE)
        kept: list[ManifestFile] = []
        removed: list[ManifestEntry] = []
        used: set[tuple[str, frozenset[str]]] = set()
        for manifest in manifests:
            hit = removed_paths & self._paths[manifest.manifest_path]
            if not hit:
                kept.append(manifest)
                continue
            used.add((manifest.manifest_path, hit))
            split = self._split(new, manifest, hit)
            removed.extend(split.removed)
            if split.rest is not None:
                kept.append(of_snapshot(split.rest, new.snapshot_id))
        self._splits = {key: split for key, split in self._splits.items() if key in used}
        made = _write_changes(new, replacements, removed)
        changes = FileChanges(
            [data_file for r in replacements for data_file in r.data_files],
            [entry.data_file for entry in removed],
        )
        return new.write_list([*made, *kept]), changes

    def _read(self, io: FileIO, manifests: Sequence[ManifestFile]) -> None:
        unread = [m for m in manifests if m.manifest_path not in self._paths]
        for start in range(0, len(unread), MANIFESTS_READ_AT_ONCE):
            step = unread[start : start + MANIFESTS_READ_AT_ONCE]
            for manifest, entries in zip(step, read_entries(io, step), strict=True):
                paths = frozenset(entry.data_file.file_path for entry in entries)
                self._paths[manifest.manifest_path] = paths
        current = {m.manifest_path for m in manifests}
        self._paths = {path: files for path, files in self._paths.items() if path in current}

    def _split(self, new: NewSnapshot, manifest: ManifestFile, hit: frozenset[str]) -> _Split:
        key = (manifest.manifest_path, hit)
        if key not in self._splits:
            (entries,) = read_entries(new.table.io, [manifest])
            rest = [existing(e) for e in entries if e.data_file.file_path not in hit]
            self._splits[key] = _Split(
                tuple(_slim(e) for e in entries if e.data_file.file_path in hit),
                new.write_manifest(manifest.partition_spec_id, rest) if rest else None,
            )
        return self._splits[key]


def check_no_deletes(manifests: Iterable[ManifestFile]) -> None:
    """Refuse a table with delete files.

    Raises:
        ConfigError: It has some.

    """
    if any(manifest.content == ManifestContent.DELETES for manifest in manifests):
        message = (
            "the table has delete files, which another engine wrote and which name rows by the "
            "files that they are in; rewrite it with that engine first"
        )
        raise ConfigError(message, kind=ErrorKind.NOT_SUPPORTED_YET)


def _write_changes(
    new: NewSnapshot, replacements: Sequence[NewFiles], removed: Sequence[ManifestEntry]
) -> list[ManifestFile]:
    """Write the manifests that are this snapshot's own: what it adds, what it deletes."""
    numbers = {e.data_file.file_path: e.sequence_number or 0 for e in removed}
    entries = [
        entry
        for r in replacements
        for entry in added(
            r.data_files, new.snapshot_id, max(numbers[path] for path in r.removed_paths)
        )
    ]
    made: list[ManifestFile] = []
    if entries:
        made.append(new.write_manifest(new.table.metadata.default_spec_id, entries))
    for spec_id in sorted({entry.data_file.spec_id for entry in removed}):
        of_spec = (_deleted(e, new.snapshot_id) for e in removed if e.data_file.spec_id == spec_id)
        made.append(new.write_manifest(spec_id, of_spec))
    return made


def _slim(entry: ManifestEntry) -> ManifestEntry:
    """Return a copy without statistics: nobody reads those of a removed file."""
    data_file = entry.data_file
    slim = DataFile.from_args(
        content=data_file.content,
        file_path=data_file.file_path,
        file_format=data_file.file_format,
        # A copy, because the entry's own is one of thousands that are let go.
        partition=Record(*data_file.partition._data),  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        record_count=data_file.record_count,
        file_size_in_bytes=data_file.file_size_in_bytes,
    )
    slim.spec_id = data_file.spec_id
    return ManifestEntry.from_args(
        status=ManifestEntryStatus.EXISTING,
        snapshot_id=entry.snapshot_id,
        sequence_number=entry.sequence_number,
        file_sequence_number=entry.file_sequence_number,
        data_file=slim,
    )


def _deleted(entry: ManifestEntry, snapshot_id: int) -> ManifestEntry:
    return ManifestEntry.from_args(
        status=ManifestEntryStatus.DELETED,
        snapshot_id=snapshot_id,
        sequence_number=entry.sequence_number,
        file_sequence_number=entry.file_sequence_number,
        data_file=entry.data_file,
    )


def of_snapshot(manifest: ManifestFile, snapshot_id: int) -> ManifestFile:
    """Return a manifest as the snapshot that lists it first has to name it."""
    return ManifestFile.from_args(
        manifest_path=manifest.manifest_path,
        manifest_length=manifest.manifest_length,
        partition_spec_id=manifest.partition_spec_id,
        content=manifest.content,
        sequence_number=manifest.sequence_number,
        min_sequence_number=manifest.min_sequence_number,
        added_snapshot_id=snapshot_id,
        added_files_count=manifest.added_files_count,
        existing_files_count=manifest.existing_files_count,
        deleted_files_count=manifest.deleted_files_count,
        added_rows_count=manifest.added_rows_count,
        existing_rows_count=manifest.existing_rows_count,
        deleted_rows_count=manifest.deleted_rows_count,
        partitions=manifest.partitions,
        key_metadata=manifest.key_metadata,
    )
