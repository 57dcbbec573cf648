"""Rows in the table's sort order, and how Parquet is told of it.

Iceberg orders floating point values totally: -NaN < -∞ < … < -0 < 0 < … < ∞ < NaN. Arrow puts NaN
beside the nulls and takes both zeros as equal, so floats are ordered by their bits instead.
"""

from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from k2i_core.parquet.columns import column_at, storage_of
from k2i_core.parquet.encodings import leaf_types
from k2i_core.write_target import SortKey, WriteTarget


def sort_rows(rows: pa.RecordBatch, sort_keys: tuple[SortKey, ...]) -> pa.RecordBatch:
    """Return `rows` in the order of `sort_keys`; equal rows keep their order."""
    return rows.take(sorted_indices(key_columns(rows, sort_keys), sort_keys))


def key_columns(rows: pa.RecordBatch, sort_keys: tuple[SortKey, ...]) -> pa.RecordBatch:
    """Return n rows × what the rows are ordered by, one column a key."""
    columns = [order_column(rows, key) for key in sort_keys]
    return pa.RecordBatch.from_arrays(columns, names=[str(n) for n in range(len(columns))])


def sorted_indices(keys: pa.RecordBatch, sort_keys: tuple[SortKey, ...]) -> pa.UInt64Array:
    """Return where each row of `keys` (see `key_columns`) comes from; equal rows keep their order.

    The columns of `keys` are already transformed; of `sort_keys` only directions count.
    """
    options = [
        (
            name,
            "descending" if key.descending else "ascending",
            "at_start" if key.nulls_first else "at_end",
        )
        for name, key in zip(keys.schema.names, sort_keys, strict=True)
    ]
    # The published types know the two-part form of a key only.
    return pc.sort_indices(keys, sort_keys=cast("Any", options))


def sorting_columns(target: WriteTarget) -> list[pq.SortingColumn]:
    """Return Parquet's description of the order: the leading keys that are columns themselves.

    A transformed key ends it, because the rows need not be ordered by its source column.
    """
    if not target.sort_keys:
        return []
    leaves = list(leaf_types(target.schema))
    described: list[pq.SortingColumn] = []
    for key in target.sort_keys:
        if key.transform is not None:
            break
        index = leaves.index(".".join(key.source_path))
        described.append(
            pq.SortingColumn(index, descending=key.descending, nulls_first=key.nulls_first)
        )
    return described


def order_column(rows: pa.RecordBatch, key: SortKey) -> "pa.Array[Any]":
    """Return what one key orders rows by, in a type whose order is Iceberg's."""
    column = column_at(rows, key.source_path)
    if key.transform is not None:
        column = key.transform(column)
    column = storage_of(column)
    if pa.types.is_float32(column.type):
        return _total_order(column.view(pa.int32()), 0x7FFF_FFFF)
    if pa.types.is_float64(column.type):
        return _total_order(column.view(pa.int64()), 0x7FFF_FFFF_FFFF_FFFF)
    return column


def _total_order(bits: "pa.Array[Any]", magnitude_mask: int) -> "pa.Array[Any]":
    """Return integers that sort as IEEE 754 orders the floats with these bits.

    Bits of positive floats ascend as integers do; those of negative ones descend, so all of their
    bits but the sign are flipped.
    """
    flipped = pc.bit_wise_xor(bits, pa.scalar(magnitude_mask, bits.type))
    return pc.if_else(pc.less(bits, pa.scalar(0, bits.type)), flipped, bits)
