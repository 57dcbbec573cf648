"""From whatever Arrow type a reader inferred to one that Iceberg stores.

Nothing can be stored of a field that was null everywhere it was seen: it is dropped, and so are
structs and lists that hold nothing else. Such a column appears once a record has a value for it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from k2i_core.errors import ConfigError
from k2i_core.schema.arrow_types import from_arrow
from k2i_core.schema.iceberg_types import DECIMAL_PRECISION_MAX

_UINT64_DIGITS = 20

_STORED_AS: Mapping[pa.DataType, pa.DataType] = MappingProxyType(
    {
        pa.int8(): pa.int32(),
        pa.int16(): pa.int32(),
        pa.uint8(): pa.int32(),
        pa.uint16(): pa.int32(),
        pa.uint32(): pa.int64(),
        pa.uint64(): pa.decimal128(_UINT64_DIGITS, 0),
        pa.float16(): pa.float32(),
        pa.date64(): pa.date32(),
        pa.large_string(): pa.string(),
        pa.string_view(): pa.string(),
        pa.large_binary(): pa.binary(),
        pa.binary_view(): pa.binary(),
    }
)


def clean_inferred(schema: pa.Schema) -> pa.Schema:
    """Return the columns of `schema` that can be stored, in its order, with storable types.

    Raises:
        ConfigError: A column has a type that Iceberg has no counterpart for, such as a duration.

    """
    return pa.schema(_clean_fields(list(schema)))


def clean_inferred_type(type_: pa.DataType) -> pa.DataType | None:
    """Return the Iceberg-storable type for `type_`; None when nothing of it can be stored.

    A type that Iceberg stores comes back unchanged, apart from the names of list and map fields.

    Raises:
        ConfigError: Iceberg has no counterpart, such as for a duration.

    """
    if pa.types.is_null(type_):
        return None
    if type_ in _STORED_AS:
        return _STORED_AS[type_]
    for is_kind, clean in _CLEANERS:
        if is_kind(type_):
            return clean(type_)
    from_arrow(type_)  # raises with the list of what is allowed
    return type_


def _clean_fields(fields: "list[pa.Field[Any]]") -> "list[pa.Field[Any]]":
    cleaned = ((field, clean_inferred_type(field.type)) for field in fields)
    return [field.with_type(type_) for field, type_ in cleaned if type_ is not None]


def _clean_struct(type_: Any) -> pa.DataType | None:  # noqa: ANN401 - pa.StructType, proven by the caller
    fields = _clean_fields([type_.field(index) for index in range(type_.num_fields)])
    return pa.struct(fields) if fields else None


def _clean_list(type_: Any) -> pa.DataType | None:  # noqa: ANN401 - any of Arrow's list types
    element = clean_inferred_type(type_.value_type)
    if element is None:
        return None
    return pa.list_(type_.value_field.with_name("element").with_type(element))


def _clean_map(type_: Any) -> pa.DataType | None:  # noqa: ANN401 - pa.MapType, proven by the caller
    key, value = clean_inferred_type(type_.key_type), clean_inferred_type(type_.item_type)
    if key is None or value is None:
        return None
    return pa.map_(key, type_.item_field.with_name("value").with_type(value))


def _clean_timestamp(type_: Any) -> pa.DataType:  # noqa: ANN401 - pa.TimestampType
    return pa.timestamp("us") if type_.tz is None else pa.timestamp("us", tz="UTC")


def _clean_time(_: Any) -> pa.DataType:  # noqa: ANN401 - any of Arrow's time types
    return pa.time64("us")


def _clean_decimal(type_: Any) -> pa.DataType:  # noqa: ANN401 - any of Arrow's decimal types
    # A negative scale counts trailing zeros that were left out; Iceberg writes them.
    scale = max(type_.scale, 0)
    precision = max(type_.precision - min(type_.scale, 0), scale)
    if precision > DECIMAL_PRECISION_MAX:
        message = f"Iceberg stores at most {DECIMAL_PRECISION_MAX} digits, not Arrow's {type_}"
        raise ConfigError(message)
    return pa.decimal128(precision, scale)


def _clean_encoded(type_: Any) -> pa.DataType | None:  # noqa: ANN401 - dictionary or run-end encoded
    return clean_inferred_type(type_.value_type)


def _is_any_list(type_: pa.DataType) -> bool:
    return (
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
        or pa.types.is_list_view(type_)
        or pa.types.is_large_list_view(type_)
    )


def _is_encoded(type_: pa.DataType) -> bool:
    return pa.types.is_dictionary(type_) or pa.types.is_run_end_encoded(type_)


_CLEANERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], pa.DataType | None]], ...] = (
    (pa.types.is_struct, _clean_struct),
    (_is_any_list, _clean_list),
    (pa.types.is_map, _clean_map),
    (pa.types.is_timestamp, _clean_timestamp),
    (pa.types.is_time, _clean_time),
    (pa.types.is_decimal, _clean_decimal),
    (_is_encoded, _clean_encoded),
)
