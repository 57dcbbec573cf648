"""Query results as text and Arrow.

Goal: no value loses its meaning in text, and no record content reaches the terminal unescaped.
Method: results made from Arrow tables by hand, without an engine.
"""

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from k2i_core.query.output import OutputFormat, write_arrow, write_text

ROWS = pa.table(
    {
        "id": pa.array([1, 2, None], pa.int64()),
        "amount": pa.array([Decimal("1.50"), Decimal("0E+2"), None], pa.decimal128(10, 2)),
        "at": pa.array([datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)] * 3, pa.timestamp("us", "UTC")),
        "day": pa.array([date(2026, 1, 2)] * 3),
        "key": pa.array([b"\x00\xff", b"", None]),
        "items": pa.array([[{"sku": "a", "n": 1}], [], None]),
        "text": pa.array(["plain", 'a,"b"\n', "\x1b[31mred"]),
    }
)


class FakeResult:
    """Rows that are there already."""

    def __init__(self, table: pa.Table, *, is_cut: bool = False) -> None:
        self.schema = table.schema
        self.is_cut = is_cut
        self._table = table

    def batches(self):
        yield from self._table.to_batches(max_chunksize=2)


def text(output_format: OutputFormat, table: pa.Table = ROWS, shown: int = 50, **options) -> str:
    stream = io.StringIO()
    write_text(FakeResult(table, **options), output_format, stream, row_count_shown=shown)
    return stream.getvalue()


def test_json_lines_keep_every_value_exactly():
    first, second, third = map(json.loads, text(OutputFormat.JSON).splitlines())

    assert first == {
        "id": 1,
        "amount": "1.50",
        "at": "2026-01-02T03:04:05+00:00",
        "day": "2026-01-02",
        "key": "AP8=",
        "items": [{"sku": "a", "n": 1}],
        "text": "plain",
    }
    assert second["items"] == []
    assert third["id"] is third["amount"] is third["items"] is None


def test_json_lines_are_json_even_for_floats_that_are_not():
    table = pa.table({"x": [float("nan"), float("inf"), 1.5]})

    assert [json.loads(line)["x"] for line in text(OutputFormat.JSON, table).splitlines()] == [
        "nan",
        "inf",
        1.5,
    ]


def test_csv_quotes_what_needs_it_and_leaves_nulls_empty():
    lines = text(OutputFormat.CSV).splitlines()

    assert lines[0] == "id,amount,at,day,key,items,text"
    assert lines[1].startswith("1,1.50,2026-01-02T03:04:05+00:00,2026-01-02,AP8=,")
    assert '"a,""b""' in text(OutputFormat.CSV)
    assert lines[-1].startswith(",,")


def test_an_aligned_table_cannot_be_steered_by_its_contents():
    shown = text(OutputFormat.TABLE)

    assert "\x1b" not in shown
    assert "\\x1b[31mred" in shown


def test_numbers_are_aligned_to_the_right():
    lines = text(OutputFormat.TABLE, pa.table({"n": [1, 1000], "s": ["a", "b"]})).splitlines()

    assert lines[2:4] == ["   1  a", "1000  b"]


def test_an_aligned_table_says_how_many_rows_it_does_not_show():
    table = pa.table({"n": range(1200)})

    shown = text(OutputFormat.TABLE, table, shown=3).splitlines()

    assert len(shown) == 6
    assert shown[-1] == "(1,200 rows, 1,197 more not shown)"


def test_an_aligned_table_says_that_a_limit_cut_it():
    assert "stopped at the row limit" in text(OutputFormat.TABLE, is_cut=True)


def test_an_empty_result_still_has_its_columns():
    shown = text(OutputFormat.TABLE, ROWS.slice(0, 0)).splitlines()

    assert shown[0].split() == ROWS.schema.names
    assert shown[-1] == "(0 rows)"


def test_a_wide_cell_is_cut_and_wide_characters_stay_aligned():
    table = pa.table({"a": ["x" * 200, "日本"], "b": ["1", "2"]})

    first, second = text(OutputFormat.TABLE, table).splitlines()[2:4]

    assert "…" in first
    assert len(first) == len(second) + 2


@pytest.mark.parametrize("output_format", [OutputFormat.CSV, OutputFormat.JSON, OutputFormat.TABLE])
def test_two_columns_of_the_same_name_are_both_written(output_format):
    table = pa.Table.from_arrays([pa.array([7]), pa.array([8])], names=["x", "x"])

    shown = text(output_format, table)

    assert "7" in shown
    assert "8" in shown


def test_arrow_is_read_back_as_it_was():
    stream = io.BytesIO()
    row_count = write_arrow(FakeResult(ROWS), stream)

    assert row_count == 3
    assert pa.ipc.open_stream(stream.getvalue()).read_all().equals(ROWS)
