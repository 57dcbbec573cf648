"""n encoded records read side by side: one cursor each, moved by whole-array steps.

Avro and Protobuf are read value after value, so one record cannot be split; n records of one
schema can be read together, because what comes next is the same kind of value in most of them.
A step names the rows whose cursor it moves and costs a fixed number of array operations.

What cannot be read marks its row as faulty and never raises: the first fault stays, and from then
on the row reads empty values, so that its neighbours go on untouched. No cursor leaves its record.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2i_core.decode.arrow import AnyArray, buffer_over, indices
from k2i_core.decode.isolation import UnfitError, find_unfit
from k2i_core.decode.json_trees import ErrorClass

Integers: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Rows: TypeAlias = Integers
"""Which of the n records a step is about, ascending, each at most once."""

PADDING_BYTES = 16
"""Behind the records, so that a load of a word at the last byte stays inside."""

VARINT_BYTES_MAX = 10
CONTINUED = 0x80
"""Bit of a byte that says that the number goes on in the next one; in bytes highest first, the
sign."""

_SEVEN_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
_STOP_BITS = np.uint64(0x8080808080808080)
_ONE = np.uint64(1)

_TRUNCATED = (ErrorClass.INVALID_ENCODING, "the record ends inside a value")
_LONG_VARINT = (ErrorClass.INVALID_ENCODING, "a number has more than 64 bits")


class Cursors:
    """Where each of n records is read next, and which of them are faulty."""

    def __init__(self, bytes_: npt.NDArray[np.uint8], positions: Integers, ends: Integers) -> None:
        """Read n records that lie in `bytes_`, which is padded."""
        self.bytes_ = bytes_
        # Overlapping words, one at each byte.
        self._words: npt.NDArray[np.uint64] = np.ndarray(
            (len(bytes_) - 7,), np.dtype("<u8"), bytes_.data, strides=(1,)
        )
        self._arrow_bytes = buffer_over(bytes_)
        self.ends = ends
        self.positions = positions
        self.is_faulty: Flags = np.zeros(len(ends), np.bool_)
        self._faults: dict[int, tuple[ErrorClass, str]] = {}

    @classmethod
    def of(cls, values: pa.BinaryArray, skipped_bytes: Integers | int = 0) -> "Cursors":
        """Start `skipped_bytes` behind the start of each of n non-null values."""
        offsets = np.frombuffer(memoryview(_buffer(values, 1)), np.int32)[
            values.offset : values.offset + len(values) + 1
        ].astype(np.int64)
        first, last = (int(offsets[0]), int(offsets[-1])) if len(values) else (0, 0)
        bytes_ = np.zeros(last - first + PADDING_BYTES, np.uint8)
        if last > first:
            bytes_[: last - first] = np.frombuffer(memoryview(_buffer(values, 2)), np.uint8)[
                first:last
            ]
        ends = offsets[1:] - first
        return cls(bytes_, np.minimum(offsets[:-1] - first + skipped_bytes, ends), ends)

    def inside(self, starts: Integers, ends: Integers) -> "Cursors":
        """Return cursors over parts of the same bytes."""
        return Cursors(self.bytes_, starts, ends)

    @cached_property
    def whole(self) -> bytes:
        """All bytes, for the values that are read one by one."""
        return self.bytes_.tobytes()

    @property
    def rows(self) -> Rows:
        """All rows."""
        return np.arange(len(self.ends))

    @property
    def faults(self) -> dict[int, tuple[ErrorClass, str]]:
        """Row → why it is no row of a table."""
        return self._faults

    def fail(self, rows: Rows, error_class: ErrorClass, message: str) -> None:
        """Mark rows as faulty, those that are not already."""
        for row in rows.tolist():
            if row not in self._faults:
                self._faults[row] = (error_class, message)
        self.is_faulty[rows] = True
        self.positions[rows] = self.ends[rows]

    def fail_where(self, rows: Rows, is_bad: Flags, error_class: ErrorClass, message: str) -> None:
        """Mark those of `rows` as faulty where `is_bad`."""
        if is_bad.any():
            self.fail(rows[is_bad], error_class, message)

    def advance(self, rows: Rows, byte_counts: Integers | int) -> None:
        """Move cursors; a row whose record ends before that is faulty."""
        positions = self.positions[rows] + byte_counts
        self.positions[rows] = positions
        self.fail_where(rows, positions > self.ends[rows], *_TRUNCATED)

    def varints(self, rows: Rows) -> npt.NDArray[np.uint64]:
        """Read one unsigned number of at most 64 bits, seven bits a byte, lowest first."""
        positions = self.positions[rows]
        first = self.bytes_[positions]
        if (first < CONTINUED).all():  # tags, lengths and branches mostly have one byte
            self.advance(rows, 1)
            return first.astype(np.uint64)
        words = self._words[positions]
        stops = ~words & _STOP_BITS
        lowest = stops & (~stops + _ONE)
        below = lowest - _ONE  # all ones where none of eight bytes is the last one
        numbers = _packed(words & (lowest | below) & _SEVEN_BITS)
        byte_counts = ((np.bitwise_count(below).astype(np.int64) + 1) >> 3).astype(np.int64)
        is_long = lowest == 0
        if is_long.any():
            self._finish_long(positions, numbers, byte_counts, is_long)
            self.fail_where(rows, byte_counts > VARINT_BYTES_MAX, *_LONG_VARINT)
            byte_counts[byte_counts > VARINT_BYTES_MAX] = 0
        self.advance(rows, byte_counts)
        return numbers

    def _finish_long(
        self,
        positions: Integers,
        numbers: npt.NDArray[np.uint64],
        byte_counts: Integers,
        is_long: Flags,
    ) -> None:
        """Add the ninth and tenth byte, in place; eleven bytes stand for too many."""
        at = positions[is_long]
        # A record may end in its eighth byte, and the padding behind the last one with it.
        ninth = self.bytes_[np.minimum(at + 8, len(self.bytes_) - 1)].astype(np.uint64)
        tenth = self.bytes_[np.minimum(at + 9, len(self.bytes_) - 1)].astype(np.uint64)
        is_ten = ninth >= CONTINUED
        high = (ninth & np.uint64(0x7F)) << np.uint64(56)
        highest = np.where(is_ten, tenth << np.uint64(63), np.uint64(0))
        numbers[is_long] |= high | highest
        byte_counts[is_long] = np.where(is_ten, np.where(tenth > 1, 11, 10), 9)

    def zigzags(self, rows: Rows) -> Integers:
        """Read one signed number of at most 64 bits, as Avro and Protobuf's sint write it."""
        numbers = self.varints(rows)
        halves = (numbers >> _ONE).astype(np.int64)
        return halves ^ -(numbers & _ONE).astype(np.int64)

    def singles(self, rows: Rows) -> Flags | npt.NDArray[np.uint8]:
        """Read one byte."""
        read = self.bytes_[self.positions[rows]]
        self.advance(rows, 1)
        return read

    def words(self, rows: Rows, byte_count: int) -> npt.NDArray[np.uint64]:
        """Read four or eight bytes, lowest first, as the lower bits of a word."""
        read = self.words_at(self.positions[rows], byte_count)
        self.advance(rows, byte_count)
        return read

    def words_at(self, positions: Integers, byte_count: int) -> npt.NDArray[np.uint64]:
        """Return up to eight bytes at positions inside of the bytes."""
        inside = np.minimum(positions, len(self._words) - 1)
        return self._words[inside] & np.uint64((1 << (8 * byte_count)) - 1)

    def spans(self, rows: Rows, lengths: Integers) -> tuple[Integers, Integers]:
        """Pass over `lengths` bytes each; faulty where they are not there.

        Returns:
            Where they start, and their lengths, zero for faulty rows.

        """
        starts = self.positions[rows]
        is_bad = (lengths < 0) | (lengths > self.ends[rows] - starts)
        if is_bad.any():
            lengths = np.where(is_bad, 0, lengths)
            self.fail(rows[is_bad], *_TRUNCATED)
        self.positions[rows] += np.where(self.is_faulty[rows], 0, lengths)
        return starts, lengths

    def binaries(self, starts: Integers, lengths: Integers) -> pa.BinaryArray:
        """Return the bytes at each span."""
        count = len(starts)
        if count == 0:
            return pa.array([], pa.binary())
        bounds = np.empty(2 * count, np.int32)
        bounds[0::2] = starts
        bounds[1::2] = starts + lengths
        # Every second element is a span; those between may have any length, and are not taken.
        interleaved = pa.Array.from_buffers(
            pa.binary(), 2 * count - 1, [None, buffer_over(bounds), self._arrow_bytes]
        )
        taken = interleaved.take(indices(np.arange(0, 2 * count, 2)))
        assert isinstance(taken, pa.BinaryArray)
        return taken

    def converted(
        self,
        rows: Rows,
        array: AnyArray,
        convert: Callable[[AnyArray], AnyArray],
        error_class: ErrorClass,
        message: str,
    ) -> AnyArray:
        """Convert an array of one element a row; rows whose element does not fit are faulty.

        Returns:
            The converted elements, null for rows that do not fit.

        """
        try:
            return convert(array)
        except UnfitError:
            unfit = find_unfit(array, convert)
        self.fail(rows[unfit], error_class, message)
        is_fit = np.ones(len(array), np.bool_)
        is_fit[unfit] = False
        return convert(nulls_where(array, ~is_fit))


def nulls_where(array: AnyArray, is_null: Flags) -> AnyArray:
    """Return the array with null where `is_null`."""
    return array.take(indices(np.arange(len(array)), is_null))


def converted(
    array: AnyArray, convert: Callable[[AnyArray], AnyArray]
) -> tuple[AnyArray, list[int]]:
    """Convert an array.

    Args:
        array: n values.
        convert: Raises UnfitError or ArrowInvalid when it refuses at least one of them.

    Returns:
        n values, null where one is refused; and the places of those, ascending.

    """

    def fitting(part: AnyArray) -> AnyArray:
        try:
            return convert(part)
        except pa.ArrowInvalid as error:
            raise UnfitError from error

    try:
        return fitting(array), []
    except UnfitError:
        unfit = find_unfit(array, fitting)
    is_bad = np.zeros(len(array), np.bool_)
    is_bad[unfit] = True
    return fitting(nulls_where(array, is_bad)), unfit


def numbers_array(numbers: npt.NDArray[Any], type_: pa.DataType) -> AnyArray:
    """Return an Arrow array over the same memory; the type has the width of the numbers."""
    whole = np.ascontiguousarray(numbers)
    return pa.Array.from_buffers(type_, len(whole), [None, buffer_over(whole)])


def _packed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Move the seven bits of each of eight bytes together."""
    for low, high, shift in _PACKING:
        numbers = (numbers & low) | ((numbers & high) >> shift)
    return numbers


_PACKING = tuple(
    (np.uint64(low), np.uint64(high), np.uint64(shift))
    for low, high, shift in (
        (0x007F007F007F007F, 0x7F007F007F007F00, 1),
        (0x00003FFF00003FFF, 0x3FFF00003FFF0000, 2),
        (0x000000000FFFFFFF, 0x0FFFFFFF00000000, 4),
    )
)


def _buffer(values: pa.BinaryArray, index: int) -> pa.Buffer:
    buffer = values.buffers()[index]
    return pa.py_buffer(b"\0" * 8) if buffer is None else buffer
