"""How Protobuf's types become columns: the mapping, version 1.

| Protobuf | column |
|---|---|
| `bool` | boolean |
| `int32`, `sint32`, `sfixed32` | int |
| `uint32`, `fixed32`, `int64`, `sint64`, `sfixed64` | long |
| `uint64`, `fixed64` | decimal(20, 0) |
| `float` | float |
| `double` | double |
| `string` | string |
| `bytes` | binary |
| enum | string; a number without a name as its digits |
| message | struct |
| message without fields, and what holds nothing else | no column |
| `repeated` | list |
| `map<K, V>` | map of K to V |
| member of a `oneof` | optional column of its type |
| `google.protobuf.Timestamp` | timestamptz |
| `google.protobuf.BoolValue` and the other wrappers | the wrapped type, optional |
| `google.protobuf.Struct`, `Value`, `ListValue` | string: JSON |
| a message inside itself | string: JSON |

A field that a record lacks is null where the schema can tell (`optional`, oneof, messages, proto2)
and zero, empty or false where it cannot. The version is kept in the table: a table made with
version 1 is read with version 1 for ever.

The columns carry what the schema says besides: the field's number, which stays when it is renamed,
and whether it may be null.
"""

from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from k2i_core.decode.arrow import map_type
from k2i_core.decode.proto_schema import Kind, Message, MessageField, Presence
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.schema.identity import Identity, identified

MAPPING_VERSION = 1

NESTING_MAX = 64
"""Levels of a schema. Larger: Python's and Parquet's own recursion limits come near; smaller: an
honest schema may not fit."""

_TYPES = MappingProxyType(
    {
        Kind.DOUBLE: pa.float64(),
        Kind.FLOAT: pa.float32(),
        Kind.INT64: pa.int64(),
        Kind.UINT64: pa.decimal128(20, 0),
        Kind.INT32: pa.int32(),
        Kind.FIXED64: pa.decimal128(20, 0),
        Kind.FIXED32: pa.int64(),
        Kind.BOOL: pa.bool_(),
        Kind.STRING: pa.string(),
        Kind.BYTES: pa.binary(),
        Kind.UINT32: pa.int64(),
        Kind.ENUM: pa.string(),
        Kind.SFIXED32: pa.int32(),
        Kind.SFIXED64: pa.int64(),
        Kind.SINT32: pa.int32(),
        Kind.SINT64: pa.int64(),
    }
)

_GOOGLE = "google.protobuf."
_WRAPPERS = frozenset(
    f"{_GOOGLE}{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_JSON_MESSAGES = frozenset(f"{_GOOGLE}{name}" for name in ("Struct", "Value", "ListValue"))


class Shape(Enum):
    """How one occurrence of a field is read."""

    LEAF = auto()
    STRUCT = auto()
    WRAPPER = auto()
    TIMESTAMP = auto()
    JSON = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A field and the column that it becomes.

    Attributes:
        shape: Of one element, where the field is repeated or a map.
        element: Type of one element; Arrow's null type for `NOTHING`.
        type: Of the column.
        path: For messages.
        parts: Of a message that is a struct, and of a map's entry.
    """

    field: MessageField
    shape: Shape
    element: pa.DataType
    type: pa.DataType
    path: str
    parts: tuple["Column", ...] = ()

    @property
    def is_map(self) -> bool:
        """Whether the field is a map."""
        return self.field.message is not None and self.field.message.is_entry

    @property
    def is_stored(self) -> bool:
        """Whether there is a column."""
        return self.shape is not Shape.NOTHING

    @property
    def as_field(self) -> "pa.Field[Any]":
        """The column itself, optional, known by its number."""
        never_null = self.field.is_repeated or self.field.presence is not Presence.NULL
        identity = Identity(str(self.field.number))
        return identified(pa.field(self.field.name, self.type), identity, never_null=never_null)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A message type and its columns."""

    message: Message
    columns: tuple[Column, ...]

    @property
    def fields(self) -> "list[pa.Field[Any]]":
        """The columns that hold something."""
        return [column.as_field for column in self.columns if column.is_stored]


def plan_message(message: Message) -> Row:
    """Return how messages of a type become rows.

    Raises:
        UnusableSchemaError: It has no column, or nests too deep.

    """
    row = Row(message, _plan_fields(message, "", ()))
    if not row.fields:
        error = f"message={message.name} has no field that holds anything"
        raise UnusableSchemaError(error)
    if len({name.casefold() for name in (f.name for f in row.fields)}) < len(row.fields):
        error = f"message={message.name} has fields that differ only in letter case"
        raise UnusableSchemaError(error)
    return row


def _plan_fields(message: Message, path: str, around: tuple[Message, ...]) -> tuple[Column, ...]:
    if len(around) > NESTING_MAX:
        error = f"the schema nests deeper than levels={NESTING_MAX}"
        raise UnusableSchemaError(error)
    prefix = f"{path}." if path else ""
    return tuple(_plan(f, f"{prefix}{f.name}", (*around, message)) for f in message.fields)


def _plan(field: MessageField, path: str, around: tuple[Message, ...]) -> Column:
    if field.message is not None and field.message.is_entry:
        return _plan_map(field, field.message, path, around)
    shape, element, parts = _plan_element(field, path, around)
    type_ = element
    if field.is_repeated and shape is not Shape.NOTHING:
        type_ = pa.list_(pa.field("element", element))
    return Column(field, shape, element, type_, path, parts)


def _plan_element(
    field: MessageField, path: str, around: tuple[Message, ...]
) -> tuple[Shape, pa.DataType, tuple[Column, ...]]:
    message = field.message
    if message is None:
        return Shape.LEAF, _TYPES[field.kind], ()
    if message.name == f"{_GOOGLE}Timestamp":
        parts = _plan_fields(message, path, around)
        return Shape.TIMESTAMP, pa.timestamp("us", tz="UTC"), parts
    if message.name in _WRAPPERS:
        parts = _plan_fields(message, path, around)
        return Shape.WRAPPER, parts[0].type, parts
    if message.name in _JSON_MESSAGES or message in around:
        return Shape.JSON, pa.string(), ()
    parts = _plan_fields(message, path, around)
    fields = [part.as_field for part in parts if part.is_stored]
    if not fields:
        return Shape.NOTHING, pa.null(), parts
    return Shape.STRUCT, pa.struct(fields), parts


def _plan_map(
    field: MessageField, entry: Message, path: str, around: tuple[Message, ...]
) -> Column:
    key, value = entry.fields
    inside = (*around, entry)
    parts = (_plan(key, f"{path}{{}}", inside), _plan(value, f"{path}{{}}", inside))
    if not parts[1].is_stored:
        return Column(field, Shape.NOTHING, pa.null(), pa.null(), path, parts)
    item = pa.field("value", parts[1].type)
    type_ = map_type(pa.field("key", parts[0].type, nullable=False), item)
    fields = [pa.field("key", parts[0].type), item]
    return Column(field, Shape.STRUCT, pa.struct(fields), type_, path, parts)
