"""Rows as their writer has them → rows of the table's columns.

Columns meet by name, at every level. What the table has and the writer lacks is null; what the
writer has and the table lacks must hold nothing (null, an empty list or map). Where the types
differ, a value is kept if the table's type holds exactly it:

| writer | table |
|---|---|
| int, long | long, int, decimal; float and double: the nearest one |
| float, double | double, float: the nearest one |
| decimal | decimal |
| string | binary; and timestamp, date, time, uuid, decimal, as JSON spells them |
| long with a time format | timestamp |
| binary, fixed | binary; string, if it is UTF-8 |

Everything else is of the wrong type.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.decode.arrow import AnyArray, AnyField, list_array, map_array, nulls
from k2i_core.decode.cursors import Flags, Integers, converted
from k2i_core.decode.framing import to_texts
from k2i_core.decode.isolation import UnfitError
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.json_values import spell
from k2i_core.records import DecodeFailure

Fault: TypeAlias = tuple[ErrorClass, str]
Faults: TypeAlias = dict[int, Fault]
Conversion: TypeAlias = Callable[[AnyArray], AnyArray]

_types = pa.types


def conform(
    rows: pa.RecordBatch, table_schema: pa.Schema, time_formats: Mapping[str, str]
) -> tuple[pa.RecordBatch, Faults]:
    """Make the table's columns.

    Args:
        rows: n rows × the writer's columns.
        table_schema: Without `_kafka`.
        time_formats: Name of a timestamp column → `epoch_s`, `epoch_ms` or `epoch_us`.

    Returns:
        n rows × `table_schema`, and which of them do not fit; those mean nothing.

    """
    work = _Conforming(time_formats)
    owners = np.arange(rows.num_rows)
    columns = work.fields(
        {name: rows.column(place) for place, name in enumerate(rows.schema.names)},
        list(table_schema),
        "",
        owners,
    )
    if not columns:
        return rows.select([]), work.faults
    return pa.RecordBatch.from_arrays(columns, schema=table_schema), work.faults


def can_hold(writer: pa.DataType, table: pa.DataType, time_format: str | None) -> bool:
    """Tell whether any value of the writer's type, other than null, fits a column of the table."""
    return writer.equals(table) or _conversion(writer, table, time_format) is not None


def failures_of(faults: Faults) -> tuple[DecodeFailure, ...]:
    """Return the faults of records as a decoder reports them, by their places."""
    return tuple(
        DecodeFailure(place, str(error_class), message)
        for place, (error_class, message) in sorted(faults.items())
    )


class _Conforming:
    """The faults of one batch."""

    def __init__(self, time_formats: Mapping[str, str]) -> None:
        self._time_formats = time_formats
        self.faults: Faults = {}

    def _fail(self, owners: Integers, is_bad: Flags, fault: Fault) -> None:
        for owner in owners[is_bad].tolist():
            self.faults.setdefault(owner, fault)

    def fields(
        self,
        writer: Mapping[str, AnyArray],
        fields: list[AnyField],
        path: str,
        owners: Integers,
    ) -> list[AnyArray]:
        """Return one array a field of the table; `owners` tells each element's row, or -1."""
        names = {field.name for field in fields}
        for name, array in writer.items():
            if name not in names:
                fault = (ErrorClass.UNKNOWN_FIELD, f"{path}{name}: the schema has no such field")
                self._fail(owners, _holds(array) & (owners >= 0), fault)
        made: list[AnyArray] = []
        for field in fields:
            array = writer.get(field.name)
            if array is None:
                array = nulls(len(owners), field.type)
            made.append(self._field(array, field, f"{path}{field.name}", owners))
        return made

    def _field(self, array: AnyArray, field: AnyField, path: str, owners: Integers) -> AnyArray:
        if not field.nullable and array.null_count:
            fault = (ErrorClass.REQUIRED_FIELD_MISSING, f"{path}: required, but missing or null")
            self._fail(owners, _flags(array.is_null()) & (owners >= 0), fault)
        return self._typed(array, field.type, path, owners)

    def _typed(self, array: AnyArray, type_: pa.DataType, path: str, owners: Integers) -> AnyArray:
        if array.type.equals(type_):
            return array
        if isinstance(array, pa.StructArray) and isinstance(type_, pa.StructType):
            return self._struct(array, type_, path, owners)
        if isinstance(array, pa.MapArray) and isinstance(type_, pa.MapType):
            return self._map(array, type_, path, owners)
        if isinstance(array, pa.ListArray) and isinstance(type_, pa.ListType):
            offsets, elements, element_owners = _inside(array, array.values, owners)
            made = self._field(elements, type_.value_field, f"{path}[]", element_owners)
            return list_array(offsets, made, type_, _null_mask(array))
        convert = _conversion(array.type, type_, self._time_formats.get(path))
        if convert is None:
            fault = (ErrorClass.WRONG_TYPE, f"{path}: the table has another type")
            self._fail(owners, _flags(array.is_valid()) & (owners >= 0), fault)
            return nulls(len(array), type_)
        return self._converted(array, convert, path, owners)

    def _struct(
        self, array: pa.StructArray, type_: pa.StructType, path: str, owners: Integers
    ) -> AnyArray:
        # Below a null struct may lie anything, and nothing there is required.
        parts = dict(zip([field.name for field in array.type], array.flatten(), strict=True))
        inside = np.where(_flags(array.is_valid()), owners, -1)
        made = self.fields(parts, list(type_), f"{path}.", inside)
        return pa.StructArray.from_arrays(made, fields=list(type_), mask=_null_mask(array))

    def _map(
        self, array: "pa.MapArray[Any, Any]", type_: pa.MapType, path: str, owners: Integers
    ) -> AnyArray:
        offsets, keys, inside = _inside(array, array.keys, owners)
        _, items, _ = _inside(array, array.items, owners)
        made_keys = self._typed(keys, type_.key_type, f"{path}{{}}", inside)
        made_items = self._field(items, type_.item_field, f"{path}{{}}", inside)
        if made_keys.null_count:  # of rows that are faulty; a map must not have them all the same
            made_keys = made_keys.fill_null(_filler(type_.key_type))
        return map_array(offsets, (made_keys, made_items), type_, _null_mask(array))

    def _converted(
        self, array: AnyArray, convert: Conversion, path: str, owners: Integers
    ) -> AnyArray:
        made, unfit = converted(array, convert)
        if not unfit:
            return made
        is_bad = np.zeros(len(array), np.bool_)
        is_bad[unfit] = True
        is_text = _types.is_string(array.type)
        error_class = ErrorClass.INVALID_VALUE if is_text else ErrorClass.NUMBER_OUT_OF_RANGE
        if _types.is_binary(array.type) or _types.is_fixed_size_binary(array.type):
            error_class = ErrorClass.INVALID_UTF8
        self._fail(owners, is_bad, (error_class, f"{path}: does not fit the table's type"))
        return made


def _filler(type_: pa.DataType) -> Any:  # noqa: ANN401 - a value of any type
    return pa.scalar("" if _types.is_string(type_) else 0).cast(type_)


def _flags(array: AnyArray) -> Flags:
    return array.to_numpy(zero_copy_only=False).astype(np.bool_)


def _null_mask(array: AnyArray) -> pa.BooleanArray | None:
    return array.is_null() if array.null_count else None


def _inside(
    array: "pa.ListArray[Any] | pa.MapArray[Any, Any]", child: AnyArray, owners: Integers
) -> tuple[AnyArray, AnyArray, Integers]:
    """Return offsets from zero, the elements that they cut up, and each element's row."""
    if len(array) == 0:
        return pa.array([0], pa.int32()), child.slice(0, 0), np.zeros(0, np.int64)
    offsets = array.offsets.to_numpy().astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    inside = np.repeat(owners, np.diff(offsets))
    if array.null_count:
        inside = np.where(np.repeat(_flags(array.is_valid()), np.diff(offsets)), inside, -1)
    return (
        pa.array((offsets - first).astype(np.int32)),
        child.slice(first, last - first),
        inside,
    )


def _holds(array: AnyArray) -> Flags:
    """Tell which elements hold anything that would be lost."""
    is_there = _flags(array.is_valid())
    if isinstance(array, pa.StructArray):
        any_ = np.zeros(len(array), np.bool_)
        for part in array.flatten():
            any_ |= _holds(part)
        return is_there & any_
    if isinstance(array, pa.ListArray | pa.MapArray):
        return is_there & (np.diff(array.offsets.to_numpy()) > 0)
    return is_there


def _conversion(  # noqa: PLR0911 - one return a row of the table above
    writer: pa.DataType, table: pa.DataType, time_format: str | None
) -> Conversion | None:
    """Return what makes the table's type of the writer's, or None."""
    is_number = _types.is_integer(writer) or _types.is_floating(writer)
    if _types.is_integer(writer) and isinstance(table, pa.TimestampType):
        spelling = spell(table, time_format) if time_format else None
        return spelling.convert if spelling else None
    if _types.is_floating(table) and is_number:
        return lambda array: _nearest(array, table)
    is_exact = _types.is_integer(writer) and (_types.is_integer(table) or _types.is_decimal(table))
    if is_exact or (_types.is_decimal(writer) and _types.is_decimal(table)):
        return lambda array: _exact(array, table)
    if _types.is_string(table) and _is_bytes(writer):
        return lambda array: to_texts(array.cast(pa.binary()))
    if _types.is_binary(table) and (_is_bytes(writer) or _types.is_string(writer)):
        return lambda array: array.cast(table)
    if _types.is_string(writer):
        return _spelled(table)
    return None


def _is_bytes(type_: pa.DataType) -> bool:
    return _types.is_binary(type_) or _types.is_fixed_size_binary(type_)


def _spelled(table: pa.DataType) -> Conversion | None:
    if _types.is_decimal(table):
        return lambda array: array.cast(table)
    spelling = spell(table, None)
    is_text = spelling is not None and _types.is_string(spelling.parse_type)
    return spelling.convert if is_text and spelling and not _is_bytes(table) else None


def _exact(array: AnyArray, table: pa.DataType) -> AnyArray:
    if _types.is_decimal(table) and _types.is_integer(array.type):
        # Arrow asks for room for every long, whatever the values are.
        return array.cast(pa.decimal128(19, 0)).cast(table)
    return array.cast(table)


def _nearest(array: AnyArray, table: pa.DataType) -> AnyArray:
    numbers = array.cast(table, safe=False)
    if _types.is_floating(array.type):
        was_finite, is_finite = pc.is_finite(array), pc.is_finite(numbers)
        if not was_finite.equals(is_finite):
            raise UnfitError
    return numbers
