"""What Kafka Connect says of a value beyond its plain type, by the name of its schema.

| name | plain type | column |
|---|---|---|
| `io.debezium.time.Date`, Connect's `Date` | days since 1970 | date |
| `io.debezium.time.Time`, Connect's `Time`; `MicroTime`, `NanoTime` | since midnight | time |
| `io.debezium.time.Timestamp`, `MicroTimestamp`, `NanoTimestamp` | since 1970 | timestamp |
| Connect's `Timestamp` | since 1970 UTC | timestamptz |
| `io.debezium.time.ZonedTimestamp` | text | timestamptz |
| `io.debezium.data.Uuid` | text | uuid |
| Connect's `Decimal` of up to 38 digits | bytes | decimal(precision, scale) |

All others are what their plain type is. Connect's JSON converter writes numbers and base64 text for
them, which only the schema beside them explains; its Avro converter has a word of its own for each.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.decode.arrow import AnyArray, buffer_over, byte_lengths, numbers_of
from k2i_core.decode.isolation import UnfitError
from k2i_core.decode.json_trees import shown
from k2i_core.decode.json_values import Spelling, is_timestamp_us, spell
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.schema.registered import NamedText, WriterSchema

NESTING_MAX = 64
"""Levels of a schema. Larger: Python's and Parquet's own recursion limits come near; smaller: an
honest schema may not fit."""

DIGITS_MAX = 38

_DEBEZIUM, _CONNECT = "io.debezium.", "org.apache.kafka.connect.data."
_TIMESTAMP, _TIMESTAMPTZ = pa.timestamp("us"), pa.timestamp("us", tz="UTC")
_TIME = pa.time64("us")
_DAY_MICROSECONDS = 86_400_000_000

_LOGICAL: Mapping[str, tuple[pa.DataType, str | None]] = MappingProxyType(
    {
        f"{_DEBEZIUM}time.Date": (pa.date32(), "days"),
        f"{_CONNECT}Date": (pa.date32(), "days"),
        f"{_DEBEZIUM}time.Time": (_TIME, "day_ms"),
        f"{_CONNECT}Time": (_TIME, "day_ms"),
        f"{_DEBEZIUM}time.MicroTime": (_TIME, "day_us"),
        f"{_DEBEZIUM}time.NanoTime": (_TIME, "day_ns"),
        f"{_DEBEZIUM}time.Timestamp": (_TIMESTAMP, "epoch_ms"),
        f"{_DEBEZIUM}time.MicroTimestamp": (_TIMESTAMP, "epoch_us"),
        f"{_DEBEZIUM}time.NanoTimestamp": (_TIMESTAMP, "epoch_ns"),
        f"{_CONNECT}Timestamp": (_TIMESTAMPTZ, "epoch_ms"),
        f"{_DEBEZIUM}time.ZonedTimestamp": (_TIMESTAMPTZ, None),
        f"{_DEBEZIUM}data.Uuid": (pa.uuid(), None),
    }
)
"""Name of a schema → the column's type, and how JSON spells it beside ISO 8601."""

_PLAIN: Mapping[str, pa.DataType] = MappingProxyType(
    {
        "boolean": pa.bool_(),
        "int8": pa.int32(),
        "int16": pa.int32(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "float": pa.float32(),
        "float32": pa.float32(),
        "double": pa.float64(),
        "float64": pa.float64(),
        "string": pa.string(),
        "bytes": pa.binary(),
    }
)

_AVRO_WORDS = MappingProxyType(
    {
        f"{_DEBEZIUM}time.Date": "date",
        f"{_DEBEZIUM}time.Time": "time-millis",
        f"{_DEBEZIUM}time.MicroTime": "time-micros",
        f"{_DEBEZIUM}time.Timestamp": "local-timestamp-millis",
        f"{_DEBEZIUM}time.MicroTimestamp": "local-timestamp-micros",
        f"{_DEBEZIUM}time.NanoTimestamp": "local-timestamp-nanos",
        f"{_DEBEZIUM}data.Uuid": "uuid",
    }
)
"""Avro's own words; Connect's own types have them already."""

Formats = dict[str, str]


def with_logical_types(schema: WriterSchema) -> WriterSchema:
    """Return an Avro schema that says in Avro's words what Connect's names say."""
    references = tuple(NamedText(r.name, _in_avros_words(r.text)) for r in schema.references)
    text = _in_avros_words(schema.text)
    return WriterSchema(schema.schema_id, schema.language, text, references)


def _in_avros_words(text: str) -> str:
    try:
        return json.dumps(_named(json.loads(text)))
    except (ValueError, RecursionError):
        return text  # Whoever reads it says what is wrong with it.


def _named(node: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(node, list):
        return [_named(each) for each in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    named = {key: _named(value) for key, value in cast("dict[str, Any]", node).items()}
    word = _AVRO_WORDS.get(str(named.get("connect.name")))
    return named if word is None else {"logicalType": word, **named}


def connect_columns(described: object) -> tuple[pa.Schema, Formats]:
    """Return the columns of a schema as the JSON converter writes it, and how JSON spells them.

    Raises:
        UnusableSchemaError: It is no schema of a struct.

    """
    formats: Formats = {}
    type_ = _type_of(described, "", formats, 0)
    if not isinstance(type_, pa.StructType):
        message = "the schema beside the payload is none of a struct"
        raise UnusableSchemaError(message)
    return pa.schema(list(type_)), formats


def _type_of(described: object, path: str, formats: Formats, depth: int) -> pa.DataType | None:
    if depth > NESTING_MAX or not isinstance(described, Mapping):
        message = "the schema beside the payload is none, or nests too deep"
        raise UnusableSchemaError(message)
    node = cast("Mapping[str, Any]", described)
    kind, name = node.get("type"), str(node.get("name"))
    if kind == "struct":
        return _struct_type(node, path, formats, depth)
    if kind == "array":
        element = _type_of(node.get("items"), f"{path}[]", formats, depth + 1)
        return None if element is None else pa.list_(pa.field("element", element))
    if kind == "map":
        key = _type_of(node.get("keys"), path, {}, depth + 1)
        value = _type_of(node.get("values"), f"{path}{{}}", formats, depth + 1)
        return None if key != pa.string() or value is None else pa.map_(pa.string(), value)
    if name == f"{_CONNECT}Decimal" and (decimal := _decimal(node.get("parameters"))):
        formats[path] = "unscaled"
        return decimal
    logical, spelled = _LOGICAL.get(name, (None, None))
    if spelled is not None:
        formats[path] = spelled
    return logical or _PLAIN.get(str(kind))


def _struct_type(
    node: Mapping[str, Any], path: str, formats: Formats, depth: int
) -> pa.DataType | None:
    fields: list[pa.Field[Any]] = []
    seen: set[str] = set()
    for member in cast("list[Any]", node.get("fields") or []):
        name = member.get("field") if isinstance(member, dict) else None
        # A table could not tell two names apart that differ only in letter case.
        if isinstance(name, str) and name and name.casefold() not in seen:
            seen.add(name.casefold())
            inside = f"{path}.{shown(name)}" if path else shown(name)
            type_ = _type_of(member, inside, formats, depth + 1)
            if type_ is not None:
                fields.append(pa.field(name, type_))
    return pa.struct(fields) if fields else None


def _decimal(parameters: object) -> pa.DataType | None:
    if not isinstance(parameters, Mapping):
        return None
    known = cast("Mapping[str, object]", parameters)
    try:
        scale = int(str(known.get("scale")))
        precision = int(str(known.get("connect.decimal.precision", DIGITS_MAX)))
    except ValueError:
        return None
    if not 0 <= scale <= precision or not 0 < precision <= DIGITS_MAX:
        return None
    return pa.decimal128(precision, scale)


def fitting_formats(formats: Mapping[str, str], own: pa.Schema, table: pa.Schema) -> Formats:
    """Return the formats of the columns that are in the table of the type that they need."""
    types, wanted = dict(_types(own)), dict(_types(table))
    return {
        path: spelled
        for path, spelled in formats.items()
        if (found := wanted.get(path)) is not None and (needed := types.get(path)) is not None
        if found.equals(needed) or (is_timestamp_us(found) and is_timestamp_us(needed))
    }


def _types(schema: pa.Schema) -> "list[tuple[str, pa.DataType]]":
    found: list[tuple[str, pa.DataType]] = []
    waiting = [(shown(field.name), field.type) for field in schema]
    while waiting:
        path, type_ = waiting.pop()
        found.append((path, type_))
        if isinstance(type_, pa.StructType):
            waiting += [(f"{path}.{shown(field.name)}", field.type) for field in type_]
        elif isinstance(type_, pa.ListType):
            waiting.append((f"{path}[]", type_.value_type))
        elif isinstance(type_, pa.MapType):
            waiting.append((f"{path}{{}}", type_.item_type))
    return found


def spell_connect(column_type: pa.DataType, spelled: str) -> Spelling | None:
    """Return how Connect's JSON spells a column; None where that is in no way of its own."""
    if spelled == "days":
        return Spelling(pa.int64(), _days)
    if spelled in _MIDNIGHT_UNITS:
        return Spelling(pa.int64(), lambda numbers: _since_midnight(numbers, spelled))
    if spelled == "epoch_ns":
        microseconds = spell(column_type, "epoch_us")
        assert microseconds is not None
        assert microseconds.convert is not None
        convert = microseconds.convert
        return Spelling(pa.int64(), lambda numbers: convert(_floor(numbers, 1_000)))
    if spelled == "unscaled":
        assert isinstance(column_type, pa.Decimal128Type)
        return Spelling(pa.string(), lambda texts: _unscaled(texts, column_type))
    return None


_MIDNIGHT_UNITS = MappingProxyType({"day_ms": (1_000, 1), "day_us": (1, 1), "day_ns": (1, 1_000)})
"""Unit since midnight → times and divided by, to microseconds."""


def _days(numbers: AnyArray) -> AnyArray:
    spelling = spell(_TIMESTAMP, "epoch_s")
    assert spelling is not None
    assert spelling.convert is not None
    # For its range: Arrow casts any number to a date.
    spelling.convert(pc.multiply_checked(numbers, pa.scalar(86_400, pa.int64())))
    return numbers.cast(pa.int32()).cast(pa.date32())


def _since_midnight(numbers: AnyArray, unit: str) -> AnyArray:
    factor, divisor = _MIDNIGHT_UNITS[unit]
    multiplied = pc.multiply_checked(numbers, pa.scalar(factor, pa.int64()))
    microseconds = _floor(multiplied, divisor)
    is_bad = pc.or_(
        pc.less(microseconds, pa.scalar(0, pa.int64())),
        pc.greater_equal(microseconds, pa.scalar(_DAY_MICROSECONDS, pa.int64())),
    )
    if pc.any(is_bad).as_py():
        raise UnfitError
    return microseconds.cast(_TIME)


def _floor(numbers: AnyArray, divisor: int) -> AnyArray:
    """Divide towards the past."""
    if divisor == 1:
        return numbers
    by = pa.scalar(divisor, pa.int64())
    quotient = pc.divide(numbers, by)
    is_below = pc.less(numbers, pc.multiply(quotient, by))
    return pc.subtract(quotient, is_below.cast(pa.int64()))


def _unscaled(texts: AnyArray, type_: pa.Decimal128Type) -> AnyArray:
    """Return decimals of base64 of two's complement numbers, highest byte first."""
    spelling = spell(pa.binary(), None)
    assert spelling is not None
    assert spelling.convert is not None
    binaries = spelling.convert(texts).fill_null(b"\0")
    lengths = byte_lengths(binaries).to_numpy().astype(np.int64)
    if ((lengths == 0) | (lengths > _DECIMAL_BYTES)).any():
        raise UnfitError
    whole = binaries if binaries.offset == 0 else pa.concat_arrays([binaries])
    bytes_ = numbers_of(whole, 2, np.uint8)
    ends = numbers_of(whole, 1, np.int32)[1 : len(whole) + 1].astype(np.int64)
    starts = ends - lengths
    filling = np.where(bytes_[starts] >= _SIGN, np.uint8(0xFF), np.uint8(0))
    numbers = np.empty((len(whole), _DECIMAL_BYTES), np.uint8)
    for place in range(_DECIMAL_BYTES):
        read = bytes_[np.maximum(ends - 1 - place, 0)]
        numbers[:, place] = np.where(place < lengths, read, filling)
    widest = pa.decimal128(DIGITS_MAX, type_.scale)
    decimals = pa.Array.from_buffers(widest, len(whole), [None, buffer_over(numbers)])
    decimals.validate(full=True)  # Sixteen bytes hold more than 38 digits.
    fitting = decimals.cast(type_)
    return pc.if_else(texts.is_valid(), fitting, pa.scalar(None, type_))


_DECIMAL_BYTES = 16
_SIGN = 0x80
