"""Finding exactly the bad elements when a columnar step refuses a whole array.

Both functions ask the step itself about smaller and smaller parts, so the verdict on an element is
the one it would get alone. k bad ones among n cost about k · log(n / k) calls, not n.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

SINGLES_MAX = 8
"""Parts of at most so many records are asked about one by one. Larger: needless calls when one is
bad; smaller: needless halving when all are."""


class UnreadableError(Exception):
    """A reader refuses an array of records.

    Attributes:
        row: Which record the reader stopped at, if it says so; a hint, not a verdict.
    """

    def __init__(self, row: int | None = None) -> None:
        super().__init__("at least one record is unreadable")
        self.row = row


class UnfitError(Exception):
    """At least one value of an array does not fit its column."""


def find_unfit(array: "pa.Array[Any]", convert: Callable[["pa.Array[Any]"], object]) -> list[int]:
    """Return, ascending, the elements that `convert` refuses with `UnfitError`."""
    unfit: list[int] = []
    parts = [(0, len(array))] if len(array) else []
    while parts:
        start, stop = parts.pop()
        try:
            convert(array.slice(start, stop - start))
        except UnfitError:
            if stop - start == 1:
                unfit.append(start)
                continue
            middle = (start + stop) // 2
            parts += [(middle, stop), (start, middle)]
    return unfit


def read_good(
    texts: pa.StringArray,
    read: Callable[[pa.StringArray], pa.RecordBatch],
    parse_schema: pa.Schema,
) -> tuple[pa.RecordBatch, list[int]]:
    """Read the records that are readable.

    Args:
        texts: n records.
        read: Returns one row a record; raises `UnreadableError` if it cannot for any of them.
        parse_schema: What `read` returns.

    Returns:
        The rows of the readable records in order, and the other records, ascending.

    """
    pieces: list[pa.RecordBatch] = []
    unreadable: list[int] = []
    # The last part is the leftmost, so that pieces and verdicts come in order.
    parts = [(0, len(texts))]
    while parts:
        start, stop = parts.pop()
        try:
            pieces.append(read(texts.slice(start, stop - start)))
        except UnreadableError as error:
            if stop - start == 1:
                unreadable.append(start)
            else:
                parts += reversed(_split(start, stop, error.row))
    return _concatenate(pieces, parse_schema), unreadable


def _split(start: int, stop: int, hint: int | None) -> list[tuple[int, int]]:
    if hint is not None and start + hint < stop:
        row = start + hint
        # The rest is halved too: when all are bad, it would be read once for each of them.
        middle = (row + 1 + stop) // 2
        cuts = [(start, row), (row, row + 1), (row + 1, middle), (middle, stop)]
        return [(low, high) for low, high in cuts if low < high]
    if stop - start <= SINGLES_MAX:
        return [(row, row + 1) for row in range(start, stop)]
    middle = (start + stop) // 2
    return [(start, middle), (middle, stop)]


def no_rows(schema: pa.Schema) -> pa.RecordBatch:
    """Return an empty batch."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def _concatenate(pieces: list[pa.RecordBatch], parse_schema: pa.Schema) -> pa.RecordBatch:
    if len(pieces) == 1:
        return pieces[0]
    # Arrow concatenates no fewer than one batch.
    return pa.concat_batches([no_rows(parse_schema), *pieces])
