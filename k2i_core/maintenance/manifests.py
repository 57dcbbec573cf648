"""Manifests of one table, rewritten so that a query by partition opens few of them.

One commit that changes no file; how manifests are chosen and cut is `iceberg.clustering`.
"""

import structlog
from pyiceberg.table import Table

from k2i_core.crash_points import CrashPoint, Observer, ignore
from k2i_core.iceberg.clustering import ClusterPlan, plan_clusters
from k2i_core.iceberg.decisions import decide_carry
from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.gateway import TableView
from k2i_core.iceberg.manifests import NewSnapshot
from k2i_core.iceberg.replace import check_no_deletes
from k2i_core.iceberg.views import view_of
from k2i_core.maintenance.compaction import MaintainedTable
from k2i_core.maintenance.report import Figure, MaintenanceReport, Progress, no_progress

OPERATION = "manifests"

log = structlog.get_logger(__name__)


def rewrite_table_manifests(
    table: MaintainedTable,
    *,
    is_dry_run: bool = False,
    progress: Progress = no_progress,
    observe: Observer = ignore,
) -> MaintenanceReport:
    """Cluster the manifests by Iceberg partition, if that is worth a commit.

    Args:
        table: Any table that k2i commits to.
        is_dry_run: Only plan.
        progress: Told before and after the commit.
        observe: Told about every step.

    Raises:
        ConfigError: k2i never committed to the table, or it has delete files.
        UnavailableError: The catalog or the store did not answer; run it again.

    """
    started = table.clock.boot_seconds()
    state = table.committer.inspect()
    view = view_of(state)
    decide_carry(state.entry)
    plan, before = _plan(view)
    observe(CrashPoint.MANIFESTS_PLANNED)
    figures: dict[str, Figure] = {
        "manifests_before": before,
        "manifests_taken": len(plan.manifests),
        "overlap_before": round(plan.overlap, 2),
    }
    notes = [f"manifests left for the next run: {plan.left_count}"] if plan.left_count else []
    snapshot_ids: tuple[int, ...] = ()
    if not plan.manifests:
        did = f"nothing to do, {plan.why}"
    elif is_dry_run:
        did = f"would rewrite {len(plan.manifests)} manifests, {plan.why}"
    else:
        progress("rewriting manifests", 0, len(plan.manifests))
        report = table.committer.maintain(
            OPERATION, lambda _view, stored: decide_carry(stored, clusters_manifests=True)
        )
        observe(CrashPoint.MANIFESTS_COMMITTED)
        progress("rewriting manifests", len(plan.manifests), len(plan.manifests))
        after_plan, after = _plan(table.gateway.load())
        snapshot_ids = (report.snapshot_id,)
        did = f"rewrote {len(plan.manifests)} manifests, the table has {after} of {before}"
        figures |= {
            "manifests_after": after,
            "overlap_after": round(after_plan.overlap, 2),
            "attempts": report.attempt_count,
        }
    figures["seconds"] = round(table.clock.boot_seconds() - started, 3)
    name = table.gateway.identifier
    log.info("manifests rewritten", table=name, did=did, **figures)
    return MaintenanceReport(
        step=OPERATION,
        table=name,
        is_dry_run=is_dry_run,
        did=did,
        figures=figures,
        snapshot_ids=snapshot_ids,
        notes=tuple(notes),
    )


def _plan(view: TableView) -> tuple[ClusterPlan, int]:
    table = view.handle
    assert isinstance(table, Table)
    with translated(f"read manifests of table {'.'.join(table.name())}"):
        manifests = NewSnapshot(table, 0, view.head_snapshot_id).parent_manifests()
    check_no_deletes(manifests)
    return plan_clusters(table, manifests), len(manifests)
