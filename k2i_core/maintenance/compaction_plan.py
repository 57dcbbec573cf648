"""What compaction puts together: which files, in which groups, in which order. Pure.

A group is rewritten, proven and committed as one. Its files have the same Iceberg partition and
spec, and rows of the same *era*: a topic that was deleted and created again under its name is told
from the old one by the age of the rows, so rows from before and after never share a file.

The worst Iceberg partitions come first: those with the most small files. Files of an old partition
spec are always taken, whatever their size, because queries cannot skip them by the current one.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from k2i_core.iceberg.live_files import LiveFile
from k2i_core.maintenance.sizes import is_small
from k2i_core.write_target import IcebergPartition

GROUP_TARGETS_MAX = 4
"""Files of the target size that one group may become. Larger sorts over more rows, and loses more
work to a conflict; smaller leaves more remainders, each a small file."""

GROUP_FILES_MAX = 1_000
"""Larger makes every attempt to commit slower, which names each file that goes, until appends win
all races; smaller needs more runs where files are tiny."""

YOUNG_SECONDS = 60.0
"""Files younger than this belong to an Iceberg partition that is being written, and wait for their
siblings. Larger leaves new files alone for longer; smaller rewrites the newest rows twice."""


@dataclass(frozen=True, slots=True)
class PlanRules:
    """What the plan goes by.

    Attributes:
        spec_id: The table's current partition spec.
        since_sequence_numbers: Where an era begins: the sequence numbers in the ledger from which
            on a topic is another one of the same name.
        added_ms: Snapshot id → when, for retained snapshots; files of others are old.
        thread_count: Groups that are rewritten at once.
    """

    target_file_bytes: int
    min_input_files: int
    max_bytes: int
    spec_id: int
    now_ms: int
    added_ms: Mapping[int, int]
    since_sequence_numbers: Sequence[int] = ()
    is_everything: bool = False
    young_seconds: float = YOUNG_SECONDS
    thread_count: int = 1

    def group_bytes_max(self, byte_count: int) -> int:
        """Return how large a group may be when `byte_count` is rewritten in all.

        So that every thread has one, but never so small that a group makes no full file.
        """
        share = max(self.target_file_bytes, byte_count // self.thread_count)
        return min(share, self.target_file_bytes * GROUP_TARGETS_MAX, self.max_bytes)


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Files that are rewritten together."""

    spec_id: int
    iceberg_partition: IcebergPartition
    files: tuple[LiveFile, ...]

    @property
    def byte_count(self) -> int:
        """Bytes that are read."""
        return sum(file.byte_count for file in self.files)

    @property
    def row_count(self) -> int:
        """Rows that are read."""
        return sum(file.row_count for file in self.files)

    @property
    def paths(self) -> frozenset[str]:
        """The files' locations."""
        return frozenset(file.path for file in self.files)


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """What a run would do.

    Attributes:
        groups: The worst Iceberg partitions first.
        skipped: Why others wait, one line each.
        small_file_count: Of the whole table.
    """

    groups: tuple[FileGroup, ...]
    skipped: tuple[str, ...]
    small_file_count: int


@dataclass(frozen=True, slots=True)
class _IcebergPartition:
    spec_id: int
    values: IcebergPartition
    files: tuple[LiveFile, ...]

    def __str__(self) -> str:
        name = ", ".join(str(value) for value in self.values) or "the whole table"
        return f"iceberg_partition=({name})" if self.values else name


def plan_compaction(files: Iterable[LiveFile], rules: PlanRules) -> CompactionPlan:
    """Choose what to rewrite.

    Args:
        files: Every live file of the table.
        rules: See there.

    """
    candidates: defaultdict[tuple[int, str], list[LiveFile]] = defaultdict(list)
    small_file_count = 0
    foreign_count = 0
    for file in files:
        small_file_count += is_small(file.byte_count, rules.target_file_bytes)
        if not file.is_parquet:
            foreign_count += 1
        elif _is_candidate(file, rules):
            # By text, because NaN is not equal to itself.
            candidates[file.spec_id, repr(file.iceberg_partition)].append(file)
    skipped = [f"files of other formats than Parquet: {foreign_count}"] if foreign_count else []
    chosen: list[_IcebergPartition] = []
    for (spec_id, _), found in sorted(candidates.items()):
        partition = _IcebergPartition(spec_id, found[0].iceberg_partition, tuple(found))
        why = _why_not(partition, rules)
        if why is None:
            chosen.append(partition)
        else:
            skipped.append(f"{partition}: {why}")
    chosen.sort(key=lambda p: len(p.files), reverse=True)
    byte_count = sum(file.byte_count for p in chosen for file in p.files)
    byte_count_max = rules.group_bytes_max(byte_count)
    all_groups = (g for p in chosen for g in _groups(p, rules, byte_count_max))
    groups, left_count = _within_budget(all_groups, rules)
    if left_count:
        skipped.append(
            f"groups left for the next run: {left_count}, beyond max_bytes={rules.max_bytes}"
        )
    return CompactionPlan(groups, tuple(skipped), small_file_count)


def _is_candidate(file: LiveFile, rules: PlanRules) -> bool:
    return (
        rules.is_everything
        or file.spec_id != rules.spec_id
        or is_small(file.byte_count, rules.target_file_bytes)
    )


def _why_not(partition: _IcebergPartition, rules: PlanRules) -> str | None:
    if rules.is_everything or partition.spec_id != rules.spec_id:
        return None
    count = len(partition.files)
    if count < rules.min_input_files:
        return f"small files={count}, worth it from {rules.min_input_files}"
    settled_count = count - sum(_is_young(file, rules) for file in partition.files)
    if settled_count < rules.min_input_files:
        return (
            f"still being written: of small files={count} only {settled_count} are older than "
            f"{rules.young_seconds:g} s"
        )
    return None


def _is_young(file: LiveFile, rules: PlanRules) -> bool:
    if rules.is_everything:
        return False
    added_ms = rules.added_ms.get(file.snapshot_id)
    return added_ms is not None and rules.now_ms - added_ms < rules.young_seconds * 1000


def _groups(
    partition: _IcebergPartition, rules: PlanRules, byte_count_max: int
) -> Iterable[FileGroup]:
    """Cut an Iceberg partition's files into groups, in the order in which they were written."""
    is_always_worth_it = rules.is_everything or partition.spec_id != rules.spec_id
    begins = sorted(rules.since_sequence_numbers)
    eras: defaultdict[int, list[LiveFile]] = defaultdict(list)
    for file in partition.files:
        if is_always_worth_it or not _is_young(file, rules):
            eras[bisect_right(begins, file.sequence_number)].append(file)
    for _, files in sorted(eras.items()):
        ordered = sorted(files, key=lambda file: (file.sequence_number, file.path))
        for packed in _packed(ordered, byte_count_max):
            if len(packed) > 1 or is_always_worth_it:
                yield FileGroup(partition.spec_id, partition.values, packed)


def _packed(files: Sequence[LiveFile], byte_count_max: int) -> Iterable[tuple[LiveFile, ...]]:
    packed: list[LiveFile] = []
    byte_count = 0
    for file in files:
        is_full = byte_count + file.byte_count > byte_count_max or len(packed) >= GROUP_FILES_MAX
        if packed and is_full:
            yield tuple(packed)
            packed, byte_count = [], 0
        packed.append(file)
        byte_count += file.byte_count
    if packed:
        yield tuple(packed)


def _within_budget(
    groups: Iterable[FileGroup], rules: PlanRules
) -> tuple[tuple[FileGroup, ...], int]:
    taken: list[FileGroup] = []
    left_count = byte_count = 0
    for group in groups:
        if byte_count + group.byte_count > rules.max_bytes:
            left_count += 1
            continue
        taken.append(group)
        byte_count += group.byte_count
    return tuple(taken), left_count
