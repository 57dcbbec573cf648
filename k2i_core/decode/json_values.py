"""Values as JSON spells them → values of the columns, whole arrays at a time.

JSON has no timestamps, dates, decimals or bytes. Arrow's parser hands over what JSON has (the
*parse type*), and the functions here make the column of it or refuse it:

| column | JSON | accepted |
|---|---|---|
| int32, int64 | number | in range; without fraction and without exponent |
| float32, float64 | number | any finite one in range |
| decimal(p, s) | number or string | what fits exactly; up to 76 - s digits may be written |
| timestamp | string | `YYYY-MM-DD`, then `T` or space and `hh[:mm[:ss[.fraction]]]`; no zone |
| timestamptz | string | the same with a time, then `Z`, `±hh`, `±hhmm` or `±hh:mm` |
| either, as epoch | number | whole seconds, milliseconds or microseconds since 1970 UTC |
| date | string | `YYYY-MM-DD` |
| time | string | `hh[:mm[:ss[.fraction]]]` |
| uuid | string | 8-4-4-4-12 hexadecimal digits, any case |
| binary, fixed(n) | string | base64 (RFC 4648 section 4, padded); fixed: of n bytes |

Years are 0001 to 9999, after the zone is applied: readers cannot show others. There are no leap
seconds and no 24:00. Digits of a fraction beyond the sixth are cut off.
"""

import binascii
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.decode.arrow import AnyArray, byte_lengths, ends_with, joined, replace, surround
from k2i_core.decode.isolation import UnfitError
from k2i_core.errors import ConfigError

Conversion: TypeAlias = Callable[[AnyArray], AnyArray]
"""Array of the parse type → array of the column's type, as long. Raises `UnfitError` or
`pa.ArrowInvalid` when at least one value does not fit."""

EPOCH_UNITS = MappingProxyType({"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1})
"""Time formats other than ISO 8601, with their length in microseconds."""

DECIMAL_DIGITS_MAX = 76
"""Digits of Arrow's widest decimal. Its parser checks digits as written against the precision and
then moves the point without a further check, so precision + scale must stay within this: beyond, a
large number silently becomes another one."""

MICROSECONDS_RANGE = (-62_135_596_800_000_000, 253_402_300_799_999_999)
DAYS_RANGE = (-719_162, 2_932_896)

BASE64 = r"\A(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\z"
UUID = r"\A[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\z"
NIL_UUID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Spelling:
    """How JSON spells a type that has no fields of its own.

    Attributes:
        parse_type: What Arrow's JSON parser is asked for.
        convert: Makes the column's type of it; None when it is that already.
    """

    parse_type: pa.DataType
    convert: Conversion | None


def spell(column_type: pa.DataType, time_format: str | None) -> Spelling | None:
    """Return how JSON spells `column_type`, or None when JSON rows cannot hold it."""
    types = pa.types
    if time_format is not None:
        return Spelling(pa.int64(), _epoch(column_type, EPOCH_UNITS[time_format]))
    if (
        types.is_boolean(column_type)
        or types.is_int32(column_type)
        or types.is_int64(column_type)
        or types.is_string(column_type)
    ):
        return Spelling(column_type, None)
    if types.is_float32(column_type) or types.is_float64(column_type):
        return Spelling(column_type, _finite)
    if isinstance(column_type, pa.Decimal128Type):
        digits_max = DECIMAL_DIGITS_MAX - column_type.scale
        return Spelling(
            pa.decimal256(digits_max, column_type.scale), lambda array: array.cast(column_type)
        )
    text_conversion = _text_conversion(column_type)
    return None if text_conversion is None else Spelling(pa.string(), text_conversion)


def _text_conversion(column_type: pa.DataType) -> Conversion | None:
    if is_timestamp_us(column_type):
        return lambda texts: _timestamps(texts, column_type)
    if isinstance(column_type, pa.FixedSizeBinaryType):
        return lambda texts: _fixed(texts, column_type)
    conversions: dict[pa.DataType, Conversion] = {
        pa.date32(): _dates,
        pa.time64("us"): _times,
        pa.uuid(): _uuids,
        pa.binary(): _base64_bytes,
    }
    return conversions.get(column_type)


def is_timestamp_us(column_type: pa.DataType) -> bool:
    """Return whether this is Iceberg's timestamp or timestamptz."""
    return isinstance(column_type, pa.TimestampType) and column_type.unit == "us"


def check_time_format(path: str, column_type: pa.DataType, time_format: str) -> None:
    """Check that the format is known and that the column at `path` is a timestamp.

    Raises:
        ConfigError: It is not. Correct the pipeline file.

    """
    if time_format not in EPOCH_UNITS:
        allowed = ", ".join(EPOCH_UNITS)
        message = f"unknown time format, column={path} format={time_format} allowed={allowed}"
        raise ConfigError(message)
    if not is_timestamp_us(column_type):
        message = f"a time format needs a timestamp, column={path} type={column_type}"
        raise ConfigError(message)


def _finite(numbers: AnyArray) -> AnyArray:
    # Arrow's parser takes NaN and Infinity, which JSON lacks, and overflows a float32 to infinity.
    if pc.all(pc.is_finite(numbers)).as_py() is False:
        raise UnfitError
    return numbers


def _timestamps(texts: AnyArray, column_type: pa.DataType) -> AnyArray:
    stamps = _cast_times(texts, column_type)
    _check_range(stamps.cast(pa.int64()), MICROSECONDS_RANGE)
    return stamps


def _cast_times(texts: AnyArray, time_type: pa.DataType) -> AnyArray:
    try:
        return texts.cast(time_type)
    except pa.ArrowInvalid:
        # Arrow refuses more than six digits. Cutting them is tried second, because it costs more
        # than the cast and most producers write six or fewer.
        cut = pc.replace_substring_regex(texts, r"(\.[0-9]{6})[0-9]+", r"\1")
        return cut.cast(time_type)


def _epoch(column_type: pa.DataType, unit_microseconds: int) -> Conversion:
    def convert(numbers: AnyArray) -> AnyArray:
        microseconds = pc.multiply_checked(numbers, pa.scalar(unit_microseconds, pa.int64()))
        _check_range(microseconds, MICROSECONDS_RANGE)
        return microseconds.cast(column_type)

    return convert


def _dates(texts: AnyArray) -> AnyArray:
    dates = texts.cast(pa.date32())
    _check_range(dates.cast(pa.int32()), DAYS_RANGE)
    return dates


def _times(texts: AnyArray) -> AnyArray:
    # Arrow casts text to timestamps only; on the first day of the epoch, that is the time of day.
    stamps = surround("1970-01-01T", texts, "")
    return _cast_times(stamps, pa.timestamp("us")).cast(pa.time64("us"))


def _check_range(numbers: AnyArray, allowed: tuple[int, int]) -> None:
    extremes = pc.min_max(numbers)
    smallest, largest = extremes["min"].as_py(), extremes["max"].as_py()
    if smallest is not None and (smallest < allowed[0] or largest > allowed[1]):
        raise UnfitError


def _uuids(texts: AnyArray) -> AnyArray:
    _check_pattern(texts, UUID)
    digits = replace(texts.fill_null(NIL_UUID), "-", "")
    packed = pa.py_buffer(binascii.unhexlify(joined(digits)))
    storage = pa.Array.from_buffers(pa.binary(16), len(texts), [None, packed])
    return pa.ExtensionArray.from_storage(pa.uuid(), _with_nulls(storage, texts))


def _fixed(texts: AnyArray, column_type: pa.FixedSizeBinaryType) -> AnyArray:
    decoded = _base64_bytes(texts)
    _check_range(byte_lengths(decoded), (column_type.byte_width, column_type.byte_width))
    return decoded.cast(column_type)


def _base64_bytes(texts: AnyArray) -> AnyArray:
    """Decode all texts in one call: with padding read as zero bits, they decode as one text."""
    _check_pattern(texts, BASE64)
    present = texts.fill_null("")
    text = joined(present)
    decoded = binascii.a2b_base64(text.replace(b"=", b"A"))
    lengths = pc.multiply(pc.divide(byte_lengths(present).cast(pa.int64()), 4), 3)
    ends = pc.cumulative_sum(lengths)
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends]).cast(pa.int32())
    padded = pa.Array.from_buffers(
        pa.binary(), len(texts), [None, offsets.buffers()[1], pa.py_buffer(decoded)]
    )
    if b"=" in text:
        one = pc.cast(ends_with(present, "="), pa.int32())
        two = pc.cast(ends_with(present, "=="), pa.int32())
        cut_bytes = pc.add(one, two)
        padded = pc.choose(
            cut_bytes, padded, pc.binary_slice(padded, 0, -1), pc.binary_slice(padded, 0, -2)
        )
    return _with_nulls(padded, texts)


def _check_pattern(texts: AnyArray, pattern: str) -> None:
    if pc.all(pc.match_substring_regex(texts, pattern=pattern)).as_py() is False:
        raise UnfitError


def _with_nulls(values: AnyArray, texts: AnyArray) -> AnyArray:
    if texts.null_count == 0:
        return values
    return pc.if_else(texts.is_valid(), values, pa.scalar(None, values.type))
