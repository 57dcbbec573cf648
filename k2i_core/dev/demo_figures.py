"""What the demo shows and sums up: figures of the table, and of one moment of a run."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice, pairwise

from k2i_core.config import Pipeline
from k2i_core.dev.dagster_client import Run
from k2i_core.errors import ConfigError, ErrorKind
from k2i_core.iceberg.gateway import SnapshotView, TableView
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.ledger import CHECKPOINT_KEY, RANGES_KEY, decode_entry, decode_ranges
from k2i_core.offsets import TopicPartition
from k2i_core.wiring.settings import catalog_opener

_RATE_SECONDS = 10.0
"""Larger: rates follow a change more slowly. Smaller: they jump with every flush."""

_FLUSHES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Flush:
    """One commit that brought rows or dead letters, as its snapshot tells it."""

    time: str
    row_count: int
    dead_letter_count: int
    file_count: int
    byte_count: int


@dataclass(frozen=True, slots=True)
class TableFigures:
    """The table as its head snapshot describes it; all zero while it does not exist.

    Attributes:
        row_count: Rows, as Iceberg counts them.
        dead_letter_count: Of all time, as the ledger counts them.
        next_offsets: The checkpoint.
        flushes: The last ones, newest last.
    """

    row_count: int = 0
    dead_letter_count: int = 0
    snapshot_count: int = 0
    file_count: int = 0
    byte_count: int = 0
    next_offsets: Mapping[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    flushes: tuple[Flush, ...] = ()


class TableWatch:
    """Looks at a pipeline's table again and again, through one connection to its catalog."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Connect lazily."""
        self._gateway = PyIcebergGateway(catalog_opener(pipeline), pipeline.table.identifier)

    def figures(self) -> TableFigures:
        """Load the table.

        Raises:
            UnavailableError: The catalog or the store does not answer.

        """
        try:
            view = self._gateway.load()
        except ConfigError as error:
            if error.kind is ErrorKind.TABLE_MISSING:
                return TableFigures()
            raise
        head = view.snapshots.get(view.head_snapshot_id or 0)
        if head is None:
            return TableFigures()
        text = head.summary.get(CHECKPOINT_KEY)
        entry = decode_entry(text) if text else None
        return TableFigures(
            row_count=int(head.summary.get("total-records", 0)),
            dead_letter_count=sum(t.dead_letter_count for t in entry.totals.values())
            if entry
            else 0,
            snapshot_count=len(view.snapshots),
            file_count=int(head.summary.get("total-data-files", 0)),
            byte_count=int(head.summary.get("total-files-size", 0)),
            next_offsets=entry.checkpoint.next_offsets if entry else {},
            flushes=_last_flushes(view),
        )


def _last_flushes(view: TableView) -> tuple[Flush, ...]:
    # The oldest retained snapshot only serves as the one before.
    found = (_read_flush(before, after) for after, before in pairwise(view.ancestors()))
    telling = (flush for flush in found if flush.row_count or flush.dead_letter_count)
    return tuple(islice(telling, _FLUSHES_SHOWN))[::-1]


def _read_flush(before: SnapshotView, after: SnapshotView) -> Flush:
    def added(key: str) -> int:
        return int(after.summary.get(key, 0)) - int(before.summary.get(key, 0))

    ranges = decode_ranges(after.summary.get(RANGES_KEY, "[]"))
    return Flush(
        time=time.strftime("%H:%M:%S", time.gmtime(after.timestamp_ms / 1000)),
        row_count=added("total-records"),
        dead_letter_count=sum(one.totals.dead_letter_count for one in ranges),
        file_count=added("total-data-files"),
        byte_count=added("total-files-size"),
    )


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that the panel shows.

    Attributes:
        seconds: Since the first order was produced.
        produced_count: Orders handed to Kafka in this run.
        produced_rate: A second, lately.
        committed_count: Rows that this run has put into the table.
        committed_rate: Rows a second, lately.
        dead_letter_count: Of this run.
        lag_message_count: Orders that the table does not cover.
        freshness_seconds: For how long the oldest of those has been waiting.
        table: As it was at the last look.
        run: The newest run of the worker; None while there is none.
        run_seconds: For how long that has been running.
        address: Of Dagster's pages.
        problems: What went wrong with the last look; empty when nothing did.
    """

    seconds: float
    produced_count: int
    produced_rate: float
    committed_count: int
    committed_rate: float
    dead_letter_count: int
    lag_message_count: int
    freshness_seconds: float
    table: TableFigures
    run: Run | None
    run_seconds: float
    address: str
    problems: tuple[str, ...]


class Rate:
    """How fast a count has grown lately."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, seconds: float, count: int) -> float:
        """Note a count; returns its growth a second over the last ten seconds."""
        self._seen.append((seconds, count))
        while seconds - self._seen[0][0] > _RATE_SECONDS:
            self._seen.popleft()
        first_seconds, first_count = self._seen[0]
        elapsed = seconds - first_seconds
        return (count - first_count) / elapsed if elapsed > 0 else 0.0


class Backlog:
    """For how long the oldest order that the table does not cover has been waiting."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, seconds: float, end_offset: int, next_offset: int) -> float:
        """Note how far topic and table are; returns the seconds since the table was passed.

        Args:
            seconds: Now.
            end_offset: Sum of the topic's end offsets; never smaller than before.
            next_offset: Sum of the checkpoint's offsets.

        """
        if not self._seen or self._seen[-1][1] < end_offset:
            self._seen.append((seconds, end_offset))
        while self._seen and self._seen[0][1] <= next_offset:
            self._seen.popleft()
        return seconds - self._seen[0][0] if self._seen else 0.0
