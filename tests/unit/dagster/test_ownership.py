"""Who goes first when two runs want the same Kafka partitions.

Goal: exactly one of two live runs of overlapping shares finds nobody before it.
Method: pairs of made-up runs, asked from both sides.
"""

import pytest

from k2i_dagster.keep_alive import Phase, WorkerRun
from k2i_dagster.running.ownership import earlier_owner, earliest_before, live_workers

NOW = 1_000.0


def run(run_id, started, *, worker: int | None = 0, workers=1, phase=Phase.RUNNING, heartbeat=NOW):
    return WorkerRun(run_id, phase, worker, workers, started, started, None, heartbeat)


OVERLAPPING = [
    (run("a", 10), run("b", 20)),
    (run("a", 10), run("b", 10)),
    (run("a", 10, worker=0, workers=2), run("b", 20, worker=1, workers=3)),
    (run("a", 10, worker=None), run("b", 20, worker=1, workers=2)),
    (run("a", 10, worker=None), run("b", 20, worker=None)),
    (run("a", 10, phase=Phase.ENDING), run("b", 20)),
]


@pytest.mark.parametrize(("first", "second"), OVERLAPPING)
def test_the_run_that_started_first_goes_first(first, second):
    runs = [first, second]

    assert earlier_owner(first, runs, NOW) is None
    assert earlier_owner(second, runs, NOW) == first


@pytest.mark.parametrize(
    "other",
    [
        run("other", 10, worker=1, workers=2),
        run("other", 10, workers=2, phase=Phase.WAITING),
        run("other", 10, workers=2, phase=Phase.SUCCEEDED),
        run("other", 10, workers=2, heartbeat=NOW - 60),
    ],
    ids=["another share", "not started", "ended", "silent"],
)
def test_a_run_that_reads_nothing_of_ours_is_nobody(other):
    me = run("me", 20, worker=0, workers=2)

    assert earlier_owner(me, [me, other], NOW) is None


def test_live_workers_are_those_that_read_now():
    reading = run("reading", 1)
    others = [run("fill", 1, worker=None), run("queued", 1, phase=Phase.WAITING)]

    assert live_workers([*others, reading, run("dead", 1, heartbeat=1)], NOW) == [reading]


def test_of_all_others_the_first_one_goes_first_whatever_it_reads():
    runs = [run("c", 30), run("b", 20, worker=1, workers=2), run("a", 10, worker=5, workers=9)]

    assert earliest_before(runs[0], runs, NOW) == runs[2]
    assert earliest_before(runs[2], runs, NOW) is None


@pytest.mark.parametrize(
    "other",
    [run("other", 10, phase=Phase.WAITING), run("other", 10, heartbeat=NOW - 60), run("c", 10)],
    ids=["it waits itself", "its process is gone", "it is the same run"],
)
def test_nobody_waits_for_a_run_that_works_on_nothing(other):
    assert earliest_before(run("c", 30), [other], NOW) is None
