"""Rows of a query as text or Arrow: aligned for people, CSV, JSON lines, Arrow IPC for programs.

Values keep their meaning in text: decimals stay exact, times are ISO 8601, binary is base64, and
nested values are JSON. What a record contains cannot steer the terminal: control characters are
shown as escapes.
"""

import base64
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from io import IOBase
from typing import Protocol, TextIO, cast

import pyarrow as pa
from rich.cells import cell_len, set_cell_size

from k2i_core.query.committed import QueryResult

CELL_WIDTH_MAX = 48
"""Larger wraps wide tables on most terminals; smaller cuts ids and times."""


class OutputFormat(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    ARROW = "arrow"


def write_text(
    result: QueryResult,
    output_format: OutputFormat,
    stream: TextIO,
    *,
    row_count_shown: int,
) -> int:
    """Write all rows as text.

    Args:
        result: Read to its end.
        output_format: Any but Arrow, which is binary.
        stream: Where to.
        row_count_shown: Rows of an aligned table; the rest is counted and said.

    Returns:
        Rows in the result, shown or not.

    """
    match output_format:
        case OutputFormat.TABLE:
            return _write_table(result, stream, row_count_shown)
        case OutputFormat.CSV:
            return _write_csv(result, stream)
        case OutputFormat.JSON:
            return _write_json_lines(result, stream)
        case OutputFormat.ARROW:
            message = "Arrow is binary: write_arrow"
            raise AssertionError(message)


def write_arrow(result: QueryResult, stream: IOBase) -> int:
    """Write all rows as one Arrow IPC stream; return how many."""
    row_count = 0
    with pa.ipc.new_stream(stream, result.schema) as writer:
        for batch in result.batches():
            writer.write_batch(batch)
            row_count += batch.num_rows
    return row_count


def _write_csv(result: QueryResult, stream: TextIO) -> int:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(result.schema.names)
    row_count = 0
    for batch in result.batches():
        writer.writerows([_csv_cell(value) for value in row] for row in _rows(batch))
        row_count += batch.num_rows
    return row_count


class Rows(Protocol):
    """Rows with their columns, to be read once."""

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        ...

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows."""
        ...


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of an Arrow table."""

    table: pa.Table

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.table.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows."""
        yield from self.table.to_batches()


def plain_rows(result: Rows) -> Iterator[dict[str, object]]:
    """Yield each row as a dictionary that JSON can hold."""
    names = _unique(result.schema.names)
    for batch in result.batches():
        for row in _rows(batch):
            yield dict(zip(names, (_plain(value) for value in row), strict=True))


def _write_json_lines(result: QueryResult, stream: TextIO) -> int:
    row_count = 0
    for plain in plain_rows(result):
        stream.write(json.dumps(plain, ensure_ascii=False) + "\n")
        row_count += 1
    return row_count


def _write_table(result: QueryResult, stream: TextIO, row_count_shown: int) -> int:
    names = [_shown(name) for name in result.schema.names]
    cells: list[list[str]] = []
    row_count = 0
    for batch in result.batches():
        room = row_count_shown - len(cells)
        if room > 0:
            cells += [[_shown(_text(v)) for v in row] for row in _rows(batch.slice(0, room))]
        row_count += batch.num_rows
    widths = [
        max(cell_len(name), *(cell_len(row[i]) for row in cells), 1) if cells else cell_len(name)
        for i, name in enumerate(names)
    ]
    is_number = [_is_number(field.type) for field in result.schema]
    lines = [_line(names, widths, [False] * len(names))]
    lines.append("  ".join("─" * width for width in widths))
    lines += [_line(row, widths, is_number) for row in cells]
    stream.write("\n".join(lines) + "\n")
    stream.write(_footer(len(cells), row_count, is_cut=result.is_cut))
    return row_count


def _footer(shown_count: int, row_count: int, *, is_cut: bool) -> str:
    rows = "1 row" if row_count == 1 else f"{row_count:,} rows"
    more = f", {row_count - shown_count:,} more not shown" if row_count > shown_count else ""
    cut = ", stopped at the row limit" if is_cut else ""
    return f"({rows}{more}{cut})\n"


def _line(cells: Sequence[str], widths: Sequence[int], is_right: Sequence[bool]) -> str:
    padded = (
        " " * (width - cell_len(cell)) + cell if right else cell + " " * (width - cell_len(cell))
        for cell, width, right in zip(cells, widths, is_right, strict=True)
    )
    return "  ".join(padded).rstrip()


def _rows(batch: pa.RecordBatch) -> list[tuple[object, ...]]:
    # By column, not as dictionaries, because two result columns may have the same name.
    return list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def _unique(names: Sequence[str]) -> list[str]:
    """Give a repeated column name a number, because a JSON object holds each key once."""
    unique: list[str] = []
    for name in names:
        candidate, number = name, 0
        while candidate in unique:
            number += 1
            candidate = f"{name}_{number}"
        unique.append(candidate)
    return unique


def _plain(value: object) -> object:  # noqa: PLR0911  one line for each kind of value
    """Return the value as JSON can hold it."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            # JSON has no NaN and no infinity.
            return value if value - value == 0 else str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case Decimal():
            return format(value, "f")
        case Mapping():
            entries = cast("Mapping[object, object]", value).items()
            return {str(_plain(key)): _plain(item) for key, item in entries}
        case list() | tuple():
            return [_plain(item) for item in cast("Sequence[object]", value)]
        case _:
            return str(value)


def _text(value: object) -> str:
    if value is None:
        return "NULL"
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _csv_cell(value: object) -> str:
    return "" if value is None else _text(value)


def _shown(text: str) -> str:
    """Make a cell of it: printable characters only, and not too wide."""
    # Three times the width is enough for any cut, and saves escaping a megabyte for a cell.
    start = text[: CELL_WIDTH_MAX * 3]
    printable = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in start
    )
    if cell_len(printable) <= CELL_WIDTH_MAX and len(start) == len(text):
        return printable
    return set_cell_size(printable, CELL_WIDTH_MAX - 1).rstrip() + "…"


def _is_number(arrow_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(arrow_type)
        or pa.types.is_floating(arrow_type)
        or pa.types.is_decimal(arrow_type)
    )
