"""The session's own order: what it does after a failure, at a stop, with a new partition.

Goal: a generation commits after those before it or not at all. Method: the real session with inline
stages over fakes; the many orders of events are the simulation's part.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from k2i_core.crash_points import CrashPoint
from k2i_core.errors import DataLossError, ErrorKind, FencedError, UnavailableError
from k2i_core.iceberg.commit import CommitLimits, TableCommitter
from k2i_core.ingest.lanes import Lanes
from k2i_core.ingest.parts import Listener, Parts, SessionSettings
from k2i_core.ingest.ports import NoHotRows
from k2i_core.ingest.session import PARTITION_CHECK_SECONDS, Session
from k2i_core.ingest.targets import Target
from k2i_core.ingest.triggers import FlushLimits
from k2i_core.ledger import Share
from k2i_core.offsets import TopicPartition
from k2i_core.records import DecodedValues
from tests.fakes.inline_executor import InlineExecutor
from tests.fakes.judging_decoder import BAD, GOOD, ROW_SCHEMA, JudgingDecoder
from tests.fakes.memory_files import MemoryFiles, MemoryRows, MemoryRowWriter
from tests.fakes.memory_gateway import MemoryGateway
from tests.fakes.memory_source import MemoryBroker, MemorySource
from tests.fakes.memory_table import MemoryTable
from tests.fakes.memory_transaction_log import LogDirectory, MemoryTransactionLog
from tests.fakes.memory_verdicts import MemoryVerdicts
from tests.fakes.time_and_ids import CountingIds, ScriptedClock
from tests.invariants import i1_broken, i3_broken

P0, P1 = TopicPartition("orders", 0), TopicPartition("orders", 1)
TABLES = ("sales.orders", "sales.dead_letters")
FLUSH = FlushLimits(30.0, 1_000_000, 4, 1_000_000)
LIMITS = CommitLimits(20, 300.0, 3_600.0)


class Setup:
    def __init__(self) -> None:
        self.broker = MemoryBroker(
            topic_ids={"orders": "id-1"},
            values={P0: [GOOD, BAD, None, GOOD] * 5, P1: [GOOD] * 20},
            high={P0: 20},
        )
        self.clock = ScriptedClock()
        self.ids = CountingIds()
        self.files = MemoryFiles()
        self.tables = [MemoryTable(name) for name in TABLES]
        self.host = LogDirectory()
        self.flushed = []
        self.seen = []
        self.hot = NoHotRows()

    def session(
        self, flush: FlushLimits = FLUSH, observe=None, lanes: Lanes | None = None, **schemas
    ) -> Session:
        log = MemoryTransactionLog(self.host, self.ids.token())
        observe = observe or self.seen.append
        target, dead_letters = (
            TableCommitter(
                MemoryGateway(table, self.files.delete),
                self.clock,
                self.ids,
                LIMITS,
                log_attempt=log.attempted,
                observe=observe,
            )
            for table in self.tables
        )
        self.source = MemorySource(self.broker, self.clock, take=self.take)

        def rows(table: str) -> MemoryRows:
            return MemoryRows(
                self.files, table, ROW_SCHEMA, log, self.clock, self.ids.token, observe=observe
            )

        parts = Parts(
            source=self.source,
            targets=(
                Target(
                    table=target,
                    rows=rows(TABLES[0]),
                    make_decoder=schemas.pop("make_decoder", lambda _: JudgingDecoder()),
                    hot=self.hot,
                    **schemas,
                ),
            ),
            dead_letters=dead_letters,
            open_dead_letters=rows(TABLES[1]).open,
            read_verdicts=MemoryVerdicts(MemoryGateway(self.tables[1]), self.files),
            log=log,
            clock=self.clock,
        )
        return Session(
            parts,
            SessionSettings("pipeline", Share(0, 1), flush),
            lanes or Lanes(*[InlineExecutor()] * 5),
            listener=Listener(flushed=self.flushed.append),
            observe=observe,
        )

    def take(self, behind):
        return {tp: min(3, n) for tp, n in behind.items()}

    def run_until_caught_up(self, session: Session) -> None:
        session.run(lambda: session.positions == self.broker.high)

    def held(self, table: MemoryTable):
        held = {}
        for path in table.current.live:
            for tp, offset in self.files.files[path].origins:
                counts = held.setdefault(tp, {})
                counts[offset] = counts.get(offset, 0) + 1
        return held

    def broken(self) -> list[str]:
        tombstones = {
            tp: [o for o, v in enumerate(vs) if v is None] for tp, vs in self.broker.values.items()
        }
        rows, dead = (self.held(table) for table in self.tables)
        return i1_broken(self.broker.high, rows, dead, without_row=tombstones)


@pytest.fixture
def setup() -> Setup:
    return Setup()


class AskingDecoder(JudgingDecoder):
    """Wants schema 7 before it decodes anything."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self._known = known

    def decode(self, records: pa.RecordBatch) -> DecodedValues:
        if 7 in self._known:
            return super().decode(records)
        rows = records.select(["value"]).slice(0, 0)
        return DecodedValues(rows, missing_schema_ids=frozenset({7}))


def test_schemas_are_fetched_and_the_batch_is_decoded_again(setup):
    known: set[int] = set()
    session = setup.session(make_decoder=lambda _: AskingDecoder(known), fetch_schemas=known.update)
    session.start()
    setup.run_until_caught_up(session)
    assert setup.broken() == []


def test_a_registry_that_is_away_ends_the_session_and_gives_up_no_record(setup):
    def away(_: frozenset[int]) -> None:
        message = "the registry is away"
        raise UnavailableError(message)

    session = setup.session(make_decoder=lambda _: AskingDecoder(set()), fetch_schemas=away)
    session.start()
    with pytest.raises(UnavailableError, match="away"):
        setup.run_until_caught_up(session)
    session.abandon()
    again = setup.session()
    again.start()
    setup.run_until_caught_up(again)
    assert setup.broken() == []


def test_a_session_reads_to_the_end_and_flushes_the_rest_when_stopped(setup):
    session = setup.session()
    session.start()
    setup.run_until_caught_up(session)

    assert setup.broken() == []
    assert i3_broken(setup.broker.group_offsets, {P0: 20}, setup.broker.high) == []
    assert setup.broker.group_offsets == {P0: 20}
    assert len(setup.flushed) > 2
    assert setup.host.logs == {}


def test_real_threads_give_the_same_result(setup):
    with (
        ThreadPoolExecutor(2) as decode,
        ThreadPoolExecutor(1) as write,
        ThreadPoolExecutor(1) as encode,
        ThreadPoolExecutor(1) as finish,
        ThreadPoolExecutor(1) as commit,
    ):
        session = setup.session(lanes=Lanes(decode, write, encode, finish, commit))
        session.start()
        setup.run_until_caught_up(session)

    assert setup.broken() == []


class HeldJob(Future[Any]):
    """Says at once that it is canceled, as a thread would that comes to it."""

    def cancel(self) -> bool:
        return super().cancel() and not self.set_running_or_notify_cancel()


class HeldExecutor(InlineExecutor):
    """Keeps jobs until it is released."""

    def __init__(self) -> None:
        self._held: list[tuple[HeldJob, Callable[[], Any]]] = []
        self._is_released = False

    def submit(self, fn, /, *args, **kwargs):
        if self._is_released:
            return super().submit(fn, *args, **kwargs)
        future = HeldJob()
        self._held.append((future, partial(fn, *args, **kwargs)))
        return future

    def release(self) -> None:
        self._is_released = True
        for future, job in self._held:
            if future.set_running_or_notify_cancel():
                future.set_result(job())


def held_lanes() -> tuple[Lanes, HeldExecutor, HeldExecutor]:
    """Lanes that finish and commit nothing before their executors, the last two, are released."""
    inline, finish, commit = InlineExecutor(), HeldExecutor(), HeldExecutor()
    return Lanes(inline, inline, inline, finish, commit), finish, commit


def test_a_sealed_generation_is_counted_until_it_is_closed_and_abandoned_with_its_session(
    setup, monkeypatch
):
    abandoned = []

    def abandon(writer: MemoryRowWriter) -> None:
        abandoned.append(writer)

    monkeypatch.setattr(MemoryRowWriter, "buffered_bytes", property(lambda _: 100))
    monkeypatch.setattr(MemoryRowWriter, "abandon", abandon)
    lanes, _, _ = held_lanes()
    session = setup.session(lanes=lanes)
    session.start()
    while not session.generations_in_flight:
        session.step()
    counted = session.buffered_bytes
    session.abandon()

    assert len(abandoned) == 3  # rows and dead letters, and rows of the next generation
    assert counted == 100 * len(abandoned)


def test_memory_that_sealed_generations_take_stops_polling_and_seals_nothing_early(
    setup, monkeypatch
):
    monkeypatch.setattr(MemoryRowWriter, "buffered_bytes", property(lambda _: 100))
    lanes, finish, commit = held_lanes()
    session = setup.session(replace(FLUSH, buffered_bytes_max=250), lanes=lanes)
    session.start()
    while session.buffered_bytes < 300:
        session.step()
    positions = session.positions
    for _ in range(3):
        session.step()

    assert session.generations_in_flight == 1
    assert session.positions == positions
    finish.release()
    commit.release()
    setup.run_until_caught_up(session)
    assert setup.broken() == []


def test_dead_letters_are_committed_before_the_target(setup):
    session = setup.session()
    session.start()
    setup.run_until_caught_up(session)

    dead, target = (
        setup.seen.index(p)
        for p in (CrashPoint.DEAD_LETTERS_COMMITTED, CrashPoint.TARGET_COMMITTED)
    )
    assert dead < target
    assert setup.flushed[0].dead_letter_commit is not None


def test_the_first_rows_after_a_start_are_flushed_soon_and_a_later_tail_at_its_age(setup):
    setup.broker.high = {P0: 2}
    session = setup.session()
    session.start()
    while not setup.flushed:
        session.step()
    first_seconds = setup.clock.seconds
    setup.broker.high = {P0: 3}
    while len(setup.flushed) < 2:
        session.step()

    assert first_seconds == pytest.approx(0.5, abs=0.2)
    assert setup.clock.seconds - first_seconds == pytest.approx(30.0, abs=1.0)


def test_a_topic_created_again_meanwhile_is_not_committed(setup):
    session = setup.session()
    session.start()
    head = setup.tables[0].current.head
    setup.broker.topic_ids = {"orders": "id-2"}

    with pytest.raises(DataLossError) as raised:
        setup.run_until_caught_up(session)
    session.abandon()

    assert raised.value.kind is ErrorKind.TOPIC_RECREATED
    assert setup.tables[0].current.head == head


def test_nothing_commits_after_a_failed_generation(setup):
    first = setup.session()
    first.start()
    setup.session().start()

    with pytest.raises(FencedError):
        setup.run_until_caught_up(first)
    first.abandon()

    assert setup.flushed == []
    assert any(setup.host.logs.values())


def test_files_of_an_abandoned_session_stay_for_recovery_and_go_with_it(setup):
    session = setup.session()
    session.start()
    setup.broker.topic_ids = {"orders": "id-2"}
    with pytest.raises(DataLossError):
        setup.run_until_caught_up(session)
    session.abandon()
    left = set(setup.files.files)
    setup.broker.topic_ids = {"orders": "id-1"}

    successor = setup.session()
    successor.start()
    setup.run_until_caught_up(successor)

    assert left
    assert not left & set(setup.files.files)
    assert setup.broken() == []


def test_a_partition_added_while_running_is_read_from_its_start(setup):
    session = setup.session()
    session.start()
    for _ in range(3):
        session.step()
    setup.broker.high[P1] = 20
    setup.clock.seconds += PARTITION_CHECK_SECONDS

    setup.run_until_caught_up(session)

    assert session.positions == {P0: 20, P1: 20}
    assert setup.broken() == []


def test_a_broker_that_does_not_answer_before_a_commit_is_waited_for(setup):
    session = setup.session()
    session.start()
    topic_ids = setup.source.topic_ids
    failures = [UnavailableError("no broker")] * 30

    def unavailable():
        if failures:
            raise failures.pop()
        return topic_ids()

    setup.source.topic_ids = unavailable
    setup.run_until_caught_up(session)

    assert setup.broken() == []


def test_a_session_has_no_more_generations_waiting_than_it_may(setup):
    session = setup.session(FlushLimits(30.0, 1_000_000, 1, 1_000_000, 1))
    session.start()
    setup.run_until_caught_up(session)

    assert session.generations_in_flight == 0
    assert session.buffered_bytes == 0
    assert setup.broken() == []


def test_a_listener_that_follows_another_hears_everything_after_it():
    heard: list[tuple[str, object]] = []
    first = Listener(polled=lambda news: heard.append(("first", news)))
    second = Listener(
        polled=lambda news: heard.append(("second", news)),
        waiting=lambda: heard.append(("second", "waiting")),
    )
    both = first.followed_by(second)
    both.polled("news")
    both.waiting()
    assert heard == [("first", "news"), ("second", "news"), ("second", "waiting")]


class CrampedHotRows(NoHotRows):
    """Have room for six rows until they are committed."""

    is_shown = True

    def __init__(self) -> None:
        self.row_count = 0
        self.asked: list[tuple[int, int]] = []

    def has_room(self, waiting_bytes: int, next_bytes: int) -> bool:
        self.asked.append((waiting_bytes, next_bytes))
        return self.row_count < 6

    def append(self, generation, decoded) -> None:
        del generation
        self.row_count += decoded.rows.num_rows

    def committed(self, generation, snapshot_id) -> None:
        del generation, snapshot_id
        self.row_count = 0


def test_nothing_is_polled_that_hot_rows_have_no_room_for():
    setup = Setup()
    setup.hot = CrampedHotRows()
    session = setup.session()
    session.start()
    setup.run_until_caught_up(session)

    rows = [report.generation.counts.row_count for report in setup.flushed]
    assert len(rows) > 1
    assert max(rows) < 6 + 3  # full at six, and one poll brings three
    assert max(next_bytes for _, next_bytes in setup.hot.asked) > 0


def test_a_flush_tells_how_long_records_waited_to_be_seen(monkeypatch):
    monkeypatch.setattr("k2i_core.ingest.session.oldest_timestamp_ms", lambda _: 0.0)
    shown, hidden = Setup(), Setup()
    shown.hot = CrampedHotRows()
    for setup in (shown, hidden):
        session = setup.session()
        session.start()
        setup.run_until_caught_up(session)

    assert all(report.produced_to_visible_milliseconds >= 0 for report in shown.flushed)
    assert all(report.produced_to_visible_milliseconds is None for report in hidden.flushed)
