"""What the session needs from the world, as protocols; adapters implement them, fakes too."""

from collections.abc import Collection, Mapping
from typing import Protocol

import pyarrow as pa

from k2i_core.ledger import Epoch, Identity, Owner, Share
from k2i_core.offsets import TopicPartition, Watermarks
from k2i_core.pauses import Pause
from k2i_core.records import (
    CommitReport,
    CountedRange,
    DecidedOffsets,
    DecodedBatch,
    DecodedValues,
    EarlierLog,
    PolledBatch,
    Routes,
    TableState,
    TransformedRows,
    WrittenFile,
)
from k2i_core.schema.registered import SchemaId


class Source(Protocol):
    """Kafka, read by assignment at a checkpoint."""

    def topic_ids(self) -> Mapping[str, str]:
        """Return topic name → Kafka's topic id for every topic the pipeline reads now.

        Raises:
            UnavailableError: No broker answered in time.
            ConfigError: A topic named in the file does not exist, or access is refused.

        """
        ...

    def cluster_id(self) -> str:
        """Return Kafka's cluster id."""
        ...

    def partitions(self) -> frozenset[TopicPartition]:
        """Return every Kafka partition of the pipeline's topics, of all workers' shares."""
        ...

    def watermarks(
        self,
        topic_partitions: Collection[TopicPartition],
    ) -> Mapping[TopicPartition, Watermarks]:
        """Return the watermarks, asked from the broker now."""
        ...

    def start_offsets(
        self,
        topic_partitions: Collection[TopicPartition],
    ) -> Mapping[TopicPartition, int]:
        """Resolve the pipeline's start policy to offsets, for partitions without a checkpoint."""
        ...

    def assign(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Read exactly these Kafka partitions from these offsets on; replaces any assignment."""
        ...

    def poll(self, timeout_seconds: float) -> PolledBatch | None:
        """Return records and moved positions, or None when neither came in time.

        Raises:
            DataLossError: The next offset of a partition is gone from the log.
            UnavailableError: A fatal client error; build a new source.

        """
        ...

    def mirror(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the offsets to the consumer group for lag tools; best effort, never raises."""
        ...

    def close(self) -> None:
        """Leave; takes at most a few seconds."""
        ...


class Decoder(Protocol):
    """Records to rows of one schema; thread-safe, no I/O."""

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes, without `_kafka`."""
        ...

    def decode(self, records: pa.RecordBatch) -> DecodedValues:
        """Decode n records to rows; never raises for the content of a record.

        Args:
            records: n rows × POLLED_SCHEMA, none of them a tombstone.

        """
        ...


class RowTransforms(Protocol):
    """Rows of the records' columns to rows of the table's; thread-safe, no I/O."""

    def apply(self, rows: pa.RecordBatch, origin: pa.StructArray) -> TransformedRows:
        """Transform n rows; never raises for the content of a record.

        Privacy is a part of it: what comes out may be written.

        Args:
            rows: n rows, in columns as a decoder makes them.
            origin: n elements × KAFKA_TYPE: where they come from, as `hide` returned it.

        """
        ...

    def hide(self, origin: pa.StructArray) -> pa.StructArray:
        """Return where n records come from, without what must not be written."""
        ...

    @property
    def keeps_bytes(self) -> bool:
        """Whether dead letters keep their value, key and headers as they came."""
        ...


class FetchSchemas(Protocol):
    """Makes writers' schemas known to the decoders; called by any thread of the decode lane."""

    def __call__(self, schema_ids: frozenset[SchemaId], /) -> None:
        """Fetch schemas; afterwards each is known, or known not to exist.

        Raises:
            UnavailableError: The registry did not answer in time; the batch is not decoded.
            ConfigError: The registry refuses us.

        """
        ...


def no_schemas(schema_ids: frozenset[SchemaId], /) -> None:
    """Fetch nothing: decoders of formats without a registry ask for nothing."""
    raise AssertionError(schema_ids)


class RowWriter(Protocol):
    """Rows of one generation to Parquet files of one table; used by one thread at a time."""

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows (table columns, `_kafka` last); encodes as it goes.

        Raises:
            UnavailableError: The store failed, now or since the last call; the generation is lost,
                read it again.

        """
        ...

    def close(self) -> tuple[WrittenFile, ...]:
        """Finish all open files and return every file of the generation."""
        ...

    def abandon(self) -> None:
        """Close handles without finishing; files may stay, and the transaction log knows them."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """Arrow bytes held in memory."""
        ...


class LedgerTable(Protocol):
    """A table that takes part in the protocol, as recovery sees it."""

    @property
    def identifier(self) -> str:
        """Namespace and name, joined by dots."""
        ...

    def inspect(self) -> TableState:
        """Load the table and read its ledger.

        Raises:
            ConfigError: The table has format version 1, or does not exist.
            CorruptionError: The checkpoint cannot be proven; see the message for what to do.
            UnavailableError: The catalog did not answer within the commit's time limit.

        """
        ...

    def inspect_after(self, snapshot_id: int) -> TableState:
        """Load until `snapshot_id`, a landed commit of ours, is in the head's history.

        Raises:
            FencedError: It was rolled back.

        """
        ...

    def take_over(
        self,
        owner: Owner,
        identity: Identity,
        starts: Mapping[TopicPartition, int],
    ) -> CommitReport:
        """Commit a claimed owner, with starts for Kafka partitions that the ledger does not know.

        Raises:
            FencedError: A younger owner of these partitions is stored already.

        """
        ...

    def reachable(self, state: TableState, paths: Collection[str]) -> set[str]:
        """Return those of `paths` that a retained snapshot of `state` reaches."""
        ...

    def delete_files(self, paths: Collection[str]) -> None:
        """Delete files that recovery proved unneeded."""
        ...


class TargetTable(LedgerTable, Protocol):
    """A table that holds rows; the first of a pipeline leads its take-overs."""

    def claim(
        self,
        share: Share,
        identity: Identity,
        starts: Mapping[TopicPartition, int],
        epoch_floor: Epoch,
        routing: str = "",
        unmoved: Mapping[TopicPartition, int] | None = None,
    ) -> tuple[Owner, CommitReport]:
        """Commit a take-over with a fresh epoch, younger than any and than `epoch_floor`.

        Raises:
            ConflictError: The stored next offsets are not `unmoved`, where that is given.

        """
        ...

    def extend(
        self,
        owner: Owner,
        identity: Identity,
        starts: Mapping[TopicPartition, int],
    ) -> CommitReport:
        """Commit starts for Kafka partitions that appeared since the take-over.

        Raises:
            FencedError: Another worker owns them.

        """
        ...

    def pause(self, owner: Owner, pause: Pause) -> CommitReport:
        """Commit that nothing more is appended until an operator acted; an earlier pause stays.

        Raises:
            FencedError: Another worker owns them.

        """
        ...

    def append(
        self,
        owner: Owner,
        ranges: tuple[CountedRange, ...],
        files: tuple[WrittenFile, ...],
    ) -> CommitReport:
        """Commit a generation, exactly once.

        Raises:
            FencedError: Another worker owns a partition, or the stored offset is not our start.
            IncompatibleSchemaError: The table is paused.
            ConflictError: The files no longer fit the table, or are too old: start over.
            UnavailableError: Attempts or time ran out; the outcome may be unknown: start over.

        """
        ...


class DeadLetterTable(LedgerTable, Protocol):
    """The table that holds the dead letters; its rows are the verdict on their offsets."""

    def append_dead_letters(
        self,
        owner: Owner,
        ranges: tuple[CountedRange, ...],
        files: tuple[WrittenFile, ...],
    ) -> CommitReport:
        """Commit a generation's dead letters, before the generation itself.

        Raises:
            FencedError: Another worker owns a partition.
            ConflictError: The files no longer fit the table, or are too old: start over.
            UnavailableError: Attempts or time ran out; the outcome may be unknown: start over.

        """
        ...


class ReadVerdicts(Protocol):
    """Reads which offsets the dead-letter table has decided already."""

    def __call__(
        self,
        checkpoints: Mapping[str, Mapping[TopicPartition, int]],
        from_offsets: Mapping[TopicPartition, int],
        since_sequence_numbers: Mapping[str, int],
        state: TableState,
    ) -> Mapping[str, DecidedOffsets]:
        """Return table → its dead-lettered offsets at or above `from_offsets`, the lowest of all.

        `checkpoints` says which tables count, and of those that are read for, how far each is.
        Rows of commits before a topic's `since_sequence_numbers` belong to a topic of that name
        that was deleted. Read from `state` and no other load: it contains our take-over, so no
        older worker's dead letters can be missing from it; another load may be older.
        """
        ...


class TransactionLog(Protocol):
    """This worker's append-only record of intent, and the logs that others left on this host.

    It only ever serves to delete garbage: a lost log costs files, never correctness.
    """

    def earlier(self) -> tuple[EarlierLog, ...]:
        """Read the other logs of this pipeline on this host, as they are now."""
        ...

    def took_over(self, owner: Owner) -> None:
        """Record the epoch under which all later files of this log are written."""
        ...

    def file(self, table: str, generation: int, path: str) -> None:
        """Record that a file is about to be created."""
        ...

    def attempted(self, table: str, snapshot_id: int) -> None:
        """Record, durably, that a commit request is about to be sent."""
        ...

    def landed(self, table: str, generation: int) -> None:
        """Record that a generation's files are in the table."""
        ...

    def prune(self, name: str) -> None:
        """Remove an earlier log whose files are settled."""
        ...

    def close(self) -> None:
        """Close this log; it stays for the next worker to settle."""
        ...


class TargetRows(Protocol):
    """The schema side of a target table: what rows look like now, and writers for them."""

    @property
    def row_schema(self) -> pa.Schema:
        """The columns that decoders make for the target table, without `_kafka`."""
        ...

    def evolve(self, wanted: pa.Schema) -> None:
        """Change the target table so that records of `wanted` fit; returns when it is committed.

        Raises:
            IncompatibleSchemaError: The change is not allowed by `schema_evolution`.

        """
        ...

    def open(self, owner: Owner, generation: int) -> RowWriter:
        """Return a writer for rows of one generation."""
        ...


class OpenDeadLetters(Protocol):
    """Opens a writer for the dead letters of one generation, of all tables."""

    def __call__(self, owner: Owner, generation: int, /) -> RowWriter:
        """Return the writer."""
        ...


class Router(Protocol):
    """Says into which table each record goes, by the record alone; thread-safe."""

    def __call__(self, records: pa.RecordBatch, /) -> Routes:
        """Route n rows × POLLED_SCHEMA.

        Raises:
            UnavailableError: The registry did not answer in time; the batch is not routed.

        """
        ...


class HotRows(Protocol):
    """A copy of decoded rows that are not committed, for readers; its failures are its own.

    The write lane appends, the commit lane reports commits, the poll loop asks whether it is full.
    """

    @property
    def is_full(self) -> bool:
        """Tell whether uncommitted rows have reached their limit: seal, and poll no more."""
        ...

    @property
    def is_shown(self) -> bool:
        """Tell whether readers see what is appended."""
        ...

    def has_room(self, waiting_bytes: int, next_bytes: int) -> bool:
        """Tell whether another poll would stay below the limit, too; always true when empty.

        Args:
            waiting_bytes: Of records that are polled and not appended yet.
            next_bytes: Of records that the next poll may bring.

        """
        ...

    def took_over(
        self, owner: Owner, identity: Identity, next_offsets: Mapping[TopicPartition, int]
    ) -> None:
        """Begin at the checkpoint, with nothing; call again when Kafka partitions were added."""
        ...

    def append(self, generation: int, decoded: DecodedBatch) -> None:
        """Show a batch to readers, in poll order, before it is encoded."""
        ...

    def committed(self, generation: int, snapshot_id: int) -> None:
        """Note that the table holds everything up to this generation."""
        ...

    def close(self) -> None:
        """Remove everything: it is all in the table."""
        ...

    def abandon(self) -> None:
        """Leave what is there to readers, consistent, until a successor takes over."""
        ...


class NoHotRows:
    """Hot rows switched off."""

    is_full = False
    is_shown = False

    def has_room(self, waiting_bytes: int, next_bytes: int) -> bool:  # noqa: ARG002 - the port's
        """Have room for all of it."""
        return True

    def took_over(
        self, owner: Owner, identity: Identity, next_offsets: Mapping[TopicPartition, int]
    ) -> None:
        """Keep nothing."""

    def append(self, generation: int, decoded: DecodedBatch) -> None:
        """Keep nothing."""

    def committed(self, generation: int, snapshot_id: int) -> None:
        """Keep nothing."""

    def close(self) -> None:
        """Remove nothing."""

    def abandon(self) -> None:
        """Leave nothing."""
