"""SQL over one snapshot of a table, and over the hot rows that follow it.

The user's SQL is one SELECT over one snapshot: the table can be named `orders` or `sales.orders`,
nothing else can be reached, and both time and rows have a limit. Rows stream; a result is never
held whole.
"""

import re
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import duckdb
import pyarrow as pa
from pyiceberg.table import Table

from k2i_core.duckdb_connection import (
    CATALOG,
    Engines,
    allow_store,
    load_extensions,
    lock,
    quote,
    quote_name,
)
from k2i_core.errors import ConfigError, ErrorKind, K2iError, UnavailableError
from k2i_core.query.sql_rules import check_sql

HOT_ROWS = "k2i_hot_rows"
"""What the engine calls the rows that follow the snapshot; a query cannot name it."""

BATCH_ROW_COUNT = 16_384
"""Larger waits longer for the first rows; smaller pays more calls a row."""

INTERRUPT_SECONDS = 0.2
"""Larger lets a query overrun its limit by more; smaller wakes a thread for nothing."""


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """How much one query may take.

    Attributes:
        seconds_max: From the first look at the table to the last row taken.
        row_count_max: Rows handed out; None for all.
        memory_bytes_max: Memory of the query engine.
        thread_count: Cores that it may use.
    """

    seconds_max: float = 300.0
    row_count_max: int | None = None
    memory_bytes_max: int = 1 << 30
    thread_count: int = 2


class QueryResult:
    """Rows of one query, streamed; close it or use it in a `with`.

    Attributes:
        schema: The result's columns.
        is_cut: True once `row_count_max` left rows out; known after the last batch.
    """

    def __init__(
        self,
        session: "QuerySession",
        reader: pa.RecordBatchReader,
        row_count_max: int | None,
    ) -> None:
        self._session = session
        self._reader = reader
        self._row_count_max = row_count_max
        self.schema: pa.Schema = reader.schema
        self.is_cut = False

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, once; stops at the row limit.

        Raises:
            ConfigError: The SQL fails on these rows, or takes longer than it may.
            UnavailableError: The store stopped answering.

        """
        remaining = self._row_count_max
        while (batch := self._session.next_batch(self._reader)) is not None:
            if not batch.num_rows:
                continue
            if remaining is not None:
                if batch.num_rows > remaining:
                    self.is_cut = True
                    if remaining:
                        yield batch.slice(0, remaining)
                    return
                remaining -= batch.num_rows
            yield batch

    def read_all(self) -> pa.Table:
        """Return all rows at once."""
        return pa.Table.from_batches(list(self.batches()), self.schema)

    def close(self) -> None:
        """Free the engine; harmless to repeat."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def query(
    table: Table,
    sql: str,
    limits: QueryLimits | None = None,
    *,
    hot: pa.Table | None = None,
    snapshot_id: int | None = None,
    engines: Engines | None = None,
) -> QueryResult:
    """Run one SELECT over the table's current snapshot, or over an older one.

    Args:
        table: A freshly loaded table.
        sql: May name the table with or without its namespace.
        limits: How much it may take.
        hot: Rows that follow the snapshot; None for none.
        snapshot_id: A retained snapshot to read instead of the current one.
        engines: Where to take the engine from and to leave it; all of one table.

    Returns:
        The rows, streamed.

    Raises:
        ConfigError: The SQL is wrong, is no single SELECT, or took too long; the message says
            which columns exist where one was not found.
        UnavailableError: The store did not answer.

    """
    limits = limits or QueryLimits()
    session = QuerySession(engines or _one_off(), table, limits)
    try:
        statement = session.prepare(sql, hot, snapshot_id)
        reader = session.start(statement)
    except BaseException:
        session.close()
        raise
    return QueryResult(session, reader, limits.row_count_max)


def result_schema(
    table: Table,
    sql: str,
    limits: QueryLimits | None = None,
    *,
    hot: pa.Table | None = None,
    engines: Engines | None = None,
) -> pa.Schema:
    """Return the columns that a query would have, without running it; else as `query`."""
    with closing(QuerySession(engines or _one_off(), table, limits or QueryLimits())) as session:
        return session.schema_of(session.prepare(sql, hot, None))


def _one_off() -> Engines:
    engines = Engines()
    engines.close()
    return engines


class QuerySession:
    """One connection, locked once it shows rows, with a time limit, and what its errors mean."""

    def __init__(
        self,
        engines: Engines,
        table: Table,
        limits: QueryLimits,
    ) -> None:
        self._engines = engines
        self._limits = limits
        self._engine = engines.take(limits.memory_bytes_max, limits.thread_count)
        self._connection = self._engine.connection
        self._table = table
        self._seconds_max = limits.seconds_max
        self._is_broken = False
        self._expired = threading.Event()
        self._closed = threading.Event()
        self._interrupting = threading.Lock()

    def prepare(self, sql: str, hot: pa.Table | None, snapshot_id: int | None) -> duckdb.Statement:
        """Check the text, and make ready what it is about; the time counts from here on."""
        # Before anything is loaded, because most mistakes are in the SQL.
        statement = self.parse(sql)
        self.load()
        self.start_clock()
        self.show_rows(self._rows_sql(hot, snapshot_id))
        return statement

    def start_clock(self) -> None:
        """Count the time from now on."""
        threading.Thread(target=self._watch, name="k2i-query-limit", daemon=True).start()

    def load(self) -> None:
        """Load what reads Iceberg tables, unless an earlier query did."""
        if not self._engine.is_locked:
            load_extensions(self._connection)

    def show_rows(self, rows_sql: str, directories: Iterable[str] = ()) -> None:
        """Make the rows of a query visible as the table, then lock the connection.

        Args:
            rows_sql: What the table's two names stand for.
            directories: What may be read besides the table's own directories.

        """
        table = self._table
        *namespace, name = table.name()
        schema = ".".join(namespace)
        with self._errors():
            if not self._engine.is_locked:
                allow_store(self._connection, table.location(), table.io.properties)
                self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_name(schema)}")
            # A view that is there already shows the hot rows of now: it is bound when it is used.
            if rows_sql != self._engine.shown_sql:
                self._show(quote_name(schema), quote_name(name), rows_sql)
                self._engine.shown_sql = rows_sql
            if not self._engine.is_locked:
                lock(self._connection, [*self._directories(), *directories])
                self._engine.is_locked = True

    def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of an SQL text of our own."""
        with self._errors():
            return self._connection.execute(sql).fetchall()

    def fetch_unless_broken(self, sql: str) -> list[tuple[Any, ...]] | str:
        """Return all rows of an SQL text of our own, or why the files it names cannot be read."""
        with self._errors():
            try:
                return self._connection.execute(sql).fetchall()
            except (duckdb.IOException, duckdb.InterruptException):
                raise
            except duckdb.Error as error:
                return _one_line(str(error).partition("\n\nLINE")[0])

    def _show(self, schema: str, name: str, rows_sql: str) -> None:
        self._connection.execute(f"CREATE OR REPLACE VIEW {schema}.{name} AS {rows_sql}")
        if schema != quote_name("main"):
            self._connection.execute(f"CREATE OR REPLACE VIEW {name} AS FROM {schema}.{name}")

    def parse(self, sql: str) -> duckdb.Statement:
        """Check that the text is one SELECT, and reaches nothing but the table."""
        with self._errors():
            statements = self._connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            # EXPLAIN is refused with the rest, because EXPLAIN ANALYZE runs what it explains.
            message = (
                f"a query is one SELECT, this is statements={len(statements)} of "
                f"{' '.join(s.type.name for s in statements) or 'nothing'}"
            )
            raise ConfigError(message)
        with self._errors():
            serialized = self._connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
        assert serialized is not None
        check_sql(serialized[0], self._table.name(), CATALOG)
        return statements[0]

    def schema_of(self, statement: duckdb.Statement) -> pa.Schema:
        """Return the columns of a query that is not run."""
        with self._errors():
            return self._connection.sql(statement).limit(0).to_arrow_reader().schema

    def start(self, statement: duckdb.Statement) -> pa.RecordBatchReader:
        """Begin the query; its rows are computed as they are read."""
        with self._errors():
            return self._connection.execute(statement).to_arrow_reader(BATCH_ROW_COUNT)

    def next_batch(self, reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
        """Return the next rows, or None after the last."""
        with self._errors():
            try:
                return reader.read_next_batch()
            except StopIteration:
                return None

    def close(self) -> None:
        """Stop the clock and give the engine back; harmless to repeat."""
        with self._interrupting:
            if self._closed.is_set():
                return
            self._closed.set()
            # One that was interrupted may be still, and one without a table is no use.
            if self._is_broken or self._expired.is_set() or not self._engine.is_locked:
                self._connection.close()
                return
            # An idle engine must not keep the memory of rows that are committed meanwhile.
            self._connection.unregister(HOT_ROWS)
            limits = self._limits
            self._engines.give_back(self._engine, limits.memory_bytes_max, limits.thread_count)

    def _rows_sql(self, hot: pa.Table | None, snapshot_id: int | None) -> str:
        parts: list[str] = []
        if self._table.current_snapshot() is not None:
            location = quote(self._table.metadata_location)
            chosen = "" if snapshot_id is None else f", snapshot_from_id = {snapshot_id}::UBIGINT"
            parts.append(f"FROM iceberg_scan({location}{chosen})")
        if hot is not None or not parts:
            # An Iceberg reader has nothing to open before the first commit.
            rows = self._table.schema().as_arrow().empty_table() if hot is None else hot
            self._connection.register(HOT_ROWS, rows)
            parts.append(f"FROM {HOT_ROWS}")
        # By name, because a snapshot may be older than the table's columns.
        return " UNION ALL BY NAME ".join(parts)

    def _directories(self) -> Iterator[str]:
        yield self._table.location()
        yield self._table.metadata_location.rpartition("/")[0]
        for name in ("write.data.path", "write.metadata.path"):
            if path := self._table.properties.get(name):
                yield path

    def _watch(self) -> None:
        if self._closed.wait(self._seconds_max):
            return
        self._expired.set()
        # Again and again, because an interrupt between two steps of the engine stops neither.
        while True:
            with self._interrupting:
                if not self._closed.is_set():
                    self._connection.interrupt()
            if self._closed.wait(INTERRUPT_SECONDS):
                return

    @contextmanager
    def _errors(self) -> Generator[None, None, None]:
        """Turn the engine's exceptions, and Arrow's around them, into k2i's."""
        try:
            yield
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            # Any other failure leaves the connection as it was, and loading a new one is slow.
            self._is_broken |= isinstance(error, duckdb.FatalException | duckdb.InternalException)
            raise self._meaning(error) from error

    def _meaning(self, error: Exception) -> K2iError:
        if self._expired.is_set():
            message = (
                f"query took longer than seconds_max={self._seconds_max:g}; select fewer rows or "
                "allow more time"
            )
            return ConfigError(message)
        text = str(error).partition("\n\nLINE")[0].strip()
        if isinstance(error, duckdb.IOException | OSError) or "IO Error" in text:
            message = f"the table's files cannot be read; check the store: {_one_line(text)}"
            return UnavailableError(message, kind=ErrorKind.STORAGE_UNAVAILABLE)
        return ConfigError(self._advice(error, _one_line(text)))

    def _advice(self, error: Exception, text: str) -> str:
        """Say what is wrong with the SQL."""
        name = ".".join(self._table.name())
        if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in text:
            return "query needs more memory than it may take; select or sort fewer rows"
        if isinstance(error, duckdb.PermissionException):
            return "a query reaches this table and nothing else: no files, no hosts, no settings"
        if isinstance(error, duckdb.BinderException) and "not found" in text:
            columns = ", ".join(field.name for field in self._table.schema().fields)
            return f"{text}; columns of {name}: {columns}"
        if isinstance(error, duckdb.CatalogException):
            return f"{text}; this query sees {name}"
        return f"query failed: {text}"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)
