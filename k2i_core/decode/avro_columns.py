"""How Avro's types become columns: the mapping, version 1.

| Avro | column |
|---|---|
| `boolean` | boolean |
| `int` | int |
| `long` | long |
| `float` | float |
| `double` | double |
| `bytes` | binary |
| `string` | string |
| `fixed` of n bytes | fixed[n] |
| `enum` | string |
| `array` | list |
| `map` | map of string to … |
| `record` | struct |
| union of null and one other type | that type |
| any other union | struct of optional members, named by their types |
| `null`, a record without fields, and what holds nothing else | no column |
| a record inside itself | string: the value as JSON |
| `decimal` of up to 38 digits | decimal(precision, scale) |
| `uuid` | uuid |
| `date` | date |
| `time-millis`, `time-micros` | time |
| `timestamp-millis`, `-micros`, `-nanos` | timestamptz |
| `local-timestamp-millis`, `-micros`, `-nanos` | timestamp |
| `duration` | struct of months, days, millis: long |

Every column is optional, so that records of older and newer schemas fit one table. The version is
kept in the table: a table made with version 1 is read with version 1 for ever.

The columns carry what the schema says besides: the names that a field had before (`aliases`), and
whether it may be null.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from k2i_core.decode.arrow import map_type
from k2i_core.decode.avro_schema import AvroType, Kind
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.schema.identity import Identity, identified

MAPPING_VERSION = 1

NESTING_MAX = 64
"""Levels of a schema. Larger: Python's and Parquet's own recursion limits come near; smaller: an
honest schema may not fit."""

_TIMESTAMPTZ = pa.timestamp("us", tz="UTC")
_TIMESTAMP = pa.timestamp("us")

_PLAIN = MappingProxyType(
    {
        Kind.BOOLEAN: pa.bool_(),
        Kind.INT: pa.int32(),
        Kind.LONG: pa.int64(),
        Kind.FLOAT: pa.float32(),
        Kind.DOUBLE: pa.float64(),
        Kind.BYTES: pa.binary(),
        Kind.STRING: pa.string(),
        Kind.ENUM: pa.string(),
    }
)

_LOGICAL = MappingProxyType(
    {
        "date": pa.date32(),
        "time-millis": pa.time64("us"),
        "time-micros": pa.time64("us"),
        "timestamp-millis": _TIMESTAMPTZ,
        "timestamp-micros": _TIMESTAMPTZ,
        "timestamp-nanos": _TIMESTAMPTZ,
        "local-timestamp-millis": _TIMESTAMP,
        "local-timestamp-micros": _TIMESTAMP,
        "local-timestamp-nanos": _TIMESTAMP,
        "uuid": pa.uuid(),
        "duration": pa.struct(
            [pa.field(name, pa.int64()) for name in ("months", "days", "millis")]
        ),
    }
)


class Shape(Enum):
    """How a value is read into its column."""

    LEAF = auto()
    STRUCT = auto()
    LIST = auto()
    MAP = auto()
    OPTIONAL = auto()
    MEMBERS = auto()
    NOTHING = auto()
    JSON = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A type and the column that its values become.

    Attributes:
        avro: What is read.
        shape: How.
        type: The column's; Arrow's null type for `NOTHING`.
        path: For messages.
        parts: Fields, element, value or branches, in the order in which they are written.
        names: Of the parts, as they are called in the column.
    """

    avro: AvroType
    shape: Shape
    type: pa.DataType
    path: str
    parts: tuple["Column", ...] = ()
    names: tuple[str, ...] = ()

    @property
    def is_never_null(self) -> bool:
        """Whether every record has a value here."""
        has_null = any(part.avro.kind is Kind.NULL for part in self.parts)
        return self.shape is not Shape.OPTIONAL and not (self.shape is Shape.MEMBERS and has_null)

    @property
    def stored(self) -> Iterator[tuple[int, str, "Column"]]:
        """Parts that hold something, with their place and name."""
        for place, (name, part) in enumerate(zip(self.names, self.parts, strict=True)):
            if part.shape is not Shape.NOTHING:
                yield place, name, part


def plan_avro(avro: AvroType) -> Column:
    """Return how records of a schema become rows.

    Raises:
        UnusableSchemaError: It is no record, has no column, or nests too deep.

    """
    if avro.kind is not Kind.RECORD:
        message = f"the schema is of type={avro.kind.value}, a row needs a record"
        raise UnusableSchemaError(message)
    row = _plan(avro, "", ())
    if row.shape is not Shape.STRUCT:
        message = "the schema has no field that holds anything"
        raise UnusableSchemaError(message)
    return row


def _plan(  # noqa: PLR0911 - one return a kind
    avro: AvroType, path: str, around: tuple[AvroType, ...]
) -> Column:
    if len(around) > NESTING_MAX:
        message = f"the schema nests deeper than levels={NESTING_MAX}"
        raise UnusableSchemaError(message)
    if avro in around:
        return Column(avro, Shape.JSON, pa.string(), path)
    inside = (*around, avro)
    match avro.kind:
        case Kind.NULL:
            return Column(avro, Shape.NOTHING, pa.null(), path)
        case Kind.RECORD:
            return _plan_record(avro, path, inside)
        case Kind.UNION:
            return _plan_union(avro, path, inside)
        case Kind.ARRAY:
            element = _plan(avro.parts[0][1], f"{path}[]", inside)
            if element.shape is Shape.NOTHING:
                return Column(avro, Shape.JSON, pa.string(), path)
            type_ = pa.list_(_field("element", element))
            return Column(avro, Shape.LIST, type_, path, (element,), ("element",))
        case Kind.MAP:
            value = _plan(avro.parts[0][1], f"{path}{{}}", inside)
            if value.shape is Shape.NOTHING:
                return Column(avro, Shape.JSON, pa.string(), path)
            key = pa.field("key", pa.string(), nullable=False)
            type_ = map_type(key, _field("value", value))
            return Column(avro, Shape.MAP, type_, path, (value,), ("value",))
        case _:
            return Column(avro, Shape.LEAF, _leaf_type(avro), path)


def _leaf_type(avro: AvroType) -> pa.DataType:
    if avro.logical == "decimal":
        return pa.decimal128(avro.precision, avro.scale)
    if avro.logical is not None:
        return _LOGICAL[avro.logical]
    if avro.kind is Kind.FIXED:
        # Iceberg has no fixed type of no bytes.
        return pa.binary(avro.byte_count) if avro.byte_count else pa.binary()
    return _PLAIN[avro.kind]


def _plan_record(avro: AvroType, path: str, inside: tuple[AvroType, ...]) -> Column:
    parts = tuple(
        _plan(part, f"{path}.{name}" if path else name, inside) for name, part in avro.parts
    )
    return _struct(avro, Shape.STRUCT, path, parts, tuple(name for name, _ in avro.parts))


def _plan_union(avro: AvroType, path: str, inside: tuple[AvroType, ...]) -> Column:
    names = _member_names(avro)
    others = [part for _, part in avro.parts if part.kind is not Kind.NULL]
    if len(others) == 0:
        return Column(avro, Shape.NOTHING, pa.null(), path)
    if len(others) == 1:
        parts = tuple(_plan(part, path, inside) for _, part in avro.parts)
        type_ = next(part.type for part in parts if part.avro is others[0])
        is_empty = pa.types.is_null(type_)
        return Column(
            avro, Shape.NOTHING if is_empty else Shape.OPTIONAL, type_, path, parts, names
        )
    parts = tuple(
        _plan(part, f"{path}.{name}", inside)
        for name, (_, part) in zip(names, avro.parts, strict=True)
    )
    return _struct(avro, Shape.MEMBERS, path, parts, names)


def _member_names(avro: AvroType) -> tuple[str, ...]:
    """Name branches by their types, without the namespace unless two would be alike."""
    full_names = [name for name, _ in avro.parts]
    short_names = [name.rpartition(".")[2] for name in full_names]
    if len({name.casefold() for name in short_names}) == len(short_names):
        return tuple(short_names)
    long_names = [name.replace(".", "_") for name in full_names]
    if len({name.casefold() for name in long_names}) == len(long_names):
        return tuple(long_names)
    return tuple(f"member{place}" for place in range(len(full_names)))


def _struct(
    avro: AvroType, shape: Shape, path: str, parts: tuple[Column, ...], names: tuple[str, ...]
) -> Column:
    fields = [
        # Of several members of a union, all but one are null.
        _field(name, part, avro.aliases.get(name, ()), is_member=shape is Shape.MEMBERS)
        for name, part in zip(names, parts, strict=True)
        if part.shape is not Shape.NOTHING
    ]
    if not fields:
        return Column(avro, Shape.NOTHING, pa.null(), path, parts, names)
    return Column(avro, shape, pa.struct(fields), path, parts, names)


def _field(
    name: str, column: Column, aliases: tuple[str, ...] = (), *, is_member: bool = False
) -> "pa.Field[Any]":
    never_null = column.is_never_null and not is_member
    return identified(
        pa.field(name, column.type), Identity(former_names=aliases), never_null=never_null
    )
