"""Numbers and bytes as binary formats store them → arrays of the columns' types.

Shared by the readers of Avro and Protobuf. What does not fit its column marks its row as faulty.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2i_core.decode.arrow import AnyArray, buffer_over, indices
from k2i_core.decode.cursors import CONTINUED, Cursors, Flags, Integers, Rows, numbers_array
from k2i_core.decode.framing import to_texts
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.json_values import DAYS_RANGE, MICROSECONDS_RANGE, spell

INT_RANGE = (-(1 << 31), (1 << 31) - 1)
DAY_MICROSECONDS = 86_400_000_000

_OUT_OF_RANGE = ErrorClass.NUMBER_OUT_OF_RANGE
_DECIMAL_BYTES = 16


def in_range(
    cursors: Cursors, rows: Rows, numbers: Integers, allowed: tuple[int, int], path: str
) -> Integers:
    """Return the numbers, those outside of `allowed` as zero and their rows as faulty."""
    is_bad = (numbers < allowed[0]) | (numbers > allowed[1])
    if not is_bad.any():
        return numbers
    cursors.fail(rows[is_bad], _OUT_OF_RANGE, f"{path}: outside of what the type holds")
    return np.where(is_bad, 0, numbers)


def int_array(
    cursors: Cursors, rows: Rows, numbers: Integers, type_: pa.DataType, path: str
) -> AnyArray:
    """Return int or date columns."""
    allowed = DAYS_RANGE if pa.types.is_date32(type_) else INT_RANGE
    fitting = in_range(cursors, rows, numbers, allowed, path)
    return numbers_array(fitting.astype(np.int32), type_)


def timestamp_array(
    cursors: Cursors,
    rows: Rows,
    numbers: Integers,
    type_: pa.DataType,
    path: str,
    *,
    per_microsecond: int = 1,
    microseconds: int = 1,
) -> AnyArray:
    """Return timestamps; what lies beyond the microsecond is cut off, towards the past."""
    lowest, highest = (bound // microseconds for bound in MICROSECONDS_RANGE)
    if per_microsecond > 1:
        numbers = numbers // per_microsecond
    fitting = in_range(cursors, rows, numbers, (lowest, highest), path)
    return numbers_array(fitting * microseconds, type_)


def time_array(
    cursors: Cursors, rows: Rows, numbers: Integers, path: str, *, microseconds: int = 1
) -> AnyArray:
    """Return times of the day."""
    allowed = (0, DAY_MICROSECONDS // microseconds - 1)
    fitting = in_range(cursors, rows, numbers, allowed, path)
    return numbers_array(fitting * microseconds, pa.time64("us"))


def text_array(cursors: Cursors, rows: Rows, binaries: pa.BinaryArray, path: str) -> AnyArray:
    """Return UTF-8 text."""
    return cursors.converted(
        rows, binaries, to_texts, ErrorClass.INVALID_UTF8, f"{path}: not utf-8"
    )


def uuid_array(cursors: Cursors, rows: Rows, texts: AnyArray, path: str) -> AnyArray:
    """Return uuids of texts."""
    spelling = spell(pa.uuid(), None)
    assert spelling is not None
    assert spelling.convert is not None
    return cursors.converted(
        rows, texts, spelling.convert, ErrorClass.INVALID_VALUE, f"{path}: not a uuid"
    )


def fixed_array(binaries: pa.BinaryArray, byte_count: int) -> AnyArray:
    """Return binaries that all have `byte_count` bytes as a fixed type."""
    return binaries.cast(pa.binary(byte_count))


def uuid_of_bytes(storage: AnyArray) -> AnyArray:
    """Return uuids of a fixed type of sixteen bytes."""
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def symbol_array(places: Integers, symbols: Sequence[str]) -> AnyArray:
    """Return the texts of an enum; every place is one of them."""
    return pa.array(symbols, pa.string()).take(indices(places))


def decimal_array(
    cursors: Cursors,
    rows: Rows,
    spans: tuple[Integers, Integers],
    type_: pa.Decimal128Type,
    path: str,
) -> AnyArray:
    """Return decimals of two's complement numbers, highest byte first."""
    starts, lengths = spans
    is_bad = (lengths == 0) | ~_fit_sixteen(cursors, starts, lengths)
    is_negative = (cursors.bytes_[starts] >= CONTINUED) & (lengths > 0)
    filling = np.where(is_negative, np.uint8(0xFF), np.uint8(0))
    numbers = np.empty((len(starts), _DECIMAL_BYTES), np.uint8)
    last = starts + lengths - 1
    for place in range(_DECIMAL_BYTES):
        bytes_ = cursors.bytes_[np.maximum(last - place, 0)]
        numbers[:, place] = np.where(place < lengths, bytes_, filling)
    is_bad |= _exceeds(numbers, type_.precision)
    live_bad = is_bad & ~cursors.is_faulty[rows]
    message = f"{path}: does not fit decimal({type_.precision},{type_.scale})"
    cursors.fail_where(rows, live_bad, _OUT_OF_RANGE, message)
    numbers[is_bad] = 0
    return pa.Array.from_buffers(type_, len(starts), [None, buffer_over(numbers)])


def _fit_sixteen(cursors: Cursors, starts: Integers, lengths: Integers) -> Flags:
    """Tell which numbers are the same without the bytes before their last sixteen."""
    fits = np.ones(len(starts), np.bool_)
    for index in np.flatnonzero(lengths > _DECIMAL_BYTES).tolist():
        start, stop = int(starts[index]), int(starts[index] + lengths[index])
        long_, short = cursors.whole[start:stop], cursors.whole[stop - _DECIMAL_BYTES : stop]
        fits[index] = int.from_bytes(long_, "big", signed=True) == int.from_bytes(
            short, "big", signed=True
        )
    return fits


def _exceeds(numbers: npt.NDArray[np.uint8], precision: int) -> Flags:
    """Tell which numbers, lowest byte first, have more than `precision` digits."""
    low = numbers.view("<u8")[:, 0]
    high = numbers.view("<i8")[:, 1]
    limit = 10**precision
    limit_high, limit_low = limit >> 64, np.uint64(limit & (2**64 - 1))
    negated_high, negated_low = -limit >> 64, np.uint64(-limit & (2**64 - 1))
    return (
        (high > limit_high)
        | ((high == limit_high) & (low >= limit_low))
        | (high < negated_high)
        | ((high == negated_high) & (low <= negated_low))
    )
