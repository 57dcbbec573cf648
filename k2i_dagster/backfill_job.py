"""The job that ingests a bounded part of the topics and ends: for schedules, not for streaming."""

import dagster as dg

from k2i_core.config import Pipeline
from k2i_dagster import names

_OFFSETS = (
    "Topic → Kafka partition → [start, end]; either may be null. Those not named end where their "
    "log ends now."
)
_TIMESTAMPS = (
    "{start: …, end: …}: ISO 8601 with a zone, or milliseconds since 1970; either may be left out."
)


def build_backfill_job(pipeline: Pipeline) -> dg.JobDefinition:
    """Return the backfill job of a pipeline."""
    job_name = names.backfill_job_name(pipeline.name)

    @dg.op(
        name=f"{job_name}_worker",
        description="Reads every Kafka partition up to an end and commits it to the table.",
        out=dg.Out(dg.Nothing),
        config_schema={
            "offsets": dg.Field(
                dg.Noneable(dg.Permissive()), default_value=None, description=_OFFSETS
            ),
            "timestamps": dg.Field(
                dg.Noneable(dg.Permissive()), default_value=None, description=_TIMESTAMPS
            ),
        },
    )
    def backfill_op(context: dg.OpExecutionContext) -> None:
        from k2i_core.interrupts import interrupts_held_back

        with interrupts_held_back():  # a library that is being imported may swallow one
            from k2i_dagster.running.backfill_run import backfill

        backfill(
            context,
            pipeline=pipeline,
            offsets=context.op_config["offsets"],
            timestamps=context.op_config["timestamps"],
        )

    @dg.job(
        name=job_name,
        executor_def=dg.in_process_executor,
        description=(
            f"Ingests pipeline {pipeline.name} from its checkpoint to where the topics end now, or "
            "to configured offsets or a time, and ends. For scheduled batch use; refuses to start "
            f"while workers of {names.ingest_job_name(pipeline.name)} run."
        ),
        tags={
            names.PIPELINE_TAG: pipeline.name,
            names.WORKER_TAG: names.worker_tag(pipeline.name, names.BACKFILL_SLOT),
        },
        metadata={"table": dg.MetadataValue.asset(names.table_key(pipeline))},
    )
    def backfill_job() -> None:
        backfill_op.alias(names.BACKFILL_NODE)()

    return backfill_job
