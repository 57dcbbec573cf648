"""`k2i dev`: a real topic becomes a real table on this machine, in Dagster, before your eyes."""

import os
import shlex
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from k2i_core.cli.exits import Exit
from k2i_core.cli.options import AsJson
from k2i_core.cli.output import print_json, print_line
from k2i_core.cli.verify import print_verification, run_verification
from k2i_core.clock import SystemClock
from k2i_core.dev.demo import Demo, DemoOutcome, DemoSettings
from k2i_core.dev.environment import read_environment
from k2i_core.dev.panel import LiveView, PlainView, View, size

DEFAULT_HOME = Path(".k2i/dev")

_LOOKS = ("status", "verify", "dead-letters list")
_FIRST_ROWS = "SELECT * EXCLUDE (_kafka, items) FROM orders LIMIT 5"

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def dev(
    *,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="End after this long. Default: at Ctrl-C.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live/--no-live", help="Show a panel; only on a terminal.")
    ] = True,
    rate: Annotated[float, typer.Option(min=1, help="Orders a second.")] = 5000.0,
    partitions: Annotated[
        int, typer.Option(min=1, max=1000, help="Kafka partitions of a new topic.")
    ] = 4,
    home: Annotated[
        Path, typer.Option(help="Where Kafka's and Dagster's data, catalog and table are kept.")
    ] = DEFAULT_HOME,
    bad_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of bad orders, for dead letters.")
    ] = 0.001,
    max_age: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Flush after this long. Default: as the pipeline file, 2s."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run Kafka and Dagster, produce orders, ingest and watch; ends with a proof of nothing lost.

    The worker is a run of Dagster, whose pages are at the address that is printed. A further run
    of the demo goes on where the last one stopped. K2I_KAFKA=host:port names a broker to use
    instead of starting one.

    Exit codes: 0 topic and table agree, 1 they do not or a check failed, 3 something that was
    started went away, 130 stopped before anything ran.
    """
    settings = DemoSettings(home, seconds, rate, partitions, bad_share, max_age)
    # Answers for programs stand alone on standard output.
    console = Console(stderr=as_json, highlight=False)
    clock = SystemClock()
    with ExitStack() as stack:
        view: View = PlainView(console, clock)
        if live and not as_json and console.is_terminal and not console.is_dumb_terminal:
            view = stack.enter_context(LiveView(console, clock, "k2i dev: orders → demo.orders"))
        signals = stack.enter_context(_signals())
        demo = Demo(
            settings,
            environment=read_environment(),
            variables=dict(os.environ),  # noqa: TID251 - the face reads it
            stop=signals.stop,
            view=view,
            prove=lambda pipeline: run_verification(pipeline, with_topic=True),
            tell_commands=lambda file: _tell_commands(view, file),
        )
        try:
            outcome = demo.run(signals.is_running.set)
        except KeyboardInterrupt as interrupt:
            view.note("stopped before anything ran")
            raise typer.Exit(Exit.INTERRUPTED) from interrupt
    if as_json:
        print_json(_document(outcome, demo.pipeline_file))
    else:
        _print_summary(outcome, demo.pipeline_file)
    if code := _exit_code(outcome):
        raise typer.Exit(code)


class _Signals:
    """What the signal handler and the run tell each other."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.is_running = threading.Event()

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """Break off preparations, end a run in order; a second signal changes nothing."""
        if self.stop.is_set():
            return
        self.stop.set()
        if not self.is_running.is_set():
            raise KeyboardInterrupt


@contextmanager
def _signals() -> Generator[_Signals]:
    signals = _Signals()
    before = {number: signal.signal(number, signals.handle) for number in _SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_code(outcome: DemoOutcome) -> int:
    if outcome.verification is None:
        return Exit.INTERRUPTED
    return Exit.OK if outcome.holds else Exit.CHECK_FAILED


def _tell_commands(view: View, pipeline_file: Path) -> None:
    program, file = _program(), shlex.quote(_shown(pipeline_file))
    sql = "SELECT status, count(*), sum(amount) FROM orders GROUP BY status"
    commands = (f'query {file} "{sql}"', *(f"{c} {file}" for c in _LOOKS))
    lines = [f"    {program} {command}" for command in commands]
    view.note("\n".join(["look further, from another terminal in this directory:", *lines]))


def _program() -> str:
    """Return how to call this very `k2i` from a shell in this directory."""
    mine = Path(sys.prefix) / "bin" / "k2i"
    found = shutil.which("k2i")
    if found is not None and Path(found).resolve() == mine.resolve():
        return "k2i"
    if mine.exists():
        return shlex.quote(_shown(mine))
    return f"{shlex.quote(sys.executable)} -m k2i_core.cli"


def _shown(path: Path) -> str:
    """Return the path as seen from the working directory, where that is shorter."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def _print_summary(outcome: DemoOutcome, pipeline_file: Path) -> None:
    after = outcome.after
    program, file = _program(), shlex.quote(_shown(pipeline_file))
    left_over_count = outcome.left_over_count
    print_line()
    lines = {
        "produced": f"{outcome.produced_count:,} orders in {outcome.seconds:.1f} s, "
        f"{outcome.bad_count:,} of them bad on purpose",
        **({"left over": f"{left_over_count:,} of an earlier run"} if left_over_count else {}),
        "committed": f"{outcome.row_count:,} rows",
        "dead letters": f"{outcome.dead_letter_count:,}",
        "not read yet": f"{outcome.unread_count:,}",
        "table": f"{after.row_count:,} rows in {after.file_count:,} files, "
        f"{size(after.byte_count)}, {after.snapshot_count:,} snapshots",
        "dagster runs": _counted(run.status.lower() for run in outcome.dagster.runs),
        "checks": _counted(check.outcome for check in outcome.dagster.checks),
    }
    for name, value in lines.items():
        print_line(f"{name:<13} {value}")
    print_line()
    if outcome.verification is not None:
        print_verification(outcome.verification)
        print_line()
    else:
        print_line("nothing to verify: no worker has committed anything yet")
    for check in outcome.dagster.failed_checks:
        print_line(f"check {check.name} of {check.asset} failed")
    if outcome.holds:
        print_line(
            "the table stays and can be read without Kafka; a further run goes on from here:"
        )
        print_line(f"    {program} query {file} '{_FIRST_ROWS}'")


def _counted(words: Iterable[str]) -> str:
    counts = Counter(words)
    return ", ".join(f"{counts[word]} {word}" for word in sorted(counts)) or "none"


def _document(outcome: DemoOutcome, pipeline_file: Path) -> dict[str, object]:
    after = outcome.after
    return {
        "pipeline_file": str(pipeline_file),
        "seconds": round(outcome.seconds, 3),
        "produced": outcome.produced_count,
        "bad_on_purpose": outcome.bad_count,
        "left_over": outcome.left_over_count,
        "committed_rows": outcome.row_count,
        "dead_letters": outcome.dead_letter_count,
        "not_read_yet": outcome.unread_count,
        "table": {
            "rows": after.row_count,
            "dead_letters": after.dead_letter_count,
            "files": after.file_count,
            "bytes": after.byte_count,
            "snapshots": after.snapshot_count,
        },
        "dagster": {
            "address": outcome.address,
            "runs": [{"id": r.id, "job": r.job, "status": r.status} for r in outcome.dagster.runs],
            "checks": {f"{c.asset}:{c.name}": c.outcome for c in outcome.dagster.checks},
        },
        "verification": outcome.verification.to_json() if outcome.verification else None,
    }
