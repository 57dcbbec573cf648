"""How rows are laid out in a table: partition fields and sort fields, and the texts they come from.

| text | accepts columns of type |
|---|---|
| `col`, `identity(col)` | any but list, map and struct |
| `bucket(n, col)` | int, long, decimal, date, time, timestamp(tz), string, binary, fixed, uuid |
| `truncate(w, col)` | int, long, decimal, string, binary |
| `year(col)`, `month(col)`, `day(col)` | date, timestamp, timestamptz |
| `hour(col)` | timestamp, timestamptz |
| `void(col)` | any |

A column inside structs is written with dots. Source: partition transforms of the Iceberg spec.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from k2i_core.config.problems import quoted
from k2i_core.errors import ConfigError
from k2i_core.schema.iceberg_types import (
    TIMESTAMP_TYPES,
    DecimalType,
    IcebergField,
    IcebergType,
    PrimitiveType,
    StructType,
    is_nested,
)
from k2i_core.schema.type_texts import parse_name, type_text

ARGUMENT_MAX = 2**31 - 1

TIME_TRANSFORMS = ("year", "month", "day", "hour")

_PARTITION_FORMS = (
    "a column name, bucket(n, col), truncate(w, col), year(col), month(col), day(col), hour(col), "
    "void(col)"
)

_CALL = re.compile(r"\s*(\w+)\s*\((.*)\)\s*", re.DOTALL)

_ARGUMENT = re.compile(r"\s*([0-9]{1,10})\s*,(.*)", re.DOTALL)

_SORT = re.compile(
    r"""
    \s* (?P<column> `(?:[^`]|``)+` | \S+ )
    (?: \s+ (?P<order> asc | desc) )?
    (?: \s+ nulls \s+ (?P<nulls> first | last) )? \s*
    """,
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class PartitionField:
    """One field of the partition spec.

    Attributes:
        transform: identity, bucket, truncate, year, month, day, hour or void.
        column: Source column; dots lead into structs.
        argument: Number of buckets, or width; None for the others.
    """

    transform: str
    column: str
    argument: int | None = None

    @property
    def name(self) -> str:
        """Name in the partition spec, as other Iceberg writers choose it."""
        match self.transform:
            case "identity":
                return self.column
            case "bucket":
                return f"{self.column}_bucket_{self.argument}"
            case "truncate":
                return f"{self.column}_trunc_{self.argument}"
            case "void":
                return f"{self.column}_null"
            case unit:
                return f"{self.column}_{unit}"

    def __str__(self) -> str:
        if self.transform == "identity":
            return _column_text(self.column)
        argument = "" if self.argument is None else f"{self.argument}, "
        return f"{self.transform}({argument}{_column_text(self.column)})"

    @classmethod
    def parse(cls, text: str) -> "PartitionField":
        """Read a partition field.

        Raises:
            ValueError: The text is no transform of a column.

        """
        call = _CALL.fullmatch(text)
        transform, inside = (call[1], call[2]) if call else ("identity", text)
        argument = _ARGUMENT.fullmatch(inside) if transform in ("bucket", "truncate") else None
        count = int(argument[1]) if argument else None
        column = _column_name(argument[2] if argument else inside)
        takes_argument = transform in ("bucket", "truncate")
        if transform not in _ACCEPTED or column is None or takes_argument != (count is not None):
            message = f"{quoted(text)} is not a transform; allowed: {_PARTITION_FORMS}"
            raise ValueError(message)
        if count is not None and not 1 <= count <= ARGUMENT_MAX:
            message = f"{quoted(text)} needs a number from 1 to {ARGUMENT_MAX}"
            raise ValueError(message)
        return cls(transform, column, count)

    def refusal(self, source_type: IcebergType) -> str | None:
        """Say why a column of this type cannot be the source; None when it can."""
        accepts, names = _ACCEPTED[self.transform]
        if accepts(source_type):
            return None
        return f"{self.transform} takes {names}, {self.column} is {type_text(source_type)}"


@dataclass(frozen=True, slots=True)
class SortField:
    """One field of the sort order.

    Attributes:
        column: Column the rows are ordered by; dots lead into structs.
        descending: Largest first.
        nulls_first: Nulls before all values; by default exactly when ascending, as in Iceberg.
    """

    column: str
    descending: bool = False
    nulls_first: bool = True

    def __str__(self) -> str:
        order = " desc" if self.descending else ""
        nulls = "first" if self.nulls_first else "last"
        suffix = f" nulls {nulls}" if self.nulls_first == self.descending else ""
        return f"{_column_text(self.column)}{order}{suffix}"

    @classmethod
    def parse(cls, text: str) -> "SortField":
        """Read a sort field.

        Raises:
            ValueError: The text is no column with an order.

        """
        match = _SORT.fullmatch(text)
        column = _column_name(match["column"]) if match else None
        if match is None or column is None:
            message = (
                f'{quoted(text)} is not a sort field; write "col", "col desc" or '
                '"col desc nulls last"'
            )
            raise ValueError(message)
        descending = (match["order"] or "asc").lower() == "desc"
        nulls = (match["nulls"] or ("last" if descending else "first")).lower()
        return cls(column, descending, nulls == "first")


def column_type(columns: Sequence[IcebergField], column: str) -> IcebergType | None:
    """Return the type of a column, or of a field inside its structs; None when it is not there."""
    types = {field.name: field.type for field in columns}
    if column in types:
        return types[column]
    *parents, last = column.split(".")
    for name in parents:
        parent = types.get(name)
        fields = parent.fields if isinstance(parent, StructType) else ()
        types = {field.name: field.type for field in fields}
    return types.get(last)


def _column_name(text: str) -> str | None:
    try:
        return parse_name(text)
    except ConfigError:
        return None


def _column_text(column: str) -> str:
    return column if _column_name(column) == column else "`" + column.replace("`", "``") + "`"


def _is_primitive(type_: IcebergType) -> bool:
    return not is_nested(type_)


def _is_timestamp(type_: IcebergType) -> bool:
    return type_ in TIMESTAMP_TYPES


def _is_date_or_timestamp(type_: IcebergType) -> bool:
    return type_ is PrimitiveType.DATE or _is_timestamp(type_)


def _is_truncatable(type_: IcebergType) -> bool:
    return type_ in _TRUNCATABLE or isinstance(type_, DecimalType)


def _is_bucketable(type_: IcebergType) -> bool:
    return _is_primitive(type_) and type_ not in _INEXACT


_TRUNCATABLE = frozenset(
    {PrimitiveType.INT, PrimitiveType.LONG, PrimitiveType.STRING, PrimitiveType.BINARY}
)

_INEXACT = frozenset({PrimitiveType.BOOLEAN, PrimitiveType.FLOAT, PrimitiveType.DOUBLE})

_ACCEPTED: Mapping[str, tuple[Callable[[IcebergType], bool], str]] = MappingProxyType(
    {
        "identity": (_is_primitive, "any type but list, map and struct"),
        "bucket": (
            _is_bucketable,
            "int, long, decimal, date, time, timestamp, timestamptz, string, binary, fixed, uuid",
        ),
        "truncate": (_is_truncatable, "int, long, decimal, string, binary"),
        "year": (_is_date_or_timestamp, "date, timestamp, timestamptz"),
        "month": (_is_date_or_timestamp, "date, timestamp, timestamptz"),
        "day": (_is_date_or_timestamp, "date, timestamp, timestamptz"),
        "hour": (_is_timestamp, "timestamp, timestamptz"),
        "void": (lambda _: True, "any type"),
    }
)
