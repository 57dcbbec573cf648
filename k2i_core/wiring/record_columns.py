"""Which columns the records have, where transforms make the table's of them.

A table tells what it holds, not what it was made from. So the records' columns are kept beside it,
in a property, from the first row on: a worker that starts reads them there and guesses nothing.
They only grow, and are written before the columns that follow from them.
"""

from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2i_core.config import Pipeline
from k2i_core.decode.growth import grown
from k2i_core.errors import ConfigError, CorruptionError, ErrorKind
from k2i_core.iceberg.column_names import table_columns
from k2i_core.iceberg.properties import change_property
from k2i_core.iceberg.tables import check_items
from k2i_core.records import KAFKA_COLUMN
from k2i_core.schema.arrow_types import from_arrow, to_arrow_schema
from k2i_core.schema.iceberg_types import StructType
from k2i_core.schema.type_texts import parse_type, type_text
from k2i_core.wiring.settings import declared_schema

if TYPE_CHECKING:
    from k2i_core.transform.chain import Transforms
    from k2i_core.transform.sql_engine import SqlEngine
    from k2i_core.wiring.formats import Formats

COLUMNS_PROPERTY = "k2i.record-columns"
"""Property of a table: the columns of the records that its rows are made of, as one struct type."""


def without_kafka(schema: pa.Schema) -> pa.Schema:
    """Return the columns that are made of a record's value."""
    return pa.schema([field for field in schema if field.name != KAFKA_COLUMN])


class RecordColumns:
    """The way from the records' columns to the table's; the same ones without transforms."""

    def __init__(
        self,
        pipeline: Pipeline,
        formats: "Formats | None" = None,
        engine: "SqlEngine | None" = None,
    ) -> None:
        """Check the transforms as far as the file declares columns.

        Args:
            pipeline: Whose.
            formats: Tells the schemas whose tags are asked for, the latest ones at once; None
                where only the file is checked.
            engine: Computes the transforms, of other tables too; None for an own one.

        Raises:
            ConfigError: A transform cannot be done with them.
            UnavailableError: The registry did not answer.

        """
        self.transforms: Transforms | None = None
        if pipeline.transforms or pipeline.privacy is not None:
            # Only here, because DuckDB would cost every other worker a part of its start.
            from k2i_core.wiring.transforms import schema_tags, transforms_of  # noqa: PLC0415

            tags = schema_tags(pipeline)
            if tags is not None and formats is not None:
                formats.tell_tags(tags.learn)
            self.transforms = transforms_of(pipeline, tags, engine)
        self._declared = declared_schema(pipeline)
        self._explodes = pipeline.explodes
        if self.transforms is not None and self._declared is not None:
            self.transforms.check(self._declared)

    def of_table(self, table: Table) -> pa.Schema:
        """Return the columns of the records that a table's rows are made of.

        Raises:
            ConfigError: It holds several rows of a record and the pipeline makes one, or the other
                way round.
            CorruptionError: The property was changed by somebody else.

        """
        check_items(table, explodes=self._explodes)
        own = without_kafka(table_columns(table))
        if self.transforms is None:
            return own
        stored = table.properties.get(COLUMNS_PROPERTY)
        # A table from before its pipeline had transforms was made of its own columns.
        known = own if stored is None else _read(stored)
        return known if self._declared is None else grown(self._declared, known)

    def to_table(self, record_schema: pa.Schema) -> pa.Schema:
        """Return the table's columns for records of these.

        Raises:
            ConfigError: A transform cannot be done with them.

        """
        if self.transforms is None:
            return record_schema
        # Without what a writer's columns are known by, because steps make others of them.
        return _plain(self.transforms.derive(record_schema))

    def properties(self, record_schema: pa.Schema) -> dict[str, str]:
        """Return what a new table for records of these columns gets."""
        is_kept = self.transforms is not None and record_schema.names
        return {COLUMNS_PROPERTY: _write(record_schema)} if is_kept else {}

    def keep(self, catalog: Catalog, identifier: str, record_schema: pa.Schema) -> Table | None:
        """Note beside the table that records have these columns, and return it; None: no need.

        Raises:
            UnavailableError: The catalog did not answer.

        """
        if self.transforms is None or not record_schema.names:
            return None

        def with_others(stored: str | None) -> str:
            # What another worker noted meanwhile stays.
            return _write(record_schema if stored is None else grown(record_schema, _read(stored)))

        return change_property(catalog, identifier, COLUMNS_PROPERTY, with_others)


def _plain(schema: pa.Schema) -> pa.Schema:
    return to_arrow_schema(_columns(schema).fields) if schema.names else schema


def _write(schema: pa.Schema) -> str:
    return type_text(_columns(schema))


def _columns(schema: pa.Schema) -> StructType:
    struct = from_arrow(pa.struct(list(schema)))
    assert isinstance(struct, StructType)
    return struct


def _read(text: str) -> pa.Schema:
    try:
        parsed = parse_type(text)
    except ConfigError as error:
        message = f"property {COLUMNS_PROPERTY} cannot be read: {error}"
        raise CorruptionError(message, kind=ErrorKind.METADATA_UNREADABLE) from error
    assert isinstance(parsed, StructType)
    return to_arrow_schema(parsed.fields)
