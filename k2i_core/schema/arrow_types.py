"""Iceberg's types as Arrow's and back.

| Iceberg | Arrow | | Iceberg | Arrow |
|---|---|---|---|---|
| boolean | bool | | timestamp | timestamp(us) |
| int | int32 | | timestamptz | timestamp(us, UTC) |
| long | int64 | | string | string |
| float | float32 | | binary | binary |
| double | float64 | | uuid | extension uuid |
| decimal(p,s) | decimal128(p, s) | | fixed[n] | fixed_size_binary(n) |
| date | date32 | | list, map, struct | list, map, struct |
| time | time64(us) | | required | not nullable |

A column's doc is the metadata `doc` of its Arrow field.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from k2i_core.errors import ConfigError
from k2i_core.schema.iceberg_types import (
    DecimalType,
    FixedType,
    IcebergField,
    IcebergType,
    ListType,
    MapType,
    PrimitiveType,
    StructType,
)
from k2i_core.schema.type_texts import TYPE_NAMES, type_text

DOC_KEY = "doc"

_ARROW_BY_ICEBERG: Mapping[PrimitiveType, pa.DataType] = MappingProxyType(
    {
        PrimitiveType.BOOLEAN: pa.bool_(),
        PrimitiveType.INT: pa.int32(),
        PrimitiveType.LONG: pa.int64(),
        PrimitiveType.FLOAT: pa.float32(),
        PrimitiveType.DOUBLE: pa.float64(),
        PrimitiveType.DATE: pa.date32(),
        PrimitiveType.TIME: pa.time64("us"),
        PrimitiveType.TIMESTAMP: pa.timestamp("us"),
        PrimitiveType.TIMESTAMPTZ: pa.timestamp("us", tz="UTC"),
        PrimitiveType.STRING: pa.string(),
        PrimitiveType.BINARY: pa.binary(),
        PrimitiveType.UUID: pa.uuid(),
    }
)

_ICEBERG_BY_ARROW = MappingProxyType({arrow: type_ for type_, arrow in _ARROW_BY_ICEBERG.items()})


SQL_TYPES: Mapping[pa.DataType, str] = {
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
}
"""DuckDB's names of types without parameters; uuid has one, too, but not in every place."""


def to_arrow_schema(columns: Iterable[IcebergField]) -> pa.Schema:
    """Return the columns as Arrow has them."""
    return pa.schema([_to_arrow_field(column) for column in columns])


def to_arrow(type_: IcebergType) -> pa.DataType:
    """Return the Arrow type that stands for an Iceberg type."""
    match type_:
        case PrimitiveType():
            return _ARROW_BY_ICEBERG[type_]
        case DecimalType(precision, scale):
            return pa.decimal128(precision, scale)
        case FixedType(byte_count):
            return pa.binary(byte_count)
        case ListType(element, element_required):
            return pa.list_(_to_arrow_field(IcebergField("element", element, element_required)))
        case MapType(key, value, value_required):
            value_field = _to_arrow_field(IcebergField("value", value, value_required))
            # The stubs know only types here; Arrow takes a field too, for "not null".
            return pa.map_(to_arrow(key), value_field)  # pyright: ignore[reportArgumentType]
        case StructType(fields):
            return pa.struct([_to_arrow_field(field) for field in fields])


def from_arrow(type_: pa.DataType) -> IcebergType:
    """Return the Iceberg type that an Arrow type stands for.

    Raises:
        ConfigError: Iceberg has no such type; `clean_inferred_type` makes the nearest one.

    """
    if type_ in _ICEBERG_BY_ARROW:
        return _ICEBERG_BY_ARROW[type_]
    if isinstance(type_, pa.Decimal128Type) and 0 <= type_.scale <= type_.precision:
        return DecimalType(type_.precision, type_.scale)
    if pa.types.is_fixed_size_binary(type_) and type_.byte_width > 0:
        return FixedType(type_.byte_width)
    if isinstance(type_, pa.ListType):
        element = type_.value_field
        return ListType(from_arrow(element.type), not element.nullable)
    if isinstance(type_, pa.MapType):
        value = type_.item_field
        return MapType(from_arrow(type_.key_type), from_arrow(value.type), not value.nullable)
    if isinstance(type_, pa.StructType) and type_.num_fields:
        return StructType(tuple(_from_arrow_field(field) for field in type_))
    message = f"Iceberg has no type for Arrow's {type_}; allowed: {', '.join(TYPE_NAMES)}"
    raise ConfigError(message)


def arrow_type_text(type_: pa.DataType) -> str:
    """Write an Arrow type as the Iceberg type that it stands for.

    Raises:
        ConfigError: As `from_arrow`.

    """
    return type_text(from_arrow(type_))


def _to_arrow_field(field: IcebergField) -> "pa.Field[Any]":
    metadata = {DOC_KEY: field.doc} if field.doc else None
    return pa.field(field.name, to_arrow(field.type), not field.required, metadata)


def _from_arrow_field(field: "pa.Field[Any]") -> IcebergField:
    doc = (field.metadata or {}).get(DOC_KEY.encode())
    return IcebergField(
        field.name, from_arrow(field.type), not field.nullable, doc.decode() if doc else None
    )
