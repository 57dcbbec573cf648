"""Places in dictionaries that stand below a null, of which Arrow does not say what they are.

A writer that fills such a place by habit points at the first value, and a dictionary of which
nothing is seen has none. Arrow's own check refuses that row, though nobody can see the place.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from k2i_core.decode.arrow import AnyArray, map_array, null_mask
from k2i_core.decode.cursors import Flags, nulls_where

_pa: Any = pa


def unseen_as_null(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows with null wherever a place in a dictionary stands below a null.

    Args:
        rows: Each buffer is as long as it has to be; what the values say is not checked.

    Raises:
        ValueError, pa.ArrowException: Something that was looked at contradicts itself.

    """
    is_unseen = np.zeros(rows.num_rows, np.bool_)
    made = [_without_unseen(column, is_unseen) for column in rows.columns]
    return pa.RecordBatch.from_arrays(made, schema=rows.schema)


def _without_unseen(array: Any, is_unseen: Flags) -> AnyArray:  # noqa: ANN401 - any of Arrow's
    """Return an array of which the elements `is_unseen` stand below a null.

    In runs and in lists that are views, every element is taken to be seen.
    """
    type_ = array.type
    if isinstance(array, pa.ExtensionArray):
        return _pa.ExtensionArray.from_storage(type_, _without_unseen(array.storage, is_unseen))
    if isinstance(array, pa.DictionaryArray):
        places = nulls_where(array.indices, is_unseen)
        return _pa.DictionaryArray.from_arrays(places, array.dictionary, ordered=type_.ordered)
    if len(array) == 0:
        return array
    below = is_unseen | array.is_null().to_numpy(zero_copy_only=False)
    if isinstance(array, pa.StructArray) and type_.num_fields:
        parts = [_without_unseen(array.field(n), below) for n in range(type_.num_fields)]
        return pa.StructArray.from_arrays(parts, fields=list(type_), mask=null_mask(array))
    return _lists(array, below)


def _lists(array: Any, below: Flags) -> AnyArray:  # noqa: ANN401 - any of Arrow's
    """Return lists or maps without places in dictionaries inside of those that are `below`."""
    type_, mask = array.type, null_mask(array)
    # Of a size of zero Arrow makes no lists: it divides by it.
    if isinstance(array, pa.FixedSizeListArray) and type_.list_size > 0:
        elements = array.values.slice(0, len(array) * type_.list_size)
        made = _without_unseen(elements, np.repeat(below, type_.list_size))
        return _pa.FixedSizeListArray.from_arrays(made, type=type_, mask=mask)
    if isinstance(array, pa.MapArray):
        inside = _inside(array.offsets, below, len(array.keys))
        entries = (_without_unseen(array.keys, inside), _without_unseen(array.items, inside))
        return map_array(array.offsets, entries, type_, mask)
    if isinstance(array, pa.ListArray | pa.LargeListArray):
        made = _without_unseen(array.values, _inside(array.offsets, below, len(array.values)))
        make: Any = type(array)
        return make.from_arrays(array.offsets, made, type=type_, mask=mask)
    return array


def _inside(offsets: AnyArray, is_unseen: Flags, count: int) -> Flags:
    """Return which of `count` elements are unseen, because their list is or they are in none."""
    bounds = offsets.to_numpy().astype(np.int64)
    inside = np.ones(count, np.bool_)
    # Refuses lists that end before they begin.
    inside[bounds[0] : bounds[-1]] = np.repeat(is_unseen, np.diff(bounds))
    return inside
