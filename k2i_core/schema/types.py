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
from typing import Any, NoReturn

import pyarrow as pa

from k2i_core.errors import ConfigError

DECIMAL_PRECISION_MAX = 38

FIXED_BYTES_MAX = 2**31 - 1

NESTING_MAX = 32
"""Larger lets a hostile text exhaust the stack; smaller refuses types that somebody has."""

_PRIMITIVES: Mapping[str, pa.DataType] = MappingProxyType(
    {
        "boolean": pa.bool_(),
        "int": pa.int32(),
        "long": pa.int64(),
        "float": pa.float32(),
        "double": pa.float64(),
        "date": pa.date32(),
        "time": pa.time64("us"),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", tz="UTC"),
        "string": pa.string(),
        "binary": pa.binary(),
        "uuid": pa.uuid(),
    }
)

_NAMES_BY_TYPE = MappingProxyType({type_: name for name, type_ in _PRIMITIVES.items()})

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


def parse_type(text: str) -> pa.DataType:
    """Read a type text.

    Args:
        text: One type, as in the pipeline file.

    Returns:
        The Arrow type that stands for it.

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


def type_text(type_: pa.DataType) -> str:
    """Write a type so that `parse_type` reads the same type back.

    Raises:
        ConfigError: Iceberg has no such type; `clean_inferred_type` makes the nearest one.

    """
    if type_ in _NAMES_BY_TYPE:
        return _NAMES_BY_TYPE[type_]
    if isinstance(type_, pa.Decimal128Type) and 0 <= type_.scale <= type_.precision:
        return f"decimal({type_.precision},{type_.scale})"
    if pa.types.is_fixed_size_binary(type_) and type_.byte_width > 0:
        return f"fixed[{type_.byte_width}]"
    if isinstance(type_, pa.ListType):
        return f"list<{_inner_text(type_.value_field)}>"
    if isinstance(type_, pa.MapType):
        return f"map<{type_text(type_.key_type)}, {_inner_text(type_.item_field)}>"
    if isinstance(type_, pa.StructType) and type_.num_fields:
        fields = (f"{_name_text(field.name)}: {_inner_text(field)}" for field in type_)
        return f"struct<{', '.join(fields)}>"
    message = f"Iceberg has no type for Arrow's {type_}; allowed: {', '.join(TYPE_NAMES)}"
    raise ConfigError(message)


def _inner_text(field: "pa.Field[Any]") -> str:
    return type_text(field.type) + ("" if field.nullable else " not null")


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

    def type(self, depth: int) -> pa.DataType:
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

    def decimal(self) -> pa.DataType:
        self.expect("(", 'after "decimal", as in decimal(9,2)')
        precision = self.number("the precision", 1, DECIMAL_PRECISION_MAX)
        self.expect(",", "between precision and scale")
        scale = self.number("the scale", 0, precision)
        self.expect(")", "after the scale")
        return pa.decimal128(precision, scale)

    def fixed(self) -> pa.DataType:
        closing = ")" if self.takes("(") else "]"
        if closing == "]":
            self.expect("[", 'after "fixed", as in fixed[16]')
        byte_count = self.number("the number of bytes", 1, FIXED_BYTES_MAX)
        self.expect(closing, "after the number of bytes")
        return pa.binary(byte_count)

    def list(self, depth: int) -> pa.DataType:
        self.expect("<", 'after "list"')
        element = self.field("element", depth)
        self.expect(">", "after the element type")
        return pa.list_(element)

    def map(self, depth: int) -> pa.DataType:
        self.expect("<", 'after "map"')
        key = self.type(depth + 1)
        self.expect(",", "between key and value type")
        value = self.field("value", depth)
        self.expect(">", "after the value type")
        # The stubs know only types here; Arrow takes a field too, for "not null".
        return pa.map_(key, value)  # pyright: ignore[reportArgumentType]

    def struct(self, depth: int) -> pa.DataType:
        self.expect("<", 'after "struct"')
        fields: dict[str, pa.Field[Any]] = {}
        while not fields or self.takes(","):
            self.skip_space()
            start = self.position
            name = self.name()
            if name.casefold() in fields:
                self.position = start
                self.fail(f'the name "{name}" is there already, letter case aside')
            self.expect(":", f'after the field name "{name}"')
            fields[name.casefold()] = self.field(name, depth)
        self.expect(">", 'or "," after a field')
        return pa.struct(list(fields.values()))

    def field(self, name: str, depth: int) -> "pa.Field[Any]":
        type_ = self.type(depth + 1)
        return pa.field(name, type_, nullable=not self.take(_NOT_NULL))

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
