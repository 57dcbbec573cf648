"""What declared columns and the writers' newest schemas would do to the table; nothing is done."""

from dataclasses import dataclass, replace
from enum import StrEnum

import pyarrow as pa

from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_core.decode.growth import grown, needed_changes
from k2i_core.iceberg.column_names import table_columns
from k2i_core.iceberg.tables import load_if_exists
from k2i_core.schema.changes import (
    AddColumn,
    Change,
    Rename,
    SchemaDiff,
    SchemaPath,
    apply,
    diff,
    path_text,
)
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.schema.registered import SchemaId
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.latest_schemas import LatestSchema
from k2i_core.wiring.record_columns import RecordColumns, without_kafka
from k2i_core.wiring.settings import catalog_opener, declared_schema

DECLARED = "columns of the file"


class PlanVerdict(StrEnum):
    """What would become of a change."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    BREAKING = "breaking"


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """One thing in which the table and what is to come differ."""

    column: str
    says: str
    verdict: PlanVerdict


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """What one source of columns would do.

    Attributes:
        source: The file's own columns, a subject or a schema file.
        problem: Why its columns are not known; then there are no changes.
    """

    source: str
    schema_id: SchemaId | None
    changes: tuple[PlannedChange, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class TablePlan:
    """What would be done to a table, by each source of columns on its own."""

    exists: bool
    sources: tuple[SourcePlan, ...]

    @property
    def is_allowed(self) -> bool:
        """Tell whether all of it would be done."""
        changes = [change for source in self.sources for change in source.changes]
        return all(change.verdict is PlanVerdict.ALLOWED for change in changes)


def plan_table(pipeline: Pipeline, clock: Clock) -> TablePlan:
    """Compare the table with what is declared and what the writers' newest schemas say.

    Raises:
        UnavailableError: Catalog or registry did not answer.
        ConfigError: Settings or a schema that cannot be used.

    """
    formats = Formats(pipeline, clock)
    records = RecordColumns(pipeline, formats)
    table = load_if_exists(catalog_opener(pipeline)(), pipeline.table.identifier)
    columns = None if table is None else without_kafka(table_columns(table))
    is_empty = table is None or not table.metadata.snapshots
    evolution = pipeline.table.schema_evolution
    sources: list[SourcePlan] = []
    declared = declared_schema(pipeline)
    if declared is not None:
        wanted = records.to_table(declared)
        changes = _declared_changes(columns, wanted, evolution, is_empty=is_empty)
        sources.append(SourcePlan(DECLARED, None, changes))
    newest = (*formats.latest_schemas(), *formats.latest_key_schemas())
    # Before any record is read, a table that is not there is created as declared.
    if records.transforms is None:
        base = declared if columns is None else columns
        sources += [_source_plan(formats, base, each, evolution) for each in newest]
        return TablePlan(table is not None, tuple(sources))
    base = declared if table is None else records.of_table(table)
    for latest in newest:
        if base is None and latest.of_keys:
            continue  # The transforms' columns do not follow from keys alone.
        plan = _source_plan(formats, base, latest, evolution)
        if latest.columns is not None:
            # The table's columns follow from the records', which stand in no table themselves.
            wanted = latest.columns if base is None else grown(base, latest.columns)
            changes = _declared_changes(
                columns, records.to_table(wanted), evolution, is_empty=is_empty
            )
            breaking = [c for c in plan.changes if c.verdict is PlanVerdict.BREAKING]
            plan = replace(plan, changes=(*changes, *breaking))
        sources.append(plan)
    return TablePlan(table is not None, tuple(sources))


def _declared_changes(
    columns: pa.Schema | None, declared: pa.Schema, evolution: SchemaEvolution, *, is_empty: bool
) -> tuple[PlannedChange, ...]:
    if columns is None:
        return _created(declared)
    may_rename = evolution is SchemaEvolution.FULL
    needed = diff(columns, declared, table_is_empty=is_empty, by_identity=may_rename)
    changes = [_planned(change, evolution) for change in needed.changes]
    breaking = [
        PlannedChange(path_text(each.path), str(each), PlanVerdict.BREAKING)
        for each in needed.incompatibilities
    ]
    return (*changes, *breaking)


def _source_plan(
    formats: Formats,
    table_schema: pa.Schema | None,
    latest: LatestSchema,
    evolution: SchemaEvolution,
) -> SourcePlan:
    if latest.columns is None:
        return SourcePlan(latest.source, latest.schema_id, problem=latest.problem)
    if table_schema is None:
        return SourcePlan(latest.source, latest.schema_id, _created(latest.columns))
    # A schema of keys says nothing of the other columns, nor one of values of the keys'.
    key_column, of_keys = formats.key_column, latest.of_keys
    columns = pa.schema([f for f in table_schema if (f.name == key_column) is of_keys])
    may_rename = formats.may_rename
    wanted = SchemaDiff(needed_changes(columns, latest.columns, may_rename=may_rename))
    is_full = evolution is SchemaEvolution.FULL
    former = {} if is_full else _former_paths(columns, latest.columns)
    changes = [_planned(change, evolution, former.get(change.path)) for change in wanted.changes]
    allowed = SchemaDiff(tuple(c for c in wanted.changes if SchemaDiff((c,)).is_allowed(evolution)))
    breaking = [
        PlannedChange(each.path, str(each), PlanVerdict.BREAKING)
        for each in formats.contradictions(apply(columns, allowed), latest.columns, of_keys=of_keys)
    ]
    return SourcePlan(latest.source, latest.schema_id, (*changes, *breaking))


def _planned(
    change: Change, evolution: SchemaEvolution, former: SchemaPath | None = None
) -> PlannedChange:
    """Return one change; `former` is a column that it might rename instead."""
    column, refusal = path_text(change.path), "; ".join(SchemaDiff((change,)).refusals(evolution))
    if refusal:
        return PlannedChange(column, refusal, PlanVerdict.REFUSED)
    hint = f", where schema_evolution=full would rename {path_text(former)}" if former else ""
    return PlannedChange(column, f"{change}{hint}", PlanVerdict.ALLOWED)


def _former_paths(columns: pa.Schema, wanted: pa.Schema) -> dict[SchemaPath, SchemaPath]:
    """Return which column each one that is added would be of, if columns were renamed."""
    changes = needed_changes(columns, wanted, may_rename=True)
    renames = [change for change in changes if isinstance(change, Rename)]
    return {(*rename.path[:-1], rename.name): rename.path for rename in renames}


def _created(columns: pa.Schema) -> tuple[PlannedChange, ...]:
    return tuple(
        PlannedChange(
            field.name,
            str(AddColumn((field.name,), field.type, required=not field.nullable)),
            PlanVerdict.ALLOWED,
        )
        for field in columns
    )
