"""The only file that reads and writes Dagster's run storage.

Part of what it uses (`add_run_tags`, `report_run_failed`, `get_run_records`, the records of asset
checks) carries no promise of stability, so it is kept in one place. Everything else here sees
`keep_alive.WorkerRun`.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import dagster as dg
from dagster import DagsterRunStatus as Status
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from k2i_core.config import Pipeline
from k2i_dagster import names
from k2i_dagster.keep_alive import Phase, WorkerRun

LIVE_STATUSES = [
    Status.QUEUED,
    Status.NOT_STARTED,
    Status.STARTING,
    Status.STARTED,
    Status.CANCELING,
]
ENDED_STATUSES = [Status.SUCCESS, Status.FAILURE, Status.CANCELED]

LIVE_RUNS_MAX = 1_000
"""Live runs looked at: more than any pipeline has workers."""

ENDED_RUNS_A_SLOT = 12
"""Ended runs looked at for each worker: more than the backoff counts up to."""

_PHASES: Mapping[Status, Phase] = {
    Status.STARTED: Phase.RUNNING,
    Status.CANCELING: Phase.ENDING,
    Status.SUCCESS: Phase.SUCCEEDED,
    Status.FAILURE: Phase.FAILED,
    Status.CANCELED: Phase.CANCELED,
}


def live_runs(instance: dg.DagsterInstance, pipeline_name: str) -> list[WorkerRun]:
    """Return the runs of a pipeline's ingest and backfill jobs that have not ended."""
    jobs = (names.ingest_job_name(pipeline_name), names.backfill_job_name(pipeline_name))
    return [
        worker_run(record)
        for job in jobs
        for record in instance.get_run_records(
            dg.RunsFilter(job_name=job, statuses=LIVE_STATUSES), limit=LIVE_RUNS_MAX
        )
    ]


def ended_ingest_runs(
    instance: dg.DagsterInstance, pipeline_name: str, workers: int
) -> list[WorkerRun]:
    """Return the latest ended runs of a pipeline's ingest job, newest first."""
    job = names.ingest_job_name(pipeline_name)
    records = instance.get_run_records(
        dg.RunsFilter(job_name=job, statuses=ENDED_STATUSES),
        limit=ENDED_RUNS_A_SLOT * (workers + 1),
    )
    return [worker_run(record) for record in records]


def live_maintenance_runs(
    instance: dg.DagsterInstance, pipeline_name: str, *slots: str
) -> list[WorkerRun]:
    """Return the runs that maintain a pipeline's tables, or those slots, and have not ended."""
    wanted = slots or (names.MAINTENANCE_SLOT,)
    tags = {names.MAINTENANCE_TAG: [names.worker_tag(pipeline_name, slot) for slot in wanted]}
    records = instance.get_run_records(
        dg.RunsFilter(tags=tags, statuses=LIVE_STATUSES), limit=LIVE_RUNS_MAX
    )
    return [worker_run(record) for record in records]


def live_run_id(instance: dg.DagsterInstance, job_name: str) -> str | None:
    """Return the newest run of a job that has not ended."""
    records = instance.get_run_records(
        dg.RunsFilter(job_name=job_name, statuses=LIVE_STATUSES), limit=1
    )
    return records[0].dagster_run.run_id if records else None


def last_materialization(
    instance: dg.DagsterInstance, key: dg.AssetKey
) -> tuple[float, Mapping[str, Any]] | None:
    """Return when an asset was materialized last, in Unix seconds, and its metadata's values."""
    event = instance.get_latest_materialization_event(key)
    materialization = event.asset_materialization if event else None
    if event is None or materialization is None:
        return None
    values = {name: entry.value for name, entry in materialization.metadata.items()}
    return event.timestamp, values


def find_run(instance: dg.DagsterInstance, run_id: str) -> WorkerRun | None:
    """Return one run as it is now; None when it was deleted."""
    record = instance.get_run_record_by_id(run_id)
    return worker_run(record) if record else None


def stop_reason(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Return why a run should end now: it was asked to, or is over as far as Dagster knows."""
    run = instance.get_run_by_id(run_id)
    if run is None:
        return "the run was deleted"
    if run.is_finished:
        return f"the run was recorded as {run.status.value.lower()} by somebody else"
    if run.status is Status.CANCELING:
        return "it was terminated"
    return run.tags.get(names.STOP_TAG)


def add_tags(instance: dg.DagsterInstance, run_id: str, tags: Mapping[str, str]) -> None:
    """Add tags to a run, or replace their values."""
    instance.add_run_tags(run_id, dict(tags))


def mark_failed(
    instance: dg.DagsterInstance, run_id: str, reason: str, follows: str = "another run takes over"
) -> None:
    """Record the failure of a run whose process cannot."""
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_failed(run, f"k2i keep-alive: {reason}; {follows}")


def failing_error_checks(instance: dg.DagsterInstance, pipeline: Pipeline) -> tuple[str, ...]:
    """Return which error-level checks of a pipeline's tables failed when they last were evaluated.

    While there is one, nothing may be deleted that could be needed to settle it. A check that is
    being evaluated now counts as it was before; one that never was evaluated does not fail.

    Returns:
        Asset and check, as in `sales/orders/audit: row_counts`, sorted.

    """
    storage = instance.event_log_storage
    latest = storage.get_latest_asset_check_execution_by_key(list(names.check_keys(pipeline)))
    failing: list[str] = []
    for key, newest in latest.items():
        record: AssetCheckExecutionRecord | None = newest
        if newest.status not in _EVALUATED:
            history = storage.get_asset_check_execution_history(key, limit=1, status=_EVALUATED)
            record = history[0] if history else None
        if record is not None and _failed_as_error(record):
            failing.append(f"{key.asset_key.to_user_string()}: {key.name}")
    return tuple(sorted(failing))


_EVALUATED = frozenset(
    {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
)


def _failed_as_error(record: AssetCheckExecutionRecord) -> bool:
    event = record.event.dagster_event if record.event else None
    if event is None or record.status is not AssetCheckExecutionRecordStatus.FAILED:
        return False
    evaluation = event.asset_check_evaluation_data
    return not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR


def old_runs(
    instance: dg.DagsterInstance, job_names: Sequence[str], *, keep: int, before: datetime
) -> list[str]:
    """Return ids of ended runs beyond the newest `keep` of each job, created before a time."""
    run_ids: list[str] = []
    for job in job_names:
        records = instance.get_run_records(dg.RunsFilter(job_name=job, statuses=ENDED_STATUSES))
        run_ids += [
            record.dagster_run.run_id
            for record in records[keep:]
            if _unix_seconds(record.create_timestamp) < before.timestamp()
        ]
    return run_ids


def delete_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Delete a run with all its events."""
    instance.delete_run(run_id)


def worker_run(record: dg.RunRecord) -> WorkerRun:
    """Return a run as the decisions see it."""
    run = record.dagster_run
    heartbeat = run.tags.get(names.HEARTBEAT_TAG)
    workers = run.tags.get(names.WORKERS_TAG)
    return WorkerRun(
        run_id=run.run_id,
        phase=_PHASES.get(run.status, Phase.WAITING),
        worker=None if run.job_name.startswith(names.BACKFILL_PREFIX) else _slot(run),
        workers=int(workers) if workers else None,
        created_seconds=_unix_seconds(record.create_timestamp),
        started_seconds=record.start_time,
        ended_seconds=record.end_time,
        heartbeat_seconds=float(heartbeat) if heartbeat else None,
        is_stop_asked=names.STOP_TAG in run.tags,
        paused=run.tags.get(names.PAUSED_TAG),
    )


def _slot(run: dg.DagsterRun) -> int:
    """Read the slot from the tag, or from the config of a run that a person launched."""
    _, _, slot = run.tags.get(names.WORKER_TAG, "").rpartition("-")
    if slot.isdecimal():
        return int(slot)
    # Safe because the run was made with the op's config schema; anything else counts as slot 0.
    ops = cast("Mapping[str, Any]", run.run_config).get("ops", {})
    config = ops.get(names.INGEST_NODE, {}).get("config", {})
    worker = config.get("worker", 0)
    return worker if isinstance(worker, int) else 0


def _unix_seconds(moment: datetime) -> float:
    # SQLite gives times without a zone; they are UTC.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
