"""Writes MessagePack as the specification says, in every width that it allows."""

import random
import struct
from datetime import datetime, timedelta
from typing import Any

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class Extension(bytes):
    """A type byte and content."""


class Pairs(list[tuple[Any, Any]]):
    """A map whose keys may repeat or be no text."""


def encode(value: Any, chosen: random.Random) -> bytes:  # noqa: PLR0911 - one return a kind
    """Return a value's bytes; which of several spellings is chosen at random."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return chosen.choice(list(integers(value)))
    if isinstance(value, float):
        single = struct.pack(">f", value) if abs(value) < 1e30 else b""
        is_same = bool(single) and struct.unpack(">f", single)[0] == value
        return (
            b"\xca" + single
            if is_same and chosen.random() < 0.5
            else struct.pack(">Bd", 0xCB, value)
        )
    if isinstance(value, Extension):
        return extension(value)
    if isinstance(value, bytes):
        return sized(value, chosen, {1: 0xC4, 2: 0xC5, 4: 0xC6})
    if isinstance(value, str):
        return sized(value.encode(), chosen, {1: 0xD9, 2: 0xDA, 4: 0xDB}, (0xA0, 32))
    if isinstance(value, datetime):
        return timestamp(value, chosen)
    if isinstance(value, dict | Pairs):
        pairs = list(value.items()) if isinstance(value, dict) else value
        inner = b"".join(encode(part, chosen) for pair in pairs for part in pair)
        return counted(len(pairs), chosen, {2: 0xDE, 4: 0xDF}, 0x80) + inner
    inner = b"".join(encode(part, chosen) for part in value)
    return counted(len(value), chosen, {2: 0xDC, 4: 0xDD}, 0x90) + inner


def integers(value: int) -> Any:
    if -32 <= value < 128:
        yield struct.pack("b", value)
    for tag, code in enumerate("BHIQ", start=0xCC):
        if 0 <= value < 1 << (8 * struct.calcsize(code)):
            yield struct.pack(f">B{code}", tag, value)
    for tag, code in enumerate("bhiq", start=0xD0):
        half = 1 << (8 * struct.calcsize(code) - 1)
        if -half <= value < half:
            yield struct.pack(f">B{code}", tag, value)


def sized(
    content: bytes, chosen: random.Random, tags: dict[int, int], short: tuple[int, int] = (0, 0)
) -> bytes:
    if len(content) < short[1] and chosen.random() < 0.7:
        return bytes([short[0] + len(content)]) + content
    size = chosen.choice([size for size in tags if len(content) < 1 << (8 * size)])
    return bytes([tags[size]]) + len(content).to_bytes(size, "big") + content


def counted(count: int, chosen: random.Random, tags: dict[int, int], short: int) -> bytes:
    if count < 16 and chosen.random() < 0.7:
        return bytes([short + count])
    size = chosen.choice(list(tags))
    return bytes([tags[size]]) + count.to_bytes(size, "big")


def extension(value: bytes) -> bytes:
    content = len(value) - 1
    if content in (1, 2, 4, 8, 16):
        return bytes([0xD4 + content.bit_length() - 1]) + value
    return b"\xc7" + bytes([content]) + value


def timestamp(value: datetime, chosen: random.Random) -> bytes:
    microseconds = (value - EPOCH) // timedelta(microseconds=1)
    seconds, rest = divmod(microseconds, 1_000_000)
    nanoseconds = rest * 1_000 + chosen.randrange(1_000)
    spellings = [b"\xc7\x0c\xff" + struct.pack(">Iq", nanoseconds, seconds)]
    if 0 <= seconds < 1 << 34:
        spellings.append(b"\xd7\xff" + struct.pack(">Q", nanoseconds << 34 | seconds))
    if 0 <= seconds < 1 << 32 and rest == 0:
        spellings.append(b"\xd6\xff" + struct.pack(">I", seconds))
    return chosen.choice(spellings)
