"""Judgements about what is in a table's files: rewritten rows, nulls, bounds, sizes, keys. Pure.

Facts in, an answer for each check out, as in `table_checks`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from k2i_core.audit import catalogue
from k2i_core.audit.row_audit import AuditAnswer
from k2i_core.audit.table_delta import FileEntry, Numbers, SnapshotChange

NULL_JUMP = 0.5
"""How much larger than before the share of nulls may become. Larger misses a producer that dropped
a field for half of its records; smaller warns of what is only another mix of records."""

JUDGED_VALUES_MIN = 20
"""Fewer values say nothing about a share."""

SMALL_FILES_MIN = 100
"""Fewer small files cost no reader anything, whatever their share."""

SMALL_FILES_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Rows of one Kafka partition, whatever their order: two of the same rows are equal.

    Attributes:
        hash_sum: Of the rows' hashes over all columns.
        hash_xor: Likewise; what cancels out in one does not in the other.
    """

    row_count: int = 0
    offset_sum: int = 0
    hash_sum: int = 0
    hash_xor: int = 0

    def plus(self, other: "Fingerprint") -> "Fingerprint":
        """Return the fingerprint of both groups of rows together."""
        return Fingerprint(
            self.row_count + other.row_count,
            self.offset_sum + other.offset_sum,
            self.hash_sum + other.hash_sum,
            self.hash_xor ^ other.hash_xor,
        )


FilePrints = Mapping[str, Mapping[str, Fingerprint]]
"""Path → Kafka partition, as text → its rows in that file."""


def judge_rewrites(
    rewrites: Sequence[SnapshotChange], prints: FilePrints, *, has_delete_files: bool
) -> AuditAnswer:
    """Judge whether commits that replaced files put the same rows back.

    Args:
        rewrites: The commits that removed files.
        prints: Of the files that can be read still.
        has_delete_files: Whether rows of data files may be hidden, so that fewer may come back.

    """
    faults: list[str] = []
    unproven_count = 0
    for change in rewrites:
        entries = (*change.added, *change.removed)
        if has_delete_files or any(entry.path not in prints for entry in entries):
            unproven_count += 1
            continue
        removed, added = _together(change.removed, prints), _together(change.added, prints)
        for where in sorted({*removed, *added}):
            old, new = removed.get(where, Fingerprint()), added.get(where, Fingerprint())
            if old != new:
                what = (
                    f"removed rows={old.row_count}, put back {new.row_count}"
                    if old.row_count != new.row_count
                    else "put back other rows, as many as it removed"
                )
                faults.append(f"snapshot_id={change.snapshot.snapshot_id}: {where}: {what}")
    note = (
        f"replaced files of {unproven_count} commits are gone already, or hidden by delete files"
        if unproven_count
        else ""
    )
    figures = {"rewrites": len(rewrites), "unproven": unproven_count}
    return AuditAnswer(catalogue.REWRITES, tuple(faults), figures, note)


def _together(entries: Iterable[FileEntry], prints: FilePrints) -> dict[str, Fingerprint]:
    together: dict[str, Fingerprint] = {}
    for entry in entries:
        for where, fingerprint in prints[entry.path].items():
            together[where] = together.get(where, Fingerprint()).plus(fingerprint)
    return together


@dataclass(frozen=True, slots=True)
class NullCount:
    """How many values of a column there were, and how many of them were null."""

    nulls: int = 0
    values: int = 0

    @property
    def share(self) -> float:
        """Nulls among the values."""
        return self.nulls / self.values if self.values else 0.0

    def faded(self, more: "NullCount") -> "NullCount":
        """Return what the next audit compares with: half of what was, and the new values."""
        return NullCount(self.nulls // 2 + more.nulls, self.values // 2 + more.values)


def count_nulls(entries: Iterable[FileEntry], field_ids: Iterable[int]) -> dict[int, NullCount]:
    """Add up the manifests' counts of values and nulls, by field id."""
    nulls = dict.fromkeys(field_ids, 0)
    values = dict.fromkeys(nulls, 0)
    for entry in entries:
        value_counts: Numbers = entry.value_counts or {}
        null_counts: Numbers = entry.null_counts or {}
        for field_id in nulls:
            if field_id in value_counts and field_id in null_counts:
                values[field_id] += value_counts[field_id]
                nulls[field_id] += null_counts[field_id]
    return {i: NullCount(nulls[i], count) for i, count in values.items() if count}


def judge_nulls(
    new: Mapping[int, NullCount], before: Mapping[int, NullCount], names: Mapping[int, str]
) -> AuditAnswer:
    """Judge whether a column is null much more often than before.

    Args:
        new: Of the new rows.
        before: Of earlier audits; empty at the first one, which has nothing to compare with.
        names: Field id → column.

    """
    faults: list[str] = []
    for field_id, count in new.items() if before else ():
        known = before.get(field_id)
        if count.values < JUDGED_VALUES_MIN:
            continue
        now = f"{names[field_id]}: {count.share:.0%} of {count.values:,} new values are null"
        if known is None:
            if count.share == 1:
                faults.append(f"{now}, and the column is new")
        elif known.values >= JUDGED_VALUES_MIN and count.share > known.share:
            expected = count.values * (1 - known.share)
            is_emptied = count.share == 1 and expected >= JUDGED_VALUES_MIN
            if is_emptied or count.share - known.share >= NULL_JUMP:
                faults.append(f"{now}, {known.share:.0%} were before")
    figures = {
        "columns": len(new),
        "null_share_max": max((c.share for c in new.values()), default=0),
    }
    return AuditAnswer(catalogue.NULL_RATES, tuple(faults), figures, is_error=False)


def judge_statistics(
    entries: Sequence[FileEntry],
    names: Mapping[int, str],
    is_above: Callable[[int, bytes, bytes], bool],
) -> AuditAnswer:
    """Judge whether statistics in manifests are possible.

    Args:
        entries: The new files.
        names: Field id → column, of the columns that are judged.
        is_above: Whether a field's lower bound is above its upper bound, both in binary form.

    """
    faults: dict[str, str] = {}
    for entry in entries:
        values: Numbers = entry.value_counts or {}
        lower: Mapping[int, bytes] = entry.lower_bounds or {}
        upper: Mapping[int, bytes] = entry.upper_bounds or {}
        for field_id, nulls in (entry.null_counts or {}).items():
            if nulls > values.get(field_id, nulls) and field_id in names:
                faults.setdefault(f"{names[field_id]}: more nulls than values", entry.path)
        for field_id, bound in lower.items():
            if (
                field_id in names
                and field_id in upper
                and is_above(field_id, bound, upper[field_id])
            ):
                faults.setdefault(f"{names[field_id]}: lower bound above upper bound", entry.path)
    listed = tuple(f"{fault}, first in {path}" for fault, path in faults.items())
    return AuditAnswer(catalogue.STATISTICS, listed, {"files": len(entries)}, is_error=False)


def judge_small_files(entries: Sequence[FileEntry], is_small: Callable[[int], bool]) -> AuditAnswer:
    """Judge whether compaction keeps up.

    Args:
        entries: All live files.
        is_small: Whether compaction sees a small file in one of that many bytes.

    """
    small_count = sum(is_small(entry.byte_count) for entry in entries)
    share = small_count / len(entries) if entries else 0.0
    faults: tuple[str, ...] = ()
    if small_count > SMALL_FILES_MIN and share > SMALL_FILES_SHARE:
        faults = (f"small files={small_count:,} of {len(entries):,}",)
    figures = {"files": len(entries), "small_files": small_count, "small_file_share": share}
    return AuditAnswer(catalogue.SMALL_FILES, faults, figures, is_error=False)


def judge_second_reader(
    duckdb: Mapping[str, tuple[int, int]], pyiceberg: Mapping[str, tuple[int, int]] | None
) -> AuditAnswer:
    """Judge whether two readers see the same rows.

    Args:
        duckdb: Kafka partition, as text → rows and sum of offsets.
        pyiceberg: Likewise; None when it cannot read the table.

    """
    if pyiceberg is None:
        note = "not compared: another engine's delete files hide rows, which one reader ignores"
        return AuditAnswer(catalogue.SECOND_READER, (), {}, note)
    faults = tuple(
        f"{where}: DuckDB sees rows={a[0]} sum of offsets={a[1]}, PyIceberg {b[0]} and {b[1]}"
        for where in sorted({*duckdb, *pyiceberg})
        if (a := duckdb.get(where, (0, 0))) != (b := pyiceberg.get(where, (0, 0)))
    )
    figures = {"rows": sum(rows for rows, _ in duckdb.values())}
    return AuditAnswer(catalogue.SECOND_READER, faults, figures)


def judge_unique_key(columns: Sequence[str], key_count: int, row_count: int) -> AuditAnswer:
    """Judge whether the business key is unique.

    Args:
        columns: Of the key.
        key_count: Keys that several rows share.
        row_count: Rows that share one.

    """
    faults: tuple[str, ...] = ()
    if key_count:
        named = ", ".join(columns)
        faults = (f"keys={key_count:,} of ({named}) are shared by rows={row_count:,}",)
    figures = {"shared_keys": key_count, "rows": row_count}
    return AuditAnswer(catalogue.UNIQUE_KEY, faults, figures)


def judge_user_check(name: str, row_count: int, *, is_error: bool) -> AuditAnswer:
    """Judge a user's own check by the rows that its SELECT returned."""
    faults = (f"rows returned={row_count:,}",) if row_count else ()
    return AuditAnswer(name, faults, {"rows_returned": row_count}, is_error=is_error)


def not_evaluated(name: str, reason: str, *, is_error: bool = True) -> AuditAnswer:
    """Return the answer of a check that could not look at what it judges.

    Args:
        name: Of the check.
        reason: Why; texts in single quotes are left out, which is how DuckDB repeats values.
        is_error: Whether the check is one that fails, or warns.

    """
    told = re.sub(r"'[^']*'?", "'…'", reason)
    return AuditAnswer(name, (f"could not be evaluated: {told}",), {}, is_error=is_error)
