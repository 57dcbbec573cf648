"""The tables that the gateway contract runs on, behind one small interface.

A backend has one table of one column and `_kafka`. It hands out gateways with connections of their
own, as two workers have them, and changes the table behind their backs, as a foreign engine does.
"""

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from k2i_core.iceberg.catalog import open_catalog
from k2i_core.iceberg.gateway import TableGateway
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.iceberg.tables import TableSettings, create_or_adopt, with_kafka
from k2i_core.iceberg.types import arrow_schema
from k2i_core.iceberg.write_targets import write_target
from k2i_core.records import WrittenFile
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.write_target import OutputStream
from tests.fakes.memory_gateway import MemoryGateway
from tests.fakes.memory_table import MemoryTable

ROW_SCHEMA = pa.schema([pa.field("id", pa.int64())])


class Backend(Protocol):
    """One table, seen from outside the gateway."""

    def connect(self) -> TableGateway: ...

    def write_file(self, row_count: int = 1) -> WrittenFile: ...

    def row_count(self) -> int:
        """Rows that a reader of the head sees."""
        ...

    def has_file(self, path: str) -> bool: ...

    def change_schema(self) -> None: ...

    def change_spec(self) -> None: ...

    def manifest_count(self) -> int | None:
        """Manifests of the head; None where there are none to count."""
        ...


def rows_of(schema: pa.Schema, row_count: int) -> pa.Table:
    """Return rows with ids and offsets from 0."""
    kafka = [{"topic": "orders", "partition": 0, "offset": n} for n in range(row_count)]
    columns = [
        pa.array(kafka, schema.field("_kafka").type)
        if name == "_kafka"
        else pa.array(range(row_count), pa.int64())
        if name == "id"
        else pa.nulls(row_count, schema.field(name).type)
        for name in schema.names
    ]
    return pa.table(columns, schema=schema)


def write_parquet(
    open_output: Callable[[str], OutputStream], path: str, rows: pa.Table
) -> tuple[int, pq.FileMetaData]:
    """Write one Parquet file; returns its size and footer."""
    with open_output(path) as stream:
        writer = pq.ParquetWriter(stream, rows.schema, compression="zstd")
        writer.write_table(rows)
        writer.close()
        byte_count = stream.tell()
    return byte_count, writer.writer.metadata


class IcebergBackend:
    """A real table in a real catalog."""

    def __init__(self, properties: Mapping[str, object], identifier: str) -> None:
        self.properties = properties
        self.identifier = identifier
        self.catalog: Catalog = self.open()
        create_or_adopt(
            self.catalog, identifier, ROW_SCHEMA, TableSettings(), SchemaEvolution.STRICT
        )
        self._stems = count(1)

    def open(self) -> Catalog:
        return open_catalog("k2i", self.properties)

    def connect(self) -> PyIcebergGateway:
        return PyIcebergGateway(self.open, self.identifier)

    def write_file(self, row_count: int = 1) -> WrittenFile:
        table = self.catalog.load_table(self.identifier)
        target = write_target(table, f"test-{next(self._stems)}")
        path = target.new_path(())
        rows = rows_of(target.schema, row_count)
        byte_count, footer = write_parquet(target.open_output, path, rows)
        return WrittenFile(
            path, row_count, byte_count, (), target.spec_id, target.schema_id, None, footer, 0.0
        )

    def row_count(self) -> int:
        return self.catalog.load_table(self.identifier).scan().to_arrow().num_rows

    def has_file(self, path: str) -> bool:
        return self.catalog.load_table(self.identifier).io.new_input(path).exists()

    def change_schema(self) -> None:
        with self.catalog.load_table(self.identifier).update_schema() as update:
            update.add_column("added", StringType())

    def change_spec(self) -> None:
        with self.catalog.load_table(self.identifier).update_spec() as update:
            update.add_field("id", BucketTransform(4), "id_bucket")

    def manifest_count(self) -> int:
        table = self.catalog.load_table(self.identifier)
        head = table.current_snapshot()
        return len(head.manifests(table.io)) if head else 0

    def arrow_schema(self) -> pa.Schema:
        return arrow_schema(self.catalog.load_table(self.identifier).schema())


class MemoryBackend:
    """The fake that the simulation runs on."""

    def __init__(self) -> None:
        self.table = MemoryTable("sales.orders")
        self.row_counts: dict[str, int] = {}
        self._numbers = count(1)

    def connect(self) -> MemoryGateway:
        return MemoryGateway(self.table, delete=lambda paths: [self._delete(p) for p in paths])

    def _delete(self, path: str) -> None:
        self.row_counts.pop(path, None)

    def write_file(self, row_count: int = 1) -> WrittenFile:
        path = f"memory://orders/{next(self._numbers)}.parquet"
        self.row_counts[path] = row_count
        sink = pa.BufferOutputStream()
        rows = rows_of(with_kafka(ROW_SCHEMA), row_count)
        writer = pq.ParquetWriter(sink, rows.schema)
        writer.write_table(rows)
        writer.close()
        footer = writer.writer.metadata
        current = self.table.current
        return WrittenFile(
            path, row_count, sink.tell(), (), current.spec_id, current.schema_id, None, footer, 0.0
        )

    def row_count(self) -> int:
        return sum(self.row_counts[path] for path in self.table.current.live)

    def has_file(self, path: str) -> bool:
        return path in self.row_counts

    def change_schema(self) -> None:
        schema_id = self.table.current.schema_id + 1
        field_ids = {**self.table.current.field_ids, schema_id: frozenset(range(1, 10))}
        self.table.change(schema_id=schema_id, field_ids=field_ids)

    def change_spec(self) -> None:
        self.table.change(spec_id=self.table.current.spec_id + 1)

    def manifest_count(self) -> None:
        return None


def sqlite_backend(folder: Path, identifier: str = "sales.orders") -> IcebergBackend:
    """A table in a catalog of its own."""
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{folder}/catalog/catalog.db",
        "warehouse": f"{folder}/warehouse",
    }
    return IcebergBackend(properties, identifier)
