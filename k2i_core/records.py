"""What the stages hand to each other; each type says how far the data has come.

PolledBatch (bytes from Kafka) → DecodedBatch (rows, dead letters, counts) → WrittenFile (Parquet,
not yet in a table) → Generation (everything between two seals, ready to commit) → FlushReport.

Values only. Arrays are Arrow; one record of Kafka is one element at the same index of each array.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from k2i_core.ledger import Entry, Owner
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.pauses import Pause
from k2i_core.schema.registered import SchemaId

TIMESTAMP_TYPE = pa.timestamp("us", tz="UTC")

HEADERS_TYPE = pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())]))

POLLED_SCHEMA = pa.schema(
    [
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", TIMESTAMP_TYPE),
        pa.field("key", pa.binary()),
        pa.field("headers", HEADERS_TYPE),
        pa.field("value", pa.binary()),
    ]
)
"""One row a record, in poll order; offsets ascend within a Kafka partition. A null value is a
tombstone. All fields but `value` are those of the `_kafka` column, in its order."""

KAFKA_COLUMN = "_kafka"
KAFKA_TYPE = pa.struct([POLLED_SCHEMA.field(name) for name in POLLED_SCHEMA.names[:-1]])
"""struct<topic, partition, offset, timestamp, key, headers>: where a row came from. The first
three are always there, because replay and proof need them."""

ITEM_COLUMN = "_kafka_item"
ITEM_TYPE = pa.struct(
    [
        pa.field("number", pa.int32(), nullable=False),
        pa.field("count", pa.int32(), nullable=False),
    ]
)
"""struct<number, count>: which of the rows of its record a row is, from 0 on, and how many there
are. Only in tables that get several rows of a record; together with topic, partition and offset it
says which row it is."""


def has_items(schema: pa.Schema) -> bool:
    """Tell whether a table of these columns holds several rows of a record."""
    is_there = ITEM_COLUMN in schema.names
    return is_there and schema.field(ITEM_COLUMN).type.equals(ITEM_TYPE)


DEAD_LETTER_SCHEMA = pa.schema(
    [
        pa.field("target_table", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("error_class", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("schema_id", pa.int32()),
        pa.field("first_seen", TIMESTAMP_TYPE, nullable=False),
        pa.field("value", pa.binary()),
        pa.field(KAFKA_COLUMN, KAFKA_TYPE, nullable=False),
    ]
)
"""Rows of the dead-letter table. `fingerprint` groups records that failed for the same reason."""

DROPPED_PREFIX = "dropped:"


def dropped_name(target_table: str) -> str:
    """Return what stands in `target_table` where an operator gave a dead letter up.

    Such a row repeats where the record stood in Kafka, and nothing of what was in it. Readers that
    ask for the dead letters of a target by its name do not see it.
    """
    return DROPPED_PREFIX + target_table


@dataclass(frozen=True, slots=True)
class PolledBatch:
    """The records of one poll.

    Attributes:
        records: n rows × POLLED_SCHEMA; n may be 0 when only positions moved (end of an aborted
            transaction, compacted offsets).
        ranges: How far this poll moved each Kafka partition; covers every record of `records`,
            contiguous with the poll before it.
        byte_count: Bytes of keys, values and headers.
        polled_boot_seconds: When the poll returned (`Clock.boot_seconds`).
        refused: Records that are dead letters without a look at their values.
    """

    records: pa.RecordBatch
    ranges: tuple[OffsetRange, ...]
    byte_count: int
    polled_boot_seconds: float
    refused: "tuple[DecodeFailure, ...]" = ()


STAGE_KEY = "key"
STAGE_ROUTE = "route"
STAGE_VALUE = "value"


@dataclass(frozen=True, slots=True)
class DecodeFailure:
    """Why one record is no row.

    Attributes:
        index: Position in the array given to the decoder.
        error_class: Stable short name, such as `invalid_json` or `unknown_field`.
        message: One line for people: field path and what was expected, never the value itself.
        schema_id: Of the schema that it was written with, where the record names one.
        stage: What of the record it is about: `STAGE_VALUE` or `STAGE_KEY`; or `STAGE_ROUTE`,
            where it is which table the record goes into.
    """

    index: int
    error_class: str
    message: str
    schema_id: int | None = None
    stage: str = STAGE_VALUE


@dataclass(frozen=True, slots=True)
class Routes:
    """Into which table each of n records goes.

    Attributes:
        tables: Identifiers, those of tables that do not exist yet among them.
        codes: n elements: which of `tables` takes the record.
        refused: Records that no rule lets into a table, or of which nobody can tell today into
            which: dead letters of the table that `codes` names. The first that is said of a record
            counts.
    """

    tables: tuple[str, ...]
    codes: npt.NDArray[np.int32]
    refused: tuple[DecodeFailure, ...] = ()


DecidedOffsets: TypeAlias = Mapping[TopicPartition, npt.NDArray[np.int64]]
"""Kafka partition → offsets that are dead letters of a table already, ascending."""


@dataclass(frozen=True, slots=True)
class BreakingSchema:
    """A writer's schema that the table cannot follow, and the first of n values that has it.

    Attributes:
        reason: Column by column, for people.
    """

    index: int
    schema_id: SchemaId | None
    reason: str


@dataclass(frozen=True, slots=True)
class DecodedValues:
    """What a decoder made of n values.

    Attributes:
        rows: m rows × the decoder's row schema; when the decoder may add columns, × that schema
            plus the columns that it found in these values (see `proposed_schema`).
        row_indices: int64, m elements: which of the n values each row came from, ascending;
            None when m = n.
        failures: The other n - m values, ascending by index.
        proposed_schema: Row schema that would hold these values entirely, when it is not the
            decoder's own: the caller evolves the table and decodes again. `rows` is then empty
            and `failures` is not meaningful.
        missing_schema_ids: Writers' schemas that the decoder has to know first: the caller
            fetches them and decodes again. Nothing else is then meaningful.
        breaking: What the caller has to stop at, before this value. Nothing else is then
            meaningful.
    """

    rows: pa.RecordBatch
    row_indices: pa.Int64Array | None = None
    failures: tuple[DecodeFailure, ...] = ()
    proposed_schema: pa.Schema | None = None
    missing_schema_ids: frozenset[SchemaId] = frozenset()
    breaking: BreakingSchema | None = None


@dataclass(frozen=True, slots=True)
class TransformedRows:
    """What transforms made of n decoded rows.

    Attributes:
        rows: m rows × the table's columns, without `_kafka`; those of one record stand together.
        origin: m elements × KAFKA_TYPE: where they come from.
        row_indices: int64, m elements: which of the n rows each came from, ascending; several came
            from one where a step makes several. None where each came from its own.
        failures: Rows that could not be transformed, ascending by index; the rest of the others
            is filtered.
    """

    rows: pa.RecordBatch
    origin: pa.StructArray
    row_indices: pa.Int64Array | None = None
    failures: tuple[DecodeFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class RangeCounts:
    """What became of the offsets of one range; offsets without a record are the rest.

    The rest are compacted away, aborted, or control records, and were never delivered.

    Attributes:
        row_count: Records that are rows.
        byte_count: Key and value bytes of the records, whatever became of them.
        extra_row_count: Rows beyond the first one of their record.
    """

    row_count: int = 0
    dead_letter_count: int = 0
    filtered_count: int = 0
    tombstone_count: int = 0
    byte_count: int = 0
    extra_row_count: int = 0

    def __add__(self, other: "RangeCounts") -> "RangeCounts":
        return RangeCounts(
            self.row_count + other.row_count,
            self.dead_letter_count + other.dead_letter_count,
            self.filtered_count + other.filtered_count,
            self.tombstone_count + other.tombstone_count,
            self.byte_count + other.byte_count,
            self.extra_row_count + other.extra_row_count,
        )

    @property
    def record_count(self) -> int:
        """Records that Kafka delivered."""
        return self.row_count + self.dead_letter_count + self.filtered_count + self.tombstone_count

    @property
    def table_row_count(self) -> int:
        """Rows that the table gets."""
        return self.row_count + self.extra_row_count


@dataclass(frozen=True, slots=True)
class CountedRange:
    """One Kafka partition's share of a generation, with what became of it."""

    offsets: OffsetRange
    counts: RangeCounts

    def __post_init__(self) -> None:
        """More records than offsets is our bug."""
        assert self.counts.record_count <= len(self.offsets)


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """One polled batch after decoding.

    Attributes:
        rows: m rows × the table's columns, `_kafka` last.
        dead_letters: k rows × DEAD_LETTER_SCHEMA, without those that were dead letters already.
        ranges: The polled ranges with their counts.
        byte_count: As polled, so that what was reserved is given back exactly.
    """

    rows: pa.RecordBatch
    dead_letters: pa.RecordBatch
    ranges: tuple[CountedRange, ...]
    byte_count: int


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A closed Parquet file that no snapshot names yet.

    Attributes:
        path: Full location, as it goes into the manifest.
        row_count: Rows in the file.
        byte_count: Size on storage.
        iceberg_partition: One value per field of the partition spec, in its order, in Iceberg's
            own representation (day and hour as integers since the epoch).
        spec_id: The partition spec it was written for.
        schema_id: The table schema it was written with.
        sort_order_id: The table's sort order when the rows are sorted by it, else None.
        footer: Parquet's own metadata, from which the manifest's statistics are made.
        created_boot_seconds: When the file was opened (`Clock.boot_seconds`); old files are never
            committed, because orphan removal may have taken them for garbage.
    """

    path: str
    row_count: int
    byte_count: int
    iceberg_partition: tuple[object, ...]
    spec_id: int
    schema_id: int
    sort_order_id: int | None
    footer: pq.FileMetaData
    created_boot_seconds: float


@dataclass(frozen=True, slots=True)
class Generation:
    """Everything between two seals, written and ready to commit.

    Attributes:
        number: Ascending from 1 within a worker.
        ranges: One per Kafka partition that moved, ascending by partition.
        files: For the target table.
        dead_letter_files: For the dead-letter table; committed first.
        first_polled_boot_seconds: When its oldest batch was polled.
    """

    number: int
    ranges: tuple[CountedRange, ...]
    files: tuple[WrittenFile, ...]
    dead_letter_files: tuple[WrittenFile, ...]
    first_polled_boot_seconds: float

    @property
    def starts(self) -> Mapping[TopicPartition, int]:
        """Where each Kafka partition of this generation begins."""
        return {r.offsets.topic_partition: r.offsets.start_offset for r in self.ranges}

    @property
    def ends(self) -> Mapping[TopicPartition, int]:
        """The next offset of each Kafka partition after this generation."""
        return {r.offsets.topic_partition: r.offsets.next_offset for r in self.ranges}

    @property
    def counts(self) -> RangeCounts:
        """The sum over all ranges."""
        return sum((r.counts for r in self.ranges), RangeCounts())


@dataclass(frozen=True, slots=True)
class TableState:
    """One load of a table: its ledger entry, None for a table that never had one.

    Attributes:
        entry: The state that the load shows.
        paused: Why nothing may be committed to it until an operator acted.
        view: What it was read from; only the table looks inside.
    """

    entry: Entry | None
    view: object
    paused: Pause | None = None


@dataclass(frozen=True, slots=True)
class EarlierLog:
    """What another transaction log on this host tells about files that may be garbage.

    Attributes:
        name: Which log, for pruning.
        owner: Its worker's take-over; None when it died before that, and then it has no files.
        unlanded_paths: Table identifier → files of generations not known to have landed there.
    """

    name: str
    owner: Owner | None
    unlanded_paths: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class CommitReport:
    """One landed commit.

    Attributes:
        snapshot_id: The snapshot that holds it.
        attempt_count: Requests sent, the landed one included.
        milliseconds: From the first load to the reply.
    """

    snapshot_id: int
    attempt_count: int
    milliseconds: float


@dataclass(frozen=True, slots=True)
class FlushReport:
    """One generation in one table: the canonical log line, the metrics and the asset metadata.

    Attributes:
        generation: What became of it in this table; after commits that were left out because
            nothing of theirs was for the table, what they read, too.
        dead_letter_commit: Of the dead letters of all tables; told with the lead table's report.
        table: Identifier.
        produced_to_visible_milliseconds: From the oldest record's timestamp, the worst of all
            polls, to its row among the hot rows; None where none was shown.
    """

    generation: Generation
    commit: CommitReport
    dead_letter_commit: CommitReport | None
    seal_to_commit_milliseconds: float
    oldest_to_commit_milliseconds: float
    produced_to_visible_milliseconds: float | None = None
    table: str = ""
    metadata_location: str = ""
    next_offsets: Mapping[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
