"""An object store in memory, and the writers whose files live in it.

A file exists from the moment its writer closes it, as on an object store, and holds the Kafka
offsets of its rows: that is all the protocol's invariants speak about.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa

from k2i_core.clock import Clock
from k2i_core.crash_points import CrashPoint, Observer, ignore
from k2i_core.ingest.ports import RowWriter, TransactionLog
from k2i_core.ledger import Owner
from k2i_core.offsets import TopicPartition
from k2i_core.records import KAFKA_COLUMN, WrittenFile
from tests.fakes.memory_gateway import no_pause

Origin = tuple[TopicPartition, int]


@dataclass(frozen=True)
class StoredFile:
    """Where its rows came from, and when it was finished (boot seconds)."""

    origins: tuple[Origin, ...]
    finished: float


@dataclass
class MemoryFiles:
    """Paths to files, and what somebody wants to know about deletions."""

    files: dict[str, StoredFile] = field(default_factory=dict)
    deleted: Callable[[str], None] = lambda _: None

    def put(self, path: str, origins: tuple[Origin, ...], finished: float) -> None:
        assert path not in self.files, path
        self.files[path] = StoredFile(origins, finished)

    def delete(self, paths: Collection[str]) -> None:
        """Delete; one that is gone already is fine."""
        for path in sorted(paths):
            if self.files.pop(path, None) is not None:
                self.deleted(path)


class MemoryRowWriter:
    """Rows of one generation to at most one file."""

    def __init__(
        self,
        files: MemoryFiles,
        path: str,
        clock: Clock,
        pause: Callable[[str], None],
        observe: Observer,
    ) -> None:
        self._files = files
        self._path = path
        self._clock = clock
        self._pause = pause
        self._observe = observe
        self._created = clock.boot_seconds()
        self._origins: list[Origin] = []

    def write(self, rows: pa.RecordBatch) -> None:
        self._pause("write")
        self._origins.extend(origins_of(rows))

    def close(self) -> tuple[WrittenFile, ...]:
        self._pause("close")
        if not self._origins:
            return ()
        self._files.put(self._path, tuple(self._origins), self._clock.boot_seconds())
        return (written_file(self._path, len(self._origins), self._created),)

    def abandon(self) -> None:
        self._pause("abandon")
        self._origins.clear()

    @property
    def buffered_bytes(self) -> int:
        return 0


class MemoryRows:
    """Writers for one table; a path is logged before its file is begun."""

    def __init__(
        self,
        files: MemoryFiles,
        table: str,
        row_schema: pa.Schema,
        log: TransactionLog,
        clock: Clock,
        new_token: Callable[[], str],
        *,
        pause: Callable[[str], None] = no_pause,
        observe: Observer = ignore,
    ) -> None:
        """Bind the store and the table's identifier."""
        self._files = files
        self._table = table
        self._row_schema = row_schema
        self._log = log
        self._clock = clock
        self._new_token = new_token
        self._pause = pause
        self._observe = observe

    @property
    def row_schema(self) -> pa.Schema:
        return self._row_schema

    def evolve(self, wanted: pa.Schema) -> None:
        self._row_schema = wanted

    def open(self, owner: Owner, generation: int) -> RowWriter:
        path = f"{self._table}/{owner.epoch}-{generation}-{self._new_token()}"
        self._log.file(self._table, generation, path)
        self._observe(CrashPoint.FILE_LOGGED)
        return MemoryRowWriter(self._files, path, self._clock, self._pause, self._observe)


def origins_of(rows: pa.RecordBatch) -> list[Origin]:
    """Return topic, partition and offset of every row."""
    origin = cast("pa.StructArray", rows.column(KAFKA_COLUMN))
    topics, partitions, offsets = (
        cast("list[Any]", origin.field(name).to_pylist())
        for name in ("topic", "partition", "offset")
    )
    return [
        (TopicPartition(topic, kafka_partition), offset)
        for topic, kafka_partition, offset in zip(topics, partitions, offsets, strict=True)
    ]


def written_file(
    path: str, row_count: int = 1, created_boot_seconds: float = 0.0, **changes: Any
) -> WrittenFile:
    """Return a closed file that fits a fresh `MemoryTable`; without the footer nobody reads."""
    values: Mapping[str, Any] = {
        "iceberg_partition": (),
        "spec_id": 0,
        "schema_id": 0,
        "sort_order_id": None,
        "footer": None,
        **changes,
    }
    return WrittenFile(
        path=path,
        row_count=row_count,
        byte_count=row_count,
        created_boot_seconds=created_boot_seconds,
        **values,
    )
