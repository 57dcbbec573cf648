"""One pipeline's jobs in this process, and what their runs stored: for this folder's tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterEvent, DagsterEventType

from k2i_core.config import load_pipeline
from k2i_core.dev.produce import fill
from k2i_dagster import names
from k2i_dagster.maintenance_steps import STEPS
from k2i_dagster.pipeline_definitions import build_parts, combined
from tests.e2e.pipelines import PipelineOnDisk, write_pipeline

NODES = {
    "audit_e2e": "e2e__orders__audit",
    "full_audit_e2e": "e2e__orders__full_audit",
    **{f"{step.verb}_e2e": f"e2e__orders__{step.name}" for step in STEPS.values()},
}


class InProcess:
    """One pipeline's jobs on an instance of their own."""

    def __init__(self, directory: Path, broker: str, topic: str, **changes: Any) -> None:
        self.broker, self.topic = broker, topic
        self.disk: PipelineOnDisk = write_pipeline(directory, broker, topic, changes=changes)
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(directory))

    @property
    def definitions(self) -> dg.Definitions:
        return combined([build_parts(load_pipeline(self.disk.path))])

    def fill(self, count: int, **options: Any) -> None:
        fill(self.broker, self.topic, count, **options)

    def run(
        self,
        job: str,
        config: Mapping[str, Any] | None = None,
        *,
        raises: bool = True,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        node = NODES.get(job) or job.partition("_")[0]
        return self.definitions.resolve_job_def(job).execute_in_process(
            run_config={"ops": {node: {"config": dict(config)}}} if config else None,
            instance=self.instance,
            raise_on_error=raises,
            tags=dict(tags or {}),
        )

    def ingest(
        self, seconds: float = 6.0, *, raises: bool = True, **config: Any
    ) -> dg.ExecuteInProcessResult:
        return self.run("ingest_e2e", {"max_run_minutes": seconds / 60, **config}, raises=raises)

    def evaluated_checks(self) -> list[dg.AssetCheckEvaluation]:
        """What the buttons of the Checks tab do."""
        job = dg.define_asset_job(
            "light_checks",
            selection=dg.AssetSelection.checks_for_assets(dg.AssetKey(["e2e", "orders"])),
            executor_def=dg.in_process_executor,
        )
        definitions = dg.Definitions.merge(self.definitions, dg.Definitions(jobs=[job]))
        result = definitions.resolve_job_def("light_checks").execute_in_process(
            instance=self.instance
        )
        return result.get_asset_check_evaluations()

    def made_up_run(
        self,
        *,
        heartbeat: float,
        worker: int = 0,
        workers: int = 1,
        job: str = "ingest_e2e",
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """A run that started before all others, and that has no process."""
        run = self.instance.create_run_for_job(
            self.definitions.resolve_job_def(job),
            tags={
                names.WORKER_TAG: f"e2e-{worker}",
                names.WORKERS_TAG: str(workers),
                names.HEARTBEAT_TAG: str(int(heartbeat)),
                **(tags or {}),
            },
        )
        started = DagsterEvent(DagsterEventType.PIPELINE_START.value, job)
        self.instance.report_dagster_event(started, run.run_id, timestamp=heartbeat - 10)
        return run.run_id

    def materializations(self, *path: str) -> list[dg.AssetMaterialization]:
        """Oldest first."""
        records = self.instance.fetch_materializations(dg.AssetKey(list(path)), limit=100).records
        found = [record.asset_materialization for record in reversed(records)]
        return [one for one in found if one is not None]

    def all_logs(self) -> list[dg.EventLogEntry]:
        return [
            entry
            for run in self.instance.get_runs()
            for entry in self.instance.all_logs(run.run_id)
        ]

    def log_text(self, result: dg.ExecuteInProcessResult) -> str:
        texts: list[str] = []
        for entry in self.instance.all_logs(result.run_id):
            texts.append(entry.user_message)
            event = entry.dagster_event
            if event is not None and event.is_step_failure:
                failure = event.step_failure_data.user_failure_data
                texts.append(str(failure.description) if failure else "")
        return "\n".join(texts)


def value(event: dg.AssetMaterialization, name: str) -> Any:
    return event.metadata[name].value
