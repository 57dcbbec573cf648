"""The sensor that launches a pipeline's workers, takes over from dead ones, and says what it does.

Reads runs, lets `keep_alive.decide` decide, and does it.
"""

from collections.abc import Callable, Iterable

import dagster as dg

from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_core.errors import ConfigError
from k2i_dagster import names, run_store
from k2i_dagster.keep_alive import (
    AskStop,
    Decision,
    Launch,
    MarkFailed,
    WorkerRun,
    decide,
    is_lost,
    says,
)

TICK_SECONDS = 5
"""How often it looks. Larger leaves a dead worker's share unread longer; smaller asks the run
storage more often."""


def build_keep_alive_sensor(
    pipeline: Pipeline,
    job: dg.JobDefinition,
    clock: Clock,
    read_again: Callable[[], Pipeline] | None = None,
) -> dg.SensorDefinition:
    """Return the sensor of one pipeline.

    Args:
        pipeline: As it was loaded.
        job: Its ingest job.
        clock: For heartbeats and backoff.
        read_again: Reads the pipeline file as it is now, so that a changed number of workers
            takes effect without a reload; None where there is no file.

    """

    @dg.sensor(
        name=names.keep_alive_name(pipeline.name),
        job=job,
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Keeps one run of {job.name} alive for each worker of pipeline {pipeline.name}: "
            "relaunches after a rollover and takes over from a run whose process is gone. A run "
            "that you terminate stays ended until you launch one."
        ),
        metadata={"job": job.name, "table": dg.MetadataValue.asset(names.table_key(pipeline))},
    )
    def keep_alive(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        workers = _current_workers(context, pipeline, read_again)
        instance = context.instance
        now_seconds = clock.now_ms() / 1000
        decisions = decide(
            pipeline.name, workers, _relevant_runs(instance, pipeline.name, workers), now_seconds
        )
        _act_on_runs(context, decisions)
        _give_up_dead_maintenance(context, pipeline.name, now_seconds)
        requests = [
            _request(pipeline.name, decision, workers)
            for decision in decisions
            if isinstance(decision, Launch)
        ]
        if requests:
            return dg.SensorResult(run_requests=requests)
        return dg.SensorResult(skip_reason=says(decisions))

    return keep_alive


def _current_workers(
    context: dg.SensorEvaluationContext,
    pipeline: Pipeline,
    read_again: Callable[[], Pipeline] | None,
) -> int:
    if read_again is None:
        return pipeline.workers
    try:
        return read_again().workers
    except ConfigError as error:
        context.log.warning(f"workers stay at {pipeline.workers}: {error}")
        return pipeline.workers


def _relevant_runs(
    instance: dg.DagsterInstance, pipeline_name: str, workers: int
) -> list[WorkerRun]:
    live = run_store.live_runs(instance, pipeline_name)
    return [*live, *run_store.ended_ingest_runs(instance, pipeline_name, workers)]


def _act_on_runs(context: dg.SensorEvaluationContext, decisions: Iterable[Decision]) -> None:
    for decision in decisions:
        match decision:
            case MarkFailed(run_id, reason):
                context.log.warning(f"run {run_id[:8]} is marked failed: {reason}")
                run_store.mark_failed(context.instance, run_id, reason)
            case AskStop(run_id, reason):
                context.log.info(f"run {run_id[:8]} is asked to flush and end: {reason}")
                run_store.add_tags(context.instance, run_id, {names.STOP_TAG: reason})
            case _:
                pass


def _give_up_dead_maintenance(
    context: dg.SensorEvaluationContext, pipeline_name: str, now_seconds: float
) -> None:
    """End upkeep's runs whose process is gone: each would keep the next one in the queue."""
    slots = names.MAINTENANCE_SLOT, names.HEALTH, names.AUDIT_SLOT
    for run in run_store.live_maintenance_runs(context.instance, pipeline_name, *slots):
        if is_lost(run, now_seconds):
            reason = f"nothing was heard of its process for {run.silent_seconds(now_seconds):.0f} s"
            context.log.warning(f"run {run.short_id} is marked failed: {reason}")
            run_store.mark_failed(context.instance, run.run_id, reason, "the next one goes on")


def _request(pipeline_name: str, launch: Launch, workers: int) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=launch.run_key,
        run_config={"ops": {names.INGEST_NODE: {"config": {"worker": launch.slot}}}},
        tags={
            names.PIPELINE_TAG: pipeline_name,
            names.WORKER_TAG: names.worker_tag(pipeline_name, launch.slot),
            names.WORKERS_TAG: str(workers),
        },
    )
