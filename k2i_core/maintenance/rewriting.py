"""Rows of some data files to new ones: read by field id, in an order, within a memory budget."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform

from k2i_core.clock import Clock
from k2i_core.errors import ConfigError, ErrorKind, IncompatibleSchemaError
from k2i_core.iceberg.column_names import current_names, table_columns
from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.live_files import LiveFile
from k2i_core.iceberg.write_targets import path_of, write_target
from k2i_core.maintenance.compaction_plan import FileGroup
from k2i_core.maintenance.orders import RowOrder, TableOrder, ZOrder
from k2i_core.maintenance.sorting import sort_all
from k2i_core.parquet.by_field_id import ByFieldId
from k2i_core.parquet.conform import Conformer
from k2i_core.parquet.encodings import EncodingMemory
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import WrittenFile
from k2i_core.write_target import WriteLimits, WriteTarget

BATCH_ROWS = 65_536
"""Larger holds more decoded rows at once; smaller pays more calls a row."""

PREFETCH_BYTES_MAX = 64 * 1024 * 1024
"""Row groups up to this size are fetched whole, which is faster; larger ones page by page."""

STREAM_BUFFER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RewriteSettings:
    """How files are rewritten.

    Attributes:
        memory_bytes: Of one group at a time; the new files' buffers and, for an order, the rows.
        order: None leaves rows as they come.
    """

    target_file_bytes: int
    memory_bytes: int
    order: RowOrder | None = None


class Rewriter:
    """Rewrites groups of files of one loaded table; each call may come from another thread."""

    def __init__(
        self, table: Table, settings: RewriteSettings, clock: Clock, stem: Callable[[], str]
    ) -> None:
        """Bind it to a load of the table.

        Args:
            table: Its current schema, spec and order are what new files have.
            settings: See there.
            clock: Tells when files are created.
            stem: A file name's beginning that nobody had before; asked for each group.

        Raises:
            ConfigError: The table cannot be written.

        """
        self._table = table
        self._settings = settings
        self._clock = clock
        self._stem = stem
        self._encodings = EncodingMemory()

    def rewrite(
        self, group: FileGroup, on_rows: Callable[[int], None] = lambda _: None
    ) -> tuple[WrittenFile, ...]:
        """Write the rows of a group's files to new files.

        Args:
            group: The files.
            on_rows: Told how many more rows were handed to the writer.

        Raises:
            IncompatibleSchemaError: A file cannot be read as the table's columns for sure.
            UnavailableError: The store failed; what was written is garbage.
            CorruptionError: A file is not what its manifest says.

        """
        target = self._target()
        writer = RollingWriter(target, self._clock, lambda _path: None, self._encodings)
        try:
            with translated(f"rewrite files of table {'.'.join(self._table.name())}"):
                for rows in self._rows(group, target):
                    writer.write(rows)
                    on_rows(rows.num_rows)
            return writer.close()
        except BaseException:
            writer.abandon()
            raise

    def _target(self) -> WriteTarget:
        settings, order = self._settings, self._settings.order
        limits = WriteLimits(buffered_bytes_max=min(64 * 1024**2, settings.memory_bytes // 4))
        target = write_target(self._table, self._stem(), limits=limits)
        is_by_table = isinstance(order, TableOrder)
        return replace(
            target,
            target_file_bytes=settings.target_file_bytes,
            sort_keys=target.sort_keys if is_by_table else (),
            sort_order_id=target.sort_order_id if is_by_table else None,
            # Rows of several Iceberg partitions stay sorted within each.
            is_presorted=is_by_table,
        )

    def _rows(self, group: FileGroup, target: WriteTarget) -> Iterator[pa.RecordBatch]:
        rows = self._read(group.files, target.schema)
        order = self._settings.order
        if order is None:
            return rows
        names = order.source_columns
        keys = pa.schema([f for f in target.schema if f.name in names])
        return sort_all(
            rows,
            lambda: self._read(group.files, keys),
            order,
            group.row_count,
            self._settings.memory_bytes // 2,
        )

    def _read(self, files: Sequence[LiveFile], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield rows of all files × exactly `schema`, absent columns as nulls."""
        # Conformed before they are sorted, because keys are made of the table's types.
        conformer = Conformer(schema)
        for file in files:
            for rows in read_file(self._table, file, schema):
                yield conformer.conform(rows)


def read_file(table: Table, file: LiveFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one data file under the names of `schema`, matched by field id.

    Args:
        table: The file's.
        file: Which one.
        schema: Columns of the table with field ids; those that the file lacks are left out.

    Raises:
        IncompatibleSchemaError: The file has no field ids, or leaves out a column whose values
            only its Iceberg partition tells.

    """
    with _opened(table.io, file.path) as stream, pq.ParquetFile(stream) as footer_first:
        metadata = footer_first.metadata
        widest = max(
            (metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups)),
            default=0,
        )
        projection = ByFieldId(footer_first.schema_arrow, schema)
        _check_partition_columns(table, file, projection.absent_ids)
        is_small = widest <= PREFETCH_BYTES_MAX
        with pq.ParquetFile(
            stream,
            metadata=metadata,
            pre_buffer=is_small,
            buffer_size=0 if is_small else STREAM_BUFFER_BYTES,
        ) as parquet:
            columns = projection.column_names
            for rows in parquet.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                yield projection.apply(rows)


def _opened(io: FileIO, path: str) -> IO[bytes]:
    # Safe because every FileIO of PyIceberg opens a binary file object.
    return cast("IO[bytes]", io.new_input(path).open())


def _check_partition_columns(table: Table, file: LiveFile, absent_ids: set[int | None]) -> None:
    """Refuse files of engines that keep a column in the Iceberg partition alone."""
    for field in table.specs()[file.spec_id].fields:
        if field.source_id in absent_ids and isinstance(field.transform, IdentityTransform):
            message = f"a data file lacks column {field.name}, which its Iceberg partition tells"
            raise IncompatibleSchemaError(message, kind=ErrorKind.NOT_SUPPORTED_YET)


def z_order(table: Table, columns: Sequence[str]) -> ZOrder:
    """Return the z-curve over columns of the table, which may be named as before a rename.

    Raises:
        ConfigError: A column is not there, or is inside a list or map, or is no single value.

    """
    schema = table.schema()
    with translated(f"find the columns of z_order_by={list(columns)}"):
        names = current_names(table_columns(table), columns)
        fields = [schema.find_field(name) for name in names]
    nested = [f.name for f in fields if not f.field_type.is_primitive]
    if nested or not fields:
        message = f"z_order_by needs columns of single values; not {nested or 'none at all'}"
        raise ConfigError(message)
    return ZOrder(tuple(path_of(schema, field.field_id) for field in fields))
