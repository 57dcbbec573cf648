"""From a loaded table to what the Parquet writer needs to know of it.

File names begin with the table's UUID, so that two tables whose locations overlap never name one
file, and orphan removal knows its own. The caller's stem tells whose file it is; a number is added.
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import cast
from uuid import UUID

from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import NullOrder, SortDirection
from pyiceberg.transforms import IdentityTransform, Transform
from pyiceberg.typedef import Record
from pyiceberg.types import NestedField, StructType, UUIDType

from k2i_core.errors import ConfigError
from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.types import arrow_schema
from k2i_core.write_target import (
    Codec,
    ColumnTransform,
    IcebergPartition,
    OutputStream,
    PartitionField,
    SortKey,
    WriteLimits,
    WriteTarget,
)

TARGET_FILE_BYTES_DEFAULT = 512 * 1024 * 1024
"""Iceberg's own default for `write.target-file-size-bytes`."""

SEGMENT_BYTES_MAX = 200
"""File systems end at 255 bytes a name, and a value of a string column may be of any length."""

UUID_DIGITS = 8

_CODECS: Mapping[str, Codec] = {
    "zstd": "zstd",
    "snappy": "snappy",
    "gzip": "gzip",
    "lz4": "lz4",
    "lz4_raw": "lz4",
    "brotli": "brotli",
    "none": "none",
    "uncompressed": "none",
}

_LEVELS: Mapping[Codec, int | None] = {"zstd": 1}
"""Levels for tables that name none: 1 is twice as fast as the codec's own 3, for 3 % more bytes."""


def write_target(
    table: Table,
    file_stem: str,
    *,
    limits: WriteLimits | None = None,
) -> WriteTarget:
    """Describe how rows become files of this table, as it was loaded.

    Args:
        table: Its store is used for all files, for as long as the target is.
        file_stem: Unique among all writers of the table and all their generations, such as epoch,
            worker and generation, joined by dashes.
        limits: What the writer may hold; the defaults of `WriteLimits` when None.

    Raises:
        ConfigError: The table has a transform, a codec or a type that cannot be written.

    """
    schema, spec = table.schema(), table.spec()
    codec = _codec(table)
    level = table.properties.get("write.parquet.compression-level")
    sort_keys = _sort_keys(table, schema)
    return WriteTarget(
        schema=arrow_schema(schema),
        schema_id=schema.schema_id,
        spec_id=spec.spec_id,
        target_file_bytes=_target_file_bytes(table),
        new_path=_new_path(table, file_stem),
        open_output=_open_output(table),
        partition_fields=tuple(
            PartitionField(
                field.name,
                path_of(schema, field.source_id),
                _transform(schema, field.source_id, field.transform),
            )
            for field in spec.fields
        ),
        sort_keys=sort_keys,
        sort_order_id=table.metadata.default_sort_order_id if sort_keys else None,
        codec=codec,
        codec_level=_codec_level(codec, level),
        limits=limits or WriteLimits(),
    )


def path_of(schema: Schema, field_id: int) -> tuple[str, ...]:
    """Return the names from a top-level column down to a field inside structs.

    Raises:
        ConfigError: The field is inside a list or map, or not there.

    """
    path = _path_below(schema.as_struct(), field_id)
    if path is None:
        message = f"no column has field id {field_id} outside lists and maps"
        raise ConfigError(message)
    return path


def _path_below(struct: StructType, field_id: int) -> tuple[str, ...] | None:
    for field in struct.fields:
        if field.field_id == field_id:
            return (field.name,)
        if isinstance(field.field_type, StructType):
            below = _path_below(field.field_type, field_id)
            if below is not None:
                return (field.name, *below)
    return None


def _transform(
    schema: Schema, source_id: int, transform: Transform[object, object]
) -> ColumnTransform:
    source: NestedField = schema.find_field(source_id)
    with translated(f"apply {transform} to column {source.name}"):
        # Safe because PyIceberg's transforms take an array, and return one of the same length.
        return cast("ColumnTransform", transform.pyarrow_transform(source.field_type))


def _sort_keys(table: Table, schema: Schema) -> tuple[SortKey, ...]:
    return tuple(
        SortKey(
            source_path=path_of(schema, field.source_id),
            descending=field.direction == SortDirection.DESC,
            nulls_first=field.null_order == NullOrder.NULLS_FIRST,
            transform=(
                None
                if isinstance(field.transform, IdentityTransform)
                else _transform(schema, field.source_id, field.transform)
            ),
        )
        for field in table.sort_order().fields
    )


def _codec(table: Table) -> Codec:
    name = table.properties.get("write.parquet.compression-codec", "zstd").lower()
    if name not in _CODECS:
        message = (
            f"table property write.parquet.compression-codec={name!r} cannot be written; one of "
            f"{', '.join(sorted(_CODECS))}"
        )
        raise ConfigError(message)
    return _CODECS[name]


def _codec_level(codec: Codec, level: str | None) -> int | None:
    if codec not in ("zstd", "gzip", "brotli"):
        return None
    if level is None:
        return _LEVELS.get(codec)
    return _integer("write.parquet.compression-level", level)


def _target_file_bytes(table: Table) -> int:
    name = "write.target-file-size-bytes"
    value = table.properties.get(name)
    if value is None:
        return TARGET_FILE_BYTES_DEFAULT
    byte_count = _integer(name, value)
    if byte_count < 1:
        message = f"table property {name}={value!r} must be positive"
        raise ConfigError(message)
    return byte_count


def _integer(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        message = f"table property {name}={value!r} is not a whole number"
        raise ConfigError(message) from error


def _new_path(table: Table, file_stem: str) -> Callable[[IcebergPartition], str]:
    provider = table.location_provider()
    schema, spec = table.schema(), table.spec()
    in_folders = spec.fields and (
        table.properties.get("write.object-storage.enabled", "false") != "true"
        or table.properties.get("write.object-storage.partitioned-paths", "true") == "true"
    )
    prefix = f"{table.metadata.table_uuid.hex[:UUID_DIGITS]}-{file_stem}"
    numbers = count(1)

    def new_path(iceberg_partition: IcebergPartition) -> str:
        name = f"{prefix}-{next(numbers)}.parquet"
        if in_folders:
            name = f"{_folder(spec, schema, iceberg_partition)}/{name}"
        return provider.new_data_location(name)

    return new_path


def _folder(spec: PartitionSpec, schema: Schema, iceberg_partition: IcebergPartition) -> str:
    """Return the usual `field=value/…`; only for people, because nothing reads values from it."""
    kinds = (field.field_type for field in spec.partition_type(schema).fields)
    values = [
        # A uuid is bytes in a manifest, and would be shown as base64.
        UUID(bytes=value) if isinstance(kind, UUIDType) and isinstance(value, bytes) else value
        for kind, value in zip(kinds, iceberg_partition, strict=True)
    ]
    path = spec.partition_to_path(Record(*values), schema)
    # Safe to cut because the text is percent-encoded, and file names are unique by themselves.
    return "/".join(segment[:SEGMENT_BYTES_MAX] for segment in path.split("/"))


def _open_output(table: Table) -> Callable[[str], OutputStream]:
    store = table.io

    def open_output(path: str) -> OutputStream:
        # Safe because Arrow's streams and `DurableFile` have the protocol's methods.
        return cast("OutputStream", store.new_output(path).create(overwrite=False))

    return open_output
