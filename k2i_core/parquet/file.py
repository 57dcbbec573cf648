"""One Parquet file, from its creation to the facts a commit needs.

A file that is not finished is garbage: it has no footer, and the transaction log knows its path.
"""

import errno
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from k2i_core.clock import Clock
from k2i_core.errors import ErrorKind, IncompatibleSchemaError, UnavailableError
from k2i_core.parquet.encodings import EncodingPlan, compression_options
from k2i_core.parquet.sorting import sorting_columns
from k2i_core.records import WrittenFile
from k2i_core.write_target import IcebergPartition, OutputStream, WriteTarget

REASON_CHARACTERS_MAX = 300
"""Larger floods the log with an object store's answer; smaller cuts off what it says."""

_ADVICE = {
    errno.ENOSPC: "free space in the warehouse",
    errno.EDQUOT: "free space in the warehouse or raise its quota",
    errno.EACCES: "grant write access to the warehouse",
    errno.EPERM: "grant write access to the warehouse",
    errno.EROFS: "mount the warehouse writable",
    errno.EEXIST: "file names have to be new, check what makes them",
    errno.ENOENT: "create the warehouse's directory",
    errno.EMFILE: "raise the limit of open files",
}


class ParquetFile:
    """A file that takes row groups; used by one thread, finished or abandoned exactly once."""

    def __init__(
        self,
        target: WriteTarget,
        iceberg_partition: IcebergPartition,
        path: str,
        plan: EncodingPlan,
        clock: Clock,
    ) -> None:
        """Create the file at `path`.

        Raises:
            UnavailableError: The store did not take it.

        """
        self._target = target
        self._iceberg_partition = iceberg_partition
        self._path = path
        self._created_boot_seconds = clock.boot_seconds()
        self._row_count = 0
        with _storage_errors(path, "create"):
            self._stream: OutputStream = target.open_output(path)
            self._writer = _parquet_writer(self._stream, target, plan)

    @property
    def byte_count(self) -> int:
        """Bytes written so far, without the footer."""
        with _storage_errors(self._path, "write"):
            return self._stream.tell()

    def write_row_group(self, rows: pa.Table) -> None:
        """Encode `rows` (n rows × the target's schema) as one row group.

        Raises:
            UnavailableError: The store did not take it; abandon the file.
            IncompatibleSchemaError: A required nested field is null; abandon the file.

        """
        try:
            with _storage_errors(self._path, "write"):
                self._writer.write_table(rows, row_group_size=rows.num_rows)
        except pa.ArrowInvalid as error:
            message = f"rows do not fit the table: path={self._path}, a required field is null"
            raise IncompatibleSchemaError(message) from error
        self._row_count += rows.num_rows

    def finish(self) -> WrittenFile:
        """Write the footer and close the file.

        Raises:
            UnavailableError: The store did not take it; the file is garbage.

        """
        try:
            with _storage_errors(self._path, "finish"):
                self._writer.close()
                byte_count = self._stream.tell()
                self._stream.close()
        except UnavailableError:
            self.abandon()
            raise
        footer = self._writer.writer.metadata
        assert footer.num_rows == self._row_count
        return WrittenFile(
            path=self._path,
            row_count=self._row_count,
            byte_count=byte_count,
            iceberg_partition=self._iceberg_partition,
            spec_id=self._target.spec_id,
            schema_id=self._target.schema_id,
            sort_order_id=self._target.sort_order_id,
            footer=footer,
            created_boot_seconds=self._created_boot_seconds,
        )

    def abandon(self) -> None:
        """Close the handle without a footer; never raises."""
        # Before the stream is closed, because a writer that believes itself open writes a footer
        # when it is collected, and complains where nobody can catch it.
        self._writer.is_open = False
        # Safe because the file is garbage whether the store takes the close or not.
        with suppress(OSError):
            self._stream.close()


def _parquet_writer(
    stream: OutputStream, target: WriteTarget, plan: EncodingPlan
) -> pq.ParquetWriter:
    # Safe because Arrow wraps any object with these five methods.
    sink = cast("IO[bytes]", stream)
    try:
        return pq.ParquetWriter(sink, target.schema, **_options(target, plan))
    except BaseException:
        stream.close()
        raise


def _options(target: WriteTarget, plan: EncodingPlan) -> Mapping[str, Any]:
    return {
        "version": "2.6",
        "data_page_version": "1.0",
        "store_decimal_as_integer": True,
        # Other writers do without a copy of Arrow's schema; field ids and logical types say it all.
        "store_schema": False,
        "write_statistics": True,
        "write_page_index": True,
        "write_page_checksum": True,
        "sorting_columns": sorting_columns(target) or None,
        **compression_options(target),
        **plan.writer_options(),
    }


@contextmanager
def _storage_errors(path: str, action: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "check that the store is reachable")
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        reason = str(error).partition("\n")[0][:REASON_CHARACTERS_MAX]
        message = f"could not {action} path={path} error={name} reason={reason}: {advice}"
        raise UnavailableError(message, kind=ErrorKind.STORAGE_UNAVAILABLE) from error
