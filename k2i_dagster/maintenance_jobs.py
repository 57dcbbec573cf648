"""Maintenance of a pipeline's tables: their health, and the steps that restore it.

```
tables ──► health ──► compaction · manifests · expiration · orphans
```

One asset a step, for target and dead letters together: they are kept healthy by the same settings
at the same time, and twice as many nodes would say nothing more. Each has a job and a schedule.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_dagster import names, run_store
from k2i_dagster.maintenance_asks import Run, decide, read_health
from k2i_dagster.maintenance_options import config_schema, schedule_of
from k2i_dagster.maintenance_steps import STEPS, Step

HEALTH_VERB = "measure_health"

_HELD_BACK_SAYS = (
    "No error-level check of the table fails. While one does, nothing is rewritten or deleted that "
    "may be needed to settle it."
)


@dataclass(frozen=True, slots=True)
class MaintenanceParts:
    """Health and the steps in Dagster; a step that is off has no schedule."""

    assets: tuple[dg.AssetsDefinition, ...]
    jobs: tuple[Any, ...]  # Dagster has no public name for the type of an asset job
    schedules: tuple[dg.ScheduleDefinition, ...]

    @property
    def job_names(self) -> tuple[str, ...]:
        """Of the jobs whose runs add up."""
        return tuple(job.name for job in self.jobs)


def build_maintenance(pipeline: Pipeline, clock: Clock) -> MaintenanceParts:
    """Return everything that keeps a pipeline's tables healthy.

    Args:
        pipeline: Its settings.
        clock: For the age of a measured health.

    """
    jobs = {name: _build_job(pipeline, step) for name, step in STEPS.items()}
    health_job = _build_health_job(pipeline)
    schedules = [
        _build_schedule(pipeline, step, jobs[name], cron, clock)
        for name, step in STEPS.items()
        if (cron := schedule_of(pipeline, name)) is not None
    ]
    health_cron = schedule_of(pipeline, names.HEALTH)
    if health_cron is not None:
        schedules.insert(0, _build_health_schedule(health_job, health_cron))
    return MaintenanceParts(
        (_build_health(pipeline), *(_build_asset(pipeline, step) for step in STEPS.values())),
        (health_job, *jobs.values()),
        tuple(schedules),
    )


def _build_health(pipeline: Pipeline) -> dg.AssetsDefinition:
    job_name = names.maintenance_job_name(pipeline.name, HEALTH_VERB)

    @dg.asset(
        key=names.maintenance_key(pipeline, names.HEALTH),
        deps=[names.table_key(pipeline), names.dead_letter_key(pipeline)],
        description=(
            f"How healthy {pipeline.table.identifier} and its dead letters are: files and how many "
            "of them are small, manifests, snapshots, metadata, what a scan costs. Reads metadata "
            "only. What it asks for is done by the steps behind it, each at its own time."
        ),
        metadata={"job": job_name},
        group_name=names.dagster_name(pipeline.name),
        kinds={"iceberg"},
        owners=list(pipeline.orchestration.owners),
        tags=dict(pipeline.orchestration.tags),
    )
    def health_asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from k2i_dagster.running.maintenance_run import measure

        return measure(context, pipeline)

    return health_asset


def _build_asset(pipeline: Pipeline, step: Step) -> dg.AssetsDefinition:
    key = names.maintenance_key(pipeline, step.name)
    when = "when health asks for it" if step.is_judged else "by its schedule"

    @dg.asset(
        key=key,
        deps=[names.maintenance_key(pipeline, names.HEALTH)],
        description=(
            f"{step.does}\n\nOf {pipeline.table.identifier} and its dead letters, {when}. Launch "
            f"job {_job_name(pipeline, step)} to do it now, with other settings or as a dry run."
        ),
        metadata={"job": _job_name(pipeline, step)},
        check_specs=[dg.AssetCheckSpec(names.HELD_BACK, asset=key, description=_HELD_BACK_SAYS)],
        config_schema=config_schema(pipeline, step),
        group_name=names.dagster_name(pipeline.name),
        kinds={"duckdb", "iceberg"} if step.is_proven else {"iceberg"},
        owners=list(pipeline.orchestration.owners),
        tags=dict(pipeline.orchestration.tags),
    )
    def step_asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from k2i_core.interrupts import interrupts_held_back

        with interrupts_held_back():  # a library that is being imported may swallow one
            from k2i_dagster.running.maintenance_run import maintain

        return maintain(context, pipeline, step, context.op_execution_context.op_config)

    return step_asset


def _build_job(pipeline: Pipeline, step: Step) -> Any:  # noqa: ANN401 - see MaintenanceParts.jobs
    return dg.define_asset_job(
        _job_name(pipeline, step),
        selection=dg.AssetSelection.assets(names.maintenance_key(pipeline, step.name)),
        executor_def=dg.in_process_executor,
        description=f"{step.does} Safe at any time, and to be terminated at any time.",
        tags={
            names.PIPELINE_TAG: pipeline.name,
            names.MAINTENANCE_TAG: names.worker_tag(pipeline.name, names.MAINTENANCE_SLOT),
        },
    )


def _build_health_job(pipeline: Pipeline) -> Any:  # noqa: ANN401 - see MaintenanceParts.jobs
    return dg.define_asset_job(
        names.maintenance_job_name(pipeline.name, HEALTH_VERB),
        selection=dg.AssetSelection.assets(names.maintenance_key(pipeline, names.HEALTH)),
        executor_def=dg.in_process_executor,
        description=f"Measures how healthy {pipeline.table.identifier} and its dead letters are.",
        tags={
            names.PIPELINE_TAG: pipeline.name,
            names.MAINTENANCE_TAG: names.worker_tag(pipeline.name, names.HEALTH),
        },
    )


def _build_schedule(
    pipeline: Pipeline,
    step: Step,
    job: Any,  # noqa: ANN401 - see MaintenanceParts.jobs
    cron: str,
    clock: Clock,
) -> dg.ScheduleDefinition:
    @dg.schedule(
        job=job,
        cron_schedule=cron,
        name=names.schedule_name(job.name),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=(
            f"Launches {job.name} when the measured health asks for it; says why, and why not."
            if step.is_judged
            else f"Launches {job.name}."
        ),
    )
    def step_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        return tick(context.instance, pipeline, step, clock)

    return step_schedule


def tick(
    instance: dg.DagsterInstance, pipeline: Pipeline, step: Step, clock: Clock
) -> dg.RunRequest | dg.SkipReason:
    """Decide for one tick of a step's schedule; reads Dagster's storage and no table."""
    health = run_store.last_materialization(instance, names.maintenance_key(pipeline, names.HEALTH))
    own = run_store.last_materialization(instance, names.maintenance_key(pipeline, step.name))
    decision = decide(
        step,
        read_health(*health) if health else None,
        clock.now_ms() / 1000,
        has_run=own is not None,
        live_run_id=run_store.live_run_id(instance, _job_name(pipeline, step)),
        is_health_scheduled=schedule_of(pipeline, names.HEALTH) is not None,
    )
    if isinstance(decision, Run):
        return _request(pipeline, step, decision)
    return dg.SkipReason(decision.reason)


def _build_health_schedule(
    job: Any,  # noqa: ANN401 - see MaintenanceParts.jobs
    cron: str,
) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=names.schedule_name(job.name),
        job=job,
        cron_schedule=cron,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def _request(pipeline: Pipeline, step: Step, decision: Run) -> dg.RunRequest:
    config: Mapping[str, Any] = {"only_if_needed": True} if step.is_judged else {}
    node = names.maintenance_node(pipeline, step.name)
    return dg.RunRequest(
        run_config={"ops": {node: {"config": config}}},
        tags={names.REASON_TAG: decision.reason},
    )


def _job_name(pipeline: Pipeline, step: Step) -> str:
    return names.maintenance_job_name(pipeline.name, step.verb)
