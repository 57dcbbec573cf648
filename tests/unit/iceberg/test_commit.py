"""The commit loop against a catalog that answers late, wrongly, or not at all.

Goal: whatever the catalog says, a generation lands at most once, and only for the owner. Method:
the real loop over a table in memory; each test is named for the bug that it would show.
"""

from dataclasses import replace

import pytest

from k2i_core.crash_points import CrashPoint
from k2i_core.errors import (
    ConfigError,
    ConflictError,
    CorruptionError,
    ErrorKind,
    FencedError,
    UnavailableError,
)
from k2i_core.iceberg.commit import RANGES_INLINE_MAX, CommitLimits, TableCommitter
from k2i_core.iceberg.gateway import SnapshotView
from k2i_core.iceberg.operations import decide_rewind
from k2i_core.ledger import (
    CHECKPOINT_KEY,
    COMMIT_ID_KEY,
    OPERATION_KEY,
    RANGES_KEY,
    Epoch,
    Identity,
    Owner,
    Share,
    decode_entry,
    decode_ranges,
)
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import CountedRange, RangeCounts
from tests.fakes.faults import FaultyGateway, Reply
from tests.fakes.memory_files import written_file
from tests.fakes.memory_gateway import MemoryGateway
from tests.fakes.memory_table import MemoryTable, Request
from tests.fakes.time_and_ids import CountingIds, ScriptedClock

PARTITION = TopicPartition("orders", 0)
IDENTITY = Identity("pipeline", "cluster", {"orders": "topic-id"})
LIMITS = CommitLimits(attempt_count_max=20, seconds_max=300.0, file_age_seconds_max=3_600.0)


class Setup:
    """A table, the catalog before it, and committers that share both."""

    def __init__(self) -> None:
        self.table = MemoryTable("sales.orders")
        self.clock = ScriptedClock(start=10_000.0)
        self.ids = CountingIds()
        self.replies: list[Reply] = []
        self.before_send: list[object] = []
        self.late: list[Request] = []
        self.down_until = 0.0
        self.logged: list[tuple[str, int]] = []
        self.sent: list[Request] = []
        self.deleted: list[str] = []

    def committer(self, limits: CommitLimits = LIMITS, **changes: object) -> TableCommitter:
        inner = MemoryGateway(self.table, self.deleted.extend)
        gateway = FaultyGateway(
            inner,
            self.table,
            choose_reply=self._choose_reply,
            is_down=lambda _: self.clock.seconds < self.down_until,
            late=lambda _, request: self.late.append(request),
        )
        parts = {"log_attempt": lambda *attempt: self.logged.append(attempt), **changes}
        return TableCommitter(gateway, self.clock, self.ids, limits, **parts)

    def _choose_reply(self, request: Request) -> Reply:
        self.sent.append(request)
        if self.before_send:
            self.before_send.pop(0)()
        return self.replies.pop(0) if self.replies else Reply.TRUE

    def claimed(self, **changes: object) -> tuple[TableCommitter, Owner]:
        committer = self.committer(**changes)
        owner, _ = committer.claim(Share(0, 1), IDENTITY, {PARTITION: 0}, Epoch(0))
        self.logged.clear()
        self.sent.clear()
        return committer, owner

    def append_foreign(self) -> None:
        current = self.table.current
        snapshot = SnapshotView(
            self.ids.snapshot_id(),
            current.head,
            current.last_sequence_number + 1,
            current.last_updated_ms + 1,
            {},
        )
        self.table.apply(Request(current, snapshot, current.head, (f"foreign-{current.number}",)))

    def next_offset(self) -> int:
        head = self.table.current.snapshots[self.table.current.head]
        return decode_entry(head.summary[CHECKPOINT_KEY]).checkpoint.next_offsets[PARTITION]

    def appends(self) -> list[SnapshotView]:
        snapshots = self.table.current.snapshots.values()
        return [s for s in snapshots if s.summary.get(OPERATION_KEY) == "append"]


def counted(start: int, end: int) -> tuple[CountedRange, ...]:
    return (CountedRange(OffsetRange(PARTITION, start, end), RangeCounts(row_count=end - start)),)


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_a_commit_carries_checkpoint_ranges_and_the_same_text_as_property(setup):
    committer, owner = setup.claimed()

    report = committer.append(owner, counted(0, 5), (written_file("a", 5, 10_000.0),))

    summary = setup.table.current.snapshots[report.snapshot_id].summary
    entry = decode_entry(summary[CHECKPOINT_KEY])
    assert entry.snapshot_id == report.snapshot_id
    assert entry.checkpoint.next_offsets == {PARTITION: 5}
    assert entry.totals[PARTITION].row_count == 5
    assert decode_ranges(summary[RANGES_KEY])[0].offsets == OffsetRange(PARTITION, 0, 5)
    assert len(summary[COMMIT_ID_KEY]) == 32
    assert setup.table.current.properties == {CHECKPOINT_KEY: summary[CHECKPOINT_KEY]}
    assert list(setup.table.current.live) == ["a"]
    assert setup.logged == [("sales.orders", report.snapshot_id)]
    assert report.attempt_count == 1


@pytest.mark.parametrize("reply", [Reply.LOST, Reply.REPLAYED_CONFLICT])
def test_a_commit_that_landed_and_was_called_failed_is_found_not_repeated(setup, reply):
    committer, owner = setup.claimed()
    setup.replies = [reply]

    report = committer.append(owner, counted(0, 5), (written_file("a", 5, 10_000.0),))

    assert [s.snapshot_id for s in setup.appends()] == [report.snapshot_id]
    assert len(setup.sent) == 1


def test_a_lost_commit_is_found_below_a_foreign_one(setup):
    committer, owner = setup.claimed()
    setup.replies = [Reply.LOST]
    setup.clock.on_sleep = lambda _: setup.append_foreign()

    report = committer.append(owner, counted(0, 5), (written_file("a", 5, 10_000.0),))

    assert setup.table.current.head != report.snapshot_id
    assert len(setup.appends()) == 1


def test_a_request_that_lands_while_the_next_attempt_is_under_way_lands_once(setup):
    committer, owner = setup.claimed()
    setup.replies = [Reply.LATE, Reply.TRUE]
    setup.before_send = [lambda: None, lambda: setup.table.apply(setup.late[0])]

    report = committer.append(owner, counted(0, 5), (written_file("a", 5, 10_000.0),))

    assert len(setup.sent) == 2
    assert [s.snapshot_id for s in setup.appends()] == [report.snapshot_id]
    assert report.snapshot_id == setup.late[0].snapshot.snapshot_id


def test_a_dropped_request_is_sent_again_on_a_fresh_load(setup):
    committer, owner = setup.claimed()
    setup.replies = [Reply.DROPPED]

    report = committer.append(owner, counted(0, 5), (written_file("a", 5, 10_000.0),))

    assert report.attempt_count == 2
    assert setup.next_offset() == 5


def test_every_attempt_is_logged_before_it_is_sent(setup):
    setup.replies = []
    order: list[str] = []
    committer, owner = setup.claimed(
        log_attempt=lambda _, snapshot_id: order.append(f"log {snapshot_id}")
    )
    order.clear()
    setup.replies = [Reply.DROPPED, Reply.DROPPED]
    setup.before_send = [lambda: order.append("send")] * 3

    committer.append(owner, counted(0, 5), ())

    ids = [request.snapshot.snapshot_id for request in setup.sent]
    assert order == [text for i in ids for text in (f"log {i}", "send")]
    assert len(set(ids)) == 3


def test_nothing_is_sent_when_the_log_cannot_be_written(setup):
    _, owner = setup.claimed()

    def fail(_table: str, _snapshot_id: int) -> None:
        message = "disk is full"
        raise UnavailableError(message, kind=ErrorKind.STORAGE_UNAVAILABLE)

    with pytest.raises(UnavailableError, match="disk is full"):
        setup.committer(log_attempt=fail).append(owner, counted(0, 5), ())

    assert setup.sent == []


def test_a_conflict_storm_is_retried_from_a_fresh_load_each_time(setup):
    committer, owner = setup.claimed()
    setup.before_send = [setup.append_foreign] * 12

    report = committer.append(owner, counted(0, 5), (written_file("a", 5, 10_000.0),))

    assert report.attempt_count == 13
    assert len(setup.appends()) == 1


def test_a_conflict_storm_without_end_gives_up_at_the_limit_and_deletes_nothing(setup):
    committer, owner = setup.claimed()
    setup.before_send = [setup.append_foreign] * 100

    with pytest.raises(UnavailableError) as raised:
        committer.append(owner, counted(0, 5), (written_file("a", 5, 10_000.0),))

    assert raised.value.kind is ErrorKind.COMMIT_EXHAUSTED
    assert len(setup.sent) == LIMITS.attempt_count_max
    assert setup.deleted == []


def test_waits_grow_and_stay_short(setup):
    committer, owner = setup.claimed()
    setup.before_send = [setup.append_foreign] * 12

    committer.append(owner, counted(0, 5), ())

    assert setup.clock.slept[0] < 0.1
    assert max(setup.clock.slept) <= 2.0
    assert setup.clock.slept[5] > setup.clock.slept[0]


def test_an_attempt_that_landed_and_was_rolled_back_fences(setup):
    committer, owner = setup.claimed()
    base = setup.table.current.head
    setup.replies = [Reply.LOST]
    setup.clock.on_sleep = lambda _: setup.table.apply(Request(setup.table.current, head=base))

    with pytest.raises(FencedError) as raised:
        committer.append(owner, counted(0, 5), (written_file("a", 5, 10_000.0),))

    assert raised.value.kind is ErrorKind.COMMIT_ROLLED_BACK
    assert setup.deleted == []


def test_a_younger_owner_fences_an_older_one(setup):
    committer, owner = setup.claimed()
    setup.claimed()

    with pytest.raises(FencedError) as raised:
        committer.append(owner, counted(0, 5), ())

    assert raised.value.kind is ErrorKind.OWNER_CHANGED
    assert setup.sent == []


def test_an_owner_that_takes_over_between_load_and_request_fences_the_retry(setup):
    committer, owner = setup.claimed()
    setup.before_send = [lambda: Setup.claimed(setup)]

    with pytest.raises(FencedError):
        committer.append(owner, counted(0, 5), ())

    assert setup.appends() == []


def test_an_offset_that_is_in_the_table_already_fences(setup):
    committer, owner = setup.claimed()
    committer.append(owner, counted(0, 5), ())

    with pytest.raises(FencedError) as raised:
        committer.append(owner, counted(3, 8), ())

    assert raised.value.kind is ErrorKind.CHECKPOINT_STALE
    assert setup.next_offset() == 5


def test_files_that_waited_too_long_are_not_committed(setup):
    committer, owner = setup.claimed()

    with pytest.raises(ConflictError) as raised:
        committer.append(owner, counted(0, 5), (written_file("a", 5, 10_000.0 - 3_601.0),))

    assert raised.value.kind is ErrorKind.FILES_TOO_OLD
    assert setup.sent == []


def test_files_that_grow_too_old_while_the_catalog_is_down_are_not_committed(setup):
    committer, owner = setup.claimed(limits=replace(LIMITS, file_age_seconds_max=30.0))
    setup.down_until = setup.clock.seconds + 40.0

    with pytest.raises(ConflictError) as raised:
        committer.append(owner, counted(0, 5), (written_file("a", 5, setup.clock.seconds),))

    assert raised.value.kind is ErrorKind.FILES_TOO_OLD


@pytest.mark.parametrize(
    "change",
    [
        {"spec_id": 1},
        {"schema_id": 1, "field_ids": {0: frozenset(range(1, 9)), 1: frozenset(range(1, 8))}},
    ],
    ids=["another spec", "dropped column"],
)
def test_files_that_the_table_would_misread_are_not_committed(setup, change):
    committer, owner = setup.claimed()
    setup.table.change(**change)

    with pytest.raises(ConflictError) as raised:
        committer.append(owner, counted(0, 5), (written_file("a", 5, 10_000.0),))

    assert raised.value.kind is ErrorKind.TABLE_CHANGED
    assert setup.sent == []


def test_files_of_an_older_schema_are_committed_when_only_columns_were_added(setup):
    committer, owner = setup.claimed()
    fields = setup.table.current.field_ids[0]
    setup.table.change(schema_id=1, field_ids={0: fields, 1: fields | {20}})

    committer.append(owner, counted(0, 5), (written_file("a", 5, 10_000.0),))

    assert setup.next_offset() == 5


def test_a_clock_a_little_behind_the_table_still_gives_growing_timestamps(setup):
    committer, owner = setup.claimed()
    setup.clock.wall_offset_ms = -300_000
    before = setup.table.current.last_updated_ms

    committer.append(owner, counted(0, 5), ())

    assert setup.table.current.last_updated_ms == before + 1


def test_a_clock_far_behind_the_table_stops(setup):
    committer, owner = setup.claimed()
    setup.clock.wall_offset_ms = -700_000

    with pytest.raises(ConfigError) as raised:
        committer.append(owner, counted(0, 5), ())

    assert raised.value.kind is ErrorKind.CLOCK_BEHIND_TABLE


def test_a_catalog_that_is_down_for_20_seconds_is_waited_for(setup):
    committer, owner = setup.claimed()
    setup.down_until = setup.clock.seconds + 20.0

    committer.append(owner, counted(0, 5), ())

    assert setup.next_offset() == 5


def test_a_catalog_that_stays_down_ends_the_commit_within_its_time(setup):
    committer, owner = setup.claimed()
    started = setup.clock.seconds
    setup.down_until = started + 10_000.0

    with pytest.raises(UnavailableError):
        committer.append(owner, counted(0, 5), ())

    assert setup.clock.seconds - started <= LIMITS.seconds_max + 2.0


def test_a_store_that_takes_no_metadata_is_tried_again_without_a_logged_attempt(setup):
    committer, owner = setup.claimed()
    gateway = committer._gateway
    failures = [UnavailableError("no space"), None]
    prepare = gateway.prepare

    def failing(view, change):
        failure = failures.pop(0)
        if failure:
            raise failure
        return prepare(view, change)

    gateway.prepare = failing
    report = committer.append(owner, counted(0, 5), ())

    assert report.attempt_count == 1
    assert len(setup.logged) == 1


def test_a_table_of_format_version_1_is_refused(setup):
    setup.table.change(format_version=1)

    with pytest.raises(ConfigError) as raised:
        setup.committer().inspect()

    assert raised.value.kind is ErrorKind.FORMAT_VERSION


def test_two_first_commits_on_an_empty_table_give_two_epochs(setup):
    other: list[Owner] = []
    setup.before_send = [lambda: other.append(setup.claimed()[1])]

    owner, _ = setup.committer().claim(Share(0, 1), IDENTITY, {PARTITION: 0}, Epoch(0))

    assert owner.epoch > other[0].epoch


def test_a_claim_is_younger_than_epochs_of_other_tables(setup):
    owner, _ = setup.committer().claim(Share(0, 1), IDENTITY, {PARTITION: 0}, Epoch(41))

    assert owner.epoch == 42


def test_a_take_over_that_is_no_longer_in_the_history_fences(setup):
    committer, _ = setup.claimed()
    base = setup.table.current.head
    setup.append_foreign()
    report = committer.operate("rewind", lambda view, _: decide_rewind(view, base))

    with pytest.raises(FencedError) as raised:
        committer.inspect_after(base + 1_000)

    assert raised.value.kind is ErrorKind.COMMIT_ROLLED_BACK
    assert committer.inspect_after(report.snapshot_id).entry is not None


def test_an_operator_settles_what_nobody_may_believe(setup):
    committer, owner = setup.claimed()
    base = setup.table.current.head
    committer.append(owner, counted(0, 5), ())
    setup.table.apply(Request(setup.table.current, head=base))
    with pytest.raises(CorruptionError):
        committer.inspect()

    committer.operate("rewind", lambda view, _: decide_rewind(view, base))

    assert committer.inspect().entry.checkpoint.next_offsets == {PARTITION: 0}


def test_a_kafka_partition_that_came_after_what_is_rewound_to_begins_where_it_began(setup):
    committer, owner = setup.claimed()
    base = setup.table.current.head
    later, again = TopicPartition("orders", 1), TopicPartition("new", 0)
    wider = replace(IDENTITY, topic_ids={**IDENTITY.topic_ids, "new": "id"})
    committer.extend(owner, wider, {later: 7, again: 3})
    committer.append(owner, (CountedRange(OffsetRange(later, 7, 9), RangeCounts(row_count=2)),), ())

    committer.operate("rewind", lambda view, _: decide_rewind(view, base))

    entry = committer.inspect().entry
    assert entry.checkpoint.next_offsets == {PARTITION: 0, later: 7, again: 3}
    assert entry.first_offsets == {PARTITION: 0, later: 7, again: 3}
    assert not any(totals.row_count for totals in entry.totals.values())


def test_many_ranges_are_left_to_the_difference_of_checkpoints(setup):
    starts = {TopicPartition("orders", n): 0 for n in range(RANGES_INLINE_MAX + 1)}
    committer = setup.committer()
    owner, _ = committer.claim(Share(0, 1), IDENTITY, starts, Epoch(0))
    ranges = tuple(CountedRange(OffsetRange(tp, 0, 1), RangeCounts(row_count=1)) for tp in starts)

    report = committer.append(owner, ranges, ())

    assert RANGES_KEY not in setup.table.current.snapshots[report.snapshot_id].summary


def test_steps_are_announced_in_order(setup):
    seen: list[CrashPoint] = []
    setup.claimed(observe=seen.append)

    assert seen == [
        CrashPoint.REQUEST_PREPARED,
        CrashPoint.ATTEMPT_LOGGED,
        CrashPoint.REQUEST_SENT,
    ]
