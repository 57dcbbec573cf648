"""Goal: a replay or a drop may die anywhere; no dead letter is lost, doubled or in two states.

Method: for every step that a replay and its commit announce, a real one kills itself there, on
real tables. After each kill the proof and the audit look at everything, and either all of its dead
letters have changed their state or none. The next one then does what is left.
"""

from pathlib import Path

import pytest

from k2i_core.crash_points import CrashPoint
from k2i_core.dead_letters.reading import Selection
from k2i_core.dead_letters.replay import LetterStep
from k2i_core.dead_letters.states import LetterState
from k2i_core.wiring.dead_letters import drop, look_at, replay
from k2i_core.wiring.table_audit import audit_table
from tests.e2e.pipelines import PipelineOnDisk
from tests.e2e.test_replay import mixed, strict_pipeline, widen
from tests.integration.kafka.source_driver import produce
from tests.services.warm_python import warm_python

COMMIT_POINTS = (
    CrashPoint.REQUEST_PREPARED,
    CrashPoint.ATTEMPT_LOGGED,
    CrashPoint.REQUEST_SENT,
)
STEPS = (*LetterStep, *COMMIT_POINTS)
LANDED = {CrashPoint.REQUEST_SENT, LetterStep.COMMITTED}


def kill(pipeline: PipelineOnDisk, what: str, step: str) -> None:
    died = warm_python().run("tests.e2e.replaying_child", str(pipeline.path), what, step, "1")
    assert died.returncode == -9, f"{step} was not reached: {died.stderr[-3000:]}"


def count_of(pipeline: PipelineOnDisk, state: LetterState) -> int:
    now = look_at(pipeline.settings)
    assert now is not None
    return now.states.count(state)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("what", "state", "each"),
    [("replay", LetterState.REPLAYED, 10), ("drop", LetterState.DROPPED, 20)],
)
def test_each_dead_letter_is_in_one_state_after_a_kill_at_every_step(
    kafka, topic, tmp_path: Path, what: str, state: LetterState, each: int
) -> None:
    name, servers = topic(1), kafka.bootstrap_servers
    pipeline = strict_pipeline(tmp_path / what, servers, name)
    narrow = pipeline.path.read_text()
    done_count = record_count = 0
    for number, step in enumerate(STEPS):
        # A field that the table does not have is a dead letter until columns may be added.
        pipeline.path.write_text(narrow)
        values = [v.replace(b"note", b"note%d" % number) for v in mixed(30, start=record_count)]
        produce(servers, name, values)
        record_count += 30
        pipeline.ingest_here()
        widen(pipeline)

        kill(pipeline, what, step)

        done_count += each if step in LANDED else 0
        assert count_of(pipeline, state) == done_count, step
        found = pipeline.assert_holds_here()
        assert found["rows"] + found["dead_letters"] == record_count
        assert audit_table(pipeline.settings, None).holds
        if step not in LANDED:
            done = {"replay": replay, "drop": drop}[what](pipeline.settings, Selection())
            assert done.snapshot_id is not None
            done_count += each
            assert count_of(pipeline, state) == done_count
    pipeline.assert_holds_here()
