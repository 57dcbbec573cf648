"""How healthy a table is, from one load and the head's manifests, and what it needs because of it.

`measure` reads; `needs` is pure and says, with a reason for people, which steps of maintenance are
worth running now. What is small, and which manifests are worth rewriting, is asked where the steps
themselves ask. Cost: the manifests of the head are read once, a few at a time; what is kept grows
with the number of Iceberg partitions, not with the number of files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFileContent, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.table import Table

from k2i_core.config.maintenance import Maintenance
from k2i_core.iceberg.clustering import plan_clusters
from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.manifests import read_live_entries
from k2i_core.maintenance.sizes import is_small

Step: TypeAlias = Literal["compaction", "manifests", "expiration"]

SCAN_BYTES_PER_SECOND = 200e6
SCAN_SECONDS_PER_FILE = 0.005
SCAN_SECONDS_PER_MANIFEST = 0.01
"""What one thread of a reader pays: for bytes decoded, to open a file and read its footer, and to
read a manifest. Of the order of a nearby object store; a local disk is faster at all three."""

METADATA_BYTES_MAX = 4 * 1024 * 1024
"""Size of the metadata file from which giving up snapshots is due: each commit rewrites it. Larger
makes commits slow, smaller expires where little is won."""


@dataclass(frozen=True, slots=True)
class TableHealth:
    """One table at one moment.

    Attributes:
        table: Namespace and name, joined by dots.
        snapshot_id: The head; None for a table without snapshots.
        data_file_count: Live data files.
        small_file_count: Of these, below 75 % of the target size.
        small_file_share: Their share; 0 without files.
        small_files_per_partition_max: Small files of the Iceberg partition with most of them.
        average_file_bytes: Of live data files; 0 without files.
        total_bytes: Of live data files.
        row_count: Rows in them.
        manifest_count: Manifests of the head.
        manifests_to_rewrite_count: Those that manifest rewriting would take now.
        manifest_overlap: Full manifests that a query of one place of the first partition field
            opens, on average.
        snapshot_count: Retained ones.
        oldest_snapshot_seconds: Age of the oldest one that no branch or tag names.
        metadata_file_bytes: The current metadata file, which every commit rewrites.
        metadata_bytes: That, the head's manifest list and its manifests: what planning reads.
        delete_file_count: Live delete files, which other writers made.
        old_spec_file_count: Live data files of an older partition spec.
        partition_count: Iceberg partitions with live files.
        files_per_partition_max: Live files of the fullest Iceberg partition.
        projected_scan_seconds: What reading every row would cost one thread: all bytes at 200 MB/s,
            5 ms for each file and 10 ms for each manifest. Compare it with itself over time; the
            part that is not bytes is what maintenance can save.
    """

    table: str
    snapshot_id: int | None
    data_file_count: int = 0
    small_file_count: int = 0
    small_file_share: float = 0.0
    small_files_per_partition_max: int = 0
    average_file_bytes: int = 0
    total_bytes: int = 0
    row_count: int = 0
    manifest_count: int = 0
    manifests_to_rewrite_count: int = 0
    manifest_overlap: float = 0.0
    snapshot_count: int = 0
    oldest_snapshot_seconds: float = 0.0
    metadata_file_bytes: int = 0
    metadata_bytes: int = 0
    delete_file_count: int = 0
    old_spec_file_count: int = 0
    partition_count: int = 0
    files_per_partition_max: int = 0
    projected_scan_seconds: float = 0.0

    def to_json(self) -> dict[str, object]:
        """Return it as a document."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Need:
    """A step that is worth running, and why, one line for people."""

    step: Step
    reason: str


def needs(health: TableHealth, settings: Maintenance) -> tuple[Need, ...]:
    """Judge which steps a table needs, in the order in which they should run."""
    found: list[Need] = []
    compaction, expiration = settings.compaction, settings.expiration
    if health.small_files_per_partition_max >= compaction.min_input_files:
        reason = (
            f"{health.small_files_per_partition_max} small files in one Iceberg partition, from "
            f"{compaction.min_input_files} on they are put together"
        )
        found.append(Need("compaction", reason))
    elif health.old_spec_file_count:
        reason = f"{health.old_spec_file_count} data files of an older partition spec"
        found.append(Need("compaction", reason))
    if health.manifests_to_rewrite_count:
        reason = (
            f"{health.manifests_to_rewrite_count} of {health.manifest_count} manifests are small "
            f"or hold what others hold too, overlap={health.manifest_overlap:.1f}"
        )
        found.append(Need("manifests", reason))
    reason = _why_expire(health, expiration.older_than, expiration.max_snapshots)
    if reason and health.snapshot_count > expiration.retain_last:
        found.append(Need("expiration", reason))
    return tuple(found)


def _why_expire(health: TableHealth, older_than: float, max_snapshots: int) -> str:
    if health.snapshot_count > max_snapshots:
        return f"{health.snapshot_count} snapshots, more than max_snapshots={max_snapshots}"
    if health.oldest_snapshot_seconds > older_than:
        age = f"{health.oldest_snapshot_seconds:.0f} s"
        return f"the oldest snapshot is {age} old, more than older_than={older_than:.0f} s"
    if health.metadata_file_bytes > METADATA_BYTES_MAX:
        return f"the metadata file has {health.metadata_file_bytes:,} bytes"
    return ""


def measure(table: Table, *, target_file_bytes: int, now_ms: int) -> TableHealth:
    """Read a table's health from a load of it.

    Args:
        table: As it was loaded.
        target_file_bytes: What compaction makes files of; decides which are small.
        now_ms: Milliseconds since 1970 UTC.

    Raises:
        UnavailableError: The store did not answer.

    """
    name = ".".join(table.name())
    metadata = table.metadata
    head = table.current_snapshot()
    with translated(f"read the metadata of table {name}"):
        metadata_file_bytes = len(table.io.new_input(table.metadata_location))
        if head is None:
            return TableHealth(name, None, metadata_file_bytes=metadata_file_bytes)
        list_bytes = len(table.io.new_input(head.manifest_list))
        manifests = head.manifests(table.io)
        files = _FileCounts(target_file_bytes, metadata.default_spec_id)
        files.count(read_live_entries(table.io, _with_data(manifests)))
        delete_file_count = _delete_file_count(table.io, manifests)
    clusters = plan_clusters(table, manifests)
    named = {ref.snapshot_id for ref in metadata.refs.values()}
    unnamed_ms = [s.timestamp_ms for s in metadata.snapshots if s.snapshot_id not in named]
    return TableHealth(
        table=name,
        snapshot_id=head.snapshot_id,
        data_file_count=files.file_count,
        small_file_count=files.small_count,
        small_file_share=files.small_count / files.file_count if files.file_count else 0.0,
        small_files_per_partition_max=max(files.small_by_partition.values(), default=0),
        average_file_bytes=files.byte_count // files.file_count if files.file_count else 0,
        total_bytes=files.byte_count,
        row_count=files.row_count,
        manifest_count=len(manifests),
        # Where delete files are, manifests are left alone.
        manifests_to_rewrite_count=0 if delete_file_count else len(clusters.manifests),
        manifest_overlap=clusters.overlap,
        snapshot_count=len(metadata.snapshots),
        oldest_snapshot_seconds=max(0.0, (now_ms - min(unnamed_ms, default=now_ms)) / 1000),
        metadata_file_bytes=metadata_file_bytes,
        metadata_bytes=metadata_file_bytes
        + list_bytes
        + sum(manifest.manifest_length for manifest in manifests),
        delete_file_count=delete_file_count,
        old_spec_file_count=files.old_spec_count,
        partition_count=len(files.by_partition),
        files_per_partition_max=max(files.by_partition.values(), default=0),
        projected_scan_seconds=files.byte_count / SCAN_BYTES_PER_SECOND
        + files.file_count * SCAN_SECONDS_PER_FILE
        + len(manifests) * SCAN_SECONDS_PER_MANIFEST,
    )


class _FileCounts:
    """Sums over live data files, in all and per Iceberg partition."""

    def __init__(self, target_file_bytes: int, spec_id: int) -> None:
        self.target_file_bytes = target_file_bytes
        self.spec_id = spec_id
        self.file_count = self.small_count = self.byte_count = self.row_count = 0
        self.old_spec_count = 0
        self.by_partition: dict[str, int] = {}
        self.small_by_partition: dict[str, int] = {}

    def count(self, entries: Iterable[ManifestEntry]) -> None:
        for entry in entries:
            data_file = entry.data_file
            if data_file.content != DataFileContent.DATA:
                continue
            partition = f"{data_file.spec_id}{data_file.partition}"
            self.file_count += 1
            self.byte_count += data_file.file_size_in_bytes
            self.row_count += data_file.record_count
            self.old_spec_count += data_file.spec_id != self.spec_id
            self.by_partition[partition] = self.by_partition.get(partition, 0) + 1
            if is_small(data_file.file_size_in_bytes, self.target_file_bytes):
                self.small_count += 1
                small = self.small_by_partition.get(partition, 0)
                self.small_by_partition[partition] = small + 1


def _with_data(manifests: Sequence[ManifestFile]) -> list[ManifestFile]:
    return [m for m in manifests if m.content == ManifestContent.DATA]


def _delete_file_count(io: FileIO, manifests: Sequence[ManifestFile]) -> int:
    with_deletes = [m for m in manifests if m.content == ManifestContent.DELETES]
    return sum(1 for _ in read_live_entries(io, with_deletes))
