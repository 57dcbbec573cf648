"""n Avro records of one schema → n rows of its columns, by whole-array steps.

A value of any type is read for a set of rows at once; where records differ (a branch of a union,
the length of a list) the set is split. Long lists that few records have are cut into their elements
first, and the elements are then read side by side like records.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from k2i_core.decode.arrow import AnyArray, flags, indices, list_array, map_array, nulls
from k2i_core.decode.avro_columns import Column, Shape
from k2i_core.decode.avro_schema import Kind
from k2i_core.decode.avro_values import ValueReader, element_count_max, is_zero_sized
from k2i_core.decode.binary_leaves import (
    decimal_array,
    fixed_array,
    int_array,
    symbol_array,
    text_array,
    time_array,
    timestamp_array,
    uuid_array,
    uuid_of_bytes,
)
from k2i_core.decode.cursors import Cursors, Flags, Integers, Rows, numbers_array
from k2i_core.decode.json_trees import ErrorClass, RecordError

FEW_ROWS = 48
"""Rows with further elements below which these are cut out one by one. Larger: more Python for each
element; smaller: a list of a thousand elements costs a thousand array steps."""

_BAD = ErrorClass.INVALID_ENCODING


def read_rows(row: Column, cursors: Cursors) -> pa.RecordBatch:
    """Read one record a row.

    Args:
        row: Plan of the schema that all n records were written with.
        cursors: At the start of each; afterwards they know which are faulty.

    Returns:
        n rows × the columns of the plan; those of faulty records mean nothing.

    """
    rows = cursors.rows
    columns = _read(row, cursors, rows)
    is_left = cursors.positions < cursors.ends
    cursors.fail_where(rows, is_left, _BAD, "bytes are left behind the record")
    assert isinstance(columns, pa.StructArray)
    return pa.RecordBatch.from_struct_array(columns)


def _read(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:  # noqa: PLR0911 - one a shape
    match column.shape:
        case Shape.LEAF:
            return _LEAVES[column.avro.kind](column, cursors, rows)
        case Shape.STRUCT:
            return _read_struct(column, cursors, rows)
        case Shape.OPTIONAL:
            return _read_optional(column, cursors, rows)
        case Shape.MEMBERS:
            return _read_members(column, cursors, rows)
        case Shape.LIST | Shape.MAP:
            return _read_elements(column, cursors, rows)
        case Shape.JSON:
            return _read_json(column, cursors, rows)
        case Shape.NOTHING:
            return _read_nothing(column, cursors, rows)


def _read_nothing(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    if column.avro.kind is Kind.UNION:
        branches = _branches(column, cursors, rows)
        for place, part in enumerate(column.parts):
            _read(part, cursors, rows[branches == place])
    else:
        for part in column.parts:
            _read(part, cursors, rows)
    return pa.nulls(len(rows))


def _read_struct(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    parts = [_read(part, cursors, rows) for part in column.parts]
    stored = [parts[place] for place, _, _ in column.stored]
    return pa.StructArray.from_arrays(stored, fields=list(_fields(column)))


def _fields(column: Column) -> "list[pa.Field[Any]]":
    assert isinstance(column.type, pa.StructType)
    return list(column.type)


def _branches(column: Column, cursors: Cursors, rows: Rows) -> Integers:
    """Read which branch of a union follows; -1 for faulty rows."""
    branches = cursors.zigzags(rows)
    is_bad = (branches < 0) | (branches >= len(column.parts))
    cursors.fail_where(rows, is_bad, _BAD, f"{column.path}: a union has no such branch")
    branches[cursors.is_faulty[rows]] = -1
    return branches


def _read_optional(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    branches = _branches(column, cursors, rows)
    place, part = next(
        (place, part) for place, part in enumerate(column.parts) if part.avro.kind is not Kind.NULL
    )
    is_there = branches == place
    return expanded(_read(part, cursors, rows[is_there]), is_there)


def expanded(array: AnyArray, is_there: Flags) -> AnyArray:
    """Return the elements at the places where they are, null at the others."""
    if len(array) == len(is_there):
        return array
    if len(array) == 0:
        return nulls(len(is_there), array.type)
    places = np.cumsum(is_there) - 1
    return array.take(indices(places, ~is_there))


def _read_members(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    branches = _branches(column, cursors, rows)
    is_null = branches < 0
    members: list[AnyArray] = []
    for place, part in enumerate(column.parts):
        is_this = branches == place
        member = expanded(_read(part, cursors, rows[is_this]), is_this)
        if part.shape is not Shape.NOTHING:
            members.append(member)
        elif part.avro.kind is Kind.NULL:
            is_null |= is_this
    return pa.StructArray.from_arrays(members, fields=_fields(column), mask=flags(is_null))


def _read_json(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    texts: list[str | None] = []
    for row in rows.tolist():
        text = None
        if not cursors.is_faulty[row]:
            reader = ValueReader(cursors.whole, int(cursors.positions[row]), int(cursors.ends[row]))
            try:
                text = reader.json_text(column.avro)
                cursors.positions[row] = reader.position
            except RecordError as error:
                message = f"{column.path}: {error.message}"
                cursors.fail(np.array([row]), error.error_class, message)
        texts.append(text)
    return pa.array(texts, pa.string())


def _read_elements(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    """Read lists or maps: element k of every row that has one, then k + 1."""
    pieces: list[tuple[AnyArray, ...]] = []
    owners: list[Integers] = []  # of each element of a piece: which of `rows` it belongs to
    places = np.flatnonzero(~cursors.is_faulty[rows])
    left = np.zeros(len(rows), np.int64)
    while len(places):
        left[places] = _blocks(column, cursors, rows[places])
        places = places[left[places] > 0]
        while len(places):
            if len(places) <= FEW_ROWS:
                piece, piece_owners = _read_tails(column, cursors, rows, places, left)
                pieces.append(piece)
                owners.append(piece_owners)
                places = places[:0]
                break
            pieces.append(_read_element(column, cursors, rows[places]))
            owners.append(places)
            left[places] -= 1
            places = places[~cursors.is_faulty[rows[places]]]
            if (left[places] == 0).any():
                ended = places[left[places] == 0]
                left[ended] = _blocks(column, cursors, rows[ended])
                places = places[left[places] > 0]
    if column.shape is Shape.MAP and pieces:
        _check_keys(column, cursors, rows, [keys for keys, _ in pieces], np.concatenate(owners))
    return _assemble(column, pieces, owners, len(rows))


def _check_keys(
    column: Column, cursors: Cursors, rows: Rows, keys: list[AnyArray], owners: Integers
) -> None:
    """Fail rows that have a key twice in one map."""
    encoded = pa.concat_arrays(keys).dictionary_encode()
    assert isinstance(encoded, pa.DictionaryArray)
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    pairs = np.sort(owners * (len(encoded.dictionary) + 1) + codes)
    repeated = pairs[1:][pairs[1:] == pairs[:-1]] // (len(encoded.dictionary) + 1)
    twice = rows[np.unique(repeated)]
    message = f"{column.path}: a map has a key twice"
    cursors.fail(twice[~cursors.is_faulty[twice]], ErrorClass.DUPLICATE_KEY, message)


def _blocks(column: Column, cursors: Cursors, rows: Rows) -> Integers:
    """Read how many elements follow: zero at the end, and for faulty rows."""
    counts = cursors.zigzags(rows)
    is_sized = counts < 0
    if is_sized.any():
        counts = np.abs(counts)
        cursors.varints(rows[is_sized])
    room = cursors.ends[rows] - cursors.positions[rows]
    element = column.avro.parts[0][1]
    if column.shape is Shape.LIST and is_zero_sized(element):
        room = np.full(len(rows), element_count_max(element, 0))
    is_bad = (counts < 0) | (counts > room)
    cursors.fail_where(rows, is_bad, _BAD, f"{column.path}: a list has more elements than bytes")
    counts[cursors.is_faulty[rows]] = 0
    return counts


def _read_element(column: Column, cursors: Cursors, rows: Rows) -> tuple[AnyArray, ...]:
    value = column.parts[0]
    if column.shape is Shape.LIST:
        return (_read(value, cursors, rows),)
    # A key is never null; those of faulty rows mean nothing.
    key = _read_text(f"{column.path}{{}}", cursors, rows).fill_null("")
    return key, _read(value, cursors, rows)


def _read_tails(
    column: Column, cursors: Cursors, rows: Rows, places: Integers, left: Integers
) -> tuple[tuple[AnyArray, ...], Integers]:
    """Read all further elements of few rows, to the end of their lists."""
    starts: list[int] = []
    ends: list[int] = []
    owners: list[int] = []
    for place in places.tolist():
        row = int(rows[place])
        reader = ValueReader(cursors.whole, int(cursors.positions[row]), int(cursors.ends[row]))
        try:
            count = int(left[place])
            while count:
                for _ in range(count):
                    # A block ends with a number of its own, so an element starts where we are.
                    starts.append(reader.position)
                    reader.skip_element(column.avro)
                    ends.append(reader.position)
                    owners.append(place)
                count = reader.block(column.avro)
        except RecordError as error:
            del starts[len(ends) :]
            message = f"{column.path}: {error.message}"
            cursors.fail(np.array([row]), error.error_class, message)
            continue
        cursors.positions[row] = reader.position
    inside = cursors.inside(np.array(starts, np.int64), np.array(ends, np.int64))
    piece = _read_element(column, inside, inside.rows)
    for index, (error_class, message) in inside.faults.items():
        cursors.fail(rows[owners[index] : owners[index] + 1], error_class, message)
    return piece, np.array(owners, np.int64)


def _assemble(
    column: Column, pieces: list[tuple[AnyArray, ...]], owners: list[Integers], count: int
) -> AnyArray:
    """Put the elements of each row together, in order."""
    all_owners = np.concatenate(owners) if owners else np.zeros(0, np.int64)
    if len(pieces) == 0:
        columns = [nulls(0, type_) for type_ in _element_types(column)]
    else:
        columns = [pa.concat_arrays(list(arrays)) for arrays in zip(*pieces, strict=True)]
    if len(pieces) > 1:
        order = indices(np.argsort(all_owners, kind="stable"))
        columns = [array.take(order) for array in columns]
    lengths = np.bincount(all_owners, minlength=count)
    offsets = np.zeros(count + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    offsets_array = numbers_array(offsets, pa.int32())
    if column.shape is Shape.LIST:
        return list_array(offsets_array, columns[0], column.type, None)
    return map_array(offsets_array, (columns[0], columns[1]), column.type, None)


def _element_types(column: Column) -> tuple[pa.DataType, ...]:
    value = column.parts[0].type
    return (value,) if column.shape is Shape.LIST else (pa.string(), value)


def _read_boolean(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    bytes_ = cursors.singles(rows)
    is_bad = (bytes_ > 1) & ~cursors.is_faulty[rows]
    cursors.fail_where(rows, is_bad, _BAD, f"{column.path}: a boolean is neither 0 nor 1")
    return flags(bytes_ == 1)


def _read_int(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    numbers = _numbers(cursors, rows)
    if column.avro.logical == "time-millis":
        return time_array(cursors, rows, numbers, column.path, microseconds=1000)
    return int_array(cursors, rows, numbers, column.type, column.path)


def _numbers(cursors: Cursors, rows: Rows) -> Integers:
    numbers = cursors.zigzags(rows)
    is_faulty = cursors.is_faulty[rows]
    # Zero fits every type, so that a row is not judged by what it happens to stand on.
    return np.where(is_faulty, 0, numbers) if is_faulty.any() else numbers


def _read_long(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    numbers = _numbers(cursors, rows)
    logical = column.avro.logical
    if logical is None:
        return numbers_array(numbers, pa.int64())
    if logical == "time-micros":
        return time_array(cursors, rows, numbers, column.path)
    unit = logical.rpartition("-")[2]
    return timestamp_array(
        cursors,
        rows,
        numbers,
        column.type,
        column.path,
        per_microsecond=1000 if unit == "nanos" else 1,
        microseconds=1000 if unit == "millis" else 1,
    )


def _read_float(_: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    return numbers_array(cursors.words(rows, 4).astype(np.uint32), pa.float32())


def _read_double(_: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    return numbers_array(cursors.words(rows, 8), pa.float64())


def _read_bytes(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    spans = cursors.spans(rows, _numbers(cursors, rows))
    if column.avro.logical == "decimal":
        return _decimals(column, cursors, rows, spans)
    return cursors.binaries(*spans)


def _decimals(
    column: Column, cursors: Cursors, rows: Rows, spans: tuple[Integers, Integers]
) -> AnyArray:
    assert isinstance(column.type, pa.Decimal128Type)
    return decimal_array(cursors, rows, spans, column.type, column.path)


def _read_string(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    texts = _read_text(column.path, cursors, rows)
    return uuid_array(cursors, rows, texts, column.path) if column.avro.logical else texts


def _read_text(path: str, cursors: Cursors, rows: Rows) -> AnyArray:
    spans = cursors.spans(rows, _numbers(cursors, rows))
    return text_array(cursors, rows, cursors.binaries(*spans), path)


def _read_fixed(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    byte_count = column.avro.byte_count
    starts, lengths = cursors.spans(rows, np.full(len(rows), byte_count))
    logical = column.avro.logical
    if logical == "decimal":
        return _decimals(column, cursors, rows, (starts, lengths))
    if logical == "duration":
        # Three numbers of four bytes; of faulty rows, whatever lies there.
        parts = [cursors.words_at(starts + offset, 4).astype(np.int64) for offset in (0, 4, 8)]
        arrays = [numbers_array(part, pa.int64()) for part in parts]
        return pa.StructArray.from_arrays(arrays, fields=_fields(column))
    if byte_count == 0:
        return cursors.binaries(starts, lengths)
    is_whole = lengths == byte_count
    binaries = fixed_array(cursors.binaries(starts[is_whole], lengths[is_whole]), byte_count)
    fixed = expanded(binaries, is_whole)
    return uuid_of_bytes(fixed) if logical == "uuid" else fixed


def _read_enum(column: Column, cursors: Cursors, rows: Rows) -> AnyArray:
    places = _numbers(cursors, rows)
    symbols = column.avro.symbols
    is_bad = ((places < 0) | (places >= len(symbols))) & ~cursors.is_faulty[rows]
    message = f"{column.path}: an enum has no such symbol"
    cursors.fail_where(rows, is_bad, ErrorClass.INVALID_VALUE, message)
    places = np.where(cursors.is_faulty[rows], 0, places)
    return symbol_array(places, symbols or ("",))


_LEAVES: dict[Kind, Callable[[Column, Cursors, Rows], AnyArray]] = {
    Kind.BOOLEAN: _read_boolean,
    Kind.INT: _read_int,
    Kind.LONG: _read_long,
    Kind.FLOAT: _read_float,
    Kind.DOUBLE: _read_double,
    Kind.BYTES: _read_bytes,
    Kind.STRING: _read_string,
    Kind.FIXED: _read_fixed,
    Kind.ENUM: _read_enum,
}
