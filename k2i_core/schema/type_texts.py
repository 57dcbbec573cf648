"""Type texts: `decimal(9,2)`, `list<string>`, `struct<sku: string not null, n: int>`.

The grammar, with white space free between the parts:

    type      = primitive | "list<" inner ">" | "map<" type "," inner ">" | "struct<" fields ">"
    primitive = "boolean" | "int" | … | "decimal(" p "," s ")" | "fixed[" n "]" | "fixed(" n ")"
    fields    = name ":" inner { "," name ":" inner }
    inner     = type [ "not null" ]

`not null` makes a struct field, list element or map value required; a map's key always is. A name
of letters, digits and `_ - . $ @` is written as it is, any other in backquotes, with a backquote
doubled.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from k2i_core.errors import ConfigError
from k2i_core.schema.iceberg_types import (
    DECIMAL_PRECISION_MAX,
    FIXED_BYTES_MAX,
    DecimalType,
    FixedType,
    IcebergField,
    IcebergType,
    ListType,
    MapType,
    PrimitiveType,
    StructType,
)

NESTING_MAX = 32
"""Larger lets a hostile text exhaust the stack; smaller refuses types that somebody has."""

_PRIMITIVES: Mapping[str, PrimitiveType] = MappingProxyType(
    {type_.value: type_ for type_ in PrimitiveType}
)

TYPE_NAMES = (
    *_PRIMITIVES,
    "decimal(p,s)",
    "fixed[n]",
    "list<T>",
    "map<K, V>",
    "struct<name: T, …>",
)
"""What an error message lists as allowed."""

_OTHER_DIALECTS = MappingProxyType(
    {
        "array": "list",
        "bigint": "long",
        "bool": "boolean",
        "bytes": "binary",
        "datetime": "timestamptz",
        "float32": "float",
        "float64": "double",
        "int32": "int",
        "int64": "long",
        "integer": "int",
        "json": "string",
        "number": "double",
        "numeric": "decimal",
        "object": "struct",
        "smallint": "int",
        "str": "string",
        "text": "string",
        "varchar": "string",
    }
)

_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"[0-9]{1,10}")
_PLAIN_NAME = re.compile(r"[\w.$@-]+")
_QUOTED_NAME = re.compile(r"`((?:[^`]|``)+)`")
_NOT_NULL = re.compile(r"not\s+null\b", re.IGNORECASE)


def parse_type(text: str) -> IcebergType:
    """Read a type text.

    Args:
        text: One type, as in the pipeline file.

    Raises:
        ConfigError: The text is not a type; the message says where and what is allowed there.

    """
    parser = _Parser(text)
    parsed = parser.type(depth=0)
    if parser.take(_NOT_NULL):
        parser.fail("`not null` stands only inside list, map and struct; write `required: true`")
    parser.end()
    return parsed


def parse_name(text: str) -> str:
    """Read one column name, plain or in backquotes.

    Raises:
        ConfigError: The text is not exactly one name.

    """
    parser = _Parser(text)
    name = parser.name()
    parser.end()
    return name


def type_text(type_: IcebergType) -> str:
    """Write a type so that `parse_type` reads the same type back."""
    match type_:
        case PrimitiveType():
            return type_.value
        case DecimalType(precision, scale):
            return f"decimal({precision},{scale})"
        case FixedType(byte_count):
            return f"fixed[{byte_count}]"
        case ListType(element, element_required):
            return f"list<{_inner_text(element, required=element_required)}>"
        case MapType(key, value, value_required):
            return f"map<{type_text(key)}, {_inner_text(value, required=value_required)}>"
        case StructType(fields):
            return f"struct<{', '.join(map(_field_text, fields))}>"


def _inner_text(type_: IcebergType, *, required: bool) -> str:
    return type_text(type_) + (" not null" if required else "")


def _field_text(field: IcebergField) -> str:
    return f"{_name_text(field.name)}: {_inner_text(field.type, required=field.required)}"


def _name_text(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else "`" + name.replace("`", "``") + "`"


class _Parser:
    """Recursive descent over one text; every method leaves the position behind what it read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def fail(self, reason: str) -> NoReturn:
        message = f'"{self.text}" cannot be read at position {self.position + 1}: {reason}'
        raise ConfigError(message)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self.skip_space()
        match = pattern.match(self.text, self.position)
        if match:
            self.position = match.end()
        return match

    def skip_space(self) -> None:
        match = _SPACE.match(self.text, self.position)
        self.position = match.end() if match else self.position

    def takes(self, symbol: str) -> bool:
        self.skip_space()
        found = self.text.startswith(symbol, self.position)
        self.position += len(symbol) if found else 0
        return found

    def expect(self, symbol: str, context: str) -> None:
        if not self.takes(symbol):
            self.fail(f'expected "{symbol}" {context}')

    def end(self) -> None:
        self.skip_space()
        if self.position < len(self.text):
            self.fail(f'"{self.text[self.position :]}" is left over')

    def type(self, depth: int) -> IcebergType:
        if depth > NESTING_MAX:
            self.fail(f"types nest at most {NESTING_MAX} deep")
        self.skip_space()
        start = self.position
        match = self.take(_WORD)
        word = match.group() if match else ""
        if word in _PRIMITIVES:
            return _PRIMITIVES[word]
        composed = {
            "decimal": self.decimal,
            "fixed": self.fixed,
            "list": lambda: self.list(depth),
            "map": lambda: self.map(depth),
            "struct": lambda: self.struct(depth),
        }
        if word not in composed:
            self.position = start
            self.fail(_not_a_type(word))
        return composed[word]()

    def number(self, what: str, lowest: int, highest: int) -> int:
        self.skip_space()
        start = self.position
        match = self.take(_NUMBER)
        if match is None or not lowest <= int(match.group()) <= highest:
            self.position = start
            self.fail(f"expected {what}, a whole number from {lowest} to {highest}")
        return int(match.group())

    def decimal(self) -> IcebergType:
        self.expect("(", 'after "decimal", as in decimal(9,2)')
        precision = self.number("the precision", 1, DECIMAL_PRECISION_MAX)
        self.expect(",", "between precision and scale")
        scale = self.number("the scale", 0, precision)
        self.expect(")", "after the scale")
        return DecimalType(precision, scale)

    def fixed(self) -> IcebergType:
        closing = ")" if self.takes("(") else "]"
        if closing == "]":
            self.expect("[", 'after "fixed", as in fixed[16]')
        byte_count = self.number("the number of bytes", 1, FIXED_BYTES_MAX)
        self.expect(closing, "after the number of bytes")
        return FixedType(byte_count)

    def list(self, depth: int) -> IcebergType:
        self.expect("<", 'after "list"')
        element, required = self.inner(depth)
        self.expect(">", "after the element type")
        return ListType(element, required)

    def map(self, depth: int) -> IcebergType:
        self.expect("<", 'after "map"')
        key = self.type(depth + 1)
        self.expect(",", "between key and value type")
        value, required = self.inner(depth)
        self.expect(">", "after the value type")
        return MapType(key, value, required)

    def struct(self, depth: int) -> IcebergType:
        self.expect("<", 'after "struct"')
        fields: dict[str, IcebergField] = {}
        while not fields or self.takes(","):
            self.skip_space()
            start = self.position
            name = self.name()
            if name.casefold() in fields:
                self.position = start
                self.fail(f'the name "{name}" is there already, letter case aside')
            self.expect(":", f'after the field name "{name}"')
            fields[name.casefold()] = IcebergField(name, *self.inner(depth))
        self.expect(">", 'or "," after a field')
        return StructType(tuple(fields.values()))

    def inner(self, depth: int) -> tuple[IcebergType, bool]:
        """Read a type inside another, and whether it is required."""
        return self.type(depth + 1), self.take(_NOT_NULL) is not None

    def name(self) -> str:
        if match := self.take(_QUOTED_NAME):
            return match.group(1).replace("``", "`")
        if match := self.take(_PLAIN_NAME):
            return match.group()
        return self.fail("expected a name; other than letters, digits and _ - . $ @ in backquotes")


def _not_a_type(word: str) -> str:
    known = _OTHER_DIALECTS.get(word.lower(), word.lower())
    hint = f'; did you mean "{known}"?' if word and known != word and _is_type_name(known) else ""
    found = f'"{word}" is not a type' if word else "expected a type"
    return f"{found}{hint}; allowed: {', '.join(TYPE_NAMES)}"


def _is_type_name(word: str) -> bool:
    return word in _PRIMITIVES or word in {"decimal", "fixed", "list", "map", "struct"}
