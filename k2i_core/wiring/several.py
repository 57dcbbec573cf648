"""Several tables from one reading: the rules of the pipeline file, and tables that records make."""

import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import structlog
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchNamespaceError

from k2i_core.config import Pipeline, RoutedTable
from k2i_core.config.routing import PLACEHOLDER
from k2i_core.errors import ConflictError, ErrorKind
from k2i_core.iceberg.failures import translated
from k2i_core.ingest.routing import Rule, RuleRouter, SeenNames, Texts
from k2i_core.ingest.targets import Routing, Target
from k2i_core.ledger import CHECKPOINT_KEY
from k2i_core.records import PolledBatch
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.match_texts import texts_of, unknown_schemas
from k2i_core.wiring.record_columns import RecordColumns
from k2i_core.wiring.settings import catalog_opener, declared_schema
from k2i_core.wiring.targets import TargetMaker

if TYPE_CHECKING:
    from k2i_core.transform.sql_engine import SqlEngine

_log = structlog.get_logger(__name__)


def tables_of(pipeline: Pipeline, catalog: Catalog | None = None) -> tuple[Pipeline, ...]:
    """Return this pipeline once for each of its tables, alone, the lead first.

    Tables that records make are those that are there.

    Raises:
        UnavailableError: The catalog did not answer.

    """
    if not pipeline.tables:
        return (pipeline,)
    names = [t.identifier for t in pipeline.tables if not t.is_template]
    names += made_tables(pipeline, catalog or catalog_opener(pipeline)())
    alone = [pipeline.one_table(name) for name in dict.fromkeys(names)]
    return tuple(one for one in alone if one is not None)


def made_tables(pipeline: Pipeline, catalog: Catalog) -> list[str]:
    """Return the tables that records of this pipeline made, ascending.

    A table without a checkpoint is not one yet: whatever its name, nothing was read for it.
    """
    made: list[str] = []
    for identifier in named_tables(pipeline, catalog):
        with translated(f"load table {identifier}"):
            properties = catalog.load_table(identifier).properties
        if CHECKPOINT_KEY in properties:
            made.append(identifier)
    return made


def named_tables(pipeline: Pipeline, catalog: Catalog) -> list[str]:
    """Return the tables that are there with names that records could have made, ascending.

    Also those of which nothing was committed so far: they count, so that `max_tables` holds.
    """
    namespaces = {
        table.identifier.rpartition(".")[0] for table in pipeline.tables if table.is_template
    }
    fixed = {table.identifier for table in pipeline.tables}
    return sorted(
        identifier
        for namespace in namespaces
        for identifier in _listed(catalog, namespace)
        if identifier not in fixed and pipeline.one_table(identifier) is not None
    )


def _listed(catalog: Catalog, namespace: str) -> list[str]:
    with translated(f"list the tables of {namespace}"):
        try:
            return [".".join(found) for found in catalog.list_tables(namespace)]
        except NoSuchNamespaceError:
            return []


def open_several(maker: TargetMaker, formats: Formats) -> tuple[tuple[Target, ...], Routing]:
    """Open every table of a pipeline that has several, and the rules between them.

    Raises:
        ConfigError, UnavailableError, IncompatibleSchemaError: A table could not be opened.

    """
    pipeline = maker.pipeline
    open_one = partial(_open, maker, formats, _checked_engine(pipeline))
    known = tables_of(pipeline, maker.catalog)
    targets = tuple(open_one(one) for one in known)

    def open_seen(name: str, _polled: PolledBatch) -> Target | None:
        alone = pipeline.one_table(name)
        assert alone is not None
        check_room(pipeline, maker.catalog, name)
        _log.info("a record names a table for the first time", table=name)
        return open_one(alone)

    routing = Routing(
        router_of(pipeline, formats, named_tables(pipeline, maker.catalog)),
        pipeline.rules_name,
        partial(made_tables, pipeline, maker.catalog),
        open_seen,
    )
    return targets, routing


def router_of(pipeline: Pipeline, formats: Formats, known: Collection[str]) -> RuleRouter:
    """Return the rules of the pipeline file.

    Args:
        pipeline: With several tables.
        formats: Its formats.
        known: Tables that are there of those that records make.

    """
    assert pipeline.lead is not None
    rest = next((t.identifier for t in pipeline.tables if t.match is None), None)
    return RuleRouter(
        _rules(pipeline, formats, known),
        rest or pipeline.lead.identifier,
        refuses_rest=rest is None,
        undecided=unknown_schemas(pipeline, formats),
    )


def _rules(pipeline: Pipeline, formats: Formats, known: Collection[str]) -> Iterator[Rule]:
    read: dict[tuple[str | None, str | None, bool], Texts] = {}
    for table in pipeline.tables:
        if (match := table.match) is None:
            continue
        about = match.header, match.field, match.message is not None
        if about not in read:
            read[about] = texts_of(match, pipeline, formats)
        pattern = re.compile(match.topic or match.message or match.pattern or "")
        yield Rule(read[about], pattern, _name_of(pipeline, table, known))


def _name_of(
    pipeline: Pipeline, table: RoutedTable, known: Collection[str]
) -> Callable[[str], str | None]:
    if not table.is_template:
        return lambda _text: table.identifier
    fixed = {t.identifier for t in pipeline.tables if not t.is_template}

    def too_many(name: str) -> None:
        _log.warning(
            "a record would make one table too many and becomes a dead letter",
            table=name,
            max_tables=table.max_tables,
        )

    return SeenNames(
        lambda text: table.identifier.replace(PLACEHOLDER, text),
        [name for name in known if name not in fixed and table.value_of(name) is not None],
        taken={*fixed, pipeline.dead_letter_table},
        count_max=table.max_tables,
        refused=too_many,
    )


def check_room(pipeline: Pipeline, catalog: Catalog, identifier: str) -> None:
    """Refuse to make one table too many: other workers may have made some since the start.

    Raises:
        ConflictError: Start over, with the tables that are there now.
        UnavailableError: The catalog did not answer.

    """
    there = named_tables(pipeline, catalog)
    entries = [table for table in pipeline.tables if table.value_of(identifier) is not None]
    counts = [sum(table.value_of(name) is not None for name in there) for table in entries]
    if identifier not in there and all(
        count >= table.max_tables for count, table in zip(counts, entries, strict=True)
    ):
        message = (
            f"other workers made tables meanwhile, and table={identifier} would be one too many; "
            f"starting over"
        )
        raise ConflictError(message, kind=ErrorKind.CHECKPOINT_STALE)


def _checked_engine(pipeline: Pipeline) -> "SqlEngine | None":
    """Return what computes the transforms of all tables; None where no table has any.

    One for all, because an engine of each of two hundred tables would take the memory of the rows.

    Raises:
        ConfigError: Privacy names a column of no table, or a step cannot be done.

    """
    if pipeline.privacy is None and not any(table.transforms for table in pipeline.tables):
        return None
    # Only here, because DuckDB would cost every other worker a part of its start.
    from k2i_core.transform.sql_engine import SqlEngine  # noqa: PLC0415
    from k2i_core.wiring.transforms import check_paths  # noqa: PLC0415

    engine = SqlEngine()
    check_paths(pipeline, engine)
    return engine


def _open(
    maker: TargetMaker, formats: Formats, engine: "SqlEngine | None", alone: Pipeline
) -> Target:
    """Create or adopt one table. Undeclared columns are added as its records come."""
    own = formats.of_table(alone)
    columns = RecordColumns(alone, own, engine)
    record_schema = declared_schema(alone)
    if record_schema is None or columns.transforms is not None:
        existing = _existing(maker.catalog, alone.table.identifier, columns)
        record_schema = existing or record_schema or pa.schema([])  # an empty one says nothing
    return maker.make(alone, own, columns, record_schema)


def _existing(catalog: Catalog, identifier: str, columns: RecordColumns) -> pa.Schema | None:
    with translated(f"load table {identifier}"):
        if not catalog.table_exists(identifier):
            return None
        return columns.of_table(catalog.load_table(identifier))
