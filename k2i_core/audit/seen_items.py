"""Which rows of each record were seen, where a record may be several rows.

For each number there is a set of the offsets that have a row of that number, and a set of those of
which that row says that it is the last one. All rows of all records are there if

    the offsets with number n + 1  are  the offsets with number n, without those whose last is n

for every n, and every offset has number 0. A row that is missing, first, last or between, and one
too many break that for their offset, and for no other one. Memory follows the offsets and the
longest record, as sets of offsets are small.

Pure values; no I/O.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from pyroaring import BitMap64

from k2i_core.audit.offset_set import SeenOffsets, offsets_bitmap


@dataclass(frozen=True, slots=True)
class ItemNumbers:
    """Which of the rows of their records n rows are.

    Attributes:
        numbers: n numbers, each from 0 on.
        counts: How many rows their records have, as the rows say.
    """

    numbers: pa.Int32Array
    counts: pa.Int32Array


@dataclass(slots=True)
class SeenItems:
    """The rows of one Kafka partition, by their numbers."""

    _rows: defaultdict[int, SeenOffsets] = field(default_factory=lambda: defaultdict(SeenOffsets))
    _lasts: defaultdict[int, BitMap64] = field(default_factory=lambda: defaultdict(BitMap64))

    def add(self, offsets: pa.Int64Array, items: ItemNumbers) -> None:
        """Take n more rows, in any order."""
        values, numbers = offsets.to_numpy(), items.numbers.to_numpy()
        is_last = numbers + 1 == items.counts.to_numpy()
        order = np.argsort(numbers, kind="stable")
        found, starts = np.unique(numbers[order], return_index=True)
        for number, part in zip(found.tolist(), np.split(order, starts)[1:], strict=True):
            self._rows[number].add(pa.array(values[part], pa.int64()))
            lasts = values[part[is_last[part]]]
            if len(lasts):
                self._lasts[number] |= offsets_bitmap(pa.array(lasts, pa.int64()))

    def offsets(self) -> SeenOffsets:
        """Return the offsets of the rows; doubled are those of which a row is there twice."""
        seen = SeenOffsets()
        for one in self._rows.values():
            seen.distinct |= one.distinct
            seen.doubled |= one.doubled
            seen.count += one.count
        return seen

    @property
    def extra_count(self) -> int:
        """Different rows beyond the first one of their record."""
        return sum(len(seen.distinct) for number, seen in self._rows.items() if number)

    def torn(self) -> BitMap64:
        """Return the offsets of records that are not whole."""
        torn, expected, next_number = BitMap64(), self.offsets().distinct, 0
        for number in sorted(self._rows):
            if number != next_number:
                # Nobody has the numbers between.
                torn, expected = torn | expected, BitMap64()
            found, next_number = self._rows[number].distinct, number + 1
            torn |= found ^ expected
            expected = found - self._lasts.get(number, BitMap64())
        return torn | expected
