"""What a step of a transform is, and the steps that only move columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2i_core.errors import ConfigError
from k2i_core.records import KAFKA_TYPE

Integers: TypeAlias = npt.NDArray[np.int64]
Fault: TypeAlias = tuple[str, str]
"""Error class and message."""

_Column: TypeAlias = "pa.Array[Any]"
_Maker: TypeAlias = Callable[[pa.RecordBatch, pa.StructArray], _Column]


class NameTakenError(ConfigError):
    """A step makes a column that is there already.

    Attributes:
        column: The one that is there.
    """

    def __init__(self, column: str, key: str | None = None) -> None:
        reason = f'"{column}" is a column already; drop or rename that one first'
        super().__init__(reason if key is None else f"{key}: {reason}")
        self.column = column


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step made of n rows.

    Attributes:
        rows: m rows × the step's columns.
        places: Which of the n each of them is made of, ascending; several are made of one where the
            step makes several. None where each is made of its own.
        faults: Which of the others failed; the rest of them is filtered.
    """

    rows: pa.RecordBatch
    places: Integers | None = None
    faults: Mapping[int, Fault] = field(default_factory=dict[int, Fault])


class Step(Protocol):
    """One step, made for rows of one schema; thread-safe."""

    @property
    def schema(self) -> pa.Schema:
        """The columns that it leaves."""
        ...

    def apply(self, rows: pa.RecordBatch, origin: pa.StructArray) -> Outcome:
        """Make n rows of the schema before it into rows of its own.

        Args:
            rows: n rows.
            origin: n elements × KAFKA_TYPE: where they come from.

        """
        ...


class Columns:
    """A step that makes each column by itself, and cannot fail."""

    def __init__(self, fields: "Sequence[pa.Field[Any]]", makers: Sequence[_Maker]) -> None:
        self._schema = pa.schema(fields)
        self._makers = makers

    @property
    def schema(self) -> pa.Schema:
        """The columns that it leaves."""
        return self._schema

    def apply(self, rows: pa.RecordBatch, origin: pa.StructArray) -> Outcome:
        """Make the columns."""
        made = [make(rows, origin) for make in self._makers]
        return Outcome(pa.RecordBatch.from_arrays(made, schema=self._schema))


def rename(schema: pa.Schema, names: Mapping[str, str]) -> Step:
    """Give columns other names."""
    for name in names:
        check_column(schema, name)
    fields = [column.with_name(names.get(column.name, column.name)) for column in schema]
    check_distinct([column.name for column in schema if column.name not in names], names.values())
    return Columns(fields, [_taken(index) for index in range(len(fields))])


def drop(schema: pa.Schema, names: Sequence[str]) -> Step:
    """Leave columns out."""
    for name in names:
        check_column(schema, name)
    return _picked(schema, [name for name in schema.names if name not in names])


def keep(schema: pa.Schema, names: Sequence[str]) -> Step:
    """Leave all other columns out; the order stays."""
    for name in names:
        check_column(schema, name)
    return _picked(schema, [name for name in schema.names if name in names])


def constant(schema: pa.Schema, values: "Mapping[str, str | int | float | bool]") -> Step:
    """Add columns that are the same in every row."""
    check_distinct(schema.names, values)
    scalars = [_scalar(value) for value in values.values()]
    fields = [pa.field(name, scalar.type) for name, scalar in zip(values, scalars, strict=True)]
    return _appended(schema, fields, [_repeated(scalar) for scalar in scalars])


def kafka(schema: pa.Schema, names: Mapping[str, str]) -> Step:
    """Add columns of where the record comes from: part → name."""
    check_distinct(schema.names, names.values())
    # All optional, because a table that has rows gets no required column.
    fields = [pa.field(name, KAFKA_TYPE.field(part).type) for part, name in names.items()]
    return _appended(schema, fields, [_part(part) for part in names])


def flatten(schema: pa.Schema, names: Sequence[str]) -> Step:
    """Put the fields of structs, called column_field, where the struct was."""
    fields: list[pa.Field[Any]] = []
    makers: list[_Maker] = []
    for name in names:
        type_ = schema.field(check_column(schema, name)).type
        if not pa.types.is_struct(type_):
            message = f'"{name}" is no struct, so there is nothing to flatten'
            raise ConfigError(message)
    for index, column in enumerate(schema):
        if column.name not in names:
            fields.append(column)
            makers.append(_taken(index))
            continue
        for path, leaf in _leaves(column):
            fields.append(leaf)
            makers.append(_inside(index, path))
    check_distinct([], [column.name for column in fields])
    return Columns(fields, makers)


def check_column(schema: pa.Schema, name: str) -> int:
    """Return where a column is.

    Raises:
        ConfigError: There is none of this name.

    """
    if name not in schema.names:
        message = f'"{name}" is not a column here; columns: {", ".join(schema.names)}'
        raise ConfigError(message)
    return schema.names.index(name)


def check_distinct(names: Sequence[str], more: "Sequence[str] | Mapping[str, Any] | Any") -> None:  # noqa: ANN401 - any names
    """Refuse names that are there, letter case aside, as in every table."""
    seen = {name.casefold(): name for name in names}
    for name in more:
        if name.casefold() in seen:
            raise NameTakenError(seen[name.casefold()])
        seen[name.casefold()] = name


def _picked(schema: pa.Schema, names: Sequence[str]) -> Step:
    if not names:
        message = "no column is left"
        raise ConfigError(message)
    indices = [schema.names.index(name) for name in names]
    return Columns([schema.field(index) for index in indices], [_taken(index) for index in indices])


def _appended(
    schema: pa.Schema, fields: "Sequence[pa.Field[Any]]", makers: Sequence[_Maker]
) -> Step:
    kept = [_taken(index) for index in range(len(schema.names))]
    return Columns([*schema, *fields], [*kept, *makers])


def _taken(index: int) -> _Maker:
    def take(rows: pa.RecordBatch, _: pa.StructArray) -> _Column:
        return rows.column(index)

    return take


def _repeated(scalar: Any) -> _Maker:  # noqa: ANN401 - the stubs repeat no scalar of any type
    def repeat(rows: pa.RecordBatch, _: pa.StructArray) -> _Column:
        return pa.repeat(scalar, rows.num_rows)

    return repeat


def _part(name: str) -> _Maker:
    def part(_: pa.RecordBatch, origin: pa.StructArray) -> _Column:
        return origin.field(name)

    return part


def _inside(index: int, path: Sequence[int]) -> _Maker:
    def make(rows: pa.RecordBatch, _: pa.StructArray) -> _Column:
        column: Any = rows.column(index)
        for place in path:
            # Not `field`, because below a null struct may lie anything.
            column = column.flatten()[place]
        return column

    return make


def _leaves(column: "pa.Field[Any]") -> "list[tuple[tuple[int, ...], pa.Field[Any]]]":
    if not isinstance(column.type, pa.StructType):
        return [((), column)]
    found: list[tuple[tuple[int, ...], pa.Field[Any]]] = []
    for place, child in enumerate(column.type):
        # Below a null struct is nothing, so only what is required all the way down stays so.
        is_optional = column.nullable or child.nullable
        named = child.with_name(f"{column.name}_{child.name}").with_nullable(is_optional)
        found += [((place, *path), leaf) for path, leaf in _leaves(named)]
    return found


def _scalar(value: "str | float | bool") -> "pa.Scalar[Any]":
    if isinstance(value, bool):
        return pa.scalar(value, pa.bool_())
    if isinstance(value, int):
        return pa.scalar(value, pa.int64())
    if isinstance(value, float):
        return pa.scalar(value, pa.float64())
    return pa.scalar(value, pa.string())
