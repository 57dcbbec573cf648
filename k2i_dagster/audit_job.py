"""The audits of a pipeline's table, read with DuckDB, in assets of their own.

Of their own, because a check of the table itself counts as outdated at the next flush. `audit`
looks at what came since the last one and runs every few minutes; `full_audit` looks at all of the
table, once a day. An error fails the run, so that nothing behind it in the same run goes on; what
`audit` finds is found again until it is settled.
"""

from dataclasses import dataclass
from typing import Any

import dagster as dg

from k2i_core.audit.catalogue import specs_of
from k2i_core.config import Pipeline
from k2i_dagster import names


@dataclass(frozen=True, slots=True)
class AuditParts:
    """One audit in Dagster; `schedules` is empty when the file says so."""

    asset: dg.AssetsDefinition
    job: Any  # Dagster has no public name for the type of an asset job
    schedules: tuple[dg.ScheduleDefinition, ...]


@dataclass(frozen=True, slots=True)
class _Audit:
    """How one of the two audits differs from the other."""

    key: dg.AssetKey
    job_name: str
    is_full: bool
    description: str
    fields: dict[str, dg.Field]
    cron: str | None


def build_audit(pipeline: Pipeline) -> AuditParts:
    """Return asset, job and schedule of the audit of what is new."""
    return _build(
        pipeline,
        _Audit(
            names.audit_key(pipeline),
            names.audit_job_name(pipeline.label),
            is_full=False,
            description=f"Proof that what came into {pipeline.table.identifier} since the last "
            "audit is right: history, files, manifests, footers, columns, rewrites, and the rows "
            "against the ledger in the table.",
            fields={
                "full": dg.Field(
                    bool,
                    default_value=False,
                    description="Begin anew: look at everything, not only at what is new.",
                ),
                "accept": dg.Field(
                    bool,
                    default_value=False,
                    description="Let the next audit begin here, whatever this one finds: for "
                    "faults that were looked into and cannot be undone.",
                ),
            },
            cron=pipeline.orchestration.audit_schedule,
        ),
    )


def build_full_audit(pipeline: Pipeline) -> AuditParts:
    """Return asset, job and schedule of the audit of everything."""
    return _build(
        pipeline,
        _Audit(
            names.full_audit_key(pipeline),
            names.full_audit_job_name(pipeline.label),
            is_full=True,
            description=f"Proof that all of {pipeline.table.identifier} is right: what the audit "
            "asks, of every file and row, and what costs as much as the table is large.",
            fields={},
            cron=pipeline.orchestration.full_audit_schedule,
        ),
    )


def _build(pipeline: Pipeline, audit: _Audit) -> AuditParts:
    @dg.asset(
        key=audit.key,
        deps=[names.table_key(pipeline), names.dead_letter_key(pipeline)],
        description=audit.description,
        group_name=names.dagster_name(pipeline.name),
        kinds={"duckdb", "iceberg"},
        owners=list(pipeline.orchestration.owners),
        tags=dict(pipeline.orchestration.tags),
        metadata={"audit job": audit.job_name},
        check_specs=[
            dg.AssetCheckSpec(
                spec.name,
                asset=audit.key,
                description=f"{spec.question} When it fails: {spec.remedy}.",
                blocking=spec.is_error,
            )
            for spec in specs_of(pipeline, is_full=audit.is_full)
        ],
        config_schema=audit.fields,
    )
    def audit_asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from k2i_dagster.running.audit_run import AuditOptions, run_audit

        chosen: dict[str, bool] = context.op_execution_context.op_config or {}
        options = AuditOptions(
            is_full=audit.is_full,
            begins_anew=audit.is_full or bool(chosen.get("full")),
            is_accepted=bool(chosen.get("accept")),
        )
        return run_audit(context, pipeline, options)

    job = dg.define_asset_job(
        audit.job_name,
        selection=dg.AssetSelection.assets(audit.key),
        executor_def=dg.in_process_executor,
        description=audit.description,
        tags={
            names.PIPELINE_TAG: pipeline.name,
            # The same for both, so that they do not read the table at the same time.
            names.MAINTENANCE_TAG: names.worker_tag(pipeline.name, names.AUDIT_SLOT),
        },
    )
    return AuditParts(audit_asset, job, _schedules(audit, job))


def _schedules(
    audit: _Audit,
    job: Any,  # noqa: ANN401 - see AuditParts.job
) -> tuple[dg.ScheduleDefinition, ...]:
    if audit.cron is None:
        return ()
    return (
        dg.ScheduleDefinition(
            name=f"{audit.job_name}_schedule",
            job=job,
            cron_schedule=audit.cron,
            default_status=dg.DefaultScheduleStatus.RUNNING,
        ),
    )
