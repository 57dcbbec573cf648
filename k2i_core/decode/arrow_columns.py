"""Arrow's types → columns that a table stores, and arrays of them.

| Arrow | column |
|---|---|
| int8, int16, uint8, uint16 | int |
| uint32 | long |
| uint64 | decimal(20,0) |
| float16 | float |
| timestamp, time, date of any unit | timestamp or timestamptz, time, date |
| decimals of up to 38 digits | decimal |
| text, binary, lists with large offsets, views or a fixed size | string, binary, list |
| dictionary, run-end encoded | their values |
| uuid | uuid; any other extension: what it is stored as |

Columns are optional and keep nothing of the writer's metadata: a field's number there is another
table's. What lies beyond the microsecond is cut off, towards the past.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.decode.arrow import (
    AnyArray,
    AnyField,
    list_array,
    list_offsets,
    map_array,
    map_type,
    null_mask,
    run_end_decoded,
    struct_fields,
)
from k2i_core.decode.isolation import UnfitError
from k2i_core.decode.json_values import DAYS_RANGE, MICROSECONDS_RANGE
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.errors import ConfigError
from k2i_core.schema.inferred import clean_inferred_type

MAPPING_VERSION = 1
"""Grows with any change of the table above; kept in the tables."""

_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_NANOSECONDS_PER_MICROSECOND = 1_000
DAY_MICROSECONDS = 86_400_000_000

_types = pa.types


def columns_of(schema: pa.Schema) -> pa.Schema:
    """Return the columns of rows of `schema`, without those that hold nothing but nulls.

    Raises:
        UnusableSchemaError: A column has no counterpart, or two have one name.

    """
    try:
        return pa.schema(_fields(list(schema)))
    except ConfigError as error:
        raise UnusableSchemaError(str(error)) from error


def _fields(fields: "list[AnyField]") -> "list[AnyField]":
    if len({field.name for field in fields}) < len(fields):
        message = "two columns have the same name"
        raise UnusableSchemaError(message)
    made = ((field.name, _type(field.type)) for field in fields)
    return [pa.field(name, type_) for name, type_ in made if type_ is not None]


def _type(type_: pa.DataType) -> pa.DataType | None:
    plain = _plain_type(type_)
    if isinstance(plain, pa.StructType):
        fields = _fields(list(plain))
        return pa.struct(fields) if fields else None
    if isinstance(plain, pa.ListType):
        element = _type(plain.value_type)
        return None if element is None else pa.list_(pa.field("element", element))
    if isinstance(plain, pa.MapType):
        key, value = _type(plain.key_type), _type(plain.item_type)
        if key is None or value is None:
            return None
        return map_type(pa.field("key", key, nullable=False), pa.field("value", value))
    return clean_inferred_type(plain)


def _plain_type(type_: Any) -> Any:  # noqa: ANN401 - any of Arrow's types
    """Return the type without what only says how it is laid out."""
    if isinstance(type_, pa.BaseExtensionType) and type_ != pa.uuid():
        return _plain_type(type_.storage_type)
    if _types.is_dictionary(type_) or _types.is_run_end_encoded(type_):
        return _plain_type(type_.value_type)
    if (
        _types.is_large_list(type_)
        or _types.is_fixed_size_list(type_)
        or _types.is_list_view(type_)
        or _types.is_large_list_view(type_)
    ):
        return pa.list_(type_.value_field)
    return type_


def column_of(array: Any, type_: pa.DataType) -> AnyArray:  # noqa: ANN401 - any of Arrow's arrays
    """Return an array as the column that `columns_of` says.

    Raises:
        UnfitError: At least one value does not fit it.

    """
    try:
        return _column(array, type_)
    except (pa.ArrowInvalid, OverflowError) as error:
        raise UnfitError from error


def _column(array: Any, type_: pa.DataType) -> AnyArray:  # noqa: ANN401 - any of Arrow's arrays
    array = _plain_array(array)
    if isinstance(array, pa.StructArray):
        assert isinstance(type_, pa.StructType)
        below = struct_fields(array)
        parts = [_column(below[field.name], field.type) for field in type_]
        return pa.StructArray.from_arrays(parts, fields=list(type_), mask=null_mask(array))
    if isinstance(array, pa.MapArray):
        assert isinstance(type_, pa.MapType)
        offsets, first, count = list_offsets(array)
        keys = _column(array.keys.slice(first, count), type_.key_type)
        items = _column(array.items.slice(first, count), type_.item_type)
        return map_array(offsets, (keys, items), type_, null_mask(array))
    if isinstance(array, pa.ListArray):
        assert isinstance(type_, pa.ListType)
        offsets, first, count = list_offsets(array)
        elements = _column(array.values.slice(first, count), type_.value_type)
        return list_array(offsets, elements, type_, null_mask(array))
    return _leaf(array, type_)


def _plain_array(array: Any) -> Any:  # noqa: ANN401 - any of Arrow's arrays
    type_ = array.type
    if isinstance(type_, pa.BaseExtensionType) and type_ != pa.uuid():
        return _plain_array(array.storage)
    if _types.is_dictionary(type_):
        return _plain_array(array.dictionary_decode())
    if _types.is_run_end_encoded(type_):
        return _plain_array(run_end_decoded(array))
    plain = _plain_type(type_)
    return array if plain is type_ else array.cast(plain)


def _leaf(array: AnyArray, type_: pa.DataType) -> AnyArray:
    written = array.type
    if isinstance(written, pa.TimestampType):
        microseconds = _microseconds(array.cast(pa.int64()), written.unit)
        return _within(microseconds, MICROSECONDS_RANGE).cast(type_)
    if _types.is_time(written):
        unit: str = written.unit  # pyright: ignore[reportAttributeAccessIssue] - both kinds have one
        numbers = array.cast(pa.int32() if _types.is_time32(written) else pa.int64())
        microseconds = _microseconds(numbers.cast(pa.int64()), unit)
        return _within(microseconds, (0, DAY_MICROSECONDS - 1)).cast(type_)
    if _types.is_date(written):
        days = array.cast(pa.date32())
        return _within(days.cast(pa.int32()), DAYS_RANGE).cast(type_)
    return array if written == type_ else array.cast(type_)


def _microseconds(numbers: AnyArray, unit: str) -> AnyArray:
    if unit != "ns":
        return pc.multiply_checked(numbers, pa.scalar(_MICROSECONDS[unit], pa.int64()))
    # Arrow divides towards zero, which is towards the future before 1970.
    values = numbers.fill_null(0).to_numpy() // _NANOSECONDS_PER_MICROSECOND
    return pa.array(values, pa.int64(), mask=~np.asarray(numbers.is_valid()))


def _within(numbers: AnyArray, allowed: tuple[int, int]) -> AnyArray:
    extremes = pc.min_max(numbers)
    lowest, highest = extremes["min"].as_py(), extremes["max"].as_py()
    if lowest is not None and (lowest < allowed[0] or highest > allowed[1]):
        raise UnfitError
    return numbers
