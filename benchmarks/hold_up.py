"""How long consumption stands still around a seal of a large generation.

A whole session in this process, with a look at every poll and at every seal. A gap is the time
between two polls that brought records. The decoders' and the writer's back-pressure makes gaps all
the time; what counts is how long they are from a seal to its commit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.bench import Bench, read_pipeline
from benchmarks.figures import Figure, Group, Result, at_most, figure, merged, percentile
from benchmarks.processes import intervals
from k2i_core.clock import Clock, RandomIds, SystemClock
from k2i_core.crash_points import CrashPoint
from k2i_core.dev.orders import FLAT
from k2i_core.ingest.parts import Listener
from k2i_core.ledger import Share
from k2i_core.records import FlushReport, PolledBatch
from k2i_core.wiring.sessions import open_session
from k2i_core.wiring.surroundings import Surroundings
from k2i_core.wiring.worker_run import economy
from k2i_core.worker import Until, Worker

FLUSH_ROWS = 1_000_000
TARGET = at_most(200)


@dataclass(slots=True)
class Moments:
    """When things happened, in seconds."""

    clock: Clock
    polls: list[float] = field(default_factory=list[float])
    seals: list[float] = field(default_factory=list[float])
    commits: list[float] = field(default_factory=list[float])

    def polled(self, batch: PolledBatch) -> None:
        """Note a poll with records."""
        if batch.records.num_rows:
            self.polls.append(self.clock.boot_seconds())

    def flushed(self, _report: FlushReport) -> None:
        """Note the end of a flush."""
        self.commits.append(self.clock.boot_seconds())

    def observed(self, point: CrashPoint) -> None:
        """Note a seal."""
        if point is CrashPoint.SEALED:
            self.seals.append(self.clock.boot_seconds())


def run(bench: Bench) -> Result:
    """Ingest a backlog with generations of a million rows."""
    row_count = bench.options.rows_of(FLAT)
    flush_rows = min(FLUSH_ROWS, max(1, row_count // 3))
    flush = {
        "max_age": "10m",
        "max_rows": flush_rows,
        "max_bytes": "1GiB",
        "max_buffered_bytes": "1GiB",
    }
    runs: list[Sequence[Figure]] = []
    for number in range(bench.options.repeat):
        bench.say(f"flushes of {flush_rows:,} rows, run {number + 1}")
        moments = _ingest(bench, bench.filled_topic(FLAT, row_count), flush)
        runs.append(_figures(moments))
    return Result(
        "hold-up",
        {"repeat": bench.options.repeat, "flush": flush},
        (Group(f"flat, {row_count:,} rows in flushes of {flush_rows:,}", merged(runs)),),
        (
            "a gap is the time between two polls that brought records",
            "around a seal: it overlaps the time from a seal to its commit",
            "the polls of all other times show what back-pressure alone does",
        ),
    )


def _ingest(bench: Bench, topic: str, flush: Mapping[str, Any]) -> Moments:
    pipeline = read_pipeline(bench.new_pipeline(topic, flush=flush))
    moments = Moments(bench.clock)
    clock = SystemClock()
    listener = replace(Listener(), polled=moments.polled, flushed=moments.flushed)
    surroundings = Surroundings(
        clock=clock,
        patient_clock=clock,
        ids=RandomIds(),
        listener=listener,
        observe=moments.observed,
    )
    worker = Worker(
        lambda: open_session(pipeline, Share(0, 1), surroundings),
        Until(caught_up=True),
        lambda: False,
        clock,
    )
    with economy():
        worker.run()
    return moments


def _figures(moments: Moments) -> Sequence[Figure]:
    # The last seal is that of the end, after which nothing is polled.
    flushes = list(zip(moments.seals, moments.commits, strict=True))[:-1]
    gaps = intervals(moments.polls)
    around: list[float] = []
    elsewhere: list[float] = []
    for began, gap in zip(moments.polls, gaps, strict=False):
        overlaps = any(began <= commit and began + gap >= seal for seal, commit in flushes)
        (around if overlaps else elsewhere).append(gap * 1000)
    return [
        figure("longest gap around a seal", "ms", max(around, default=None), target=TARGET),
        figure("p99 gap around a seal", "ms", percentile(around, 0.99)),
        figure("longest gap elsewhere", "ms", max(elsewhere, default=None)),
        figure("median gap", "ms", percentile([*around, *elsewhere], 0.5)),
        figure("seals", "", len(flushes)),
        figure(
            "seal to commit, longest",
            "ms",
            max(((commit - seal) * 1000 for seal, commit in flushes), default=None),
        ),
    ]
