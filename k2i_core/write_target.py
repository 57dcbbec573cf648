"""What the Parquet writer must know of a table, without knowing the Iceberg library.

The Iceberg adapter makes a `WriteTarget` from a loaded table; the Parquet adapter writes by it.
Values and callables only. A target describes one schema, one partition spec and one sort order:
when any of them changes in the table, a new target is made and a new writer is started.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import pyarrow as pa

Codec: TypeAlias = Literal["zstd", "snappy", "gzip", "lz4", "brotli", "none"]
"""Compression of Parquet pages; `lz4` is Parquet's LZ4_RAW."""

IcebergPartition: TypeAlias = tuple[object, ...]
"""One value per field of a partition spec, in its order, in Iceberg's own representation: date, day
as days since the epoch, hour as hours, month and year likewise; time and timestamp as microseconds;
uuid and fixed as bytes; decimal as Decimal; None for null."""


class ColumnTransform(Protocol):
    """A column of n values → n values, element by element; only the table knows the types."""

    def __call__(self, column: "pa.Array[Any]", /) -> "pa.Array[Any]":
        """Return what each value becomes; null for null."""
        ...


class OutputStream(Protocol):
    """A file being written; an Arrow `NativeFile` and Python's binary files are both one."""

    def write(self, content: bytes, /) -> int | None:
        """Append `content`.

        Raises:
            OSError: The store did not take it.

        """
        ...

    def flush(self) -> None:
        """Hand over what the stream itself holds back."""
        ...

    def tell(self) -> int:
        """Return how many bytes have been written."""
        ...

    def close(self) -> None:
        """Finish the file; on an object store it exists only from here on.

        Raises:
            OSError: The store did not take the file.

        """
        ...

    @property
    def closed(self) -> bool:
        """Tell whether `close` has been called."""
        ...


@dataclass(frozen=True, slots=True)
class PartitionField:
    """One field of a partition spec.

    Attributes:
        name: The field's name in the spec.
        source_path: Names from a top-level column down through structs to the source column.
        transform: Source column (n elements) → n partition values, nulls to nulls. The result may
            be of any Arrow type that holds them (day as date32 or int32).
    """

    name: str
    source_path: tuple[str, ...]
    transform: ColumnTransform


@dataclass(frozen=True, slots=True)
class SortKey:
    """One field of a sort order.

    Attributes:
        source_path: Names from a top-level column down through structs to the source column.
        descending: Largest first.
        nulls_first: Nulls before all values, whatever the direction.
        transform: What the rows are ordered by, computed from the source column; None orders by
            the column itself.
    """

    source_path: tuple[str, ...]
    descending: bool = False
    nulls_first: bool = True
    transform: ColumnTransform | None = None


@dataclass(frozen=True, slots=True)
class WriteLimits:
    """What the writer may hold at once.

    Attributes:
        row_group_rows_max: Larger costs memory in writer and readers; smaller costs compression
            and makes bounds per row group worth less.
        row_group_bytes_max: The same in Arrow bytes, for wide rows.
        buffered_bytes_max: Arrow bytes of all files not yet encoded. Larger costs memory; smaller
            makes more and smaller row groups when rows go to many Iceberg partitions, and smaller
            files when they are sorted, because a sorted file has to be in memory once.
        open_files_max: Larger costs handles, and upload buffers on an object store; smaller makes
            more and smaller files when rows go to many Iceberg partitions.
    """

    row_group_rows_max: int = 131_072
    row_group_bytes_max: int = 32 * 1024 * 1024
    buffered_bytes_max: int = 64 * 1024 * 1024
    open_files_max: int = 64

    def __post_init__(self) -> None:
        """A limit of nothing would wait for ever; the settings are checked where they are read."""
        assert self.row_group_rows_max > 0
        assert self.row_group_bytes_max > 0
        assert self.buffered_bytes_max > 0
        assert self.open_files_max > 0


@dataclass(frozen=True, slots=True)
class WriteTarget:
    """Where rows go and in what shape.

    Attributes:
        schema: The table's columns, `_kafka` last. Every field, nested ones too, carries its
            Iceberg id as `PARQUET:field_id` metadata. Timestamps in µs (UTC or without zone),
            uuid as Arrow's `uuid` extension, decimals as decimal128, and 32-bit offsets: `string`,
            `binary`, `list`, not their large forms, because that is what the decoders make.
        schema_id: The table schema's id.
        spec_id: The partition spec's id.
        target_file_bytes: A file is finished when its true size reaches this.
        new_path: Iceberg partition → location of a file that does not exist yet.
        open_output: Creates the file at a location; an OSError if it exists already.
        partition_fields: The spec's fields in order, void ones included; empty when unpartitioned.
        sort_keys: The sort order's fields in order; empty when unsorted.
        sort_order_id: Set exactly when there are sort keys.
        codec: Compression of every page.
        codec_level: Its level; None for the codec's own default. Only zstd, gzip and brotli have
            levels.
        delta_encodings: Whether delta encodings may be used, which make integers and timestamps
            much smaller. False for readers without them, such as Iceberg's own vectorized Spark
            reader before 1.10.
        limits: Memory and handles.
        is_presorted: Rows come in the order of `sort_keys` already: they are written as they come,
            and the files say that they are sorted.
    """

    schema: pa.Schema
    schema_id: int
    spec_id: int
    target_file_bytes: int
    new_path: Callable[[IcebergPartition], str]
    open_output: Callable[[str], OutputStream]
    partition_fields: tuple[PartitionField, ...] = ()
    sort_keys: tuple[SortKey, ...] = ()
    sort_order_id: int | None = None
    codec: Codec = "zstd"
    codec_level: int | None = 1
    delta_encodings: bool = True
    limits: WriteLimits = WriteLimits()
    is_presorted: bool = False

    @property
    def is_to_sort(self) -> bool:
        """Tell whether rows have to be sorted before they are written."""
        return bool(self.sort_keys) and not self.is_presorted

    def __post_init__(self) -> None:
        """A target that contradicts itself is the adapter's bug."""
        assert self.target_file_bytes > 0
        assert (self.sort_order_id is not None) == bool(self.sort_keys)
        assert self.codec_level is None or self.codec in ("zstd", "gzip", "brotli")
