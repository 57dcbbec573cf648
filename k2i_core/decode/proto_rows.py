"""n Protobuf messages of one type → n rows of its columns, by whole-array steps."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2i_core.decode.arrow import AnyArray, buffer_over, flags, indices, list_array, map_array
from k2i_core.decode.avro_rows import expanded
from k2i_core.decode.binary_leaves import INT_RANGE, in_range, symbol_array, text_array
from k2i_core.decode.cursors import Cursors, Integers, numbers_array
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.json_values import MICROSECONDS_RANGE
from k2i_core.decode.proto_columns import Column, Row, Shape
from k2i_core.decode.proto_packed import unpacked
from k2i_core.decode.proto_schema import Kind, Message, Presence
from k2i_core.decode.proto_wire import Occurrences, WireReader

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool

SECOND = 1_000_000
NANOSECONDS_RANGE = (0, 999_999_999)
UINT32_RANGE = (0, (1 << 32) - 1)


def read_messages(row: Row, cursors: Cursors, pool: "DescriptorPool") -> pa.RecordBatch:
    """Read one message a row.

    Args:
        row: Plan of the type that all n messages are of.
        cursors: At the start of each; afterwards they know which are faulty.
        pool: For the parts that are read one by one.

    Returns:
        n rows × the columns of the plan; those of faulty messages mean nothing.

    """
    arrays = _MessageReader(pool).fields(row.message, row.columns, cursors)
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(row.fields))


class _MessageReader:
    def __init__(self, pool: "DescriptorPool") -> None:
        self._pool = pool

    def fields(
        self, message: Message, columns: tuple[Column, ...], cursors: Cursors
    ) -> list[AnyArray]:
        """Return one array for each column that is stored."""
        wire = WireReader(message, cursors)
        found = wire.read()
        arrays: list[AnyArray] = []
        for column in columns:
            there = found[column.field.number]
            oneof = column.field.oneof
            if oneof is not None:
                is_last = wire.last_members[oneof][there.owners] == column.field.number
                there = there.taken(np.flatnonzero(is_last))
            read = self._repeated if column.field.is_repeated else self._single
            array = read(column, there, cursors)
            if column.is_stored:
                arrays.append(array)
        return arrays

    def _single(self, column: Column, there: Occurrences, cursors: Cursors) -> AnyArray:
        last = np.full(len(cursors.ends), -1)
        last[there.owners] = np.arange(len(there.owners))  # of several, the last one stays
        is_there = last >= 0
        if column.field.message is not None and is_there.sum() < len(there.owners):
            twice = np.flatnonzero(np.bincount(there.owners, minlength=len(last)) > 1)
            message = f"{column.path}: a message is there twice"
            cursors.fail(twice, ErrorClass.INVALID_ENCODING, message)
        if column.field.presence is Presence.REQUIRED:
            message = f"{column.path}: required, but missing"
            is_missing = ~is_there & ~cursors.is_faulty
            cursors.fail_where(cursors.rows, is_missing, ErrorClass.REQUIRED_FIELD_MISSING, message)
        array = self._elements(column, there.taken(last[is_there]), cursors)
        if column.field.presence is Presence.DEFAULT and not is_there.all():
            return expanded(array, is_there).fill_null(_default(column))
        return expanded(array, is_there)

    def _repeated(self, column: Column, there: Occurrences, cursors: Cursors) -> AnyArray:
        if there.is_packed.any():
            there = unpacked(column.field.kind, there, cursors)
        if (np.diff(there.owners) < 0).any():
            there = there.taken(np.argsort(there.owners, kind="stable"))
        if column.is_map:
            return self._map(column, there, cursors)
        elements = self._elements(column, there, cursors)
        if not column.is_stored:
            return elements
        return list_array(_offsets(there.owners, cursors), elements, column.type, None)

    def _map(self, column: Column, there: Occurrences, cursors: Cursors) -> AnyArray:
        arrays = self._inside(column, there, cursors)
        if not column.is_stored:
            return pa.nulls(len(cursors.ends))
        keys, items = arrays
        keys = keys.fill_null(_default(column.parts[0]))  # null only where the row is faulty
        encoded = keys.dictionary_encode()
        assert isinstance(encoded, pa.DictionaryArray)
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        pairs = there.owners * (len(encoded.dictionary) + 1) + codes
        # Of entries with one key the last one counts, as Protobuf has it.
        _, from_the_end = np.unique(pairs[::-1], return_index=True)
        owners = there.owners
        if len(from_the_end) < len(pairs):
            kept = np.sort(len(pairs) - 1 - from_the_end)
            keys, items = keys.take(indices(kept)), items.take(indices(kept))
            owners = owners[kept]
        return map_array(_offsets(owners, cursors), (keys, items), column.type, None)

    def _elements(self, column: Column, there: Occurrences, cursors: Cursors) -> AnyArray:
        """Return one element for each occurrence."""
        match column.shape:
            case Shape.LEAF:
                return _LEAVES[column.field.kind](column, there, cursors)
            case Shape.STRUCT:
                arrays = self._inside(column, there, cursors)
                assert isinstance(column.element, pa.StructType)
                return pa.StructArray.from_arrays(arrays, fields=list(column.element))
            case Shape.WRAPPER:
                return self._inside(column, there, cursors)[0]
            case Shape.TIMESTAMP:
                seconds, nanoseconds = self._inside(column, there, cursors)
                return _timestamps(column, there, cursors, seconds, nanoseconds)
            case Shape.JSON:
                return self._json(column, there, cursors)
            case Shape.NOTHING:
                self._inside(column, there, cursors)
                return pa.nulls(len(there.owners))

    def _inside(self, column: Column, there: Occurrences, cursors: Cursors) -> list[AnyArray]:
        """Read the messages at the occurrences; a fault of one is a fault of its owner."""
        message = column.field.message
        assert message is not None
        inside = cursors.inside(there.starts.copy(), there.starts + there.lengths)
        arrays = self.fields(message, column.parts, inside)
        for index, (error_class, text) in inside.faults.items():
            cursors.fail(there.owners[index : index + 1], error_class, text)
        return arrays

    def _json(self, column: Column, there: Occurrences, cursors: Cursors) -> AnyArray:
        from google.protobuf import json_format, message, message_factory  # noqa: PLC0415 - optional

        assert column.field.message is not None
        descriptor = self._pool.FindMessageTypeByName(column.field.message.name)
        make = message_factory.GetMessageClass(descriptor)
        texts: list[str | None] = []
        spans = zip(there.owners, there.starts.tolist(), there.lengths.tolist(), strict=True)
        for owner, start, length in spans:
            text = None
            try:
                parsed = make.FromString(cursors.whole[start : start + length])
                text = json_format.MessageToJson(
                    parsed, preserving_proto_field_name=True, indent=None
                )
            except (message.DecodeError, json_format.Error, ValueError):
                reason = f"{column.path}: is not a message of its type"
                cursors.fail(np.array([owner]), ErrorClass.INVALID_ENCODING, reason)
            texts.append(text)
        return pa.array(texts, pa.string())


def _offsets(owners: Integers, cursors: Cursors) -> AnyArray:
    offsets = np.zeros(len(cursors.ends) + 1, np.int32)
    np.cumsum(np.bincount(owners, minlength=len(cursors.ends)), out=offsets[1:])
    return numbers_array(offsets, pa.int32())


def _default(column: Column) -> "pa.Scalar":
    kind = column.field.kind
    if kind is Kind.ENUM:
        return pa.scalar(column.field.symbols.get(0, "0"))
    if kind in (Kind.STRING, Kind.BYTES):
        return pa.scalar(b"").cast(column.element)
    return pa.scalar(0).cast(column.element)


def _timestamps(
    column: Column, there: Occurrences, cursors: Cursors, seconds: AnyArray, nanoseconds: AnyArray
) -> AnyArray:
    allowed = (MICROSECONDS_RANGE[0] // SECOND, MICROSECONDS_RANGE[1] // SECOND)
    whole = in_range(cursors, there.owners, seconds.to_numpy(), allowed, column.path)
    parts = nanoseconds.to_numpy().astype(np.int64)
    parts = in_range(cursors, there.owners, parts, NANOSECONDS_RANGE, column.path)
    return numbers_array(whole * SECOND + parts // 1000, column.element)


def _signed(there: Occurrences) -> Integers:
    return there.words.view(np.int64)


def _zigzag(there: Occurrences) -> Integers:
    halves = (there.words >> np.uint64(1)).astype(np.int64)
    return halves ^ -(there.words & np.uint64(1)).astype(np.int64)


def _read_long(_: Column, there: Occurrences, __: Cursors) -> AnyArray:
    return numbers_array(_signed(there), pa.int64())


def _read_zigzag_long(_: Column, there: Occurrences, __: Cursors) -> AnyArray:
    return numbers_array(_zigzag(there), pa.int64())


def _read_unsigned_long(column: Column, there: Occurrences, _: Cursors) -> AnyArray:
    words = np.zeros((len(there.words), 2), np.uint64)
    words[:, 0] = there.words
    return pa.Array.from_buffers(column.element, len(words), [None, buffer_over(words)])


def _int_array(column: Column, there: Occurrences, cursors: Cursors, numbers: Integers) -> AnyArray:
    fitting = in_range(cursors, there.owners, numbers, INT_RANGE, column.path)
    return numbers_array(fitting.astype(np.int32), pa.int32())


def _read_int(column: Column, there: Occurrences, cursors: Cursors) -> AnyArray:
    return _int_array(column, there, cursors, _signed(there))


def _read_zigzag_int(column: Column, there: Occurrences, cursors: Cursors) -> AnyArray:
    return _int_array(column, there, cursors, _zigzag(there))


def _read_fixed_int(_: Column, there: Occurrences, __: Cursors) -> AnyArray:
    return numbers_array(there.words.astype(np.uint32), pa.int32())


def _read_unsigned_int(column: Column, there: Occurrences, cursors: Cursors) -> AnyArray:
    fitting = in_range(cursors, there.owners, _signed(there), UINT32_RANGE, column.path)
    return numbers_array(fitting, pa.int64())


def _read_bool(column: Column, there: Occurrences, cursors: Cursors) -> AnyArray:
    message = f"{column.path}: a bool is neither 0 nor 1"
    is_bad: npt.NDArray[np.bool_] = there.words > 1
    cursors.fail_where(there.owners, is_bad, ErrorClass.INVALID_ENCODING, message)
    return flags(there.words == 1)


def _read_float(_: Column, there: Occurrences, __: Cursors) -> AnyArray:
    return numbers_array(there.words.astype(np.uint32), pa.float32())


def _read_double(_: Column, there: Occurrences, __: Cursors) -> AnyArray:
    return numbers_array(there.words, pa.float64())


def _read_bytes(_: Column, there: Occurrences, cursors: Cursors) -> AnyArray:
    return cursors.binaries(there.starts, there.lengths)


def _read_string(column: Column, there: Occurrences, cursors: Cursors) -> AnyArray:
    binaries = cursors.binaries(there.starts, there.lengths)
    return text_array(cursors, there.owners, binaries, column.path)


def _read_enum(column: Column, there: Occurrences, cursors: Cursors) -> AnyArray:
    numbers = in_range(cursors, there.owners, _signed(there), INT_RANGE, column.path)
    different, places = np.unique(numbers, return_inverse=True)
    symbols = column.field.symbols
    names = [symbols.get(number, str(number)) for number in different.tolist()]
    return symbol_array(places, names or ("",))


_LEAVES: dict[Kind, Callable[[Column, Occurrences, Cursors], AnyArray]] = {
    Kind.DOUBLE: _read_double,
    Kind.FLOAT: _read_float,
    Kind.INT64: _read_long,
    Kind.UINT64: _read_unsigned_long,
    Kind.INT32: _read_int,
    Kind.FIXED64: _read_unsigned_long,
    Kind.FIXED32: _read_unsigned_int,
    Kind.BOOL: _read_bool,
    Kind.STRING: _read_string,
    Kind.BYTES: _read_bytes,
    Kind.UINT32: _read_unsigned_int,
    Kind.ENUM: _read_enum,
    Kind.SFIXED32: _read_fixed_int,
    Kind.SFIXED64: _read_long,
    Kind.SINT32: _read_zigzag_int,
    Kind.SINT64: _read_zigzag_long,
}
