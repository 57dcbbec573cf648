"""The step `explode`: one row for each element of a list.

The one step that makes several rows of one, which is why the chain numbers the rows of a record
once all steps are done.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.errors import ConfigError
from k2i_core.records import ITEM_COLUMN, ITEM_TYPE
from k2i_core.transform.steps import Fault, Integers, Outcome, Step, check_column

TOO_MANY_ROWS = "too_many_rows"


class Explode:
    """A step that puts each element of a list where the list was, beside the other columns."""

    def __init__(
        self, schema: pa.Schema, name: str, *, keeps_empty: bool, row_count_max: int
    ) -> None:
        """Bind the column; it is a list.

        Args:
            schema: The columns before.
            name: Of the list.
            keeps_empty: Whether a record without elements is one row with null instead of none.
            row_count_max: A record with more rows behind this step fails.

        """
        self._index = schema.names.index(name)
        self._keeps_empty = keeps_empty
        self._row_count_max = row_count_max
        reason = f"{name}: makes more rows of the record than max_rows={row_count_max}"
        self._fault: Fault = TOO_MANY_ROWS, reason
        list_type: Any = schema.field(name).type
        # Optional, because a table that has rows gets no required column.
        element = pa.field(name, list_type.value_type, nullable=True)
        self._schema = schema.set(self._index, element)

    @property
    def schema(self) -> pa.Schema:
        """The columns that it leaves."""
        return self._schema

    def apply(self, rows: pa.RecordBatch, origin: pa.StructArray) -> Outcome:
        """Make n rows, each of a record of its own, into one for each element of their lists."""
        del origin
        return self.explode(rows, np.arange(rows.num_rows))

    def explode(self, rows: pa.RecordBatch, records: Integers) -> Outcome:
        """Make n rows into one for each element of their lists.

        Args:
            rows: n rows.
            records: Of which record each is, ascending: its rows count together.

        """
        lists: Any = rows.column(self._index)
        lengths = _numpy(pc.list_value_length(lists).fill_null(0)).astype(np.int64)
        counts = np.maximum(lengths, 1) if self._keeps_empty else lengths.copy()
        # Before there are any, because lists in lists could make more rows than there is memory.
        is_too_long = np.bincount(records, counts)[records] > self._row_count_max
        counts[is_too_long] = 0
        places = np.repeat(np.arange(rows.num_rows), counts)
        elements = _elements(lists.flatten(), lengths, counts, places)
        indices = pa.array(places, pa.int64())
        columns = [
            elements if index == self._index else column.take(indices)
            for index, column in enumerate(rows.columns)
        ]
        faults = {int(index): self._fault for index in np.flatnonzero(is_too_long)}
        return Outcome(pa.RecordBatch.from_arrays(columns, schema=self._schema), places, faults)


def explode(schema: pa.Schema, name: str, *, keeps_empty: bool, row_count_max: int) -> Step:
    """Make one row for each element of a list."""
    type_ = schema.field(check_column(schema, name)).type
    if not pa.types.is_list(type_):
        message = f'"{name}" is no list, so there is nothing to explode'
        raise ConfigError(message)
    return Explode(schema, name, keeps_empty=keeps_empty, row_count_max=row_count_max)


def with_items(rows: pa.RecordBatch, places: Integers) -> pa.RecordBatch:
    """Add which of the rows of its record each of n rows is.

    Args:
        rows: n rows.
        places: Of which record each is made, ascending.

    """
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    counts = np.diff(starts, append=len(places))
    numbers = np.arange(len(places)) - np.repeat(starts, counts)
    parts = [pa.array(part, pa.int32()) for part in (numbers, np.repeat(counts, counts))]
    items = pa.StructArray.from_arrays(parts, fields=list(ITEM_TYPE))
    return rows.append_column(pa.field(ITEM_COLUMN, ITEM_TYPE), items)


def _elements(
    flat: "pa.Array[Any]", lengths: Integers, counts: Integers, places: Integers
) -> "pa.Array[Any]":
    """Return the element of each row: of a list's own, null where it has none.

    Args:
        flat: The elements of n lists.
        lengths: How many of them are each list's.
        counts: How many rows it becomes.
        places: Which list each row is of.

    """
    if np.array_equal(lengths, counts):
        return flat
    numbers = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = (np.cumsum(lengths) - lengths)[places] + numbers
    return flat.take(pa.array(taken, pa.int64(), mask=lengths[places] == 0))


def _numpy(array: "pa.Array[Any]") -> npt.NDArray[Any]:
    return array.to_numpy(zero_copy_only=False)
