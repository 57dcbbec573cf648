"""Three readers of an Iceberg table, and one form for the values they return.

PyIceberg  plans by manifests and reads with Arrow C++, the library that wrote the files.
DuckDB     its own metadata, Avro and Parquet readers (C++): shares no code with the writer.
Polars     its own Parquet reader (Rust); which files there are comes from PyIceberg.
"""

import operator
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from functools import cache
from importlib.resources import files as package_files
from typing import Any

import duckdb
import polars as pl
from pyiceberg.expressions import (
    AlwaysTrue,
    BooleanExpression,
    EqualTo,
    GreaterThan,
    GreaterThanOrEqual,
    IsNull,
    LessThan,
    LessThanOrEqual,
)
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import (
    DoubleType,
    FloatType,
    IcebergType,
    ListType,
    MapType,
    StructType,
    TimestamptzType,
    UUIDType,
)

Rows = list[dict[str, Any]]

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_PYICEBERG = {
    "=": EqualTo,
    "<": LessThan,
    "<=": LessThanOrEqual,
    ">": GreaterThan,
    ">=": GreaterThanOrEqual,
}


@dataclass(frozen=True)
class Filter:
    """`column operator literal`, or `column is null`; each reader gets it in its own language."""

    column: str
    operator: str
    literal: Any = None

    def __str__(self) -> str:
        return f"{self.column} {self.operator} {self.literal}"

    def accepts(self, row: dict[str, Any]) -> bool:
        value = row[self.column]
        if self.operator == "is null":
            return value is None
        return value is not None and _OPERATORS[self.operator](value, self.literal)

    def for_pyiceberg(self) -> BooleanExpression:
        if self.operator == "is null":
            return IsNull(self.column)
        return _PYICEBERG[self.operator](self.column, self.literal)

    def for_polars(self) -> pl.Expr:
        column = pl.col(self.column)
        if self.operator == "is null":
            return column.is_null()
        is_uuid = isinstance(self.literal, uuid.UUID)
        return _OPERATORS[self.operator](
            column, pl.lit(self.literal.bytes if is_uuid else self.literal)
        )

    def for_duckdb(self) -> tuple[str, list[Any]]:
        if self.operator == "is null":
            return f'"{self.column}" IS NULL', []
        return f'"{self.column}" {self.operator} ?', [self.literal]


def read_with_pyiceberg(table: Table, wanted: Filter | None = None) -> Rows:
    expression = wanted.for_pyiceberg() if wanted else AlwaysTrue()
    return table.scan(row_filter=expression).to_arrow().to_pylist()


def read_with_duckdb(table: Table, wanted: Filter | None = None) -> Rows:
    where, parameters = wanted.for_duckdb() if wanted else ("true", [])
    rows = open_duckdb().execute(
        f"SELECT * FROM iceberg_scan('{table.metadata_location}') WHERE {where}", parameters
    )
    return rows.to_arrow_table().to_pylist()


def read_with_polars(table: Table, wanted: Filter | None = None) -> Rows:
    scan = pl.scan_iceberg(table, reader_override="native")
    return (scan.filter(wanted.for_polars()) if wanted else scan).collect().to_dicts()


READERS = {
    "pyiceberg": read_with_pyiceberg,
    "duckdb": read_with_duckdb,
    "polars": read_with_polars,
}


@cache
def open_duckdb() -> duckdb.DuckDBPyConnection:
    """Open DuckDB with the extensions that are installed beside it; nothing is downloaded.

    Once for all tests, because the extensions take half a second to load.
    """
    connection = duckdb.connect(
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    )
    for name in ("avro", "httpfs", "iceberg"):
        package = package_files(f"duckdb_extension_{name}")
        path = package / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        connection.execute(f"LOAD '{path}'")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def normal_rows(rows: Rows, schema: Schema) -> dict[int, dict[str, Any]]:
    """Return rows by id in one form, so that readers can be compared with what was written."""
    by_id = {row["id"]: normal(row, schema.as_struct()) for row in rows}
    assert len(by_id) == len(rows), "a row was read twice"
    return by_id


def normal(value: Any, type_: IcebergType) -> Any:  # noqa: PLR0911 - one return a type reads best
    if value is None:
        return None
    match type_:
        case StructType():
            return {f.name: normal(value[f.name], f.field_type) for f in type_.fields}
        case ListType():
            return [normal(element, type_.element_type) for element in value]
        case MapType():
            pairs = value.items() if isinstance(value, dict) else value
            return [(normal(k, type_.key_type), normal(v, type_.value_type)) for k, v in pairs]
        case FloatType() | DoubleType():
            # Text, because NaN is not equal to itself and the zeros are equal to each other.
            return repr(value)
        case UUIDType():
            return _uuid(value)
        case TimestamptzType():
            return value.astimezone(UTC)
        case _:
            return value


def _uuid(value: Any) -> uuid.UUID:
    match value:
        case bytes():
            return uuid.UUID(bytes=value)
        case str():
            return uuid.UUID(value)
        case _:
            return value
