"""What must change in a table so that rows of another schema fit, and who allows it.

`diff` compares, `SchemaDiff.refusals` judges by the pipeline's policy, `apply` gives the schema
after it. Column names are compared exactly; two that differ only in letter case are refused,
because half of all engines could then not tell them apart. What makes a column the same under
another name is in `identity`; a name that a column had once is never given to it again, so that
producers of an older and a newer schema do not rename it to and fro.

| the rows have | the table has | change | strict | add_columns | full |
|---|---|---|---|---|---|
| a column | – | AddColumn | no | yes | yes |
| long, double, more digits | int, float, fewer digits | Widen | no | yes | yes |
| an optional column | a required one | MakeOptional | no | no | yes |
| – | a required column | MakeOptional | no | no | yes |
| a column under another name | a column | Rename | no | no | yes |
| a number or a former name of a column | the column without it | Identify | no | no | yes |
| int, float, fewer digits | long, double, more digits | none: they fit | | | |
| – | an optional column | none: null | | | |
| a column under a name that it had before | a column | none: it is known | | | |
| anything else | | Incompatible | no | no | no |
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from k2i_core.errors import ConfigError
from k2i_core.schema.arrow_types import arrow_type_text
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.schema.identity import (
    NO_IDENTITY,
    Identity,
    clashes,
    identified,
    identity_of,
    is_never_null,
    map_type,
    matched,
)
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
    identity: Identity = NO_IDENTITY

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
    """Let a required column be null.

    Attributes:
        is_missing: The rows do not have it at all.
    """

    path: SchemaPath
    is_missing: bool = False

    def __str__(self) -> str:
        reason = ", which the rows lack" if self.is_missing else ""
        return f"make {path_text(self.path)} optional{reason}"


@dataclass(frozen=True, slots=True)
class Rename:
    """Give a column another name; whatever was written under the old one still goes there."""

    path: SchemaPath
    name: str

    def __str__(self) -> str:
        return f"rename {path_text(self.path)} to {self.name}"


@dataclass(frozen=True, slots=True)
class Identify:
    """Note what the writers know of a column, to know it under another name.

    Attributes:
        identity: All that is known of it then.
    """

    path: SchemaPath
    identity: Identity

    def __str__(self) -> str:
        number, names = self.identity.identity, self.identity.former_names
        number_text = [] if number is None else [f"is field {number}"]
        names_text = [f"was {', '.join(names)}"] if names else []
        return f"note that {path_text(self.path)} {' and '.join(number_text + names_text)}"


@dataclass(frozen=True, slots=True)
class Incompatible:
    """No change of the table makes the rows fit."""

    path: SchemaPath
    reason: str

    def __str__(self) -> str:
        return f"{path_text(self.path)}: {self.reason}"


Change: TypeAlias = AddColumn | Widen | MakeOptional | Rename | Identify
"""Paths are in the names before all changes, but for the last name of a column that is added."""

_ALLOWED: dict[SchemaEvolution, tuple[type, ...]] = {
    SchemaEvolution.STRICT: (),
    SchemaEvolution.ADD_COLUMNS: (AddColumn, Widen),
    SchemaEvolution.FULL: (AddColumn, Widen, MakeOptional, Rename, Identify),
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
    by_identity: bool = False,
) -> SchemaDiff:
    """Compare a table's schema with the one that rows need.

    Args:
        current: The table's columns; `large_` and other layouts count as their plain types.
        wanted: The rows' columns. Both sides with `_kafka`, or both without.
        table_is_empty: No row was ever written, so that a required column can be added.
        by_identity: Columns are known under other names, too.

    Returns:
        Changes in the order of `wanted`.

    """
    comparing = _Comparing(table_is_empty, by_identity)
    found = list(comparing.fields((), list(current), list(wanted)))
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
    # The deepest renames last, because all paths are in the names from before.
    renames = [change for change in schema_diff.changes if isinstance(change, Rename)]
    others = [change for change in schema_diff.changes if not isinstance(change, Rename)]
    for change in (*others, *sorted(renames, key=lambda rename: -len(rename.path))):
        fields = _change_fields(fields, change.path, change)
    changed = pa.schema(fields)
    return changed.with_metadata(current.metadata) if current.metadata else changed


@dataclass(frozen=True, slots=True)
class _Comparing:
    table_is_empty: bool
    by_identity: bool

    def fields(
        self, path: SchemaPath, current: _Fields, wanted: _Fields
    ) -> Iterator[Change | Incompatible]:
        found = matched(current, wanted, by_identity=self.by_identity)
        reasons = clashes(current, wanted, found, by_identity=self.by_identity)
        names = {field.name for field in (*current, *wanted)}
        for field in {field.name: field for field in wanted}.values():
            if field.name in reasons:
                yield Incompatible((*path, field.name), reasons[field.name])
            elif field.name in found:
                column = found[field.name]
                yield from self.field((*path, column.name), column, field, names)
            else:
                yield from self._added((*path, field.name), field, names)
        kept = {field.name for field in found.values()}
        for field in current:
            if field.name not in kept and not field.nullable:
                yield MakeOptional((*path, field.name), is_missing=True)

    def field(
        self,
        path: SchemaPath,
        current: "pa.Field[Any]",
        wanted: "pa.Field[Any]",
        names: AbstractSet[str] = frozenset(),
    ) -> Iterator[Change | Incompatible]:
        if self.by_identity and _is_renamed(current, wanted):
            yield Rename(path, wanted.name)
        known = identity_of(current)
        learned = _learned(known, identity_of(wanted), names)
        if self.by_identity and learned != known:
            yield Identify(path, learned)
        # A field that is null in all rows fits any optional column and tells nothing of its type.
        always_null = pa.types.is_null(wanted.type)
        may_be_null = always_null or (wanted.nullable and not is_never_null(wanted))
        if not current.nullable and may_be_null:
            yield MakeOptional(path)
        if not always_null:
            yield from self._type(path, current.type, wanted.type)

    def _added(
        self, path: SchemaPath, field: "pa.Field[Any]", names: AbstractSet[str]
    ) -> Iterator[Change | Incompatible]:
        try:
            type_ = clean_inferred_type(field.type)
        except ConfigError as error:
            yield Incompatible(path, str(error))
            return
        if type_ is None:
            return
        if not field.nullable and not self.table_is_empty:
            reason = "a required column cannot be added, rows so far have no value"
            yield Incompatible(path, reason)
            return
        learned = _learned(NO_IDENTITY, identity_of(field), names)
        identity = learned if self.by_identity else NO_IDENTITY
        yield AddColumn(path, type_, required=not field.nullable, identity=identity)

    def _type(
        self, path: SchemaPath, current: pa.DataType, wanted: pa.DataType
    ) -> Iterator[Change | Incompatible]:
        if isinstance(current, pa.StructType) and isinstance(wanted, pa.StructType):
            yield from self.fields(path, list(current), list(wanted))
        elif (table := _element_field(current)) and (rows := _element_field(wanted)):
            yield from self.field((*path, "element"), table, rows)
        elif isinstance(current, pa.MapType) and isinstance(wanted, pa.MapType):
            key_path, value_path = (*path, "key"), (*path, "value")
            if any(self._type(key_path, current.key_type, wanted.key_type)):
                yield Incompatible(key_path, _mismatch(current.key_type, wanted.key_type))
            yield from self.field(value_path, current.item_field, wanted.item_field)
        else:
            yield from _diff_primitive(path, current, wanted)


def _learned(known: Identity, given: Identity, names: AbstractSet[str]) -> Identity:
    """Return what is known of a column with what its writer tells; other columns' names are not."""
    more = [n for n in given.former_names if n not in known.former_names and n not in names]
    identity = given.identity if known.identity is None else known.identity
    return Identity(identity, (*known.former_names, *more))


def _is_renamed(current: "pa.Field[Any]", wanted: "pa.Field[Any]") -> bool:
    """Tell whether the rows' name is to be the column's; not for one that it had before."""
    known, given = identity_of(current), identity_of(wanted)
    if wanted.name == current.name or wanted.name in known.former_names:
        return False
    is_same = known.identity is not None and known.identity == given.identity
    return is_same or bool({current.name, *known.former_names} & set(given.former_names))


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
        added = pa.field(name, change.type, nullable=not change.required)
        return [*fields, identified(added, change.identity)]
    return [
        _change_field(field, tuple(rest), change) if field.name == name else field
        for field in fields
    ]


def _change_field(field: "pa.Field[Any]", path: SchemaPath, change: Change) -> "pa.Field[Any]":
    if path:
        return field.with_type(_change_type(field.type, path, change))
    known = identity_of(field)
    match change:
        case Widen():
            return field.with_type(change.after)
        case MakeOptional():
            return field.with_nullable(True)  # noqa: FBT003 - Arrow takes no keyword here
        case Rename():
            former = Identity(known.identity, (field.name, *known.former_names))
            return identified(field, former).with_name(change.name)
        case Identify():
            return identified(field, change.identity)
        case AddColumn():
            raise AssertionError(change)


def _change_type(type_: pa.DataType, path: SchemaPath, change: Change) -> pa.DataType:
    inner = path[1:]
    if isinstance(type_, pa.StructType):
        return pa.struct(_change_fields(list(type_), path, change))
    if isinstance(type_, pa.ListType):
        return pa.list_(_change_field(type_.value_field, inner, change))
    if isinstance(type_, pa.LargeListType):
        return pa.large_list(_change_field(type_.value_field, inner, change))
    assert isinstance(type_, pa.MapType)
    return map_type(type_.key_field, _change_field(type_.item_field, inner, change))
