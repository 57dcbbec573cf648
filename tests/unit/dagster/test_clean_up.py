"""The weekly job that deletes old runs of ingest jobs.

Goal: exactly the runs that are old, ended and beyond the newest ones go, and it says how many.
Method: an ephemeral instance with made-up runs; the job itself runs in this process.
"""

import dagster as dg
import pytest
from dagster import DagsterEvent, DagsterEventType

from k2i_dagster.clean_up import build_clean_up
from k2i_dagster.ingest_job import build_ingest_job
from tests.unit.dagster.made_up import SetClock, pipeline

IN_A_YEAR = 4e9
LATER = SetClock(IN_A_YEAR)


class Instance:
    def __init__(self, clock=LATER) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.job = build_ingest_job(pipeline())
        self.clean_up = build_clean_up([self.job.name], clock).resolve_job_def("clean_ingest_runs")

    def add(self, *events: DagsterEventType) -> str:
        run = self.instance.create_run_for_job(self.job)
        for event in events:
            made_up = DagsterEvent(event.value, self.job.name)
            self.instance.report_dagster_event(made_up, run.run_id)
        return run.run_id

    def ended(self) -> str:
        return self.add(DagsterEventType.PIPELINE_START, DagsterEventType.PIPELINE_SUCCESS)

    def clean(self, **config) -> str:
        result = self.clean_up.execute_in_process(
            run_config={"ops": {"clean_up": {"config": config}}}, instance=self.instance
        )
        logs = self.instance.all_logs(result.run_id)
        return "\n".join(entry.user_message for entry in logs)

    def run_ids(self) -> set[str]:
        runs = self.instance.get_runs(dg.RunsFilter(job_name=self.job.name))
        return {run.run_id for run in runs}


def test_the_newest_ended_runs_and_all_live_ones_stay():
    at = Instance()
    live = at.add(DagsterEventType.PIPELINE_START)
    old = [at.ended() for _ in range(3)]
    newest = [at.ended() for _ in range(2)]

    said = at.clean(keep=2)

    assert at.run_ids() == {live, *newest}
    assert at.instance.all_logs(old[0]) == []
    assert "3 runs of 1 jobs deleted" in said


def test_a_dry_run_only_tells():
    at = Instance()
    runs = {at.ended() for _ in range(3)}

    said = at.clean(keep=1, dry_run=True)

    assert at.run_ids() == runs
    assert "2 runs of 1 jobs would be deleted" in said


def test_young_runs_stay_however_many_they_are():
    at = Instance(clock=SetClock(0))
    runs = {at.ended() for _ in range(3)}

    at.clean(keep=0)

    assert at.run_ids() == runs


def test_runs_of_other_jobs_are_not_touched():
    at = Instance()

    @dg.job
    def other() -> None:
        """Somebody else's."""

    other.execute_in_process(instance=at.instance)

    at.clean(keep=0, older_than_days=0.0)

    assert at.instance.get_runs(dg.RunsFilter(job_name="other"))


@pytest.mark.parametrize("config", [{"keep": -5}, {}])
def test_a_negative_number_keeps_none_and_the_default_many(config):
    at = Instance()
    for _ in range(3):
        at.ended()

    at.clean(**config)

    assert len(at.run_ids()) == (0 if config else 3)
