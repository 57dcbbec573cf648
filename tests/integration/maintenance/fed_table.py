"""A real table that k2i owns, fed commit by commit through the real writer and the real loop."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2i_core.clock import RandomIds, SystemClock
from k2i_core.iceberg.catalog import open_catalog
from k2i_core.iceberg.commit import CommitLimits, TableCommitter
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.iceberg.tables import (
    TableSettings,
    create_or_adopt,
    create_or_adopt_dead_letters,
)
from k2i_core.iceberg.types import arrow_schema
from k2i_core.iceberg.write_targets import write_target
from k2i_core.ledger import Entry, Epoch, Identity, Share
from k2i_core.maintenance.compaction import CompactionOptions, MaintainedTable
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import CountedRange, RangeCounts, WrittenFile
from k2i_core.schema.evolution import SchemaEvolution

ROWS = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("city", pa.string()),
        pa.field("amount", pa.float64()),
    ]
)
P0 = TopicPartition("orders", 0)
LIMITS = CommitLimits(attempt_count_max=100, seconds_max=60.0, file_age_seconds_max=3600.0)


def sqlite_properties(folder: Path) -> dict[str, object]:
    return {
        "type": "sql",
        "uri": f"sqlite:///{folder}/catalog.db",
        "warehouse": str(folder / "warehouse"),
    }


class FedTable:
    """The worker's side, and looks at what is there."""

    def __init__(
        self,
        properties: Mapping[str, object],
        *,
        rows: pa.Schema = ROWS,
        settings: TableSettings | None = None,
        identifier: str = "sales.orders",
        is_dead_letters: bool = False,
    ) -> None:
        self.properties = properties
        self.identifier = identifier
        self.clock = SystemClock()
        self.catalog: Catalog = self.open()
        if is_dead_letters:
            create_or_adopt_dead_letters(self.catalog, identifier)
        else:
            create_or_adopt(
                self.catalog, identifier, rows, settings or TableSettings(), SchemaEvolution.STRICT
            )
        self.committer = self.new_committer()
        identity = Identity("orders", "cluster", {"orders": "topic-id"})
        self.owner, _ = self.committer.claim(Share(0, 1), identity, {P0: 0}, Epoch(0))
        self.next_offset = 0

    def open(self) -> Catalog:
        return open_catalog("k2i", self.properties)

    def new_committer(self, gateway: PyIcebergGateway | None = None) -> TableCommitter:
        return TableCommitter(
            gateway or PyIcebergGateway(self.open, self.identifier),
            self.clock,
            RandomIds(),
            LIMITS,
            log_attempt=lambda _table, _snapshot_id: None,
        )

    def maintained(self) -> MaintainedTable:
        """Return what another process would maintain it with."""
        gateway = PyIcebergGateway(self.open, self.identifier)
        return MaintainedTable(gateway, self.new_committer(gateway), self.clock, RandomIds())

    @property
    def table(self) -> Table:
        return self.catalog.load_table(self.identifier)

    @property
    def entry(self) -> Entry:
        entry = self.new_committer().inspect().entry
        assert entry is not None
        return entry

    def commit(self, *groups: Sequence[Mapping[str, Any]]) -> int:
        """Append rows, each group to files of its own; returns the snapshot."""
        start = self.next_offset
        return self.append(start, [file for rows in groups for file in self.write(rows)])

    def commit_batches(self, batches: Sequence[pa.RecordBatch]) -> int:
        """Append rows that have their `_kafka` column."""
        start = self.next_offset
        self.next_offset += sum(batch.num_rows for batch in batches)
        return self.append(start, self.write_batches(batches))

    def append(self, start: int, files: Sequence[WrittenFile]) -> int:
        counts = RangeCounts(row_count=self.next_offset - start)
        counted = CountedRange(OffsetRange(P0, start, self.next_offset), counts)
        return self.committer.append(self.owner, (counted,), tuple(files)).snapshot_id

    def write(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[WrittenFile]:
        schema = arrow_schema(self.table.schema())
        kafka = [
            {"topic": "orders", "partition": 0, "offset": self.next_offset + n}
            for n in range(len(rows))
        ]
        self.next_offset += len(rows)
        full = [{**row, "_kafka": origin} for row, origin in zip(rows, kafka, strict=True)]
        columns = {name: [row.get(name) for row in full] for name in schema.names}
        arrays = [pa.array(columns[name], storable(schema.field(name).type)) for name in columns]
        return self.write_batches([pa.RecordBatch.from_arrays(arrays, names=list(columns))])

    def write_batches(self, batches: Sequence[pa.RecordBatch]) -> Sequence[WrittenFile]:
        target = write_target(self.table, f"1-0-1-{RandomIds().token()}")
        writer = RollingWriter(target, self.clock, lambda _path: None)
        for batch in batches:
            writer.write(batch)
        return writer.close()

    def files(self) -> list[Any]:
        return [task.file for task in self.table.scan().plan_files()]

    def offsets(self) -> list[int]:
        kafka = self.table.scan(selected_fields=("_kafka",)).to_arrow()["_kafka"].to_pylist()
        return sorted(origin["offset"] for origin in kafka)


def storable(data_type: pa.DataType) -> pa.DataType:
    """Return a type that Arrow builds from Python values at any depth."""
    if isinstance(data_type, pa.StructType):
        return pa.struct([f.with_type(storable(f.type)) for f in data_type])
    if isinstance(data_type, pa.MapType):
        return pa.map_(storable(data_type.key_type), storable(data_type.item_type))
    if isinstance(data_type, pa.ListType):
        return pa.list_(data_type.value_field.with_type(storable(data_type.value_type)))
    return pa.binary(16) if data_type == pa.uuid() else data_type


def options(**changes: Any) -> CompactionOptions:
    values: dict[str, Any] = {
        "target_file_bytes": 64 * 1024 * 1024,
        "min_input_files": 2,
        "order": "none",
        "z_order_by": (),
        "max_memory_bytes": 256 * 1024 * 1024,
        "max_bytes": 1 << 40,
        "max_seconds": 600.0,
        "young_seconds": 0.0,
        **changes,
    }
    return CompactionOptions(**values)


def orders(start: int, count: int) -> list[dict[str, Any]]:
    cities = ("Bern", "Lima", None, "Oslo")
    return [
        {"id": n * 7919 % 1000, "city": cities[n % 4], "amount": n / 3 if n % 5 else None}
        for n in range(start, start + count)
    ]
