"""Who runs next: processes made of fibers, switched at every pause, picked by a seeded generator.

A process is what a kill ends: a worker with its lanes, a compactor, an operator. Its fibers run
real, blocking code; whenever that code calls a port or announces a crash point, the fiber may be
switched out for any other. Killing throws `Killed` into every fiber, and from then on every pause
of the dead process raises it again, so that clean-up code cannot touch the world: what a real kill
leaves, no more and no less.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple, ParamSpec, TypeVar

from greenlet import getcurrent, greenlet

P = ParamSpec("P")
T = TypeVar("T")


WAIT_SECONDS_MIN = 8.0
"""How long a fiber waits for another at least: shorter, and waking up takes the others' steps."""


class Killed(BaseException):
    """The process is dead; passes through everything, as SIGKILL does."""


class Fiber(greenlet):
    """One thread of control of a process."""

    def __init__(self, process: "Process", run: Callable[[], None], hub: greenlet) -> None:
        super().__init__(self._live, hub)
        self._job = run
        self.process = process
        self.wakes = 0.0
        self.is_ready: Callable[[], bool] | None = None

    def _live(self) -> None:
        with suppress(Killed):
            self._job()


@dataclass(eq=False)
class Process:
    """What lives and dies together."""

    kind: str
    fibers: list[Fiber] = field(default_factory=list)
    resumes: float = 0.0
    is_dead: bool = False
    at_end: Callable[[], None] = lambda: None


class Scheduler:
    """Simulated time and the processes in it; one step is one second."""

    def __init__(self, rng: Random, switch_rate: float = 0.15) -> None:
        """Start without processes.

        Args:
            rng: Decides everything.
            switch_rate: How often a pause really switches. Smaller gets further per step; every
                order of events stays possible.

        """
        self.rng = rng
        self.switch_rate = switch_rate
        self.time = 0.0
        self.processes: list[Process] = []
        self._hub = getcurrent()

    def spawn(self, kind: str, run: Callable[[], None]) -> Process:
        """Start a process; it runs when a step picks it."""
        process = Process(kind)
        self.processes.append(process)
        self.add_fiber(process, run)
        return process

    def add_fiber(self, process: Process, run: Callable[[], None]) -> None:
        process.fibers.append(Fiber(process, run, self._hub))

    def current(self) -> Process | None:
        fiber = getcurrent()
        return fiber.process if isinstance(fiber, Fiber) else None

    def pause(self, _: str = "") -> None:
        """Let others go first, perhaps; raise Killed if this process is dead."""
        fiber = getcurrent()
        if not isinstance(fiber, Fiber):
            return
        if fiber.process.is_dead:
            raise Killed
        if self.rng.random() < self.switch_rate:
            self._switch(fiber)

    def pause_surely(self) -> None:
        """Let others go first."""
        fiber = getcurrent()
        if isinstance(fiber, Fiber):
            self._switch(fiber)

    def sleep(self, seconds: float) -> None:
        """Come back after at least one step."""
        fiber = getcurrent()
        if isinstance(fiber, Fiber):
            fiber.wakes = self.time + max(1, math.floor(seconds))
            self._switch(fiber)
        else:
            self.time += seconds

    def block(self, is_ready: Callable[[], bool], seconds_max: float = math.inf) -> None:
        """Come back once `is_ready`, or when the time is up."""
        fiber = getcurrent()
        assert isinstance(fiber, Fiber)
        deadline = self.time + max(WAIT_SECONDS_MIN, seconds_max)
        if not is_ready():
            fiber.is_ready = lambda: is_ready() or self.time >= deadline
            self._switch(fiber)
            fiber.is_ready = None

    def _switch(self, fiber: Fiber) -> None:
        if not fiber.process.is_dead:
            self._hub.switch()
        if fiber.process.is_dead:
            raise Killed

    def die(self) -> None:
        """End the calling process here."""
        fiber = getcurrent()
        assert isinstance(fiber, Fiber)
        fiber.process.is_dead = True
        raise Killed

    def kill(self, process: Process) -> None:
        """End a process as SIGKILL does; called by nobody inside it."""
        process.is_dead = True
        for fiber in process.fibers:
            if fiber:  # started and not finished
                fiber.throw(Killed)
        if process in self.processes:
            self.processes.remove(process)
            process.at_end()

    def kill_all(self) -> None:
        for process in tuple(self.processes):
            self.kill(process)

    def ready(self) -> list[Fiber]:
        time = self.time
        return [
            fiber
            for process in self.processes
            if process.resumes <= time
            for fiber in process.fibers
            if fiber.wakes <= time and (fiber.is_ready is None or fiber.is_ready())
        ]

    def advance(self, fiber: Fiber) -> None:
        """Run a fiber to its next switch; a process ends with its first fiber."""
        process = fiber.process
        fiber.switch()
        if process.is_dead or (fiber.dead and fiber is process.fibers[0]):
            self.kill(process)
        elif fiber.dead:
            process.fibers.remove(fiber)


class LaneExecutor(Executor):
    """A stage of the session with fibers of its own, so that a commit and a poll interleave."""

    def __init__(self, scheduler: Scheduler, process: Process, fiber_count: int = 1) -> None:
        self._scheduler = scheduler
        self._process = process
        self._fiber_count = fiber_count
        self._jobs: deque[Callable[[], None]] = deque()
        self._running = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        future = _FiberFuture[T](self._scheduler)

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:  # noqa: BLE001 - an executor keeps whatever a job raises
                future.set_exception(error)

        self._jobs.append(job)
        if self._running < self._fiber_count:
            self._running += 1
            self._scheduler.add_fiber(self._process, self._work)
        return future

    def _work(self) -> None:
        while self._jobs:
            self._jobs.popleft()()
        self._running -= 1


class _FiberFuture(Future[T]):
    """A future whose waiter lets other fibers run."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def result(self, timeout: float | None = None) -> T:
        if not self.done():
            self._scheduler.block(self.done, math.inf if timeout is None else timeout)
        return super().result(0)


class Waited(NamedTuple):
    """What `concurrent.futures.wait` returns."""

    done: set[Any]
    not_done: set[Any]


def fiber_wait(scheduler: Scheduler) -> Callable[..., Waited]:
    """Return `concurrent.futures.wait` for fibers."""

    def wait(
        futures: Iterable[Future[Any]],
        timeout: float | None = None,
        return_when: str = "ALL_COMPLETED",
    ) -> Waited:
        waited: Collection[Future[Any]] = tuple(futures)
        quantify = any if return_when == FIRST_COMPLETED else all
        if waited and not quantify(f.done() for f in waited):
            scheduler.block(
                lambda: quantify(f.done() for f in waited),
                math.inf if timeout is None else timeout,
            )
        done = {f for f in waited if f.done()}
        return Waited(done, set(waited) - done)

    return wait
