"""What everything of a pipeline is called in Dagster: asset keys, jobs, sensors, tags.

Dagster's names allow no hyphen, so a pipeline's name is written with underscores in them; tags
carry it as it is.
"""

import dagster as dg

from k2i_core.audit.catalogue import specs_of
from k2i_core.config import Pipeline

PIPELINE_TAG = "k2i/pipeline"
WORKER_TAG = "k2i/worker"
WORKERS_TAG = "k2i/workers"
HEARTBEAT_TAG = "k2i/heartbeat"
STOP_TAG = "k2i/stop"
PAUSED_TAG = "k2i/paused"
MAINTENANCE_TAG = "k2i/maintenance"
REASON_TAG = "k2i/reason"

CLEAN_UP_JOB = "clean_ingest_runs"
CLEAN_UP_SCHEDULE = "clean_ingest_runs_weekly"
BROKEN_SENSOR = "broken_pipelines"
BROKEN_GROUP = "broken_pipelines"
BROKEN_PREFIX = "k2i_broken_pipelines"

INGEST_PREFIX = "ingest_"
BACKFILL_PREFIX = "backfill_"
BACKFILL_SLOT = "backfill"

INGEST_NODE = "ingest"
"""How the op is called in a run's config: `ops: {ingest: {config: {worker: 0}}}`."""
BACKFILL_NODE = "backfill"
CLEAN_UP_NODE = "clean_up"
REPLAY_NODE = "replay"

HEALTH = "health"
HELD_BACK = "not_held_back"
AUDIT_SLOT = "audit"
MAINTENANCE_SLOT = "tables"
"""Of `k2i/maintenance`: all steps of a pipeline share it, so that one works at a time."""

OFFSET_CONTIGUITY = "offset_contiguity"
LAG = "lag"
DEAD_LETTER_RATE = "dead_letter_rate"
SCHEMA = "schema"
LIGHT_CHECKS = (DEAD_LETTER_RATE, LAG, OFFSET_CONTIGUITY, SCHEMA)
TABLE_CHECKS = (DEAD_LETTER_RATE, OFFSET_CONTIGUITY, SCHEMA)
"""Of a table beside the lead: when nothing was for it, its checkpoint says nothing of lag."""


def dagster_name(pipeline_name: str) -> str:
    """Return a pipeline's name as part of Dagster's names."""
    return pipeline_name.replace("-", "_")


def ingest_job_name(pipeline_name: str) -> str:
    """Return the name of the job whose runs are the pipeline's workers."""
    return INGEST_PREFIX + dagster_name(pipeline_name)


def backfill_job_name(pipeline_name: str) -> str:
    """Return the name of the job that ingests a bounded part and ends."""
    return BACKFILL_PREFIX + dagster_name(pipeline_name)


def audit_job_name(pipeline_name: str) -> str:
    """Return the name of the job that audits what came into the committed table."""
    return f"audit_{dagster_name(pipeline_name)}"


def full_audit_job_name(pipeline_name: str) -> str:
    """Return the name of the job that audits all of the committed table."""
    return f"full_audit_{dagster_name(pipeline_name)}"


def replay_job_name(pipeline_name: str) -> str:
    """Return the name of the job that makes rows of dead letters."""
    return f"replay_dead_letters_{dagster_name(pipeline_name)}"


def fingerprints_name(pipeline_name: str) -> str:
    """Return the name of the partitions by reason."""
    return f"{dagster_name(pipeline_name)}_dead_letter_fingerprints"


def keep_alive_name(pipeline_name: str) -> str:
    """Return the name of the sensor that keeps the workers running."""
    return f"keep_alive_{dagster_name(pipeline_name)}"


def worker_tag(pipeline_name: str, slot: int | str) -> str:
    """Return the value of `k2i/worker`: at most one run with it is wanted at a time."""
    return f"{pipeline_name}-{slot}"


def table_key(pipeline: Pipeline) -> dg.AssetKey:
    """Return the asset key of the target table."""
    return dg.AssetKey(pipeline.table.identifier.split("."))


def dead_letter_key(pipeline: Pipeline) -> dg.AssetKey:
    """Return the asset key of the dead-letter table."""
    return dg.AssetKey(pipeline.dead_letter_table.split("."))


def dead_letter_reasons_key(pipeline: Pipeline) -> dg.AssetKey:
    """Return the asset key of the dead letters by reason."""
    if not pipeline.leads:
        return dg.AssetKey([*pipeline.table.identifier.split("."), "dead_letters"])
    return dg.AssetKey([*pipeline.dead_letter_table.split("."), "reasons"])


def audit_key(pipeline: Pipeline) -> dg.AssetKey:
    """Return the asset key of the audit of the target table."""
    return dg.AssetKey([*pipeline.table.identifier.split("."), "audit"])


def maintenance_key(pipeline: Pipeline, step_name: str) -> dg.AssetKey:
    """Return the asset key of a maintenance step of the tables, or of their health."""
    return dg.AssetKey([*pipeline.table.identifier.split("."), step_name])


def maintenance_node(pipeline: Pipeline, step_name: str) -> str:
    """Return how a step is called in a run's config, as Dagster itself would call it."""
    return "__".join(maintenance_key(pipeline, step_name).path)


def maintenance_job_name(pipeline_name: str, verb: str) -> str:
    """Return the name of a maintenance step's job."""
    return f"{verb}_{dagster_name(pipeline_name)}"


def schedule_name(job_name: str) -> str:
    """Return the name of a job's schedule."""
    return f"{job_name}_schedule"


def full_audit_key(pipeline: Pipeline) -> dg.AssetKey:
    """Return the asset key of the audit that reads all of the target table."""
    return dg.AssetKey([*pipeline.table.identifier.split("."), "full_audit"])


def light_checks(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the checks that are evaluated beside every materialization of the table."""
    return LIGHT_CHECKS if pipeline.leads else TABLE_CHECKS


def check_keys(pipeline: Pipeline) -> tuple[dg.AssetCheckKey, ...]:
    """Return the keys of all checks that judge the tables that a pipeline names."""
    return tuple(key for alone in pipeline.declared_tables for key in _check_keys(alone))


def _check_keys(pipeline: Pipeline) -> tuple[dg.AssetCheckKey, ...]:
    light = [dg.AssetCheckKey(table_key(pipeline), name) for name in light_checks(pipeline)]
    deep = [
        dg.AssetCheckKey(key, spec.name)
        for key, is_full in ((audit_key(pipeline), False), (full_audit_key(pipeline), True))
        for spec in specs_of(pipeline, is_full=is_full)
    ]
    return (*light, *deep)


def topic_keys(pipeline: Pipeline) -> tuple[dg.AssetKey, ...]:
    """Return one asset key for each topic; a pattern is one asset, named after the pipeline."""
    if pipeline.kafka.topics:
        return tuple(dg.AssetKey(["kafka", topic]) for topic in pipeline.kafka.topics)
    return (dg.AssetKey(["kafka", pipeline.name]),)
