"""Several tables from one reading: the rules of the pipeline file, and tables that records make."""

import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import pyarrow as pa
import structlog
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchNamespaceError

from k2i_core.config import Match, Pipeline, RoutedTable
from k2i_core.config.routing import PLACEHOLDER
from k2i_core.decode.cursors import Cursors
from k2i_core.decode.json_peek import FieldPeek
from k2i_core.decode.schema_frames import read_frames
from k2i_core.decode.schema_headers import VALUE_HEADER, begin_with_schema
from k2i_core.iceberg.failures import translated
from k2i_core.ingest.routing import Rule, RuleRouter, SeenNames, Texts, header_texts, topic_texts
from k2i_core.ingest.targets import Routing, Target
from k2i_core.ledger import CHECKPOINT_KEY
from k2i_core.records import PolledBatch
from k2i_core.schema.registered import SchemaId
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.record_columns import RecordColumns
from k2i_core.wiring.settings import catalog_opener, declared_schema
from k2i_core.wiring.targets import TargetMaker

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
    namespaces = {
        table.identifier.rpartition(".")[0] for table in pipeline.tables if table.is_template
    }
    fixed = {table.identifier for table in pipeline.tables}
    for namespace in sorted(namespaces):
        for identifier in _listed(catalog, namespace):
            if identifier not in fixed and pipeline.one_table(identifier) is not None:
                with translated(f"load table {identifier}"):
                    properties = catalog.load_table(identifier).properties
                if CHECKPOINT_KEY in properties:
                    made.append(identifier)
    return sorted(made)


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
    known = tables_of(pipeline, maker.catalog)
    targets = tuple(_open(maker, formats, one) for one in known)

    def open_seen(name: str, _polled: PolledBatch) -> Target | None:
        alone = pipeline.one_table(name)
        assert alone is not None
        _log.info("a record names a table for the first time", table=name)
        return _open(maker, formats, alone)

    names = [one.table.identifier for one in known]
    routing = Routing(
        router_of(pipeline, formats, names),
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
        known: Tables that are there.

    """
    assert pipeline.lead is not None
    rest = next((t.identifier for t in pipeline.tables if t.match is None), None)
    return RuleRouter(
        _rules(pipeline, formats, known),
        rest or pipeline.lead.identifier,
        refuses_rest=rest is None,
    )


def _rules(pipeline: Pipeline, formats: Formats, known: Collection[str]) -> Iterator[Rule]:
    for table in pipeline.tables:
        if table.match is None:
            continue
        texts, pattern = _texts(table.match, formats)
        yield Rule(texts, pattern, _name_of(pipeline, table, known))


def _texts(match: Match, formats: Formats) -> tuple[Texts, re.Pattern[str]]:
    if match.topic is not None:
        return topic_texts, re.compile(match.topic)
    pattern = re.compile(match.pattern or "")
    if match.header is not None:
        return header_texts(match.header), pattern
    if match.field is not None:
        return _field_texts(match.field), pattern
    assert match.message is not None
    return _message_texts(formats), re.compile(match.message)


def _message_texts(formats: Formats) -> Texts:
    names: dict[SchemaId, str | None] = {}

    def name_of(schema_id: SchemaId | None) -> str | None:
        if schema_id is not None and schema_id not in names:
            names[schema_id] = formats.message_name(schema_id)
        return None if schema_id is None else names[schema_id]

    def texts(records: pa.RecordBatch) -> pa.StringArray:
        values = records.column("value").fill_null(b"")
        assert isinstance(values, pa.BinaryArray)
        headers = cast("pa.ListArray[Any]", records.column("headers"))
        values = begin_with_schema(values, headers, VALUE_HEADER, has_indices=False)
        frames = read_frames(Cursors.of(values), {})
        numbers, places = np.unique(frames.numbers, return_inverse=True)
        found = [name_of(frames.schema_id(number)) for number in numbers.tolist()]
        return pa.array(found, pa.string()).take(pa.array(places, pa.int64()))

    return texts


def _field_texts(path: str) -> Texts:
    peek = FieldPeek(path)

    def texts(records: pa.RecordBatch) -> pa.StringArray:
        values = records.column("value")
        assert isinstance(values, pa.BinaryArray)
        return peek(values)

    return texts


def _name_of(
    pipeline: Pipeline, table: RoutedTable, known: Collection[str]
) -> Callable[[str], str | None]:
    if not table.is_template:
        return lambda _text: table.identifier
    fixed = {t.identifier for t in pipeline.tables if not t.is_template}

    def too_many(name: str) -> None:
        _log.warning(
            "a record would make one table too many and matches nothing",
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


def _open(maker: TargetMaker, formats: Formats, alone: Pipeline) -> Target:
    """Create or adopt one table. Undeclared columns are added as its records come."""
    columns = RecordColumns(alone)
    record_schema = declared_schema(alone)
    if record_schema is None:
        record_schema = _existing(maker.catalog, alone.table.identifier, columns)
    return maker.make(alone, formats.of_table(alone), columns, record_schema)


def _existing(catalog: Catalog, identifier: str, columns: RecordColumns) -> pa.Schema:
    with translated(f"load table {identifier}"):
        if not catalog.table_exists(identifier):
            return pa.schema([])
        return columns.of_table(catalog.load_table(identifier))
