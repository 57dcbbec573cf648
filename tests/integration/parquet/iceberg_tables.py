"""Real Iceberg tables for the Parquet writer: SQLite catalog, local files, PyIceberg commits.

The targets and commits here are made by PyIceberg's own parts, so that what is tested is the files
and what `WrittenFile` says of them, and nothing that k2i does on top.
"""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import NullOrder, SortDirection, SortOrder
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record

from k2i_core.clock import SystemClock
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import WrittenFile
from k2i_core.write_target import PartitionField, SortKey, WriteTarget


def open_catalog(directory: Path) -> SqlCatalog:
    catalog = SqlCatalog(
        "test", uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}/warehouse"
    )
    catalog.create_namespace("n")
    return catalog


SMALL_OFFSETS = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
"""PyIceberg's Arrow types with 32-bit offsets, as a target's schema has them."""

STORABLE = {**SMALL_OFFSETS, pa.uuid(): pa.binary(16)}
"""The same as Arrow can build it from Python values, at any depth."""


def replaced(
    field: "pa.Field[Any]", replacements: dict[pa.DataType, pa.DataType]
) -> "pa.Field[Any]":
    data_type = field.type
    if isinstance(data_type, pa.StructType):
        data_type = pa.struct([replaced(child, replacements) for child in data_type])
    elif isinstance(data_type, pa.MapType):
        data_type = pa.map_(
            replaced(data_type.key_field, replacements),
            replaced(data_type.item_field, replacements),
        )
    elif isinstance(data_type, pa.LargeListType | pa.ListType):
        data_type = pa.list_(replaced(data_type.value_field, replacements))
    return field.with_type(replacements.get(data_type, data_type))


def arrow_schema(schema: Schema, replacements: dict[pa.DataType, pa.DataType]) -> pa.Schema:
    return pa.schema([replaced(field, replacements) for field in schema_to_pyarrow(schema)])


def source_path(schema: Schema, field_id: int) -> tuple[str, ...]:
    return tuple(schema.find_column_name(field_id).split("."))


def write_target(table: Table, **changes: Any) -> WriteTarget:
    schema = table.schema()
    numbers = itertools.count()

    def new_path(iceberg_partition: tuple[object, ...]) -> str:
        assert len(iceberg_partition) == len(table.spec().fields)
        return f"{table.location()}/data/{os.urandom(8).hex()}-{next(numbers)}.parquet"

    known: dict[str, Any] = {
        "schema": arrow_schema(schema, SMALL_OFFSETS),
        "schema_id": schema.schema_id,
        "spec_id": table.spec().spec_id,
        "target_file_bytes": 128 * 1024 * 1024,
        "new_path": new_path,
        "open_output": lambda path: table.io.new_output(path).create(),
        "partition_fields": tuple(
            PartitionField(
                field.name,
                source_path(schema, field.source_id),
                field.transform.pyarrow_transform(schema.find_type(field.source_id)),
            )
            for field in table.spec().fields
        ),
        "sort_keys": tuple(
            SortKey(
                source_path(schema, field.source_id),
                descending=field.direction is SortDirection.DESC,
                nulls_first=field.null_order is NullOrder.NULLS_FIRST,
                transform=None
                if isinstance(field.transform, IdentityTransform)
                else field.transform.pyarrow_transform(schema.find_type(field.source_id)),
            )
            for field in table.sort_order().fields
        ),
        "sort_order_id": table.sort_order().order_id if table.sort_order().fields else None,
    }
    return WriteTarget(**{**known, **changes})


def data_file(table: Table, file: WrittenFile) -> DataFile:
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=file.footer,
        stats_columns=compute_statistics_plan(table.schema(), table.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(table.schema()),
    )
    made = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=file.path,
        file_format=FileFormat.PARQUET,
        partition=Record(*file.iceberg_partition),
        file_size_in_bytes=file.byte_count,
        sort_order_id=file.sort_order_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )
    made.spec_id = file.spec_id
    return made


def write_table(
    catalog: SqlCatalog,
    schema: Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    partition_spec: PartitionSpec | None = None,
    sort_order: SortOrder | None = None,
    **changes: Any,
) -> tuple[Table, tuple[WrittenFile, ...]]:
    """Create a table, write all batches as one generation and commit them."""
    more: dict[str, Any] = {"partition_spec": partition_spec, "sort_order": sort_order}
    table = catalog.create_table(
        f"n.t{os.urandom(6).hex()}", schema, **{k: v for k, v in more.items() if v is not None}
    )
    writer = RollingWriter(write_target(table, **changes), SystemClock(), lambda _path: None)
    for batch in batches:
        writer.write(batch)
    files = writer.close()
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for file in files:
            append.append_data_file(data_file(table, file))
    return table, files
