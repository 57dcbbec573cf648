"""What the demo shows and sums up: figures of the table, and of one moment of a run."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from k2i_core.config import Pipeline
from k2i_core.dev.ingest_process import Flush, WorkerFigures
from k2i_core.errors import ConfigError, ErrorKind
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.ledger import CHECKPOINT_KEY, decode_entry
from k2i_core.offsets import TopicPartition
from k2i_core.wiring.settings import catalog_opener

_RATE_SECONDS = 10.0
"""Larger: rates follow a change more slowly. Smaller: they jump with every flush."""


@dataclass(frozen=True, slots=True)
class TableFigures:
    """The table as its head snapshot describes it; all zero while it does not exist.

    Attributes:
        row_count: Rows, as Iceberg counts them.
        dead_letter_count: Of all time, as the ledger counts them.
        next_offsets: The checkpoint.
    """

    row_count: int = 0
    dead_letter_count: int = 0
    snapshot_count: int = 0
    file_count: int = 0
    byte_count: int = 0
    next_offsets: Mapping[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])


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
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that the panel shows.

    Attributes:
        seconds: Since the first order was produced.
        produced_count: Orders handed to Kafka in this run.
        produced_rate: A second, lately.
        committed_count: Rows that this run's worker has put into the table.
        committed_rate: Rows a second, lately.
        worker: None while it does not answer.
        table: As it was at the last look.
        table_problem: Why the last look failed; empty when it did not.
        flushes: The last ones, newest last.
    """

    seconds: float
    produced_count: int
    produced_rate: float
    committed_count: int
    committed_rate: float
    worker: WorkerFigures | None
    table: TableFigures
    table_problem: str
    flushes: tuple[Flush, ...]


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
