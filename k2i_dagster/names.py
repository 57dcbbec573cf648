"""What everything of a pipeline is called in Dagster: asset keys, jobs, sensors, tags.

Dagster's names allow no hyphen, so a pipeline's name is written with underscores in them; tags
carry it as it is.
"""

import dagster as dg

from k2i_core.config import Pipeline

PIPELINE_TAG = "k2i/pipeline"
WORKER_TAG = "k2i/worker"
WORKERS_TAG = "k2i/workers"
HEARTBEAT_TAG = "k2i/heartbeat"
STOP_TAG = "k2i/stop"
MAINTENANCE_TAG = "k2i/maintenance"

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

OFFSET_CONTIGUITY = "offset_contiguity"
LAG = "lag"
DEAD_LETTER_RATE = "dead_letter_rate"
SCHEMA = "schema"
LIGHT_CHECKS = (DEAD_LETTER_RATE, LAG, OFFSET_CONTIGUITY, SCHEMA)


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
    """Return the name of the job that audits the committed table."""
    return f"audit_{dagster_name(pipeline_name)}"


def audit_schedule_name(pipeline_name: str) -> str:
    """Return the name of the audit job's schedule."""
    return f"{audit_job_name(pipeline_name)}_schedule"


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
    return dg.AssetKey([*pipeline.dead_letter_table.split("."), "reasons"])


def audit_key(pipeline: Pipeline) -> dg.AssetKey:
    """Return the asset key of the audit of the target table."""
    return dg.AssetKey([*pipeline.table.identifier.split("."), "audit"])


def topic_keys(pipeline: Pipeline) -> tuple[dg.AssetKey, ...]:
    """Return one asset key for each topic; a pattern is one asset, named after the pipeline."""
    if pipeline.kafka.topics:
        return tuple(dg.AssetKey(["kafka", topic]) for topic in pipeline.kafka.topics)
    return (dg.AssetKey(["kafka", pipeline.name]),)
