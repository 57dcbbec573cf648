"""Manifests rewritten so that files of one Iceberg partition are told by few of them.

A query by partition opens every manifest whose partition range overlaps what it asks for. Appends
merge manifests as they come, so that each soon spans all partitions; clustered, the entries are
sorted by partition and cut into full manifests, which appends leave alone (`manifests`).

What a rewrite makes is kept from one attempt to the next, like the work of a replacement: as long
as the manifests it was made of are still in the head, an append in between costs nothing.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, isnan
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.table import Table

from k2i_core.iceberg.manifests import (
    FULL_BYTES,
    FULL_FILE_COUNT,
    MERGE_COUNT,
    NewSnapshot,
    existing,
    live_file_count,
    read_entries,
)
from k2i_core.iceberg.replace import of_snapshot

ENTRIES_MAX = 50_000
"""Files whose entries are in memory at once, at about 4 kB each. Larger takes memory; smaller
clusters a large table in more runs."""

OVERLAP_MAX = 3.0
"""Full manifests that hold one place of the first partition field and more than it, on average, up
to which all is well. Larger opens more of them for each query; smaller rewrites more often."""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What one rewrite takes.

    Attributes:
        manifests: Taken; none when all is well.
        why: In one line, why these, or why none.
        overlap: Full manifests that hold one place of the first partition field and more than it,
            on average.
        left_count: Manifests that are for the next run.
    """

    manifests: tuple[ManifestFile, ...]
    why: str
    overlap: float
    left_count: int = 0


@dataclass(slots=True)
class ClusterMemory:
    """The manifests that the last attempt made, and what of; used by one thread."""

    _taken: frozenset[str] = frozenset()
    _made: tuple[ManifestFile, ...] = ()
    entry_count: int = field(default=0)

    def cluster(self, new: NewSnapshot) -> str:
        """Write the manifests of a snapshot that changes no file; returns the list's location.

        Raises:
            OSError: The store failed.

        """
        manifests = new.parent_manifests()
        present = {m.manifest_path for m in manifests}
        if not self._taken or not self._taken <= present:
            taken = plan_clusters(new.table, manifests).manifests
            self._taken = frozenset(m.manifest_path for m in taken)
            self._made = tuple(self._write(new, taken))
        kept = [m for m in manifests if m.manifest_path not in self._taken]
        return new.write_list([*(of_snapshot(m, new.snapshot_id) for m in self._made), *kept])

    def _write(self, new: NewSnapshot, taken: Sequence[ManifestFile]) -> Iterator[ManifestFile]:
        self.entry_count = 0
        by_spec: defaultdict[int, list[ManifestFile]] = defaultdict(list)
        for manifest in taken:
            by_spec[manifest.partition_spec_id].append(manifest)
        for spec_id, of_spec in sorted(by_spec.items()):
            entries = [e for group in read_entries(new.table.io, of_spec) for e in group]
            entries.sort(key=_place)
            self.entry_count += len(entries)
            byte_count = sum(m.manifest_length for m in of_spec)
            for cut in _cut(entries, byte_count):
                yield new.write_manifest(spec_id, [existing(entry) for entry in cut])


def plan_clusters(table: Table, manifests: Sequence[ManifestFile]) -> ClusterPlan:
    """Choose the manifests to rewrite, of those of a snapshot.

    Small ones are what appends add and merge themselves, so that a few of them are no fault. Full
    ones overlap when they hold whatever was appended in their time.
    """
    ours = [m for m in manifests if m.content == ManifestContent.DATA]
    small = [m for m in ours if _is_small(m)]
    ranges = _ranges(table, [m for m in ours if not _is_small(m)])
    wide = [r for r in ranges if r.is_wide]
    held = [sum(other.holds(r.low) for other in wide) for r in ranges]
    overlap = sum(held) / len(held) if held else 0.0
    figures = f"manifests={len(ours)}, small={len(small)}, overlap={overlap:.1f}"
    candidates = small if len(small) >= MERGE_COUNT else []
    if overlap > OVERLAP_MAX:
        full = [r.manifest for r, n in zip(ranges, held, strict=True) if r.is_wide and n > 1]
        candidates = [*full, *small]
    if not candidates:
        return ClusterPlan((), f"{figures}: good", overlap)
    taken: list[ManifestFile] = []
    entry_count = 0
    for manifest in candidates:
        entry_count += live_file_count(manifest) or 0
        if taken and entry_count > ENTRIES_MAX:
            break
        taken.append(manifest)
    return ClusterPlan(tuple(taken), figures, overlap, len(candidates) - len(taken))


def _is_small(manifest: ManifestFile) -> bool:
    file_count = live_file_count(manifest)
    is_full = file_count is not None and file_count >= FULL_FILE_COUNT
    return not is_full and manifest.manifest_length < FULL_BYTES


def _manifest_count(file_count: int, byte_count: int) -> int:
    """Return how many manifests hold so many files if each of them is full."""
    return max(1, file_count // FULL_FILE_COUNT, byte_count // FULL_BYTES)


def _cut(entries: list[ManifestEntry], byte_count: int) -> Iterator[list[ManifestEntry]]:
    if not entries:
        return
    size = ceil(len(entries) / _manifest_count(len(entries), byte_count))
    for start in range(0, len(entries), size):
        yield entries[start : start + size]


def _place(entry: ManifestEntry) -> tuple[tuple[tuple[bool, object], ...], int]:
    """Return what entries are sorted by: the partition, nulls first, then age."""
    partition = entry.data_file.partition
    values = (partition[n] for n in range(len(partition)))
    place = tuple((value is not None, _comparable(value)) for value in values)
    return place, entry.sequence_number or 0


def _comparable(value: object) -> object:
    if isinstance(value, float):
        # NaN is neither below nor above anything, which would leave a list half sorted.
        return (True, 0.0) if isnan(value) else (False, value)
    return 0 if value is None else value


@dataclass(frozen=True, slots=True)
class _Range:
    """Which values of the first partition field a manifest's files have."""

    manifest: ManifestFile
    low: Any
    high: Any

    @property
    def is_wide(self) -> bool:
        """Tell whether there are several."""
        return self.low != self.high

    def holds(self, value: object) -> bool:
        return self.low <= value <= self.high


def _ranges(table: Table, manifests: Sequence[ManifestFile]) -> list[_Range]:
    """Return the ranges of manifests of the current spec, if it has fields."""
    spec = table.spec()
    if not spec.fields:
        return []
    kind = spec.partition_type(table.schema()).fields[0].field_type
    ranges: list[_Range] = []
    for manifest in manifests:
        if manifest.partition_spec_id != spec.spec_id or not manifest.partitions:
            continue
        low, high = manifest.partitions[0].lower_bound, manifest.partitions[0].upper_bound
        if low is not None and high is not None:
            ranges.append(_Range(manifest, from_bytes(kind, low), from_bytes(kind, high)))
    return ranges
