"""How many queries run at once, and what one of them may take and return.

A client that stops reading would hold its query for ever, because the call that writes to it
cannot be ended. So a watch ends every query at its deadline, whatever its client does: engine and
place are free again, and the client is told when it reads on.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import flight

from k2i_core.clock import Clock
from k2i_core.flight.refusals import answered
from k2i_core.query.committed import QueryLimits, QueryResult

BUSY_WAIT_SECONDS = 1.0
"""How long a query waits for a place. Larger hides that the server is busy and holds more threads;
smaller refuses short queries that come at the same moment."""

WATCH_SECONDS = 0.25
"""Larger lets a query overrun its deadline by more; smaller wakes a thread for nothing."""

BATCH_BYTES_MAX = 4 << 20
"""Larger meets the limit that drivers set to one message, 16 MiB by default; smaller pays more
calls a byte."""


@dataclass(frozen=True, slots=True)
class ServeLimits:
    """How much may be asked at once.

    Attributes:
        queries_max: Queries that run at the same time.
        seconds_max: From a query's start to its last row taken.
        row_count_max: Rows of one result.
        byte_count_max: Bytes of one result.
        memory_bytes_max: Memory of one query's engine.
    """

    queries_max: int
    seconds_max: float
    row_count_max: int
    byte_count_max: int
    memory_bytes_max: int

    @property
    def of_one_query(self) -> QueryLimits:
        """The same for the query engine, which cuts nothing: a cut result would look whole."""
        return QueryLimits(self.seconds_max, None, self.memory_bytes_max)


class Admission:
    """Places for queries, and the watch over those that have one; thread-safe."""

    def __init__(self, limits: ServeLimits, clock: Clock) -> None:
        """Begin with all places free."""
        self._limits = limits
        self._clock = clock
        self._places = threading.BoundedSemaphore(limits.queries_max)
        self._lock = threading.Lock()
        self._streams: set[ResultStream] = set()
        self._taken_count = 0
        self._is_closed = False
        self._is_drained = threading.Event()
        threading.Thread(target=self._watch, name="k2i-serve-watch", daemon=True).start()

    @contextmanager
    def place(self) -> Generator[None]:
        """Hold a place for something that ends by itself.

        Raises:
            FlightUnavailableError: None became free.

        """
        self._take()
        try:
            yield
        finally:
            self._free()

    def stream(self, run: Callable[[], QueryResult]) -> "ResultStream":
        """Start a query, and hold a place until its stream has ended.

        Raises:
            FlightUnavailableError: There is no place.

        """
        self._take()
        try:
            began = self._clock.boot_seconds()
            result = run()
        except BaseException:
            self._free()
            raise
        stream = ResultStream(result, self._limits, began + self._limits.seconds_max, self._ended)
        with self._lock:
            self._streams.add(stream)
        return stream

    def close(self) -> None:
        """Take no more queries; what runs goes on."""
        with self._lock:
            self._is_closed = True
            if not self._taken_count:
                self._is_drained.set()

    def drained(self, seconds_max: float) -> bool:
        """Wait after `close` until nothing runs any more; tell whether it came to that."""
        return self._is_drained.wait(seconds_max)

    def _take(self) -> None:
        if not self._places.acquire(timeout=BUSY_WAIT_SECONDS):
            message = (
                f"busy: max_queries={self._limits.queries_max} are running; try again in a second"
            )
            raise flight.FlightUnavailableError(message)
        with self._lock:
            if not self._is_closed:
                self._taken_count += 1
                return
        self._places.release()
        message = "the server is shutting down; connect again in a moment"
        raise flight.FlightUnavailableError(message)

    def _free(self) -> None:
        with self._lock:
            self._taken_count -= 1
            if self._is_closed and not self._taken_count:
                self._is_drained.set()
        self._places.release()

    def _ended(self, stream: "ResultStream") -> None:
        with self._lock:
            self._streams.discard(stream)
        self._free()

    def _watch(self) -> None:
        while not self._is_drained.wait(WATCH_SECONDS):
            now = self._clock.boot_seconds()
            with self._lock:
                streams = [stream for stream in self._streams if stream.deadline <= now]
            for stream in streams:
                stream.end_if_idle()


class ResultStream:
    """The rows of one query on their way to a client."""

    def __init__(
        self,
        result: QueryResult,
        limits: ServeLimits,
        deadline: float,
        ended: "Callable[[ResultStream], None]",
    ) -> None:
        """Bind the result; `ended` is told once."""
        self.schema: pa.Schema = result.schema
        self.deadline = deadline
        self._result = result
        self._source = result.batches()
        self._limits = limits
        self._ended = ended
        self._lock = threading.Lock()
        self._is_ended = False

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in messages that drivers take.

        Raises:
            FlightError: There are more than allowed, it took too long, or the query failed.

        """
        row_count = byte_count = 0
        try:
            while (batch := self._next()) is not None:
                row_count += batch.num_rows
                byte_count += batch.nbytes
                self._check(row_count, byte_count)
                yield from _small(batch)
        finally:
            self.end()

    def end(self) -> None:
        """Free engine and place; harmless to repeat."""
        with self._lock:
            self._end()

    def end_if_idle(self) -> None:
        """End it unless its query is being computed, which has the same deadline itself."""
        if self._lock.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._lock.release()

    def _end(self) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        self._result.close()
        self._ended(self)

    def _next(self) -> pa.RecordBatch | None:
        with self._lock, answered("read rows"):
            if self._is_ended:
                message = (
                    f"query took longer than max_duration={self._limits.seconds_max:g}s; read "
                    "faster, or select fewer rows"
                )
                raise flight.FlightTimedOutError(message)
            return next(self._source, None)

    def _check(self, row_count: int, byte_count: int) -> None:
        limits = self._limits
        if row_count > limits.row_count_max:
            message = f"result has more than max_rows={limits.row_count_max}"
        elif byte_count > limits.byte_count_max:
            message = f"result has more than max_bytes={limits.byte_count_max}"
        else:
            return
        message += "; add a LIMIT, a WHERE or an aggregate"
        raise flight.FlightServerError(message)


def _small(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield a batch in slices that one message can hold; a slice copies nothing."""
    if not batch.num_rows:
        return
    count = max(1, batch.num_rows * BATCH_BYTES_MAX // max(batch.nbytes, 1))
    for start in range(0, batch.num_rows, count):
        yield batch.slice(start, count)
