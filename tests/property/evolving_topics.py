"""Record types that evolve, and records of every version of them, in three languages.

A field is one thing for all of its life, whatever it is called: it has a key, and names that no
other field ever has. What a record holds is known by keys, so that it can be compared with what a
table shows, under whichever of the names.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeAlias

import fastavro
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from k2i_core.schema.registered import SchemaLanguage

PRIMITIVES = ("int", "long", "float", "double", "string", "boolean")
WIDER = {"int": "long", "float": "double"}

Tree: TypeAlias = dict[int, Any]
"""Key → value; inside of structs again, lists and maps of structs too. None is not there."""


@dataclass(frozen=True)
class Field:
    """A field of a record.

    Attributes:
        names: Oldest first; the last one is what it is called.
        kind: A primitive, or `struct`; of the elements where it is a list or a map.
        around: `one`, `list` or `map`.
        fields: Of a struct.
    """

    key: int
    names: tuple[str, ...]
    kind: str
    around: str
    is_optional: bool
    fields: tuple["Field", ...] = ()

    @property
    def name(self) -> str:
        return self.names[-1]


Row: TypeAlias = tuple[Field, ...]

ID = Field(0, ("id",), "long", "one", False)


@dataclass
class Evolution:
    """Makes versions of a row by random steps."""

    random: Random
    next_key: int = 1
    versions: list[Row] = field(default_factory=list[Row])

    def run(self, version_count: int) -> list[Row]:
        self.versions = [(ID, *(self._new_field(2) for _ in range(self.random.randint(1, 4))))]
        while len(self.versions) < version_count:
            row = self.versions[-1]
            for _ in range(self.random.randint(1, 4)):
                row = (ID, *self._changed(row[1:], 2))
            self.versions.append(row)
        return self.versions

    def _new_field(self, depth: int) -> Field:
        key, self.next_key = self.next_key, self.next_key + 1
        around = self.random.choice(("one", "one", "list", "map"))
        is_struct = depth > 0 and self.random.random() < 0.4
        count = self.random.randint(1, 3) if is_struct else 0
        fields = tuple(self._new_field(depth - 1) for _ in range(count))
        return Field(
            key,
            (f"n{key}",),
            "struct" if is_struct else self.random.choice(PRIMITIVES),
            around,
            around == "one" and self.random.random() < 0.5,
            fields,
        )

    def _changed(self, fields: Row, depth: int) -> Row:
        """Take one step at this level, or inside of one of its structs."""
        random = self.random
        place = random.randrange(len(fields))
        chosen = fields[place]
        if chosen.fields and random.random() < 0.6:
            inside = self._changed(chosen.fields, depth - 1)
            return (*fields[:place], replace(chosen, fields=inside), *fields[place + 1 :])
        step = random.choice(("add", "drop", "rename", "widen", "optional", "move"))
        if step == "drop" and len(fields) > 1:
            return (*fields[:place], *fields[place + 1 :])
        if step == "rename":
            name = f"n{chosen.key}r{len(chosen.names)}"
            chosen = replace(chosen, names=(*chosen.names, name))
        elif step == "widen":
            chosen = replace(chosen, kind=WIDER.get(chosen.kind, chosen.kind))
        elif step == "optional":
            chosen = replace(chosen, is_optional=chosen.around == "one")
        elif step == "move":
            return tuple(random.sample(fields, len(fields)))
        else:
            return (*fields, self._new_field(depth))
        return (*fields[:place], chosen, *fields[place + 1 :])


def random_tree(random: Random, fields: Row) -> Tree:
    made: Tree = {}
    for each in fields:
        if each.is_optional and random.random() < 0.4:
            continue
        count = random.randint(0, 3)
        if each.around == "one":
            made[each.key] = _one(random, each)
        elif each.around == "list":
            made[each.key] = [_one(random, each) for _ in range(count)]
        else:
            made[each.key] = {f"k{n}": _one(random, each) for n in range(count)}
    return made


VALUES: dict[str, Callable[[Random], Any]] = {
    "int": lambda random: random.randint(-(2**31), 2**31 - 1),
    "long": lambda random: random.randint(-(2**63), 2**63 - 1),
    "float": lambda random: random.randint(-1000, 1000) / 8,
    "double": lambda random: random.random(),
    "boolean": lambda random: random.random() < 0.5,
    "string": lambda random: random.choice(("", "a", "ä", "text")),
}


def _one(random: Random, each: Field) -> Any:
    return random_tree(random, each.fields) if each.fields else VALUES[each.kind](random)


def named(tree: Tree, fields: Row) -> dict[str, Any]:
    """Return a record as its producer has it; what is not there is left out."""
    return {
        each.name: _around(each, tree[each.key], lambda one, e=each: named(one, e.fields))
        for each in fields
        if each.key in tree
    }


def _around(each: Field, value: Any, inside: Callable[[Any], Any]) -> Any:
    if each.kind != "struct":
        return value
    if each.around == "list":
        return [inside(one) for one in value]
    if each.around == "map":
        return {key: inside(one) for key, one in value.items()}
    return inside(value)


def as_shown(tree: Tree, fields: Row) -> Tree:
    """Return a record as `keyed` has it: an empty map looks like an empty list to Arrow."""
    return {
        each.key: _around(each, tree[each.key], lambda one, e=each: as_shown(one, e.fields)) or []
        if each.around == "map"
        else _around(each, tree[each.key], lambda one, e=each: as_shown(one, e.fields))
        for each in fields
        if each.key in tree
    }


def all_fields(versions: list[Row]) -> Iterator[Field]:
    for fields in versions:
        for each in fields:
            yield each
            yield from all_fields([each.fields])


def keyed(row: Mapping[str, Any], keys: Mapping[str, int]) -> Tree:
    """Return what a table shows by keys, without nulls."""
    return {keys[name]: _keyed(value, keys) for name, value in row.items() if value is not None}


def _keyed(value: Any, keys: Mapping[str, int]) -> Any:
    if isinstance(value, list) and value and _is_pair(value[0]):
        pairs = [one if isinstance(one, tuple) else (one["key"], one["value"]) for one in value]
        return {key: _keyed(inner, keys) for key, inner in pairs}
    if isinstance(value, list):
        return [_keyed(inner, keys) for inner in value]
    if not isinstance(value, dict):
        return value
    if value and all(name in keys for name in value):
        return keyed(value, keys)
    # A map, because a struct has names; an empty one looks like an empty list to most readers.
    return {key: _keyed(inner, keys) for key, inner in value.items()} or []


def _is_pair(one: Any) -> bool:
    """Tell whether it is an entry of a map, as Arrow and DuckDB show it."""
    return isinstance(one, tuple) or (isinstance(one, dict) and set(one) == {"key", "value"})


@dataclass(frozen=True)
class Version:
    """A schema's text or descriptors, and how a record is encoded by it."""

    language: SchemaLanguage
    text: str
    encode: Callable[[Tree], bytes]
    serialized: bytes = b""


def avro_version(fields: Row) -> Version:
    names = iter(range(10_000))

    def record(inner: Row) -> dict[str, Any]:
        return {
            "type": "record",
            "name": f"R{next(names)}",
            "fields": [described(each) for each in inner],
        }

    def described(each: Field) -> dict[str, Any]:
        kind: Any = record(each.fields) if each.fields else each.kind
        if each.around == "list":
            kind = {"type": "array", "items": kind}
        if each.around == "map":
            kind = {"type": "map", "values": kind}
        type_ = ["null", kind] if each.is_optional else kind
        default = {"default": None} if each.is_optional else {}
        aliases = list(reversed(each.names[:-1]))
        return {"name": each.name, "type": type_, "aliases": aliases, **default}

    schema = record(fields)
    parsed = fastavro.parse_schema(schema)

    def encode(tree: Tree) -> bytes:
        written = io.BytesIO()
        fastavro.schemaless_writer(written, parsed, named(tree, fields))
        return written.getvalue()

    return Version(SchemaLanguage.AVRO, json.dumps(schema), encode)


def json_version(fields: Row) -> Version:
    types = {"int": "integer", "long": "integer", "float": "number", "double": "number"}

    def described(inner: Row) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {each.name: {**of(each), "id": each.key} for each in inner},
            "required": [each.name for each in inner if not each.is_optional],
        }

    def of(each: Field) -> dict[str, Any]:
        one = described(each.fields) if each.fields else {"type": types.get(each.kind, each.kind)}
        if each.around == "list":
            return {"type": "array", "items": one}
        return {"type": "object", "additionalProperties": one} if each.around == "map" else one

    def encode(tree: Tree) -> bytes:
        return json.dumps(named(tree, fields)).encode()

    return Version(SchemaLanguage.JSON_SCHEMA, json.dumps(described(fields)), encode)


PROTO_FILE = "evolving.proto"


def proto_version(fields: Row) -> Version:
    kinds = {"int": 5, "long": 3, "float": 2, "double": 1, "string": 9, "boolean": 8}
    file = descriptor_pb2.FileDescriptorProto(name=PROTO_FILE, syntax="proto3")

    def message(name: str, inner: Row, into: Any) -> None:
        made = into.add(name=name)
        for each in inner:
            added = made.field.add(name=each.name, number=each.key + 1, label=1)
            path = f".{name}.M{each.key}"
            if each.fields:
                message(f"{name}.M{each.key}", each.fields, made.nested_type)
            target = added
            if each.around == "map":
                entry = made.nested_type.add(name=_entry_name(each.name))
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, label=1, type=9)
                target = entry.field.add(name="value", number=2, label=1)
                added.type, added.label = 11, 3
                added.type_name = f".{name}.{entry.name}"
            elif each.around == "list":
                added.label = 3
            if each.fields:
                target.type, target.type_name = 11, path
            else:
                target.type = kinds[each.kind]
            if each.is_optional and not each.fields:
                added.proto3_optional = True
                added.oneof_index = len(made.oneof_decl)
                made.oneof_decl.add(name=f"_{each.name}")
        made.name = name.rpartition(".")[2]

    message("Row", fields, file.message_type)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    of_row = message_factory.GetMessageClass(pool.FindMessageTypeByName("Row"))

    def encode(tree: Tree) -> bytes:
        encoded = json_format.ParseDict(named(tree, fields), of_row()).SerializeToString()
        return b"\0" + encoded

    serialized = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    return Version(SchemaLanguage.PROTOBUF, serialized.hex(), encode, serialized)


def _entry_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_")) + "Entry"
