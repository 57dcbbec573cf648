"""Tags that a writer's schema gives to its fields: `confluent:tags` in Avro and JSON Schema.

Those of Protobuf are options, which only its compiler reads: see `decode.proto_tags`.
"""

import json
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TypeAlias, cast

from k2i_core.schema.registered import SchemaLanguage, WriterSchema

TAGS_KEY = "confluent:tags"

ELEMENT, VALUE = "[]", "{}"
"""Steps into a list, and into a map."""

Steps: TypeAlias = tuple[str, ...]
"""From a top-level field down: names, and the two above."""

Tagged: TypeAlias = tuple[Steps, frozenset[str]]

NESTING_MAX = 64
"""Levels of a schema. Larger: a hostile schema exhausts the stack; smaller: an honest one may not
fit. Columns do not go deeper."""


def tagged_fields(schema: WriterSchema) -> tuple[Tagged, ...]:
    """Return the fields that have tags; none of a schema that is not JSON.

    Where a type contains itself, the field that does so has all tags that are inside of it: in a
    table it is JSON text, in which they cannot be told apart.
    """
    try:
        root = json.loads(schema.text)
        others = {one.name: json.loads(one.text) for one in schema.references}
    except (ValueError, RecursionError):
        return ()  # Its records cannot be read either.
    if schema.language is SchemaLanguage.AVRO:
        names: dict[str, Mapping[str, Any]] = {}
        for document in (*others.values(), root):
            _collect(document, "", names)
        return tuple(_Avro(names).fields(root, "", (), ()))
    if schema.language is SchemaLanguage.JSON_SCHEMA:
        return tuple(_JsonSchema({**others, "": root}).fields(root, "", (), ()))
    return ()


class TagsInside:
    """All tags inside of types that contain themselves, each type looked through once."""

    def __init__(self) -> None:
        """Know none."""
        self._known: dict[Hashable, frozenset[str]] = {}

    def of(self, type_: Hashable, fields: Iterator[Tagged]) -> frozenset[str]:
        """Return the tags of a type's fields, which are looked at the first time only."""
        if type_ not in self._known:
            # None while it is looked through: whatever leads back here is looked through, too.
            self._known[type_] = frozenset()
            self._known[type_] = frozenset().union(*(tags for _, tags in fields))
        return self._known[type_]


def _tags(node: Mapping[str, Any]) -> frozenset[str]:
    tags = node.get(TAGS_KEY)
    return (
        frozenset(map(str, cast("list[object]", tags))) if isinstance(tags, list) else frozenset()
    )


def _mappings(node: object) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings of a list, or the one that the node is."""
    listed = cast("list[object]", node) if isinstance(node, list) else [node]
    for one in listed:
        if isinstance(one, Mapping):
            yield cast("Mapping[str, Any]", one)


def _full_name(node: Mapping[str, Any], namespace: str) -> tuple[str, str]:
    """Return the full name of a named Avro type, and the namespace inside it."""
    name = str(node.get("name", ""))
    if "." not in name:
        inside = str(node.get("namespace") or namespace)
        return (f"{inside}.{name}" if inside else name), inside
    return name, name.rpartition(".")[0]


def _collect(node: object, namespace: str, names: dict[str, Mapping[str, Any]]) -> None:
    """Note every named type of an Avro schema."""
    for one in _mappings(node):
        inside = namespace
        if one.get("type") in {"record", "enum", "fixed"}:
            name, inside = _full_name(one, namespace)
            names[name] = {**one, "namespace": inside}
        for key in ("type", "items", "values"):
            if not isinstance(one.get(key), str):
                _collect(one.get(key), inside, names)
        for field in _mappings(one.get("fields")):
            _collect(field.get("type"), inside, names)


class _Avro:
    """Named types by their full name."""

    def __init__(self, names: Mapping[str, Mapping[str, Any]]) -> None:
        self._names = names
        self._inside = TagsInside()

    def fields(
        self, node: object, namespace: str, path: Steps, around: tuple[str, ...]
    ) -> Iterator[Tagged]:
        if len(path) > NESTING_MAX:
            return
        if isinstance(node, list):
            for branch in cast("list[object]", node):
                yield from self.fields(branch, namespace, path, around)
        elif isinstance(node, str):
            name = node if node in self._names else f"{namespace}.{node}"
            if name in around:
                described = self.fields(self._names[name], "", (), ())
                if tags := self._inside.of(name, described):
                    yield path, tags
            elif name in self._names:
                yield from self.fields(self._names[name], namespace, path, around)
        elif isinstance(node, Mapping):
            yield from self._below(cast("Mapping[str, Any]", node), namespace, path, around)

    def _below(
        self, node: Mapping[str, Any], namespace: str, path: Steps, around: tuple[str, ...]
    ) -> Iterator[Tagged]:
        kind = node.get("type")
        if kind == "record":
            name, inside = _full_name(node, namespace)
            for field in _mappings(node.get("fields")):
                step = (*path, str(field.get("name")))
                if tags := _tags(field):
                    yield step, tags
                yield from self.fields(field.get("type"), inside, step, (*around, name))
        elif kind == "array":
            yield from self.fields(node.get("items"), namespace, (*path, ELEMENT), around)
        elif kind == "map":
            yield from self.fields(node.get("values"), namespace, (*path, VALUE), around)
        else:
            yield from self.fields(kind, namespace, path, around)


class _JsonSchema:
    """Documents by name; the schema itself has none."""

    def __init__(self, documents: Mapping[str, object]) -> None:
        self._documents = documents
        self._inside = TagsInside()

    def fields(
        self, node: object, document: str, path: Steps, around: tuple[int, ...]
    ) -> Iterator[Tagged]:
        if not isinstance(node, Mapping) or len(around) > NESTING_MAX:
            return
        described = cast("Mapping[str, Any]", node)
        if id(described) in around:
            again = self.fields(described, document, (), ())
            if path and (tags := self._inside.of(id(described), again)):
                yield path, tags
            return
        inside = (*around, id(described))
        for inner, named in self._same_place(described, document):
            if path and isinstance(inner, Mapping) and (tags := _tags(inner)):
                yield path, tags
            yield from self.fields(inner, named, path, inside)
        for step, child in _children(described):
            below = (*path, step)
            if step not in {ELEMENT, VALUE} and (tags := _tags(child)):
                yield below, tags
            yield from self.fields(child, document, below, inside)

    def _same_place(
        self, described: Mapping[str, Any], document: str
    ) -> Iterator[tuple[object, str]]:
        """Yield the other schemas of the same value."""
        if isinstance(reference := described.get("$ref"), str):
            yield self._referred(reference, document)
        for key in ("oneOf", "anyOf", "allOf"):
            for branch in _mappings(described.get(key)):
                yield branch, document

    def _referred(self, reference: str, document: str) -> tuple[object, str]:
        name, _, pointer = reference.partition("#")
        named = name or document
        node: object = self._documents.get(named)
        for part in pointer.strip("/").split("/") if pointer.strip("/") else []:
            key = part.replace("~1", "/").replace("~0", "~")
            node = cast("Mapping[str, Any]", node).get(key) if isinstance(node, Mapping) else None
        return node, named


def _children(described: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    properties = described.get("properties")
    if isinstance(properties, Mapping):
        for name, node in cast("Mapping[str, object]", properties).items():
            for child in _mappings(node):
                yield name, child
    for key, step in (("items", ELEMENT), ("additionalProperties", VALUE)):
        for child in _mappings(described.get(key)):
            yield step, child
