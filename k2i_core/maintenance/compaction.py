"""Compaction of one table: plan, rewrite, prove, commit; again and again until time is up."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from k2i_core.clock import Clock, IdSource
from k2i_core.crash_points import Observer, ignore
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.maintenance.report import MaintenanceReport, Progress, no_progress

Order: TypeAlias = Literal["none", "table", "z_order"]


@dataclass(frozen=True, slots=True)
class CompactionOptions:
    """How far one run goes and what it makes.

    Attributes:
        target_file_bytes: Size of the files it writes.
        min_input_files: Small files that an Iceberg partition must have before it is worth it.
        order: How rows lie in the new files.
        z_order_by: Columns for `z_order`.
        max_memory_bytes: Memory that rewriting may take.
        max_bytes: Files read by one run.
        max_seconds: Time after which nothing more is begun.
        is_everything: Rewrite all files, whatever their size.
        thread_count: Groups of files rewritten at once.
    """

    target_file_bytes: int
    min_input_files: int
    order: Order
    z_order_by: tuple[str, ...]
    max_memory_bytes: int
    max_bytes: int
    max_seconds: float
    is_everything: bool = False
    thread_count: int = 2


@dataclass(frozen=True, slots=True)
class MaintainedTable:
    """A table and what commits to it; used by one thread.

    Attributes:
        gateway: The same that the committer has.
        committer: Logs no attempt: what does not land is garbage for orphan removal.
    """

    gateway: PyIcebergGateway
    committer: TableCommitter
    clock: Clock
    ids: IdSource


def compact_table(
    table: MaintainedTable,
    options: CompactionOptions,
    *,
    is_dry_run: bool = False,
    progress: Progress = no_progress,
    observe: Observer = ignore,
) -> MaintenanceReport:
    """Put small files together.

    Raises:
        ConfigError: k2i never committed to the table, or it has delete files.
        CorruptionError: The rewritten rows are not the old ones; nothing was committed.
        UnavailableError: The catalog or the store did not answer; run it again.

    """
    raise NotImplementedError
