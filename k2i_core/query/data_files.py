"""SQL over chosen data files of a table, without planning a scan of all of it.

Columns are found by field id, as Iceberg wants it, so that files from before a rename or before a
column was added show the table as it is now. Only names inside of structs are matched as they are
written: files where those differ, or that have no ids, are read through the Iceberg reader instead,
as are all files of a table with delete files.

The connection sees the table's folders and those of the files, nothing else, for all its life.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import duckdb
from pyiceberg.table import Table

from k2i_core.duckdb_connection import Engines, quote, quote_name
from k2i_core.errors import ConfigError
from k2i_core.query.committed import QueryLimits, QuerySession
from k2i_core.query.duckdb_types import duckdb_type, parquet_schema_map
from k2i_core.records import KAFKA_COLUMN


@dataclass(frozen=True, slots=True)
class ColumnOfFile:
    """One field of a data file's Parquet schema: a leaf, or a group that has a field id.

    Attributes:
        field_id: None where the writer gave none.
        type_name: DuckDB's; None for a group.
    """

    path: str
    field_id: int | None
    name: str
    type_name: str | None


class TableFiles:
    """A connection to the files of one table; close it or use it in a `with`."""

    def __init__(
        self,
        table: Table,
        paths: Iterable[str],
        limits: QueryLimits,
        *,
        through_iceberg: bool = False,
    ) -> None:
        """Open and lock the connection.

        Args:
            table: A freshly loaded table.
            paths: Every file that will be asked about.
            limits: Of everything that is asked, together.
            through_iceberg: Read rows through the Iceberg reader, which plans a scan.

        Raises:
            ConfigError: The store is neither the file system nor S3.

        """
        self._table = table
        self._through_iceberg = through_iceberg
        engines = Engines()
        engines.close()
        self._session = QuerySession(engines, table, limits)
        try:
            if through_iceberg or not _is_local(table.location()):
                self._session.load()
            self._session.start_clock()
            folders = sorted({path.rpartition("/")[0] for path in paths})
            self._session.show_rows(self.rows_sql(()), folders)
        except BaseException:
            self._session.close()
            raise

    def footers(self, paths: Sequence[str]) -> dict[str, int | str]:
        """Return the number of rows that each footer says, or why it cannot be read.

        Raises:
            UnavailableError: The store did not answer.

        """
        if not paths:
            return {}
        # In one go, and file by file only to find the one that is broken.
        found = self._footers(paths)
        if not isinstance(found, str):
            return {path: found[_spelled(path)] for path in paths}
        return {
            path: one if isinstance(one := self._footers([path]), str) else one[_spelled(path)]
            for path in paths
        }

    def _footers(self, paths: Sequence[str]) -> Mapping[str, int] | str:
        rows = self._session.fetch_unless_broken(
            f"SELECT file_name, num_rows FROM parquet_file_metadata({_list(paths)})"  # noqa: S608 - quoted
        )
        return rows if isinstance(rows, str) else dict(rows)

    def columns(self, paths: Sequence[str]) -> list[ColumnOfFile]:
        """Return the columns of files whose footers can be read."""
        if not paths:
            return []
        rows = self._session.fetch(
            "SELECT file_name, field_id, name, duckdb_type, num_children IS NULL "  # noqa: S608 - quoted
            f"FROM parquet_schema({_list(paths)}) "
            "WHERE num_children IS NULL OR field_id IS NOT NULL"
        )
        known = {_spelled(path): path for path in paths}
        return [
            ColumnOfFile(known[path], field_id, name, type_name if is_leaf else None)
            for path, field_id, name, type_name, is_leaf in rows
        ]

    def rows_sql(self, paths: Sequence[str]) -> str:
        """Return the SELECT of all rows of these files, in the table's current columns."""
        if not paths:
            nothing = (
                f"NULL::{duckdb_type(field.field_type)} AS {quote_name(field.name)}"
                for field in self._table.schema().fields
            )
            return f"SELECT {', '.join(nothing)} WHERE FALSE"
        columns = self._column_list()
        if self._through_iceberg:
            location = quote(self._table.metadata_location)
            return (
                f"SELECT {columns} FROM iceberg_scan({location}) WHERE filename IN {_tuple(paths)}"  # noqa: S608 - quoted
            )
        schema = parquet_schema_map(self._table.schema())
        return f"SELECT {columns} FROM read_parquet({_list(paths)}, schema = {schema})"  # noqa: S608 - quoted

    def show_rows(self, rows_sql: str) -> None:
        """Let the table's two names stand for the rows of a SELECT."""
        self._session.show_rows(rows_sql)

    def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of an SQL text of our own, over files or what `show_rows` shows.

        Raises:
            ConfigError: It took longer or needs more memory than it may, or a file is broken.
            UnavailableError: The store did not answer.

        """
        return self._session.fetch(sql)

    def count_returned(self, sql: str) -> int:
        """Return how many rows a user's SELECT over the shown rows returns.

        Raises:
            ConfigError: It is no single SELECT, is wrong, or took too long.
            UnavailableError: The store did not answer.

        """
        self._session.parse(sql)
        return self._session.fetch(counting_sql(sql))[0][0]

    def fingerprints(self, paths: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return what identifies the rows of each file, whatever their order.

        Returns:
            Path, topic, Kafka partition, rows, sum of offsets, sum and exclusive or of the rows'
            hashes over all columns; one row a file and Kafka partition.

        """
        if not paths:
            return []
        known = {_spelled(path): path for path in paths}
        rows = self._session.fetch(self._fingerprints_sql(paths))
        return [(known[path], *rest) for path, *rest in rows]

    def broken(self, paths: Sequence[str]) -> dict[str, str]:
        """Return the files of which a column cannot be read, and why.

        Raises:
            UnavailableError: The store did not answer.

        """
        found = {
            path: self._session.fetch_unless_broken(self._fingerprints_sql([path]))
            for path in paths
        }
        return {path: reason for path, reason in found.items() if isinstance(reason, str)}

    def _fingerprints_sql(self, paths: Sequence[str]) -> str:
        schema = parquet_schema_map(self._table.schema())
        hashed = f"hash({self._column_list()})"
        return (
            f"SELECT filename, {KAFKA_COLUMN}.topic, {KAFKA_COLUMN}.partition, count(*), "  # noqa: S608 - quoted
            f'coalesce(sum({KAFKA_COLUMN}."offset"), 0)::HUGEINT, '
            f"sum({hashed}::HUGEINT), bit_xor({hashed}) "
            f"FROM read_parquet({_list(paths)}, schema = {schema}, filename = true) GROUP BY ALL"
        )

    def close(self) -> None:
        """Free the engine; harmless to repeat."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _column_list(self) -> str:
        return ", ".join(quote_name(field.name) for field in self._table.schema().fields)


def counting_sql(sql: str) -> str:
    """Return the SQL that counts what one SELECT returns."""
    # On lines of their own, because the text may end in a comment.
    return f"SELECT count(*) FROM (\n{sql.strip().rstrip(';')}\n)"  # noqa: S608 - it is one SELECT


def check_select(name: str, sql: str) -> None:
    """Refuse a user's check whose SQL is not one SELECT; nothing is run.

    Raises:
        ConfigError: Correct the file.

    """
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        message = f"check {name} cannot be read: {str(error).partition(chr(10))[0]}"
        raise ConfigError(message) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        listed = " ".join(s.type.name for s in statements) or "nothing"
        message = f"check {name} has to be one SELECT, is statements={len(statements)} of {listed}"
        raise ConfigError(message)


def _is_local(location: str) -> bool:
    scheme, separator, _ = location.partition("://")
    return not separator or scheme == "file"


def _spelled(path: str) -> str:
    """Return a path as DuckDB repeats it: without the scheme where it is local."""
    return f"/{path.removeprefix('file:').lstrip('/')}" if path.startswith("file:") else path


def _list(paths: Sequence[str]) -> str:
    return f"[{', '.join(quote(_spelled(path)) for path in paths)}]"


def _tuple(paths: Sequence[str]) -> str:
    return f"({', '.join(quote(path) for path in paths)})"
