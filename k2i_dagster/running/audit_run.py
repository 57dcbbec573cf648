"""The body of an audit run: count with DuckDB since the last audit, and say what was found."""

from typing import Any

import dagster as dg

from k2i_core.audit.row_audit import AuditAnswer, AuditMark, read_mark
from k2i_core.clock import SystemClock
from k2i_core.config import Pipeline
from k2i_core.errors import K2iError
from k2i_core.wiring.row_audit import RowAudit, audit_rows
from k2i_dagster import names
from k2i_dagster.running.failures import failure_of

MARK = "audited_up_to"
"""Metadata entry in which an audit leaves where the next one begins."""

FAULTS_LISTED_MAX = 10


def audit(
    context: dg.AssetExecutionContext, pipeline: Pipeline, *, is_full: bool
) -> dg.MaterializeResult[Any]:
    """Audit a pipeline's tables.

    Raises:
        Failure: The tables could not be audited; that is no verdict on their rows.

    """
    clock = SystemClock()
    began = clock.boot_seconds()
    since = None if is_full else _last_mark(context.instance, pipeline)
    try:
        found = audit_rows(pipeline, since)
    except K2iError as error:
        raise failure_of(error) from None
    seconds = clock.boot_seconds() - began
    verdict = "everything agrees" if found.holds else "DOES NOT AGREE with the ledger"
    context.log.info(
        f"{found.offset_count:,} offsets of {pipeline.table.identifier} audited in {seconds:.1f} s:"
        f" {verdict}"
    )
    return dg.MaterializeResult(
        metadata=_metadata(found, since, seconds),
        check_results=[_check_result(pipeline, answer) for answer in found.answers],
    )


def _last_mark(instance: dg.DagsterInstance, pipeline: Pipeline) -> AuditMark | None:
    event = instance.get_latest_materialization_event(names.audit_key(pipeline))
    materialization = event.asset_materialization if event else None
    if materialization is None or MARK not in materialization.metadata:
        return None
    return read_mark(materialization.metadata[MARK].value)


def _metadata(found: RowAudit, since: AuditMark | None, seconds: float) -> dict[str, Any]:
    row_count = next(a.figures["rows"] for a in found.answers if a.question == "row_counts")
    # An audit that found a fault is repeated from the same place, until it is settled.
    mark = found.mark if found.holds else since
    return {
        "rows": row_count,
        "offsets": found.offset_count,
        "seconds": round(seconds, 2),
        "snapshot_id": str(found.snapshot_id),
        "kind": "everything" if since is None else "since the last audit",
        **({MARK: dg.MetadataValue.json(mark.to_json())} if mark else {}),
        **(
            {"not audited": f"created again: {', '.join(found.scope.skipped_topics)}"}
            if found.scope.skipped_topics
            else {}
        ),
    }


def _check_result(pipeline: Pipeline, answer: AuditAnswer) -> dg.AssetCheckResult:
    listed = "; ".join(answer.faults[:FAULTS_LISTED_MAX])
    return dg.AssetCheckResult(
        asset_key=names.audit_key(pipeline),
        check_name=answer.question,
        passed=not answer.faults,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{listed}; prove it with `k2i verify`" if listed else "agrees with the ledger",
        metadata=dict(answer.figures),
    )
