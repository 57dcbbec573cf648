"""One audit of a pipeline's tables with DuckDB: loads both, counts, and lets `audit` judge."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyiceberg.table import Table

from k2i_core.audit.row_audit import (
    AuditAnswer,
    AuditMark,
    AuditScope,
    PartitionCount,
    audit_scope,
    dead_letters_sql,
    judge_dead_letters,
    judge_rows,
    mark_of,
    rows_sql,
)
from k2i_core.config import Pipeline
from k2i_core.duckdb_connection import quote_name
from k2i_core.offsets import TopicPartition
from k2i_core.query.committed import QueryLimits, query
from k2i_core.records import KAFKA_COLUMN
from k2i_core.wiring.inspection import inspect_dead_letters, inspect_target, stored_ledger

AUDIT_LIMITS = QueryLimits(seconds_max=600.0)
"""More holds a core from the workers for longer; less gives up on a table after a long outage."""


@dataclass(frozen=True, slots=True)
class RowAudit:
    """What an audit found.

    Attributes:
        snapshot_id: Of the target, whose rows were counted.
        scope: What was looked at.
        answers: One for each question.
        mark: Where the next audit may begin, if all is well.
    """

    snapshot_id: int
    scope: AuditScope
    answers: tuple[AuditAnswer, ...]
    mark: AuditMark

    @property
    def offset_count(self) -> int:
        """Offsets that were audited."""
        return sum(window.offset_count for window in self.scope.windows)

    @property
    def holds(self) -> bool:
        """Tell whether no fault was found."""
        return not any(answer.faults for answer in self.answers)


def audit_rows(
    pipeline: Pipeline, since: AuditMark | None, limits: QueryLimits = AUDIT_LIMITS
) -> RowAudit:
    """Audit the offsets between a mark and the checkpoint.

    Args:
        pipeline: Whose tables.
        since: The mark of the last audit that held; None for everything.
        limits: Of each query.

    Raises:
        ConfigError: There is no table yet, or a query took longer than it may.
        CorruptionError: The ledger cannot be believed.
        UnavailableError: Catalog or store did not answer.

    """
    inspected = inspect_target(pipeline)
    entry = stored_ledger(inspected).entry
    scope = audit_scope(entry, since)
    required = tuple(
        field.name
        for field in inspected.table.schema().fields
        if field.required and field.name != KAFKA_COLUMN
    )
    counts = _counted(
        inspected.table, rows_sql(_quoted(inspected.table), scope, required), scope, limits
    )
    # Loaded after the target, so that it holds at least what the target's checkpoint needs.
    dead_letters = inspect_dead_letters(pipeline)
    dead_counts: tuple[PartitionCount, ...] = ()
    if dead_letters is not None:
        sql = dead_letters_sql(_quoted(dead_letters.table), pipeline.table.identifier, scope)
        dead_counts = _counted(dead_letters.table, sql, scope, limits)
    return RowAudit(
        inspected.view.head_snapshot_id or 0,
        scope,
        (*judge_rows(scope, counts, required), judge_dead_letters(scope, dead_counts)),
        mark_of(entry),
    )


def _counted(
    table: Table, sql: str, scope: AuditScope, limits: QueryLimits
) -> tuple[PartitionCount, ...]:
    if not scope.windows:
        return ()
    with query(table, sql, limits) as result:
        rows = result.read_all().to_pylist()
    return tuple(
        PartitionCount(
            TopicPartition(row["topic"], row["kafka_partition"]),
            row["row_count"],
            row["distinct_count"],
            row["strays"],
            row["nulls"],
        )
        for row in rows
    )


def _quoted(table: Table) -> str:
    *namespace, name = table.name()
    parts: Sequence[str] = (".".join(namespace), name)
    return ".".join(quote_name(part) for part in parts)
