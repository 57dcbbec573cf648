"""Rows of a Parquet file as the columns of another schema, matched by Iceberg field id.

A table's columns are renamed, added, dropped and moved without a rewrite of its files: what makes
a column the same is its id, in structs, lists and maps too. Nulls stay nulls, null lists do not
become empty ones, and what the file does not have is null. Types are left as they are in the file;
the writer widens them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.errors import ErrorKind, IncompatibleSchemaError

_Array: TypeAlias = "pa.Array[Any]"
_Field: TypeAlias = "pa.Field[Any]"
_Step: TypeAlias = Callable[[_Array], _Array]

_ID_KEY = b"PARQUET:field_id"

_LISTS = (pa.ListType, pa.LargeListType)
_NESTED = (pa.StructType, pa.MapType, *_LISTS)


class ByFieldId:
    """Takes rows of one file's schema to the names and order of a target schema."""

    def __init__(self, source: pa.Schema, target: pa.Schema) -> None:
        """Plan it.

        Args:
            source: Of the file, with field ids as Parquet has them.
            target: Of the table, with field ids.

        Raises:
            IncompatibleSchemaError: The file has no field ids, or a column of another kind.

        """
        found = _by_id(list(source))
        if len(source) and not found:
            message = "a data file has no field ids, so its columns cannot be told for sure"
            raise IncompatibleSchemaError(message, kind=ErrorKind.NOT_SUPPORTED_YET)
        self._fields: list[_Field] = []
        self._steps: list[tuple[str, _Step | None]] = []
        self.absent_ids: set[int | None] = set()
        for field in target:
            given = found.get(field_id_of(field))
            if given is None:
                self.absent_ids.add(field_id_of(field))
                continue
            step, shape = _plan(given.type, field.type, field.name)
            self._steps.append((given.name, step))
            self._fields.append(pa.field(field.name, shape))
        self._schema = pa.schema(self._fields)

    @property
    def column_names(self) -> list[str]:
        """Columns of the file that are needed."""
        return [name for name, _ in self._steps]

    def apply(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows with the target's names, without columns that the file does not have.

        Args:
            rows: n rows × at least `column_names` of the file.

        """
        columns = [
            rows.column(name) if step is None else step(rows.column(name))
            for name, step in self._steps
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def field_id_of(field: _Field) -> int | None:
    """Return the Iceberg id of a column or an inner field; None when it has none."""
    text = (field.metadata or {}).get(_ID_KEY)
    return None if text is None else int(text)


def _by_id(fields: Sequence[_Field]) -> Mapping[int | None, _Field]:
    return {field_id_of(field): field for field in fields if field_id_of(field) is not None}


def _children(data_type: pa.DataType) -> list[_Field]:
    return [data_type.field(n) for n in range(data_type.num_fields)]


def _plan(source: pa.DataType, target: pa.DataType, path: str) -> tuple[_Step | None, pa.DataType]:
    """Return what makes the target's shape of a column, and the type that comes out.

    The step is None for a column that has the shape already.
    """
    if isinstance(source, pa.StructType) and isinstance(target, pa.StructType):
        return _plan_struct(source, target, path)
    if isinstance(source, pa.MapType) and isinstance(target, pa.MapType):
        return _plan_map(source, target, path)
    if isinstance(source, _LISTS) and isinstance(target, _LISTS):
        return _plan_list(source, target, path)
    if isinstance(source, _NESTED) or isinstance(target, _NESTED):
        message = f"a data file has column={path} as another kind of type than the table"
        raise IncompatibleSchemaError(message)
    return None, source


def _plan_struct(
    source: pa.StructType, target: pa.StructType, path: str
) -> tuple[_Step | None, pa.DataType]:
    given = _children(source)
    positions = {
        field_id_of(field): n for n, field in enumerate(given) if field_id_of(field) is not None
    }
    plan: list[tuple[int | None, _Step | None, _Field]] = []
    for wanted in _children(target):
        position = positions.get(field_id_of(wanted))
        step, shape = None, wanted.type
        if position is not None:
            step, shape = _plan(given[position].type, wanted.type, f"{path}.{wanted.name}")
        plan.append((position, step, pa.field(wanted.name, shape)))
    if (
        [position for position, _, _ in plan] == list(range(len(given)))
        and all(step is None for _, step, _ in plan)
        and [field.name for _, _, field in plan] == [field.name for field in given]
    ):
        return None, source

    def project(column: _Array) -> _Array:
        struct = cast("pa.StructArray", column)
        columns = [
            pa.nulls(len(struct), field.type)
            if position is None
            else struct.field(position)
            if step is None
            else step(struct.field(position))
            for position, step, field in plan
        ]
        mask = struct.is_null() if struct.null_count else None
        fields = [field for _, _, field in plan]
        return pa.StructArray.from_arrays(columns, fields=fields, mask=mask)

    return project, pa.struct([field for _, _, field in plan])


def _plan_list(
    source: "pa.ListType[Any] | pa.LargeListType[Any]",
    target: "pa.ListType[Any] | pa.LargeListType[Any]",
    path: str,
) -> tuple[_Step | None, pa.DataType]:
    step, shape = _plan(source.value_type, target.value_type, f"{path}.element")
    if step is None:
        return None, source
    made = pa.list_(pa.field(target.value_field.name, shape))

    def project(column: _Array) -> _Array:
        return _list_of(column, step(cast("pa.ListArray", column).flatten()), made)

    return project, made


def _plan_map(
    source: "pa.MapType[Any, Any, Any]", target: "pa.MapType[Any, Any, Any]", path: str
) -> tuple[_Step | None, pa.DataType]:
    key_step, key_shape = _plan(source.key_type, target.key_type, f"{path}.key")
    item_step, item_shape = _plan(source.item_type, target.item_type, f"{path}.value")
    if key_step is None and item_step is None:
        return None, source
    made = pa.map_(key_shape, item_shape)

    def project(column: _Array) -> _Array:
        pairs = _as_list(cast("pa.MapArray", column))
        entries = cast("pa.StructArray", pairs.flatten())
        keys, items = entries.field(0), entries.field(1)
        projected = pa.StructArray.from_arrays(
            [
                keys if key_step is None else key_step(keys),
                items if item_step is None else item_step(items),
            ],
            fields=[made.key_field, made.item_field],
        )
        as_list = _list_of(pairs, projected, pa.list_(projected.type))
        # A map is a list of pairs to Arrow: the same buffers.
        return pa.Array.from_buffers(
            made, len(as_list), as_list.buffers()[:2], children=[projected]
        )

    return project, made


def _as_list(column: pa.MapArray) -> pa.ListArray:
    """Return a map column as the list of pairs that it is, without a copy."""
    pairs = pa.StructArray.from_arrays([column.keys, column.items], names=["key", "value"])
    as_list = pa.Array.from_buffers(
        pa.list_(pairs.type),
        len(column),
        column.buffers()[:2],
        offset=column.offset,
        children=[cast("_Array", pairs)],
    )
    # Safe because that is the type that was just given.
    return cast("pa.ListArray", as_list)


def _list_of(column: _Array, values: _Array, made: pa.DataType) -> _Array:
    """Return lists as long as those of `column`, with other values; null lists stay null."""
    lengths = pc.fill_null(pc.list_value_length(column), pa.scalar(0, pa.int32()))
    offsets = np.zeros(len(column) + 1, dtype=np.int32)
    np.cumsum(np.asarray(lengths), out=offsets[1:])
    mask = column.is_null() if column.null_count else None
    # The stubs know neither the type nor the mask.
    make = cast("Any", pa.ListArray.from_arrays)
    return make(pa.array(offsets), values, type=made, mask=mask)
