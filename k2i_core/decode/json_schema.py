"""Which columns a JSON Schema describes: the part of the language that says what a row looks like.

| JSON Schema | column |
|---|---|
| `boolean` | boolean |
| `integer` | long |
| `number` | double |
| `string` | string |
| `string`, format `date-time` | timestamptz |
| `string`, format `date` | date |
| `string`, format `uuid` | uuid |
| `string`, contentEncoding `base64` | binary |
| `array` with `items` | list |
| `object` with `properties` | struct |
| `object` with `additionalProperties` of one type | map of string to … |
| `["null", T]`, `oneOf` or `anyOf` of null and T | T |
| `$ref` into the schema or its references | what is there |
| everything else, and a schema inside itself | no column; a column of what records hold, if any |

Every column is optional. What else the schema demands (bounds, patterns) is between the producer
and the registry. The columns carry what it says besides: the property's `id`, by which it is known
after it was renamed, and whether it may be missing or null.
"""

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, cast

import pyarrow as pa

from k2i_core.decode.json_values import spell
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.schema.identity import Identity, identified
from k2i_core.schema.registered import WriterSchema

MAPPING_VERSION = 1

NESTING_MAX = 64
"""Levels of a schema. Larger: Python's and Parquet's own recursion limits come near; smaller: an
honest schema may not fit."""

_PLAIN = MappingProxyType(
    {
        "boolean": pa.bool_(),
        "integer": pa.int64(),
        "number": pa.float64(),
    }
)
_TEXTS = MappingProxyType(
    {
        "date-time": pa.timestamp("us", tz="UTC"),
        "date": pa.date32(),
        "uuid": pa.uuid(),
    }
)


def columns_of(schema: WriterSchema) -> pa.Schema:
    """Return the columns that a schema describes; none is required.

    Raises:
        UnusableSchemaError: It is no JSON Schema, or not one of objects.

    """
    documents = {reference.name: _loaded(reference.text) for reference in schema.references}
    root = _loaded(schema.text)
    reader = _Reader({**documents, "": root})
    type_ = reader.type_of(root, "", ())
    if not isinstance(type_, pa.StructType):
        message = "the schema describes no object with properties"
        raise UnusableSchemaError(message)
    return pa.schema(list(type_))


def can_hold(described: pa.DataType, table: pa.DataType, time_format: str | None) -> bool:
    """Tell whether JSON of a described type, other than null, can fill a column of the table."""
    spelling = spell(table, time_format)
    if spelling is None or pa.types.is_nested(described):
        return False
    if pa.types.is_boolean(described) or pa.types.is_boolean(spelling.parse_type):
        return described == spelling.parse_type
    is_number = pa.types.is_integer(described) or pa.types.is_floating(described)
    # A decimal may be written as a number or as text.
    return pa.types.is_decimal(spelling.parse_type) or is_number == (
        not pa.types.is_string(spelling.parse_type)
    )


def _loaded(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        message = "the schema is not JSON"
        raise UnusableSchemaError(message) from error


class _Reader:
    """Documents by name; the schema itself has none."""

    def __init__(self, documents: Mapping[str, object]) -> None:
        self._documents = documents

    def type_of(self, node: object, document: str, around: tuple[int, ...]) -> pa.DataType | None:
        """Return the column's type; None where the schema does not tell."""
        if not isinstance(node, Mapping) or id(cast("object", node)) in around:
            return None
        if len(around) > NESTING_MAX:
            message = f"the schema nests deeper than levels={NESTING_MAX}"
            raise UnusableSchemaError(message)
        described = cast("Mapping[str, Any]", node)
        inside = (*around, id(described))
        if isinstance(reference := described.get("$ref"), str):
            target, target_document = self._referred(reference, document)
            return self.type_of(target, target_document, inside)
        for key in ("oneOf", "anyOf"):
            if isinstance(branches := described.get(key), list):
                only = _only(cast("list[object]", branches))
                return None if only is None else self.type_of(only, document, inside)
        return self._plain_type(described, document, inside)

    def _plain_type(
        self, described: Mapping[str, Any], document: str, inside: tuple[int, ...]
    ) -> pa.DataType | None:
        kind = described.get("type")
        if isinstance(kind, list):
            kinds = [each for each in cast("list[object]", kind) if each != "null"]
            kind = kinds[0] if len(kinds) == 1 else None
        if kind in _PLAIN:
            return _PLAIN[str(kind)]
        if kind == "string":
            if described.get("contentEncoding") == "base64":
                return pa.binary()
            return _TEXTS.get(str(described.get("format")), pa.string())
        if kind == "array":
            element = self.type_of(described.get("items"), document, inside)
            return None if element is None else pa.list_(pa.field("element", element))
        if kind == "object" or (kind is None and "properties" in described):
            return self._object_type(described, document, inside)
        return None

    def _object_type(
        self, described: Mapping[str, Any], document: str, inside: tuple[int, ...]
    ) -> pa.DataType | None:
        properties = described.get("properties")
        if isinstance(properties, Mapping) and properties:
            fields = list(self._fields(described, document, inside))
            return pa.struct(fields) if fields else None
        value = self.type_of(described.get("additionalProperties"), document, inside)
        return None if value is None else pa.map_(pa.string(), value)

    def _fields(
        self, described: Mapping[str, Any], document: str, inside: tuple[int, ...]
    ) -> "Iterable[pa.Field[Any]]":
        seen: set[str] = set()
        required = described.get("required")
        properties = cast("Mapping[str, object]", described["properties"])
        for name, node in properties.items():
            type_ = self.type_of(node, document, inside)
            # A table could not tell two names apart that differ only in letter case.
            if type_ is not None and name and name.casefold() not in seen:
                seen.add(name.casefold())
                is_required = isinstance(required, list) and name in required
                yield identified(
                    pa.field(name, type_),
                    _identity(node),
                    never_null=is_required and not _may_be_null(node),
                )

    def _referred(self, reference: str, document: str) -> tuple[object, str]:
        name, _, pointer = reference.partition("#")
        target_document = name or document
        if target_document not in self._documents:
            message = "the schema refers to a document that its references do not have"
            raise UnusableSchemaError(message)
        target = self._documents[target_document]
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, Mapping) or key not in target:
                message = "the schema refers to a place that is not there"
                raise UnusableSchemaError(message)
            target = cast("Mapping[str, object]", target)[key]
        return target, target_document


def _only(branches: list[object]) -> object | None:
    """Return the one branch that is not null."""
    others = [
        branch
        for branch in branches
        if not (
            isinstance(branch, Mapping)
            and cast("Mapping[str, object]", branch).get("type") == "null"
        )
    ]
    return others[0] if len(others) == 1 else None


def _identity(node: object) -> Identity:
    """Return what a property is known by: its `id`, as a text or a number."""
    id_ = cast("Mapping[str, object]", node).get("id") if isinstance(node, Mapping) else None
    return Identity(str(id_)) if isinstance(id_, str | int) else Identity()


def _may_be_null(node: object) -> bool:
    """Tell whether a property allows null; a reference, whatever it leads to, might."""
    kind = cast("Mapping[str, object]", node).get("type") if isinstance(node, Mapping) else None
    return not isinstance(kind, str)
