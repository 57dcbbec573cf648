"""One topic into several tables: each record is one table's, and every table accounts for all.

Goal: what a session does only where there are several tables. Method: the real session with inline
stages over fakes, two tables, records whose first bytes say whose they are; the many orders of
events are the simulation's part.
"""

from collections import Counter
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.dead_letters.reading import as_polled
from k2i_core.errors import ConfigError, ConflictError, DataLossError, ErrorKind
from k2i_core.iceberg.commit import CommitLimits, TableCommitter
from k2i_core.iceberg.decisions import decide_resume
from k2i_core.ingest.decoding import DecodeSettings, decode_batch
from k2i_core.ingest.landing import IDLE_SECONDS_MAX
from k2i_core.ingest.lanes import Lanes
from k2i_core.ingest.parts import Listener, Parts, SessionSettings
from k2i_core.ingest.routing import NO_MATCH, TOO_MANY_TABLES
from k2i_core.ingest.session import PARTITION_CHECK_SECONDS, Session
from k2i_core.ingest.splitting import held_counts, record_counts, split, without_held
from k2i_core.ingest.targets import Routing, Target
from k2i_core.ingest.triggers import FlushLimits
from k2i_core.ledger import Entry, Share, Totals
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.pauses import Pause
from k2i_core.records import (
    DEAD_LETTER_SCHEMA,
    POLLED_SCHEMA,
    STAGE_ROUTE,
    DecodedBatch,
    PolledBatch,
)
from tests.fakes.inline_executor import InlineExecutor
from tests.fakes.judging_decoder import (
    BAD,
    GOOD,
    LATE,
    OTHER,
    ROW_SCHEMA,
    JudgingDecoder,
    PrefixRouter,
)
from tests.fakes.memory_files import MemoryFiles, MemoryRows
from tests.fakes.memory_gateway import MemoryGateway
from tests.fakes.memory_source import MemoryBroker, MemorySource
from tests.fakes.memory_table import MemoryTable
from tests.fakes.memory_transaction_log import LogDirectory, MemoryTransactionLog
from tests.fakes.memory_verdicts import MemoryVerdicts
from tests.fakes.time_and_ids import CountingIds, ScriptedClock

P0, P1 = TopicPartition("events", 0), TopicPartition("events", 1)
FIRST, SECOND, DEAD = "sales.events", "sales.others", "sales.dead_letters"
LIMITS = CommitLimits(20, 300.0, 3_600.0)
MIXED = [GOOD, OTHER + GOOD, BAD, None, OTHER + BAD, GOOD]
PAUSE = Pause("7", "no number", "events/0@0", "2026")


class Setup:
    """A broker, three tables, a host; any number of sessions one after the other."""

    def __init__(self, values: list[bytes | None] | None = None) -> None:
        values = values or MIXED * 4
        self.broker = MemoryBroker({"events": "id-1"}, {P0: values}, {P0: len(values)})
        self.clock, self.ids, self.files = ScriptedClock(), CountingIds(), MemoryFiles()
        self.tables = {name: MemoryTable(name) for name in (FIRST, SECOND, DEAD)}
        self.host = LogDirectory()
        self.flushed = []
        self.routing = Routing(PrefixRouter(FIRST, SECOND), "rules")

    def session(self, *, age_seconds: float = 30.0, known: tuple[str, ...] = (FIRST, SECOND)):
        log = MemoryTransactionLog(self.host, self.ids.token())

        def committer(name: str) -> TableCommitter:
            gateway = MemoryGateway(self.tables[name], self.files.delete)
            return TableCommitter(gateway, self.clock, self.ids, LIMITS, log_attempt=log.attempted)

        def rows(name: str) -> MemoryRows:
            return MemoryRows(self.files, name, ROW_SCHEMA, log, self.clock, self.ids.token)

        def target(name: str) -> Target:
            return Target(committer(name), rows(name), lambda _: JudgingDecoder())

        routing = Routing(
            self.routing.router,
            self.routing.name,
            lambda: [n for n in (FIRST, SECOND) if self.tables[n].current.head is not None],
            lambda name, _polled: target(name),
        )
        parts = Parts(
            source=MemorySource(self.broker, self.clock, take=self.take),
            targets=tuple(target(name) for name in known),
            dead_letters=committer(DEAD),
            open_dead_letters=rows(DEAD).open,
            read_verdicts=MemoryVerdicts(MemoryGateway(self.tables[DEAD]), self.files, self.is_of),
            log=log,
            clock=self.clock,
            routing=routing,
        )
        return Session(
            parts,
            SessionSettings("pipeline", Share(0, 1), FlushLimits(age_seconds, 10**6, 4, 10**6)),
            Lanes(*[InlineExecutor()] * 5),
            listener=Listener(flushed=self.flushed.append),
        )

    def is_of(self, table: str, tp: TopicPartition, offset: int) -> bool:
        value = self.broker.values[tp][offset]
        is_second = value is not None and value.startswith(OTHER) and value != LATE
        return is_second == (table == SECOND)

    def take(self, behind):
        return {tp: min(3, n) for tp, n in behind.items()}

    def run(self, session: Session) -> None:
        session.start()
        session.run(lambda: session.positions == self.broker.high)

    def committer(self, name: str) -> TableCommitter:
        gateway = MemoryGateway(self.tables[name])
        return TableCommitter(
            gateway, self.clock, self.ids, LIMITS, log_attempt=lambda _t, _i: None
        )

    def entry(self, name: str) -> Entry:
        entry = self.committer(name).inspect().entry
        assert entry is not None
        return entry

    def offsets(self, name: str) -> list[int]:
        live = self.tables[name].current.live
        return sorted(o for path in live for _, o in self.files.files[path].origins)


def where(values: list[bytes | None], *wanted: bytes) -> list[int]:
    return [offset for offset, value in enumerate(values) if value in wanted]


def test_each_record_is_in_one_table_and_each_table_accounts_for_all():
    setup = Setup()
    setup.run(setup.session())

    assert setup.offsets(FIRST) == where(MIXED * 4, GOOD)
    assert setup.offsets(SECOND) == where(MIXED * 4, OTHER + GOOD)
    assert setup.offsets(DEAD) == where(MIXED * 4, BAD, OTHER + BAD)
    assert setup.entry(FIRST).totals[P0] == Totals(8, 4, 8, 4)
    assert setup.entry(SECOND).totals[P0] == Totals(4, 4, 16, 0)
    assert setup.broker.group_offsets == {P0: 24}


def test_a_table_that_gets_nothing_is_not_committed_to_until_the_session_ends():
    setup = Setup([GOOD] * 24)
    setup.run(setup.session())

    tables = Counter(report.table for report in setup.flushed)
    assert tables[FIRST] > 3
    assert tables[SECOND] == 0
    assert setup.entry(SECOND).checkpoint.next_offsets == {P0: 24}


def test_a_table_that_gets_nothing_is_committed_to_before_its_checkpoint_is_old():
    setup = Setup([GOOD] * 24)
    session = setup.session()
    session.start()
    while session.positions[P0] < 12:
        session.step()
    setup.clock.seconds += IDLE_SECONDS_MAX
    session.run(lambda: session.positions == setup.broker.high)

    assert [r.generation.counts.filtered_count for r in setup.flushed if r.table == SECOND]


def test_what_one_table_holds_already_is_read_again_for_the_other_and_dropped():
    setup = Setup()
    first = setup.session()
    setup.run(first)
    ahead = setup.tables[SECOND].versions
    setup.tables[SECOND].versions = ahead[:2]  # as if its last commits had never landed
    setup.run(setup.session())

    assert setup.offsets(FIRST) == where(MIXED * 4, GOOD)
    assert setup.offsets(SECOND) == where(MIXED * 4, OTHER + GOOD)
    assert setup.entry(FIRST).totals[P0] == Totals(8, 4, 8, 4)
    assert setup.entry(SECOND).totals[P0] == Totals(4, 4, 16, 0)


def test_a_record_that_could_not_be_told_stays_a_dead_letter_of_the_first_for_the_other_too():
    setup = Setup([GOOD, LATE, OTHER + GOOD, LATE] * 3)
    setup.routing = Routing(PrefixRouter(FIRST, SECOND, knows=lambda _tp, _offset: False), "rules")
    setup.run(setup.session())
    first = setup.tables[FIRST].versions[-1]
    setup.tables[SECOND].versions = setup.tables[SECOND].versions[:2]  # as if it had died before
    setup.routing = Routing(PrefixRouter(FIRST, SECOND), "rules")
    setup.run(setup.session())

    late = where(setup.broker.values[P0], LATE)
    assert setup.offsets(DEAD) == late
    assert setup.offsets(SECOND) == where(setup.broker.values[P0], OTHER + GOOD)
    assert setup.entry(SECOND).totals[P0] == Totals(3, 0, 9, 0)
    assert setup.entry(FIRST).totals[P0] == Totals(3, 6, 3, 0)
    assert setup.tables[FIRST].current.live == first.live


def test_what_cannot_be_told_while_its_table_is_left_out_is_set_aside_all_the_same():
    setup = Setup([GOOD, LATE, OTHER + GOOD])
    setup.routing = Routing(PrefixRouter(FIRST, SECOND, knows=lambda _tp, _offset: False), "rules")
    owner = setup.session().start().owner
    setup.committer(FIRST).pause(owner, PAUSE)
    setup.run(setup.session())
    setup.committer(FIRST).operate("resume", partial(decide_resume, accepts=False))
    setup.routing = Routing(PrefixRouter(FIRST, SECOND), "rules")
    setup.run(setup.session())

    assert [setup.offsets(name) for name in (FIRST, SECOND, DEAD)] == [[0], [2], [1]]
    assert setup.entry(FIRST).totals[P0] == Totals(1, 1, 1, 0)
    assert setup.entry(SECOND).totals[P0] == Totals(1, 0, 2, 0)


@pytest.mark.parametrize("is_running", [False, True])
def test_a_table_that_is_left_out_misses_nothing_of_partitions_that_come_meanwhile(is_running):
    setup = Setup([GOOD, OTHER + GOOD])
    owner = setup.session().start().owner
    setup.committer(SECOND).pause(owner, PAUSE)
    session = setup.session()
    if is_running:
        setup.run(session)
    setup.broker.values[P1] = [GOOD, OTHER + GOOD]
    setup.broker.high[P1] = 2
    if is_running:
        setup.clock.seconds += PARTITION_CHECK_SECONDS
        with pytest.raises(ConflictError, match="while a table is left out"):
            session.step()
        session.abandon()
    setup.run(setup.session())
    setup.committer(SECOND).operate("resume", partial(decide_resume, accepts=False))
    setup.run(setup.session())

    assert [setup.offsets(name) for name in (FIRST, SECOND)] == [[0, 0], [1, 1]]
    assert setup.entry(SECOND).totals == {P0: Totals(1, 0, 1), P1: Totals(1, 0, 1)}


def test_a_table_that_is_seen_for_the_first_time_begins_where_its_generation_does():
    setup = Setup([GOOD] * 9 + MIXED)
    setup.run(setup.session(known=(FIRST,)))

    entry = setup.entry(SECOND)
    assert setup.offsets(SECOND) == [10]
    assert 0 < entry.first_offsets[P0] <= 10
    accounted = entry.totals[P0].accounted_count
    assert accounted == entry.checkpoint.next_offsets[P0] - entry.first_offsets[P0]


def test_a_table_whose_offsets_are_lost_is_left_out_and_the_other_goes_on():
    setup = Setup()
    setup.run(setup.session())
    setup.tables[SECOND].versions = setup.tables[SECOND].versions[:2]
    setup.broker.low[P0] = 24
    setup.broker.values[P0] = MIXED * 5
    setup.broker.high[P0] = 30
    session = setup.session()
    taken = session.start()
    session.run(lambda: session.positions == setup.broker.high)

    assert isinstance(taken.left_out[SECOND], DataLossError)
    assert setup.offsets(FIRST) == where(MIXED * 5, GOOD)
    assert setup.offsets(SECOND) == []


def test_other_rules_are_refused_while_the_tables_stand_apart_and_taken_once_they_do_not():
    setup = Setup()
    setup.run(setup.session())
    whole = setup.tables[SECOND].versions
    setup.tables[SECOND].versions = whole[:2]
    setup.routing = Routing(PrefixRouter(FIRST, SECOND, swapped=GOOD), "other rules")
    with pytest.raises(ConfigError) as refused:
        setup.session().start()

    assert refused.value.kind is ErrorKind.ROUTING_CHANGED
    setup.tables[SECOND].versions = whole
    setup.session().start()


def test_a_dead_letter_that_no_table_took_is_no_row_when_it_is_read_again():
    kafka = {"topic": "events", "partition": 0, "offset": 3}
    texts = dict.fromkeys(("target_table", "fingerprint", "message"), "x")
    reasons = ((STAGE_ROUTE, NO_MATCH), (STAGE_ROUTE, TOO_MANY_TABLES), ("value", "x"))
    letters = [
        {"stage": stage, "error_class": reason, "_kafka": {**kafka, "offset": n}}
        | {**texts, "first_seen": 0, "value": GOOD}
        for n, (stage, reason) in enumerate(reasons)
    ]
    polled = as_polled(pa.RecordBatch.from_pylist(letters, schema=DEAD_LETTER_SCHEMA), 0.0)
    decoded = decode_batch(polled, JudgingDecoder(), DecodeSettings(FIRST, {}), 0)

    assert isinstance(decoded, DecodedBatch)
    assert decoded.dead_letters.column("stage").to_pylist() == [STAGE_ROUTE]
    assert decoded.rows.num_rows == 2


kinds = st.sampled_from([GOOD, BAD, OTHER + GOOD, None])


@given(st.lists(st.tuples(st.sampled_from([P0, P1]), kinds), max_size=12), st.integers(0, 12))
def test_splitting_and_dropping_keep_every_record_once(listed, held):
    rows = []
    nexts = {P0: 5, P1: 5}
    for tp, value in listed:
        rows.append({"topic": tp.topic, "partition": tp.kafka_partition, "offset": nexts[tp]})
        rows[-1]["value"] = value
        nexts[tp] += 1
    records = pa.RecordBatch.from_pylist(rows, schema=POLLED_SCHEMA)
    ranges = tuple(OffsetRange(tp, 5, n) for tp, n in nexts.items() if n > 5)
    polled = PolledBatch(records, ranges, 7, 0.0)
    pieces = dict(split(polled, PrefixRouter(FIRST, SECOND), {}))
    kept = without_held(polled, {P0: held})

    found = Counter(o for piece in pieces.values() for o in piece.records.column("offset"))
    assert found == Counter(records.column("offset"))
    assert record_counts(polled) == {r.topic_partition: len(r) for r in ranges}
    assert kept.records.num_rows == records.num_rows - sum(held_counts(polled, {P0: held}).values())
    assert all(r.start_offset >= held for r in kept.ranges if r.topic_partition == P0)
