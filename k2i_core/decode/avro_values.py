"""Avro values one by one: where one ends, and what it is as JSON.

For what whole-array steps cannot do: values that contain themselves, and the long ends of lists
that few records have.

In JSON, bytes are base64, a decimal is text, other logical types are the numbers that Avro stores,
a union is the value alone, NaN and infinities are text.
"""

import base64
import json
import math
import struct
from typing import TypeAlias

from k2i_core.decode.avro_schema import AvroType, Kind
from k2i_core.decode.cursors import CONTINUED, VARINT_BYTES_MAX
from k2i_core.decode.json_trees import ErrorClass, RecordError

NESTING_MAX = 64
"""Levels of one value. Larger: Python's own recursion limit comes near; smaller: an honest tree
may not fit."""

ZERO_BYTE_ELEMENTS_MAX = 1_000
"""Elements of one list that take no bytes, such as nulls. Larger: nine bytes ask for all memory."""


Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def is_zero_sized(avro: AvroType, around: tuple[AvroType, ...] = ()) -> bool:
    """Tell whether a value takes no bytes."""
    if avro in around:
        return False  # it has no end, so no value exists
    if avro.kind is Kind.RECORD:
        return all(is_zero_sized(part, (*around, avro)) for _, part in avro.parts)
    return avro.kind is Kind.NULL or (avro.kind is Kind.FIXED and avro.byte_count == 0)


def element_count_max(avro: AvroType, byte_count: int) -> int:
    """Return how many elements of a type can honestly lie in so many bytes."""
    return ZERO_BYTE_ELEMENTS_MAX if is_zero_sized(avro) else byte_count


class ValueReader:
    """Reads one record from a position on; raises `RecordError` for what cannot be read."""

    def __init__(self, whole: bytes, position: int, end: int) -> None:
        self._whole = whole
        self.position = position
        self._end = end

    def number(self) -> int:
        """Read one signed number."""
        shift = number = 0
        for _ in range(VARINT_BYTES_MAX):
            byte = self._taken(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < CONTINUED:
                break
        else:
            raise _long_number()
        if number >> 64:
            raise _long_number()
        return (number >> 1) ^ -(number & 1)

    def skip(self, avro: AvroType, level: int = 0) -> None:  # noqa: C901 - one case a kind
        """Pass over one value."""
        if level > NESTING_MAX:
            raise _too_deep()
        match avro.kind:
            case Kind.NULL:
                pass
            case Kind.INT | Kind.LONG | Kind.ENUM:
                self.number()
            case Kind.BYTES | Kind.STRING:
                self._taken(self.number())
            case Kind.RECORD:
                for _, part in avro.parts:
                    self.skip(part, level + 1)
            case Kind.UNION:
                self.skip(self._branch(avro), level + 1)
            case Kind.ARRAY | Kind.MAP:
                while count := self.block(avro):
                    for _ in range(count):
                        self.skip_element(avro, level + 1)
            case _:
                self._taken(_BYTE_COUNTS.get(avro.kind, avro.byte_count))

    def skip_element(self, avro: AvroType, level: int = 0) -> None:
        """Pass over one element of a list, or one entry of a map."""
        if avro.kind is Kind.MAP:
            self._taken(self.number())
        self.skip(avro.parts[0][1], level)

    def block(self, avro: AvroType) -> int:
        """Read how many elements follow; zero at the end of the list or map."""
        count = self.number()
        if count < 0:
            count = -count
            self.number()
        element = avro.parts[0][1]
        is_map = avro.kind is Kind.MAP
        room = self._end - self.position
        if count > (room if is_map else element_count_max(element, room)):
            message = "a list has more elements than bytes"
            raise RecordError(ErrorClass.INVALID_ENCODING, message)
        return count

    def json_text(self, avro: AvroType) -> str:
        """Read one value as JSON."""
        tree = self._tree(avro, 0)
        return json.dumps(tree, ensure_ascii=False, separators=(",", ":"))

    def _tree(self, avro: AvroType, level: int) -> Json:
        if level > NESTING_MAX:
            raise _too_deep()
        match avro.kind:
            case Kind.RECORD:
                return {name: self._tree(part, level + 1) for name, part in avro.parts}
            case Kind.UNION:
                return self._tree(self._branch(avro), level + 1)
            case Kind.ARRAY:
                elements: list[Json] = []
                while count := self.block(avro):
                    elements += [self._tree(avro.parts[0][1], level + 1) for _ in range(count)]
                return elements
            case Kind.MAP:
                return self._entries(avro, level)
            case _:
                return self._leaf(avro)

    def _entries(self, avro: AvroType, level: int) -> Json:
        entries: dict[str, Json] = {}
        while count := self.block(avro):
            for _ in range(count):
                key = self._text()
                if key in entries:
                    raise RecordError(ErrorClass.DUPLICATE_KEY, "a map has a key twice")
                entries[key] = self._tree(avro.parts[0][1], level + 1)
        return entries

    def _leaf(self, avro: AvroType) -> Json:  # noqa: PLR0911 - one return a kind
        match avro.kind:
            case Kind.NULL:
                return None
            case Kind.BOOLEAN:
                return self._boolean()
            case Kind.INT | Kind.LONG:
                return self._ranged(avro.kind)
            case Kind.FLOAT:
                return _json_float(struct.unpack("<f", self._taken(4))[0])
            case Kind.DOUBLE:
                return _json_float(struct.unpack("<d", self._taken(8))[0])
            case Kind.STRING:
                return self._text()
            case Kind.ENUM:
                place = self.number()
                if not 0 <= place < len(avro.symbols):
                    raise RecordError(ErrorClass.INVALID_VALUE, "an enum has no such symbol")
                return avro.symbols[place]
            case _:
                is_bytes = avro.kind is Kind.BYTES
                taken = self._taken(self.number() if is_bytes else avro.byte_count)
                return (
                    _decimal_text(taken, avro.scale)
                    if avro.logical == "decimal"
                    else (base64.b64encode(taken).decode())
                )

    def _boolean(self) -> bool:
        byte = self._taken(1)[0]
        if byte > 1:
            raise RecordError(ErrorClass.INVALID_ENCODING, "a boolean is neither 0 nor 1")
        return byte == 1

    def _ranged(self, kind: Kind) -> int:
        number = self.number()
        if kind is Kind.INT and not -(1 << 31) <= number < 1 << 31:
            raise RecordError(ErrorClass.NUMBER_OUT_OF_RANGE, "an int has more than 32 bits")
        return number

    def _text(self) -> str:
        try:
            return self._taken(self.number()).decode()
        except UnicodeDecodeError as error:
            raise RecordError(ErrorClass.INVALID_UTF8, "a string is not utf-8") from error

    def _branch(self, avro: AvroType) -> AvroType:
        place = self.number()
        if not 0 <= place < len(avro.parts):
            raise RecordError(ErrorClass.INVALID_ENCODING, "a union has no such branch")
        return avro.parts[place][1]

    def _taken(self, byte_count: int) -> bytes:
        start, stop = self.position, self.position + byte_count
        if byte_count < 0 or stop > self._end:
            raise RecordError(ErrorClass.INVALID_ENCODING, "the record ends inside a value")
        self.position = stop
        return self._whole[start:stop]


_BYTE_COUNTS = {Kind.BOOLEAN: 1, Kind.FLOAT: 4, Kind.DOUBLE: 8}


def _json_float(number: float) -> Json:
    return number if math.isfinite(number) else str(number)


def _decimal_text(unscaled: bytes, scale: int) -> str:
    number = int.from_bytes(unscaled, "big", signed=True)
    digits = str(abs(number)).rjust(scale + 1, "0")
    sign = "-" if number < 0 else ""
    return sign + (f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits)


def _long_number() -> RecordError:
    return RecordError(ErrorClass.INVALID_ENCODING, "a number has more than 64 bits")


def _too_deep() -> RecordError:
    return RecordError(
        ErrorClass.NESTED_TOO_DEEP, f"a value nests deeper than levels={NESTING_MAX}"
    )
