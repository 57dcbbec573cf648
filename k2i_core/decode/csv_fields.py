"""Where the fields of n CSV records lie, found by whole-array steps.

A record is one record of RFC 4180 and nothing else, so its bytes are never joined with others': a
line break or a quote that is not closed can end or begin nothing beside it. What is looked for:

- A quote is inside or outside of quoted text by how many quotes of the record stand before it; a
  doubled one counts twice, so it changes nothing. Delimiters and line breaks count where that
  number is even.
- A field with quotes begins and ends with one, and those between are doubled. Wherever the count
  above misleads, because a quote stands in the middle of bare text, this check fails.
- One line break at the very end ends the record, as it would end a line of a file.
"""

from dataclasses import dataclass

import numpy as np

from k2i_core.decode.conform import Faults
from k2i_core.decode.cursors import Cursors, Flags, Integers
from k2i_core.decode.json_trees import ErrorClass

LINE_FEED, CARRIAGE_RETURN = 0x0A, 0x0D
AROUND = 2
"""Quotes of a quoted field that are not part of its text."""

_INVALID = ErrorClass.INVALID_ENCODING


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """How records are written.

    Attributes:
        columns: Names of the fields, in order.
        delimiter: One ASCII character.
        quote: One ASCII character; None where text is never quoted.
        null: What a field without quotes says when it has no value.
    """

    columns: tuple[str, ...]
    delimiter: str = ","
    quote: str | None = '"'
    null: str = ""


@dataclass(frozen=True, slots=True)
class CsvFields:
    """The fields of those m records that have exactly one for each column.

    Attributes:
        places: Which of the n records each is, ascending.
        starts: m × columns: the first byte of the text, inside its quotes.
        lengths: m × columns: bytes of the text.
        is_quoted: m × columns.
        has_doubled: Whether a column has texts with doubled quotes.
    """

    places: Integers
    starts: Integers
    lengths: Integers
    is_quoted: Flags
    has_doubled: Flags


def find_fields(cursors: Cursors, dialect: CsvDialect, faults: Faults) -> CsvFields:
    """Find the fields of n records.

    Args:
        cursors: Over n records that lie one behind the other.
        dialect: How they are written.
        faults: Records that are none are added.

    """
    starts, ends = cursors.positions, _without_line_break(cursors)
    data = cursors.bytes_[: int(cursors.ends[-1]) if len(ends) else 0]
    quotes = np.zeros(0, np.int64)
    if dialect.quote is not None:
        quotes = np.flatnonzero(data == ord(dialect.quote))
    first_quotes, next_quotes = np.searchsorted(quotes, starts), np.searchsorted(quotes, ends)

    def outside(places: Integers) -> tuple[Integers, Integers]:
        """Return those of `places` that are not in quoted text, and their records."""
        # Of records that begin at the same byte, all but the last are empty.
        records = np.searchsorted(starts, places, side="right") - 1
        quote_counts = np.searchsorted(quotes, places) - first_quotes[records]
        is_outside = (quote_counts % 2 == 0) & (places < ends[records])
        return places[is_outside], records[is_outside]

    delimiters, delimited = outside(np.flatnonzero(data == ord(dialect.delimiter)))
    breaks = np.flatnonzero((data == LINE_FEED) | (data == CARRIAGE_RETURN))
    field_counts = np.bincount(delimited, minlength=len(starts)) + 1
    column_count = len(dialect.columns)
    is_open = (next_quotes - first_quotes) % 2 == 1
    _add(faults, np.flatnonzero(is_open), "a quote is not closed")
    _add(faults, np.unique(outside(breaks)[1]), "a line break stands outside of quotes")
    for record in np.flatnonzero(field_counts != column_count).tolist():
        message = f"expected fields={column_count}, got fields={field_counts[record]}"
        faults.setdefault(record, (_INVALID, message))

    is_whole = np.ones(len(starts), np.bool_)
    is_whole[list(faults)] = False
    places = np.flatnonzero(is_whole)
    between = delimiters[is_whole[delimited]].reshape(len(places), column_count - 1)
    field_starts = np.hstack([starts[places, None], between + 1])
    field_ends = np.hstack([between, ends[places, None]])
    return _unquoted(places, field_starts, field_ends, quotes, faults)


def _without_line_break(cursors: Cursors) -> Integers:
    """Return the ends of the records without a line feed, alone or behind a carriage return."""
    starts, ends = cursors.positions, cursors.ends.copy()
    for character in (LINE_FEED, CARRIAGE_RETURN):
        # Whatever ended in a line feed is one byte shorter by now; nothing else may lose its last.
        may_end = (
            ends > starts if character == LINE_FEED else (ends > starts) & (ends < cursors.ends)
        )
        ends -= may_end & (cursors.bytes_[np.maximum(ends - 1, 0)] == character)
    return ends


def _unquoted(
    places: Integers,
    starts: Integers,
    ends: Integers,
    quotes: Integers,
    faults: Faults,
) -> CsvFields:
    """Take the quotes around fields away; records with quotes elsewhere become faults."""
    first, next_ = np.searchsorted(quotes, starts), np.searchsorted(quotes, ends)
    counts = next_ - first
    is_quoted = counts > 0
    if not is_quoted.any():
        no_doubled = np.zeros(starts.shape[1], np.bool_)
        return CsvFields(places, starts, ends - starts, is_quoted, no_doubled)
    # Where there is a quote at all, its first one is at the start and its last one at the end.
    is_bad = is_quoted & (quotes[np.minimum(first, len(quotes) - 1)] != starts)
    is_bad |= is_quoted & (quotes[next_ - 1] != ends - 1)
    is_bad |= ~_are_doubled(quotes, first, counts)
    bad_records = is_bad.any(axis=1)
    _add(faults, places[bad_records], "a quote stands in a field that does not begin and end so")
    keep = ~bad_records
    starts, ends, is_quoted = starts[keep], ends[keep], is_quoted[keep]
    return CsvFields(
        places=places[keep],
        starts=starts + is_quoted,
        lengths=ends - starts - AROUND * is_quoted,
        is_quoted=is_quoted,
        has_doubled=np.any(counts[keep] > AROUND, axis=0, keepdims=False),
    )


def _are_doubled(quotes: Integers, first: Integers, counts: Integers) -> Flags:
    """Tell of which fields the quotes between the first and the last stand in pairs."""
    pair_counts = np.maximum(counts.ravel() - AROUND, 0) // 2
    are_doubled = np.ones(counts.size, np.bool_)
    fields = np.repeat(np.arange(counts.size), pair_counts)
    if len(fields):
        numbers = np.arange(len(fields)) - np.repeat(
            np.cumsum(pair_counts) - pair_counts, pair_counts
        )
        lefts = first.ravel()[fields] + 1 + 2 * numbers
        are_doubled[fields[quotes[lefts + 1] != quotes[lefts] + 1]] = False
    return are_doubled.reshape(counts.shape)


def _add(faults: Faults, records: Integers, message: str) -> None:
    for record in records.tolist():
        faults.setdefault(record, (_INVALID, message))
