"""A worker of the simulation: the real session, over fakes that fail."""

from collections.abc import Callable

from k2i_core.errors import CorruptionError, K2iError
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.ingest.lanes import Lanes
from k2i_core.ingest.parts import Parts, SessionSettings
from k2i_core.ingest.ports import NoHotRows
from k2i_core.ingest.session import Session
from k2i_core.ingest.targets import Routing, Target
from k2i_core.ingest.triggers import FlushLimits
from k2i_core.ledger import Share
from tests.fakes.faults import FaultyGateway
from tests.fakes.inline_executor import InlineExecutor
from tests.fakes.judging_decoder import ROW_SCHEMA, JudgingDecoder, PrefixRouter
from tests.fakes.memory_files import MemoryRows
from tests.fakes.memory_gateway import MemoryGateway
from tests.fakes.memory_hot_rows import MemoryHotRows
from tests.fakes.memory_source import MemorySource
from tests.fakes.memory_table import MemoryTable
from tests.fakes.memory_transaction_log import MemoryTransactionLog
from tests.fakes.memory_verdicts import MemoryVerdicts
from tests.fakes.several_rows import SeveralRows
from tests.simulation.scheduler import LaneExecutor, Process
from tests.simulation.world import (
    DEAD_LETTERS,
    OTHER_TARGET,
    PIPELINE,
    RULES,
    TARGET,
    World,
    accepts_breaking,
)


class Worker:
    """One incarnation of a worker: where it runs, which code it runs, and its parts."""

    def __init__(self, world: World, share: Share, host: int, version: int) -> None:
        self._world = world
        self._share = share
        self._host = host
        self._version = version
        self.session: Session | None = None

    def run(self) -> None:
        """Live until stopped by a failure or, in calm times, caught up."""
        world = self._world
        process = world.scheduler.current()
        assert process is not None
        self.session = session = self._open(process)
        try:
            session.start()
            session.run(self._is_caught_up)
            world.log("worker is done")
        except K2iError as error:
            world.log(f"worker ends: {error.kind}: {error}")
            world.counts[str(error.kind)] += 1
            world.operator_needed |= isinstance(error, CorruptionError)
            session.abandon()

    def _is_caught_up(self) -> bool:
        assert self.session is not None
        high = self._world.broker.high
        return self._world.is_calm and all(
            n == high[tp] for tp, n in self.session.positions.items()
        )

    def _open(self, process: Process) -> Session:
        world, rng = self._world, self._world.rng
        directory = world.hosts[self._host]
        name = world.ids.token()
        hot_host = world.hot_hosts[self._host]

        def let_go() -> None:
            directory.held.discard(name)
            hot_host.alive.discard(name)

        process.at_end = let_go
        log = MemoryTransactionLog(directory, name, world.scheduler.pause)
        dead_letters = open_gateway(world, world.dead_letters)

        def rows(table: str) -> MemoryRows:
            return MemoryRows(
                world.files,
                table,
                ROW_SCHEMA,
                log,
                world.clock,
                world.ids.token,
                pause=world.scheduler.pause,
                observe=world.announce,
            )

        def target(table: MemoryTable) -> Target:
            return Target(
                table=open_committer(world, open_gateway(world, table), log),
                rows=rows(table.identifier),
                make_decoder=lambda _: JudgingDecoder(
                    self._version, accepts_breaking=accepts_breaking(table.current)
                ),
                transforms=SeveralRows() if world.surroundings.explodes else None,
                hot=MemoryHotRows(hot_host, name) if table is world.target else NoHotRows(),
            )

        parts = Parts(
            source=MemorySource(
                world.broker, world.clock, take=world.take, pause=world.scheduler.pause
            ),
            targets=tuple(target(table) for table in self._known()),
            dead_letters=open_committer(world, dead_letters, log),
            open_dead_letters=rows(DEAD_LETTERS).open,
            read_verdicts=MemoryVerdicts(dead_letters, world.files, world.is_of),
            log=log,
            clock=world.clock,
            routing=self._routing(lambda: target(world.other)),
        )
        flush = FlushLimits(
            age_seconds_max=float(rng.randint(2, 8)),
            byte_count_max=1_000_000,
            record_count_max=rng.randint(1, 4),
            buffered_bytes_max=1_000_000,
            generations_in_flight_max=rng.randint(1, 3),
        )
        settings = SessionSettings(PIPELINE, self._share, flush)
        return Session(parts, settings, self._lanes(process), observe=world.announce)

    def _known(self) -> list[MemoryTable]:
        """Return the targets that a start finds, in the order in which this version leads."""
        world, around = self._world, self._world.surroundings
        known = [table for table in world.targets if table is world.target or self._is_known(table)]
        return known[::-1] if around.leads_vary and self._version else known

    def _is_known(self, table: MemoryTable) -> bool:
        return not self._world.surroundings.sees_other_target or table.current.head is not None

    def _routing(self, open_other: Callable[[], Target]) -> Routing | None:
        world, around = self._world, self._world.surroundings
        if not around.has_other_target:
            return None
        return Routing(
            PrefixRouter(TARGET, OTHER_TARGET, knows=world.knows),
            name=RULES,
            seen_tables=lambda: [t.identifier for t in world.targets if self._is_known(t)],
            open_seen=lambda _name, _polled: open_other(),
        )

    def _lanes(self, process: Process) -> Lanes:
        if self._world.is_next_session_inline():
            return Lanes(*[InlineExecutor()] * 5)
        scheduler = self._world.scheduler
        return Lanes(
            decode=LaneExecutor(scheduler, process, 2),
            write=LaneExecutor(scheduler, process),
            encode=LaneExecutor(scheduler, process),
            finish=LaneExecutor(scheduler, process),
            commit=LaneExecutor(scheduler, process),
        )


def open_gateway(world: World, table: MemoryTable) -> FaultyGateway:
    """Return a catalog connection that fails as the world decides."""
    inner = MemoryGateway(table, world.files.delete, world.scheduler.pause)
    return FaultyGateway(
        inner,
        table,
        choose_reply=world.choose_reply,
        versions_behind=world.versions_behind,
        is_down=world.is_down,
        late=world.stay_in_flight,
    )


def open_committer(
    world: World, gateway: FaultyGateway, log: MemoryTransactionLog | None = None
) -> TableCommitter:
    """Return the real commit loop over that connection."""
    return TableCommitter(
        gateway,
        world.clock,
        world.ids,
        world.surroundings.limits,
        log_attempt=log.attempted if log else lambda _table, _snapshot_id: None,
        observe=world.announce,
    )
