"""A store in memory that the Parquet writer writes to, and that fails where a test says so."""

import errno
import io
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from k2i_core.parquet.encodings import EncodingMemory
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import KAFKA_COLUMN, KAFKA_TYPE, WrittenFile
from k2i_core.write_target import IcebergPartition, WriteTarget


def no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


class MemoryFile(io.RawIOBase):
    """A file that the store shows only once it is closed, as an object store does."""

    def __init__(self, store: "MemoryStore", path: str) -> None:
        self._store = store
        self._path = path
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        self._checkClosed()
        self._store.raise_if(len(self.content) >= self._store.fail_write_after_bytes)
        self.content += content
        return len(content)

    def tell(self) -> int:
        return len(self.content)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._store.open_paths.discard(self._path)
            self._store.raise_if(self._store.fails_on_close)
            self._store.contents[self._path] = bytes(self.content)


@dataclass
class MemoryStore:
    """Files by path. `events` tells what happened in which order; `paths` go up from file-0."""

    contents: dict[str, bytes] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    open_paths: set[str] = field(default_factory=set)
    open_count_max: int = 0
    fails_on_open: bool = False
    fails_on_close: bool = False
    fail_write_after_bytes: float = float("inf")
    make_error: Callable[[], OSError] = no_space
    numbers: Iterable[int] = field(default_factory=itertools.count)

    def raise_if(self, condition: bool) -> None:
        if condition:
            raise self.make_error()

    def new_path(self, iceberg_partition: IcebergPartition) -> str:
        assert isinstance(iceberg_partition, tuple)
        return f"file-{next(iter(self.numbers))}"

    def announce(self, path: str) -> None:
        self.events.append(("announced", path))

    def open_output(self, path: str) -> MemoryFile:
        self.raise_if(self.fails_on_open)
        self.events.append(("created", path))
        self.open_paths.add(path)
        self.open_count_max = max(self.open_count_max, len(self.open_paths))
        return MemoryFile(self, path)

    def target(self, schema: pa.Schema, **changes: Any) -> WriteTarget:
        known: dict[str, Any] = {
            "schema": schema,
            "schema_id": 3,
            "spec_id": 5,
            "target_file_bytes": 128 * 1024 * 1024,
            "new_path": self.new_path,
            "open_output": self.open_output,
        }
        return WriteTarget(**{**known, **changes})

    def writer(self, target: WriteTarget, encodings: EncodingMemory | None = None) -> RollingWriter:
        return RollingWriter(target, FixedClock(), self.announce, encodings)

    def write(self, target: WriteTarget, *batches: pa.RecordBatch) -> tuple[WrittenFile, ...]:
        writer = self.writer(target)
        for batch in batches:
            writer.write(batch)
        return writer.close()

    def rows_of(self, file: WrittenFile) -> list[dict[str, Any]]:
        return self.table_of(file).to_pylist()

    def table_of(self, file: WrittenFile) -> pa.Table:
        return pq.read_table(
            pa.BufferReader(self.contents[file.path]), page_checksum_verification=True
        )


class FixedClock:
    """A clock that stands at 1234.5 seconds after boot."""

    def now_ms(self) -> int:
        return 1_700_000_000_000

    def boot_seconds(self) -> float:
        return 1234.5

    def sleep(self, seconds: float) -> None:
        message = f"the writer waits for seconds={seconds}"
        raise AssertionError(message)


def with_field_ids(schema: pa.Schema) -> pa.Schema:
    """Number every field, nested ones too, as an Iceberg table's schema is."""
    ids = itertools.count(1)

    def numbered(field: "pa.Field[Any]") -> "pa.Field[Any]":
        number = str(next(ids)).encode()
        data_type = field.type
        if isinstance(data_type, pa.StructType):
            data_type = pa.struct([numbered(child) for child in data_type])
        elif isinstance(data_type, pa.ListType):
            data_type = pa.list_(numbered(data_type.value_field.with_name("element")))
        elif isinstance(data_type, pa.MapType):
            data_type = pa.map_(numbered(data_type.key_field), numbered(data_type.item_field))
        return pa.field(
            field.name, data_type, field.nullable, metadata={b"PARQUET:field_id": number}
        )

    return pa.schema([numbered(field) for field in schema])


def kafka_column(row_count: int, first_offset: int = 0) -> pa.Array:
    return pa.array(
        [
            {
                "topic": "orders",
                "partition": 0,
                "offset": first_offset + index,
                "timestamp": 1_700_000_000_000_000 + index * 1000,
                "key": None,
                "headers": None,
            }
            for index in range(row_count)
        ],
        KAFKA_TYPE,
    )


def rows_with(first_offset: int = 0, **columns: pa.Array) -> pa.RecordBatch:
    """Rows of these columns with the `_kafka` column behind them."""
    row_count = len(next(iter(columns.values())))
    return pa.RecordBatch.from_pydict(
        {**columns, KAFKA_COLUMN: kafka_column(row_count, first_offset)},
        schema=pa.schema(
            [pa.field(name, column.type) for name, column in columns.items()]
            + [pa.field(KAFKA_COLUMN, KAFKA_TYPE)]
        ),
    )


def integers(start: int, count: int) -> pa.RecordBatch:
    return rows_with(start, id=pa.array(range(start, start + count), pa.int64()))
