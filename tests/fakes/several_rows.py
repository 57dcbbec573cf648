"""Transforms that make several rows of a record: how many, its offset alone says."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from k2i_core.records import TransformedRows
from k2i_core.transform.exploding import with_items


def rows_of(offset: int) -> int:
    return 1 + offset % 4


class SeveralRows:
    """Each record one to four times."""

    keeps_bytes = True

    def hide(self, origin: pa.StructArray) -> pa.StructArray:
        return origin

    def apply(self, rows: pa.RecordBatch, origin: pa.StructArray) -> TransformedRows:
        counts = [rows_of(offset) for offset in origin.field("offset").to_pylist()]
        places = np.repeat(np.arange(rows.num_rows), counts)
        indices = pa.array(places, pa.int64())
        made = with_items(rows.take(indices), places)
        return TransformedRows(made, origin.take(indices), indices)


def whole_records(rows: Counter[int]) -> Counter[int]:
    """How often each record is there, by how often each offset has a row; -1 when it is torn."""
    return Counter(
        {o: -1 if count % rows_of(o) else count // rows_of(o) for o, count in rows.items()}
    )


def extra_rows(offsets: Iterable[int]) -> int:
    """How many rows records have beyond the first."""
    return sum(rows_of(offset) - 1 for offset in offsets)
