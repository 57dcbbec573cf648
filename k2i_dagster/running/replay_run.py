"""The body of a replay run: make rows of dead letters, and tell what each reason has left."""

from typing import Any

import dagster as dg

from k2i_core.config import Pipeline
from k2i_core.dead_letters.groups import LetterGroup
from k2i_core.dead_letters.reading import Selection
from k2i_core.dead_letters.replay import ReplayReport
from k2i_core.dead_letters.states import LetterState
from k2i_core.errors import K2iError
from k2i_core.wiring.dead_letters import look_at, replay
from k2i_dagster import names
from k2i_dagster.running.failures import failure_of

REASONS_MAX = 200
"""Reasons that are told of in one run, those with the most open dead letters first. More makes a
run's page slow; whoever has more has one reason with changing words."""


def replay_dead_letters(
    context: dg.OpExecutionContext,
    *,
    pipeline: Pipeline,
    fingerprint: str | None,
    is_dry_run: bool,
) -> None:
    """Replay, and bring the asset of the reasons up to date.

    Raises:
        Failure: Nothing could be replayed; the message says why and what to do.

    """
    try:
        report = replay(pipeline, Selection(fingerprint), dry_run=is_dry_run)
        now = look_at(pipeline)
    except K2iError as error:
        raise failure_of(error) from None
    context.log.info(_summary(report, pipeline))
    groups = now.groups() if now else []
    known = set(context.instance.get_dynamic_partitions(names.fingerprints_name(pipeline.label)))
    told = [g for g in groups if g.listed_count or g.fingerprint in known][:REASONS_MAX]
    if len(groups) > REASONS_MAX:
        context.log.warning(f"{len(groups):,} reasons, of which {REASONS_MAX} are shown")
    context.instance.add_dynamic_partitions(
        names.fingerprints_name(pipeline.label), [group.fingerprint for group in told]
    )
    for group in told:
        context.log_event(
            dg.AssetMaterialization(
                names.dead_letter_reasons_key(pipeline),
                partition=group.fingerprint,
                metadata=_metadata(group, report),
            )
        )


def _summary(report: ReplayReport, pipeline: Pipeline) -> str:
    would = "would become" if report.is_dry_run else "became"
    failing = ", ".join(f"{name}: {count:,}" for name, count in report.still_failing.items())
    columns = f"; new columns {', '.join(report.new_columns)}" if report.new_columns else ""
    return (
        f"{report.replayed_count:,} of {report.selected_count:,} dead letters {would} rows of "
        f"{pipeline.table.identifier}{columns}; still failing: {failing or 'none'}"
    )


def _metadata(group: LetterGroup, report: ReplayReport) -> dict[str, Any]:
    topic_partition, offset = group.example
    return {
        **{state.value: group.counts[state] for state in LetterState},
        "error_class": group.error_class,
        "stage": group.stage,
        "message": group.message,
        "first_seen": dg.MetadataValue.timestamp(group.first_seen_ms / 1000),
        "last_seen": dg.MetadataValue.timestamp(group.last_seen_ms / 1000),
        "example": f"{topic_partition} offset {offset}",
        **({"snapshot_id": str(report.snapshot_id)} if report.snapshot_id else {}),
    }
