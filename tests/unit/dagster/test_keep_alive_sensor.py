"""Ticks of the keep-alive sensor on an instance without a daemon.

Goal: what the sensor reads from Dagster's run storage and does there is what `keep_alive` decides.
Method: an ephemeral instance, runs brought to their state by events with chosen times, a set clock.
"""

import dagster as dg
import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterRunStatus

from k2i_core.errors import ConfigError
from k2i_dagster import names
from k2i_dagster.ingest_job import build_ingest_job
from k2i_dagster.keep_alive_sensor import build_keep_alive_sensor
from tests.unit.dagster.made_up import SetClock, pipeline

NOW = 1_800_000_000.0
ENDS = {
    DagsterRunStatus.SUCCESS: DagsterEventType.PIPELINE_SUCCESS,
    DagsterRunStatus.FAILURE: DagsterEventType.PIPELINE_FAILURE,
    DagsterRunStatus.CANCELED: DagsterEventType.PIPELINE_CANCELED,
}


class Location:
    """One pipeline in a code location."""

    def __init__(self, *, workers: int = 1, read_again=None) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.pipeline = pipeline(workers=workers)
        self.clock = SetClock(NOW)
        self.job = build_ingest_job(self.pipeline)
        self.sensor = build_keep_alive_sensor(self.pipeline, self.job, self.clock, read_again)

    def tick(self) -> tuple[list[dg.RunRequest], str]:
        result = self.sensor(dg.build_sensor_context(instance=self.instance))
        assert isinstance(result, dg.SensorResult)
        reason = result.skip_reason.skip_message if result.skip_reason else ""
        return list(result.run_requests or []), reason or ""

    def launched(self, request: dg.RunRequest) -> dg.DagsterRun:
        """What the daemon does with a request."""
        return self.instance.create_run_for_job(
            self.job, run_config=request.run_config, tags=request.tags
        )

    def run(
        self,
        *,
        worker: int = 0,
        workers: int = 1,
        started: float = NOW - 300,
        heartbeat: float | None = NOW - 3,
        status: DagsterRunStatus = DagsterRunStatus.STARTED,
        ended: float = NOW - 1,
    ) -> str:
        tags = {
            names.PIPELINE_TAG: "orders",
            names.WORKER_TAG: f"orders-{worker}",
            names.WORKERS_TAG: str(workers),
        }
        if heartbeat is not None:
            tags[names.HEARTBEAT_TAG] = str(int(heartbeat))
        run = self.instance.create_run_for_job(self.job, tags=tags)
        self._report(run.run_id, DagsterEventType.PIPELINE_START, started)
        if status in ENDS:
            self._report(run.run_id, ENDS[status], ended)
        elif status is DagsterRunStatus.CANCELING:
            self._report(run.run_id, DagsterEventType.PIPELINE_CANCELING, ended)
        return run.run_id

    def status(self, run_id: str) -> DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def _report(self, run_id: str, event_type: DagsterEventType, at: float) -> None:
        event = DagsterEvent(event_type.value, self.job.name, message="made up")
        self.instance.report_dagster_event(event, run_id, timestamp=at)


def test_every_worker_gets_a_run_with_its_config_and_its_tags():
    requests, _ = Location(workers=2).tick()

    assert [r.run_config["ops"]["ingest"]["config"]["worker"] for r in requests] == [0, 1]
    assert [r.tags["k2i/worker"] for r in requests] == ["orders-0", "orders-1"]
    assert {r.tags["k2i/workers"] for r in requests} == {"2"}


def test_a_run_that_was_requested_is_not_requested_again():
    location = Location()
    (request,), _ = location.tick()
    location.launched(request)

    requests, reason = location.tick()

    assert requests == []
    assert reason.startswith("worker 0: run ")
    assert reason.endswith("is starting")


def test_after_a_rollover_the_next_run_is_requested():
    location = Location()
    run_id = location.run(status=DagsterRunStatus.SUCCESS)

    (request,), _ = location.tick()

    assert request.run_key == f"orders-0/after/{run_id}"


def test_a_run_without_a_heartbeat_is_recorded_as_failed_and_replaced():
    location = Location()
    run_id = location.run(heartbeat=NOW - 31)

    (request,), _ = location.tick()

    assert request.run_key == f"orders-0/after/{run_id}"
    assert location.status(run_id) is DagsterRunStatus.FAILURE


def test_a_run_with_a_heartbeat_is_left_alone():
    location = Location()
    run_id = location.run(heartbeat=NOW - 29)

    requests, reason = location.tick()

    assert (requests, reason) == ([], f"worker 0: run {run_id[:8]} is running")


def test_a_terminated_worker_stays_ended_until_a_person_launches_one():
    location = Location()
    location.run(status=DagsterRunStatus.CANCELED, ended=NOW - 3600)
    requests, reason = location.tick()
    assert requests == []
    assert "on hold" in reason

    location.run(status=DagsterRunStatus.SUCCESS, ended=NOW - 1)
    requests, _ = location.tick()
    assert len(requests) == 1


def test_quick_failures_are_followed_by_a_longer_and_longer_pause():
    location = Location()
    for n in range(3):
        location.run(
            started=NOW - 100 + 20 * n, ended=NOW - 95 + 20 * n, status=DagsterRunStatus.FAILURE
        )
    location.clock.seconds = NOW - 50

    requests, reason = location.tick()
    assert requests == []
    assert "next try in" in reason

    location.clock.seconds = NOW - 55 + 20.1
    requests, _ = location.tick()
    assert len(requests) == 1


def test_a_changed_number_of_workers_ends_the_old_run_before_the_new_ones_start():
    location = Location(read_again=lambda: pipeline(workers=2))
    run_id = location.run(workers=1)

    requests, reason = location.tick()
    run = location.instance.get_run_by_id(run_id)
    assert requests == []
    assert "waits for the end of run" in reason
    assert run is not None
    assert run.tags[names.STOP_TAG] == "it is worker 0/1, and workers is 2 now"

    location.run(status=DagsterRunStatus.SUCCESS)
    location.instance.delete_run(run_id)
    requests, _ = location.tick()
    assert [r.tags["k2i/worker"] for r in requests] == ["orders-0", "orders-1"]


def test_a_file_that_broke_meanwhile_changes_nothing():
    def broken():
        message = "orders.yaml:3: kafka: is missing"
        raise ConfigError(message)

    requests, _ = Location(read_again=broken).tick()

    assert len(requests) == 1


def test_a_run_that_a_person_launched_without_tags_counts_for_its_slot():
    location = Location(workers=2)
    config = {"ops": {"ingest": {"config": {"worker": 1}}}}
    location.instance.create_run_for_job(location.job, run_config=config)

    requests, _ = location.tick()

    assert [r.tags["k2i/worker"] for r in requests] == ["orders-0"]


@pytest.mark.parametrize("workers", [1, 2])
def test_with_one_worker_any_run_of_the_job_waits_in_the_queue_behind_it(workers):
    tags = Location(workers=workers).job.tags

    assert tags.get(names.WORKER_TAG) == ("orders-0" if workers == 1 else None)
