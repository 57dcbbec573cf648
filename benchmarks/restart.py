"""How long a worker takes to its first commit: on an empty table, and after a kill -9 under load.

Both with `max_age: 1s`, which is part of the time: a worker waits that long for more rows.
"""

from collections.abc import Sequence

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Group, Result, at_most, figure, merged
from benchmarks.processes import FEED, Child, await_end, await_true, prove, start, start_worker
from k2i_core.dev.produce import next_event_id

FLUSH = {"max_age": "1s"}
RATE = 5_000
FEED_SECONDS = 600
"""Longer than any run; the feed is killed before."""
FLUSHES_BEFORE_KILL = 5

FIRST_ROW_TARGET, RESTART_TARGET = at_most(3), at_most(5)


def run(bench: Bench) -> Result:
    """Measure a first start and a restart."""
    runs = [_measure(bench) for _ in range(bench.options.repeat)]
    return Result(
        "restart",
        {"repeat": bench.options.repeat, "flush": FLUSH, "rows_per_second": RATE},
        (Group(f"flat, {RATE:,} rows/s", merged(runs)),),
        ("from the start of the process to the log line of its first commit with rows",),
    )


def _measure(bench: Bench) -> Sequence[Figure]:
    bench.say("first start, kill -9 under load, restart")
    clock = bench.clock
    topic = bench.empty_topic("restart")
    path = bench.new_pipeline(topic, flush=FLUSH)
    feed = start(
        [*FEED, bench.bootstrap_servers, topic, str(RATE), str(RATE * FEED_SECONDS)],
        path.with_name("feed.log"),
        clock,
    )
    children = [feed]
    try:
        await_true(lambda: next_event_id(bench.bootstrap_servers, topic) > 0, feed, clock)
        first = start_worker(path, clock)
        children.append(first)
        await_true(lambda: len(first.row_flushes()) >= FLUSHES_BEFORE_KILL, first, clock)
        first.kill()
        second = start_worker(path, clock)
        children.append(second)
        await_true(lambda: bool(second.row_flushes()), second, clock)
        second.ask_to_stop()
        await_end([second], clock, seconds_max=60)
    finally:
        for child in children:
            child.kill()
    prove(path, clock)
    return [
        figure("first start to take-over", "s", _seconds_to_take_over(first)),
        figure("first start to first row", "s", _seconds_to_row(first), target=FIRST_ROW_TARGET),
        figure("restart to take-over", "s", _seconds_to_take_over(second)),
        figure("restart to first commit", "s", _seconds_to_row(second), target=RESTART_TARGET),
    ]


def _seconds_to_row(worker: Child) -> float:
    return (worker.row_flushes()[0].wall_ms - worker.started_wall_ms) / 1000


def _seconds_to_take_over(worker: Child) -> float | None:
    moment = worker.took_over_wall_ms()
    return None if moment is None else (moment - worker.started_wall_ms) / 1000
