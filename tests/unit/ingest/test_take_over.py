"""How a worker starts, and what it must not believe.

Goal: starts are written down once, lost offsets are never skipped, nothing is read or deleted
before both tables refuse the older owner. Method: the real take-over and the real commit loop over
a broker and tables in memory.
"""

from dataclasses import replace

import pytest

from k2i_core.crash_points import CrashPoint
from k2i_core.errors import ConfigError, DataLossError, ErrorKind, FencedError
from k2i_core.iceberg.commit import CommitLimits, TableCommitter
from k2i_core.iceberg.operations import Gap, decide_accept_gap, decide_rewind
from k2i_core.ingest.take_over import TakenOver, take_over
from k2i_core.ledger import Share
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import CountedRange, RangeCounts
from tests.fakes.memory_files import MemoryFiles, written_file
from tests.fakes.memory_gateway import MemoryGateway
from tests.fakes.memory_source import MemoryBroker, MemorySource
from tests.fakes.memory_table import MemoryTable
from tests.fakes.memory_transaction_log import LogDirectory, MemoryTransactionLog
from tests.fakes.memory_verdicts import MemoryVerdicts
from tests.fakes.time_and_ids import CountingIds, ScriptedClock

P0, P1, P2 = (TopicPartition("orders", n) for n in range(3))
WHOLE = Share(0, 1)
LIMITS = CommitLimits(20, 300.0, 3_600.0)


class Setup:
    """A broker, both tables, a host; any number of workers that start one after the other."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(
            topic_ids={"orders": "id-1"},
            values=dict.fromkeys((P0, P1), [b"good"] * 100),
            high={P0: 100, P1: 100},
        )
        self.clock = ScriptedClock()
        self.ids = CountingIds()
        self.files = MemoryFiles()
        self.target = MemoryTable("sales.orders")
        self.dead_letters = MemoryTable("sales.dead_letters")
        self.host = LogDirectory()

    def committer(self, table: MemoryTable) -> TableCommitter:
        gateway = MemoryGateway(table, self.files.delete)
        return TableCommitter(
            gateway, self.clock, self.ids, LIMITS, log_attempt=lambda _table, _id: None
        )

    def start(self, share: Share = WHOLE, name: str | None = None, **changes) -> TakenOver:
        log = MemoryTransactionLog(self.host, name or self.ids.token())
        parts = {
            "pipeline": "pipeline",
            "share": share,
            "source": MemorySource(self.broker, self.clock),
            "targets": [self.committer(self.target)],
            "dead_letters": self.committer(self.dead_letters),
            "read_verdicts": MemoryVerdicts(MemoryGateway(self.dead_letters), self.files),
            "log": log,
            "observe": lambda _: None,
            **changes,
        }
        return take_over(**parts)

    def append(self, taken: TakenOver, tp: TopicPartition, start: int, end: int) -> None:
        ranges = (CountedRange(OffsetRange(tp, start, end), RangeCounts(row_count=end - start)),)
        self.committer(self.target).append(taken.owner, ranges, ())


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_a_new_table_starts_by_the_policy_and_writes_that_down(setup):
    setup.broker.low = {P0: 7}

    taken = setup.start()

    assert taken.next_offsets == {P0: 7, P1: 0}
    setup.broker.low = {P0: 7, P1: 0}
    setup.broker.high = {P0: 100, P1: 100}
    assert setup.start().next_offsets == {P0: 7, P1: 0}


def test_a_restart_goes_on_at_the_checkpoint_and_mirrors_it(setup):
    taken = setup.start()
    setup.append(taken, P0, 0, 40)

    again = setup.start()

    assert again.next_offsets == {P0: 40, P1: 0}
    assert again.owner.epoch > taken.owner.epoch
    assert setup.broker.group_offsets == {P0: 40, P1: 0}


def test_a_worker_reads_its_share_and_starts_are_written_for_all(setup):
    taken = setup.start(Share(1, 2))

    assert taken.next_offsets == {P1: 0}
    entry = setup.committer(setup.target).inspect().entry
    assert entry.checkpoint.next_offsets == {P0: 0, P1: 0}


def test_a_partition_added_to_a_known_topic_starts_at_its_log_start_not_by_the_policy(setup):
    setup.start()
    setup.broker.high[P2] = 50
    setup.broker.values[P2] = [b"good"] * 50
    source = MemorySource(setup.broker, setup.clock)
    source.start_offsets = lambda tps: dict.fromkeys(tps, 50)  # as `latest` would

    assert setup.start(source=source).next_offsets[P2] == 0


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(41, 100, r"\[40,41\)"), (0, 39, "log ends at 39")],
    ids=["retention", "truncated"],
)
def test_offsets_that_kafka_no_longer_has_stop_the_worker(setup, low, high, said):
    setup.append(setup.start(), P0, 0, 40)
    setup.broker.low[P0] = low
    setup.broker.high[P0] = high

    with pytest.raises(DataLossError, match=said) as raised:
        setup.start()

    assert raised.value.kind is ErrorKind.OFFSETS_LOST


def test_lost_offsets_of_another_share_do_not_stop_this_worker(setup):
    setup.append(setup.start(), P0, 0, 40)
    setup.broker.low[P0] = 41

    assert setup.start(Share(1, 2)).next_offsets == {P1: 0}


def test_a_partition_that_is_gone_stops_the_worker(setup):
    setup.start()
    del setup.broker.high[P1]

    with pytest.raises(DataLossError, match="orders/1"):
        setup.start()


def test_a_topic_that_was_created_again_stops_the_worker_before_it_commits(setup):
    setup.start()
    setup.broker.topic_ids = {"orders": "id-2"}
    head = setup.target.current.head

    with pytest.raises(DataLossError) as raised:
        setup.start()

    assert raised.value.kind is ErrorKind.TOPIC_RECREATED
    assert setup.target.current.head == head


def test_another_pipelines_table_is_refused(setup):
    setup.start()

    with pytest.raises(ConfigError) as raised:
        setup.start(pipeline="other")

    assert raised.value.kind is ErrorKind.PIPELINE_CHANGED


def test_an_older_worker_is_fenced_in_both_tables(setup):
    old = setup.start()
    setup.start()

    ranges = (CountedRange(OffsetRange(P0, 0, 1), RangeCounts(dead_letter_count=1)),)
    for commit in (
        setup.committer(setup.target).append,
        setup.committer(setup.dead_letters).append_dead_letters,
    ):
        with pytest.raises(FencedError):
            commit(old.owner, ranges, ())


def test_a_worker_overtaken_between_the_two_tables_stops(setup):
    overtaken = []

    def overtake(point: CrashPoint) -> None:
        if point is CrashPoint.TARGET_TAKEN_OVER and not overtaken:
            overtaken.append(setup.start())

    with pytest.raises(FencedError):
        setup.start(observe=overtake)

    setup.append(overtaken[0], P0, 0, 1)


def test_a_worker_overtaken_before_it_reads_the_ledger_stops(setup):
    overtaken = []

    def overtake(point: CrashPoint) -> None:
        if point is CrashPoint.DEAD_LETTERS_TAKEN_OVER and not overtaken:
            overtaken.append(setup.start())

    with pytest.raises(FencedError):
        setup.start(observe=overtake)


def test_dead_letters_at_or_above_the_checkpoint_are_verdicts(setup):
    taken = setup.start()
    setup.append(taken, P0, 0, 5)
    setup.files.put("d", ((P0, 3), (P0, 5), (P0, 8), (P1, 0)), 0.0)
    ranges = (CountedRange(OffsetRange(P0, 0, 9), RangeCounts(dead_letter_count=3)),)
    setup.committer(setup.dead_letters).append_dead_letters(
        taken.owner, ranges, (written_file("d", 4),)
    )

    decided = setup.start().verdicts["sales.orders"]
    assert {tp: offsets.tolist() for tp, offsets in decided.items()} == {P0: [5, 8], P1: [0]}


def test_verdicts_are_read_from_the_load_that_contains_the_take_over(setup):
    states = []

    def read(_checkpoints, _from_offsets, _since, state):
        states.append(state)
        return {}

    taken = setup.start(read_verdicts=read)

    assert states[0].entry.owns_whole_share(taken.owner)
    assert states[0].view.is_ancestor(setup.dead_letters.current.head)


def test_garbage_of_an_older_worker_is_deleted_only_after_both_take_overs(setup):
    old = setup.start(name="old")
    log = setup.host.logs["old"]
    for table in ("sales.orders", "sales.dead_letters"):
        setup.files.put(f"{table}/garbage", (), 0.0)
        log.append(("file", table, 1, f"{table}/garbage"))
    setup.host.held.clear()
    seen = {}

    def look(point: CrashPoint) -> None:
        seen[point] = sorted(setup.files.files)

    setup.start(observe=look)

    assert len(seen[CrashPoint.VERDICTS_READ]) == 2
    assert seen[CrashPoint.RECOVERED] == []
    assert "old" not in setup.host.logs
    assert old.owner.epoch == 1


def test_the_steps_are_announced_in_the_order_of_the_protocol(setup):
    seen = []
    setup.start(observe=seen.append)

    assert seen == [
        CrashPoint.LOGS_LISTED,
        CrashPoint.TABLES_INSPECTED,
        CrashPoint.TARGET_TAKEN_OVER,
        CrashPoint.DEAD_LETTERS_TAKEN_OVER,
        CrashPoint.LEDGER_READ,
        CrashPoint.VERDICTS_READ,
        CrashPoint.RECOVERED,
        CrashPoint.ASSIGNED,
    ]


def test_an_identity_that_only_adds_topics_is_the_same_table(setup):
    taken = setup.start()
    setup.broker.topic_ids = {"orders": "id-1", "returns": "id-9"}

    again = setup.start()

    assert again.identity == replace(
        taken.identity, topic_ids={"orders": "id-1", "returns": "id-9"}
    )


def give_dead_letters_an_earlier_life(setup: Setup) -> None:
    """Let the dead letters outlive their target: their epochs are higher than any of its own."""
    setup.start()
    setup.target.versions[:] = setup.target.versions[:1]
    for _ in range(6):
        setup.committer(setup.dead_letters).claim(
            WHOLE, setup.committer(setup.dead_letters).inspect().entry.identity, {}, 500
        )


@pytest.mark.parametrize("operation", ["rewind", "accept-gap"])
def test_a_worker_that_claimed_before_an_operator_acted_is_not_the_owner_after(setup, operation):
    give_dead_letters_an_earlier_life(setup)
    successors = []

    def act(point: CrashPoint) -> None:
        if point is not CrashPoint.TARGET_TAKEN_OVER or successors:
            return
        claim = setup.target.current.head
        committer = setup.committer(setup.target)
        if operation == "rewind":
            committer.operate("rewind", lambda view, _: decide_rewind(view, claim))
        else:
            gap = Gap(committer.inspect().entry.identity)
            committer.operate("accept-gap", lambda view, e: decide_accept_gap(view, e, gap))
        successors.append(setup.start())

    with pytest.raises(FencedError):
        setup.start(observe=act)
