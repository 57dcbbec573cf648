"""Does everything that a pipeline file names answer? Each part has its own verdict."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath

from pyiceberg.catalog import Catalog
from pyiceberg.io import load_file_io

from k2i_core.clock import RandomIds, SystemClock
from k2i_core.config import Pipeline
from k2i_core.errors import ConfigError, K2iError, UnavailableError
from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.tables import check_layout
from k2i_core.kafka.source import KafkaSource
from k2i_core.query.data_files import check_select
from k2i_core.transform.sql_engine import SqlEngine
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.inspection import open_source
from k2i_core.wiring.record_columns import RecordColumns
from k2i_core.wiring.settings import (
    catalog_opener,
    declared_schema,
    kafka_settings,
    table_settings,
)
from k2i_core.wiring.transforms import check_paths

BROKER_SECONDS_MAX = 10.0
"""How long the broker may take for each answer. Larger makes a person wait for what is down."""

PROBE_BYTES = b"k2i probe\n"


@dataclass(frozen=True, slots=True)
class Connection:
    """One thing that was asked: what it said, or why it did not answer."""

    name: str
    detail: str
    error: K2iError | None = None


def check_connections(pipeline: Pipeline) -> list[Connection]:
    """Ask broker, topics, catalog and warehouse; a failure of one does not hide the next."""
    clock = SystemClock()
    source = open_source(pipeline, clock, call_timeout_seconds=BROKER_SECONDS_MAX)
    try:
        results = [
            _asked("broker", lambda: f"cluster {source.cluster_id()}"),
            _asked("topics", lambda: _describe_topics(source)),
        ]
    finally:
        source.close()
    if pipeline.dead_letters.topic is not None:
        results.append(_asked("dead-letter topic", lambda: _describe_letter_topic(pipeline, clock)))
    if pipeline.format.schema_registry is not None:
        formats = Formats(pipeline, clock)
        results.append(_asked("registry", lambda: formats.describe_registry() or ""))
    open_catalog = catalog_opener(pipeline)
    results.append(_asked("catalog", lambda: _describe_tables(pipeline, open_catalog())))
    results.append(_asked("warehouse", lambda: _probe_warehouse(pipeline, open_catalog())))
    return results


def user_checks(pipeline: Pipeline) -> list[Connection]:
    """Ask the query engine about the SQL of the file: transforms, and checks."""
    if not pipeline.tables:
        return _own_sql(pipeline, "")
    named = zip(pipeline.tables, pipeline.entries, strict=True)
    asked = [one for table, alone in named for one in _own_sql(alone, f"{table.identifier}: ")]
    if pipeline.privacy is None:
        return asked
    return [_asked("privacy", lambda: _describe_privacy(pipeline)), *asked]


def _own_sql(pipeline: Pipeline, prefix: str) -> list[Connection]:
    """Ask about what is said of one table."""
    checks = [
        _asked(f"{prefix}check {check.name}", partial(_parse, check.name, check.sql))
        for check in pipeline.checks
    ]
    if not pipeline.transforms and pipeline.privacy is None:
        return checks
    return [_asked(f"{prefix}transforms", lambda: _describe_transforms(pipeline)), *checks]


def _describe_privacy(pipeline: Pipeline) -> str:
    check_paths(pipeline, SqlEngine())
    return "each path leads to a column of a table"


def _describe_transforms(pipeline: Pipeline) -> str:
    columns, declared = RecordColumns(pipeline), declared_schema(pipeline)
    if declared is None:
        return "checked once the columns of the records are known"
    check_layout(columns.to_table(declared), table_settings(pipeline))
    return f"the table has {', '.join(columns.to_table(declared).names)}"


def _parse(name: str, sql: str) -> str:
    check_select(name, sql)
    return "one SELECT"


def _asked(name: str, ask: Callable[[], str]) -> Connection:
    try:
        return Connection(name, ask())
    except K2iError as error:
        return Connection(name, "", error)


def _describe_topics(source: KafkaSource) -> str:
    partitions = source.partitions()
    topics = sorted({tp.topic for tp in partitions})
    if not topics:
        message = "no topic matches kafka.topic_pattern yet"
        raise ConfigError(message)
    return f"{', '.join(topics)}: {len(partitions)} Kafka partitions"


def _describe_letter_topic(pipeline: Pipeline, clock: SystemClock) -> str:
    assert pipeline.dead_letters.topic is not None
    settings = replace(
        kafka_settings(pipeline),
        topics=(pipeline.dead_letters.topic,),
        topic_pattern=None,
        call_timeout_seconds=BROKER_SECONDS_MAX,
    )
    source = KafkaSource(settings, clock)
    try:
        return _describe_topics(source)
    finally:
        source.close()


def _describe_tables(pipeline: Pipeline, catalog: Catalog) -> str:
    identifier = pipeline.table.identifier
    with translated(f"look for table {identifier}"):
        exists = catalog.table_exists(identifier)
    return f"table {identifier} {'exists' if exists else 'will be created'}"


def _probe_warehouse(pipeline: Pipeline, catalog: Catalog) -> str:
    """Write, read and delete a small file where the table's files go."""
    location = _location(pipeline, catalog)
    path = f"{location.rstrip('/')}/k2i-probe-{RandomIds().token()}"
    with translated(f"write, read and delete a probe in {location}"):
        store = load_file_io(dict(catalog.properties), location)
        with store.new_output(path).create() as stream:
            stream.write(PROBE_BYTES)
        with store.new_input(path).open() as stream:
            content = stream.read()
        store.delete(path)
    if content != PROBE_BYTES:
        message = f"the store gave back other bytes than were written in {location}"
        raise UnavailableError(message)
    return f"{location} can be written, read and deleted from"


def _location(pipeline: Pipeline, catalog: Catalog) -> str:
    identifier = pipeline.table.identifier
    with translated(f"look for table {identifier}"):
        if catalog.table_exists(identifier):
            return catalog.load_table(identifier).location() + "/data"
    warehouse = catalog.properties.get("warehouse", "")
    if "/" not in warehouse:
        message = (
            "the catalog chooses the location when the table is created, so the store cannot be "
            "probed before; run the check again after the first ingest"
        )
        raise ConfigError(message)
    namespace, _, name = identifier.rpartition(".")
    return f"{warehouse.rstrip('/')}/{PurePosixPath(namespace) / name}/data"
