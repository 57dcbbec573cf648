"""Deletes old runs of k2i's jobs: Dagster has no retention of its own for runs and their events.

A worker run leaves hundreds of events, an audit runs every few minutes: without this the
instance's database only grows. Deleting a run also deletes what its pages showed, so the newest
runs stay; the table and its ledger are not concerned.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from k2i_core.clock import Clock
from k2i_dagster import names, run_store

KEEP_DEFAULT = 200
"""About eight days of one worker at one run an hour."""

OLDER_THAN_DAYS_DEFAULT = 7.0

WEEKLY = "17 3 * * 0"


def build_clean_up(jobs: Sequence[str], clock: Clock) -> dg.Definitions:
    """Return the job and its weekly schedule.

    Args:
        jobs: Names of those whose runs are deleted.
        clock: For the runs' age.

    """

    @dg.op(
        name="delete_old_ingest_runs",
        description="Deletes ended runs of k2i's jobs, with their events.",
        out=dg.Out(dg.Nothing),
        config_schema={
            "keep": dg.Field(
                int, default_value=KEEP_DEFAULT, description="Newest runs of each job that stay."
            ),
            "older_than_days": dg.Field(
                float,
                default_value=OLDER_THAN_DAYS_DEFAULT,
                description="Younger runs stay, too.",
            ),
            "dry_run": dg.Field(
                bool, default_value=False, description="Only say what would be deleted."
            ),
        },
    )
    def clean_up_op(context: dg.OpExecutionContext) -> None:
        config = context.op_config
        delete_old_runs(
            context,
            jobs,
            keep=max(0, int(config["keep"])),
            before=_days_ago(clock, float(config["older_than_days"])),
            is_dry_run=bool(config["dry_run"]),
        )

    @dg.job(
        name=names.CLEAN_UP_JOB,
        executor_def=dg.in_process_executor,
        description=(
            "Deletes old runs of the pipelines' jobs with their events, so that Dagster's database "
            "stays small. Live runs and the newest ones stay; tables are not touched."
        ),
        tags={names.MAINTENANCE_TAG: names.CLEAN_UP_JOB},
    )
    def clean_up_job() -> None:
        clean_up_op.alias(names.CLEAN_UP_NODE)()

    schedule = dg.ScheduleDefinition(
        name=names.CLEAN_UP_SCHEDULE,
        job=clean_up_job,
        cron_schedule=WEEKLY,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return dg.Definitions(jobs=[clean_up_job], schedules=[schedule])


def delete_old_runs(
    context: dg.OpExecutionContext,
    jobs: Sequence[str],
    *,
    keep: int,
    before: datetime,
    is_dry_run: bool,
) -> None:
    """Delete ended runs beyond the newest of each job, created before a time."""
    run_ids = run_store.old_runs(context.instance, jobs, keep=keep, before=before)
    if not is_dry_run:
        for run_id in run_ids:
            run_store.delete_run(context.instance, run_id)
    done = "would be deleted" if is_dry_run else "deleted"
    context.log.info(
        f"{len(run_ids)} runs of {len(jobs)} jobs {done}; the newest {keep} of each "
        f"and everything since {before:%Y-%m-%d %H:%M} UTC stay"
    )


def _days_ago(clock: Clock, days: float) -> datetime:
    return datetime.fromtimestamp(clock.now_ms() / 1000, UTC) - timedelta(days=days)
