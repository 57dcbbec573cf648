"""The manifests of one snapshot: a new one for the new files, and few of them for the old ones.

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
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import cast

from pyiceberg.avro.codecs import AvroCompressionCodec
from pyiceberg.io import FileIO, OutputFile
from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

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
class NewSnapshot:
    """Metadata files of one snapshot: where, as what, on top of what.

    Attributes:
        table: As it was loaded.
        snapshot_id: The new one.
        parent_snapshot_id: Whose files stay; None for an empty table.
    """

    table: Table
    snapshot_id: int
    parent_snapshot_id: int | None
    _numbers: Iterator[int] = field(default_factory=count, repr=False, compare=False)

    def parent_manifests(self) -> list[ManifestFile]:
        """Return the parent's manifests, without those that only tell what it removed."""
        if self.parent_snapshot_id is None:
            return []
        parent = self.table.metadata.snapshot_by_id(self.parent_snapshot_id)
        assert parent is not None, "the parent was chosen from this very metadata"
        return [m for m in parent.manifests(self.table.io) if live_file_count(m) != 0]

    def write_manifest(self, spec_id: int, entries: Iterable[ManifestEntry]) -> ManifestFile:
        """Write one manifest of files of one partition spec; at least one entry."""
        metadata = self.table.metadata
        spec = metadata.specs()[spec_id]
        name = f"{self.snapshot_id}-{metadata.table_uuid}-m{next(self._numbers)}.avro"
        with write_manifest(
            format_version=metadata.format_version,
            spec=spec,
            schema=_schema_of(metadata, spec),
            output_file=self._output(name),
            snapshot_id=self.snapshot_id,
            avro_compression=self._compression,
        ) as writer:
            for entry in entries:
                writer.add_entry(entry)
        return writer.to_manifest_file()

    def write_list(self, manifests: list[ManifestFile]) -> str:
        """Write the manifest list; returns its location."""
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


def write_append(new: NewSnapshot, data_files: Sequence[DataFile]) -> str:
    """Write all manifests that an append needs and the list of them.

    Args:
        new: The snapshot.
        data_files: New files, all of the table's default partition spec.

    Returns:
        The location of the manifest list.

    """
    spec_id = new.table.metadata.default_spec_id
    kept = new.parent_manifests()
    merging = merge_candidates(kept, spec_id)
    made: list[ManifestFile] = []
    if data_files:
        made.append(new.write_manifest(spec_id, added(data_files, new.snapshot_id)))
    if merging:
        entries = (e for group in read_entries(new.table.io, merging) for e in group)
        kept_entries = [existing(entry) for entry in entries]
        if kept_entries:
            made.append(new.write_manifest(spec_id, kept_entries))
        merged = {m.manifest_path for m in merging}
        kept = [m for m in kept if m.manifest_path not in merged]
    return new.write_list([*made, *kept])


def merge_candidates(manifests: Sequence[ManifestFile], spec_id: int) -> list[ManifestFile]:
    """Return the manifests that this commit should rewrite into one; none of them, mostly."""
    levels: tuple[list[ManifestFile], list[ManifestFile]] = ([], [])
    for manifest in manifests:
        file_count = live_file_count(manifest)
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
        file_count += live_file_count(manifest) or 0
        byte_count += manifest.manifest_length
        if file_count > MERGED_FILE_COUNT_MAX or byte_count > MERGED_BYTES_MAX:
            break
        taken.append(manifest)
    return taken


def live_file_count(manifest: ManifestFile) -> int | None:
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
        for group in read_entries(io, manifests[start : start + READER_COUNT]):
            yield from group


def read_entries(io: FileIO, manifests: Sequence[ManifestFile]) -> list[list[ManifestEntry]]:
    """Return the live entries of each manifest, several read at once.

    Raises:
        OSError: One cannot be read.

    """
    if len(manifests) == 1:
        return [_fetch(io, manifests[0])]
    with ThreadPoolExecutor(READER_COUNT) as pool:
        return list(pool.map(partial(_fetch, io), manifests))


def _fetch(io: FileIO, manifest: ManifestFile) -> list[ManifestEntry]:
    return manifest.fetch_manifest_entry(io)


def added(
    data_files: Iterable[DataFile], snapshot_id: int, sequence_number: int | None = None
) -> Iterator[ManifestEntry]:
    """Yield entries of new files.

    Args:
        data_files: The files.
        snapshot_id: What adds them.
        sequence_number: Of their rows, when those are older than the snapshot; None for rows that
            are new: the catalog gives the whole snapshot a number when it lands.

    """
    for data_file in data_files:
        yield ManifestEntry.from_args(
            status=ManifestEntryStatus.ADDED,
            snapshot_id=snapshot_id,
            sequence_number=sequence_number,
            file_sequence_number=None,
            data_file=data_file,
        )


def existing(entry: ManifestEntry) -> ManifestEntry:
    """Return the entry of a file that an earlier snapshot added, for another manifest."""
    return ManifestEntry.from_args(
        status=ManifestEntryStatus.EXISTING,
        snapshot_id=entry.snapshot_id,
        sequence_number=entry.sequence_number,
        file_sequence_number=entry.file_sequence_number,
        data_file=entry.data_file,
    )


def _schema_of(metadata: TableMetadata, spec: PartitionSpec) -> Schema:
    """Return the newest schema that has all columns of a spec: an old spec's may be dropped."""
    needed = {field.source_id for field in spec.fields}
    current = metadata.schema()
    older = sorted(metadata.schemas, key=lambda schema: schema.schema_id, reverse=True)
    fitting = (schema for schema in (current, *older) if needed <= set(schema.field_ids))
    return next(fitting, current)
