"""The body of an audit run: look at what came since the last audit, and say what was found."""

from dataclasses import dataclass
from typing import Any

import dagster as dg

from k2i_core.audit.audit_state import AuditState, read_state
from k2i_core.audit.catalogue import specs_of
from k2i_core.audit.row_audit import AuditAnswer
from k2i_core.clock import SystemClock
from k2i_core.config import Pipeline
from k2i_core.errors import K2iError
from k2i_core.wiring.table_audit import TableAudit, audit_table
from k2i_dagster import names
from k2i_dagster.running.failures import failure_of
from k2i_dagster.running.heartbeat import Heartbeat

STATE = "audited_up_to"
"""Metadata entry in which an audit leaves where the next one begins."""

FAULTS_LISTED_MAX = 10


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What one audit does.

    Attributes:
        is_full: Also ask what only a full audit asks.
        begins_anew: Look at everything.
        is_accepted: Let the next audit begin here even when this one finds errors.
    """

    is_full: bool = False
    begins_anew: bool = False
    is_accepted: bool = False


def run_audit(
    context: dg.AssetExecutionContext, pipeline: Pipeline, options: AuditOptions
) -> dg.MaterializeResult[Any]:
    """Audit a pipeline's tables.

    Raises:
        Failure: The tables could not be audited; that is no verdict on their rows.

    """
    clock = SystemClock()
    began = clock.boot_seconds()
    last = None if options.is_full else _last_state(context.instance, pipeline)
    since = None if options.begins_anew else last
    try:
        # So that a run whose process is gone is known, and gives its place in the queue free.
        with Heartbeat(context.instance, context.run.run_id, clock):
            found = audit_table(pipeline, since, is_full=options.is_full)
    except K2iError as error:
        raise failure_of(error) from None
    seconds = clock.boot_seconds() - began
    verdict = "everything agrees" if found.holds else "DOES NOT AGREE"
    context.log.info(
        f"{found.offset_count:,} offsets and {found.file_count:,} files of "
        f"{pipeline.table.identifier} audited in {seconds:.1f} s: {verdict}"
    )
    # An audit that found an error is repeated from the same place, until it is settled.
    next_state = found.state if found.holds or options.is_accepted else since
    metadata = _metadata(found, seconds)
    if next_state is not None and not options.is_full:
        metadata[STATE] = dg.MetadataValue.json(next_state.to_json())
    remedies = {spec.name: spec.remedy for spec in specs_of(pipeline, is_full=options.is_full)}
    key = names.full_audit_key(pipeline) if options.is_full else names.audit_key(pipeline)
    return dg.MaterializeResult(
        metadata=metadata,
        check_results=[_result(key, one, remedies[one.question]) for one in found.answers],
    )


def _last_state(instance: dg.DagsterInstance, pipeline: Pipeline) -> AuditState | None:
    event = instance.get_latest_materialization_event(names.audit_key(pipeline))
    materialization = event.asset_materialization if event else None
    if materialization is None or STATE not in materialization.metadata:
        return None
    return read_state(materialization.metadata[STATE].value)


def _metadata(found: TableAudit, seconds: float) -> dict[str, Any]:
    row_count = next(a.figures["rows"] for a in found.answers if a.question == "row_counts")
    skipped = found.scope.skipped_topics
    return {
        "rows": row_count,
        "offsets": found.offset_count,
        "files": found.file_count,
        "seconds": round(seconds, 2),
        "snapshot_id": str(found.snapshot_id),
        "kind": "since the last audit" if found.is_incremental else "everything",
        "history": found.chain.value,
        **({"not audited": f"created again: {', '.join(skipped)}"} if skipped else {}),
    }


def _result(key: dg.AssetKey, answer: AuditAnswer, remedy: str) -> dg.AssetCheckResult:
    listed = "; ".join(answer.faults[:FAULTS_LISTED_MAX])
    severity = dg.AssetCheckSeverity.ERROR if answer.is_error else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=answer.question,
        passed=not answer.faults,
        severity=severity,
        description=f"{listed}; {remedy}" if listed else answer.note or "agrees",
        metadata={
            **answer.figures,
            **({"faults": len(answer.faults)} if answer.faults else {}),
        },
    )
