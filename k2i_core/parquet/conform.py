"""Rows as the decoder made them → rows of exactly the table's schema.

Columns are matched by name. What differs only in field metadata is relabelled without a copy, a
narrower type is widened, an absent optional column becomes null. Nothing is dropped: a column
that the table lacks is an error, nested ones too, because Arrow's own struct cast would drop it
silently.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pyarrow as pa

from k2i_core.errors import IncompatibleSchemaError

_ColumnStep: TypeAlias = Callable[[pa.RecordBatch], "pa.Array[Any]"]


class Conformer:
    """Conforms batches to one schema; remembers how for the last shape of rows it saw."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._required = [n for n, field in enumerate(schema) if not field.nullable]
        self._seen_schema = schema
        self._steps: tuple[_ColumnStep, ...] = ()

    def conform(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return `rows` × the schema.

        Args:
            rows: n rows × any subset of the schema's columns that contains the required ones.

        Raises:
            IncompatibleSchemaError: The rows do not fit. Reload the table's schema, or evolve it.

        """
        if not rows.schema.equals(self._schema, check_metadata=True):
            rows = self._reshape(rows)
        for index in self._required:
            null_count = rows.column(index).null_count
            if null_count:
                message = (
                    f"rows do not fit the table: column={self._schema.field(index).name} is "
                    f"required and null_count={null_count}, make the column optional"
                )
                raise IncompatibleSchemaError(message)
        return rows

    def _reshape(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if not self._steps or not rows.schema.equals(self._seen_schema):
            self._steps = tuple(_plan(rows.schema, self._schema))
            self._seen_schema = rows.schema
        try:
            columns = [step(rows) for step in self._steps]
        except pa.ArrowInvalid as error:
            # The message is Arrow's own and may quote a value, so it stays out of ours.
            message = (
                f"rows do not fit the table: a value of columns={self._schema.names} is out of the "
                "range of its column's type, or null in a required field"
            )
            raise IncompatibleSchemaError(message) from error
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _plan(source: pa.Schema, target: pa.Schema) -> Iterator[_ColumnStep]:
    foreign = [name for name in source.names if name not in target.names]
    if foreign:
        message = f"rows do not fit the table: it has no columns={foreign}, add them or drop them"
        raise IncompatibleSchemaError(message)
    for field in target:
        if field.name not in source.names:
            yield _null_column(field)
            continue
        index = source.names.index(field.name)
        source_type = source.field(index).type
        if source_type == field.type:
            yield _kept_column(index)
        else:
            _check_castable(source_type, field.type, field.name)
            yield _cast_column(index, field.type)


def _null_column(field: "pa.Field[Any]") -> _ColumnStep:
    def nulls(rows: pa.RecordBatch) -> "pa.Array[Any]":
        return pa.nulls(rows.num_rows, field.type)

    return nulls


def _kept_column(index: int) -> _ColumnStep:
    def keep(rows: pa.RecordBatch) -> "pa.Array[Any]":
        return rows.column(index)

    return keep


def _cast_column(index: int, to_type: pa.DataType) -> _ColumnStep:
    def cast(rows: pa.RecordBatch) -> "pa.Array[Any]":
        return rows.column(index).cast(to_type)

    return cast


def _check_castable(source: pa.DataType, target: pa.DataType, path: str) -> None:
    """Refuse what Arrow would cast but Iceberg does not mean: dropped fields, text to numbers."""
    if isinstance(source, pa.StructType) and isinstance(target, pa.StructType):
        for index in range(source.num_fields):
            child = source.field(index)
            if target.get_field_index(child.name) < 0:
                message = f"rows do not fit the table: it has no column={path}.{child.name}"
                raise IncompatibleSchemaError(message)
            _check_castable(child.type, target.field(child.name).type, f"{path}.{child.name}")
    elif isinstance(source, pa.MapType) and isinstance(target, pa.MapType):
        _check_castable(source.key_type, target.key_type, f"{path}.key")
        _check_castable(source.item_type, target.item_type, f"{path}.value")
    elif isinstance(source, _LIST_TYPES) and isinstance(target, _LIST_TYPES):
        _check_castable(source.value_type, target.value_type, f"{path}.element")
    elif not (pa.types.is_null(source) or source == target or _is_same_kind(source, target)):
        message = (
            f"rows do not fit the table: column={path} is {target} in the table and {source} in "
            "the rows"
        )
        raise IncompatibleSchemaError(message)


_LIST_TYPES = (pa.ListType, pa.LargeListType)


def _is_same_kind(source: pa.DataType, target: pa.DataType) -> bool:
    if isinstance(source, pa.DictionaryType):
        return source.value_type == target or _is_same_kind(source.value_type, target)
    return any(is_kind(source) and is_kind(target) for is_kind in _KINDS)


def _is_text(data_type: pa.DataType) -> bool:
    return pa.types.is_string(data_type) or pa.types.is_large_string(data_type)


def _is_bytes(data_type: pa.DataType) -> bool:
    return pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type)


def _is_sixteen_bytes(data_type: pa.DataType) -> bool:
    return data_type in (pa.binary(16), pa.uuid())


def _is_zoned(data_type: pa.DataType) -> bool:
    return isinstance(data_type, pa.TimestampType) and data_type.tz is not None


def _is_zoneless(data_type: pa.DataType) -> bool:
    return isinstance(data_type, pa.TimestampType) and data_type.tz is None


# Within a kind Arrow's checked cast is exact or fails; across kinds it may change the meaning.
_KINDS: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_time,
    _is_text,
    _is_bytes,
    _is_sixteen_bytes,
    _is_zoned,
    _is_zoneless,
)
