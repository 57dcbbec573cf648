"""Compaction of one table: plan, rewrite, prove, commit; beside live ingestion, within budgets.

    load ─► plan ─► rewrite a group ─► prove: DuckDB reads old and new rows ─► commit a few groups
                      (threads)                                                (this thread)

Nothing is deleted: what was replaced belongs to older snapshots until they expire, and what did
not land is garbage for orphan removal. So a run may be killed anywhere and is simply run again, and
two runs on one table are harmless: whoever commits first has the files, the other's are garbage.
"""

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import structlog
from pyiceberg.table import Table

from k2i_core.clock import Clock, IdSource
from k2i_core.crash_points import CrashPoint, Observer, ignore
from k2i_core.errors import (
    ConfigError,
    ConflictError,
    ErrorKind,
    IncompatibleSchemaError,
    UnavailableError,
)
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.decisions import Decision, decide_carry
from k2i_core.iceberg.gateway import Replacement, TableView
from k2i_core.iceberg.live_files import LiveFile, read_live_files
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.iceberg.types import arrow_schema
from k2i_core.iceberg.views import table_of, view_of
from k2i_core.iceberg.write_targets import write_target
from k2i_core.ledger import Entry
from k2i_core.maintenance.compaction_plan import (
    YOUNG_SECONDS,
    CompactionPlan,
    FileGroup,
    PlanRules,
    plan_compaction,
)
from k2i_core.maintenance.orders import RowOrder, TableOrder
from k2i_core.maintenance.report import MaintenanceReport, Progress, no_progress
from k2i_core.maintenance.rewriting import Rewriter, RewriteSettings, z_order
from k2i_core.maintenance.rows_proof import RowProof

log = structlog.get_logger(__name__)

Order: TypeAlias = Literal["none", "table", "z_order"]

OPERATION = "compaction"

COMMIT_GROUPS_MAX = 32
"""Groups of one commit. Larger loses more work to a kill; smaller makes more snapshots."""

COMMIT_FILES_MAX = 2_000
"""Files that one commit replaces, or one group's. Larger makes every attempt slower, until appends
win all races; smaller makes more snapshots."""

COMMIT_SECONDS_MAX = 30.0
"""How long a proven group waits for others. Larger loses more to a kill, and to another
compactor; smaller makes more snapshots."""

THREAD_NICENESS = 10
"""Larger leaves compaction less beside a busy worker; smaller takes more from the worker."""

PROOF_MEMORY_SHARE = 0.35
"""Of a thread's memory for the engine that proves; the rest rewrites."""


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
        young_seconds: Age from which a file is taken, so that its siblings are there too.
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
    young_seconds: float = YOUNG_SECONDS


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


@dataclass(frozen=True, slots=True)
class _Proven:
    """A group whose rows are in new files, and proven to be."""

    group: FileGroup
    replacement: Replacement
    row_count: int


@dataclass(slots=True)
class _Outcome:
    """What a run has done so far."""

    committed: list[_Proven] = field(default_factory=list[_Proven])
    snapshot_ids: list[int] = field(default_factory=list[int])
    notes: list[str] = field(default_factory=list[str])
    attempt_count: int = 0
    lost_count: int = 0


class _StoppedError(Exception):
    """The run ends: a thread gives up what it is doing."""


def compact_table(
    table: MaintainedTable,
    options: CompactionOptions,
    *,
    is_dry_run: bool = False,
    progress: Progress = no_progress,
    observe: Observer = ignore,
) -> MaintenanceReport:
    """Put small files together.

    Args:
        table: Any table that k2i commits to, the dead letters' too.
        options: See there.
        is_dry_run: Only plan.
        progress: Told how many rows were rewritten, from several threads.
        observe: Told about every step, from several threads.

    Raises:
        ConfigError: k2i never committed to the table, or it has delete files.
        CorruptionError: The rewritten rows are not the old ones; nothing was committed, and the
            message names the new files, which stay.
        UnavailableError: The catalog or the store did not answer; run it again.

    """
    started = table.clock.boot_seconds()
    state = table.committer.inspect()
    view = view_of(state)
    decide_carry(state.entry)
    assert state.entry is not None
    files = tuple(read_live_files(table_of(view), view.head_snapshot_id))
    plan = plan_compaction(files, _rules(view, state.entry, options, table.clock.now_ms()))
    observe(CrashPoint.COMPACTION_PLANNED)
    outcome = _Outcome(notes=list(plan.skipped))
    if not is_dry_run and plan.groups:
        rewriter = _rewriter(table, table_of(view), options)
        run = _Run(table, options, view, rewriter, outcome, progress, observe)
        run.all(plan.groups)
    seconds = table.clock.boot_seconds() - started
    report = _report(table, files, plan, outcome, seconds, is_dry_run=is_dry_run)
    log.info("compaction ended", table=report.table, did=report.did, **report.figures)
    return report


def _rules(view: TableView, entry: Entry, options: CompactionOptions, now_ms: int) -> PlanRules:
    return PlanRules(
        target_file_bytes=options.target_file_bytes,
        min_input_files=options.min_input_files,
        max_bytes=options.max_bytes,
        spec_id=view.spec_id,
        now_ms=now_ms,
        added_ms={s.snapshot_id: s.timestamp_ms for s in view.snapshots.values()},
        since_sequence_numbers=sorted(set(entry.since_sequence_numbers.values())),
        is_everything=options.is_everything,
        young_seconds=options.young_seconds,
        thread_count=options.thread_count,
    )


def _rewriter(table: MaintainedTable, loaded: Table, options: CompactionOptions) -> Rewriter:
    order: RowOrder | None = None
    if options.order == "z_order":
        order = z_order(loaded, options.z_order_by)
    elif options.order == "table":
        sort_keys = write_target(loaded, "order").sort_keys
        order = TableOrder(sort_keys) if sort_keys else None
    memory_bytes = options.max_memory_bytes / options.thread_count * (1 - PROOF_MEMORY_SHARE)
    settings = RewriteSettings(options.target_file_bytes, int(memory_bytes), order)
    return Rewriter(loaded, settings, table.clock, lambda: f"compaction-{table.ids.token()}")


def _yield_to_others() -> None:
    """Give this thread what others leave: a worker on the same machine goes first.

    Safe without it, where threads have no priority of their own: compaction is then a competitor.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), THREAD_NICENESS)


class _Run:
    """The groups of one plan, from first to last."""

    def __init__(
        self,
        table: MaintainedTable,
        options: CompactionOptions,
        view: TableView,
        rewriter: Rewriter,
        outcome: _Outcome,
        progress: Progress,
        observe: Observer,
    ) -> None:
        self._table = table
        self._options = options
        self._view = view
        self._rewriter = rewriter
        self._outcome = outcome
        self._progress = progress
        self._observe = observe
        self._deadline = table.clock.boot_seconds() + options.max_seconds
        self._stopping = threading.Event()
        self._counting = threading.Lock()
        self._rows_done = 0
        self._rows_of = 0
        self._waiting: list[_Proven] = []
        self._waiting_since = 0.0

    def all(self, groups: tuple[FileGroup, ...]) -> None:
        """Rewrite, prove and commit the groups, as far as time allows."""
        self._rows_of = sum(group.row_count for group in groups)
        remaining = iter(groups)
        running: dict[Future[_Proven], FileGroup] = {}
        count = self._options.thread_count
        with ThreadPoolExecutor(count, "k2i-compaction", initializer=_yield_to_others) as pool:
            try:
                self._start(pool, remaining, running)
                while running:
                    done, _ = wait(running, COMMIT_SECONDS_MAX, FIRST_COMPLETED)
                    for future in done:
                        self._take(future, running.pop(future))
                    self._start(pool, remaining, running)
                    if self._is_worth_a_commit() or not running:
                        self._commit()
            except BaseException:
                self._stopping.set()
                raise
        left_count = sum(1 for _ in remaining)
        if left_count:
            why = "the run ended early" if self._stopping.is_set() else "time is up"
            self._outcome.notes.append(f"groups left for the next run, {why}: {left_count}")

    def _start(
        self,
        pool: ThreadPoolExecutor,
        remaining: Iterator[FileGroup],
        running: dict["Future[_Proven]", FileGroup],
    ) -> None:
        while (
            len(running) < self._options.thread_count
            and not self._stopping.is_set()
            and self._table.clock.boot_seconds() < self._deadline
            and (group := next(remaining, None))
        ):
            running[pool.submit(self._rewrite, group)] = group

    def _rewrite(self, group: FileGroup) -> _Proven:
        """Rewrite and prove one group; runs in a thread of the pool."""
        files = self._rewriter.rewrite(group, self._count_rows)
        self._observe(CrashPoint.GROUP_REWRITTEN)
        memory_bytes = self._options.max_memory_bytes / self._options.thread_count
        proof = RowProof(
            table_of(self._view),
            arrow_schema(table_of(self._view).schema()),
            int(memory_bytes * PROOF_MEMORY_SHARE),
        )
        try:
            row_count = proof.check([f.path for f in group.files], [f.path for f in files])
        finally:
            proof.close()
        self._observe(CrashPoint.GROUP_PROVEN)
        return _Proven(group, Replacement(group.paths, files), row_count)

    def _count_rows(self, row_count: int) -> None:
        if self._stopping.is_set():
            raise _StoppedError
        with self._counting:
            self._rows_done += row_count
            self._progress("rewriting rows", self._rows_done, self._rows_of)

    def _take(self, future: "Future[_Proven]", group: FileGroup) -> None:
        """Keep what a thread has proven for the next commit."""
        try:
            proven = future.result()
        except _StoppedError:
            return
        except (IncompatibleSchemaError, ConfigError) as error:
            # One group of files that a foreign engine wrote is no reason to leave all others.
            self._outcome.notes.append(f"left as it is: {error}")
            return
        except UnavailableError:
            view = self._table.gateway.load()
            if not self._table.gateway.missing(view, group.paths):
                raise
            self._lose(1)
            return
        if self._stopping.is_set():
            return
        if not self._waiting:
            self._waiting_since = self._table.clock.boot_seconds()
        self._waiting.append(proven)

    def _is_worth_a_commit(self) -> bool:
        waited = self._table.clock.boot_seconds() - self._waiting_since
        file_count = sum(len(proven.group.files) for proven in self._waiting)
        return bool(self._waiting) and (
            len(self._waiting) >= COMMIT_GROUPS_MAX
            or file_count >= COMMIT_FILES_MAX
            or waited >= COMMIT_SECONDS_MAX
        )

    def _commit(self) -> None:
        """Commit what waits, without groups that somebody else has replaced meanwhile."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        chosen: list[_Proven] = []

        def decide(view: TableView, stored: Entry | None) -> Decision:
            paths = [path for p in waiting for path in p.replacement.removed_paths]
            gone = self._table.gateway.missing(view, paths)
            chosen[:] = [p for p in waiting if not p.replacement.removed_paths & gone]
            if not chosen:
                message = "every file to replace was replaced by somebody else"
                raise ConflictError(message, kind=ErrorKind.INPUTS_GONE)
            return decide_carry(stored, replacements=tuple(p.replacement for p in chosen))

        try:
            report = self._table.committer.maintain(OPERATION, decide)
        except ConflictError as error:
            if error.kind is ErrorKind.INPUTS_GONE:
                self._lose(len(waiting))
                return
            if error.kind is not ErrorKind.TABLE_CHANGED:
                raise
            # What is still being rewritten is of the old schema or spec, too.
            self._stopping.set()
            self._outcome.notes.append(f"ended early, run it again: {error}")
            return
        self._observe(CrashPoint.GROUPS_COMMITTED)
        self._lose(len(waiting) - len(chosen))
        self._outcome.committed += chosen
        self._outcome.snapshot_ids.append(report.snapshot_id)
        self._outcome.attempt_count += report.attempt_count

    def _lose(self, count: int) -> None:
        if count:
            self._outcome.lost_count += count
            note = f"groups that somebody else replaced first: {count}; their new files are garbage"
            self._outcome.notes.append(note)


def _report(
    table: MaintainedTable,
    files: tuple[LiveFile, ...],
    plan: CompactionPlan,
    outcome: _Outcome,
    seconds: float,
    *,
    is_dry_run: bool,
) -> MaintenanceReport:
    groups = plan.groups if is_dry_run else tuple(p.group for p in outcome.committed)
    made = [file for p in outcome.committed for file in p.replacement.files]
    read_count = sum(len(group.files) for group in groups)
    read_bytes = sum(group.byte_count for group in groups)
    written_bytes = sum(file.byte_count for file in made)
    row_count = sum(group.row_count for group in groups)
    partition_count = len({(g.spec_id, repr(g.iceberg_partition)) for g in groups})
    figures: dict[str, int | float] = {
        "files_before": len(files),
        "small_files_before": plan.small_file_count,
        "bytes_before": sum(file.byte_count for file in files),
        "files_read": read_count,
        "bytes_read": read_bytes,
        "partitions": partition_count,
        "groups": len(groups),
        "rows": row_count,
        "seconds": round(seconds, 3),
    }
    if is_dry_run:
        did = f"would rewrite {read_count} files of {partition_count} Iceberg partitions"
    else:
        did = (
            f"rewrote {read_count} files of {partition_count} Iceberg partitions to {len(made)}, "
            f"{row_count:,} rows proven"
        )
        figures |= {
            "files_after": len(files) - read_count + len(made),
            "bytes_after": figures["bytes_before"] - read_bytes + written_bytes,
            "files_written": len(made),
            "bytes_written": written_bytes,
            "rows_checked": sum(p.row_count for p in outcome.committed),
            "commits": len(outcome.snapshot_ids),
            "attempts": outcome.attempt_count,
            "lost_groups": outcome.lost_count,
        }
    if not groups:
        did = "nothing to do" if not outcome.notes else "nothing was rewritten, see the notes"
    return MaintenanceReport(
        step=OPERATION,
        table=table.gateway.identifier,
        is_dry_run=is_dry_run,
        did=did,
        figures=figures,
        snapshot_ids=tuple(outcome.snapshot_ids),
        notes=tuple(outcome.notes),
    )
