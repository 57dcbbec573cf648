"""The real protocol code in many small worlds, one seed each.

Goal: no order of events breaks an invariant. Method: a few hundred fixed seeds here, in every run
of the tests; the same code runs for hours as `python -m tests.simulation.soak`. That the worlds
are cruel enough is what `test_variants` shows.
"""

import pytest

from tests.simulation.simulation import Simulation, replay_command
from tests.simulation.world import Violation

SEEDS_PER_TEST = 25


@pytest.mark.parametrize("first_seed", range(0, 200, SEEDS_PER_TEST))
def test_no_seed_breaks_an_invariant(first_seed):
    for seed in range(first_seed, first_seed + SEEDS_PER_TEST):
        try:
            Simulation(seed).run()
        except Violation as violation:
            pytest.fail(f"{violation}\nreplay: {replay_command('fixed', seed)}")


@pytest.mark.parametrize("seed", [1, 7])
def test_a_seed_always_gives_the_same_run(seed):
    traces = []
    for _ in range(2):
        simulation = Simulation(seed, is_traced=True)
        simulation.run()
        traces.append(simulation.world.trace)

    assert len(traces[0]) > 100
    assert traces[0] == traces[1]


def test_worlds_are_busy_enough_to_mean_something():
    happened = Simulation(0).world.counts
    for seed in range(12):
        simulation = Simulation(seed)
        simulation.run()
        happened.update(simulation.world.counts)
        happened.update(simulation.world.union_reads.counts)

    seldom = {what: happened[what] for what in EXPECTED if not happened[what]}
    assert not seldom


EXPECTED = (
    "append",
    "carry-forward",
    "compaction",
    "compaction inputs-gone",
    "deleted files",
    "foreign",
    "hot rows read",
    "in dead letters",
    "owner-changed",
    "rewind",
    "rolled-back-outside",
    "stale reads",
    "take-over",
    "union reads",
)
