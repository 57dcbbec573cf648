"""The demo's panel and lines.

Goal: a person sees every figure that was promised, in 80 columns, and what is wrong. Method: draw
one moment into text.
"""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from k2i_core.dev.dagster_client import Run
from k2i_core.dev.demo_figures import Backlog, Flush, Moment, Rate, TableFigures
from k2i_core.dev.panel import LiveView, PlainView, draw, progress_line, size
from tests.fakes.time_and_ids import ScriptedClock

RUN = Run("0f" * 16, "ingest_orders", "STARTED", "orders-0", 1.0, 2.0)
ADDRESS = "http://127.0.0.1:23000"


def moment(run: Run | None = RUN, *problems: str) -> Moment:
    return Moment(
        seconds=83.0,
        produced_count=12_346_000,
        produced_rate=5_000.0,
        committed_count=12_340_000,
        committed_rate=4_987.0,
        dead_letter_count=9_876,
        lag_message_count=4_321,
        freshness_seconds=1.25,
        table=TableFigures(
            *(12_340_000, 9_876, 1_234, 1_230, 3 * 1024**3),
            flushes=(Flush("16:09:07", 8_770, 9, 1, 201_900),),
        ),
        run=run,
        run_seconds=65.0,
        address=ADDRESS,
        problems=problems,
    )


def text_of(shown: Moment) -> str:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(draw(shown, "title"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_panel_shows_every_figure_in_80_columns() -> None:
    text = text_of(moment())

    for figure in (
        *("12,346,000", "5,000/s", "12,340,000", "4,987/s", "9,876", "4,321", "1.2", "01:23"),
        *("1,234", "1,230", "3.0 GiB", "running 1:05", ADDRESS),
        *("16:09:07", "8,770", "197.2 KiB"),
    ):
        assert figure in text
    assert max(map(len, text.splitlines())) == 80


@pytest.mark.parametrize("show", [text_of, progress_line])
def test_what_is_wrong_is_shown(show: Callable[[Moment], str]) -> None:
    assert "catalog gone" in show(moment(RUN, "catalog gone"))
    assert "failure" in show(moment(replace(RUN, status="FAILURE")))
    assert "none" in show(moment(None))


def test_a_line_has_the_figures_too() -> None:
    line = progress_line(moment())

    assert line.count("\n") == 0
    for figure in ("12,346,000", "12,340,000", "9,876", "4,321", "1,234", "1,230", "1:05"):
        assert figure in line


def test_plain_lines_come_every_few_seconds_only() -> None:
    console = Console(file=io.StringIO(), width=80)
    view = PlainView(console, ScriptedClock())
    view.note("first\n    second")
    view.show(moment())
    view.show(moment())

    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("first")
    assert lines[1] == "    second"


def test_notes_after_the_panel_are_printed_below_it() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with LiveView(console, ScriptedClock(), "title") as view:
        view.show(moment())
        view.end()
        view.note("later")

    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().rindex("later") > console.file.getvalue().rindex("╯")


def test_a_rate_forgets_what_is_long_ago() -> None:
    rate = Rate()

    assert rate.add(0.0, 0) == 0.0
    assert rate.add(10.0, 1_000) == 100.0
    assert rate.add(20.0, 1_000) == 0.0


def test_a_backlog_is_as_old_as_the_oldest_order_outside_the_table() -> None:
    backlog = Backlog()

    assert backlog.add(0.0, 100, 100) == 0.0
    assert backlog.add(1.0, 200, 100) == 0.0
    assert backlog.add(3.0, 300, 100) == 2.0
    assert backlog.add(4.0, 300, 200) == 1.0
    assert backlog.add(9.0, 300, 300) == 0.0


def test_sizes_have_units() -> None:
    assert [size(n) for n in (None, 0, 1_023, 1_024, 5 * 1024**4)] == [
        *("-", "0 B", "1,023 B", "1.0 KiB", "5.0 TiB")
    ]
