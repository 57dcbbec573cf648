"""Iceberg's types as plain values, of no library: what a pipeline file can say about columns.

`type_texts` reads and writes them, `arrow_types` turns them into Arrow's and back.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

DECIMAL_PRECISION_MAX = 38

FIXED_BYTES_MAX = 2**31 - 1


class PrimitiveType(Enum):
    """A type without parameters; its value is its name."""

    BOOLEAN = "boolean"
    INT = "int"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    STRING = "string"
    BINARY = "binary"
    UUID = "uuid"


@dataclass(frozen=True, slots=True)
class DecimalType:
    """Numbers of `precision` digits, `scale` of them behind the point."""

    precision: int
    scale: int

    def __post_init__(self) -> None:
        """Reject what Iceberg does not have: the caller has a bug."""
        assert 0 <= self.scale <= self.precision
        assert 1 <= self.precision <= DECIMAL_PRECISION_MAX


@dataclass(frozen=True, slots=True)
class FixedType:
    """Exactly `byte_count` bytes."""

    byte_count: int

    def __post_init__(self) -> None:
        """Reject what Iceberg does not have: the caller has a bug."""
        assert 1 <= self.byte_count <= FIXED_BYTES_MAX


@dataclass(frozen=True, slots=True)
class ListType:
    """Any number of elements of one type."""

    element: "IcebergType"
    element_required: bool = False


@dataclass(frozen=True, slots=True)
class MapType:
    """Values by key; a key is always required."""

    key: "IcebergType"
    value: "IcebergType"
    value_required: bool = False


@dataclass(frozen=True, slots=True)
class IcebergField:
    """A column of a table, or a field of a struct."""

    name: str
    type: "IcebergType"
    required: bool = False
    doc: str | None = None


@dataclass(frozen=True, slots=True)
class StructType:
    """Fields in order, at least one; their names differ in more than letter case."""

    fields: tuple[IcebergField, ...]

    def __post_init__(self) -> None:
        """Reject an empty struct: the caller has a bug."""
        assert self.fields


IcebergType: TypeAlias = PrimitiveType | DecimalType | FixedType | ListType | MapType | StructType

TIMESTAMP_TYPES = frozenset({PrimitiveType.TIMESTAMP, PrimitiveType.TIMESTAMPTZ})


def is_nested(type_: IcebergType) -> bool:
    """Tell whether values of the type hold values of other types."""
    return isinstance(type_, ListType | MapType | StructType)
