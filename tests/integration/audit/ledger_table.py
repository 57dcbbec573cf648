"""A small real table with a k2i ledger, into which faults can be seeded.

Rows go in through PyIceberg's own append, so that the proof never meets the writer it is to check.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from k2i_core.audit.verify import DeadLetterTable, RetainedRanges, StoredLedger, TopicOffsets
from k2i_core.ledger import (
    CHECKPOINT_KEY,
    RANGES_KEY,
    Entry,
    Identity,
    LedgerRange,
    Totals,
    decode_entry,
    decode_ranges,
    encode_entry,
    encode_ranges,
)
from k2i_core.offsets import Checkpoint, OffsetRange, TopicPartition, Watermarks
from k2i_core.records import DEAD_LETTER_SCHEMA, KAFKA_COLUMN, KAFKA_TYPE

P0 = TopicPartition("orders", 0)
P1 = TopicPartition("orders", 1)
ROW_SCHEMA = pa.schema(
    [
        pa.field("order_id", pa.int64()),
        pa.field("customer", pa.string()),
        pa.field(KAFKA_COLUMN, KAFKA_TYPE, nullable=False),
    ]
)


def kafka_column(records: Iterable[tuple[TopicPartition, int]]) -> pa.StructArray:
    pairs = list(records)
    n = len(pairs)
    columns = [
        pa.array([tp.topic for tp, _ in pairs], pa.string()),
        pa.array([tp.kafka_partition for tp, _ in pairs], pa.int32()),
        pa.array([offset for _, offset in pairs], pa.int64()),
        pa.nulls(n, KAFKA_TYPE.field("timestamp").type),
        pa.nulls(n, pa.binary()),
        pa.array([[]] * n, KAFKA_TYPE.field("headers").type),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(KAFKA_TYPE))


@dataclass
class LedgerTable:
    """A target and a dead-letter table; `commit` claims and stores separately."""

    catalog: Catalog
    namespace: str = "sales"
    entry: Entry = field(
        default_factory=lambda: Entry(
            Identity("orders", "cluster-1", {"orders": "t1"}), Checkpoint()
        )
    )

    @classmethod
    def create(cls, directory: Path) -> "LedgerTable":
        catalog = SqlCatalog(
            "test", uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}/lake"
        )
        return cls.create_in(catalog, "sales")

    @classmethod
    def create_in(cls, catalog: Catalog, namespace: str) -> "LedgerTable":
        lake = cls(catalog, namespace)
        catalog.create_namespace(namespace)
        catalog.create_table(lake.target, ROW_SCHEMA)
        catalog.create_table(lake.dead_letter_table, DEAD_LETTER_SCHEMA)
        return lake

    @property
    def target(self) -> str:
        return f"{self.namespace}.orders"

    @property
    def dead_letter_table(self) -> str:
        return f"{self.namespace}.orders_dead_letters"

    @property
    def table(self) -> Table:
        return self.catalog.load_table(self.target)

    @property
    def dead_letters(self) -> DeadLetterTable:
        return DeadLetterTable(self.catalog.load_table(self.dead_letter_table), self.target)

    def commit(
        self,
        topic_partition: TopicPartition,
        start: int,
        end: int,
        *,
        rows: Iterable[int],
        dead: Iterable[int] = (),
        claim: Totals | None = None,
        lost: bool = False,
    ) -> None:
        """Store `rows` and `dead`, and claim `claim` (what was stored, when None)."""
        row_offsets, dead_offsets = list(rows), list(dead)
        if dead_offsets:
            self.add_dead_letters(topic_partition, dead_offsets)
        claimed = claim or Totals(len(row_offsets), len(dead_offsets))
        ledger_range = LedgerRange(
            OffsetRange(topic_partition, start, end),
            replace(claimed, lost_count=end - start) if lost else claimed,
            lost,
        )
        totals = dict(self.entry.totals)
        totals[topic_partition] = totals.get(topic_partition, Totals()).plus(ledger_range.totals)
        self.entry = replace(
            self.entry,
            checkpoint=self.entry.checkpoint.grow({topic_partition: end}),
            totals=totals,
            first_offsets={topic_partition: start, **self.entry.first_offsets},
        )
        self.append_rows(
            topic_partition,
            row_offsets,
            {CHECKPOINT_KEY: encode_entry(self.entry), RANGES_KEY: encode_ranges([ledger_range])},
        )

    def append_rows(
        self,
        topic_partition: TopicPartition,
        offsets: list[int],
        summary: Mapping[str, str] | None = None,
    ) -> None:
        columns = [
            pa.array(offsets, pa.int64()),
            pa.array([f"customer {offset % 7}" for offset in offsets], pa.string()),
            kafka_column((topic_partition, offset) for offset in offsets),
        ]
        self.table.append(
            pa.Table.from_arrays(columns, schema=ROW_SCHEMA),
            snapshot_properties=dict(summary or {}),
        )

    def add_dead_letters(
        self, topic_partition: TopicPartition, offsets: list[int], target: str | None = None
    ) -> None:
        n = len(offsets)
        columns = [
            pa.array([target or self.target] * n),
            *[pa.array(["x"] * n) for _ in range(4)],
            pa.nulls(n, pa.int32()),
            pa.array([0] * n, DEAD_LETTER_SCHEMA.field("first_seen").type),
            pa.nulls(n, pa.binary()),
            kafka_column((topic_partition, offset) for offset in offsets),
        ]
        letters = pa.Table.from_arrays(columns, schema=DEAD_LETTER_SCHEMA)
        self.catalog.load_table(self.dead_letter_table).append(letters)

    def ledger(self) -> StoredLedger:
        """Read the ledger back from the summaries of every snapshot that is still there."""
        snapshots = self.table.metadata.snapshots
        carriers = [s for s in snapshots if s.summary and s.summary.get(CHECKPOINT_KEY)]
        text = carriers[-1].summary[CHECKPOINT_KEY] if carriers else encode_entry(self.entry)
        retained = tuple(
            RetainedRanges(s.sequence_number or 0, decode_ranges(s.summary[RANGES_KEY]))
            for s in carriers
        )
        return StoredLedger(decode_entry(text), retained)


@dataclass
class FakeTopic:
    """A topic in memory: which offsets exist, and which of them are tombstones."""

    records: Mapping[TopicPartition, range | list[int]]
    tombstones: Mapping[TopicPartition, list[int]] = field(default_factory=dict)
    low: Mapping[TopicPartition, int] = field(default_factory=dict)
    high: Mapping[TopicPartition, int] = field(default_factory=dict)
    batch: int = 7

    def watermarks(self, topic_partitions):
        return {
            tp: Watermarks(self.low.get(tp, 0), self.high.get(tp, self.records[tp][-1] + 1))
            for tp in topic_partitions
        }

    def read(self, ranges) -> Iterator[TopicOffsets]:
        for wanted in ranges:
            tp = wanted.topic_partition
            inside = [o for o in self.records[tp] if wanted.start_offset <= o < wanted.next_offset]
            for i in range(0, len(inside), self.batch):
                part = inside[i : i + self.batch]
                dead = set(self.tombstones.get(tp, ()))
                yield TopicOffsets(
                    tp, pa.array(part, pa.int64()), pa.array([o in dead for o in part])
                )
