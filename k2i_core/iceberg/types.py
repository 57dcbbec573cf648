"""Arrow schemas of Iceberg tables and back, by the table of types in `schema.arrow_types`.

Every Arrow field made from a table, nested ones too, carries its Iceberg field id as
`PARQUET:field_id`, so that a Parquet file written with it is read by id whatever is renamed later.
"""

from itertools import count
from typing import Any

import pyarrow as pa
from pyiceberg import types as iceberg
from pyiceberg.schema import Schema
from pyiceberg.types import IcebergType, NestedField, PrimitiveType

from k2i_core.errors import ConfigError
from k2i_core.records import ITEM_COLUMN, ITEM_TYPE, KAFKA_COLUMN, TIMESTAMP_TYPE
from k2i_core.schema.arrow_types import from_arrow

FIELD_ID_KEY = b"PARQUET:field_id"

_PRIMITIVES: tuple[tuple[PrimitiveType, pa.DataType], ...] = (
    (iceberg.BooleanType(), pa.bool_()),
    (iceberg.IntegerType(), pa.int32()),
    (iceberg.LongType(), pa.int64()),
    (iceberg.FloatType(), pa.float32()),
    (iceberg.DoubleType(), pa.float64()),
    (iceberg.DateType(), pa.date32()),
    (iceberg.TimeType(), pa.time64("us")),
    (iceberg.TimestampType(), pa.timestamp("us")),
    (iceberg.TimestamptzType(), TIMESTAMP_TYPE),
    (iceberg.StringType(), pa.string()),
    (iceberg.BinaryType(), pa.binary()),
    (iceberg.UUIDType(), pa.uuid()),
)
_ARROW_BY_ICEBERG: dict[type[PrimitiveType], pa.DataType] = {type(i): a for i, a in _PRIMITIVES}
_ICEBERG_BY_ARROW: dict[pa.DataType, PrimitiveType] = {a: i for i, a in _PRIMITIVES}


def arrow_schema(schema: Schema) -> pa.Schema:
    """Return the columns of a table in Arrow's types, with field ids, `_kafka` last.

    Raises:
        ConfigError: A column has a type of a newer Iceberg format, which cannot be written.

    """
    # Last whatever the table's order: other engines add columns behind it, and rows end with it.
    ordered = sorted(schema.fields, key=lambda field: field.name == KAFKA_COLUMN)
    return pa.schema([arrow_field(field) for field in ordered])


def holds_items(schema: Schema) -> bool:
    """Tell whether a table of these columns holds several rows of a record."""
    return {f"{ITEM_COLUMN}.{leaf.name}" for leaf in ITEM_TYPE} <= set(schema.column_names)


def arrow_field(field: NestedField) -> "pa.Field[Any]":
    """Return one column, or one inner field, with its id."""
    return pa.field(
        field.name,
        _arrow_type(field.field_type, field.name),
        nullable=field.optional,
        metadata={FIELD_ID_KEY: str(field.field_id).encode()},
    )


def _arrow_type(type_: IcebergType, name: str) -> pa.DataType:
    match type_:
        case iceberg.StructType():
            return pa.struct([arrow_field(field) for field in type_.fields])
        case iceberg.ListType():
            return pa.list_(arrow_field(type_.element_field))
        case iceberg.MapType():
            # The stubs know only types here; Arrow takes fields too, for ids and "not null".
            key, value = arrow_field(type_.key_field), arrow_field(type_.value_field)
            return pa.map_(key, value)  # pyright: ignore[reportArgumentType, reportCallIssue]
        case iceberg.DecimalType():
            return pa.decimal128(type_.precision, type_.scale)
        case iceberg.FixedType():
            return pa.binary(len(type_))
        case PrimitiveType() if type(type_) in _ARROW_BY_ICEBERG:
            return _ARROW_BY_ICEBERG[type(type_)]
        case _:
            message = f"column={name!r} has type {type_}, which cannot be written yet"
            raise ConfigError(message)


def iceberg_schema(schema: pa.Schema) -> Schema:
    """Return a schema for a new table, with ids from 1; the catalog may number them again.

    Raises:
        ConfigError: Iceberg has no such type.

    """
    ids = count(1)
    # A level's own fields are numbered before what is inside them, as Iceberg's libraries do.
    return Schema(*_nested_fields(list(schema), ids))


def iceberg_type(type_: pa.DataType) -> IcebergType:
    """Return one type; ids inside it are only distinct, for an update to replace.

    Raises:
        ConfigError: Iceberg has no such type.

    """
    return _iceberg_type(type_, count(1))


def _nested_fields(fields: "list[pa.Field[Any]]", ids: "count[int]") -> list[NestedField]:
    numbered = [(next(ids), field) for field in fields]
    return [
        NestedField(
            field_id=field_id,
            name=field.name,
            field_type=_iceberg_type(field.type, ids),
            required=not field.nullable,
        )
        for field_id, field in numbered
    ]


def _iceberg_type(type_: pa.DataType, ids: "count[int]") -> IcebergType:
    if isinstance(type_, pa.StructType):
        return iceberg.StructType(*_nested_fields(list(type_), ids))
    if isinstance(type_, pa.ListType):
        (element,) = _nested_fields([type_.value_field], ids)
        return iceberg.ListType(
            element_id=element.field_id,
            element_type=element.field_type,
            element_required=element.required,
        )
    if isinstance(type_, pa.MapType):
        key, value = _nested_fields([type_.key_field, type_.item_field], ids)
        return iceberg.MapType(
            key_id=key.field_id,
            key_type=key.field_type,
            value_id=value.field_id,
            value_type=value.field_type,
            value_required=value.required,
        )
    if isinstance(type_, pa.Decimal128Type):
        return iceberg.DecimalType(type_.precision, type_.scale)
    if isinstance(type_, pa.FixedSizeBinaryType) and not isinstance(type_, pa.Decimal128Type):
        return iceberg.FixedType(type_.byte_width)
    if type_ in _ICEBERG_BY_ARROW:
        return _ICEBERG_BY_ARROW[type_]
    from_arrow(type_)  # raises with the list of what is allowed
    raise AssertionError(type_)
