"""A small world around the real protocol code: a topic, targets, dead letters, many faults.

The protocol under test is the real code; the world is Kafka, catalog, store, logs and clock in
memory, and the faults between them: stale loads, lost replies, replayed conflicts, requests that
land late or never, kills at any pause, zombies, several workers on the same share, hosts that do
not see each other's logs, foreign writers, expirations and rollbacks, an operator, maintenance.

Ghost state (`true_next`) is what an all-knowing observer would store beside each snapshot; the
protocol never reads it. Invariants are checked after every landing and every deletion.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from random import Random

from k2i_core.crash_points import CrashPoint
from k2i_core.errors import ConflictError
from k2i_core.iceberg.commit import CommitLimits
from k2i_core.iceberg.gateway import SnapshotView
from k2i_core.ledger import (
    CHECKPOINT_KEY,
    OPERATION_KEY,
    RANGES_KEY,
    Entry,
    Epoch,
    Identity,
    Owner,
    Share,
    decode_ranges,
    encode_entry,
)
from k2i_core.offsets import Checkpoint, OffsetRange, TopicPartition
from k2i_core.pauses import ACCEPTED_KEY, decode_accepted
from tests.fakes.faults import Reply
from tests.fakes.judging_decoder import (
    BAD,
    BREAKING,
    BREAKING_ID,
    FLAKY,
    GOOD,
    LATE,
    OTHER,
    is_other,
)
from tests.fakes.memory_files import MemoryFiles
from tests.fakes.memory_hot_rows import HotHost
from tests.fakes.memory_source import MemoryBroker
from tests.fakes.memory_table import MemoryTable, Request, Version
from tests.fakes.memory_transaction_log import LogDirectory
from tests.fakes.several_rows import extra_rows, whole_records
from tests.fakes.time_and_ids import EPOCH_MS, CountingIds
from tests.invariants import i1_broken, i2_broken, i7_broken
from tests.simulation.memoized import decode_entry
from tests.simulation.scheduler import Scheduler
from tests.simulation.union_reads import UnionReads

TOPIC = "events"
PARTITIONS = tuple(TopicPartition(TOPIC, n) for n in range(3))
RECORD_COUNT = 9
ORPHAN_AGE_SECONDS = 60.0

EARLIER_LIFE_RATE = 0.2
"""How many worlds start with a dead-letter table older than the target."""

PIPELINE = "pipeline"
TARGET = "sales.events"
OTHER_TARGET = "sales.others"
DEAD_LETTERS = "sales.dead_letters"
RULES = "rules"

NEXT_NONE: Mapping[TopicPartition, int] = {}


LIMITS = CommitLimits(
    attempt_count_max=5, seconds_max=200.0, file_age_seconds_max=ORPHAN_AGE_SECONDS / 2
)


class Violation(BaseException):
    """An invariant does not hold; no code under test may catch it."""


@dataclass(frozen=True)
class Surroundings:
    """What the world does, as opposed to what the protocol does.

    Attributes:
        bad_records: Whether some records are dead letters, and some only for one code version.
        breaking_records: Whether some are of a schema that pauses their table.
        rollbacks: Whether somebody rolls the table back.
        rollback_weight: How often a stranger rolls back, beside compactions at 4.
        rewind_weight: How often an operator rewinds.
        worker_count: How many workers share the topic at first.
        sequence_guard: Whether the catalog refuses a used sequence number, as version 2 does.
        limits: Of every commit.
        reads: Whether union reads are checked; where a rule is taken out, the rule's own loss is
            to be seen.
        is_maintained: Whether expiration and orphan removal are the real code, too.
        sweep_weight: How often the real orphan removal comes.
        explodes: Whether a record becomes several rows.
        has_other_target: Whether some records go to a second target.
        sees_other_target: Whether that one is made by the first worker that sees a record for it.
        leads_vary: Whether workers disagree about which of two targets leads.
        late_schemas: Whether some records of the second target have a schema that is registered
            later: until then they are dead letters of the first.
        orphan_age_seconds: From which age on the real orphan removal takes files; above the age
            up to which `limits` let files be committed.
    """

    bad_records: bool = True
    breaking_records: bool = False
    rollbacks: bool = True
    rollback_weight: int = 1
    rewind_weight: int = 1
    worker_count: int = 1
    sequence_guard: bool = True
    limits: CommitLimits = LIMITS
    reads: bool = False
    is_maintained: bool = False
    sweep_weight: int = 4
    explodes: bool = False
    has_other_target: bool = False
    sees_other_target: bool = False
    leads_vary: bool = False
    late_schemas: bool = False
    orphan_age_seconds: float = ORPHAN_AGE_SECONDS


class World:
    """Everything that survives a kill, and the observer's knowledge of it."""

    def __init__(self, seed: int, surroundings: Surroundings, *, is_traced: bool = False) -> None:
        """Make an empty table and a topic whose records are chosen by the seed."""
        self.rng = Random(seed)
        self.surroundings = surroundings
        self.scheduler = Scheduler(self.rng)
        self.trace: list[str] | None = [] if is_traced else None
        self.is_calm = False
        self.operator_needed = False
        self.worker_count = surroundings.worker_count
        self.ids = CountingIds()
        self.clock = _WorldClock(self.scheduler)
        self.files = MemoryFiles(deleted=self._deleted)
        guard = surroundings.sequence_guard
        self.target = MemoryTable(TARGET, sequence_guard=guard)
        self.dead_letters = MemoryTable(DEAD_LETTERS, sequence_guard=guard)
        self.other = MemoryTable(OTHER_TARGET, sequence_guard=guard)
        self.targets = (
            (self.target, self.other) if surroundings.has_other_target else (self.target,)
        )
        for table in self.targets:
            table.landed = partial(self._target_landed, table)
        self.dead_letters.landed = self._dead_letters_landed
        self.hosts = (LogDirectory(), LogDirectory())
        self.hot_hosts = (HotHost(), HotHost())
        self.in_flight: list[tuple[MemoryTable, Request]] = []
        self.true_next: dict[int | None, Mapping[TopicPartition, int]] = {None: NEXT_NONE}
        self.counts: Counter[str] = Counter()
        self.registered: set[tuple[TopicPartition, int]] = set()
        self._late_letters: set[tuple[TopicPartition, int]] = set()
        if self.rng.random() < EARLIER_LIFE_RATE:
            self._give_dead_letters_an_earlier_life()
        kinds = [GOOD] * 6 + [None]
        kinds += [BAD, FLAKY, FLAKY] if surroundings.bad_records else []
        kinds += [BREAKING] if surroundings.breaking_records else []
        if surroundings.has_other_target:
            kinds += [OTHER + kind for kind in kinds if kind is not None]
        kinds += [LATE] * 4 if surroundings.late_schemas else []
        self.broker = MemoryBroker(
            topic_ids={TOPIC: "topic-id"},
            values={tp: self.rng.choices(kinds, k=RECORD_COUNT) for tp in PARTITIONS},
            high=dict.fromkeys(PARTITIONS, 2),
        )
        self.union_reads = UnionReads(
            self.target, self.files, self.broker, explodes=surroundings.explodes
        )
        for host in self.hot_hosts:
            host.changed = self._page_changed

    def _page_changed(self, host: HotHost) -> None:
        if self.surroundings.reads:
            stop_at_first(self.union_reads.page_changed(host))

    def _give_dead_letters_an_earlier_life(self) -> None:
        """Start with dead letters that outlived their target: its epochs were higher than ours."""
        snapshot_id = self.ids.snapshot_id()
        identity = Identity(PIPELINE, "cluster", {})
        owner = Owner(Epoch(500), Share(0, 1))
        text = encode_entry(Entry(identity, Checkpoint(), (owner,), snapshot_id=snapshot_id))
        version = self.dead_letters.current
        snapshot = SnapshotView(snapshot_id, None, 1, EPOCH_MS, {CHECKPOINT_KEY: text})
        self.dead_letters.apply(Request(version, snapshot, properties={CHECKPOINT_KEY: text}))

    def is_of(self, table: str, topic_partition: TopicPartition, offset: int) -> bool:
        """Tell whether a record is a table's: by its first bytes, of late ones by where it went."""
        value = self.broker.values[topic_partition][offset]
        if (topic_partition, offset) in self._late_letters:
            return table == TARGET
        return not self.surroundings.has_other_target or is_other(value) == (table == OTHER_TARGET)

    def knows(self, topic_partition: TopicPartition, offset: int) -> bool:
        """Tell whether the schema of a late record is registered by now."""
        return (topic_partition, offset) in self.registered

    def register_schema(self) -> None:
        """Register the schema of one late record."""
        late = [
            (tp, offset)
            for tp, values in self.broker.values.items()
            for offset, value in enumerate(values)
            if value == LATE and not self.knows(tp, offset)
        ]
        if late:
            self.registered.add(self.rng.choice(late))

    @cached_property
    def _without_row(self) -> Mapping[str, Mapping[TopicPartition, set[int]]]:
        return {
            table.identifier: {
                tp: {
                    offset
                    for offset, value in enumerate(values)
                    if value is None or not self.is_of(table.identifier, tp, offset)
                }
                for tp, values in self.broker.values.items()
            }
            for table in self.targets
        }

    def log(self, text: str) -> None:
        if self.trace is not None:
            process = self.scheduler.current()
            name = process.kind if process else "world"
            self.trace.append(f"{self.scheduler.time:5.0f} {name:16} {text}")

    def announce(self, point: CrashPoint) -> None:
        """Let the world go on between two steps of the code under test."""
        if self.trace is not None:
            self.log(f"  {point}")
        self.scheduler.pause()

    # Faults, decided where they strike.

    def choose_reply(self, request: Request) -> Reply:
        x = self.rng.random()
        if self.is_calm or x < 0.62:
            return Reply.TRUE
        reply = (
            Reply.LOST
            if x < 0.72
            else Reply.REPLAYED_CONFLICT
            if x < 0.80
            else Reply.LATE
            if x < 0.93
            else Reply.DROPPED
        )
        self.log(f"reply {reply.name}: {request}")
        return reply

    def versions_behind(self) -> int:
        if self.is_calm or self.rng.random() >= 0.08:
            return 0
        return self.rng.randrange(3)

    def is_down(self, _: str) -> bool:
        return not self.is_calm and self.rng.random() < 0.01

    def stay_in_flight(self, table: MemoryTable, request: Request) -> None:
        self.in_flight.append((table, request))

    def land_late(self, table: MemoryTable, request: Request) -> None:
        self.log(f"late request arrives: {request}")
        try:
            table.apply(request)
        except ConflictError as error:
            self.log(f"  {error}")

    # What a worker meets.

    def is_next_session_inline(self) -> bool:
        """Tell whether the next session runs its stages in one fiber or in lanes."""
        return self.rng.random() < 0.5

    def take(self, behind: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        """Choose how many of the records that are there a poll returns."""
        if self.is_calm:
            return behind
        count = 2 if self.rng.random() < 0.2 else 1
        chosen = self.rng.sample(sorted(behind), k=min(count, len(behind)))
        return {tp: self.rng.randint(1, min(2, behind[tp])) for tp in chosen}

    # What the observer sees.

    def _target_landed(
        self, table: MemoryTable, request: Request, before: Version, _after: Version
    ) -> None:
        name = "target" if table is self.target else "other target"
        self.log(f"landed in {name}: {request} {sorted(request.added)}")
        if request.snapshot is not None:
            self._observe_snapshot(table, request, before)
        self.check()
        if self.surroundings.reads and table is self.target:
            stop_at_first(self.union_reads.landed())

    def _observe_snapshot(self, table: MemoryTable, request: Request, before: Version) -> None:
        snapshot = request.snapshot
        assert snapshot is not None
        operation = snapshot.summary.get(OPERATION_KEY, "foreign")
        self.counts[operation] += 1
        stop_at_first(i7_broken(table.identifier, request.added, self.files.files))
        parent_next = self.true_next[request.parent]
        true_next = dict(self.true_next.get(snapshot.snapshot_id, parent_next))
        if operation in ("take-over", "rewind") and table is self.other:
            # It begins where its first worker stood: what lies below was none of it.
            stored = decode_entry(snapshot.summary[CHECKPOINT_KEY]).checkpoint.next_offsets
            true_next.update({tp: n for tp, n in stored.items() if tp not in true_next})
        if operation == "append":
            for added in decode_ranges(snapshot.summary[RANGES_KEY]):
                self._check_unpaused(table, before, added.offsets)
                true_next[added.offsets.topic_partition] = added.offsets.next_offset
        self.true_next[snapshot.snapshot_id] = true_next
        if operation not in ("rewind", "rebuild"):
            stop_at_first(i2_broken(self.true_next[before.head], true_next))
        if CHECKPOINT_KEY in snapshot.summary:
            stored = decode_entry(snapshot.summary[CHECKPOINT_KEY]).checkpoint.next_offsets
            wrong = [tp for tp in PARTITIONS if stored.get(tp, 0) != true_next.get(tp, 0)]
            if wrong:
                message = f"I2 {operation} stores {_text(stored)}, true is {_text(true_next)}"
                raise Violation(message)
        if request.removed:
            rows = [
                Counter(o for path in paths for o in self.files.files[path].origins)
                for paths in (request.added, request.removed)
            ]
            if rows[0] != rows[1]:
                message = f"I5 {request} changed the rows"
                raise Violation(message)

    def _check_unpaused(self, table: MemoryTable, before: Version, added: OffsetRange) -> None:
        """Nothing lands in a paused table, nor a record that has to pause it (I8)."""
        if (pause := before.view.paused) is not None:
            message = f"I8 {added} landed in a table that is paused: {pause}"
            raise Violation(message)
        tp = added.topic_partition
        for offset in range(added.start_offset, added.next_offset):
            value = self.broker.values[tp][offset]
            is_breaking = value is not None and value.removeprefix(OTHER) == BREAKING
            is_mine = self.is_of(table.identifier, tp, offset)
            if is_breaking and is_mine and not accepts_breaking(before):
                message = f"I8 {tp}@{offset} was passed although nobody accepted its schema"
                raise Violation(message)

    def _dead_letters_landed(self, request: Request, before: Version, after: Version) -> None:
        self.log(f"landed in dead letters: {request} {sorted(request.added)}")
        if self.surroundings.late_schemas:
            self._note_late_letters(request)
        if request.snapshot is not None:
            self.counts["in dead letters"] += 1
            stop_at_first(i7_broken(DEAD_LETTERS, request.added, self.files.files))
            checkpoints = [
                decode_entry(version.snapshots[version.head].summary[CHECKPOINT_KEY]).checkpoint
                for version in (before, after)
                if version.head is not None
            ]
            stop_at_first(i2_broken(checkpoints[0].next_offsets, checkpoints[-1].next_offsets))
        self.check()

    def _note_late_letters(self, request: Request) -> None:
        late = {
            (tp, offset)
            for path in request.added
            for tp, offset in self.files.files[path].origins
            if self.broker.values[tp][offset] == LATE
        }
        if late:
            self._late_letters |= late
            self.__dict__.pop("_without_row", None)

    def _deleted(self, path: str) -> None:
        self.log(f"deleted {path}")
        self.counts["deleted files"] += 1
        for table in (*self.targets, self.dead_letters):
            if path in table.current.reachable:
                stop_at_first(i7_broken(table.identifier, [path], self.files.files))

    def check(self) -> None:
        """Raise the first violation there is."""
        for table in (*self.targets, self.dead_letters):
            if not table.current.reachable <= self.files.files.keys():
                stop_at_first(
                    i7_broken(table.identifier, table.current.reachable, self.files.files)
                )
        dead = self.rows(self.dead_letters)
        for table in self.targets:
            if table.current.head is not None:
                stop_at_first(
                    i1_broken(
                        self.true_next[table.current.head],
                        self.rows(table),
                        self.of(table.identifier, dead),
                        without_row=self._without_row[table.identifier],
                    )
                )

    def of(
        self, table: str, rows: Mapping[TopicPartition, Counter[int]]
    ) -> Mapping[TopicPartition, Counter[int]]:
        """Return those that are a table's."""
        return {
            tp: Counter({o: n for o, n in counts.items() if self.is_of(table, tp, o)})
            for tp, counts in rows.items()
        }

    def check_caught_up(self) -> None:
        """Raise unless every record is accounted for, by rows and by the ledger's own counts."""
        self.check()
        for table in self.targets:
            head = table.current.head
            if table is self.other and head is None and not self._is_other_due:
                continue
            true_next = self.true_next[head]
            if head is None or any(true_next.get(tp, 0) != n for tp, n in self.broker.high.items()):
                message = f"I1 not caught up: {_text(true_next)} of {_text(self.broker.high)}"
                raise Violation(message)
            self._check_totals(table, head)

    @property
    def _is_other_due(self) -> bool:
        """Tell whether there is a record for the second target."""
        return any(
            self.is_of(OTHER_TARGET, tp, offset)
            for tp, n in self.broker.high.items()
            for offset in range(n)
        )

    def _check_totals(self, table: MemoryTable, head: int) -> None:
        entry = decode_entry(table.current.snapshots[head].summary[CHECKPOINT_KEY])
        rows = self.rows(table)
        dead = self.of(table.identifier, self.rows(self.dead_letters))
        for tp in PARTITIONS:
            totals = entry.totals[tp]
            # Of another table's records only how many they are is known; so are tombstones here.
            without = totals.tombstone_count + totals.filtered_count
            counted = (totals.row_count, totals.extra_row_count, totals.dead_letter_count, without)
            first = entry.first_offsets.get(tp, 0)
            excused = self._without_row[table.identifier][tp]
            excused_count = sum(1 for o in excused if first <= o < self.broker.high[tp])
            dead_count = sum(dead.get(tp, Counter[int]()).values())
            extra_count = self.extra_rows(rows[tp])
            real = (sum(rows[tp].values()), extra_count, dead_count, excused_count)
            if counted != real:
                message = f"I1 {tp}: the ledger counts {counted}, there are {real}"
                raise Violation(message)

    def rows(self, table: MemoryTable) -> Mapping[TopicPartition, Counter[int]]:
        """Return how often each record is in the table; -1 for one that is torn."""
        found: dict[TopicPartition, Counter[int]] = defaultdict(Counter)
        for path in table.current.live:
            for topic_partition, offset in self.files.files[path].origins:
                found[topic_partition][offset] += 1
        if self.surroundings.explodes and table is not self.dead_letters:
            whole = {tp: whole_records(rows) for tp, rows in found.items()}
            return defaultdict(Counter, whole)
        return found

    def extra_rows(self, offsets: Iterable[int]) -> int:
        """Return how many rows these records have beyond the first ones."""
        return extra_rows(offsets) if self.surroundings.explodes else 0


class _WorldClock:
    """The scheduler's time; sleeping lets others run."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def now_ms(self) -> int:
        return EPOCH_MS + int(self._scheduler.time * 1000)

    def boot_seconds(self) -> float:
        return self._scheduler.time

    def sleep(self, seconds: float) -> None:
        self._scheduler.sleep(seconds)


def accepts_breaking(version: Version) -> bool:
    """Tell whether an operator let records of the breaking schema become dead letters."""
    return str(BREAKING_ID) in decode_accepted(version.properties.get(ACCEPTED_KEY))


def stop_at_first(wrong: list[str]) -> None:
    """Raise the first of these sentences as a violation."""
    if wrong:
        raise Violation(wrong[0])


def _text(next_offsets: Mapping[TopicPartition, int]) -> str:
    return str([next_offsets.get(tp, 0) for tp in PARTITIONS])
