"""DuckDB over one batch of records: locked, single-threaded, and told nothing but the columns."""

import json
import threading
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import duckdb
import pyarrow as pa

from k2i_core.duckdb_connection import lock, open_connection, quote_name
from k2i_core.errors import ConfigError
from k2i_core.transform.sql_rules import DIVISOR_SQL, check_tree, row_wise_functions

MEMORY_BYTES_MAX = 1 << 30
"""Of one batch. Larger lets an expression such as repeat take the worker's memory; smaller fails
records that a machine could hold."""

ENGINES_MAX = 8
"""Connections kept between batches; the decode lane has fewer threads."""

RECORDS = "records"

_CATALOGUE_SQL = (
    "SELECT function_name, function_type, coalesce(stability = 'CONSISTENT', false) "
    "FROM duckdb_functions()"
)


@dataclass(frozen=True, slots=True)
class Expression:
    """One row-wise expression.

    Attributes:
        sql: Canonical, with guarded divisors.
        columns: What it reads, in the order of the records' columns.
    """

    sql: str
    columns: tuple[str, ...]


class SqlEngine:
    """Connections for any number of threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._idle: list[duckdb.DuckDBPyConnection] = []
        self._lock = threading.Lock()
        self._functions: frozenset[str] | None = None

    def compile(self, sql: str, columns: Collection[str]) -> Expression:
        """Check one expression.

        Args:
            sql: As a user wrote it.
            columns: Of the record.

        Raises:
            ConfigError: It is not one, or not row-wise; the message says what is allowed.

        """
        with self._connection() as connection:
            # The line end, so that a comment at the end of the expression ends, too.
            serialized = _text(connection, "json_serialize_sql(?)", f"SELECT ({sql}\n)")
            try:
                tree, used = check_tree(json.loads(serialized), columns, self._known(connection))
                checked = _text(connection, "json_deserialize_sql(?::JSON)", json.dumps(tree))
            except (RecursionError, ValueError) as error:
                message = "is nested too deeply; write it with fewer levels"
                raise ConfigError(message) from error
        return Expression(
            checked.removeprefix("SELECT "), tuple(name for name in columns if name in used)
        )

    def type_of(self, expression: Expression, schema: pa.Schema) -> pa.DataType:
        """Return what an expression gives for records of a schema.

        Raises:
            ConfigError: Its types do not fit together; the message is DuckDB's.

        """
        rows = schema.empty_table()
        try:
            return self.compute([expression.sql], expression.columns, rows).field(0).type
        except duckdb.Error as error:
            message = f"cannot be computed: {_first_line(error)}"
            raise ConfigError(message) from error

    def compute(
        self, expressions: Collection[str], columns: Collection[str], rows: pa.Table
    ) -> pa.Table:
        """Compute expressions for n records.

        Args:
            expressions: Checked.
            columns: What they read.
            rows: n records × at least those columns.

        Returns:
            n rows, a column an expression.

        Raises:
            duckdb.Error: At least one record fails. Try parts.

        """
        listed = ", ".join(f"{sql} AS c{n}" for n, sql in enumerate(expressions))
        # Of an expression that reads no column the count of the records is all that matters.
        named = list(columns) or rows.schema.names[:1]
        with self._connection() as connection:
            connection.register(RECORDS, rows.select(named))
            try:
                query = f"SELECT {listed} FROM {RECORDS}"  # noqa: S608 - checked, and of one batch
                return connection.sql(query).to_arrow_table()
            finally:
                connection.unregister(RECORDS)

    @contextmanager
    def _connection(self) -> Generator[duckdb.DuckDBPyConnection]:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or _open()
        try:
            yield connection
        finally:
            with self._lock:
                is_kept = len(self._idle) < ENGINES_MAX
                if is_kept:
                    self._idle.append(connection)
            if not is_kept:
                connection.close()

    def _known(self, connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
        if self._functions is None:
            self._functions = row_wise_functions(connection.execute(_CATALOGUE_SQL).fetchall())
        return self._functions


def named(column: str) -> str:
    """Return an expression for a column itself."""
    return quote_name(column)


def _open() -> duckdb.DuckDBPyConnection:
    # One thread, because batches are computed side by side already, and because rows then come
    # out in the order in which they went in.
    connection = open_connection(MEMORY_BYTES_MAX, 1)
    connection.execute(DIVISOR_SQL)
    lock(connection, ())
    return connection


def _text(connection: duckdb.DuckDBPyConnection, call: str, argument: str) -> str:
    row = cast("tuple[Any, ...]", connection.execute(f"SELECT {call}", [argument]).fetchone())
    return str(row[0])


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0]
