"""Which column of a table a writer's field is, whatever either of them is called.

Fields carry what tells it as Arrow metadata, on the table's side and on the writer's:

| | on the table's side | on the writer's |
|---|---|---|
| `former_names` | names that the column had before | the field's before: Avro's aliases |
| `identity` | number of the field that it was made of | Protobuf's number, JSON Schema's `id` |
| `is_never_null` | – | the schema allows no null there |

Two fields of one level are the same if they have, in this order: one Iceberg field id, one name,
one identity, the writer's former name as name, the writer's name as former name, a former name in
common. Without `by_identity` only names count, the table's former ones too: records of older
producers go where their column went.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

FIELD_ID_KEY = b"PARQUET:field_id"

_IDENTITY_KEY = b"k2i.identity"
_FORMER_NAMES_KEY = b"k2i.former-names"
_NEVER_NULL_KEY = b"k2i.never-null"

AnyField: TypeAlias = "pa.Field[Any]"
AnyArray: TypeAlias = "pa.Array[Any]"
Fields: TypeAlias = "Sequence[pa.Field[Any]]"


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a field the same under another name.

    Attributes:
        identity: Unique at its level; None where the format has none.
        former_names: Latest first.
    """

    identity: str | None = None
    former_names: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Tell whether there is anything."""
        return self.identity is not None or bool(self.former_names)


NO_IDENTITY = Identity()


def identity_of(field: AnyField) -> Identity:
    """Return what the field carries."""
    metadata = field.metadata or {}
    identity = metadata.get(_IDENTITY_KEY)
    names = metadata.get(_FORMER_NAMES_KEY)
    if identity is None and names is None:
        return NO_IDENTITY
    return Identity(
        None if identity is None else identity.decode(),
        () if names is None else tuple(json.loads(names)),
    )


def is_never_null(field: AnyField) -> bool:
    """Tell whether the writer's schema allows no null there."""
    return _NEVER_NULL_KEY in (field.metadata or {})


def identified(field: AnyField, identity: Identity, *, never_null: bool = False) -> AnyField:
    """Return the field with this identity and no other; its field id stays."""
    metadata: dict[bytes | str, bytes | str] = {
        key: value
        for key, value in (field.metadata or {}).items()
        if key not in (_IDENTITY_KEY, _FORMER_NAMES_KEY, _NEVER_NULL_KEY)
    }
    if identity.identity is not None:
        metadata[_IDENTITY_KEY] = identity.identity.encode()
    if identity.former_names:
        metadata[_FORMER_NAMES_KEY] = json.dumps(identity.former_names).encode()
    if never_null:
        metadata[_NEVER_NULL_KEY] = b"true"
    return field.with_metadata(metadata) if metadata else field.remove_metadata()


def never_called(field: AnyField, names: AbstractSet[str]) -> AnyField:
    """Return the field without former names that no column of a record may have, in lower case."""
    known = identity_of(field)
    kept = tuple(name for name in known.former_names if name.casefold() not in names)
    if kept == known.former_names:
        return field
    return identified(field, Identity(known.identity, kept), never_null=is_never_null(field))


def field_id_of(field: AnyField) -> int | None:
    """Return the Iceberg id of a column or an inner field; None when it has none."""
    text = (field.metadata or {}).get(FIELD_ID_KEY)
    return None if text is None else int(text)


def matched(table: Fields, writer: Fields, *, by_identity: bool) -> dict[str, AnyField]:
    """Return the table's field for each of the writer's that has one, by the writer's name."""
    found: dict[str, AnyField] = {}
    left = {field.name: field for field in table}
    for of_table, of_writer in _WAYS if by_identity else _WAYS_BY_NAME:
        if len(found) == len(writer):
            break
        known = {key: field for field in left.values() for key in of_table(field)}
        for field in writer:
            if field.name in found:
                continue
            for key in of_writer(field):
                if key in known and known[key].name in left:
                    found[field.name] = left.pop(known[key].name)
                    break
    return found


_Keys: TypeAlias = Callable[[AnyField], Iterable[object]]


def _ids(field: AnyField) -> Iterable[object]:
    field_id = field_id_of(field)
    return () if field_id is None else (field_id,)


def _names(field: AnyField) -> Iterable[object]:
    return (field.name,)


def _identities(field: AnyField) -> Iterable[object]:
    identity = identity_of(field).identity
    return () if identity is None else (identity,)


def _former_names(field: AnyField) -> Iterable[object]:
    return identity_of(field).former_names


_WAYS: tuple[tuple[_Keys, _Keys], ...] = (
    (_ids, _ids),
    (_names, _names),
    (_identities, _identities),
    (_names, _former_names),
    (_former_names, _names),
    (_former_names, _former_names),
)
"""How a field of the table and one of the writer may be the same, the surest way first."""

_WAYS_BY_NAME = ((_ids, _ids), (_names, _names), (_former_names, _names))


def clashes(
    table: Fields, writer: Fields, found: Mapping[str, AnyField], *, by_identity: bool
) -> dict[str, str]:
    """Return why a field of the writer cannot be told from another one, by its name.

    Args:
        table: Fields of one level.
        writer: Of the same level.
        found: What `matched` returns for both.
        by_identity: As there.

    """
    reasons: dict[str, str] = {}
    spelled = {field.name.casefold(): field.name for field in table}
    formerly = {name: field.name for field in table for name in identity_of(field).former_names}
    numbered = {identity_of(field).identity: field.name for field in table}
    repeated: set[str] = set()
    for field in writer:
        own = found[field.name].name if field.name in found else None
        other = spelled.get(field.name.casefold(), own)
        identity = identity_of(field).identity
        if other not in (own, None):
            is_same = other == field.name
            reasons[field.name] = (
                "is the name of another column"
                if is_same
                else f'differs only in letter case from "{other}"'
            )
        elif own is None and field.name in formerly:
            reasons[field.name] = (
                f'was the name of column "{formerly[field.name]}", which records of older schemas '
                "still use"
            )
        elif by_identity and identity is not None and numbered.get(identity, own) != own:
            reasons[field.name] = f'is field {identity}, as is column "{numbered[identity]}"'
        if field.name in repeated:
            reasons[field.name] = "is there twice"
        repeated.add(field.name)
        spelled.setdefault(field.name.casefold(), field.name)
    return reasons


def was_renamed(fields: Fields) -> bool:
    """Tell whether any of these columns, or a field inside of one, had another name before."""
    return any(
        identity_of(field).former_names or was_renamed(_inside(field.type)) for field in fields
    )


def is_identified(fields: Fields) -> bool:
    """Tell whether any of these fields, or one inside, is known by more than its name."""
    return any(
        identity_of(field).is_known or is_identified(_inside(field.type)) for field in fields
    )


def _inside(type_: pa.DataType) -> Fields:
    if isinstance(type_, pa.StructType):
        return list(type_)
    if isinstance(type_, pa.ListType):
        return [type_.value_field]
    return [type_.item_field] if isinstance(type_, pa.MapType) else []


def in_names_of(table: pa.Schema, writer: pa.Schema, *, by_identity: bool) -> pa.Schema:
    """Return the table's schema with the writer's names, at every level; itself if they are equal.

    What the writer lacks keeps its name.
    """
    fields = _renamed(list(table), list(writer), by_identity=by_identity)
    renamed = pa.schema(fields)
    return table if renamed.equals(table) else renamed


def _renamed(table: Fields, writer: Fields, *, by_identity: bool) -> list[AnyField]:
    found = matched(table, writer, by_identity=by_identity)
    by_column = {column.name: field for field in writer if (column := found.get(field.name))}
    return [
        _renamed_field(field, by_column[field.name], by_identity=by_identity).with_name(
            by_column[field.name].name
        )
        if field.name in by_column
        else field
        for field in table
    ]


def _renamed_field(table: AnyField, writer: AnyField, *, by_identity: bool) -> AnyField:
    return table.with_type(_renamed_type(table.type, writer.type, by_identity=by_identity))


def _renamed_type(table: pa.DataType, writer: pa.DataType, *, by_identity: bool) -> pa.DataType:
    if isinstance(table, pa.StructType) and isinstance(writer, pa.StructType):
        return pa.struct(_renamed(list(table), list(writer), by_identity=by_identity))
    if isinstance(table, pa.ListType) and isinstance(writer, pa.ListType):
        inner = table.value_field, writer.value_field
        return pa.list_(_renamed_field(*inner, by_identity=by_identity))
    if isinstance(table, pa.MapType) and isinstance(writer, pa.MapType):
        inner = table.item_field, writer.item_field
        return map_type(table.key_field, _renamed_field(*inner, by_identity=by_identity))
    return table


def known_by(values: Mapping[str, str], table: pa.Schema, renamed: pa.Schema) -> dict[str, str]:
    """Return what is said of columns under the names that they have in another schema.

    Args:
        values: By a column's name, now or once; by names joined with dots for fields of structs.
        table: With the former names.
        renamed: The same columns in the same places.

    """
    return _known_by(values, list(table), list(renamed))


def _known_by(values: Mapping[str, str], table: Fields, renamed: Fields) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, other in zip(table, renamed, strict=True):
        inner: dict[str, str] = {}
        for name in reversed((field.name, *identity_of(field).former_names)):
            if name in values:
                found[other.name] = values[name]
            inner |= below(values, name)
        if inner and isinstance(field.type, pa.StructType):
            assert isinstance(other.type, pa.StructType)
            parts = _known_by(inner, list(field.type), list(other.type))
            found |= {f"{other.name}.{name}": value for name, value in parts.items()}
    return found


def below(values: Mapping[str, str], name: str) -> dict[str, str]:
    """Return what is said of the fields of a struct, by their own names."""
    start = f"{name}."
    return {k.removeprefix(start): value for k, value in values.items() if k.startswith(start)}


def relabelled(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return rows under the names of another schema, whose fields are in the same places."""
    columns = [_relabelled(rows.column(place), field.type) for place, field in enumerate(schema)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _relabelled(array: AnyArray, type_: pa.DataType) -> AnyArray:
    if array.type.equals(type_):
        return array
    # The stubs know neither masks nor types here.
    make: Any = pa
    if len(array) == 0:
        return make.nulls(0, type_)
    mask = array.is_null() if array.null_count else None
    if isinstance(array, pa.StructArray) and isinstance(type_, pa.StructType):
        parts = [_relabelled(array.field(n), field.type) for n, field in enumerate(type_)]
        return make.StructArray.from_arrays(parts, fields=list(type_), mask=mask)
    assert isinstance(array, pa.ListArray | pa.MapArray)
    first = array.offsets[0].as_py()
    # Arrow takes a null mask only beside offsets that are no slice; a difference is none.
    offsets = pc.subtract(array.offsets, pa.scalar(first, pa.int32()))
    count = offsets[-1].as_py()
    if isinstance(array, pa.MapArray):
        assert isinstance(type_, pa.MapType)
        keys = array.keys.slice(first, count)
        items = _relabelled(array.items.slice(first, count), type_.item_type)
        return make.MapArray.from_arrays(offsets, keys, items, type=type_, mask=mask)
    assert isinstance(type_, pa.ListType)
    elements = _relabelled(array.values.slice(first, count), type_.value_type)
    return make.ListArray.from_arrays(offsets, elements, type=type_, mask=mask)


def map_type(key: AnyField, value: AnyField) -> pa.DataType:
    """Return a map type that keeps both fields as they are."""
    # The stubs know only types here; Arrow takes fields too, for ids and "not null".
    make: Any = pa
    return make.map_(key, value)
