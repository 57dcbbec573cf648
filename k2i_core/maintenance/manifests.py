"""Manifests of one table, rewritten so that a query opens few of them."""

from k2i_core.crash_points import Observer, ignore
from k2i_core.maintenance.compaction import MaintainedTable
from k2i_core.maintenance.report import MaintenanceReport, Progress, no_progress


def rewrite_table_manifests(
    table: MaintainedTable,
    *,
    is_dry_run: bool = False,
    progress: Progress = no_progress,
    observe: Observer = ignore,
) -> MaintenanceReport:
    """Cluster the manifests by Iceberg partition.

    Raises:
        ConfigError: k2i never committed to the table, or it has delete files.
        UnavailableError: The catalog or the store did not answer; run it again.

    """
    raise NotImplementedError
