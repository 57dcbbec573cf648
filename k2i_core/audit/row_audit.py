"""Rows against ledger by SQL: the quick audit that runs every few minutes. Pure.

`verify` is the proof, offset by offset; this one counts. It looks at a window of offsets per Kafka
partition, from the last audit's checkpoint to the current one, so that it stays quick on a table
that grows. A row and a dead letter of the same record, a lost row and a doubled one all change a
count, or the number of distinct offsets; two faults that cancel each other out in all counts are
left to `verify`.

Where a record may be several rows, rows are told apart by offset and number, and those beyond the
first one of their record are counted by themselves.

Topics that were deleted and created again are left out: SQL cannot tell their old rows from new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from k2i_core.ledger import Entry, Totals
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import ITEM_COLUMN

MARK_VERSION = 1


@dataclass(frozen=True, slots=True)
class AuditMark:
    """How far an audit came: the checkpoint and the totals of its load of the ledger."""

    next_offsets: Mapping[TopicPartition, int]
    totals: Mapping[TopicPartition, Totals]

    def to_json(self) -> dict[str, Any]:
        """Return what `read_mark` reads."""
        partitions: dict[str, list[list[int]]] = {}
        for tp, next_offset in sorted(self.next_offsets.items()):
            t = self.totals.get(tp, Totals())
            counts = [t.row_count, t.dead_letter_count, t.filtered_count, t.tombstone_count]
            later = [t.lost_count, t.replayed_count, t.extra_row_count]
            row = [tp.kafka_partition, next_offset, *counts, *later]
            partitions.setdefault(tp.topic, []).append(row)
        return {"version": MARK_VERSION, "topics": partitions}


def mark_of(entry: Entry) -> AuditMark:
    """Return how far an audit of this ledger comes."""
    return AuditMark(dict(entry.checkpoint.next_offsets), dict(entry.totals))


def read_mark(document: object) -> AuditMark | None:
    """Read a mark back; None for anything else, and then everything is audited again."""
    try:
        known = cast("Mapping[str, Any]", document)
        if known["version"] != MARK_VERSION:
            return None
        rows = [
            (TopicPartition(str(topic), int(row[0])), [int(number) for number in row[1:]])
            for topic, rows in known["topics"].items()
            for row in rows
        ]
        return AuditMark(
            {tp: numbers[0] for tp, numbers in rows},
            {tp: Totals(*numbers[1:]) for tp, numbers in rows},
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None


@dataclass(frozen=True, slots=True)
class AuditWindow:
    """The offsets of one Kafka partition that are audited.

    Attributes:
        start_offset: The checkpoint of the last audit, or the table's first offset.
        claimed: What the ledger says became of the window's records.
        is_whole: Whether it begins with the table's first offset, so that rows below are strays.
    """

    topic_partition: TopicPartition
    start_offset: int
    next_offset: int
    claimed: Totals
    is_whole: bool

    @property
    def offset_count(self) -> int:
        """Offsets in the window."""
        return self.next_offset - self.start_offset

    def __str__(self) -> str:
        if not self.offset_count:
            return f"{self.topic_partition}[{self.start_offset},{self.next_offset})"
        return str(OffsetRange(self.topic_partition, self.start_offset, self.next_offset))


@dataclass(frozen=True, slots=True)
class AuditScope:
    """What one audit looks at.

    Attributes:
        windows: One for each Kafka partition, empty ones included: rows above them are strays.
        skipped_topics: Created again, so SQL cannot audit them.
    """

    windows: tuple[AuditWindow, ...]
    skipped_topics: tuple[str, ...]


def audit_scope(entry: Entry, since: AuditMark | None) -> AuditScope:
    """Return the windows between the last audit and the ledger as it is now.

    Args:
        entry: From the load that is audited.
        since: The last audit's mark; None audits everything. One that does not fit the ledger
            (the table was rewound since, or dead letters became rows below the mark) is not
            believed, for the Kafka partition concerned.

    """
    windows: list[AuditWindow] = []
    for tp, next_offset in sorted(entry.checkpoint.next_offsets.items()):
        if tp.topic in entry.since_sequence_numbers:
            continue
        first = entry.first_offsets.get(tp, next_offset)
        start, before, now = first, Totals(), entry.totals.get(tp, Totals())
        if since is not None and first <= since.next_offsets.get(tp, -1) <= next_offset:
            marked = since.totals.get(tp, Totals())
            if marked.replayed_count == now.replayed_count:
                start, before = since.next_offsets[tp], marked
        claimed = now.minus(before)
        windows.append(AuditWindow(tp, start, next_offset, claimed, is_whole=start == first))
    return AuditScope(tuple(windows), tuple(sorted(entry.since_sequence_numbers)))


@dataclass(frozen=True, slots=True)
class PartitionCount:
    """What SQL counted for one Kafka partition.

    Attributes:
        row_count: Rows in the window.
        distinct_count: The different ones of them.
        stray_count: Rows above the window, below a whole one, or of a Kafka partition that the
            ledger does not know.
        repeated_count: Rows below a window that begins at the last audit, in files that were
            appended since: their offsets were audited already.
        extra_row_count: Rows in the window beyond the first one of their record.
        null_count: Nulls in required columns, in the window.
    """

    topic_partition: TopicPartition
    row_count: int
    distinct_count: int
    stray_count: int = 0
    null_count: int = 0
    repeated_count: int = 0
    extra_row_count: int = 0

    def plus(self, other: "PartitionCount") -> "PartitionCount":
        """Return the counts of two disjoint sets of offsets together."""
        return PartitionCount(
            self.topic_partition,
            self.row_count + other.row_count,
            self.distinct_count + other.distinct_count,
            self.stray_count + other.stray_count,
            self.null_count + other.null_count,
            self.repeated_count + other.repeated_count,
            self.extra_row_count + other.extra_row_count,
        )


@dataclass(frozen=True, slots=True)
class AuditAnswer:
    """One question of an audit, answered.

    Attributes:
        question: The name of the check.
        faults: One line each; none when all is well.
        figures: What was counted.
        note: What else is worth knowing, for people; empty when nothing is.
        is_error: Whether a fault is an error, or only a warning.
    """

    question: str
    faults: tuple[str, ...]
    figures: Mapping[str, int | float] = field(default_factory=dict[str, "int | float"])
    note: str = ""
    is_error: bool = True

    @property
    def is_failed_error(self) -> bool:
        """Tell whether the audit must not go on from here."""
        return self.is_error and bool(self.faults)


def judge_rows(
    scope: AuditScope, counts: Sequence[PartitionCount], required_columns: Sequence[str]
) -> tuple[AuditAnswer, ...]:
    """Compare what SQL counted in the target with what the ledger claims."""
    counted = {count.topic_partition: count for count in counts}
    missing: list[str] = []
    doubled: list[str] = []
    for window in scope.windows:
        tp, claimed = window.topic_partition, window.claimed
        found = counted.get(tp, PartitionCount(tp, 0, 0))
        counts_and_claims = (
            ("rows", found.row_count, claimed.table_row_count),
            ("extra rows", found.extra_row_count, claimed.extra_row_count),
        )
        missing += [
            f"{window}: {what}={count}, the ledger says {claim}"
            for what, count, claim in counts_and_claims
            if count != claim
        ]
        if claimed.accounted_count > window.offset_count:
            missing.append(f"{window}: the ledger counts more records than there are offsets")
        if found.distinct_count != found.row_count:
            doubled.append(f"{window}: doubled rows={found.row_count - found.distinct_count}")
        if found.repeated_count:
            doubled.append(f"{window}: appended again, from below={found.repeated_count}")
    strays = [
        f"{count.topic_partition}: rows outside the ledger={count.stray_count}"
        for count in counts
        if count.stray_count
    ]
    nulls = sum(count.null_count for count in counts)
    named = ", ".join(required_columns)
    row_count = sum(count.row_count for count in counts)
    return (
        AuditAnswer("row_counts", tuple(missing), {"rows": row_count}),
        AuditAnswer("no_duplicates", tuple(doubled), {"rows": row_count}),
        AuditAnswer("no_strays", tuple(strays), {"strays": sum(c.stray_count for c in counts)}),
        AuditAnswer(
            "required_columns",
            (f"nulls={nulls} in the required columns {named}",) if nulls else (),
            {"required_columns": len(required_columns), "nulls": nulls},
        ),
    )


def judge_dead_letters(scope: AuditScope, counts: Sequence[PartitionCount]) -> AuditAnswer:
    """Compare what SQL counted in the dead-letter table with what the ledger claims."""
    counted = {count.topic_partition: count for count in counts}
    faults: list[str] = []
    for window in scope.windows:
        found = counted.get(window.topic_partition, PartitionCount(window.topic_partition, 0, 0))
        # Those that are rows by now are still stored.
        claimed = window.claimed.dead_letter_count + window.claimed.replayed_count
        if found.row_count != claimed:
            faults.append(f"{window}: dead letters={found.row_count}, the ledger says {claimed}")
        elif found.distinct_count != found.row_count:
            faults.append(f"{window}: doubled={found.row_count - found.distinct_count}")
    total = sum(count.row_count for count in counts)
    return AuditAnswer("dead_letters", tuple(faults), {"dead_letters": total})


APPENDED = "k2i_appended"
"""Column of the rows that `rows_sql` counts: whether their file was appended, not rewritten."""

SLICE_ROW_COUNT = 20_000_000
"""Rows whose offsets are told apart at once. Larger needs more than a gigabyte of memory; smaller
reads the files more often."""


def slice_count(row_count: int) -> int:
    """Return into how many slices of offsets a count of distinct ones is taken apart."""
    return max(1, -(-row_count // SLICE_ROW_COUNT))


def rows_sql(
    table: str,
    scope: AuditScope,
    required_columns: Sequence[str],
    *,
    offsets_slice: tuple[int, int] = (0, 1),
    holds_items: bool = False,
) -> str:
    """Return the SQL that counts the target's rows, one result row a Kafka partition.

    Rows without `_kafka` are another writer's and no concern of the ledger.

    Args:
        table: What to select from; has the table's columns and `APPENDED`.
        scope: The windows.
        required_columns: Their nulls are counted.
        offsets_slice: Which slice of how many: only offsets of that remainder are counted.
        holds_items: Whether a record may be several rows.

    """
    nulls = " OR ".join(f"{_name(column)} IS NULL" for column in required_columns) or "FALSE"
    number, count = offsets_slice
    # Lets the reader skip what earlier audits counted and a rewrite put into a new file.
    condition = f'_kafka IS NOT NULL AND ({APPENDED} OR _kafka."offset" >= {_lowest(scope)})'
    if count > 1:
        condition += f' AND _kafka."offset" % {count} = {number}'
    return _counting_sql(
        table,
        scope,
        f"count(*) FILTER ((r.o >= w.n OR (w.whole AND r.o < w.s) OR w.t IS NULL)"
        f"{_not_skipped(scope)}) AS strays, "
        f"count(*) FILTER ({_IN_WINDOW} AND r.broken) AS nulls, "
        f"count(*) FILTER (r.appended AND NOT w.whole AND r.o < w.s) AS repeated",
        f"({nulls}) AS broken, {APPENDED} AS appended",
        condition,
        f"coalesce({ITEM_COLUMN}.number, 0)" if holds_items else None,
    )


def dead_letters_sql(table: str, target_table: str, scope: AuditScope) -> str:
    """Return the SQL that counts the target's dead letters, one result row a Kafka partition."""
    return _counting_sql(
        table,
        scope,
        "0 AS strays, 0 AS nulls, 0 AS repeated",
        "FALSE AS broken",
        f'target_table = {_text(target_table)} AND _kafka."offset" >= {_lowest(scope)}',
    )


def new_rows_condition(scope: AuditScope) -> str:
    """Return the SQL condition on rows in rewritten files that they came since the last audit."""
    return (
        " OR ".join(
            f'(_kafka."topic" = {_text(w.topic_partition.topic)} AND _kafka."partition" = '
            f'{w.topic_partition.kafka_partition} AND _kafka."offset" >= {w.start_offset})'
            for w in scope.windows
            if w.offset_count
        )
        or "FALSE"
    )


_IN_WINDOW = "r.o >= w.s AND r.o < w.n"


def _lowest(scope: AuditScope) -> int:
    return min(0 if window.is_whole else window.start_offset for window in scope.windows)


def _not_skipped(scope: AuditScope) -> str:
    if not scope.skipped_topics:
        return ""
    return f" AND r.t NOT IN ({', '.join(_text(topic) for topic in scope.skipped_topics)})"


def _counting_sql(
    table: str,
    scope: AuditScope,
    more_counts: str,
    more_columns: str,
    condition: str,
    number: str | None = None,
) -> str:
    different = "r.o" if number is None else "(r.o, r.i)"
    values = ", ".join(
        f"({_text(w.topic_partition.topic)}, {w.topic_partition.kafka_partition}, "
        f"{w.start_offset}, {w.next_offset}, {w.is_whole})"
        for w in scope.windows
    )
    return f"""
        WITH w(t, p, s, n, whole) AS (VALUES {values}),
        r AS (
            SELECT _kafka."topic" AS t, _kafka."partition" AS p, _kafka."offset" AS o,
                   {number or 0} AS i, {more_columns}
            FROM {table} WHERE {condition}
        )
        SELECT r.t AS topic, r.p AS kafka_partition,
               count(*) FILTER ({_IN_WINDOW}) AS row_count,
               count(DISTINCT {different}) FILTER ({_IN_WINDOW}) AS distinct_count,
               {more_counts},
               count(*) FILTER ({_IN_WINDOW} AND r.i > 0) AS extra_rows
        FROM r LEFT JOIN w ON r.t = w.t AND r.p = w.p
        GROUP BY ALL
        """  # noqa: S608 - names and texts are quoted above, and the connection is locked


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'
