"""Finding exactly the bad elements when a columnar step refuses a whole array.

Both functions ask the step itself about smaller and smaller parts, so the verdict on an element is
the one it would get alone. k bad ones among n cost about k · log(n / k) calls, not n.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import pyarrow as pa

from k2i_core.decode.arrow import AnyArray, concat_batches

SUSPECTS_MAX = 256
"""Refused parts of at most so many records are searched for suspects in Python. Larger: one bad
record costs a long search; smaller: many bad ones cost more halving before it starts."""


class UnreadableError(Exception):
    """A reader refuses an array of records.

    Attributes:
        row: Which record the reader stopped at, if it says so; a hint, not a verdict.
    """

    def __init__(self, row: int | None = None) -> None:
        super().__init__("at least one record is unreadable")
        self.row = row


class Reader(Protocol):
    """Texts to rows, all or none; immutable."""

    @property
    def parse_schema(self) -> pa.Schema:
        """Columns of the rows."""
        ...

    def read(self, texts: pa.StringArray) -> pa.RecordBatch:
        """Read n texts as n rows.

        Raises:
            UnreadableError: At least one is unreadable. Try parts.

        """
        ...


class UnfitError(Exception):
    """At least one value of an array does not fit its column."""


def find_unfit(array: AnyArray, convert: Callable[[AnyArray], object]) -> list[int]:
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
    texts: pa.StringArray, reader: Reader, is_suspect: Callable[[str], bool]
) -> tuple[pa.RecordBatch, list[int]]:
    """Read the records that are readable.

    Args:
        texts: n records.
        reader: Its verdict on a record alone is the one that counts.
        is_suspect: A guess at that verdict, which saves calls where it is right.

    Returns:
        The rows of the readable records in order, and the other records, ascending.

    """
    pieces: list[pa.RecordBatch] = []
    unreadable: list[int] = []
    # The last part is the leftmost, so that pieces and verdicts come in order.
    parts = [(0, len(texts))]
    while parts:
        start, stop = parts.pop()
        part = texts.slice(start, stop - start)
        try:
            pieces.append(reader.read(part))
        except UnreadableError as error:
            if len(part) == 1:
                unreadable.append(start)
                continue
            cuts = _cuts(part, error.row, is_suspect)
            parts += [(start + low, start + high) for low, high in reversed(cuts)]
    return _concatenate(pieces, reader.parse_schema), unreadable


def _cuts(
    part: pa.StringArray, hint: int | None, is_suspect: Callable[[str], bool]
) -> list[tuple[int, int]]:
    """Return where to cut a refused part of at least two records: at least once."""
    count = len(part)
    if hint is not None and hint < count:
        # The rest is halved too: when all are bad, it would be read once for each of them.
        bounds = {0, hint, hint + 1, (hint + 1 + count) // 2, count}
        return list(pairwise(sorted(bounds)))
    bounds = {0, count // 2, count}
    if count <= SUSPECTS_MAX:
        suspects = [index for index in range(count) if is_suspect(part[index].as_py())]
        bounds = {0, count, *suspects, *(index + 1 for index in suspects)} if suspects else bounds
    return list(pairwise(sorted(bounds)))


def no_rows(schema: pa.Schema) -> pa.RecordBatch:
    """Return an empty batch."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def _concatenate(pieces: list[pa.RecordBatch], parse_schema: pa.Schema) -> pa.RecordBatch:
    if len(pieces) == 1:
        return pieces[0]
    # Arrow concatenates no fewer than one batch.
    return concat_batches([no_rows(parse_schema), *pieces])
