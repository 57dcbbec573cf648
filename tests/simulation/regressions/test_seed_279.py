"""A verdict missed because it was read from an older load than the take-over's.

Sequence: worker A commits a dead letter and is killed before the target's commit. B, running
another version of the code, takes over both tables and reads the verdicts; the catalog answers
with a load from before A's commit, so the offset is judged anew and gets a second dead letter, or
a row beside the first (I1). Since then verdicts are read from the load that contains the take-over.
"""

import pytest

from tests.simulation.simulation import Simulation
from tests.simulation.world import Violation

SEED = 279


def test_the_seed_holds():
    Simulation(SEED).run()


def test_reading_verdicts_from_any_load_breaks_it():
    with pytest.raises(Violation, match="I1"):
        Simulation(SEED, "stale_verdicts").run()
