"""`make bench`: measure, compare with the targets, keep the figures.

    make bench                                          everything, about half an hour
    make bench ARGS="--only throughput --rows 2000000"  a part of it
    make bench ARGS="--only commits,verify --json"      figures for programs

A machine that does other work gives figures that mean little, and so does one whose memory is kept
busy by its neighbours: the load and the speed of memory at the start are kept beside them.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks import (
    ceilings,
    checks,
    commits,
    compaction,
    event_log,
    format_throughput,
    formats,
    freshness,
    hold_up,
    hot_reads,
    maintained,
    many_tables,
    proof,
    restart,
    throughput,
    transforms,
)
from benchmarks.bench import Bench, Options
from benchmarks.figures import Result, save, table_lines
from benchmarks.machine import circumstances
from benchmarks.processes import ChildFailedError
from k2i_core.errors import K2iError

DESCRIPTION = "Measure, compare with the targets, keep the figures."
RESULTS = Path(__file__).parent / "results"

BENCHMARKS: Mapping[str, Callable[[Bench], Result]] = {
    "throughput": throughput.run_flat,
    "throughput-wide": throughput.run_wide,
    "format-throughput": format_throughput.run,
    "ceilings": ceilings.run,
    "formats": formats.run,
    "transforms": transforms.run,
    "freshness": freshness.run,
    "restart": restart.run,
    "commits": commits.run,
    "compaction": compaction.run,
    "maintained": maintained.run,
    "checks": checks.run,
    "verify": proof.run,
    "hold-up": hold_up.run,
    "event-log": event_log.run,
    "hot-reads": hot_reads.run,
    "many-tables": many_tables.run,
}


def main(arguments: Sequence[str]) -> int:
    """Run the chosen benchmarks; 0 when all of them ran, whatever they measured."""
    parsed = _parser().parse_args(arguments)
    names: list[str] = parsed.only or list(BENCHMARKS)
    options = Options(parsed.rows, parsed.repeat, parsed.seconds, parsed.commits, parsed.files)
    results: list[Result] = []
    failed: list[str] = []
    # So that a stop from outside takes the broker and the workers along, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(128 + signal.SIGTERM))
    with ExitStack() as on_exit:
        scratch = on_exit.enter_context(
            tempfile.TemporaryDirectory(prefix="k2i-bench-", dir=parsed.scratch)
        )
        bench = Bench(options, Path(scratch), on_exit, _say)
        for name in names:
            here = circumstances(bench.clock)
            copied = here.copied_bytes_per_second / 1e9
            _say(f"{name}, load average {here.load_average}, memory copied at {copied:.1f} GB/s")
            try:
                result = replace(BENCHMARKS[name](bench), circumstances=here)
            except (ChildFailedError, K2iError) as error:
                # The others still say something; the exit code tells that one is missing.
                _say(f"{name} FAILED: {error}")
                failed.append(name)
                continue
            results.append(result)
            saved = save(parsed.results, [result])
            if not parsed.json:
                print("\n" + "\n".join(table_lines(saved[name])))
    if parsed.json:
        print(json.dumps([result.to_json() for result in results], indent=1, ensure_ascii=False))
    missed = [verdict for one in results for verdict in one.verdicts if verdict != "reached"]
    _say(f"targets not reached: {len(missed)}; figures in {parsed.results}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=DESCRIPTION)
    parser.add_argument(
        "--only",
        type=_names,
        metavar="NAME,…",
        help=f"run only these: {', '.join(BENCHMARKS)}",
    )
    parser.add_argument("--rows", type=int, help="rows instead of each benchmark's own number")
    parser.add_argument("--repeat", type=int, default=3, help="runs; the median counts (3)")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="how long paced benchmarks run (30)"
    )
    parser.add_argument("--commits", type=int, default=2_000, help="commits on one table (2000)")
    parser.add_argument(
        "--files",
        type=int,
        default=500,
        help="files of two megabytes that compaction reads within its memory (500); twice their "
        "size is needed as scratch space",
    )
    parser.add_argument("--json", action="store_true", help="print figures for programs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where figures are kept")
    parser.add_argument("--scratch", type=Path, help="where scratch data goes (6 GB for all)")
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        message = f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}"
        raise argparse.ArgumentTypeError(message)
    return names


def _say(text: str) -> None:
    print(f"· {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
