"""The commit decision and the loop around it: at most one landing, by the owner, on the right head.

    load ─► did one of my attempts land? ─► ledger ─► may I still? ─► prepare ─► log ─► send ─┐
      ▲                                                                                       │
      └────────────── any failure after sending is an unknown outcome: load and look ◄────────┘

What to commit, and whether, is decided in `decisions`; here is the I/O in the order above and
nothing else. It deletes nothing: after a fence, exhaustion or a cancellation the files stay,
because a request may still be on its way.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

import structlog

from k2i_core.clock import Clock, IdSource
from k2i_core.crash_points import CrashPoint, Observer, ignore
from k2i_core.errors import (
    CommitStateUnknownError,
    ConfigError,
    ConflictError,
    CorruptionError,
    ErrorKind,
    FencedError,
    UnavailableError,
)
from k2i_core.iceberg.ancestry import property_text, read_entry
from k2i_core.iceberg.decisions import (
    Decision,
    check_unpaused,
    decide_append,
    decide_append_dead_letters,
    decide_claim,
    decide_extend,
    decide_pause,
    decide_take_over,
)
from k2i_core.iceberg.gateway import SnapshotChange, TableGateway, TableView
from k2i_core.iceberg.retention import RetentionLimits, removable
from k2i_core.iceberg.views import view_of
from k2i_core.ledger import (
    CHECKPOINT_KEY,
    COMMIT_ID_KEY,
    OPERATION_KEY,
    RANGES_KEY,
    Entry,
    Epoch,
    Identity,
    Owner,
    Share,
    encode_entry,
    encode_ranges,
)
from k2i_core.offsets import TopicPartition
from k2i_core.pauses import Pause
from k2i_core.records import CommitReport, CountedRange, TableState, WrittenFile

RANGES_INLINE_MAX = 64
"""Touched Kafka partitions up to which a summary lists its ranges. More make every retained
snapshot larger in the one metadata file; without the list, a commit's ranges are the difference
between its checkpoint and its parent's."""

CLOCK_SKEW_MS_MAX = 600_000
"""How far ahead of this host's clock a table may be. Larger hides a broken clock; smaller stops
on ordinary drift between hosts."""

FORMAT_VERSION_MIN = 2
"""Version 1 has no sequence numbers, so a catalog would accept a commit built before a rollback."""


log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CommitLimits:
    """Bounds of one commit.

    Attributes:
        attempt_count_max: Requests sent.
        seconds_max: Time spent, waiting for a catalog that does not answer included.
        retention: Old snapshots that appends give up; None gives up none.
        file_age_seconds_max: Older files are never committed: orphan removal may have judged them.
    """

    attempt_count_max: int
    seconds_max: float
    file_age_seconds_max: float
    retention: RetentionLimits | None = None


class TableCommitter:
    """One table of the pipeline, committed to by one thread of one worker."""

    def __init__(
        self,
        gateway: TableGateway,
        clock: Clock,
        ids: IdSource,
        limits: CommitLimits,
        *,
        log_attempt: Callable[[str, int], None],
        observe: Observer = ignore,
    ) -> None:
        """Bind a table to its limits.

        Args:
            gateway: The table.
            clock: Must not be cut short by a stop request: a flush at the end waits too.
            ids: Snapshot ids and commit ids.
            limits: Bounds of every commit.
            log_attempt: Called with table identifier and snapshot id, and durable, before a
                request is sent; if it raises, nothing is sent.
            observe: Told about every step.

        """
        self._gateway = gateway
        self._clock = clock
        self._ids = ids
        self._limits = limits
        self._log_attempt = log_attempt
        self._observe = observe

    @property
    def identifier(self) -> str:
        """Namespace and name, joined by dots."""
        return self._gateway.identifier

    def inspect(self) -> TableState:
        """Load the table and read its ledger; waits for a catalog that does not answer."""
        view, entry = self._load(self._clock.boot_seconds() + self._limits.seconds_max)
        return TableState(entry, view, view.paused)

    def inspect_after(self, snapshot_id: int) -> TableState:
        """Load until `snapshot_id`, a landed commit of ours, is in the head's history.

        Raises:
            FencedError: It was rolled back, or expired with all its descendants.

        """
        deadline = self._clock.boot_seconds() + self._limits.seconds_max
        for wait_count in range(self._limits.attempt_count_max):
            view, entry = self._load(deadline)
            if view.is_ancestor(snapshot_id):
                return TableState(entry, view, view.paused)
            self._back_off(wait_count, snapshot_id)
        message = f"our commit snapshot_id={snapshot_id} is no longer in the table's history"
        raise FencedError(message, kind=ErrorKind.COMMIT_ROLLED_BACK)

    def claim(
        self,
        share: Share,
        identity: Identity,
        starts: Mapping[TopicPartition, int],
        epoch_floor: Epoch,
        routing: str = "",
        unmoved: Mapping[TopicPartition, int] | None = None,
    ) -> tuple[Owner, CommitReport]:
        """Take over `share` in the lead table; returns the owner to write into the other tables."""
        owners: dict[int, Owner] = {}

        def decide(view: TableView, stored: Entry | None, snapshot_id: int) -> Decision:
            owners[snapshot_id], decision = decide_claim(
                view,
                stored,
                share=share,
                identity=identity,
                starts=starts,
                epoch_floor=epoch_floor,
                routing=routing,
                unmoved=unmoved,
            )
            return decision

        report = self._commit("take-over", decide)
        return owners[report.snapshot_id], report

    def take_over(
        self,
        owner: Owner,
        identity: Identity,
        starts: Mapping[TopicPartition, int],
    ) -> CommitReport:
        """Write a claimed owner into this table."""
        return self._commit(
            "take-over",
            lambda _view, stored, _id: decide_take_over(
                stored, owner=owner, identity=identity, starts=starts
            ),
        )

    def extend(
        self,
        owner: Owner,
        identity: Identity,
        starts: Mapping[TopicPartition, int],
    ) -> CommitReport:
        """Add Kafka partitions that appeared since the take-over."""
        return self._commit(
            "extend",
            lambda _view, stored, _id: decide_extend(
                stored, owner=owner, identity=identity, starts=starts
            ),
        )

    def append(
        self,
        owner: Owner,
        ranges: tuple[CountedRange, ...],
        files: tuple[WrittenFile, ...],
    ) -> CommitReport:
        """Commit a generation to the target table, exactly once; never to a paused one (I8)."""

        def decide(view: TableView, stored: Entry | None, _id: int) -> Decision:
            check_unpaused(view, self.identifier)
            return decide_append(stored, owner=owner, ranges=ranges, files=files)

        return self._commit("append", decide)

    def pause(self, owner: Owner, pause: Pause) -> CommitReport:
        """Let nothing more be appended until an operator acted."""
        return self._commit(
            "pause",
            lambda view, stored, _id: decide_pause(view, stored, owner=owner, pause=pause),
        )

    def append_dead_letters(
        self,
        owner: Owner,
        ranges: tuple[CountedRange, ...],
        files: tuple[WrittenFile, ...],
    ) -> CommitReport:
        """Commit a generation's dead letters; before the generation itself."""
        return self._commit(
            "dead-letters",
            lambda _view, stored, _id: decide_append_dead_letters(
                stored, owner=owner, ranges=ranges, files=files
            ),
        )

    def operate(
        self, operation: str, decide: Callable[[TableView, Entry | None], Decision]
    ) -> CommitReport:
        """Commit an operator's decision; a ledger that cannot be believed is None here."""
        return self._commit(
            operation, lambda view, stored, _id: decide(view, stored), is_lenient=True
        )

    def maintain(
        self, operation: str, decide: Callable[[TableView, Entry | None], Decision]
    ) -> CommitReport:
        """Commit a step of maintenance, by `decide_carry`; asked again at every attempt.

        Raises:
            ConflictError: What `decide` says, or a file to replace is gone: plan anew.
            ConfigError: k2i never committed to this table, or it has delete files.
            UnavailableError: Attempts or time ran out; the outcome may be unknown: plan anew.

        """
        return self._commit(operation, lambda view, stored, _id: decide(view, stored))

    def reachable(self, state: TableState, paths: Collection[str]) -> set[str]:
        """Return those of `paths` that a retained snapshot of `state` reaches."""
        return self._gateway.reachable(view_of(state), paths)

    def delete_files(self, paths: Collection[str]) -> None:
        """Delete files that recovery proved unneeded."""
        self._gateway.delete_files(paths)

    def _commit(
        self,
        operation: str,
        decide: Callable[[TableView, Entry | None, int], Decision],
        *,
        is_lenient: bool = False,
    ) -> CommitReport:
        started = self._clock.boot_seconds()
        deadline = started + self._limits.seconds_max
        attempted: list[int] = []
        wait_count = 0
        while True:
            view, stored = self._load(deadline, attempted, is_lenient=is_lenient)
            landed = _landed(view, attempted)
            if landed is None:
                snapshot_id = self._ids.snapshot_id()
                decision = decide(view, stored, snapshot_id)
                self._check_files(view, decision.all_files)
                self._check_limits(attempted, deadline)
                landed = self._attempt(operation, view, decision, snapshot_id, attempted)
            if landed is not None:
                milliseconds = (self._clock.boot_seconds() - started) * 1000
                return CommitReport(landed, len(attempted), milliseconds)
            wait_count += 1
            self._back_off(wait_count, attempted[-1] if attempted else 0)

    def _attempt(
        self,
        operation: str,
        view: TableView,
        decision: Decision,
        snapshot_id: int,
        attempted: list[int],
    ) -> int | None:
        """Send one request; returns its snapshot id when the catalog said yes, else None."""
        change = self._change(operation, view, decision, snapshot_id)
        try:
            request = self._gateway.prepare(view, change)
        except UnavailableError as error:
            # Tried again until the commit's time limit, which is long: somebody may be waiting.
            log.warning("commit not prepared, trying again", table=self.identifier, why=str(error))
            return None
        self._observe(CrashPoint.REQUEST_PREPARED)
        # Before the request leaves, because a successor must know every id that may still land.
        self._log_attempt(self.identifier, snapshot_id)
        attempted.append(snapshot_id)
        self._observe(CrashPoint.ATTEMPT_LOGGED)
        try:
            self._gateway.send(request)
        except (ConflictError, CommitStateUnknownError):
            # Safe because neither is believed: the next load tells whether it landed.
            return None
        self._observe(CrashPoint.REQUEST_SENT)
        return snapshot_id

    def _change(
        self, operation: str, view: TableView, decision: Decision, snapshot_id: int
    ) -> SnapshotChange:
        now_ms = self._clock.now_ms()
        timestamp_ms = max(now_ms, view.last_updated_ms + 1)
        if timestamp_ms > now_ms + CLOCK_SKEW_MS_MAX:
            message = (
                f"this host's clock is {(timestamp_ms - now_ms) // 1000} s behind the last commit "
                f"of {self.identifier}; set the clock"
            )
            raise ConfigError(message, kind=ErrorKind.CLOCK_BEHIND_TABLE)
        entry = replace(decision.entry, snapshot_id=snapshot_id)
        summary = {
            CHECKPOINT_KEY: encode_entry(entry),
            COMMIT_ID_KEY: self._ids.token(),
            OPERATION_KEY: operation,
        }
        if 0 < len(decision.ranges) <= RANGES_INLINE_MAX:
            summary[RANGES_KEY] = encode_ranges(decision.ranges)
        return SnapshotChange(
            snapshot_id=snapshot_id,
            timestamp_ms=timestamp_ms,
            files=decision.files,
            summary=summary,
            properties={CHECKPOINT_KEY: property_text(entry), **decision.properties},
            rewind_to_snapshot_id=decision.rewind_to_snapshot_id,
            removed_snapshot_ids=self._removable(view, decision, now_ms),
            keeps_removed_files=decision.removed_snapshot_ids is not None,
            replacements=decision.replacements,
            clusters_manifests=decision.clusters_manifests,
        )

    def _removable(self, view: TableView, decision: Decision, now_ms: int) -> tuple[int, ...]:
        if decision.removed_snapshot_ids is not None:
            return decision.removed_snapshot_ids
        if self._limits.retention is None or decision.rewind_to_snapshot_id is not None:
            return ()
        return removable(view, self._limits.retention, now_ms)

    def _load(
        self,
        deadline: float,
        attempted: Collection[int] = (),
        *,
        is_lenient: bool = False,
    ) -> tuple[TableView, Entry | None]:
        wait_count = 0
        while True:
            try:
                view = self._gateway.load()
                if view.format_version < FORMAT_VERSION_MIN:
                    message = (
                        f"table={self.identifier} has format-version={view.format_version}; "
                        f"upgrade it to 2, because version 1 cannot refuse a late commit"
                    )
                    raise ConfigError(message, kind=ErrorKind.FORMAT_VERSION)
                # Before the ledger is judged, because a rolled-back attempt of ours is a fence.
                if attempted and any(i in view.snapshots for i in attempted):
                    return view, None
                return view, self._read_entry(view, is_lenient=is_lenient)
            except UnavailableError:
                if self._clock.boot_seconds() >= deadline:
                    raise
                wait_count += 1
                self._back_off(wait_count, 0)

    def _read_entry(self, view: TableView, *, is_lenient: bool) -> Entry | None:
        try:
            return read_entry(view, partial(self._gateway.has_live_entry, view))
        except CorruptionError:
            if is_lenient:
                return None  # The operator's decision is what settles it.
            raise

    def _check_files(self, view: TableView, files: tuple[WrittenFile, ...]) -> None:
        """Refuse files that the table as loaded would misread, or that may be gone.

        After the load, because a load may take long and only then is the age of a file final.
        """
        now = self._clock.boot_seconds()
        current_fields = view.field_ids.get(view.schema_id, frozenset())
        for file in files:
            if now - file.created_boot_seconds > self._limits.file_age_seconds_max:
                message = f"a file waited longer than {self._limits.file_age_seconds_max:.0f} s"
                raise ConflictError(message, kind=ErrorKind.FILES_TOO_OLD)
            written_fields = view.field_ids.get(file.schema_id)
            if file.spec_id != view.spec_id or written_fields is None:
                message = f"table={self.identifier} changed its partition spec or schema"
                raise ConflictError(message, kind=ErrorKind.TABLE_CHANGED)
            if not written_fields <= current_fields:
                message = f"table={self.identifier} dropped a column that was written"
                raise ConflictError(message, kind=ErrorKind.TABLE_CHANGED)

    def _check_limits(self, attempted: list[int], deadline: float) -> None:
        if len(attempted) >= self._limits.attempt_count_max or (
            self._clock.boot_seconds() >= deadline
        ):
            message = (
                f"commit to table={self.identifier} gave up after {len(attempted)} attempts; its "
                f"outcome may be unknown, a restart reads it back"
            )
            raise UnavailableError(message, kind=ErrorKind.COMMIT_EXHAUSTED)

    def _back_off(self, wait_count: int, jitter_source: int) -> None:
        # Jitter from the attempt's random id: two writers that collide once drift apart.
        longest = min(2.0, 0.02 * 2.0 ** min(wait_count, 10))
        self._clock.sleep(longest * (0.5 + (jitter_source % 1000) / 2000))


def _landed(view: TableView, attempted: Collection[int]) -> int | None:
    """Tell which of our attempts is in the head's history.

    Raises:
        FencedError: One landed and was rolled back since: the table is no longer as we know it.

    """
    retained = [snapshot_id for snapshot_id in attempted if snapshot_id in view.snapshots]
    for snapshot_id in retained:
        if view.is_ancestor(snapshot_id):
            return snapshot_id
    if retained:
        message = f"our commit snapshot_id={retained[0]} landed and was rolled back"
        raise FencedError(message, kind=ErrorKind.COMMIT_ROLLED_BACK)
    return None
