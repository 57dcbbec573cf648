"""What the sections of the pipeline file share: a base model, free mappings, cron texts."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, UnionType
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from k2i_core.config.problems import quoted
from k2i_core.config.redaction import redacted_mapping
from k2i_core.errors import ConfigError

_ValueT = TypeVar("_ValueT")

SCALAR_SCHEMA: Mapping[str, object] = MappingProxyType({"type": ["string", "integer", "boolean"]})


class Section(BaseModel):
    """A section of the pipeline file: unknown keys refused, values fixed, inputs never echoed."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Show defaults as they are written in the file, such as 30s."""
        described = handler(schema)
        properties = handler.resolve_ref_schema(described).get("properties", {})
        defaults = cls.model_construct().model_dump(mode="json", warnings=False)
        for name, property_schema in properties.items():
            if "default" in property_schema and name in defaults:
                property_schema["default"] = defaults[name]
            if isinstance(property_schema.get("default"), dict | None):
                property_schema.pop("default", None)
        return described


class FreeMapping:
    """Settings whose keys belong to somebody else, such as librdkafka; some hold secrets.

    Shown, printed and dumped with its secrets hidden; `reveal` gives what was written.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        self._values = MappingProxyType(dict(values or {}))

    def reveal(self) -> dict[str, Any]:
        """Return a copy with the secrets in it, for the library that needs them."""
        return dict(self._values)

    def redacted(self) -> dict[str, Any]:
        """Return a copy that may be shown."""
        return redacted_mapping(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FreeMapping) and self._values == other._values

    def __hash__(self) -> int:
        return hash(frozenset(self._values))

    def __repr__(self) -> str:
        return f"FreeMapping({self.redacted()!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return FreeMapping, (dict(self._values),)


class FixedMapping(Mapping[str, _ValueT]):
    """A mapping that is a value, unlike a dict."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, _ValueT] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, key: str) -> _ValueT:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))


class Texts(FixedMapping[str]):
    """Texts by key, of which none is a secret."""

    __slots__ = ()

    def redacted(self) -> dict[str, Any]:
        """Return a copy that may be shown, should there be a secret all the same."""
        return redacted_mapping(self._values)

    def __repr__(self) -> str:
        return f"Texts({self.redacted()!r})"


@dataclass(frozen=True, slots=True)
class Scalars:
    """Annotation of a mapping whose values are texts, numbers and booleans.

    Attributes:
        check: Raises ValueError for a key or a value that is refused.
        kind: What it is in Python: `FreeMapping`, or `Texts` where nothing is secret.
    """

    check: Callable[[str, str], None]
    kind: type[FreeMapping] | type[Texts] = FreeMapping

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - pydantic's protocol
        shown = core_schema.plain_serializer_function_ser_schema(self.kind.redacted)
        return core_schema.no_info_plain_validator_function(self._read, serialization=shown)

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "object", "additionalProperties": dict(SCALAR_SCHEMA)}

    def _read(self, values: object) -> object:
        if isinstance(values, self.kind):
            return values
        if not isinstance(values, Mapping):
            message = f"must be a mapping of keys, not {quoted(values)}"
            raise ValueError(message)  # noqa: TRY004 - pydantic collects only ValueError
        return self.kind(read_each(cast("Mapping[str | int, object]", values), self._read_value))

    def _read_value(self, key: str | int, value: object) -> str:
        if isinstance(key, int):
            message = "is a number, not a key; put it in quotes"
            raise ValueError(message)  # noqa: TRY004 - pydantic collects only ValueError
        text = scalar_text(value)
        self.check(key, text)
        return text


@dataclass(frozen=True, slots=True)
class Written:
    """Annotation of a setting that is one text with a meaning of its own, such as a transform.

    Attributes:
        kind: What it is in Python.
        read: The text → the value; raises ValueError or ConfigError.
        write: The value → the text.
    """

    kind: type | UnionType
    read: Callable[[str], object]
    write: Callable[[Any], str] = str

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - pydantic's protocol
        written = core_schema.plain_serializer_function_ser_schema(self.write, when_used="json")
        return core_schema.no_info_plain_validator_function(self._read, serialization=written)

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string"}

    def _read(self, value: object) -> object:
        if isinstance(value, self.kind):
            return value
        if not isinstance(value, str):
            message = f"must be text, not {quoted(value)}"
            raise ValueError(message)  # noqa: TRY004 - pydantic collects only ValueError
        try:
            return self.read(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error


REFUSED_KEYS = "refused_keys"
"""Type of a pydantic error that stands for one problem at each of its keys."""


def refused_keys(reasons: Mapping[str | int, str]) -> PydanticCustomError:
    """Make one pydantic error that says why each of several keys below it is refused."""
    return PydanticCustomError(REFUSED_KEYS, "refused", {"reasons": dict(reasons)})


def read_each(
    values: Mapping[str | int, object], read: Callable[[str | int, object], _ValueT]
) -> dict[str, _ValueT]:
    """Read the values of a mapping; the ValueError of one is a problem at its key."""
    made: dict[str, _ValueT] = {}
    refused: dict[str | int, str] = {}
    for key, value in values.items():
        try:
            made[str(key)] = read(key, value)
        except ValueError as error:
            refused[key] = str(error)
    if refused:
        raise refused_keys(refused)
    return made


def scalar_text(value: object) -> str:
    """Write a text, number or boolean as libraries spell it.

    Raises:
        ValueError: It is a list, a mapping or nothing.

    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int):
        return str(value)
    message = f"must be text, a number, true or false, not {quoted(value)}"
    raise ValueError(message)


SCHEDULE_SCHEMA: Mapping[str, object] = MappingProxyType(
    # Editors read an unquoted off as false.
    {"anyOf": [{"type": "string"}, {"const": False}]}
)


def parse_schedule(value: object) -> object:
    """Read a schedule in cron's five fields, or `off`; anything but a text is left to pydantic.

    Raises:
        ValueError: The text is neither.

    """
    if value is False or value == "off":
        return "off"
    return parse_cron(value) if isinstance(value, str) else value


_CRON_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    (
        "month",
        1,
        12,
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ),
    ("day of week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)

_CRON_PART = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([1-9][0-9]{0,3}))?")


def parse_cron(value: str) -> str:
    """Check a schedule in cron's five fields.

    Returns:
        The schedule with single spaces.

    Raises:
        ValueError: It is none; the message names the field.

    """
    fields = value.split()
    if len(fields) != len(_CRON_FIELDS):
        names = ", ".join(name for name, *_ in _CRON_FIELDS)
        message = f'{quoted(value)} is not a schedule; write the five fields {names}, or "off"'
        raise ValueError(message)
    for text, (name, lowest, highest, words) in zip(fields, _CRON_FIELDS, strict=True):
        if not all(_is_cron_part(part, lowest, highest, words) for part in text.split(",")):
            allowed = f"*, */n, n, n-m or a list of these, from {lowest} to {highest}"
            message = (
                f"{quoted(value)} is not a schedule: the {name} {quoted(text)} is not {allowed}"
            )
            raise ValueError(message)
    return " ".join(fields)


def _is_cron_part(part: str, lowest: int, highest: int, words: tuple[str, ...]) -> bool:
    match = _CRON_PART.fullmatch(part.lower())
    if match is None:
        return False
    numbers = [_cron_number(text, lowest, words) for text in match.group(1, 2) if text]
    inside = all(lowest <= number <= highest for number in numbers)
    return inside and numbers == sorted(numbers)


def _cron_number(text: str, lowest: int, words: tuple[str, ...]) -> int:
    if text in words:
        return words.index(text) + lowest
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 2 else -1  # noqa: PLR2004 - two digits hold every field
