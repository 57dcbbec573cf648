"""All definitions of pipelines: assets, jobs, schedules, sensors, checks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dagster as dg

from k2i_core.clock import Clock, SystemClock
from k2i_core.config import Pipeline
from k2i_core.errors import ConfigError, ErrorKind
from k2i_dagster.assets import dead_letter_spec, table_spec, topic_specs
from k2i_dagster.audit_job import AuditParts, build_audit, build_full_audit
from k2i_dagster.backfill_job import build_backfill_job
from k2i_dagster.ingest_job import build_ingest_job
from k2i_dagster.keep_alive_sensor import build_keep_alive_sensor
from k2i_dagster.light_checks import build_light_checks
from k2i_dagster.maintenance_jobs import MaintenanceParts, build_maintenance
from k2i_dagster.replay_job import build_replay


@dataclass(frozen=True, slots=True)
class PipelineParts:
    """What one pipeline is in Dagster.

    Attributes:
        topics: Apart from the rest, because pipelines may share a topic.
    """

    topics: tuple[dg.AssetSpec, ...]
    tables: tuple[dg.AssetSpec, ...]
    checks: tuple[dg.AssetChecksDefinition, ...]
    ingest_job: dg.JobDefinition
    backfill_job: dg.JobDefinition
    replay_job: dg.JobDefinition
    audit: AuditParts
    full_audit: AuditParts
    maintenance: MaintenanceParts
    keep_alive: dg.SensorDefinition

    @property
    def job_names(self) -> tuple[str, ...]:
        """Of the jobs whose runs add up."""
        audits = (audit.job.name for audit in self.audits)
        maintenance = self.maintenance.job_names
        own = self.ingest_job.name, self.backfill_job.name, self.replay_job.name
        return *own, *audits, *maintenance

    @property
    def audits(self) -> tuple[AuditParts, ...]:
        """The two of them."""
        return self.audit, self.full_audit


def build_pipeline_definitions(*pipelines: Pipeline) -> dg.Definitions:
    """Return the definitions of one or several pipelines, for a code location of your own.

    Give pipelines that read one topic in one call: it is one asset of all of them. Merging two
    results is fine for others.

    Args:
        pipelines: From `k2i_core.config.load_pipeline` or `parse_pipeline`.

    """
    return combined([build_parts(pipeline) for pipeline in pipelines])


def build_parts(
    pipeline: Pipeline,
    *,
    clock: Clock | None = None,
    read_again: Callable[[], Pipeline] | None = None,
) -> PipelineParts:
    """Return what one pipeline is made of.

    Args:
        pipeline: Its settings.
        clock: For heartbeats and checks.
        read_again: Reads the settings as they are now; None where there is no file.

    """
    if pipeline.tables:
        message = f"pipeline {pipeline.name}: tables: is not supported yet in Dagster"
        raise ConfigError(message, kind=ErrorKind.NOT_SUPPORTED_YET)
    clock = clock or SystemClock()
    ingest_job = build_ingest_job(pipeline)
    replay = build_replay(pipeline)
    return PipelineParts(
        topics=topic_specs(pipeline),
        tables=(table_spec(pipeline), dead_letter_spec(pipeline), replay.asset),
        checks=tuple(build_light_checks(pipeline, clock)),
        ingest_job=ingest_job,
        backfill_job=build_backfill_job(pipeline),
        replay_job=replay.job,
        audit=build_audit(pipeline),
        full_audit=build_full_audit(pipeline),
        maintenance=build_maintenance(pipeline, clock),
        keep_alive=build_keep_alive_sensor(pipeline, ingest_job, clock, read_again),
    )


def combined(parts: Sequence[PipelineParts]) -> dg.Definitions:
    """Return the definitions of several pipelines, with one asset for a topic that they share."""
    topics = {tuple(spec.key.path): spec for one in reversed(parts) for spec in one.topics}
    return dg.Definitions(
        assets=[
            *(topics[path] for path in sorted(topics)),
            *(spec for one in parts for spec in one.tables),
            *(audit.asset for one in parts for audit in one.audits),
            *(asset for one in parts for asset in one.maintenance.assets),
        ],
        asset_checks=[check for one in parts for check in one.checks],
        jobs=[
            job
            for one in parts
            for job in (
                one.ingest_job,
                one.backfill_job,
                one.replay_job,
                *(audit.job for audit in one.audits),
                *one.maintenance.jobs,
            )
        ],
        schedules=[
            *(s for one in parts for audit in one.audits for s in audit.schedules),
            *(s for one in parts for s in one.maintenance.schedules),
        ],
        sensors=[one.keep_alive for one in parts],
    )
