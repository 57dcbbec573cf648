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
    worker, table = moment.worker, moment.table
    parts = [f"produced {moment.produced_count:,}"]
    if worker is None:
        parts.append("worker does not answer")
    else:
        parts += [
            f"read {worker.read_count:,}",
            f"committed {moment.committed_count:,} ({moment.committed_rate:,.0f}/s)",
            f"dead letters {worker.dead_letter_count:,}",
            f"lag {worker.lag_message_count:,}",
            f"freshness {worker.freshness_seconds:.1f} s",
        ]
    parts.append(f"snapshots {table.snapshot_count:,}")
    parts.append(f"files {table.file_count:,}")
    if worker is not None:
        parts.append(f"memory {size(worker.resident_bytes)}")
        parts += [f"not ready: {problem}" for problem in worker.problems]
    return " · ".join(parts)


def draw(moment: Moment, title: str) -> RenderableType:
    """Return the panel."""
    minutes, seconds = divmod(int(moment.seconds), 60)
    parts: list[RenderableType] = [_figures(moment), Text(), _flushes(moment)]
    problems = list(moment.worker.problems) if moment.worker else ["worker: does not answer"]
    if moment.table_problem:
        problems.append(f"table: {moment.table_problem}")
    parts += [Text(f"not ready: {problem}", style="bold yellow") for problem in problems]
    return Panel(
        Group(*parts),
        title=Text(f" {title} ", style="bold"),
        subtitle=Text(f" {minutes:02d}:{seconds:02d} · Ctrl-C: last flush, proof, end "),
        box=box.ROUNDED,
        padding=(1, 2),
        width=80,
    )


def _figures(moment: Moment) -> Table:
    worker, table = moment.worker, moment.table
    left = [
        ("produced", f"{moment.produced_count:,}", f"{moment.produced_rate:,.0f}/s"),
        ("read", f"{worker.read_count:,}" if worker else "-", ""),
        ("committed", f"{moment.committed_count:,}", f"{moment.committed_rate:,.0f}/s"),
        ("dead letters", f"{worker.dead_letter_count:,}" if worker else "-", ""),
        ("lag", f"{worker.lag_message_count:,}" if worker else "-", "messages"),
        ("freshness", f"{worker.freshness_seconds:.1f}" if worker else "-", "s"),
    ]
    right = [
        ("rows", f"{table.row_count:,}"),
        ("snapshots", f"{table.snapshot_count:,}"),
        ("data files", f"{table.file_count:,}"),
        ("size", size(table.byte_count)),
        ("memory", size(worker.resident_bytes if worker else None)),
        ("buffered", size(worker.buffered_bytes if worker else None)),
    ]
    grid = Table(box=None, pad_edge=False, expand=True)
    grid.add_column("this run", style="dim", header_style="bold")
    grid.add_column("", justify="right", min_width=11)
    grid.add_column("", style="dim", min_width=9)
    grid.add_column("table and worker", style="dim", header_style="bold")
    grid.add_column("", justify="right", min_width=11)
    for (name, value, unit), (other_name, other_value) in zip(left, right, strict=True):
        grid.add_row(name, Text(value, "bold"), unit, other_name, Text(other_value, "bold"))
    return grid


def _flushes(moment: Moment) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, header_style="dim")
    table.add_column("flush (UTC)")
    for name in ("rows", "dead letters", "files", "size", "commit"):
        table.add_column(name, justify="right")
    for flush in moment.flushes:
        table.add_row(
            flush.time,
            f"{flush.row_count:,}",
            f"{flush.dead_letter_count:,}",
            f"{flush.file_count:,}",
            size(flush.byte_count),
            f"{flush.commit_ms:,} ms",
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
