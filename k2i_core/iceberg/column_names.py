"""Under which names a table's columns are known, kept in a table property by field id.

A rename in Iceberg forgets the old name, and no schema knows which number a Protobuf field had.
Both are needed to take records of older producers to the renamed column, so they are kept beside
the schema and change in the same request.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import count

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from k2i_core.errors import ConfigError
from k2i_core.iceberg.types import arrow_schema
from k2i_core.schema.identity import (
    NO_IDENTITY,
    AnyField,
    Fields,
    Identity,
    field_id_of,
    identified,
    identity_of,
    known_by,
    map_type,
)

NAMES_PROPERTY = "k2i.column-names"

PROPERTY_CHARACTERS_MAX = 3_500
"""Hive keeps table properties in columns of 4,000 characters: larger and the change fails there;
smaller makes more properties."""


def table_columns(table: Table) -> pa.Schema:
    """Return a table's columns in Arrow's types, with field ids and what they are known by.

    Raises:
        ConfigError: A column has a type that cannot be written, or the property is broken.

    """
    schema = arrow_schema(table.schema())
    known = _decode(table.properties)
    return pa.schema([_known_field(field, known) for field in schema]) if known else schema


def current_names(columns: pa.Schema, names: Sequence[str]) -> tuple[str, ...]:
    """Return what columns are called now that are named as they are, or were before a rename.

    Args:
        columns: As `table_columns` returns them.
        names: Joined by dots inside of structs; what no column was ever called stays as it is.

    """
    found: list[str] = []
    for name in names:
        known = known_by({name: name}, columns, columns)
        found.append(name if name in known else next(iter(known), name))
    return tuple(found)


def names_properties(columns: pa.Schema, schema: Schema) -> dict[str, str]:
    """Return the properties that say what the columns are known by; none when nothing has to.

    Args:
        columns: With their identities; those that are new have no field id yet.
        schema: The same columns as the table has them.

    """
    known: dict[str, list[str | None]] = {}
    _collect(list(columns), list(arrow_schema(schema)), known)
    if not known:
        return {}
    text = json.dumps(known, separators=(",", ":"))
    starts = range(0, len(text), PROPERTY_CHARACTERS_MAX)
    return {
        _name(number): text[start : start + PROPERTY_CHARACTERS_MAX]
        for number, start in enumerate(starts)
    }


def _name(number: int) -> str:
    return f"{NAMES_PROPERTY}.{number}" if number else NAMES_PROPERTY


def _decode(properties: Mapping[str, str]) -> dict[int, Identity]:
    text = ""
    for number in count():
        if (part := properties.get(_name(number))) is None:
            break
        text += part
    if not text:
        return {}
    try:
        # Behind the end may lie the rest of what was longer once.
        found: dict[str, list[str]] = json.JSONDecoder().raw_decode(text)[0]
        return {
            int(field_id): Identity(identity, tuple(former))
            for field_id, (identity, *former) in found.items()
        }
    except (ValueError, AttributeError, TypeError) as error:
        message = f"table property {NAMES_PROPERTY} is not what k2i wrote: set it back or remove it"
        raise ConfigError(message) from error


def _known_field(field: AnyField, known: Mapping[int, Identity]) -> AnyField:
    identity = known.get(field_id_of(field) or 0, NO_IDENTITY)
    type_ = field.type
    if isinstance(type_, pa.StructType):
        type_ = pa.struct([_known_field(inner, known) for inner in type_])
    elif isinstance(type_, pa.ListType):
        type_ = pa.list_(_known_field(type_.value_field, known))
    elif isinstance(type_, pa.MapType):
        type_ = map_type(type_.key_field, _known_field(type_.item_field, known))
    made = field.with_type(type_)
    return identified(made, identity) if identity.is_known else made


def _collect(fields: Fields, stored: Fields, known: dict[str, list[str | None]]) -> None:
    """Add what the fields of one level are known by, and those inside of them."""
    named = {field.name: field for field in stored}
    for field in fields:
        other, identity = named[field.name], identity_of(field)
        if identity.is_known:
            known[str(field_id_of(other))] = [identity.identity, *identity.former_names]
        _collect(_inside(field.type), _inside(other.type), known)


def _inside(type_: pa.DataType) -> Fields:
    if isinstance(type_, pa.StructType):
        return list(type_)
    if isinstance(type_, pa.ListType):
        return [type_.value_field.with_name("element")]
    if isinstance(type_, pa.MapType):
        return [type_.item_field.with_name("value")]
    return []
