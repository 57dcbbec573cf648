"""The Python face of reading: a pipeline's tables, hot and committed rows together.

with k2i_core.query.open("orders.yaml") as orders:
orders.table("sales.orders").scan(["order_id"], where="amount > 10").read_all()
orders.sql("SELECT count(*) FROM sales.orders").read_all()
orders.table("sales.orders").lookup("customer-7")
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression

from k2i_core.clock import Clock, SystemClock
from k2i_core.config import Pipeline, load_pipeline
from k2i_core.duckdb_connection import Engines
from k2i_core.errors import ConfigError
from k2i_core.iceberg.catalog import open_catalog
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.query.committed import QueryLimits, QueryResult, query, result_schema
from k2i_core.query.union_read import KEY_COLUMN, UnionTable, UnionView


class PipelineTable:
    """A table of a pipeline; thread-safe."""

    def __init__(self, union: UnionTable, engines: Engines) -> None:
        """Bind the two ways to read: rows, and SQL."""
        self._union = union
        self._engines = engines

    def view(self) -> UnionView:
        """Return one moment of the table: frontier, uncovered partitions, hot and cold rows.

        Raises:
            ConfigError: The table does not exist yet.
            UnavailableError: Catalog or store did not answer.

        """
        return self._union.view()

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: str | BooleanExpression | None = None,
    ) -> pa.RecordBatchReader:
        """Stream rows, each exactly once.

        Args:
            columns: Top-level columns, in this order; None for all.
            where: Such as `amount > 10 and _kafka.partition = 3`; files and hot rows that cannot
                match are left out.

        Raises:
            ConfigError: The table does not exist yet, or columns or filter do not fit it.
            UnavailableError: Catalog or store did not answer.

        """
        return self._union.scan(columns, where)

    def lookup(self, key: str | bytes | int, column: str = KEY_COLUMN) -> pa.Table:
        """Return the newest row with this key, or no row.

        Where transforms make several rows of a record, those of the newest record with this key.

        Args:
            key: Text is taken as UTF-8 where the column holds bytes, as Kafka's keys do.
            column: Kafka's key, or any other column.

        Raises:
            ConfigError: There is no such column.

        """
        return self._union.lookup(key, column)

    def sql(self, text: str, limits: QueryLimits | None = None) -> QueryResult:
        """Run one SELECT over the rows as of now.

        Args:
            text: May name the table with or without its namespace.
            limits: How much it may take.

        Returns:
            The rows, streamed; close it, or read it to its end in a `with`.

        Raises:
            ConfigError: The SQL is wrong, is no single SELECT, or took too long.
            UnavailableError: Catalog or store did not answer.

        """
        view, hot = self._union.view_with_hot_table()
        return query(view.cold.table, text, limits, hot=hot, engines=self._engines)

    @property
    def identifier(self) -> str:
        """Namespace and name, joined by dots."""
        return self._union.identifier

    def sql_schema(self, text: str, limits: QueryLimits | None = None) -> pa.Schema:
        """Return the columns that `sql` would have, without running the query.

        Raises:
            As `sql`.

        """
        view, hot = self._union.view_with_hot_table()
        return result_schema(view.cold.table, text, limits, hot=hot, engines=self._engines)


class PipelineReader:
    """Reads a pipeline's table; close it or use it in a `with`."""

    def __init__(self, pipeline: Pipeline, clock: Clock) -> None:
        """Bind the settings; nothing is opened before the first read."""
        name, properties = pipeline.catalog.name, pipeline.catalog.properties.reveal()
        gateway = PyIcebergGateway(
            lambda: open_catalog(name, properties), pipeline.table.identifier
        )
        roots = pipeline.hot_directories if pipeline.hot.enabled else ()
        self._identifier = pipeline.table.identifier
        self._engines = Engines()
        self._table = PipelineTable(UnionTable(gateway, roots, clock), self._engines)

    def table(self, identifier: str | None = None) -> PipelineTable:
        """Return a table of the pipeline; its only one for None.

        Raises:
            ConfigError: The pipeline writes no such table.

        """
        if identifier not in (None, self._identifier):
            message = f"pipeline writes no table={identifier!r}, only {self._identifier!r}"
            raise ConfigError(message)
        return self._table

    def sql(self, text: str, limits: QueryLimits | None = None) -> QueryResult:
        """Run one SELECT over the pipeline's table; see `PipelineTable.sql`."""
        return self._table.sql(text, limits)

    def close(self) -> None:
        """Free the query engines; harmless to repeat."""
        self._engines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_pipeline(pipeline: Pipeline | Path | str, *, clock: Clock | None = None) -> PipelineReader:
    """Open a pipeline for reading; needs no running worker.

    Args:
        pipeline: Its file, or its settings.
        clock: For tests.

    Raises:
        ConfigError: The file cannot be read or has mistakes.

    """
    if not isinstance(pipeline, Pipeline):
        pipeline = load_pipeline(Path(pipeline), environ=os.environ)  # noqa: TID251 - a face reads it
    return PipelineReader(pipeline, clock or SystemClock())
