"""The audit of a pipeline's table: rows against ledger, read with DuckDB, in an asset of its own.

Of its own, because a check of the table itself counts as outdated at the next flush.
"""

from dataclasses import dataclass
from typing import Any

import dagster as dg

from k2i_core.config import Pipeline
from k2i_dagster import names

CHECKS = {
    "row_counts": "The table has as many rows in the audited offsets as the ledger counted.",
    "no_duplicates": "No two rows have the same topic, Kafka partition and offset.",
    "no_strays": "No row has an offset that no commit claims.",
    "required_columns": "No required column is null.",
    "dead_letters": "Dead letters are as many as the ledger counted, and none is also a row.",
}


@dataclass(frozen=True, slots=True)
class AuditParts:
    """The audit in Dagster; `schedules` is empty when the file says so."""

    asset: dg.AssetsDefinition
    job: Any  # Dagster has no public name for the type of an asset job
    schedules: tuple[dg.ScheduleDefinition, ...]


def build_audit(pipeline: Pipeline) -> AuditParts:
    """Return asset, job and schedule of a pipeline's audit."""
    job_name = names.audit_job_name(pipeline.name)
    key = names.audit_key(pipeline)

    @dg.asset(
        key=key,
        deps=[names.table_key(pipeline), names.dead_letter_key(pipeline)],
        description=(
            f"Proof that the rows of {pipeline.table.identifier} are those that the ledger in the "
            "table claims: each offset once, none beside. Reads what was committed since the last "
            "audit; `full: true` reads everything."
        ),
        group_name=names.dagster_name(pipeline.name),
        kinds={"duckdb", "iceberg"},
        owners=list(pipeline.orchestration.owners),
        tags=dict(pipeline.orchestration.tags),
        metadata={"audit job": job_name},
        check_specs=[
            dg.AssetCheckSpec(name, asset=key, description=description)
            for name, description in CHECKS.items()
        ],
        config_schema={
            "full": dg.Field(
                bool,
                default_value=False,
                description="Read all rows, not only those committed since the last audit.",
            )
        },
    )
    def audit_asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from k2i_dagster.running.audit_run import audit

        is_full = bool(context.op_execution_context.op_config["full"])
        return audit(context, pipeline, is_full=is_full)

    job = dg.define_asset_job(
        job_name,
        selection=dg.AssetSelection.assets(key),
        executor_def=dg.in_process_executor,
        description=f"Audits the rows of {pipeline.table.identifier} with DuckDB.",
        tags={
            names.PIPELINE_TAG: pipeline.name,
            names.MAINTENANCE_TAG: names.worker_tag(pipeline.name, "audit"),
        },
    )
    return AuditParts(audit_asset, job, _schedules(pipeline, job))


def _schedules(
    pipeline: Pipeline,
    job: Any,  # noqa: ANN401 - see AuditParts.job
) -> tuple[dg.ScheduleDefinition, ...]:
    cron = pipeline.orchestration.audit_schedule
    if cron is None:
        return ()
    return (
        dg.ScheduleDefinition(
            name=names.audit_schedule_name(pipeline.name),
            job=job,
            cron_schedule=cron,
            default_status=dg.DefaultScheduleStatus.RUNNING,
        ),
    )
