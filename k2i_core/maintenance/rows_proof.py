"""The proof that rewritten files hold the rows of the old ones, by an engine that wrote neither.

DuckDB reads both sides with its own Parquet reader and counts, for all rows together: how many
there are; a sum of hashes over all columns, nested ones included, which does not depend on the
order; and for each column how many values are not null, and the least and the greatest. Old files
are brought to the table's columns by field id in SQL, apart from the code that rewrote them.

Two sets of rows with one sum of 64-bit hashes are taken for equal; a row lost, doubled or changed
by mistake escapes that once in 10^19.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, cast

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from k2i_core.duckdb_connection import (
    allow_store,
    load_extensions,
    open_connection,
    quote,
    quote_name,
)
from k2i_core.errors import ConfigError, CorruptionError, ErrorKind, UnavailableError
from k2i_core.iceberg.failures import translated
from k2i_core.parquet.by_field_id import field_id_of
from k2i_core.schema.arrow_types import SQL_TYPES

MEMORY_BYTES_MIN = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What was counted of some files' rows.

    Attributes:
        figures: Name → value; the columns' begin with their name.
    """

    row_count: int
    figures: Mapping[str, Any]


class RowProof:
    """Compares rows of files of one table; used by one thread, closed in the end."""

    def __init__(self, table: Table, schema: pa.Schema, memory_bytes: int) -> None:
        """Open an engine.

        Args:
            table: Its store's credentials are used.
            schema: The table's columns with field ids.
            memory_bytes: Of the engine.

        """
        self._table = table
        self._schema = schema
        memory_bytes = max(memory_bytes, MEMORY_BYTES_MIN)
        self._connection = open_connection(memory_bytes, thread_count=1)
        location = table.location()
        if "://" in location and not location.startswith("file://"):
            load_extensions(self._connection)
            allow_store(self._connection, location, table.io.properties)

    def close(self) -> None:
        """Free the engine."""
        self._connection.close()

    def check(self, old_paths: Sequence[str], new_paths: Sequence[str]) -> int:
        """Prove that both sets of files hold the same rows.

        Returns:
            How many.

        Raises:
            CorruptionError: They do not; the message says what differs, never a value.
            UnavailableError: A file cannot be read.

        """
        old, new = self.facts(old_paths), self.facts(new_paths)
        differing = [name for name in old.figures if old.figures[name] != new.figures[name]]
        if differing:
            message = (
                f"rewritten files do not hold the rows of the old ones: rows={old.row_count} "
                f"became {new.row_count}; differing: {', '.join(differing[:8])}; nothing was "
                f"committed, the new files stay as evidence: {', '.join(new_paths)}"
            )
            raise CorruptionError(message, kind=ErrorKind.ROWS_CHANGED)
        return old.row_count

    def facts(self, paths: Sequence[str]) -> RowFacts:
        """Count the rows of some files.

        Raises:
            UnavailableError: A file cannot be read.

        """
        by_shape: dict[tuple[str, str], list[str]] = {}
        for path in paths:
            by_shape.setdefault(self._shape(path), []).append(path)
        parts = [
            # Without a look at folder names, which to DuckDB are columns.
            f"SELECT {projection} "  # noqa: S608 - quoted
            f"FROM read_parquet([{_listed(group)}], hive_partitioning = false)"
            for (projection, _), group in by_shape.items()
        ]
        if not parts:
            parts.append(f"SELECT {self._projection({})} WHERE FALSE")
        names = self._figure_names()
        sql = f"SELECT {', '.join(self._figures())} FROM ({' UNION ALL '.join(parts)})"  # noqa: S608 - names and paths are quoted
        try:
            row = self._connection.execute(sql).fetchone()
        except duckdb.Error as error:
            message = f"files cannot be read back to prove them: {type(error).__name__}"
            raise UnavailableError(message, kind=ErrorKind.STORAGE_UNAVAILABLE) from error
        assert row is not None
        figures = dict(zip(names, row, strict=True))
        return RowFacts(figures["row count"], figures)

    def _figures(self) -> Iterable[str]:
        hashed = (part for f in self._schema for part in _hashed(quote_name(f.name), f.type))
        yield "count(*)"
        yield f"coalesce(sum(hash({', '.join(hashed)})::HUGEINT), 0)"
        for field in self._schema:
            name = quote_name(field.name)
            yield f"count({name})"
            if not pa.types.is_nested(field.type):
                # Both zeros are equal, and which of them is found first depends on the order.
                value = f"({name} + 0)" if pa.types.is_floating(field.type) else name
                # As text, because Python's own types hold fewer digits, years and zones.
                yield f"min({value})::VARCHAR"
                yield f"max({value})::VARCHAR"

    def _figure_names(self) -> list[str]:
        names = ["row count", "hash over all columns"]
        for field in self._schema:
            names.append(f"{field.name}: values that are not null")
            if not pa.types.is_nested(field.type):
                names += [f"{field.name}: least value", f"{field.name}: greatest value"]
        return names

    def _shape(self, path: str) -> tuple[str, str]:
        """Return the select list for a file, and what its columns are: DuckDB reads like ones."""
        with translated(f"read the footer of a file of table {'.'.join(self._table.name())}"):
            # Safe because every FileIO of PyIceberg opens a binary file object.
            stream = cast("IO[bytes]", self._table.io.new_input(path).open())
            with stream, pq.ParquetFile(stream) as parquet:
                given = parquet.schema_arrow
        return self._projection({field_id_of(f): f for f in given}), str(given.remove_metadata())

    def _projection(self, given: "Mapping[int | None, pa.Field[Any]]") -> str:
        """Return the select list that makes the table's columns of a file's."""
        return ", ".join(
            f"{_column(given.get(field_id_of(f)), f)} AS {quote_name(f.name)}" for f in self._schema
        )


def _hashed(text: str, data_type: pa.DataType) -> Iterable[str]:
    """Yield what has to be hashed of a column, so that null is not taken for empty.

    DuckDB's hash of a null list is that of an empty one, and of a null struct that of its nulls.
    """
    if isinstance(data_type, pa.StructType):
        yield f"({text} IS NULL)"
        for field in _children(data_type):
            yield from _hashed(f"{text}.{quote_name(field.name)}", field.type)
        return
    yield text
    if isinstance(data_type, pa.MapType):
        is_deep = pa.types.is_nested(data_type.item_type) or pa.types.is_nested(data_type.key_type)
        yield f"{text}::VARCHAR" if is_deep else f"cardinality({text})"
    elif isinstance(data_type, pa.ListType):
        is_deep = pa.types.is_nested(data_type.value_type)
        yield f"{text}::VARCHAR" if is_deep else f"len({text})"


def _listed(paths: Iterable[str]) -> str:
    return ", ".join(quote(_local(path)) for path in paths)


def _local(path: str) -> str:
    return path.removeprefix("file://") if path.startswith("file:///") else path


def _column(source: "pa.Field[Any] | None", target: "pa.Field[Any]") -> str:
    if source is None:
        return f"NULL::{_sql_type(target.type)}"
    return _value(quote_name(source.name), source.type, target.type, 0)


def _value(text: str, source: pa.DataType, target: pa.DataType, depth: int) -> str:
    """Return SQL that makes a value of the target's type of one of the file's."""
    if isinstance(target, pa.StructType):
        return _struct(text, source, target, depth)
    if isinstance(target, pa.MapType) and isinstance(source, pa.MapType):
        pair = f"e{depth}"
        key = _value(f"{pair}.key", source.key_type, target.key_type, depth + 1)
        item = _value(f"{pair}.value", source.item_type, target.item_type, depth + 1)
        made = f"lambda {pair}: {{'key': {key}, 'value': {item}}}"
        made = f"map_from_entries(list_transform(map_entries({text}), {made}))"
        return f"CASE WHEN {text} IS NULL THEN NULL ELSE {made} END"
    if isinstance(target, pa.ListType):
        given = cast("pa.ListType[Any]", source).value_type
        element = f"e{depth}"
        value = _value(element, given, target.value_type, depth + 1)
        return text if value == element else f"list_transform({text}, lambda {element}: {value})"
    return f"{text}::{_sql_type(target)}"


def _struct(text: str, source: pa.DataType, target: pa.StructType, depth: int) -> str:
    given = {field_id_of(f): f for f in _children(source)}
    parts: list[str] = []
    for field in _children(target):
        child = given.get(field_id_of(field))
        value = f"NULL::{_sql_type(field.type)}"
        if child is not None:
            value = _value(f"{text}.{quote_name(child.name)}", child.type, field.type, depth)
        parts.append(f"{quote(field.name)}: {value}")
    return f"CASE WHEN {text} IS NULL THEN NULL ELSE {{{', '.join(parts)}}} END"


def _children(data_type: pa.DataType) -> "list[pa.Field[Any]]":
    return [data_type.field(n) for n in range(data_type.num_fields)]


_SQL_TYPES: Mapping[pa.DataType, str] = {**SQL_TYPES, pa.uuid(): "UUID"}


def _sql_type(data_type: pa.DataType) -> str:
    """Return DuckDB's name of a column's type.

    Raises:
        ConfigError: It has none.

    """
    if isinstance(data_type, pa.StructType):
        fields = (f"{quote_name(f.name)} {_sql_type(f.type)}" for f in _children(data_type))
        return f"STRUCT({', '.join(fields)})"
    if isinstance(data_type, pa.MapType):
        return f"MAP({_sql_type(data_type.key_type)}, {_sql_type(data_type.item_type)})"
    if isinstance(data_type, pa.ListType):
        return f"{_sql_type(data_type.value_type)}[]"
    if isinstance(data_type, pa.Decimal128Type):
        return f"DECIMAL({data_type.precision}, {data_type.scale})"
    if isinstance(data_type, pa.FixedSizeBinaryType):
        return "BLOB"
    if data_type not in _SQL_TYPES:
        message = f"rows of type {data_type} cannot be proven, so they are not rewritten"
        raise ConfigError(message, kind=ErrorKind.NOT_SUPPORTED_YET)
    return _SQL_TYPES[data_type]
