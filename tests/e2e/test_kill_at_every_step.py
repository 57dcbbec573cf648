"""Goal: a process may die anywhere; nothing is lost, nothing is doubled.

Method: for every crash point a real worker on real Kafka kills itself there, in the middle of a
topic with bad records, and the next worker goes on. At the end the proof compares topic, ledger
and rows. One topic serves all points, so that each start also recovers from the kill before.
"""

from pathlib import Path

import pytest

from k2i_core.crash_points import WORKER_POINTS, CrashPoint
from k2i_core.dev.orders import ORDERS
from k2i_core.dev.produce import fill
from tests.e2e.pipelines import write_pipeline
from tests.services.warm_python import warm_python

EVENTS_PER_KILL = 300

# The step before a point is the point before it, except for a request: there is nothing between
# "logged" and "sent" but the catalog's own commit, which the simulation cuts in two.
SECOND_TIME = {CrashPoint.ATTEMPT_LOGGED, CrashPoint.REQUEST_SENT, CrashPoint.REQUEST_PREPARED}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_record_is_there_once_after_a_kill_at_every_step(
    kafka, topic, tmp_path: Path
) -> None:
    name = topic(partition_count=2)
    pipeline = write_pipeline(tmp_path / "kills", kafka.bootstrap_servers, name)
    next_id = 0
    # Dead letters make two commits of a flush: some points are announced once for each.
    plan = [(point, 1) for point in WORKER_POINTS]
    plan += [(point, 4) for point in WORKER_POINTS if point in SECOND_TIME]
    for point, occurrence in plan:
        fill(
            kafka.bootstrap_servers,
            name,
            EVENTS_PER_KILL,
            event_set=ORDERS,
            start_id=next_id,
            bad_share=0.02,
        )
        next_id += EVENTS_PER_KILL
        command = ("tests.e2e.crashing_worker", str(pipeline.path), "0/1")
        died = warm_python().run(*command, point.value, str(occurrence))
        assert died.returncode == -9, f"{point} was not reached: {died.stderr[-3000:]}"

    pipeline.ingest_until_caught_up()

    found = pipeline.assert_holds()
    assert found["rows"] + found["dead_letters"] == next_id
    assert found["dead_letters"] > 0
    assert list((tmp_path / "kills" / "state").rglob("*.txlog")) == []
