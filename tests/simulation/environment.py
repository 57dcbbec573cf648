"""Everybody but the workers: maintenance by the protocol, and strangers who ask nobody."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from k2i_core.errors import ConflictError, CorruptionError, K2iError
from k2i_core.iceberg.ancestry import carrier_of, property_text, read_entry
from k2i_core.iceberg.decisions import decide_carry, decide_resume
from k2i_core.iceberg.gateway import Replacement, SnapshotView, TableView
from k2i_core.iceberg.operations import decide_rewind
from k2i_core.iceberg.replaying import believed
from k2i_core.ledger import (
    CHECKPOINT_KEY,
    OPERATION_KEY,
    Entry,
    Epoch,
    Identity,
    Owner,
    Share,
    Totals,
    encode_entry,
)
from k2i_core.offsets import Checkpoint, TopicPartition
from tests.fakes.faults import Reply
from tests.fakes.memory_files import written_file
from tests.fakes.memory_gateway import version_of
from tests.fakes.memory_table import MemoryTable, Request, Version
from tests.simulation.workers import open_committer, open_gateway
from tests.simulation.world import (
    ORPHAN_AGE_SECONDS,
    PARTITIONS,
    PIPELINE,
    RECORD_COUNT,
    RULES,
    World,
)


class Environment:
    """The other actors of a world, each a job for a process of its own."""

    def __init__(self, world: World, table: MemoryTable) -> None:
        self._world = world
        self._table = table

    def jobs(self) -> Mapping[str, tuple[int, Callable[[], None]]]:
        """Return the actors that come and go, with how often they come."""
        jobs: dict[str, tuple[int, Callable[[], None]]] = {
            "compactor": (4, self.compact),
            "sweeper": (4, self.sweep),
            "expirer": (2, self.expire),
            "foreign writer": (2, self.append_foreign),
            "foreign expirer": (1, self.expire_foreign),
        }
        if self._world.surroundings.rollbacks:
            jobs["foreign rollback"] = (self._world.surroundings.rollback_weight, self.roll_back)
            jobs["rewind"] = (self._world.surroundings.rewind_weight, self.rewind)
        if self._world.surroundings.breaking_records:
            jobs["resume"] = (6, self.resume)
        if self._world.surroundings.late_schemas:
            jobs["registration"] = (6, self._world.register_schema)
        return jobs

    def compact(self) -> None:
        """Rewrite up to three files to one, with the real decision and the real loop."""
        world = self._world
        files = world.files.files
        picked = sorted(path for path in version_of(self._load()).live if path in files)[:3]
        if len(picked) < 2:
            return
        self._yield()
        if any(path not in files for path in picked):
            return
        origins = tuple(origin for path in picked for origin in files[path].origins)
        created = world.scheduler.time
        output = f"{self._table.identifier}/compacted-{world.ids.token()}"
        world.files.put(output, origins, created)
        self._yield()
        replacement = Replacement(frozenset(picked), (written_file(output, len(origins), created),))
        committer = open_committer(world, open_gateway(world, self._table))
        try:
            committer.maintain(
                "compaction",
                lambda _view, stored: decide_carry(stored, replacements=(replacement,)),
            )
        except CorruptionError:
            raise
        except K2iError as error:
            world.log(f"compaction ends: {error.kind}: {error}")
            world.counts[f"compaction {error.kind}"] += 1

    def expire(self) -> None:
        """Forget old snapshots, and delete only what a later load shows to be unneeded."""
        view = self._load()
        version = version_of(view)
        if version.head is None or len(version.snapshots) < 6:
            return
        if CHECKPOINT_KEY not in version.snapshots[version.head].summary:
            self._carry_forward()
            return
        chain = [s.snapshot_id for s in view.ancestors()]
        kept = {*sorted(version.snapshots)[-3:], *chain[:2]}
        removed = frozenset(version.snapshots) - kept
        doomed = {path for i in removed for path in version.files[i]}
        self._yield()
        self._send(Request(version, expired=removed))
        now = self._load()
        if not any(i in now.snapshots for i in removed):
            self._world.files.delete(doomed - version_of(now).reachable)

    def sweep(self) -> None:
        """Delete old files that nobody reaches, after a barrier commit."""
        since = self._world.scheduler.time
        barrier = self._carry_forward()
        if barrier is None:
            return
        view = self._load()
        if not view.is_ancestor(barrier):
            return
        self._yield()
        reachable = version_of(view).reachable
        self._world.files.delete(
            [
                path
                for path, file in self._world.files.files.items()
                if file.finished < since - ORPHAN_AGE_SECONDS
                and path.startswith(f"{self._table.identifier}/")
                and path not in reachable
            ]
        )

    def append_foreign(self) -> None:
        """Add a file that is none of ours."""
        version = self._table.current
        if version.head is not None:
            path = f"{self._table.identifier}/foreign-{self._world.ids.token()}"
            self._world.files.put(path, (), self._world.scheduler.time)
            snapshot = self._snapshot(version, {})
            self._apply(Request(version, snapshot, version.head, (path,)))

    def expire_foreign(self) -> None:
        """Forget everything but the head, and delete at once."""
        version = self._table.current
        removed = frozenset(version.snapshots) - {version.head}
        if removed and self._apply(Request(version, expired=removed)):
            doomed = {path for i in removed for path in version.files[i]}
            self._world.files.delete(doomed - self._table.current.reachable)

    def roll_back(self) -> None:
        """Move main back without telling k2i."""
        chain = list(self._table.current.view.ancestors())
        if len(chain) > 1:
            to = self._world.rng.choice(chain[1:4]).snapshot_id
            self._apply(Request(self._table.current, head=to))

    def rewind(self) -> None:
        """`k2i table rewind` to a recent snapshot, with the real decision and the real loop."""
        view = self._load()
        if view.head_snapshot_id is None:
            return
        self._read(view)
        chain = [s.snapshot_id for s in view.ancestors() if carrier_of(view, s.snapshot_id)]
        if chain:
            self._rewind_to(self._world.rng.choice(chain[:4]))

    def resume(self) -> None:
        """`k2i table resume`, sometimes without a change, with the real decision and loop."""
        world = self._world
        if self._load().paused is None:
            return
        accepts = world.is_calm or world.rng.random() < 0.5
        committer = open_committer(world, open_gateway(world, self._table))
        try:
            committer.operate(
                "resume",
                lambda view, stored: decide_resume(view, believed(stored), accepts=accepts),
            )
        except K2iError as error:
            world.log(f"resume ends: {error}")

    def operate(self) -> None:
        """Accept what a stranger did: a rollback, or a checkpoint that nothing proves any more."""
        view = self._table.current.view
        if carrier_of(view, view.head_snapshot_id) is not None:
            assert view.head_snapshot_id is not None
            self._rewind_to(view.head_snapshot_id)
        elif view.head_snapshot_id is not None:
            self._rebuild(view)

    def _rewind_to(self, snapshot_id: int) -> None:
        world = self._world
        committer = open_committer(world, open_gateway(world, self._table))
        try:
            committer.operate("rewind", lambda view, _: decide_rewind(view, snapshot_id))
        except K2iError as error:
            world.log(f"rewind ends: {error}")

    def _rebuild(self, view: TableView) -> None:
        """Derive the checkpoint from the rows, at a time when nobody else acts."""
        world = self._world
        rows = world.rows(self._table)
        dead = world.rows(world.dead_letters)
        next_offsets, totals = {}, {}
        for tp in PARTITIONS:
            held = [
                o
                for o in range(RECORD_COUNT)
                if rows[tp][o] or (dead[tp][o] and self._is_due(tp, o))
            ]
            gaps = (o for o in range(RECORD_COUNT) if o not in held and self._is_due(tp, o))
            # A tombstone at the end leaves no trace; reading it again is harmless.
            first_gap = next(gaps, RECORD_COUNT)
            n = max([o + 1 for o in held if o < first_gap], default=0)
            next_offsets[tp] = n
            in_rows = [o for o in range(n) if rows[tp][o]]
            totals[tp] = Totals(
                row_count=len(in_rows),
                dead_letter_count=sum(1 for o in range(n) if dead[tp][o] and self._is_due(tp, o)),
                tombstone_count=sum(1 for o in range(n) if not self._is_due(tp, o)),
                extra_row_count=world.extra_rows(in_rows),
            )
        identity = Identity(PIPELINE, world.broker.cluster_id, world.broker.topic_ids)
        rules = RULES if len(world.targets) > 1 else ""
        owner = Owner(Epoch(10_000 + view.last_sequence_number), Share(0, 1), rules)
        starts = dict.fromkeys(PARTITIONS, 0)
        entry = Entry(identity, Checkpoint(next_offsets), (owner,), totals, starts)
        request = self._request("rebuild", version_of(view), entry)
        assert request.snapshot is not None
        world.true_next[request.snapshot.snapshot_id] = next_offsets
        self._apply(request)

    def _is_due(self, topic_partition: TopicPartition, offset: int) -> bool:
        """Tell whether a record is a row or dead letter of this table."""
        value = self._world.broker.values[topic_partition][offset]
        return value is not None and self._world.is_of(
            self._table.identifier, topic_partition, offset
        )

    def _carry_forward(self) -> int | None:
        """Commit the checkpoint again; returns the snapshot if it is in the table's history."""
        view = self._load()
        if view.head_snapshot_id is None:
            return None
        request = self._carry("carry-forward", view)
        assert request.snapshot is not None
        snapshot_id = request.snapshot.snapshot_id
        self._yield()
        self._send(request)
        is_in = self._table.current.view.is_ancestor(snapshot_id)
        return snapshot_id if is_in else None

    def _carry(
        self,
        operation: str,
        view: TableView,
        added: tuple[str, ...] = (),
        removed: frozenset[str] = frozenset(),
    ) -> Request:
        entry = self._read(view)
        request = self._request(operation, version_of(view), entry)
        return replace(request, added=added, removed=removed)

    def _request(self, operation: str, version: Version, entry: Entry) -> Request:
        snapshot_id = self._world.ids.snapshot_id()
        entry = replace(entry, snapshot_id=snapshot_id)
        summary = {CHECKPOINT_KEY: encode_entry(entry), OPERATION_KEY: operation}
        snapshot = self._snapshot(version, summary, snapshot_id)
        properties = {CHECKPOINT_KEY: property_text(entry)}
        return Request(version, snapshot, version.head, properties=properties)

    def _snapshot(
        self, version: Version, summary: Mapping[str, str], snapshot_id: int | None = None
    ) -> SnapshotView:
        return SnapshotView(
            self._world.ids.snapshot_id() if snapshot_id is None else snapshot_id,
            version.head,
            version.last_sequence_number + 1,
            max(self._world.clock.now_ms(), version.last_updated_ms + 1),
            summary,
        )

    def _read(self, view: TableView) -> Entry:
        """Read the ledger as maintenance must; ends the actor when it cannot be believed."""
        entry = read_entry(view, lambda i: i in version_of(view).live.values())
        assert entry is not None
        return entry

    def _load(self) -> TableView:
        versions = self._table.versions
        return versions[-min(self._world.versions_behind() + 1, len(versions))].view

    def _apply(self, request: Request) -> bool:
        try:
            self._table.apply(request)
        except ConflictError as error:
            self._world.log(f"  {error}")
            return False
        return True

    def _send(self, request: Request) -> bool:
        """Send with the world's faults; True only when the catalog said so."""
        world = self._world
        reply = world.choose_reply(request)
        if reply is Reply.LATE:
            world.stay_in_flight(self._table, request)
        is_applied = reply not in (Reply.LATE, Reply.DROPPED) and self._apply(request)
        self._yield()
        return is_applied and reply is Reply.TRUE

    def _yield(self) -> None:
        self._world.scheduler.pause_surely()


def living(job: Callable[[], None], world: World) -> Callable[[], None]:
    """Return the job, ended instead of raising when the ledger cannot be believed."""

    def run() -> None:
        try:
            job()
        except CorruptionError as error:
            world.log(f"ends: {error}")
            world.operator_needed = True

    return run
