"""Maintenance in Dagster: its jobs, what its schedules do at a tick, and what becomes of dead runs.

Goal: a tick reads Dagster's storage and nothing else, launches a run that says why, or says why
not; a run whose process is gone does not keep the next one waiting.
Method: an ephemeral instance with made-up events and runs, and a clock that stands still.
"""

from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterRunStatus

from k2i_dagster import names
from k2i_dagster.keep_alive import HEARTBEAT_STALE_SECONDS
from k2i_dagster.maintenance_asks import ASKS, SUMMARY
from k2i_dagster.maintenance_jobs import build_maintenance, tick
from k2i_dagster.maintenance_steps import STEPS
from k2i_dagster.pipeline_definitions import build_parts, combined
from tests.unit.dagster.made_up import SetClock, pipeline

ORDERS = pipeline()
NEWER = 60.0


class Location:
    """The maintenance of one pipeline, on an instance without a daemon."""

    def __init__(self) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.clock = SetClock(datetime.now(UTC).timestamp() + NEWER)
        parts = build_parts(ORDERS, clock=self.clock)
        self.sensor = parts.keep_alive
        self.definitions = combined([parts])

    def tick(self, job: str) -> dg.RunRequest | str:
        """What the daemon gets for an answer: a request, or the reason for none."""
        step = next(each for each in STEPS.values() if job == f"{each.verb}_orders")
        answer = tick(self.instance, ORDERS, step, self.clock)
        return answer if isinstance(answer, dg.RunRequest) else str(answer.skip_message)

    def measured(self, **asks: str) -> None:
        metadata = {ASKS: dg.MetadataValue.json(asks), SUMMARY: "sales.orders: 3 files"}
        self._report("health", metadata)

    def ran(self, step: str) -> None:
        self._report(step, {"did": "something"})

    def _report(self, name: str, metadata) -> None:
        key = names.maintenance_key(ORDERS, name)
        self.instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata))

    def run(self, job: str, *, heartbeat: float | None = None, started: float = 0.0) -> str:
        tags = {names.HEARTBEAT_TAG: str(int(heartbeat))} if heartbeat is not None else {}
        definition = self.definitions.resolve_job_def(job)
        run = self.instance.create_run_for_job(definition, tags={**definition.tags, **tags})
        event = DagsterEvent(DagsterEventType.PIPELINE_START.value, job, message="made up")
        self.instance.report_dagster_event(
            event, run.run_id, timestamp=started or self.clock.seconds - 1
        )
        return run.run_id

    def status(self, run_id: str) -> DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def look(self) -> None:
        self.sensor(dg.build_sensor_context(instance=self.instance))


@pytest.fixture
def location() -> Location:
    return Location()


def test_a_tick_asks_for_what_health_asks_for_and_tells_why(location):
    location.ran("compaction")
    location.measured(compaction="sales.orders: 12 small files")

    request = location.tick("compact_orders")

    assert isinstance(request, dg.RunRequest)
    assert request.tags[names.REASON_TAG] == "sales.orders: 12 small files"
    assert request.run_config == {
        "ops": {"sales__orders__compaction": {"config": {"only_if_needed": True}}}
    }
    job = location.definitions.resolve_job_def("compact_orders")
    assert dg.validate_run_config(job, request.run_config)


def test_the_schedule_itself_answers_as_its_tick_does(location):
    (schedule,) = (
        s for s in location.definitions.schedules if s.name == "remove_orphans_orders_schedule"
    )
    with dg.instance_for_test() as instance:
        (request,) = schedule.evaluate_tick(
            dg.build_schedule_context(instance=instance)
        ).run_requests

    assert request.tags[names.REASON_TAG] == "it is time"


def test_a_tick_that_asks_for_nothing_tells_what_health_found(location):
    location.ran("manifests")
    location.measured(compaction="sales.orders: 12 small files")

    assert "health found sales.orders: 3 files" in location.tick("rewrite_manifests_orders")


def test_a_tick_goes_by_the_last_measurement(location):
    location.ran("compaction")
    location.measured(compaction="sales.orders: 12 small files")
    location.measured()

    assert "not needed" in location.tick("compact_orders")


def test_orphans_are_removed_by_the_schedule_alone(location):
    location.measured()
    location.ran("orphans")

    request = location.tick("remove_orphans_orders")

    assert isinstance(request, dg.RunRequest)
    job = location.definitions.resolve_job_def("remove_orphans_orders")
    assert dg.validate_run_config(job, request.run_config)


def test_a_tick_launches_nothing_beside_a_live_run_of_the_step(location):
    run_id = location.run("compact_orders", heartbeat=location.clock.seconds)

    assert f"run {run_id[:8]} of this step has not ended" in location.tick("compact_orders")
    location.measured()
    assert isinstance(location.tick("expire_snapshots_orders"), dg.RunRequest)


def test_all_steps_of_a_pipeline_share_one_place_in_the_queue(location):
    repository = location.definitions.get_repository_def()
    tags = {
        repository.get_job(f"{step.verb}_orders").tags[names.MAINTENANCE_TAG]
        for step in STEPS.values()
    }

    assert tags == {"orders-tables"}
    assert repository.get_job("measure_health_orders").tags[names.MAINTENANCE_TAG] == (
        "orders-health"
    )


def test_a_step_that_is_off_keeps_its_job_and_loses_its_schedule():
    parts = build_maintenance(pipeline(maintenance={"orphans": {"schedule": "off"}}), SetClock(0.0))

    assert "remove_orphans_orders" in parts.job_names
    assert "remove_orphans_orders_schedule" not in {s.name for s in parts.schedules}


@pytest.mark.parametrize("job", ["compact_orders", "measure_health_orders", "full_audit_orders"])
def test_a_maintenance_run_whose_process_is_gone_is_given_up(location, job):
    now = location.clock.seconds
    dead = location.run(job, heartbeat=now - HEARTBEAT_STALE_SECONDS - 2, started=now - 600)
    alive = location.run(job, heartbeat=now - 2, started=now - 600)
    importing = location.run(job, started=now - 60)
    lost_early = location.run(job, started=now - 600)

    location.look()

    assert location.status(dead) is DagsterRunStatus.FAILURE
    assert location.status(lost_early) is DagsterRunStatus.FAILURE
    assert location.status(alive) is DagsterRunStatus.STARTED
    assert location.status(importing) is DagsterRunStatus.STARTED
