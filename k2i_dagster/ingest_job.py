"""The job whose runs are a pipeline's workers: one run per worker, long, rolled over in time."""

import dagster as dg

from k2i_core.config import Pipeline
from k2i_dagster import names

MINUTES_MAX = 7 * 24 * 60.0
"""A run that lasts longer has a page too slow to open."""


def build_ingest_job(pipeline: Pipeline) -> dg.JobDefinition:
    """Return the ingest job of a pipeline."""
    job_name = names.ingest_job_name(pipeline.name)

    @dg.op(
        name=f"{job_name}_worker",
        description="Runs one worker: reads its Kafka partitions and commits them to the table.",
        out=dg.Out(dg.Nothing),
        config_schema={
            "worker": dg.Field(
                int,
                default_value=0,
                description=f"Which worker, from 0; the pipeline has {pipeline.workers}.",
            ),
            "max_run_minutes": dg.Field(
                float,
                default_value=pipeline.orchestration.max_run_minutes,
                description=(
                    "After this long the run ends with a last flush, and the keep-alive sensor "
                    "launches the next one, so that no run's page grows without end."
                ),
            ),
        },
    )
    def ingest_op(context: dg.OpExecutionContext) -> None:
        from k2i_core.interrupts import interrupts_held_back

        with interrupts_held_back():  # a library that is being imported may swallow one
            from k2i_dagster.running.ingest_run import ingest

        worker, minutes = int(context.op_config["worker"]), context.op_config["max_run_minutes"]
        if worker < 0 or not 0 < minutes <= MINUTES_MAX:
            message = (
                f"config: worker={worker} must not be negative, max_run_minutes={minutes} must be "
                f"above 0 and at most {MINUTES_MAX:.0f}"
            )
            raise dg.Failure(message, allow_retries=False)
        ingest(context, pipeline=pipeline, worker=worker, max_run_minutes=float(minutes))

    @dg.job(
        name=job_name,
        executor_def=dg.in_process_executor,
        description=(
            f"Workers of pipeline {pipeline.name}: each run reads one worker's share of the Kafka "
            f"partitions into {pipeline.table.identifier}. "
            f"{names.keep_alive_name(pipeline.name)} launches them; terminate a run to pause its "
            "worker, launch one to go on."
        ),
        tags=job_tags(pipeline),
        metadata={
            "table": dg.MetadataValue.asset(names.table_key(pipeline)),
            "dead letters": dg.MetadataValue.asset(names.dead_letter_key(pipeline)),
        },
    )
    def ingest_job() -> None:
        ingest_op.alias(names.INGEST_NODE)()

    return ingest_job


def job_tags(pipeline: Pipeline) -> dict[str, str]:
    """Return tags of every run of the job.

    With one worker they name it, so that a second run waits in Dagster's queue; with several only
    the config of a run tells which worker it is.
    """
    tags = {names.PIPELINE_TAG: pipeline.name}
    if pipeline.workers == 1:
        tags[names.WORKER_TAG] = names.worker_tag(pipeline.name, 0)
    return tags
