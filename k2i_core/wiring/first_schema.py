"""Which columns the rows have: declared, the table's own, a schema's, or inferred from records."""

from collections.abc import Callable

import pyarrow as pa
import structlog
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2i_core.config import Pipeline
from k2i_core.iceberg.failures import translated
from k2i_core.ingest.ports import Source
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.record_columns import RecordColumns
from k2i_core.wiring.settings import declared_schema
from k2i_core.worker import StopAsked

FIRST_POLL_SECONDS = 0.5
"""How long one look for first records takes. Larger reacts to a stop request later."""

LOOKS_BETWEEN_LINES = 60
"""How many looks pass between two log lines on an empty topic."""

log = structlog.get_logger(__name__)


def find_row_schema(
    pipeline: Pipeline,
    catalog: Catalog,
    source: Source,
    formats: Formats,
    columns: RecordColumns,
    is_stop_asked: Callable[[], bool],
) -> pa.Schema:
    """Return the records' columns, waiting for a first record where nothing else tells.

    Raises:
        StopAsked: The topics stayed empty until a stop was asked for.

    """
    declared = declared_schema(pipeline)
    if declared is not None and columns.transforms is None:
        return declared
    if (table := _existing(catalog, pipeline.table.identifier)) is not None:
        return columns.of_table(table)
    if declared is not None:
        return declared
    if (known := formats.known_row_schema()) is not None:
        log.info("columns taken from the schema", columns=known.names)
        return known
    source.assign(source.start_offsets(source.partitions()))
    look_count = 0
    while not is_stop_asked():
        if look_count % LOOKS_BETWEEN_LINES == 0:
            log.info("waiting for first records to infer columns from", pipeline=pipeline.name)
        look_count += 1
        polled = source.poll(FIRST_POLL_SECONDS)
        if polled is None:
            continue
        schema = formats.row_schema_of(polled.records)
        if len(schema.names):
            record_count = polled.records.num_rows
            log.info("columns inferred", record_count=record_count, columns=schema.names)
            return schema
    raise StopAsked


def _existing(catalog: Catalog, identifier: str) -> Table | None:
    with translated(f"load table {identifier}"):
        if not catalog.table_exists(identifier):
            return None
        return catalog.load_table(identifier)
