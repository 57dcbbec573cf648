"""A pipeline's assets: topics → table and dead letters. External ones, fed by the ingest job.

External, because a worker run has no end that could be "the" materialization: it reports one for
every few flushes. Loading them needs the pipeline file and nothing else.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from k2i_core.config import Pipeline
from k2i_core.schema.iceberg_types import IcebergField
from k2i_core.schema.type_texts import type_text
from k2i_dagster import names

COLUMN_SCHEMA = "dagster/column_schema"


def topic_specs(pipeline: Pipeline) -> tuple[dg.AssetSpec, ...]:
    """Return one asset for each topic, or one for the pattern."""
    section = pipeline.kafka
    described = [f"Kafka topic {topic}." for topic in section.topics or ()] or [
        f"Kafka topics whose name matches {section.topic_pattern}."
    ]
    return tuple(
        dg.AssetSpec(
            key,
            description=description,
            group_name=names.dagster_name(pipeline.name),
            kinds={"kafka"},
            owners=list(pipeline.orchestration.owners),
            tags=dict(pipeline.orchestration.tags),
            metadata={"format": pipeline.format.value},
        )
        for key, description in zip(names.topic_keys(pipeline), described, strict=True)
    )


def table_spec(pipeline: Pipeline) -> dg.AssetSpec:
    """Return the target table."""
    columns = pipeline.declared_columns()
    metadata: dict[str, Any] = _job_metadata(pipeline)
    if columns is not None:
        metadata[COLUMN_SCHEMA] = table_schema(columns)
    return dg.AssetSpec(
        names.table_key(pipeline),
        deps=list(names.topic_keys(pipeline)),
        description=_table_description(pipeline, columns),
        metadata=metadata,
        freshness_policy=_freshness_policy(pipeline),
        **_common(pipeline, "iceberg"),
    )


def dead_letter_spec(pipeline: Pipeline) -> dg.AssetSpec:
    """Return the dead-letter table."""
    return dg.AssetSpec(
        names.dead_letter_key(pipeline),
        deps=list(names.topic_keys(pipeline)),
        description=(
            f"Records of pipeline {pipeline.name} that cannot become rows of "
            f"{pipeline.table.identifier}: their bytes, where they stand in Kafka, and what is "
            "wrong with them."
        ),
        metadata=_job_metadata(pipeline),
        **_common(pipeline, "iceberg"),
    )


def table_schema(columns: Iterable[IcebergField]) -> dg.TableSchema:
    """Return columns as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                type_text(column.type),
                column.doc,
                dg.TableColumnConstraints(nullable=not column.required),
            )
            for column in columns
        ]
    )


def _common(pipeline: Pipeline, kind: str) -> dict[str, Any]:
    return {
        "group_name": names.dagster_name(pipeline.name),
        "kinds": {kind},
        "owners": list(pipeline.orchestration.owners),
        "tags": dict(pipeline.orchestration.tags),
    }


def _job_metadata(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "ingest job": names.ingest_job_name(pipeline.name),
        "backfill job": names.backfill_job_name(pipeline.name),
        "kept alive by": names.keep_alive_name(pipeline.name),
    }


def _table_description(pipeline: Pipeline, columns: tuple[IcebergField, ...] | None) -> str:
    sources = ", ".join("/".join(key.path[1:]) for key in names.topic_keys(pipeline))
    first = (
        f"Rows of Kafka topic {sources}, each exactly once. Written by job "
        f"{names.ingest_job_name(pipeline.name)}, which {names.keep_alive_name(pipeline.name)} "
        "keeps alive."
    )
    # Declared ones stand in the metadata, which has a panel of its own.
    return (
        first if columns is not None else f"{first}\n\nColumns are inferred from the first records."
    )


def _freshness_policy(pipeline: Pipeline) -> dg.FreshnessPolicy | None:
    freshness = pipeline.monitoring.freshness
    windows: Mapping[str, timedelta] = {
        name: timedelta(seconds=seconds)
        for name, seconds in (("warn", freshness.warn), ("fail", freshness.fail))
        if seconds is not None
    }
    # A table beside the lead may get nothing for days, and be as fresh as the topic.
    if "fail" not in windows or not pipeline.leads:
        return None
    return dg.FreshnessPolicy.time_window(
        fail_window=windows["fail"], warn_window=windows.get("warn")
    )
