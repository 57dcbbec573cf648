"""A run's sign of life, and what it learns on the way.

Goal: the tag is renewed, a run that is not wanted any more is told so, and a database that hiccups
ends nothing.
Method: an ephemeral instance, single beats in this thread; only the thread's own end is waited for.
"""

import threading

import dagster as dg
import pytest
from sqlalchemy.exc import OperationalError

from k2i_dagster import names, run_store
from k2i_dagster.ingest_job import build_ingest_job
from k2i_dagster.running import heartbeat as heartbeats
from k2i_dagster.running.heartbeat import Heartbeat
from tests.unit.dagster.made_up import SetClock, pipeline


class Run:
    def __init__(self) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.clock = SetClock(1000)
        self.id = self.instance.create_run_for_job(build_ingest_job(pipeline())).run_id
        self.heartbeat = Heartbeat(self.instance, self.id, self.clock)

    def tag(self) -> str | None:
        run = self.instance.get_run_by_id(self.id)
        return run.tags.get(names.HEARTBEAT_TAG) if run else None


@pytest.fixture
def run() -> Run:
    return Run()


def test_each_beat_writes_the_time(run):
    run.heartbeat.beat()
    assert run.tag() == "1000"

    run.clock.seconds = 1005.9
    run.heartbeat.beat()
    assert run.tag() == "1005"
    assert run.heartbeat.stop_reason() is None


def test_a_run_that_is_asked_to_stop_is_told_why(run):
    run_store.add_tags(run.instance, run.id, {names.STOP_TAG: "workers is 2 now"})

    run.heartbeat.beat()

    assert run.heartbeat.stop_reason() == "workers is 2 now"


def test_a_run_that_was_recorded_as_ended_is_told(run):
    run_store.mark_failed(run.instance, run.id, "it was silent")

    run.heartbeat.beat()

    assert "recorded as failure by somebody else" in (run.heartbeat.stop_reason() or "")


def test_a_run_that_was_deleted_is_told(run, monkeypatch):
    monkeypatch.setattr(run_store, "add_tags", lambda *_: None)
    run.instance.delete_run(run.id)

    run.heartbeat.beat()

    assert run.heartbeat.stop_reason() == "the run was deleted"


def _beating(run: Run, monkeypatch, failures: list[BaseException]) -> threading.Event:
    """Let the thread beat without pauses; each beat raises the next failure, then all is well."""
    went_well = threading.Event()

    def beat() -> None:
        if threading.current_thread() is threading.main_thread():
            return  # the first one, before the thread has begun
        if failures:
            raise failures.pop(0)
        went_well.set()

    monkeypatch.setattr(heartbeats, "BEAT_SECONDS", 0.001)
    monkeypatch.setattr(run.heartbeat, "beat", beat)
    return went_well


def test_a_database_that_hiccups_ends_nothing(run, monkeypatch):
    lost = OperationalError("UPDATE", {}, Exception("database is locked"))
    went_well = _beating(run, monkeypatch, [lost, lost])
    with run.heartbeat:
        assert went_well.wait(10)

    assert run.heartbeat.stop_reason() is None


def test_any_other_failure_is_raised_in_the_op(run, monkeypatch):
    _beating(run, monkeypatch, [ValueError("a bug")])
    with run.heartbeat:
        run.heartbeat._thread.join(10)

    with pytest.raises(ValueError, match="a bug"):
        run.heartbeat.stop_reason()
