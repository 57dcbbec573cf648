"""How commands print: aligned columns for people, JSON for programs, progress on a terminal."""

import json
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

UNCUT_WIDTH = 10_000


def print_json(document: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def print_line(text: str = "") -> None:
    """Print one line for people."""
    sys.stdout.write(text + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; numbers to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        is_number = all(row[index].replace(",", "").replace(".", "").isdigit() for row in rows)
        table.add_column(column, justify="right" if rows and is_number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # A pipe has no width, and cutting values off would break whoever reads them.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else UNCUT_WIDTH)
    console.print(table)


@contextmanager
def progress_bar() -> Generator[Callable[[str, int, int], None]]:
    """Show one bar per stage on standard error; nothing when that is no terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done_count: int, total_count: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=None)
            progress.update(tasks[stage], completed=done_count, total=total_count)

        yield show
