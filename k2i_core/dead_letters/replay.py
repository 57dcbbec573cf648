"""Replay: dead letters that decode today become rows, each once.

    load target, dead letters ─► who is open? ─► decode again ─► files ─► one commit to the target

The dead-letter table is only read, so that there is nothing between two commits to die in. The
commit adds the rows and moves the counts in the ledger; it lands only on a history in which these
rows were not replayed yet, else everything is looked at again. A live worker goes on beside it.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from pyiceberg.table import Table

from k2i_core.clock import Clock, IdSource
from k2i_core.dead_letters.reading import Selection, as_polled, places_of, read_selected
from k2i_core.dead_letters.states import (
    LetterState,
    LoadedTables,
    ShowProgress,
    read_states,
    unseen,
)
from k2i_core.errors import ConfigError, ConflictError, ErrorKind, FencedError, UnavailableError
from k2i_core.iceberg.column_names import table_columns
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.gateway import TableView
from k2i_core.iceberg.replaying import REPLAY_OPERATION, Replay, decide_replay
from k2i_core.iceberg.views import table_of, view_of
from k2i_core.iceberg.write_targets import write_target
from k2i_core.ingest.decoding import (
    Breaking,
    DecodeSettings,
    KeyCheck,
    WiderSchema,
    decode_fetching,
)
from k2i_core.ingest.ports import Decoder, FetchSchemas, RowTransforms, no_schemas
from k2i_core.offsets import TopicPartition
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import (
    ITEM_COLUMN,
    KAFKA_COLUMN,
    DecodedBatch,
    PolledBatch,
    WrittenFile,
    has_items,
)

ATTEMPTS_MAX = 5
"""How often others may come between. More keeps two replays busy with each other's rows; fewer
gives up beside maintenance that changes the table now and then."""

SCHEMA_CHANGES_MAX = 10
"""How often one batch may ask for a wider schema: each time another worker may have won."""

log = structlog.get_logger(__name__)


class LetterStep(StrEnum):
    """Steps of a replay or drop, each announced when it is done, besides those of its commit."""

    STATES_READ = "states-read"
    FILE_OPENED = "file-opened"
    FILES_CLOSED = "files-closed"
    COMMITTED = "committed"


Report = TypeVar("Report")
StepObserver = Callable[[LetterStep], None]


def unobserved(_step: LetterStep) -> None:
    """Observe nothing: what production does."""


def row_columns(table: Table) -> pa.Schema:
    """Return a table's own columns, without `_kafka`."""
    schema = table_columns(table)
    return pa.schema([column for column in schema if column.name != KAFKA_COLUMN])


def same_columns(record_schema: pa.Schema) -> pa.Schema:
    """Return the columns of a table whose rows are the records as they are decoded."""
    return record_schema


@dataclass(frozen=True, slots=True)
class LetterParts:
    """The real parts of a replay or drop.

    Attributes:
        target: Commits to the target, and loads it.
        dead_letters: The same for the dead-letter table.
        make_decoder: For the columns as they are, by today's configuration.
        fetch_schemas: Makes writers' schemas known to the decoders.
        evolve: Changes the target so that rows of a wider schema fit.
        declared: Columns of the records that the pipeline declares; None when they are inferred.
        check_keys: Finds keys that do not fit the key format.
        transforms: Makes the table's columns of the records'; None where they are the same.
        record_columns: Returns the columns of the records that a table's rows are made of.
        table_columns: Returns the table's columns for records of these.
        observe: Told about every step.
        show: Told how far it has come.
    """

    target: TableCommitter
    dead_letters: TableCommitter
    make_decoder: Callable[[pa.Schema], Decoder]
    evolve: Callable[[pa.Schema], None]
    declared: pa.Schema | None
    check_keys: KeyCheck | None
    clock: Clock
    ids: IdSource
    fetch_schemas: FetchSchemas = no_schemas
    transforms: RowTransforms | None = None
    record_columns: Callable[[Table], pa.Schema] = row_columns
    table_columns: Callable[[pa.Schema], pa.Schema] = same_columns
    observe: StepObserver = unobserved
    show: ShowProgress = unseen


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did, or would do.

    Attributes:
        selected_count: Open dead letters that were meant, as far as the limit let it come.
        replayed_count: Those of them that are rows now; after a dry run, that would be.
        still_failing: Error class of today → how many stay dead letters.
        new_columns: Columns that the table did not have.
        snapshot_id: The commit; None when there was nothing to commit.
        is_dry_run: Whether nothing was changed.
    """

    selected_count: int
    replayed_count: int
    still_failing: Mapping[str, int]
    new_columns: tuple[str, ...]
    snapshot_id: int | None
    is_dry_run: bool


def load_tables(parts: LetterParts) -> tuple[LoadedTables, TableView]:
    """Load the target, then the dead-letter table.

    Raises:
        ConfigError: One of them does not exist, or k2i never committed to the target.
        CorruptionError: A ledger cannot be believed.
        UnavailableError: The catalog did not answer.

    """
    target = parts.target.inspect()
    if target.entry is None:
        message = f"table={parts.target.identifier} has no checkpoint: k2i never committed to it"
        raise ConfigError(message)
    dead = parts.dead_letters.inspect()
    view = view_of(target)
    dead_table = table_of(view_of(dead))
    return LoadedTables(table_of(view), target.entry, dead_table, dead.entry), view


def look_again(what: str, look: Callable[[], Report]) -> Report:
    """Do it until nobody comes between.

    Raises:
        UnavailableError: Somebody came between every time.

    """
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            return look()
        except FencedError:
            raise  # our own commit was rolled back: a person did that
        except ConflictError as error:
            log.info("looking again", what=what, reason=str(error), attempt=attempt)
    message = f"others changed the tables {ATTEMPTS_MAX} times during a {what}; try again later"
    raise UnavailableError(message, kind=ErrorKind.COMMIT_EXHAUSTED)


def replay(parts: LetterParts, selection: Selection, *, dry_run: bool = False) -> ReplayReport:
    """Make rows of the selected dead letters that decode today.

    Args:
        parts: What to work with.
        selection: Which of the open dead letters.
        dry_run: Decode only; change nothing.

    Raises:
        CorruptionError: Table and ledger disagree; nothing was changed.
        IncompatibleSchemaError: The rows need columns that the table may not get.
        UnavailableError: A service did not answer, or others came between too often. Whether the
            commit landed may be unknown; a second replay finds out and does not repeat it.

    """
    if parts.declared is not None and not dry_run:
        # As a worker does when it starts, so that no type is guessed that the file declares.
        parts.evolve(parts.declared)
    return look_again("replay", lambda: _Attempt(parts, selection, dry_run=dry_run).run())


class _Attempt:
    """One look at the tables, and what follows from it; not reusable."""

    def __init__(self, parts: LetterParts, selection: Selection, *, dry_run: bool) -> None:
        self._parts = parts
        self._selection = selection
        self._dry_run = dry_run
        self._loaded, self._view = load_tables(parts)
        self._schema = parts.record_columns(self._loaded.target)
        self._columns_before = set(row_columns(self._loaded.target).names)
        for column in parts.declared or ():
            if column.name not in self._schema.names:  # a dry run added none
                self._schema = self._schema.append(column)
        self._decoder = parts.make_decoder(self._schema)
        self._table = self._loaded.target
        self._settings = DecodeSettings(
            self._loaded.target_name, {}, parts.check_keys, parts.transforms
        )
        self._writer: RollingWriter | None = None
        self._files: list[WrittenFile] = []
        self._counts: Counter[TopicPartition] = Counter()
        self._extra_row_counts: Counter[TopicPartition] = Counter()
        self._failing: Counter[str] = Counter()

    def run(self) -> ReplayReport:
        """Choose, decode, write, commit."""
        parts = self._parts
        states = read_states(self._loaded, parts.show)
        parts.observe(LetterStep.STATES_READ)
        total_count = states.count(LetterState.OPEN)
        selected_count = 0
        try:
            for rows in read_selected(self._loaded, self._selection, states.open):
                self._take(rows)
                selected_count += rows.num_rows
                parts.show("dead letters", selected_count, total_count)
                if self._room == 0:
                    break
            self._close_writer()
        except BaseException:
            if self._writer is not None:
                self._writer.abandon()
            raise
        parts.observe(LetterStep.FILES_CLOSED)
        names = parts.table_columns(self._schema).names
        return ReplayReport(
            selected_count,
            self._counts.total(),
            dict(self._failing),
            tuple(name for name in names if name not in self._columns_before),
            self._commit() if self._files else None,
            self._dry_run,
        )

    def _take(self, rows: pa.RecordBatch) -> None:
        """Decode dead letters (n rows) as if they came from Kafka now, and write what is a row."""
        # A record without a value is no dead letter, so this one's was not kept, for privacy.
        kept = rows.filter(rows.column("value").is_valid())
        if kept.num_rows < rows.num_rows:
            self._failing["bytes_not_kept"] += rows.num_rows - kept.num_rows
        if not kept.num_rows:
            return
        rows = kept
        polled = as_polled(rows, self._parts.clock.boot_seconds())
        decoded = self._decode_as_is(polled)
        for _ in range(SCHEMA_CHANGES_MAX):
            if isinstance(decoded, DecodedBatch):
                break
            self._widen(decoded.row_schema)
            decoded = self._decode_as_is(polled)
        else:
            message = f"the columns of {self._loaded.target_name} change all the time; try again"
            raise UnavailableError(message)
        # Safe because the column is never null.
        error_classes = cast("list[str]", decoded.dead_letters.column("error_class").to_pylist())
        self._failing.update(error_classes)
        if filtered_count := sum(r.counts.filtered_count for r in decoded.ranges):
            self._failing["filtered"] += filtered_count
        new_rows = decoded.rows if self._room is None else _first(decoded.rows, self._room)
        if not new_rows.num_rows:
            return
        for topic_partition, _, offsets in places_of(new_rows):
            record_count = len(np.unique(offsets))
            self._counts[topic_partition] += record_count
            self._extra_row_counts[topic_partition] += len(offsets) - record_count
        if not self._dry_run:
            if self._writer is None:
                self._writer = self._open_writer()
            self._writer.write(new_rows)
            self._parts.observe(LetterStep.FILE_OPENED)

    @property
    def _room(self) -> int | None:
        """How many more may become rows; None for any number."""
        limit = self._selection.limit
        return None if limit is None else limit - self._counts.total()

    def _decode_as_is(self, polled: PolledBatch) -> DecodedBatch | WiderSchema:
        parts = self._parts
        now_ms = parts.clock.now_ms()
        decoded = decode_fetching(
            polled, self._decoder, self._settings, now_ms, parts.fetch_schemas
        )
        # Only a session has schemas judged: letters of one that breaks the table stay letters.
        assert not isinstance(decoded, Breaking)
        return decoded

    def _widen(self, row_schema: pa.Schema) -> None:
        """Go on with columns that hold these records, too."""
        if self._dry_run:
            self._schema = row_schema
        else:
            self._close_writer()
            self._parts.evolve(row_schema)
            # Only for what is written from now on: the rows were chosen in the load before.
            self._table = table_of(view_of(self._parts.target.inspect()))
            self._schema = self._parts.record_columns(self._table)
        self._decoder = self._parts.make_decoder(self._schema)

    def _open_writer(self) -> RollingWriter:
        # A new stem for each writer, because each numbers its files from one.
        target = write_target(self._table, f"replay-{self._parts.ids.token()}")
        return RollingWriter(target, self._parts.clock, lambda _path: None)

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._files.extend(self._writer.close())
            self._writer = None

    def _commit(self) -> int:
        assert self._view.head_snapshot_id is not None
        assert self._loaded.entry is not None
        counts = {tp: count for tp, count in self._counts.items() if count}
        extra = self._extra_row_counts
        row_count = sum(file.row_count for file in self._files)
        assert sum(counts.values()) + extra.total() == row_count
        head, entry, files = self._view.head_snapshot_id, self._loaded.entry, tuple(self._files)
        chosen = Replay(head, entry, counts, files, extra)
        report = self._parts.target.operate(
            REPLAY_OPERATION, lambda view, stored: decide_replay(view, stored, chosen)
        )
        self._parts.observe(LetterStep.COMMITTED)
        log.info(
            "dead letters replayed",
            table=self._loaded.target_name,
            snapshot_id=report.snapshot_id,
            row_count=row_count,
        )
        return report.snapshot_id


def _first(rows: pa.RecordBatch, record_count: int) -> pa.RecordBatch:
    """Return the rows of the first records."""
    if not has_items(rows.schema):
        return rows.slice(0, record_count)
    numbers = pc.struct_field(rows.column(ITEM_COLUMN), "number").to_numpy()
    starts = [*np.flatnonzero(numbers == 0), rows.num_rows]
    return rows.slice(0, int(starts[min(record_count, len(starts) - 1)]))
