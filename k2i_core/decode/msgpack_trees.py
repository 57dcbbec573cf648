"""One MessagePack record as a tree; for the records that have something that the table lacks."""

import math
import struct
from typing import Any

import pyarrow as pa

from k2i_core.decode.json_plan import ColumnPlan, Shape
from k2i_core.decode.json_rows import FLOAT32_LIMIT, Findings
from k2i_core.decode.json_trees import (
    NESTING_MAX,
    ErrorClass,
    Members,
    Number,
    RecordError,
    Tree,
)
from k2i_core.decode.msgpack_columns import TIMESTAMP_EXTENSION, TIMESTAMP_TYPE
from k2i_core.decode.msgpack_tokens import KINDS, Kind, Tokens

_INT32_MAX = 2**31


class TreeReader:
    """Makes trees of tokens, from left to right."""

    def __init__(self, whole: bytes, tokens: Tokens) -> None:
        self._whole = whole
        self._tokens = tokens
        self._next = 0

    def members(self, root: int) -> Members:
        """Return the members of the map at a record's first token.

        Raises:
            RecordError: A key is there twice, a text is none, or it nests too deep.

        """
        self._next = root
        tree = self._tree(0)
        assert isinstance(tree, tuple)
        return tree

    def _tree(self, depth: int) -> Tree:  # noqa: C901, PLR0911 - one return a kind
        if depth > NESTING_MAX:
            message = f"nested deeper than levels={NESTING_MAX}"
            raise RecordError(ErrorClass.NESTED_TOO_DEEP, message)
        token = self._next
        self._next += 1
        tag = int(self._tokens.tags[token])
        start, length = int(self._tokens.starts[token]), int(self._tokens.lengths[token])
        match KINDS[tag]:
            case Kind.NIL:
                return None
            case Kind.BOOLEAN:
                return bool(tag & 1)
            case Kind.LIST:
                return [self._tree(depth + 1) for _ in range(length)]
            case Kind.MAP:
                return self._members(length, depth)
            case Kind.TEXT:
                return self._text(start, length)
            case Kind.BINARY:
                return pa.binary()
            case Kind.EXTENSION:
                if self._whole[start] != TIMESTAMP_EXTENSION:
                    message = "an extension that is no timestamp"
                    raise RecordError(ErrorClass.WRONG_TYPE, message)
                return TIMESTAMP_TYPE
            case Kind.FLOAT:
                code = ">f" if length == 4 else ">d"  # noqa: PLR2004 - bytes of a single
                return Number(repr(struct.unpack_from(code, self._whole, start)[0]))
            case _:
                return self._integer(tag, start, length)

    def _integer(self, tag: int, start: int, length: int) -> Number:
        if length == 0:
            return Number(tag if tag < _INT8_SIGN else tag - 256)
        is_signed = tag >= _SIGNED_TAG
        content = self._whole[start : start + length]
        return Number(int.from_bytes(content, "big", signed=is_signed))

    def _members(self, length: int, depth: int) -> Members:
        members: list[tuple[str, Tree]] = []
        for _ in range(length):
            name = self._tree(depth + 1)
            if not isinstance(name, str) or isinstance(name, Number):
                message = "a key is no text"
                raise RecordError(ErrorClass.WRONG_TYPE, message)
            members.append((name, self._tree(depth + 1)))
        if len({name for name, _ in members}) < len(members):
            message = "a key is there twice"
            raise RecordError(ErrorClass.DUPLICATE_KEY, message)
        return tuple(members)

    def _text(self, start: int, length: int) -> str:
        try:
            return self._whole[start : start + length].decode()
        except UnicodeDecodeError as error:
            message = "a text is not utf-8"
            raise RecordError(ErrorClass.INVALID_UTF8, message) from error


_INT8_SIGN, _SIGNED_TAG = 0x80, 0xD0


def find(row: ColumnPlan, members: Members) -> Findings:
    """Return what an otherwise good record has that the table lacks."""
    findings = Findings()
    _find(row, members, findings)
    return findings


def _find(plan: ColumnPlan, tree: Tree, findings: Findings) -> None:
    if plan.shape is Shape.STRUCT and isinstance(tree, tuple):
        for name, below in tree:
            child = plan.children.get(name)
            if child is None:
                findings.unknown.append((plan, name, below))
            else:
                _find(child, below, findings)
    elif plan.shape is Shape.MAP and isinstance(tree, tuple):
        (value,) = plan.children.values()
        for _, below in tree:
            _find(value, below, findings)
    elif isinstance(tree, list):
        (element,) = plan.children.values()
        for below in tree:
            _find(element, below, findings)
    elif isinstance(tree, Number) and (wider := _wider(plan.field.type, tree)) is not None:
        findings.wider.append((plan, wider))


def _wider(type_: Any, number: Number) -> pa.DataType | None:  # noqa: ANN401 - any of Arrow's types
    if pa.types.is_int32(type_):
        is_inside = number.lstrip("-").isdigit() and -_INT32_MAX <= int(number) < _INT32_MAX
        return None if is_inside else pa.int64()
    if pa.types.is_float32(type_):
        value = float(number)
        is_beyond = math.isfinite(value) and abs(value) >= FLOAT32_LIMIT
        return pa.float64() if is_beyond else None
    return None
