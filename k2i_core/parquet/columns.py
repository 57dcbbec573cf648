"""Source columns of transforms and sort keys: by path through structs, as plain Arrow arrays."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def column_at(rows: pa.RecordBatch, path: tuple[str, ...]) -> "pa.Array[Any]":
    """Return the column at `path`; an element is null where any struct above it is."""
    column = rows.column(rows.schema.get_field_index(path[0]))
    for name in path[1:]:
        column = pc.struct_field(column, name)
    return column


def storage_of(column: "pa.Array[Any]") -> "pa.Array[Any]":
    """Return the plain array below an extension such as uuid: Arrow computes on no other."""
    return column.storage if isinstance(column, pa.ExtensionArray) else column
