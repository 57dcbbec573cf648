"""The job that makes rows of dead letters, and the asset that shows them by reason.

The asset has one partition for each fingerprint. External, like the tables: the job reports what it
found and did for each reason, in whatever run it was.
"""

from dataclasses import dataclass

import dagster as dg

from k2i_core.config import Pipeline
from k2i_dagster import names


@dataclass(frozen=True, slots=True)
class ReplayParts:
    """Replay in Dagster."""

    asset: dg.AssetSpec
    job: dg.JobDefinition


def build_replay(pipeline: Pipeline) -> ReplayParts:
    """Return the asset and the job of a pipeline's dead letters."""
    job_name = names.replay_job_name(pipeline.label)

    @dg.op(
        name=f"{job_name}_op",
        description="Decodes dead letters again; what decodes today becomes rows, each once.",
        out=dg.Out(dg.Nothing),
        config_schema={
            "fingerprint": dg.Field(
                dg.Noneable(str),
                default_value=None,
                description="Only those that failed for this reason; null for all.",
            ),
            "dry_run": dg.Field(
                bool,
                default_value=False,
                description="Only show what would become rows, and bring the asset up to date.",
            ),
        },
    )
    def replay_op(context: dg.OpExecutionContext) -> None:
        from k2i_core.interrupts import interrupts_held_back

        with interrupts_held_back():  # a library that is being imported may swallow one
            from k2i_dagster.running.replay_run import replay_dead_letters

        replay_dead_letters(
            context,
            pipeline=pipeline,
            fingerprint=context.op_config["fingerprint"],
            is_dry_run=bool(context.op_config["dry_run"]),
        )

    @dg.job(
        name=job_name,
        executor_def=dg.in_process_executor,
        description=(
            f"Decodes the dead letters of {pipeline.table.identifier} again, by today's columns "
            "and settings. What decodes becomes rows, each exactly once, beside running workers "
            "and however often it runs."
        ),
        tags={
            names.PIPELINE_TAG: pipeline.name,
            names.MAINTENANCE_TAG: names.worker_tag(pipeline.name, names.REPLAY_NODE),
        },
        metadata={"table": dg.MetadataValue.asset(names.table_key(pipeline))},
    )
    def replay_job() -> None:
        replay_op.alias(names.REPLAY_NODE)()

    asset = dg.AssetSpec(
        names.dead_letter_reasons_key(pipeline),
        deps=[names.dead_letter_key(pipeline)],
        description=(
            f"Dead letters of {pipeline.table.identifier} by reason, one partition for each "
            f"fingerprint: how many are open, replayed and dropped. Brought up to date by job "
            f"{job_name}, which makes rows of them."
        ),
        group_name=names.dagster_name(pipeline.name),
        kinds={"iceberg"},
        owners=list(pipeline.orchestration.owners),
        tags=dict(pipeline.orchestration.tags),
        metadata={"replay job": job_name},
        partitions_def=dg.DynamicPartitionsDefinition(name=names.fingerprints_name(pipeline.label)),
    )
    return ReplayParts(asset, replay_job)
