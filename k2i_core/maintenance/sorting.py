"""Rows in order within a memory budget: sorted at once, or cut into ranges on disk and sorted each.

More rows than fit are first spilled: keys of a sample of all rows say where to cut, each row goes
to the file of its range, and the ranges, each of which fits, are read back in order and sorted. So
every row is written to and read from local disk once, however many there are. A range can only
outgrow its part of the memory when a large share of the rows has one and the same key.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from k2i_core.maintenance.orders import SAMPLE_ROWS_MAX, RowOrder, buckets, joined
from k2i_core.parquet.sorting import sorted_indices

Batches = Iterable[pa.RecordBatch]

RANGES_MAX = 256
"""Files open at once. Larger needs more handles; smaller makes ranges that outgrow the memory."""

OUTPUT_ROWS = 65_536
"""Larger batches cost memory in the writer; smaller ones pay more calls a row."""


def sort_all(
    batches: Batches,
    read_keys: Callable[[], Batches],
    order: RowOrder,
    row_count: int,
    memory_bytes: int,
) -> Iterator[pa.RecordBatch]:
    """Yield all rows in order.

    Args:
        batches: The rows.
        read_keys: Reads the same rows again, at least the columns that keys are made from.
        order: What to sort by.
        row_count: How many rows there are.
        memory_bytes: For rows and their sorted copy.

    """
    source = iter(batches)
    held: list[pa.RecordBatch] = []
    held_bytes = held_rows = 0
    for batch in source:
        held.append(batch)
        held_bytes += batch.nbytes
        held_rows += batch.num_rows
        # Rows, their keys and the sorted copy are in memory together.
        if held_bytes > memory_bytes // 3:
            break
    else:
        if held:
            order.learn(_sampled(held, held_rows))
            yield from _sorted(held, order)
        return
    sample = _sampled(read_keys(), row_count)
    order.learn(sample)
    all_bytes = held_bytes / held_rows * max(row_count, held_rows)
    range_count = min(RANGES_MAX, ceil(all_bytes / (memory_bytes / 4)) + 1)
    cuts = _cuts(order.keys(sample), order, range_count)
    with TemporaryDirectory(prefix="k2i-sort-") as directory:
        paths = _spill(chain(held, source), order, cuts, Path(directory))
        held.clear()
        for path in paths:
            with path.open("rb") as stream, pa.ipc.open_stream(stream) as reader:
                ranged = list(reader)
            path.unlink()
            if ranged:
                yield from _sorted(ranged, order)


def _sorted(batches: list[pa.RecordBatch], order: RowOrder) -> Iterator[pa.RecordBatch]:
    rows = joined(batches)
    batches.clear()
    indices = sorted_indices(order.keys(rows), order.sort_keys)
    for start in range(0, rows.num_rows, OUTPUT_ROWS):
        yield rows.take(indices.slice(start, OUTPUT_ROWS))


def _sampled(batches: Batches, row_count: int) -> pa.RecordBatch:
    """Return evenly spread rows, every one when there are few."""
    step = max(1, row_count // SAMPLE_ROWS_MAX)
    taken = [
        batch.take(pa.array(np.arange(0, batch.num_rows, step), pa.int64()))
        for batch in batches
        if batch.num_rows
    ]
    return joined(taken)


def _cuts(keys: pa.RecordBatch, order: RowOrder, range_count: int) -> pa.RecordBatch:
    ordered = keys.take(sorted_indices(keys, order.sort_keys))
    places = np.unique(np.arange(1, range_count) * ordered.num_rows // range_count)
    return ordered.take(pa.array(places, pa.int64()))


def _spill(batches: Batches, order: RowOrder, cuts: pa.RecordBatch, directory: Path) -> list[Path]:
    """Write each row to the file of its range; returns the files in order."""
    paths = [directory / str(number) for number in range(cuts.num_rows + 1)]
    writers: dict[int, pa.RecordBatchStreamWriter] = {}
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with ExitStack() as stack:
        for batch in batches:
            numbers = buckets(order.keys(batch), cuts, order.sort_keys)
            for number in np.unique(numbers).tolist():
                if number not in writers:
                    writer = pa.ipc.new_stream(str(paths[number]), batch.schema, options=options)
                    writers[number] = stack.enter_context(writer)
                mine = pa.array(np.flatnonzero(numbers == number), pa.int64())
                writers[number].write_batch(batch.take(mine))
    return [path for number, path in enumerate(paths) if number in writers]
