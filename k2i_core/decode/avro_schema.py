"""The text of an Avro schema → its types, names resolved; as Avro 1.12 has it.

A logical type that does not fit its type, or that nobody knows, is left out, as Avro demands.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, cast

from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.schema.registered import NamedText

DECIMAL_DIGITS_MAX = 38
DURATION_BYTES = 12
UUID_BYTES = 16

FIXED_BYTES_MAX = 1 << 20
"""Bytes of one fixed value. Larger: a hostile schema asks for all memory; no honest one comes
near."""


class Kind(Enum):
    """Avro's types; the value is the name in a schema."""

    NULL = "null"
    BOOLEAN = "boolean"
    INT = "int"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    BYTES = "bytes"
    STRING = "string"
    FIXED = "fixed"
    ENUM = "enum"
    ARRAY = "array"
    MAP = "map"
    RECORD = "record"
    UNION = "union"


@dataclass(slots=True, eq=False)
class AvroType:
    """One type; named ones may contain themselves, so they are filled after they are made.

    Attributes:
        name: Full name of a record, enum or fixed; the kind's own name otherwise.
        logical: One of `LOGICAL_KINDS`, where it applies.
        parts: Fields of a record by name, element of an array, value of a map, branches of a union.
        aliases: Names that fields of a record had before, by their name now.
        byte_count: Of a fixed.
        precision: Of a decimal.
        scale: Of a decimal.
    """

    kind: Kind
    name: str
    logical: str | None = None
    symbols: tuple[str, ...] = ()
    parts: list[tuple[str, "AvroType"]] = field(default_factory=list[tuple[str, "AvroType"]])
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    byte_count: int = 0
    precision: int = 0
    scale: int = 0


LOGICAL_KINDS: Mapping[str, frozenset[Kind]] = {
    "date": frozenset({Kind.INT}),
    "time-millis": frozenset({Kind.INT}),
    "time-micros": frozenset({Kind.LONG}),
    "timestamp-millis": frozenset({Kind.LONG}),
    "timestamp-micros": frozenset({Kind.LONG}),
    "timestamp-nanos": frozenset({Kind.LONG}),
    "local-timestamp-millis": frozenset({Kind.LONG}),
    "local-timestamp-micros": frozenset({Kind.LONG}),
    "local-timestamp-nanos": frozenset({Kind.LONG}),
    "uuid": frozenset({Kind.STRING, Kind.FIXED}),
    "decimal": frozenset({Kind.BYTES, Kind.FIXED}),
    "duration": frozenset({Kind.FIXED}),
}

_PRIMITIVES = {
    kind.value: kind
    for kind in Kind
    if kind not in {Kind.FIXED, Kind.ENUM, Kind.ARRAY, Kind.MAP, Kind.RECORD, Kind.UNION}
}


def parse_avro(text: str, references: Iterable[NamedText] = ()) -> AvroType:
    """Return the type that a schema describes.

    Args:
        text: JSON.
        references: Schemas whose names `text` may use, in the order in which they are defined.

    Raises:
        UnusableSchemaError: It is no Avro schema.

    """
    names: dict[str, AvroType] = {}
    try:
        for reference in references:
            _Parser(names).read(_loaded(reference.text), "")
        return _Parser(names).read(_loaded(text), "")
    except RecursionError as error:
        message = "the schema nests too deep"
        raise UnusableSchemaError(message) from error


def _loaded(text: str) -> object:
    stripped = text.strip()
    if stripped in _PRIMITIVES:  # written without quotes by some registries
        return stripped
    try:
        return json.loads(stripped)
    except ValueError as error:
        message = "the schema is not JSON"
        raise UnusableSchemaError(message) from error


@dataclass(frozen=True, slots=True)
class _Parser:
    names: dict[str, AvroType]

    def read(  # noqa: C901, PLR0911 - one return a kind
        self, node: object, namespace: str
    ) -> AvroType:
        if isinstance(node, str):
            return self._named(node, namespace)
        if isinstance(node, list):
            return self._union(cast("list[object]", node), namespace)
        if not isinstance(node, dict):
            message = "a type is neither a name, nor a list, nor an object"
            raise UnusableSchemaError(message)
        described = cast("dict[str, Any]", node)
        kind = described.get("type")
        if isinstance(kind, dict | list):
            return self.read(cast("object", kind), namespace)
        if kind in ("record", "error"):
            return self._record(described, namespace)
        if kind == "enum":
            made = self._define(described, namespace, Kind.ENUM)
            made.symbols = tuple(str(symbol) for symbol in _list(described, "symbols"))
            return made
        if kind == "fixed":
            return self._fixed(described, namespace)
        if kind == "array":
            element = self.read(described.get("items"), namespace)
            return AvroType(Kind.ARRAY, "array", parts=[("element", element)])
        if kind == "map":
            value = self.read(described.get("values"), namespace)
            return AvroType(Kind.MAP, "map", parts=[("value", value)])
        if kind in _PRIMITIVES:
            return _with_logical(AvroType(_PRIMITIVES[kind], str(kind)), described)
        return self._named(str(kind), namespace)

    def _named(self, name: str, namespace: str) -> AvroType:
        if name in _PRIMITIVES:
            return AvroType(_PRIMITIVES[name], name)
        for full_name in (f"{namespace}.{name}", name) if "." not in name else (name,):
            if full_name.lstrip(".") in self.names:
                return self.names[full_name.lstrip(".")]
        message = "a type is named that the schema and its references do not define"
        raise UnusableSchemaError(message)

    def _define(self, described: dict[str, Any], namespace: str, kind: Kind) -> AvroType:
        full_name, _ = _full_name(described, namespace)
        if full_name in self.names:
            message = "the schema defines a name twice"
            raise UnusableSchemaError(message)
        made = AvroType(kind, full_name)
        self.names[full_name] = made
        return made

    def _record(self, described: dict[str, Any], namespace: str) -> AvroType:
        made = self._define(described, namespace, Kind.RECORD)
        _, inner = _full_name(described, namespace)
        for described_field in _list(described, "fields"):
            if not isinstance(described_field, dict) or "name" not in described_field:
                message = "a field has no name"
                raise UnusableSchemaError(message)
            name = str(described_field["name"])
            made.parts.append((name, self.read(described_field.get("type"), inner)))
            if isinstance(aliases := described_field.get("aliases"), list):
                made.aliases[name] = tuple(str(alias) for alias in cast("list[Any]", aliases))
        if len({name.casefold() for name, _ in made.parts}) < len(made.parts):
            message = "two fields of a record have the same name, apart from letter case"
            raise UnusableSchemaError(message)
        return made

    def _fixed(self, described: dict[str, Any], namespace: str) -> AvroType:
        made = self._define(described, namespace, Kind.FIXED)
        byte_count = described.get("size")
        if not isinstance(byte_count, int) or not 0 <= byte_count <= FIXED_BYTES_MAX:
            message = f"a fixed type has no size up to bytes={FIXED_BYTES_MAX}"
            raise UnusableSchemaError(message)
        made.byte_count = byte_count
        return _with_logical(made, described)

    def _union(self, branches: list[object], namespace: str) -> AvroType:
        made = AvroType(Kind.UNION, "union")
        for branch in branches:
            type_ = self.read(branch, namespace)
            made.parts.append((type_.name, type_))
        names = [name for name, _ in made.parts]
        if not names or len(set(names)) < len(names) or "union" in names:
            message = "a union is empty, or has a type twice, or another union"
            raise UnusableSchemaError(message)
        return made


def _full_name(described: dict[str, Any], namespace: str) -> tuple[str, str]:
    """Return the full name, and the namespace of names inside."""
    name = described.get("name")
    if not isinstance(name, str) or not name:
        message = "a record, enum or fixed type has no name"
        raise UnusableSchemaError(message)
    if "." in name:
        return name.lstrip("."), name.rpartition(".")[0]
    own = described.get("namespace")
    inner = own if isinstance(own, str) else namespace
    return (f"{inner}.{name}" if inner else name), inner


def _list(described: dict[str, Any], key: str) -> list[Any]:
    found = described.get(key)
    if not isinstance(found, list):
        message = f"a type lacks its {key}"
        raise UnusableSchemaError(message)
    return cast("list[Any]", found)


def _with_logical(made: AvroType, described: dict[str, Any]) -> AvroType:
    logical = described.get("logicalType")
    if not isinstance(logical, str) or made.kind not in LOGICAL_KINDS.get(logical, frozenset()):
        return made
    if logical == "duration" and made.byte_count != DURATION_BYTES:
        return made
    if logical == "uuid" and made.kind is Kind.FIXED and made.byte_count != UUID_BYTES:
        return made
    if logical == "decimal":
        precision, scale = described.get("precision"), described.get("scale", 0)
        if not isinstance(precision, int) or not isinstance(scale, int):
            return made
        if not (1 <= precision <= DECIMAL_DIGITS_MAX and 0 <= scale <= precision):
            return made
        made.precision, made.scale = precision, scale
    made.logical = logical
    return made
