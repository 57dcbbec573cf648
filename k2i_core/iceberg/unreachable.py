"""What only removed snapshots reached: data files, manifests, manifest lists, statistics.

Data files are looked for only where they can be: in removed snapshots that no append followed,
because an append holds whatever its parent holds. In a table that was only appended to, no manifest
has to be read at all.

Memory: the paths of all manifests of the retained and of the removed snapshots, and of at most
`CANDIDATES_MAX` data files at a time. Manifests are read a few at a time; the retained ones once
for each such portion.
"""

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.gateway import TableView
from k2i_core.iceberg.locations import normalise
from k2i_core.iceberg.manifests import READER_COUNT, read_live_entries
from k2i_core.iceberg.retention import is_append
from k2i_core.iceberg.views import table_of

CANDIDATES_MAX = 250_000
"""Data files judged at once, some 100 MB of paths. Larger costs memory; smaller reads the manifests
of the retained snapshots more often."""


@dataclass(frozen=True, slots=True)
class RemovedFiles:
    """Metadata files that only removed snapshots reached, and manifests that may name data files.

    Attributes:
        manifest_bytes: Location of each manifest → its size.
        manifest_lists: Locations.
        statistics_bytes: Location of each statistics file → its size.
        candidates: Those manifests whose data files may be reached by nothing any more.
    """

    manifest_bytes: dict[str, int]
    manifest_lists: tuple[str, ...]
    statistics_bytes: dict[str, int]
    candidates: tuple[ManifestFile, ...] = field(repr=False)


def without_snapshots(view: TableView, snapshot_ids: Collection[int]) -> TableView:
    """Return the view as if snapshots were removed already; for dry runs."""
    gone = set(snapshot_ids)
    table = table_of(view)
    retained = [s for s in table.metadata.snapshots if s.snapshot_id not in gone]
    handle = Table(
        identifier=table.name(),
        metadata=table.metadata.model_copy(update={"snapshots": retained}),
        metadata_location=table.metadata_location,
        io=table.io,
        catalog=table.catalog,
    )
    snapshots = {i: s for i, s in view.snapshots.items() if i not in gone}
    return replace(view, snapshots=snapshots, handle=handle)


def removed_files(
    before: TableView, after: TableView, removed_snapshot_ids: Collection[int]
) -> RemovedFiles:
    """Compare what removed snapshots reached with what retained ones reach.

    Args:
        before: A load with the snapshots.
        after: A later load without them.
        removed_snapshot_ids: Those that were removed.

    Raises:
        UnavailableError: A manifest list could not be read; delete nothing.

    """
    earlier, later = table_of(before), table_of(after)
    removed_ids = set(removed_snapshot_ids) - after.snapshots.keys()
    removed = [s for s in earlier.metadata.snapshots if s.snapshot_id in removed_ids]
    dropping = _without_appended_child(before, removed_ids)
    with translated(f"read manifest lists of table {'.'.join(later.name())}"):
        kept: set[str] = set()
        for manifests in _lists(later, later.metadata.snapshots):
            kept.update(normalise(manifest.manifest_path) for manifest in manifests)
        manifest_bytes: dict[str, int] = {}
        candidates: dict[str, ManifestFile] = {}
        for snapshot, manifests in zip(removed, _lists(earlier, removed), strict=True):
            for manifest in manifests:
                if normalise(manifest.manifest_path) in kept:
                    continue
                manifest_bytes[manifest.manifest_path] = manifest.manifest_length
                if snapshot.snapshot_id in dropping:
                    candidates[manifest.manifest_path] = manifest
    kept_lists = {normalise(s.manifest_list) for s in later.metadata.snapshots}
    kept_statistics = {normalise(path) for path in _statistics(later)}
    return RemovedFiles(
        manifest_bytes=manifest_bytes,
        manifest_lists=tuple(
            s.manifest_list for s in removed if normalise(s.manifest_list) not in kept_lists
        ),
        statistics_bytes={
            path: byte_count
            for path, byte_count in _statistics(earlier).items()
            if normalise(path) not in kept_statistics
        },
        candidates=tuple(candidates.values()),
    )


def unreachable_data_files(
    before: TableView,
    files: RemovedFiles,
    reachable: Callable[[Collection[str]], set[str]],
) -> Iterator[dict[str, int]]:
    """Yield portions of data files that no retained snapshot reaches: location → bytes.

    Args:
        before: The load with the removed snapshots.
        files: Made from it; its manifests must still be there.
        reachable: Which of these locations the retained snapshots reach.

    """
    table = table_of(before)
    portion: dict[str, int] = {}
    with translated(f"read manifests of table {'.'.join(table.name())}"):
        for entry in read_live_entries(table.io, files.candidates):
            portion[entry.data_file.file_path] = entry.data_file.file_size_in_bytes
            if len(portion) >= CANDIDATES_MAX:
                yield _without(portion, reachable)
                portion = {}
    if portion:
        yield _without(portion, reachable)


def metadata_locations(view: TableView) -> set[str]:
    """Return, normalised, every metadata file that a load names, and those that these name.

    Raises:
        UnavailableError: A manifest list could not be read; believe nothing.

    """
    table = table_of(view)
    metadata = table.metadata
    found = {table.metadata_location, *(e.metadata_file for e in metadata.metadata_log)}
    found.update(snapshot.manifest_list for snapshot in metadata.snapshots)
    found.update(_statistics(table))
    with translated(f"read manifest lists of table {'.'.join(table.name())}"):
        for manifests in _lists(table, metadata.snapshots):
            found.update(manifest.manifest_path for manifest in manifests)
    return {normalise(location) for location in found}


def _without(
    portion: dict[str, int], reachable: Callable[[Collection[str]], set[str]]
) -> dict[str, int]:
    still = reachable(portion.keys())
    return {path: byte_count for path, byte_count in portion.items() if path not in still}


def _without_appended_child(view: TableView, snapshot_ids: Collection[int]) -> set[int]:
    """Return those snapshots that may reach data files that no child of theirs reaches."""
    covered = {s.parent_snapshot_id for s in view.snapshots.values() if is_append(s)}
    return set(snapshot_ids) - covered


def _lists(table: Table, snapshots: Collection[Snapshot]) -> Iterator[list[ManifestFile]]:
    """Yield the manifests of each snapshot, in order, several lists read at once."""
    waiting = list(snapshots)
    with ThreadPoolExecutor(READER_COUNT) as pool:
        # In steps, so that not all lists are in memory at once.
        for start in range(0, len(waiting), READER_COUNT):
            step = waiting[start : start + READER_COUNT]
            yield from pool.map(partial(_manifests_of, table), step)


def _manifests_of(table: Table, snapshot: Snapshot) -> list[ManifestFile]:
    return snapshot.manifests(table.io)


def _statistics(table: Table) -> dict[str, int]:
    metadata = table.metadata
    files = [*metadata.statistics, *metadata.partition_statistics]
    return {file.statistics_path: file.file_size_in_bytes for file in files}
