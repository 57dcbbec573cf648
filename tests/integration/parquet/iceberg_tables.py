"""Real Iceberg tables for the Parquet writer: SQLite catalog, local files, PyIceberg commits.

Targets and manifest entries are those of `k2i_core.iceberg`; the commit is PyIceberg's own, so that
nothing of the commit protocol is needed to read files back.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import SortOrder

from k2i_core.clock import SystemClock
from k2i_core.iceberg.data_files import DataFileMaker
from k2i_core.iceberg.write_targets import write_target
from k2i_core.parquet.encodings import EncodingMemory
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import WrittenFile
from k2i_core.write_target import WriteTarget


def open_catalog(directory: Path) -> SqlCatalog:
    catalog = SqlCatalog(
        "test", uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}/warehouse"
    )
    catalog.create_namespace("n")
    return catalog


STORABLE = {
    pa.large_string(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.uuid(): pa.binary(16),
}
"""PyIceberg's Arrow types → what Arrow can build from Python values at any depth."""


def storable_schema(schema: Schema) -> pa.Schema:
    """Return the table's columns in types that rows are built in; the writer casts the rest."""
    return pa.schema([storable_field(field) for field in schema_to_pyarrow(schema)])


def storable_field(field: "pa.Field[Any]") -> "pa.Field[Any]":
    data_type = field.type
    if isinstance(data_type, pa.StructType):
        data_type = pa.struct([storable_field(child) for child in data_type])
    elif isinstance(data_type, pa.MapType):
        data_type = pa.map_(
            storable_field(data_type.key_field), storable_field(data_type.item_field)
        )
    elif isinstance(data_type, pa.LargeListType | pa.ListType):
        data_type = pa.list_(storable_field(data_type.value_field))
    return field.with_type(STORABLE.get(data_type, data_type))


def write_table(
    catalog: SqlCatalog,
    schema: Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    partition_spec: PartitionSpec | None = None,
    sort_order: SortOrder | None = None,
    choose_encodings: Callable[[WriteTarget], EncodingMemory] | None = None,
    **changes: Any,
) -> tuple[Table, tuple[WrittenFile, ...]]:
    """Create a table, write all batches as one generation and commit them."""
    more: dict[str, Any] = {"partition_spec": partition_spec, "sort_order": sort_order}
    table = catalog.create_table(
        f"n.t{os.urandom(6).hex()}", schema, **{k: v for k, v in more.items() if v is not None}
    )
    target = replace(write_target(table, "1-0-1-1"), **changes)
    encodings = choose_encodings(target) if choose_encodings else None
    writer = RollingWriter(target, SystemClock(), lambda _path: None, encodings)
    for batch in batches:
        writer.write(batch)
    files = writer.close()
    maker = DataFileMaker()
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for file in files:
            append.append_data_file(maker.make(table, file))
    return table, files
