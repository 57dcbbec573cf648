"""One JSON text → a tree of Python values, strictly; for the records that need a closer look.

Objects are tuples of `(name, tree)` pairs, arrays are lists, numbers keep their spelling, so that
nothing is lost before the column's type decides. The rules are those of the columnar reader.
"""

import json
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import NoReturn, TypeAlias

import pyarrow as pa

NESTING_MAX = 64
"""Levels of objects and arrays. Larger: Python's and Parquet's own recursion limits come near;
smaller: an honest document may not fit."""

NAME_LENGTH_MAX = 80
"""Longer names are cut in messages. Larger: a hostile key floods the dead-letter table; smaller:
honest names become ambiguous."""

TOKENS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{]|[\]}]', re.DOTALL)
ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


Tree: TypeAlias = "bool | str | Number | list[Tree] | Members | pa.DataType | None"
"""A type stands for a value of it that JSON lacks, such as bytes; no JSON text has one."""
Members: TypeAlias = "tuple[tuple[str, Tree], ...]"


class ErrorClass(StrEnum):
    """Why a record is no row; stable, explained in the package's docstring."""

    DUPLICATE_KEY = "duplicate_key"
    INVALID_ENCODING = "invalid_encoding"
    INVALID_ENVELOPE = "invalid_envelope"
    INVALID_FRAMING = "invalid_framing"
    INVALID_JSON = "invalid_json"
    INVALID_UTF8 = "invalid_utf8"
    INVALID_VALUE = "invalid_value"
    NESTED_TOO_DEEP = "nested_too_deep"
    NOT_AN_OBJECT = "not_an_object"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    REQUIRED_FIELD_MISSING = "required_field_missing"
    UNDECODABLE = "undecodable"
    UNKNOWN_FIELD = "unknown_field"
    UNKNOWN_SCHEMA_ID = "unknown_schema_id"
    UNUSABLE_SCHEMA = "unusable_schema"
    WRONG_MESSAGE = "wrong_message"
    WRONG_TYPE = "wrong_type"


class RecordError(Exception):
    """Why one record is no row; never leaves the decoder.

    Attributes:
        error_class: For programs.
        message: For people; never the value.
    """

    def __init__(self, error_class: ErrorClass, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message

    @property
    def fault(self) -> tuple[ErrorClass, str]:
        """What to keep of it: an exception that is kept keeps the frames that it passed, too."""
        return self.error_class, self.message


def parse(text: str) -> Members:
    """Return the members of the object that `text` is.

    Raises:
        RecordError: It is not exactly one JSON object without duplicate keys.

    """
    if _nesting(text) > NESTING_MAX:
        message = f"nested deeper than levels={NESTING_MAX}"
        raise RecordError(ErrorClass.NESTED_TOO_DEEP, message)
    has_duplicates = False

    def members(pairs: list[tuple[str, Tree]]) -> Members:
        nonlocal has_duplicates
        has_duplicates |= len({name for name, _ in pairs}) != len(pairs)
        return tuple(pairs)

    decoder = json.JSONDecoder(
        object_pairs_hook=members,
        parse_float=Number,
        parse_int=Number,
        parse_constant=_refuse_constant,
    )
    try:
        tree: Tree = decoder.decode(text)
    except json.JSONDecodeError as error:
        # Safe because Python's message names what it expected and where, never what it found.
        message = f"not one json value: {error.msg.lower()} at character={error.pos}"
        raise RecordError(ErrorClass.INVALID_JSON, message) from error
    if not isinstance(tree, tuple):
        message = f"expected an object, got {name_type(tree)}"
        raise RecordError(ErrorClass.NOT_AN_OBJECT, message)
    if ESCAPED_SURROGATE.search(text) and any(map(_has_surrogate, _strings(tree))):
        message = "a string has a surrogate without its other half"
        raise RecordError(ErrorClass.INVALID_JSON, message)
    if has_duplicates:
        path = next(_duplicates(tree, ""))
        message = f"{path}: the key is there twice"
        raise RecordError(ErrorClass.DUPLICATE_KEY, message)
    return tree


def name_type(tree: Tree) -> str:
    """Return the JSON name of a tree's type."""
    if tree is None:
        return "null"
    if isinstance(tree, bool):
        return "boolean"
    if isinstance(tree, Number):
        return "number"
    if isinstance(tree, str):
        return "string"
    return "array" if isinstance(tree, list) else "object"


def shown(name: str) -> str:
    """Return a field name that is safe in a one-line message."""
    is_safe = name.isprintable() and len(name) <= NAME_LENGTH_MAX
    return name if is_safe else ascii(name[:NAME_LENGTH_MAX])


def write(members: Members) -> str:
    """Return JSON text of an object; numbers as they were written."""
    return "{" + ",".join(f"{json.dumps(name)}:{_write(tree)}" for name, tree in members) + "}"


def _write(tree: Tree) -> str:
    if isinstance(tree, Number):
        return tree
    if isinstance(tree, tuple):
        return write(tree)
    if isinstance(tree, list):
        return "[" + ",".join(map(_write, tree)) + "]"
    return json.dumps(tree)


def _refuse_constant(name: str) -> NoReturn:
    message = f"json has no {name}"
    raise RecordError(ErrorClass.INVALID_JSON, message)


def _nesting(text: str) -> int:
    # Brackets inside strings count here, which only costs the closer look below.
    if text.count("{") + text.count("[") <= NESTING_MAX:
        return 0
    depth = deepest = 0
    for token in TOKENS.finditer(text):
        character = text[token.start()]
        if character in "[{":
            depth += 1
            deepest = max(depth, deepest)
        elif character in "]}":
            depth -= 1
    return deepest


def _strings(tree: Tree) -> Iterator[str]:
    if isinstance(tree, list):
        for element in tree:
            yield from _strings(element)
    elif isinstance(tree, tuple):
        for name, value in tree:
            yield name
            yield from _strings(value)
    elif isinstance(tree, str):
        yield tree


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _duplicates(tree: Tree, path: str) -> Iterator[str]:
    if isinstance(tree, list):
        for element in tree:
            yield from _duplicates(element, f"{path}[]")
    elif isinstance(tree, tuple):
        seen: set[str] = set()
        for name, value in tree:
            below = f"{path}.{shown(name)}" if path else shown(name)
            if name in seen:
                yield below
            seen.add(name)
            yield from _duplicates(value, below)
