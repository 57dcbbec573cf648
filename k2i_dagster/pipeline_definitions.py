"""All definitions of pipelines: assets, jobs, schedules, sensors, checks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dagster as dg

from k2i_core.clock import Clock, SystemClock
from k2i_core.config import Pipeline
from k2i_dagster.assets import dead_letter_spec, table_spec, topic_specs
from k2i_dagster.audit_job import AuditParts, build_audit, build_full_audit
from k2i_dagster.backfill_job import build_backfill_job
from k2i_dagster.ingest_job import build_ingest_job
from k2i_dagster.keep_alive_sensor import build_keep_alive_sensor
from k2i_dagster.light_checks import build_light_checks
from k2i_dagster.maintenance_jobs import MaintenanceParts, build_maintenance
from k2i_dagster.replay_job import ReplayParts, build_replay


@dataclass(frozen=True, slots=True)
class TableParts:
    """What one table beside the lead is in Dagster, where a pipeline has several."""

    table: dg.AssetSpec
    checks: tuple[dg.AssetChecksDefinition, ...]
    replay: ReplayParts
    audits: tuple[AuditParts, AuditParts]


@dataclass(frozen=True, slots=True)
class PipelineParts:
    """What one pipeline is in Dagster.

    Attributes:
        topics: Apart from the rest, because pipelines may share a topic.
        others: Tables beside the lead that the file names; ingestion and maintenance are one job
            for all tables, those too that records made.
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
    others: tuple[TableParts, ...] = ()

    @property
    def job_names(self) -> tuple[str, ...]:
        """Of the jobs whose runs add up."""
        audits = (audit.job.name for audit in self.audits)
        maintenance = self.maintenance.job_names
        own = self.ingest_job.name, self.backfill_job.name, self.replay_job.name
        replays = (other.replay.job.name for other in self.others)
        return *own, *audits, *replays, *maintenance

    @property
    def audits(self) -> tuple[AuditParts, ...]:
        """The two of them, of every table."""
        others = (audit for other in self.others for audit in other.audits)
        return self.audit, self.full_audit, *others


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
    clock = clock or SystemClock()
    ingest_job = build_ingest_job(pipeline)
    lead, *others = pipeline.declared_tables
    replay = build_replay(lead)
    return PipelineParts(
        topics=topic_specs(pipeline),
        tables=(table_spec(lead), dead_letter_spec(pipeline), replay.asset),
        checks=tuple(build_light_checks(lead, clock)),
        ingest_job=ingest_job,
        backfill_job=build_backfill_job(pipeline),
        replay_job=replay.job,
        audit=build_audit(lead),
        full_audit=build_full_audit(lead),
        maintenance=build_maintenance(pipeline, clock),
        keep_alive=build_keep_alive_sensor(pipeline, ingest_job, clock, read_again),
        others=tuple(_table_parts(other, clock) for other in others),
    )


def _table_parts(alone: Pipeline, clock: Clock) -> TableParts:
    return TableParts(
        table_spec(alone),
        tuple(build_light_checks(alone, clock)),
        build_replay(alone),
        (build_audit(alone), build_full_audit(alone)),
    )


def combined(parts: Sequence[PipelineParts]) -> dg.Definitions:
    """Return the definitions of several pipelines, with one asset for a topic that they share."""
    topics = {tuple(spec.key.path): spec for one in reversed(parts) for spec in one.topics}
    return dg.Definitions(
        assets=[
            *(topics[path] for path in sorted(topics)),
            *(spec for one in parts for spec in one.tables),
            *(
                s
                for one in parts
                for other in one.others
                for s in (other.table, other.replay.asset)
            ),
            *(audit.asset for one in parts for audit in one.audits),
            *(asset for one in parts for asset in one.maintenance.assets),
        ],
        asset_checks=[
            *(check for one in parts for check in one.checks),
            *(check for one in parts for other in one.others for check in other.checks),
        ],
        jobs=[
            job
            for one in parts
            for job in (
                one.ingest_job,
                one.backfill_job,
                one.replay_job,
                *(other.replay.job for other in one.others),
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
