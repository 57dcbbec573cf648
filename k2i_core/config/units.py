"""Durations and sizes as people write them: `30s`, `128MiB`; in Python seconds and bytes."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from k2i_core.config.problems import quoted

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40

_SECONDS: Mapping[str, Fraction] = MappingProxyType(
    {
        "ms": Fraction(1, 1000),
        "s": Fraction(1),
        "m": Fraction(60),
        "h": Fraction(3600),
        "d": Fraction(86_400),
    }
)

_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "B": 1,
        "KB": 10**3,
        "MB": 10**6,
        "GB": 10**9,
        "TB": 10**12,
        "KiB": KIB,
        "MiB": MIB,
        "GiB": GIB,
        "TiB": TIB,
    }
)

_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")
_COUNT = re.compile(r"[0-9]{1,3}(?:_[0-9]{3})+|[0-9]{1,18}")
_NUMBER = re.compile(r"-?(?:[0-9]{0,18}\.)?[0-9]{1,18}(?:[eE][+-]?[0-9]{1,2})?")

_VARIABLE_SCHEMA: Mapping[str, object] = {"type": "string", "pattern": r"\$\{.+\}"}


def parse_duration(value: object) -> float:
    """Read a duration.

    Returns:
        Seconds.

    Raises:
        ValueError: It is no number with a unit.

    """
    match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2] not in _SECONDS:
        units = ", ".join(_SECONDS)
        message = f"{quoted(value)} is not a duration; write a number with one of {units}"
        raise ValueError(message)
    return float(Fraction(match[1]) * _SECONDS[match[2]])


def parse_size(value: object) -> int:
    """Read a size.

    Returns:
        Bytes.

    Raises:
        ValueError: It is no whole number of bytes and no number with a unit.

    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _QUANTITY.fullmatch(text.strip()) if isinstance(text, str) else None
    byte_count = Fraction(match[1]) * _BYTES.get(match[2] or "B", 0) if match else Fraction(0)
    if match is None or (match[2] or "B") not in _BYTES or byte_count.denominator != 1:
        units = ", ".join(_BYTES)
        message = f"{quoted(value)} is not a size; write a number of bytes, or one with {units}"
        raise ValueError(message)
    return int(byte_count)


def parse_count(value: object) -> int:
    """Read a whole number that may stand in quotes, as after `${VAR}`.

    Raises:
        ValueError: It is none.

    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _COUNT.fullmatch(value.strip()):
        return int(value)
    message = f"{quoted(value)} is not a whole number"
    raise ValueError(message)


def parse_number(value: object) -> float:
    """Read a number, whole or not, that may stand in quotes.

    Raises:
        ValueError: It is none.

    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    message = f"{quoted(value)} is not a number"
    raise ValueError(message)


def duration_text(seconds: float) -> str:
    """Write seconds in the largest unit that keeps the number whole."""
    # By its shortest text, because that is the number that was written.
    exact = Fraction(repr(seconds))
    for unit, length in reversed(list(_SECONDS.items())):
        if exact and (exact / length).denominator == 1:
            return f"{exact / length}{unit}"
    return f"{float(exact / _SECONDS['ms']):.9f}".rstrip("0").rstrip(".") + "ms"


def size_text(byte_count: int) -> str:
    """Write bytes in the largest binary unit that keeps the number whole."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if byte_count and byte_count % _BYTES[unit] == 0:
            return f"{byte_count // _BYTES[unit]}{unit}"
    return f"{byte_count}B"


def plain_number(number: float) -> float:
    """Write a number as people do: without a point where it is whole."""
    return int(number) if number.is_integer() else number


@dataclass(frozen=True, slots=True)
class Quantity:
    """Annotation of a setting that is a number with limits, however it is written.

    Attributes:
        read: What is written → the number; raises ValueError.
        write: The number → what is written.
        lowest: As it is written.
        highest: As it is written.
        written: JSON Schemas of what may be written.
    """

    read: Callable[[object], float]
    write: Callable[[Any], str | float]
    lowest: str | int
    highest: str | int
    written: tuple[Mapping[str, object], ...]

    def parse(self, value: object) -> float:
        """Read a number within the limits.

        Raises:
            ValueError: It is none, or beyond them.

        """
        number = self.read(value)
        if not self.read(self.lowest) <= number <= self.read(self.highest):
            message = f"{quoted(value)} is not from {self.lowest} to {self.highest}"
            raise ValueError(message)
        return number

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - pydantic's protocol
        written = core_schema.plain_serializer_function_ser_schema(self.write, when_used="json")
        return core_schema.no_info_plain_validator_function(self.parse, serialization=written)

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [*(dict(schema) for schema in self.written), dict(_VARIABLE_SCHEMA)]}


@dataclass(frozen=True, slots=True)
class OrOff:
    """Annotation of a limit that can be switched off: `off` in the file, None in Python."""

    quantity: Quantity

    def parse(self, value: object) -> float | None:
        """Read a number within its limits, or that there is none.

        Raises:
            ValueError: It is neither.

        """
        # YAML's older versions read an unquoted off as false.
        if value is None or value is False or value == "off":
            return None
        try:
            return self.quantity.parse(value)
        except ValueError as error:
            message = f"{error}, or off"
            raise ValueError(message) from error

    def _write(self, number: float | None) -> str | float:
        return "off" if number is None else self.quantity.write(number)

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - pydantic's protocol
        written = core_schema.plain_serializer_function_ser_schema(self._write, when_used="json")
        return core_schema.no_info_plain_validator_function(self.parse, serialization=written)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        described = self.quantity.__get_pydantic_json_schema__(schema, handler)
        return {"anyOf": [*described["anyOf"], {"enum": ["off", False]}]}


def bounded_duration(lowest: str, highest: str) -> Quantity:
    """Annotate a setting in seconds that is written as a duration."""
    pattern = rf"^[0-9]+(\.[0-9]+)?\s*({'|'.join(_SECONDS)})$"
    written = {"type": "string", "pattern": pattern}
    return Quantity(parse_duration, duration_text, lowest, highest, (written,))


def bounded_size(lowest: str, highest: str) -> Quantity:
    """Annotate a setting in bytes that is written as a size."""
    pattern = rf"^[0-9]+(\.[0-9]+)?\s*({'|'.join(_BYTES)})?$"
    written = {"type": "string", "pattern": pattern}, {"type": "integer", "minimum": 0}
    return Quantity(parse_size, size_text, lowest, highest, written)


def bounded_count(lowest: int, highest: int) -> Quantity:
    """Annotate a setting that is a whole number."""
    written = {"type": "integer", "minimum": lowest, "maximum": highest}
    return Quantity(parse_count, int, lowest, highest, (written,))


def bounded_number(lowest: str | int, highest: str | int) -> Quantity:
    """Annotate a setting that is a number, whole or not."""
    written = {
        "type": "number",
        "minimum": plain_number(parse_number(lowest)),
        "maximum": plain_number(parse_number(highest)),
    }
    return Quantity(parse_number, plain_number, lowest, highest, (written,))
