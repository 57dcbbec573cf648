"""One seed, one run: a world, its actors, what befalls them, and a calm end in which all must fit.

A step either lets something happen (a late request arrives, a worker starts or is killed, an actor
comes) or lets one fiber run to its next pause. After the last step the faults end, one worker reads
to the end of the topic, and every record must be accounted for exactly once.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from itertools import chain
from unittest.mock import patch

from k2i_core.ingest import session
from k2i_core.ledger import Share
from tests.simulation.environment import Environment, living
from tests.simulation.maintenance import MaintainedEnvironment
from tests.simulation.memoized import memoized
from tests.simulation.scheduler import fiber_wait
from tests.simulation.variants import VARIANTS, applied
from tests.simulation.workers import Worker
from tests.simulation.world import PARTITIONS, RECORD_COUNT, Violation, World

STEP_COUNT = 500
WORKER_COUNT_MAX = 4
DRAIN_STEPS_MAX = 4_000
DRAIN_SESSIONS_MAX = 8


def replay_command(variant: str, seed: int) -> str:
    """Return what shows this run step by step."""
    return f"python -m tests.simulation.soak --variant {variant} --seed {seed} --trace"


class Simulation:
    """One run of one seed."""

    def __init__(self, seed: int, variant: str = "fixed", *, is_traced: bool = False) -> None:
        """Make the world of that seed."""
        self.seed = seed
        self.variant = variant
        self.world = World(seed, VARIANTS[variant].surroundings, is_traced=is_traced)
        is_maintained = VARIANTS[variant].surroundings.is_maintained
        around = MaintainedEnvironment if is_maintained else Environment
        self._environments = [around(self.world, table) for table in self.world.targets]
        self._jobs = {
            kind + " of others" * place: job
            for place, environment in enumerate(self._environments)
            for kind, job in environment.jobs().items()
        }

    def run(self, step_count: int = STEP_COUNT) -> None:
        """Run to the calm end.

        Raises:
            Violation: An invariant does not hold.

        """
        scheduler = self.world.scheduler
        rule_taken_out = VARIANTS[self.variant].patches
        with applied(chain(without_threads(self.world), memoized(), rule_taken_out())):
            try:
                for _ in range(step_count):
                    self._step()
                self._drain()
            finally:
                scheduler.kill_all()

    def _step(self) -> None:  # noqa: C901 - the table of what may happen, in one place
        world, rng, scheduler = self.world, self.world.rng, self.world.scheduler
        scheduler.time += 1
        x = rng.random()
        workers = [p for p in scheduler.processes if p.kind.startswith("worker")]
        if world.in_flight and x < 0.05:
            table, request = world.in_flight.pop(rng.randrange(len(world.in_flight)))
            if rng.random() < 0.85:
                world.land_late(table, request)
        elif x < 0.09:
            if len(workers) < WORKER_COUNT_MAX:  # the old ones may live on: zombies
                self._start_worker(rng.randrange(world.worker_count), world.worker_count)
        elif x < 0.11 and workers:
            victim = rng.choice(workers)
            world.log(f"kill {victim.kind}")
            scheduler.kill(victim)
        elif x < 0.12 and workers:
            sleeper = rng.choice(workers)
            sleeper.resumes = scheduler.time + rng.randint(5, 150)
            world.log(f"{sleeper.kind} stops until {sleeper.resumes:.0f}")
        elif x < 0.125:
            world.worker_count = rng.choice((1, 2, 3))
        elif x < 0.15:
            topic_partition = rng.choice(PARTITIONS)
            high = world.broker.high
            high[topic_partition] = min(RECORD_COUNT, high[topic_partition] + 2)
        elif x < 0.20:
            self._start_actor()
        elif x < 0.22 and world.operator_needed:
            world.operator_needed = False
            scheduler.spawn("operator", living(self._operate, world))
        elif ready := scheduler.ready():
            scheduler.advance(rng.choice(ready))

    def _operate(self) -> None:
        for environment in self._environments:
            environment.operate()

    def _resume(self) -> None:
        for environment in self._environments:
            environment.resume()

    def _start_worker(self, slot: int, count: int) -> None:
        world, rng = self.world, self.world.rng
        worker = Worker(world, Share(slot, count), rng.randrange(2), rng.randrange(2))
        kind = f"worker {slot}/{count} #{world.ids.snapshot_id()}"
        world.log(f"start {kind}")
        world.scheduler.spawn(kind, worker.run)

    def _start_actor(self) -> None:
        world = self.world
        kind = world.rng.choices(list(self._jobs), [often for often, _ in self._jobs.values()])[0]
        if not any(process.kind == kind for process in world.scheduler.processes):
            world.scheduler.spawn(kind, living(self._jobs[kind][1], world))

    def _drain(self) -> None:
        world, scheduler = self.world, self.world.scheduler
        world.log("drain")
        for table, request in world.in_flight:
            world.land_late(table, request)
        world.in_flight.clear()
        scheduler.kill_all()
        world.is_calm = True
        world.worker_count = 1
        scheduler.switch_rate = 0.0
        for _ in range(DRAIN_SESSIONS_MAX):
            world.operator_needed = False
            self._start_worker(0, 1)
            self._advance_all()
            if world.operator_needed:
                scheduler.spawn("operator", living(self._operate, world))
                self._advance_all()
            elif any(table.current.view.paused for table in world.targets):
                scheduler.spawn("operator", living(self._resume, world))
                self._advance_all()
            elif self._is_caught_up():
                break
        world.check_caught_up()

    def _is_caught_up(self) -> bool:
        world = self.world
        heads = [table.current.head for table in world.targets]
        return all(
            world.true_next[head].get(tp, 0) == n
            for tp, n in world.broker.high.items()
            for head in heads
        )

    def _advance_all(self) -> None:
        scheduler = self.world.scheduler
        for _ in range(DRAIN_STEPS_MAX):
            if not scheduler.processes:
                return
            scheduler.time += 1
            if ready := scheduler.ready():
                scheduler.advance(self.world.rng.choice(ready))
        message = f"I1 nothing ends after the faults ended: {scheduler.processes}"
        raise Violation(message)


def without_threads(world: World) -> Iterable[AbstractContextManager[object]]:
    """Return the patch for sessions that wait for lanes, which are fibers of one thread here."""
    yield patch.object(session, "wait", fiber_wait(world.scheduler))
