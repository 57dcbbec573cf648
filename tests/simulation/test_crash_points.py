"""Kill a worker after every single step, and lose or delay every single request.

Goal: wherever a worker dies, its successor ends with every record exactly once. Method: three
flushes with rows, dead letters and tombstones in a calm world; count how often each crash point is
announced; then run once for every announcement, dying there. The successor runs another version of
the code, so that flaky records change their verdict. Dying *before* a step is dying after the one
before it.
"""

from collections import Counter
from collections.abc import Mapping

import pytest

from k2i_core.crash_points import WORKER_POINTS, CrashPoint
from k2i_core.ledger import Share
from k2i_core.offsets import TopicPartition
from tests.fakes.faults import Reply
from tests.fakes.judging_decoder import BAD, FLAKY, GOOD, OTHER
from tests.fakes.memory_table import Request
from tests.simulation.scheduler import Process
from tests.simulation.simulation import without_threads
from tests.simulation.variants import applied
from tests.simulation.workers import Worker
from tests.simulation.world import PARTITIONS, Surroundings, World

RECORDS = (GOOD, BAD, FLAKY, FLAKY, None, GOOD, BAD, GOOD, FLAKY)
MIXED = tuple(
    value if value is None or number % 2 else OTHER + value for number, value in enumerate(RECORDS)
)
STEPS_MAX = 20_000


class ScriptedWorld(World):
    """A calm world in which one thing goes wrong, at a place that the test names."""

    def __init__(self, *, is_inline: bool, has_other_target: bool = False) -> None:
        super().__init__(
            0, Surroundings(has_other_target=has_other_target, sees_other_target=has_other_target)
        )
        self.is_calm = True
        self.scheduler.switch_rate = 0.0
        records = MIXED if has_other_target else RECORDS
        self.broker.values = dict.fromkeys(PARTITIONS, records)
        self.broker.high = dict.fromkeys(PARTITIONS, len(RECORDS))
        self.announced: Counter[CrashPoint] = Counter()
        self.kill_at: tuple[CrashPoint, int] | None = None
        self.request_count = 0
        self.replies: dict[int, Reply] = {}
        self.dies_sending = 0
        self._is_inline = is_inline

    def is_next_session_inline(self) -> bool:
        return self._is_inline

    def take(self, behind: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        return {tp: min(3, count) for tp, count in behind.items()}

    def announce(self, point: CrashPoint) -> None:
        super().announce(point)
        self.announced[point] += 1
        if self.kill_at == (point, self.announced[point]):
            self.scheduler.die()

    def choose_reply(self, request: Request) -> Reply:
        self.request_count += 1
        reply = self.replies.get(self.request_count, Reply.TRUE)
        if self.request_count == self.dies_sending:
            if reply is Reply.LATE:
                self.in_flight.append((self._table_of(request), request))
            elif reply is Reply.LOST:
                self._table_of(request).apply(request)
            self.scheduler.die()
        return reply

    def _table_of(self, request: Request):
        tables = (*self.targets, self.dead_letters)
        return next(table for table in tables if table.current.uuid == request.base.uuid)

    def start(self, version: int) -> Process:
        worker = Worker(self, Share(0, 1), host=0, version=version)
        return self.scheduler.spawn("worker", worker.run)

    def finish(self) -> None:
        """Run every process to its end."""
        for _ in range(STEPS_MAX):
            if not self.scheduler.processes:
                return
            self.scheduler.time += 1
            if ready := self.scheduler.ready():
                self.scheduler.advance(self.rng.choice(ready))
        pytest.fail(f"nothing ends: {self.scheduler.processes}")

    def restart_until_caught_up(self) -> None:
        for _ in range(3):
            self.start(version=1)
            self.finish()
        self.check_caught_up()

    def land_all_late(self) -> None:
        while self.in_flight:
            self.land_late(*self.in_flight.pop(0))


def run_undisturbed(*, has_other_target: bool = False) -> ScriptedWorld:
    world = ScriptedWorld(is_inline=True, has_other_target=has_other_target)
    world.start(version=0)
    world.finish()
    world.check_caught_up()
    return world


UNDISTURBED = run_undisturbed()
ANNOUNCED = [
    (point, occurrence)
    for point in WORKER_POINTS
    for occurrence in range(1, UNDISTURBED.announced[point] + 1)
]
REQUESTS = range(1, UNDISTURBED.request_count + 1)
SEVERAL = run_undisturbed(has_other_target=True)
ANNOUNCED_BY_SEVERAL = [
    (point, occurrence)
    for point in WORKER_POINTS
    for occurrence in range(1, SEVERAL.announced[point] + 1)
]


def test_every_crash_point_is_announced():
    assert set(UNDISTURBED.announced) == set(WORKER_POINTS)


@pytest.mark.parametrize("is_inline", [True, False], ids=["inline", "lanes"])
@pytest.mark.parametrize(("point", "occurrence"), ANNOUNCED)
def test_a_worker_killed_at_any_step_loses_and_doubles_nothing(point, occurrence, is_inline):
    world = ScriptedWorld(is_inline=is_inline)
    world.kill_at = (point, occurrence)
    with applied(without_threads(world)):
        world.start(version=0)
        world.finish()
        world.restart_until_caught_up()

    assert world.announced[point] >= occurrence


@pytest.mark.parametrize(("point", "occurrence"), ANNOUNCED_BY_SEVERAL)
def test_the_same_holds_for_two_tables_one_of_which_a_record_makes(point, occurrence):
    world = ScriptedWorld(is_inline=True, has_other_target=True)
    world.kill_at = (point, occurrence)
    world.start(version=0)
    world.finish()
    world.restart_until_caught_up()

    assert world.announced[point] >= occurrence


@pytest.mark.parametrize("reply", [Reply.LOST, Reply.REPLAYED_CONFLICT, Reply.DROPPED])
@pytest.mark.parametrize("request_number", REQUESTS)
def test_a_request_whose_reply_is_lost_is_found_again(request_number, reply):
    world = ScriptedWorld(is_inline=True)
    world.replies = {request_number: reply}
    world.start(version=0)
    world.finish()

    world.check_caught_up()
    assert world.counts["take-over"] == 1


@pytest.mark.parametrize("moment", ["before restart", "during restart", "at the end"])
@pytest.mark.parametrize("dies", [True, False], ids=["killed", "alive"])
@pytest.mark.parametrize("request_number", REQUESTS)
def test_a_request_that_lands_late_lands_once_or_never(request_number, dies, moment):
    world = ScriptedWorld(is_inline=True)
    world.replies = {request_number: Reply.LATE}
    world.dies_sending = request_number if dies else 0
    world.start(version=0)
    world.finish()
    if moment == "before restart":
        world.land_all_late()
    successor = world.start(version=1)
    if moment == "during restart":
        world.scheduler.switch_rate = 1.0
        for _ in range(6):
            world.scheduler.advance(successor.fibers[0])
        world.land_all_late()
        world.scheduler.switch_rate = 0.0
    world.finish()
    world.land_all_late()
    world.restart_until_caught_up()


@pytest.mark.parametrize("request_number", REQUESTS)
def test_a_worker_killed_after_its_request_landed_and_before_the_reply(request_number):
    world = ScriptedWorld(is_inline=True)
    world.replies = {request_number: Reply.LOST}
    world.dies_sending = request_number
    world.start(version=0)
    world.finish()
    world.restart_until_caught_up()
