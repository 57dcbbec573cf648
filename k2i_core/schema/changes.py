"""What must change in a table so that rows of another schema fit, and who allows it.

`diff` compares, `SchemaDiff.refusals` judges by the pipeline's policy, `apply` gives the schema
after it. Column names are compared exactly; two that differ only in letter case are refused,
because half of all engines could then not tell them apart.

| the rows have | the table has | change | strict | add_columns | full |
|---|---|---|---|---|---|
| a column | – | AddColumn | no | yes | yes |
| long, double, more digits | int, float, fewer digits | Widen | no | yes | yes |
| an optional column | a required one | MakeOptional | no | no | yes |
| int, float, fewer digits | long, double, more digits | none: they fit | | | |
| – | an optional column | none: null | | | |
| anything else | | Incompatible | no | no | no |
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from k2i_core.errors import ConfigError
from k2i_core.schema.arrow_types import arrow_type_text
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.schema.inferred import clean_inferred_type

SchemaPath: TypeAlias = tuple[str, ...]
"""Names from a top-level column down; `element`, `key` and `value` inside lists and maps."""

_Fields: TypeAlias = "Sequence[pa.Field[Any]]"


@dataclass(frozen=True, slots=True)
class AddColumn:
    """Append a column, or a field of a struct; its rows so far read null."""

    path: SchemaPath
    type: pa.DataType
    required: bool = False

    def __str__(self) -> str:
        suffix = " not null" if self.required else ""
        return f"add column {path_text(self.path)} {arrow_type_text(self.type)}{suffix}"


@dataclass(frozen=True, slots=True)
class Widen:
    """Give a column a type that holds all values of its old one."""

    path: SchemaPath
    before: pa.DataType
    after: pa.DataType

    def __str__(self) -> str:
        before, after = arrow_type_text(self.before), arrow_type_text(self.after)
        return f"widen {path_text(self.path)} from {before} to {after}"


@dataclass(frozen=True, slots=True)
class MakeOptional:
    """Let a required column be null."""

    path: SchemaPath

    def __str__(self) -> str:
        return f"make {path_text(self.path)} optional"


@dataclass(frozen=True, slots=True)
class Incompatible:
    """No change of the table makes the rows fit."""

    path: SchemaPath
    reason: str

    def __str__(self) -> str:
        return f"{path_text(self.path)}: {self.reason}"


Change: TypeAlias = AddColumn | Widen | MakeOptional


_ALLOWED: dict[SchemaEvolution, tuple[type, ...]] = {
    SchemaEvolution.STRICT: (),
    SchemaEvolution.ADD_COLUMNS: (AddColumn, Widen),
    SchemaEvolution.FULL: (AddColumn, Widen, MakeOptional),
}


@dataclass(frozen=True, slots=True)
class SchemaDiff:
    """Everything between a table's schema and the one that rows need; empty when they fit."""

    changes: tuple[Change, ...] = ()
    incompatibilities: tuple[Incompatible, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Tell whether the rows fit the table as it is."""
        return not self.changes and not self.incompatibilities

    def refusals(self, policy: SchemaEvolution) -> tuple[str, ...]:
        """Say, one line each, what `policy` does not allow; nothing when all is allowed."""
        refused = [change for change in self.changes if not isinstance(change, _ALLOWED[policy])]
        return (
            *(str(incompatible) for incompatible in self.incompatibilities),
            *(f"{change}: not allowed by schema_evolution={policy}" for change in refused),
        )

    def is_allowed(self, policy: SchemaEvolution) -> bool:
        """Tell whether `policy` allows all of it."""
        return not self.refusals(policy)


def path_text(path: SchemaPath) -> str:
    """Write a path for people."""
    return ".".join(path)


def diff(
    current: pa.Schema,
    wanted: pa.Schema,
    *,
    table_is_empty: bool = False,
) -> SchemaDiff:
    """Compare a table's schema with the one that rows need.

    Args:
        current: The table's columns; `large_` and other layouts count as their plain types.
        wanted: The rows' columns. Both sides with `_kafka`, or both without.
        table_is_empty: No row was ever written, so that a required column can be added.

    Returns:
        Changes in the order of `wanted`.

    """
    found = list(_diff_fields((), list(current), list(wanted), table_is_empty=table_is_empty))
    return SchemaDiff(
        changes=tuple(change for change in found if not isinstance(change, Incompatible)),
        incompatibilities=tuple(change for change in found if isinstance(change, Incompatible)),
    )


def apply(current: pa.Schema, schema_diff: SchemaDiff) -> pa.Schema:
    """Return the table's schema after all changes; added columns come last at their level.

    Metadata of fields that stay is kept, so a field id survives.
    """
    assert not schema_diff.incompatibilities, "the caller must refuse these"
    fields = list(current)
    for change in schema_diff.changes:
        fields = _change_fields(fields, change.path, change)
    changed = pa.schema(fields)
    return changed.with_metadata(current.metadata) if current.metadata else changed


def _diff_fields(
    path: SchemaPath,
    current: _Fields,
    wanted: _Fields,
    *,
    table_is_empty: bool,
) -> Iterator[Change | Incompatible]:
    clashes = dict(_name_clashes(current, wanted))
    existing = {field.name: field for field in current}
    for field in {field.name: field for field in wanted}.values():
        field_path = (*path, field.name)
        if field.name in clashes:
            yield Incompatible(field_path, clashes[field.name])
        elif field.name in existing:
            yield from _diff_field(
                field_path, existing[field.name], field, table_is_empty=table_is_empty
            )
        else:
            yield from _added(field_path, field, table_is_empty=table_is_empty)
    names = {field.name for field in wanted}
    for field in current:
        if field.name not in names and not field.nullable:
            yield Incompatible((*path, field.name), "the table requires it, the rows lack it")


def _name_clashes(current: _Fields, wanted: _Fields) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {field.name.casefold(): field.name for field in current}
    repeated: set[str] = set()
    for field in wanted:
        first = seen.setdefault(field.name.casefold(), field.name)
        if first != field.name:
            yield field.name, f'differs only in letter case from "{first}"'
        if field.name in repeated:
            yield field.name, "is there twice"
        repeated.add(field.name)


def _added(
    path: SchemaPath, field: "pa.Field[Any]", *, table_is_empty: bool
) -> Iterator[Change | Incompatible]:
    try:
        type_ = clean_inferred_type(field.type)
    except ConfigError as error:
        yield Incompatible(path, str(error))
        return
    if type_ is None:
        return
    if not field.nullable and not table_is_empty:
        yield Incompatible(path, "a required column cannot be added, rows so far have no value")
        return
    yield AddColumn(path, type_, required=not field.nullable)


def _diff_field(
    path: SchemaPath,
    current: "pa.Field[Any]",
    wanted: "pa.Field[Any]",
    *,
    table_is_empty: bool,
) -> Iterator[Change | Incompatible]:
    # A field that is null in all rows fits any optional column and tells nothing about its type.
    always_null = pa.types.is_null(wanted.type)
    if not current.nullable and (wanted.nullable or always_null):
        yield MakeOptional(path)
    if not always_null:
        yield from _diff_type(path, current.type, wanted.type, table_is_empty=table_is_empty)


def _diff_type(
    path: SchemaPath, current: pa.DataType, wanted: pa.DataType, *, table_is_empty: bool
) -> Iterator[Change | Incompatible]:
    if isinstance(current, pa.StructType) and isinstance(wanted, pa.StructType):
        fields = list(current), list(wanted)
        yield from _diff_fields(path, *fields, table_is_empty=table_is_empty)
    elif (table := _element_field(current)) and (rows := _element_field(wanted)):
        yield from _diff_field((*path, "element"), table, rows, table_is_empty=table_is_empty)
    elif isinstance(current, pa.MapType) and isinstance(wanted, pa.MapType):
        key_path, value_path = (*path, "key"), (*path, "value")
        keys = current.key_type, wanted.key_type
        if any(_diff_type(key_path, *keys, table_is_empty=table_is_empty)):
            yield Incompatible(key_path, _mismatch(*keys))
        values = current.item_field, wanted.item_field
        yield from _diff_field(value_path, *values, table_is_empty=table_is_empty)
    else:
        yield from _diff_primitive(path, current, wanted)


def _diff_primitive(
    path: SchemaPath, current: pa.DataType, wanted: pa.DataType
) -> Iterator[Change | Incompatible]:
    try:
        before, after = clean_inferred_type(current), clean_inferred_type(wanted)
    except ConfigError as error:
        yield Incompatible(path, str(error))
        return
    if before is None or after is None:
        yield Incompatible(path, _mismatch(current, wanted))
    elif before == after or _holds(before, after):
        return
    elif _holds(after, before):
        yield Widen(path, before, after)
    else:
        yield Incompatible(path, _mismatch(current, wanted))


def _element_field(type_: pa.DataType) -> "pa.Field[Any] | None":
    if isinstance(type_, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        return type_.value_field
    return None


def _holds(wide: pa.DataType, narrow: pa.DataType) -> bool:
    """Tell whether Iceberg lets a column of type `narrow` become `wide`."""
    if isinstance(wide, pa.Decimal128Type) and isinstance(narrow, pa.Decimal128Type):
        return wide.scale == narrow.scale and wide.precision >= narrow.precision
    return (narrow, wide) in (
        (pa.int32(), pa.int64()),
        (pa.float32(), pa.float64()),
    )


def _mismatch(table_type: pa.DataType, row_type: pa.DataType) -> str:
    cleaned = [(type_, clean_inferred_type(type_)) for type_ in (table_type, row_type)]
    table, rows = (
        str(arrow) if plain is None else arrow_type_text(plain) for arrow, plain in cleaned
    )
    return f"the table has {table}, the rows have {rows}"


def _change_fields(
    fields: "list[pa.Field[Any]]", path: SchemaPath, change: Change
) -> "list[pa.Field[Any]]":
    name, *rest = path
    if not rest and isinstance(change, AddColumn):
        return [*fields, pa.field(name, change.type, nullable=not change.required)]
    return [
        _change_field(field, tuple(rest), change) if field.name == name else field
        for field in fields
    ]


def _change_field(field: "pa.Field[Any]", path: SchemaPath, change: Change) -> "pa.Field[Any]":
    if not path:
        match change:
            case Widen():
                return field.with_type(change.after)
            case MakeOptional():
                return field.with_nullable(True)  # noqa: FBT003 - Arrow takes no keyword here
            case AddColumn():
                raise AssertionError(change)
    return field.with_type(_change_type(field.type, path, change))


def _change_type(type_: pa.DataType, path: SchemaPath, change: Change) -> pa.DataType:
    inner = path[1:]
    if isinstance(type_, pa.StructType):
        return pa.struct(_change_fields(list(type_), path, change))
    if isinstance(type_, pa.ListType):
        return pa.list_(_change_field(type_.value_field, inner, change))
    if isinstance(type_, pa.LargeListType):
        return pa.large_list(_change_field(type_.value_field, inner, change))
    assert isinstance(type_, pa.MapType)
    # The stubs know only types here; Arrow takes a field too, for "not null".
    return pa.map_(type_.key_type, _change_field(type_.item_field, inner, change))  # pyright: ignore[reportArgumentType]
