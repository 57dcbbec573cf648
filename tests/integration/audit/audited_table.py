"""A pipeline's real table, committed to as a worker does, into which faults can be seeded.

Rows go through the real writer, committer and gateway on SQLite; what they claim and what they are
can differ. Rewrites and foreign commits come from PyIceberg.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2i_core.audit.audit_state import AuditState, read_state
from k2i_core.clock import RandomIds, SystemClock
from k2i_core.config import Pipeline, parse_pipeline
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.iceberg.tables import create_or_adopt
from k2i_core.iceberg.types import arrow_schema
from k2i_core.iceberg.write_targets import write_target
from k2i_core.ledger import Epoch, Identity, Share
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.parquet.encodings import EncodingMemory
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import CommitReport, CountedRange, RangeCounts
from k2i_core.wiring.settings import (
    catalog_opener,
    commit_limits,
    declared_schema,
    table_settings,
)
from k2i_core.wiring.table_audit import TableAudit, audit_table

P0 = TopicPartition("orders", 0)
P1 = TopicPartition("orders", 1)
Offsets = Mapping[TopicPartition, Sequence[int]]


class AuditedTable:
    """The target table of a pipeline, owned by this process, and its audits."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        directory.mkdir(exist_ok=True)
        self.settings = {
            "name": "orders",
            "kafka": {"bootstrap_servers": "127.0.0.1:1", "topics": ["orders"]},
            "catalog": {
                "type": "sql",
                "uri": f"sqlite:///{directory}/catalog.db",
                "warehouse": str(directory / "lake"),
            },
            "table": {
                "identifier": "sales.orders",
                "columns": [
                    {"name": "order_id", "type": "long", "required": True},
                    {"name": "amount", "type": "decimal(9,2)"},
                    {"name": "note", "type": "string"},
                ],
            },
            "state_directory": str(directory / "state"),
            **settings,
        }
        self.pipeline: Pipeline = parse_pipeline(self.settings)
        self.identifier = self.pipeline.table.identifier
        self.state: AuditState | None = None
        row_schema = declared_schema(self.pipeline)
        assert row_schema is not None
        open_catalog = catalog_opener(self.pipeline)
        self.catalog = open_catalog()
        self._ready = create_or_adopt(
            self.catalog,
            self.identifier,
            row_schema,
            table_settings(self.pipeline),
            self.pipeline.table.schema_evolution,
        )
        self._clock = SystemClock()
        self._committer = TableCommitter(
            PyIcebergGateway(open_catalog, self.identifier),
            self._clock,
            RandomIds(),
            commit_limits(self.pipeline),
            log_attempt=lambda _table, _snapshot_id: None,
        )
        self._generation = 0
        self.next_offsets = {P0: 0, P1: 0}
        identity = Identity("orders", "cluster", {"orders": "t1"})
        self._owner, _ = self._committer.claim(
            Share(0, 1), identity, dict(self.next_offsets), Epoch(0)
        )

    @property
    def table(self) -> Table:
        return self.catalog.load_table(self.identifier)

    def commit(
        self, count: int = 40, *, rows: Offsets | None = None, note: str | None = "fine"
    ) -> CommitReport:
        """Claim the next offsets of both partitions, and write these rows, or one for each."""
        starts = dict(self.next_offsets)
        for tp in starts:
            self.next_offsets[tp] += count
        claimed = {tp: list(range(start, start + count)) for tp, start in starts.items()}
        self._generation += 1
        writer = RollingWriter(
            write_target(self._ready.table, f"{self._owner.epoch}-0-1-{self._generation}"),
            self._clock,
            lambda _path: None,
            EncodingMemory(),
        )
        writer.write(self.rows(rows or claimed, note=note))
        ranges = tuple(
            CountedRange(OffsetRange(tp, offsets[0], offsets[-1] + 1), RangeCounts(count))
            for tp, offsets in claimed.items()
        )
        return self._committer.append(self._owner, ranges, writer.close())

    def rows(self, offsets: Offsets, note: str | None = "fine") -> pa.RecordBatch:
        records = [
            {
                "order_id": 1_000_000 * tp.kafka_partition + offset,
                "amount": None,
                "note": note,
                "_kafka": {
                    "topic": tp.topic,
                    "partition": tp.kafka_partition,
                    "offset": offset,
                },
            }
            for tp, some in offsets.items()
            for offset in some
        ]
        schema = write_target(self._ready.table, "schema").schema
        return pa.RecordBatch.from_pylist(records, schema=schema)

    def append_elsewhere(self, offsets: Offsets) -> None:
        """Append rows past k2i."""
        table = self.table
        rows = pa.Table.from_batches([self.rows(offsets)])
        table.append(rows.cast(arrow_schema(table.schema())))

    def rewrite(self, edit: Any = None, *, operation: str = "compaction") -> None:
        """Replace all files by one with the same rows, or with what `edit` makes of them."""
        table = self.table
        rows = table.scan().to_arrow()
        rows = edit(rows) if edit else rows
        old = [task.file for task in table.scan().plan_files()]
        new = list(_dataframe_to_data_files(table.metadata, rows, table.io))
        self.replace(old, new, operation=operation)

    def replace(
        self, old: Sequence[DataFile], new: Sequence[DataFile], *, operation: str = "compaction"
    ) -> None:
        """Commit a replacement of files, as a compaction does, the checkpoint carried along."""
        table = self.table
        head = table.current_snapshot()
        assert head is not None
        assert head.summary is not None
        with table.transaction() as transaction:
            properties = {"k2i.operation": operation}
            with transaction.update_snapshot(properties).overwrite() as update:
                for file in old:
                    update.delete_data_file(file)
                for file in new:
                    update.append_data_file(file)

    def audit(self, *, is_full: bool = False) -> TableAudit:
        """Audit from where the last one that held ended."""
        found = audit_table(self.pipeline, self.state, is_full=is_full)
        if found.holds:
            self.state = read_state(found.state.to_json())
        return found

    def files(self) -> list[DataFile]:
        """The live data files, oldest first."""
        tasks = list(self.table.scan().plan_files())
        return [task.file for task in reversed(tasks)]


def failed(found: TableAudit) -> set[str]:
    """The names of the checks that do not pass."""
    return {answer.question for answer in found.answers if answer.faults}


def faults(found: TableAudit, name: str) -> tuple[str, ...]:
    return next(answer.faults for answer in found.answers if answer.question == name)


def local(path: str) -> Path:
    return Path(path.removeprefix("file://"))
