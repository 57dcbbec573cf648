"""How the demo shows itself: a live panel on a terminal, plain lines everywhere else."""

from types import TracebackType
from typing import Protocol, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from k2i_core.clock import Clock
from k2i_core.dev.demo_figures import Moment

_LINE_SECONDS = 5.0
"""Larger: a log of the demo says little. Smaller: it says the same again and again."""


class View(Protocol):
    """What a run tells whoever watches it."""

    def note(self, text: str) -> None:
        """Say what happens next, or what to know."""
        ...

    def show(self, moment: Moment) -> None:
        """Show the figures of now."""
        ...

    def end(self) -> None:
        """Show no more figures; notes may still follow."""
        ...


class PlainView:
    """A line for each step and one every few seconds."""

    def __init__(self, console: Console, clock: Clock) -> None:
        """Print to `console`."""
        self._console = console
        self._clock = clock
        self._started = clock.boot_seconds()
        self._next_line_seconds = _LINE_SECONDS

    def note(self, text: str) -> None:
        """Print the step with the seconds since the start."""
        _print_step(self._console, self._clock.boot_seconds() - self._started, text)

    def show(self, moment: Moment) -> None:
        """Print a line if the last one is long enough ago."""
        if moment.seconds >= self._next_line_seconds:
            self._next_line_seconds = moment.seconds + _LINE_SECONDS
            self.note(progress_line(moment))

    def end(self) -> None:
        """Do nothing: there is no panel to close."""


class LiveView:
    """Steps scroll by above a panel that stays; leaving the context gives the cursor back."""

    def __init__(self, console: Console, clock: Clock, title: str) -> None:
        """Draw on `console`; the panel appears with the first figures."""
        self._console = console
        self._clock = clock
        self._title = title
        self._started = clock.boot_seconds()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.end()

    def note(self, text: str) -> None:
        """Print the step above the panel."""
        _print_step(self._console, self._clock.boot_seconds() - self._started, text)

    def show(self, moment: Moment) -> None:
        """Draw the panel anew."""
        panel = draw(moment, self._title)
        if self._live is None:
            self._live = Live(panel, console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(panel, refresh=True)

    def end(self) -> None:
        """Leave the last panel on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _print_step(console: Console, seconds: float, text: str) -> None:
    first, *more = text.splitlines()
    lines = [Text.assemble((f"{seconds:6.1f} s  ", "dim"), first), *map(Text, more)]
    console.print(Text("\n").join(lines), soft_wrap=True, highlight=False)


def progress_line(moment: Moment) -> str:
    """Return the figures as one line."""
    table = moment.table
    parts = [
        f"produced {moment.produced_count:,}",
        f"committed {moment.committed_count:,} ({moment.committed_rate:,.0f}/s)",
        f"dead letters {moment.dead_letter_count:,}",
        f"lag {moment.lag_message_count:,}",
        f"freshness {moment.freshness_seconds:.1f} s",
        f"snapshots {table.snapshot_count:,}",
        f"files {table.file_count:,}",
        f"run {_run(moment)}",
        *moment.problems,
    ]
    return " · ".join(parts)


def draw(moment: Moment, title: str) -> RenderableType:
    """Return the panel."""
    minutes, seconds = divmod(int(moment.seconds), 60)
    dagster = Text.assemble(("Dagster  ", "dim"), (moment.address, "bold"))
    parts: list[RenderableType] = [_figures(moment), Text(), _flushes(moment), Text(), dagster]
    parts += [Text(problem, style="bold yellow") for problem in moment.problems]
    return Panel(
        Group(*parts),
        title=Text(f" {title} ", style="bold"),
        subtitle=Text(f" {minutes:02d}:{seconds:02d} · Ctrl-C: last flush, proof, end "),
        box=box.ROUNDED,
        padding=(1, 2),
        width=80,
    )


def _run(moment: Moment) -> str:
    """Say how the worker's run is: `running 1:05`, or Dagster's word for it."""
    if moment.run is None:
        return "none"
    if moment.run.status != "STARTED":
        return moment.run.status.lower()
    minutes, seconds = divmod(int(moment.run_seconds), 60)
    return f"running {minutes}:{seconds:02d}"


def _figures(moment: Moment) -> Table:
    table = moment.table
    left = [
        ("produced", f"{moment.produced_count:,}", f"{moment.produced_rate:,.0f}/s"),
        ("committed", f"{moment.committed_count:,}", f"{moment.committed_rate:,.0f}/s"),
        ("dead letters", f"{moment.dead_letter_count:,}", ""),
        ("lag", f"{moment.lag_message_count:,}", "messages"),
        ("freshness", f"{moment.freshness_seconds:.1f}", "s"),
    ]
    right = [
        ("rows", f"{table.row_count:,}"),
        ("snapshots", f"{table.snapshot_count:,}"),
        ("data files", f"{table.file_count:,}"),
        ("size", size(table.byte_count)),
        ("worker", _run(moment)),
    ]
    grid = Table(box=None, pad_edge=False, expand=True)
    grid.add_column("this demo", style="dim", header_style="bold")
    grid.add_column("", justify="right", min_width=11)
    grid.add_column("", style="dim", min_width=9)
    grid.add_column("table and worker", style="dim", header_style="bold")
    grid.add_column("", justify="right", min_width=13)
    for (name, value, unit), (other_name, other_value) in zip(left, right, strict=True):
        grid.add_row(name, Text(value, "bold"), unit, other_name, Text(other_value, "bold"))
    return grid


def _flushes(moment: Moment) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, header_style="dim")
    table.add_column("flush (UTC)")
    for name in ("rows", "dead letters", "files", "size"):
        table.add_column(name, justify="right")
    for flush in moment.table.flushes:
        table.add_row(
            flush.time,
            f"{flush.row_count:,}",
            f"{flush.dead_letter_count:,}",
            f"{flush.file_count:,}",
            size(flush.byte_count),
        )
    return table


def size(byte_count: int | None) -> str:
    """Return a number of bytes for people; a dash when it is not known."""
    if byte_count is None:
        return "-"
    value, unit = float(byte_count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:  # noqa: PLR2004 - the step between units
            break
        value, unit = value / 1024, larger
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
