"""The manifests of one append: a new one for the new files, and few of them for the old ones.

Every commit adds one small manifest, and every commit writes the list of all of them. So that this
list stays short, an append also rewrites small manifests into larger ones, as a log-structured
merge does: a manifest of fewer than 32 files is level 0, a larger one level 1 until it is full.
When a level has 32 manifests they become one, which costs about a millisecond a file, and a file
is rewritten twice in its life. A table of n files has at most 62 manifests and n / 512 full ones.

A rewritten entry stays what it was: live, with the snapshot and the sequence numbers under which
its file was added. So readers, the proof of a checkpoint (`ancestry`) and snapshot expiration see
the same table. Manifests of another partition spec and of delete files are carried along as they
are. Older snapshots keep their own lists and with them the manifests before the rewriting.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import cast

from pyiceberg.avro.codecs import AvroCompressionCodec
from pyiceberg.io import FileIO, OutputFile
from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriter,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.table import Table

MERGE_COUNT = 32
"""Larger makes every commit slower, by its manifest list; smaller rewrites more often."""

FULL_FILE_COUNT = 512
FULL_BYTES = 512 * 1024
"""From here on a manifest is left alone. Larger makes the commit that merges slower (half a second
for 1,000 files); smaller gives large tables more manifests."""

MERGED_FILE_COUNT_MAX = 2 * FULL_FILE_COUNT
MERGED_BYTES_MAX = 2 * FULL_BYTES

READER_COUNT = 8
"""Manifests read at once: on an object store each read waits for the network."""


@dataclass(frozen=True, slots=True)
class Append:
    """One append: where, as what, on top of what.

    Attributes:
        table: As it was loaded.
        snapshot_id: The new one.
        parent_snapshot_id: Whose files stay; None for an empty table.
    """

    table: Table
    snapshot_id: int
    parent_snapshot_id: int | None

    def write(self, data_files: Sequence[DataFile]) -> str:
        """Write all manifests that are needed and the list of them.

        Args:
            data_files: New files, all of the table's default partition spec.

        Returns:
            The location of the manifest list.

        """
        kept = self._parent_manifests()
        merging = merge_candidates(kept, self.table.metadata.default_spec_id)
        new: list[ManifestFile] = []
        if data_files:
            new.append(self._write_manifest(len(new), _added(data_files, self.snapshot_id)))
        if merging:
            entries = (e for group in _read(self.table.io, merging) for e in group)
            existing = [_existing(entry) for entry in entries]
            if existing:
                new.append(self._write_manifest(len(new), existing))
            merged = {m.manifest_path for m in merging}
            kept = [m for m in kept if m.manifest_path not in merged]
        return self._write_list([*new, *kept])

    def _parent_manifests(self) -> list[ManifestFile]:
        if self.parent_snapshot_id is None:
            return []
        parent = self.table.metadata.snapshot_by_id(self.parent_snapshot_id)
        assert parent is not None, "the parent was chosen from this very metadata"
        return parent.manifests(self.table.io)

    def _write_manifest(self, number: int, entries: Iterable[ManifestEntry]) -> ManifestFile:
        metadata = self.table.metadata
        with write_manifest(
            format_version=metadata.format_version,
            spec=metadata.spec(),
            schema=metadata.schema(),
            output_file=self._output(f"{self.snapshot_id}-{metadata.table_uuid}-m{number}.avro"),
            snapshot_id=self.snapshot_id,
            avro_compression=self._compression,
        ) as writer:
            _write_entries(writer, entries)
        return writer.to_manifest_file()

    def _write_list(self, manifests: list[ManifestFile]) -> str:
        metadata = self.table.metadata
        output = self._output(f"snap-{self.snapshot_id}-0-{metadata.table_uuid}.avro")
        with write_manifest_list(
            format_version=metadata.format_version,
            output_file=output,
            snapshot_id=self.snapshot_id,
            parent_snapshot_id=self.parent_snapshot_id,
            sequence_number=metadata.next_sequence_number(),
            avro_compression=self._compression,
        ) as writer:
            writer.add_manifests(manifests)
        return output.location

    def _output(self, file_name: str) -> OutputFile:
        location = self.table.location_provider().new_metadata_location(file_name)
        return self.table.io.new_output(location)

    @property
    def _compression(self) -> AvroCompressionCodec:
        codec = self.table.metadata.properties.get("write.avro.compression-codec", "gzip")
        # Safe because PyIceberg translates the property's words (gzip, zstd) to Avro's by itself.
        return cast("AvroCompressionCodec", codec)


def merge_candidates(manifests: Sequence[ManifestFile], spec_id: int) -> list[ManifestFile]:
    """Return the manifests that this commit should rewrite into one; none of them, mostly."""
    levels: tuple[list[ManifestFile], list[ManifestFile]] = ([], [])
    for manifest in manifests:
        file_count = _live_file_count(manifest)
        if (
            manifest.content == ManifestContent.DATA
            and manifest.partition_spec_id == spec_id
            and file_count is not None
            and file_count < FULL_FILE_COUNT
            and manifest.manifest_length < FULL_BYTES
        ):
            levels[file_count >= MERGE_COUNT].append(manifest)
    for level in levels:
        if len(level) >= MERGE_COUNT:
            return _fitting(level)
    return []


def _fitting(level: list[ManifestFile]) -> list[ManifestFile]:
    """Take the smallest ones as long as the result is not too large; two always fit."""
    taken: list[ManifestFile] = []
    file_count = byte_count = 0
    for manifest in sorted(level, key=lambda m: m.manifest_length):
        file_count += _live_file_count(manifest) or 0
        byte_count += manifest.manifest_length
        if file_count > MERGED_FILE_COUNT_MAX or byte_count > MERGED_BYTES_MAX:
            break
        taken.append(manifest)
    return taken


def _live_file_count(manifest: ManifestFile) -> int | None:
    """Count live files; None for the manifests of old writers that did not say."""
    if manifest.added_files_count is None or manifest.existing_files_count is None:
        return None
    return manifest.added_files_count + manifest.existing_files_count


def read_live_entries(io: FileIO, manifests: Sequence[ManifestFile]) -> Iterator[ManifestEntry]:
    """Yield the live entries of the manifests, in their order, a few manifests ahead.

    Raises:
        OSError: One cannot be read.

    """
    # In small steps, because a caller that has found what it looks for stops.
    for start in range(0, len(manifests), READER_COUNT):
        for group in _read(io, manifests[start : start + READER_COUNT]):
            yield from group


def _read(io: FileIO, manifests: Sequence[ManifestFile]) -> list[list[ManifestEntry]]:
    if len(manifests) == 1:
        return [_fetch(io, manifests[0])]
    with ThreadPoolExecutor(READER_COUNT) as pool:
        return list(pool.map(partial(_fetch, io), manifests))


def _fetch(io: FileIO, manifest: ManifestFile) -> list[ManifestEntry]:
    return manifest.fetch_manifest_entry(io)


def _added(data_files: Iterable[DataFile], snapshot_id: int) -> Iterator[ManifestEntry]:
    for data_file in data_files:
        # Without sequence numbers: the catalog gives the whole snapshot one when it lands.
        yield ManifestEntry.from_args(
            status=ManifestEntryStatus.ADDED,
            snapshot_id=snapshot_id,
            sequence_number=None,
            file_sequence_number=None,
            data_file=data_file,
        )


def _existing(entry: ManifestEntry) -> ManifestEntry:
    return ManifestEntry.from_args(
        status=ManifestEntryStatus.EXISTING,
        snapshot_id=entry.snapshot_id,
        sequence_number=entry.sequence_number,
        file_sequence_number=entry.file_sequence_number,
        data_file=entry.data_file,
    )


def _write_entries(writer: ManifestWriter, entries: Iterable[ManifestEntry]) -> None:
    for entry in entries:
        writer.add_entry(entry)
