"""Maintenance of a pipeline's tables, built from its file: what the command line and jobs call.

Nothing here needs a running worker or stops one. Every step may run beside any other, twice at
once, and again after it was killed.
"""

from dataclasses import replace

from k2i_core.clock import Clock, RandomIds
from k2i_core.config import Pipeline
from k2i_core.crash_points import Observer, ignore
from k2i_core.errors import ConfigError, ErrorKind
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.iceberg.views import table_of
from k2i_core.maintenance.compaction import CompactionOptions, MaintainedTable, compact_table
from k2i_core.maintenance.expiration import ExpirationLimits, expire_table
from k2i_core.maintenance.health import TableHealth, measure
from k2i_core.maintenance.manifests import rewrite_table_manifests
from k2i_core.maintenance.orphans import sweep_table
from k2i_core.maintenance.report import MaintenanceReport, Progress, no_progress
from k2i_core.wiring import several
from k2i_core.wiring.settings import catalog_opener, commit_limits

COMMIT_ATTEMPTS_MAX = 100
"""Requests of one commit. Fewer than that, and appends without a pause starve a compaction, whose
attempts take longer than theirs; more waits longer on a table that somebody else keeps changing."""


def tables_of(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the pipeline's tables that exist: the targets, then the dead letters.

    Raises:
        ConfigError: A target does not exist yet.
        UnavailableError: The catalog did not answer.

    """
    open_catalog = catalog_opener(pipeline)
    found = [alone.table.identifier for alone in several.tables_of(pipeline)]
    for identifier in found:
        PyIcebergGateway(open_catalog, identifier).load()
    try:
        PyIcebergGateway(open_catalog, pipeline.dead_letter_table).load()
    except ConfigError as error:
        if error.kind is not ErrorKind.TABLE_MISSING:
            raise
    else:
        found.append(pipeline.dead_letter_table)
    return tuple(found)


def compact(
    pipeline: Pipeline,
    identifier: str,
    clock: Clock,
    *,
    options: CompactionOptions,
    is_dry_run: bool = False,
    progress: Progress = no_progress,
    observe: Observer = ignore,
) -> MaintenanceReport:
    """Put the small files of one table together; `compaction_options` makes the options.

    Raises:
        ConfigError: k2i never committed to the table, or it has delete files.
        UnavailableError: Catalog or store failed; run it again.
        CorruptionError: The ledger cannot be believed, or the rewritten rows are not the old ones;
            nothing was committed.

    """
    return compact_table(
        maintained_table(pipeline, identifier, clock, observe),
        options,
        is_dry_run=is_dry_run,
        progress=progress,
        observe=observe,
    )


def compaction_options(pipeline: Pipeline, identifier: str) -> CompactionOptions:
    """Return what the pipeline file says of the compaction of one table as plain values."""
    compaction = (pipeline.one_table(identifier) or pipeline).maintenance.compaction
    is_of_letters = identifier == pipeline.dead_letter_table
    return CompactionOptions(
        target_file_bytes=compaction.target_file_bytes,
        min_input_files=compaction.min_input_files,
        # Dead letters have columns of their own.
        order="table" if is_of_letters and compaction.order == "z_order" else compaction.order,
        z_order_by=compaction.z_order_by,
        max_memory_bytes=compaction.max_memory_bytes,
        max_bytes=compaction.max_bytes,
        max_seconds=compaction.max_duration,
    )


def rewrite_manifests(
    pipeline: Pipeline,
    identifier: str,
    clock: Clock,
    *,
    is_dry_run: bool = False,
    progress: Progress = no_progress,
    observe: Observer = ignore,
) -> MaintenanceReport:
    """Cluster the manifests of one table by Iceberg partition.

    Raises:
        ConfigError: k2i never committed to the table, or it has delete files.
        UnavailableError: Catalog or store failed; run it again.
        CorruptionError: The ledger cannot be believed.

    """
    return rewrite_table_manifests(
        maintained_table(pipeline, identifier, clock, observe),
        is_dry_run=is_dry_run,
        progress=progress,
        observe=observe,
    )


def expire_snapshots(
    pipeline: Pipeline,
    identifier: str,
    clock: Clock,
    *,
    is_dry_run: bool = False,
    progress: Progress = no_progress,
    observe: Observer = ignore,
) -> MaintenanceReport:
    """Give up old snapshots of one table and delete what only they needed.

    Raises:
        ConfigError: k2i never committed to the table, or it may not be deleted from.
        UnavailableError: Catalog or store failed; run it again.
        CorruptionError: The ledger cannot be believed; nothing was deleted.

    """
    return expire_table(
        maintained_table(pipeline, identifier, clock, observe).committer,
        expiration_limits(pipeline),
        clock,
        is_dry_run=is_dry_run,
        progress=progress,
        observe=observe,
    )


def remove_orphans(
    pipeline: Pipeline,
    identifier: str,
    clock: Clock,
    *,
    is_dry_run: bool = False,
    progress: Progress = no_progress,
    observe: Observer = ignore,
) -> MaintenanceReport:
    """Delete files of one table's folders that nothing needs.

    Raises:
        ConfigError: k2i never committed to the table, its location is shared with another table,
            or it may not be deleted from.
        UnavailableError: Catalog or store failed; run it again.
        CorruptionError: The ledger cannot be believed, or the listing misses live files; nothing
            was deleted.

    """
    return sweep_table(
        maintained_table(pipeline, identifier, clock, observe).committer,
        catalog_opener(pipeline),
        clock,
        age_seconds_min=pipeline.maintenance.orphans.older_than,
        is_dry_run=is_dry_run,
        progress=progress,
        observe=observe,
    )


def table_health(pipeline: Pipeline, identifier: str, clock: Clock) -> TableHealth:
    """Measure one table; `maintenance.health.needs` judges the result.

    Raises:
        ConfigError: The table does not exist.
        UnavailableError: Catalog or store failed.

    """
    view = PyIcebergGateway(catalog_opener(pipeline), identifier).load()
    return measure(
        table_of(view),
        target_file_bytes=pipeline.maintenance.compaction.target_file_bytes,
        now_ms=clock.now_ms(),
    )


def expiration_limits(pipeline: Pipeline) -> ExpirationLimits:
    """Return the pipeline file's `maintenance.expiration` as plain values."""
    expiration = pipeline.maintenance.expiration
    return ExpirationLimits(
        age_seconds_max=expiration.older_than,
        count_min=expiration.retain_last,
        count_max=expiration.max_snapshots,
        reader_grace_seconds=expiration.reader_grace,
    )


def maintained_table(
    pipeline: Pipeline, identifier: str, clock: Clock, observe: Observer = ignore
) -> MaintainedTable:
    """Return a table and what commits to it; no attempt is logged: what is lost is garbage."""
    gateway = PyIcebergGateway(catalog_opener(pipeline), identifier)
    ids = RandomIds()
    committer = TableCommitter(
        gateway,
        clock,
        ids,
        replace(commit_limits(pipeline), attempt_count_max=COMMIT_ATTEMPTS_MAX),
        log_attempt=lambda _table, _snapshot_id: None,
        observe=observe,
    )
    return MaintainedTable(gateway, committer, clock, ids)
