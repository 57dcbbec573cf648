"""Iceberg types in DuckDB's words, so that Parquet files can be read by field id."""

from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from k2i_core.duckdb_connection import quote, quote_name
from k2i_core.errors import ConfigError, ErrorKind

_PRIMITIVES: dict[type[IcebergType], str] = {
    BooleanType: "BOOLEAN",
    IntegerType: "INTEGER",
    LongType: "BIGINT",
    FloatType: "FLOAT",
    DoubleType: "DOUBLE",
    DateType: "DATE",
    TimeType: "TIME",
    TimestampType: "TIMESTAMP",
    TimestamptzType: "TIMESTAMP WITH TIME ZONE",
    StringType: "VARCHAR",
    UUIDType: "UUID",
    BinaryType: "BLOB",
    FixedType: "BLOB",
}


def duckdb_type(type_: IcebergType) -> str:
    """Return DuckDB's name of an Iceberg type.

    Raises:
        ConfigError: DuckDB has none.

    """
    match type_:
        case DecimalType():
            return f"DECIMAL({type_.precision},{type_.scale})"
        case StructType():
            inner = (f"{quote_name(f.name)} {duckdb_type(f.field_type)}" for f in type_.fields)
            return f"STRUCT({', '.join(inner)})"
        case ListType():
            return f"{duckdb_type(type_.element_type)}[]"
        case MapType():
            return f"MAP({duckdb_type(type_.key_type)}, {duckdb_type(type_.value_type)})"
        case _:
            if type(type_) in _PRIMITIVES:
                return _PRIMITIVES[type(type_)]
    message = f"DuckDB has no type for Iceberg's {type_}"
    raise ConfigError(message, kind=ErrorKind.NOT_SUPPORTED_YET)


def parquet_schema_map(schema: Schema) -> str:
    """Return the `schema` argument of `read_parquet`: columns by field id, absent ones null."""
    columns = (
        f"{field.field_id}: {{name: {quote(field.name)}, "
        f"type: {quote(duckdb_type(field.field_type))}, default_value: NULL}}"
        for field in schema.fields
    )
    return f"MAP {{{', '.join(columns)}}}"
