"""One audit of a pipeline's committed table: reads what is new once, and lets `audit` judge.

One load of the table, one delta, one pass over the new rows; every check is answered from these.
Files that are missing or broken are named by their checks and left out of the rest, which then says
what it could not see.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from pyiceberg.table import Table

from k2i_core.audit.audit_state import AuditState
from k2i_core.audit.catalogue import FILES, FOOTERS, specs_of
from k2i_core.audit.content_checks import (
    NullCount,
    count_nulls,
    judge_nulls,
    judge_rewrites,
    judge_small_files,
    judge_statistics,
    judge_user_check,
    not_evaluated,
)
from k2i_core.audit.delta_read import read_delta
from k2i_core.audit.row_audit import (
    AuditAnswer,
    AuditScope,
    PartitionCount,
    audit_scope,
    dead_letters_sql,
    judge_dead_letters,
    judge_rows,
    mark_of,
)
from k2i_core.audit.table_checks import (
    judge_chain,
    judge_claims,
    judge_files,
    judge_footers,
    judge_manifest_counts,
    judge_schema,
    judge_totals,
)
from k2i_core.audit.table_delta import CONTINUING, Chain, TableDelta
from k2i_core.config import Check, Pipeline
from k2i_core.duckdb_connection import quote_name
from k2i_core.errors import ConfigError
from k2i_core.ledger import Entry
from k2i_core.maintenance.sizes import is_small
from k2i_core.offsets import TopicPartition
from k2i_core.query.committed import QueryLimits, query
from k2i_core.query.data_files import check_select
from k2i_core.query.kept_metadata import kept_metadata
from k2i_core.records import KAFKA_COLUMN
from k2i_core.wiring.inspection import inspect_dead_letters, inspect_target, stored_ledger
from k2i_core.wiring.table_facts import TableFacts
from k2i_core.wiring.whole_table import WholeTable

AUDIT_LIMITS = QueryLimits(seconds_max=600.0)
"""More holds a core from the workers for longer; less gives up on a table after a long outage."""

WHOLE_LIMITS = QueryLimits(seconds_max=4 * 3_600.0)
"""Of an audit of everything. More hides one that hangs; less gives up on large tables."""

Report = Callable[[str], None]


def _silent(stage: str) -> None:
    del stage


@dataclass(frozen=True, slots=True)
class TableAudit:
    """What an audit found.

    Attributes:
        table: Namespace and name.
        snapshot_id: The head that was audited.
        chain: How the history goes on from the last audit.
        scope: Which offsets were looked at.
        file_count: How many files were looked at.
        answers: One for each check, in the order of the catalogue, then the file's own.
        state: Where the next audit may begin, if all is well.
    """

    table: str
    snapshot_id: int
    chain: Chain
    scope: AuditScope
    file_count: int
    answers: tuple[AuditAnswer, ...]
    state: AuditState

    @property
    def offset_count(self) -> int:
        """Offsets that were audited."""
        return sum(window.offset_count for window in self.scope.windows)

    @property
    def is_incremental(self) -> bool:
        """Tell whether only what came since the last audit was looked at."""
        return self.chain in CONTINUING

    @property
    def holds(self) -> bool:
        """Tell whether no error was found, whatever warnings there are."""
        return not any(answer.is_failed_error for answer in self.answers)


def audit_table(
    pipeline: Pipeline,
    state: AuditState | None,
    *,
    is_full: bool = False,
    limits: QueryLimits | None = None,
    report: Report = _silent,
) -> TableAudit:
    """Audit what came into a table since the last audit, or all of it.

    Args:
        pipeline: Whose tables.
        state: Of the last audit that held; None for everything.
        is_full: Whether all of the table is audited, and what only a full audit asks, too.
        limits: Of each step that reads rows; None for what suits the amount.
        report: Told what is being looked at.

    Raises:
        ConfigError: There is no table yet, or a query took longer than it may.
        CorruptionError: The ledger cannot be believed.
        UnavailableError: Catalog or store did not answer.

    """
    report("manifests")
    inspected = inspect_target(pipeline)
    entry = stored_ledger(inspected).entry
    since = None if is_full else state
    delta, scope = _looked_at(inspected.table, entry, since)
    limits = limits or (WHOLE_LIMITS if delta.is_whole else AUDIT_LIMITS)
    with (
        kept_metadata(inspected.table) as table,
        closing(TableFacts(table, delta, scope, limits)) as facts,
    ):
        audit = _Audit(pipeline, table, delta, scope, facts, limits)
        report("files")
        answers = audit.judge_metadata(since)
        report("rows")
        # Before the files are judged, because reading them may show that one is broken.
        answers += [*audit.judge_rows(), *audit.judge_files()]
        answers += audit.judge_users_checks()
        if is_full:
            report("whole table")
            answers += audit.judge_whole_table()
        fresh = count_nulls(delta.appended, facts.columns.leaves)
    known: Mapping[int, NullCount] = since.nulls if since and not delta.is_whole else {}
    nulls = {i: known.get(i, NullCount()).faded(count) for i, count in fresh.items()}
    return TableAudit(
        ".".join(inspected.table.name()),
        delta.head.snapshot_id,
        delta.history.chain,
        scope,
        len(delta.live),
        _in_order(pipeline, answers, is_full=is_full),
        AuditState(mark_of(entry), delta.mark(), {**known, **nulls}),
    )


def _looked_at(
    table: Table, entry: Entry, since: AuditState | None
) -> tuple[TableDelta, AuditScope]:
    delta = read_delta(table, since.table if since else None)
    if since is None or delta.is_whole:
        return delta, audit_scope(entry, None)
    scope = audit_scope(entry, since.ledger)
    for window in scope.windows:
        known = since.ledger.next_offsets.get(window.topic_partition)
        # Counted from its start although it was counted before: its rows lie in old files.
        if window.is_whole and known not in (None, window.start_offset):
            return read_delta(table, None), audit_scope(entry, None)
    return delta, scope


@dataclass(frozen=True, slots=True)
class _Audit:
    """One audit: facts on the one side, answers on the other."""

    pipeline: Pipeline
    table: Table
    delta: TableDelta
    scope: AuditScope
    facts: TableFacts
    limits: QueryLimits

    def judge_metadata(self, since: AuditState | None) -> list[AuditAnswer]:
        """Answer what metadata and manifests tell."""
        delta, columns = self.delta, self.facts.columns
        fresh = count_nulls(delta.appended, columns.leaves)
        before: Mapping[int, NullCount] = since.nulls if since and not delta.is_whole else {}
        return [
            judge_chain(delta, since.table if since else None),
            judge_totals(delta),
            judge_manifest_counts(delta.changes),
            judge_claims(delta),
            judge_nulls(fresh, before, columns.leaves),
            judge_statistics(delta.live, columns.leaves, columns.is_above),
        ]

    def judge_files(self) -> list[AuditAnswer]:
        """Answer what the files themselves tell."""
        facts, rewrites = self.facts, self.delta.rewrites
        return [
            judge_files(self.delta.live, facts.sizes),
            judge_footers(facts.present, facts.footers),
            judge_schema(
                facts.judged_columns(),
                facts.columns.known,
                is_without_ids_allowed=facts.has_name_mapping,
            ),
            judge_rewrites(
                rewrites,
                facts.fingerprints() if rewrites else {},
                has_delete_files=self.delta.has_delete_files,
            ),
        ]

    def judge_rows(self) -> list[AuditAnswer]:
        """Answer what the new rows tell."""
        required = tuple(
            field.name
            for field in self.table.schema().fields
            if field.required and field.name != KAFKA_COLUMN
        )
        counts = self.facts.partition_counts(required)
        return [
            *judge_rows(self.scope, counts, required),
            judge_dead_letters(self.scope, self._dead_letters()),
        ]

    def judge_users_checks(self) -> list[AuditAnswer]:
        """Answer what the user asks of the new rows."""
        return [self._ask(check) for check in self.pipeline.checks if check.over == "new_rows"]

    def judge_whole_table(self) -> list[AuditAnswer]:
        """Answer what only a full audit asks."""
        whole = WholeTable(self.pipeline, self.table, self.delta, self.limits)
        target_bytes = self.pipeline.maintenance.compaction.target_file_bytes
        return [
            judge_small_files(self.delta.live, partial(is_small, target_file_bytes=target_bytes)),
            *(whole.answers() if self.facts.is_intact else whole.not_evaluated()),
        ]

    def _ask(self, check: Check) -> AuditAnswer:
        is_error = check.severity == "error"
        if not self.facts.is_intact:
            reason = f"files cannot be read, see checks {FILES} and {FOOTERS}"
            return not_evaluated(check.name, reason, is_error=is_error)
        through_iceberg = self.facts.is_read_through_iceberg
        try:
            check_select(check.name, check.sql)
            # A connection for each, because a check that takes too long ends its own only.
            with self.facts.open_files(through_iceberg=through_iceberg) as files:
                files.show_rows(self.facts.new_rows_sql())
                count = files.count_returned(check.sql)
        except ConfigError as error:
            return not_evaluated(check.name, str(error), is_error=is_error)
        return judge_user_check(check.name, count, is_error=is_error)

    def _dead_letters(self) -> tuple[PartitionCount, ...]:
        # Loaded after the target, so that it holds at least what the target's checkpoint needs.
        dead_letters = inspect_dead_letters(self.pipeline)
        if dead_letters is None or not self.scope.windows:
            return ()
        *namespace, name = dead_letters.table.name()
        quoted = f"{quote_name('.'.join(namespace))}.{quote_name(name)}"
        sql = dead_letters_sql(quoted, self.pipeline.table.identifier, self.scope)
        with query(dead_letters.table, sql, self.limits) as result:
            rows = result.read_all().to_pylist()
        return tuple(
            PartitionCount(
                TopicPartition(row["topic"], row["kafka_partition"]),
                row["row_count"],
                row["distinct_count"],
            )
            for row in rows
        )


def _in_order(
    pipeline: Pipeline, answers: Sequence[AuditAnswer], *, is_full: bool
) -> tuple[AuditAnswer, ...]:
    by_name = {answer.question: answer for answer in answers}
    specs = specs_of(pipeline, is_full=is_full)
    assert by_name.keys() == {spec.name for spec in specs}, "every check is answered"
    assert all(spec.is_error == by_name[spec.name].is_error for spec in specs)
    return tuple(by_name[spec.name] for spec in specs)
