"""The threads the stages run in, with the processor time each lane uses.

Executors from the standard library: one thread keeps order by itself, which is what writing and
committing need.
"""

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lanes:
    """Where the stages run: decoding in any number of threads, the others in one each.

    Attributes:
        encode: Where the writers encode row groups, while the write lane goes on.
        finish: Where files are closed, while the generation before is committed.
    """

    decode: Executor
    write: Executor
    encode: Executor
    finish: Executor
    commit: Executor


class MeteredExecutor(ThreadPoolExecutor):
    """A thread pool that sums the processor time of its jobs."""

    def __init__(self, name: str, thread_count: int) -> None:
        """Name the threads, so that a profiler shows which lane is busy."""
        super().__init__(max_workers=thread_count, thread_name_prefix=f"k2i-{name}")
        self._lock = threading.Lock()
        self._cpu_seconds = 0.0

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds of all jobs that have ended."""
        return self._cpu_seconds

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` in the pool and count its thread's processor time."""
        return super().submit(self._metered, fn, *args, **kwargs)

    def _metered(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        started = time.thread_time()
        try:
            return fn(*args, **kwargs)
        finally:
            with self._lock:
                self._cpu_seconds += time.thread_time() - started


class UnqueuedExecutor(MeteredExecutor):
    """One thread without a queue: to submit is to wait until the job can begin.

    So what a job holds in memory waits with whoever counts it.
    """

    def __init__(self, name: str) -> None:
        """Name the thread."""
        super().__init__(name, 1)
        self._is_free = threading.Semaphore()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` at once, or as soon as the job before it has ended."""
        self._is_free.acquire()
        try:
            future = super().submit(fn, *args, **kwargs)
        except BaseException:
            self._is_free.release()
            raise
        future.add_done_callback(lambda _: self._is_free.release())
        return future


@contextmanager
def open_lanes(decode_threads: int) -> Generator[Lanes]:
    """Start the lanes; at the end jobs that have not begun are dropped.

    The session has waited for, or abandoned, everything that matters by then.
    """
    executors = [
        MeteredExecutor("decode", decode_threads),
        MeteredExecutor("write", 1),
        UnqueuedExecutor("encode"),
        MeteredExecutor("finish", 1),
        MeteredExecutor("commit", 1),
    ]
    try:
        yield Lanes(*executors)
    finally:
        for executor in executors:
            executor.shutdown(wait=True, cancel_futures=True)
