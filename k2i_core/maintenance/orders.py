"""How rows lie in rewritten files: as they come, by the table's sort order, or along a z-curve.

An order gives every row a key; rows are then sorted by their keys. For the z-curve each column's
values become ranks of equal width (a rank says between which quantiles of a sample a value lies, so
that a skewed column counts as much as an even one), and the ranks' bits are interleaved, highest
first: rows that are near each other in every column get near keys. Nulls have the lowest rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.parquet.sorting import key_columns, order_column, sorted_indices
from k2i_core.write_target import SortKey

RANK_BITS_MAX = 12
"""Ranks of one column, as a power of two. More cost time for each batch and need a larger sample;
fewer let distant values count as equal."""

KEY_BITS_MAX = 62

SAMPLE_ROWS_MAX = 65_536
"""Larger costs memory and time before the first row is written; smaller makes quantiles coarse."""


class RowOrder(Protocol):
    """What rows are sorted by."""

    @property
    def sort_keys(self) -> tuple[SortKey, ...]:
        """Directions of the key columns."""
        ...

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Top-level columns that keys are made from."""
        ...

    def learn(self, sample: pa.RecordBatch) -> None:
        """Look at rows of the whole set, before keys are asked for."""
        ...

    def keys(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return n rows × the key columns."""
        ...


@dataclass(frozen=True, slots=True)
class TableOrder:
    """The table's sort order."""

    sort_keys: tuple[SortKey, ...]

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Top-level columns that keys are made from."""
        return tuple(dict.fromkeys(key.source_path[0] for key in self.sort_keys))

    def learn(self, sample: pa.RecordBatch) -> None:
        """Nothing has to be learned."""

    def keys(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return n rows × the key columns."""
        return key_columns(rows, self.sort_keys)


@dataclass(slots=True)
class ZOrder:
    """A z-curve over some columns.

    Attributes:
        paths: Names from a top-level column down through structs, one path a column.
    """

    paths: tuple[tuple[str, ...], ...]
    _quantiles: list["pa.Array[Any]"] = field(default_factory=list["pa.Array[Any]"])

    @property
    def sort_keys(self) -> tuple[SortKey, ...]:
        """One key: the place on the curve."""
        return (SortKey(("z",)),)

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Top-level columns that keys are made from."""
        return tuple(dict.fromkeys(path[0] for path in self.paths))

    @property
    def rank_bits(self) -> int:
        """Bits that each column has in a key."""
        return max(1, min(RANK_BITS_MAX, KEY_BITS_MAX // len(self.paths)))

    def learn(self, sample: pa.RecordBatch) -> None:
        """Find each column's quantiles."""
        self._quantiles = [quantiles(c, 1 << self.rank_bits) for c in self._columns(sample)]

    def keys(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return n rows × the place on the curve."""
        columns = zip(self._columns(rows), self._quantiles, strict=True)
        z = interleave([ranks(column, bounds) for column, bounds in columns], self.rank_bits)
        return pa.RecordBatch.from_arrays([pa.array(z)], names=["z"])

    def _columns(self, rows: pa.RecordBatch) -> list["pa.Array[Any]"]:
        return [order_column(rows, SortKey(path)) for path in self.paths]


def quantiles(column: "pa.Array[Any]", count: int) -> "pa.Array[Any]":
    """Return at most `count` - 1 different values that cut a column into equally many rows."""
    values = pc.drop_null(column)
    ordered = values.take(pc.sort_indices(values))
    places = np.unique(np.arange(1, count) * len(ordered) // count)
    return pc.unique(ordered.take(pa.array(places, pa.int64()))) if len(ordered) else ordered


def ranks(column: "pa.Array[Any]", bounds: "pa.Array[Any]") -> npt.NDArray[np.int64]:
    """Return between which of the ascending `bounds` each value lies: 0 below all, and for null."""
    keys = pa.RecordBatch.from_arrays([column], names=["0"])
    cuts = pa.RecordBatch.from_arrays([bounds.cast(column.type)], names=["0"])
    return buckets(keys, cuts, (SortKey(("0",)),))


def buckets(
    keys: pa.RecordBatch, cuts: pa.RecordBatch, sort_keys: tuple[SortKey, ...]
) -> npt.NDArray[np.int64]:
    """Return how many of the sorted `cuts` stand at or before each of `keys`.

    By sorting both together: that works for every type that can be sorted, and for several keys
    with their directions and nulls, without a comparison in Python.
    """
    both = joined([cuts, keys])
    # A cut stands before the keys that equal it, because the sort is stable.
    order = np.asarray(sorted_indices(both, sort_keys)).astype(np.int64)
    is_cut = order < cuts.num_rows
    passed = np.cumsum(is_cut)
    found = np.empty(keys.num_rows, dtype=np.int64)
    found[order[~is_cut] - cuts.num_rows] = passed[~is_cut]
    return found


def joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the rows of at least one batch as one."""
    (rows,) = pa.Table.from_batches(batches).combine_chunks().to_batches() or (batches[0],)
    return rows


def interleave(columns: Sequence[npt.NDArray[np.int64]], bit_count: int) -> npt.NDArray[np.uint64]:
    """Return one number a row: the columns' bits in turn, the highest of the first column first.

    Args:
        columns: Equally long, of numbers from 0 to below 2 ** bit_count.
        bit_count: Bits taken of each; `bit_count` x columns must be below 64.

    """
    assert bit_count * len(columns) < 64, "a key has 64 bits"  # noqa: PLR2004
    z = np.zeros(len(columns[0]), dtype=np.uint64)
    for bit in reversed(range(bit_count)):
        for column in columns:
            z = (z << np.uint64(1)) | ((column >> bit) & 1).astype(np.uint64)
    return z
