"""One table of a pipeline, with everything that is its own: what it is made of, and its progress.

`Target` holds the parts as they are built; `OpenTarget` adds what changes while a session runs.
Of that the write lane changes the decoder and how far hot rows go, the commit lane the rest.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from k2i_core.ingest.circuit_breaker import CircuitBreaker
from k2i_core.ingest.decoding import DecodeSettings, KeyCheck
from k2i_core.ingest.ports import (
    Decoder,
    FetchSchemas,
    HotRows,
    NoHotRows,
    Router,
    RowTransforms,
    TargetRows,
    TargetTable,
    no_schemas,
)
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import (
    CountedRange,
    DecidedOffsets,
    DecodedBatch,
    PolledBatch,
    RangeCounts,
)

NO_TABLES: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of one table that gets rows.

    Attributes:
        table: What is committed to.
        rows: Its columns, and writers.
        make_decoder: Columns → what makes rows of them.
        hot: Its rows before their commit.
        breaker: Judges its dead letters.
        fetch_schemas: What its decoders ask for.
        check_keys: Finds keys that do not fit the key format; None accepts all.
        transforms: Makes the table's columns of the records'; None where they are the same.
    """

    table: TargetTable
    rows: TargetRows
    make_decoder: Callable[[pa.Schema], Decoder]
    hot: HotRows = field(default_factory=NoHotRows)
    breaker: CircuitBreaker | None = None
    fetch_schemas: FetchSchemas = no_schemas
    check_keys: KeyCheck | None = None
    transforms: RowTransforms | None = None

    @property
    def identifier(self) -> str:
        """Namespace and name of the table, joined by dots."""
        return self.table.identifier


@dataclass(frozen=True, slots=True)
class Routing:
    """How records find their tables, where there are several.

    Attributes:
        router: Says where each record goes.
        name: Of its rules: other rules have another name.
        seen_tables: Looks for tables that were made of what records said.
        open_seen: Makes the target of a table that is not there yet, with columns for the records
            that it gets, and returns it; None for tables of which nothing is to be read now.
    """

    router: Router
    name: str
    seen_tables: Callable[[], Collection[str]] = lambda: NO_TABLES
    open_seen: Callable[[str, PolledBatch], Target | None] = lambda _name, _polled: None


class OpenTarget:
    """A target while a session runs.

    Attributes:
        held: Next offsets of the table at the take-over: what lies below is in it already.
        decoder: For the columns of now.
        settings: Of every batch.
        is_taken: Whether its ledger knows this session; False of a table seen for the first time.
        next_offsets: As committed.
        pending: Ranges that were read and left out of commits, because nothing was for this table.
        committed_boot_seconds: When its last commit landed.
    """

    def __init__(
        self,
        target: Target,
        next_offsets: Mapping[TopicPartition, int],
        verdicts: DecidedOffsets,
        boot_seconds: float,
    ) -> None:
        """Begin where the table stands.

        Args:
            target: The table.
            next_offsets: Of the worker's Kafka partitions, as the table has them.
            verdicts: Offsets that are dead letters of it already.
            boot_seconds: Now.

        """
        self.target = target
        self.held = dict(next_offsets)
        self.decoder = target.make_decoder(target.rows.row_schema)
        self.settings = DecodeSettings(
            target.identifier, verdicts, target.check_keys, target.transforms
        )
        self.is_taken = True
        self.next_offsets = dict(next_offsets)
        self.pending: dict[TopicPartition, CountedRange] = {}
        self.committed_boot_seconds = boot_seconds
        self._hot_next = dict(next_offsets)

    @property
    def identifier(self) -> str:
        """Namespace and name of the table, joined by dots."""
        return self.target.identifier

    def add(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Begin to read Kafka partitions that are new; what is known of others stands."""
        for known in (self.held, self.next_offsets):
            known.update({tp: n for tp, n in next_offsets.items() if tp not in known})
        self._hot_next = dict(self.next_offsets)

    def show(
        self, generation: int, decoded: DecodedBatch, ends: Mapping[TopicPartition, int]
    ) -> None:
        """Show rows to readers, and that nothing was for this table up to `ends`.

        Batches without a row are not shown by themselves: of many tables, most get none, and to
        say so at every poll costs more than the rows of the others.
        """
        moved = {tp: n for tp, n in ends.items() if n > self._hot_next[tp]}
        ranges = tuple(
            CountedRange(OffsetRange(tp, self._hot_next[tp], n), RangeCounts())
            for tp, n in sorted(moved.items())
        )
        self._hot_next.update(moved)
        self.target.hot.append(generation, replace(decoded, ranges=ranges))
