"""Just enough of protobuf's wire format to read and write the messages of Flight SQL.

A message is a row of fields, each with a number and a wire type. Unknown fields are skipped, as
protobuf asks; what is cut off or too long is refused. Every byte here may come from a stranger.

Source: the encoding page of protobuf's documentation.
"""

from collections.abc import Iterator

from k2i_core.errors import ConfigError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_FIXED_LENGTHS = {_FIXED64: 8, _FIXED32: 4}

_VARINT_BITS_MAX = 64


class Message:
    """The fields of one message; the last value of a field counts, as protobuf says."""

    def __init__(self, encoded: bytes) -> None:
        """Read all fields.

        Raises:
            ConfigError: This is no message.

        """
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in _fields(encoded):
            self._fields.setdefault(number, []).append(value)

    def bytes_of(self, number: int) -> bytes | None:
        """Return a field of bytes; None when it is not there.

        Raises:
            ConfigError: It is a number.

        """
        values = self._fields.get(number)
        if not values:
            return None
        if not isinstance(values[-1], bytes):
            raise ConfigError(_malformed(f"field {number} is a number"))
        return values[-1]

    def text_of(self, number: int) -> str | None:
        """Return a field of text; None when it is not there.

        Raises:
            ConfigError: It is no UTF-8.

        """
        encoded = self.bytes_of(number)
        return None if encoded is None else _text(encoded)

    def texts_of(self, number: int) -> tuple[str, ...]:
        """Return all values of a repeated field of text."""
        values = self._fields.get(number, [])
        return tuple(_text(value) for value in values if isinstance(value, bytes))

    def number_of(self, number: int) -> int:
        """Return a field that is a number; 0 when it is not there."""
        values = [value for value in self._fields.get(number, []) if isinstance(value, int)]
        return values[-1] if values else 0

    def numbers_of(self, number: int) -> tuple[int, ...]:
        """Return all values of a repeated field of numbers, packed or not."""
        numbers: list[int] = []
        for value in self._fields.get(number, []):
            if isinstance(value, int):
                numbers.append(value)
                continue
            position = 0
            while position < len(value):
                packed, position = _varint(value, position)
                numbers.append(packed)
        return tuple(numbers)


def encoded_bytes(number: int, value: bytes) -> bytes:
    """Encode one field of bytes or text."""
    return _encoded_varint(number << 3 | _BYTES) + _encoded_varint(len(value)) + value


def _text(encoded: bytes) -> str:
    try:
        return encoded.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(_malformed("text is not UTF-8")) from error


def _fields(encoded: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(encoded):
        tag, position = _varint(encoded, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, position = _varint(encoded, position)
            yield number, value
            continue
        if wire_type == _BYTES:
            length, position = _varint(encoded, position)
        elif wire_type in _FIXED_LENGTHS:
            length = _FIXED_LENGTHS[wire_type]
        else:
            raise ConfigError(_malformed(f"wire type {wire_type}"))
        if length > len(encoded) - position:
            raise ConfigError(_malformed("a field is cut off"))
        yield number, encoded[position : position + length]
        position += length


def _varint(encoded: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _VARINT_BITS_MAX + 6, 7):
        if position >= len(encoded):
            raise ConfigError(_malformed("a number is cut off"))
        byte = encoded[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            return value, position
    raise ConfigError(_malformed("a number is too long"))


def _encoded_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - what fits into seven bits
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _malformed(why: str) -> str:
    return f"not a message of Flight SQL: {why}; use a Flight SQL driver"
