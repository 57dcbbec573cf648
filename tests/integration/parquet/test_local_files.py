"""The Parquet writer on real files.

Goal: what the writer says of a file is what the file system says, and a real full disk is reported.
Method: local directories, and Linux's device that is always full.
"""

import errno
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2i_core.clock import SystemClock
from k2i_core.errors import ErrorKind, UnavailableError
from k2i_core.parquet.writer import RollingWriter
from k2i_core.write_target import OutputStream, WriteLimits, WriteTarget

SCHEMA = pa.schema([pa.field("n", pa.int64(), metadata={b"PARQUET:field_id": b"1"})])


def numbers(start: int, count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": range(start, start + count)}, schema=SCHEMA)


def create_with_arrow(path: str) -> OutputStream:
    return pa.OSFile(path, "wb")


def create_with_python(path: str) -> OutputStream:
    return Path(path).open("xb")


def target(directory: Path, open_output=create_with_python, **changes) -> WriteTarget:
    names = iter(range(1_000))
    return WriteTarget(
        schema=SCHEMA,
        schema_id=0,
        spec_id=0,
        target_file_bytes=changes.pop("target_file_bytes", 1_000_000),
        new_path=lambda _partition: str(directory / f"{next(names)}.parquet"),
        open_output=open_output,
        **changes,
    )


def no_log(_path: str) -> None:
    return None


@pytest.mark.parametrize("open_output", [create_with_arrow, create_with_python])
def test_sizes_and_rows_are_those_on_disk(tmp_path: Path, open_output) -> None:
    made = target(
        tmp_path,
        open_output,
        target_file_bytes=20_000,
        limits=WriteLimits(row_group_rows_max=2_000),
        codec="none",
        codec_level=None,
        delta_encodings=False,
    )
    writer = RollingWriter(made, SystemClock(), no_log)
    for start in range(0, 50_000, 1_000):
        writer.write(numbers(start, 1_000))

    files = writer.close()

    assert len(files) > 2
    assert [Path(file.path).stat().st_size for file in files] == [file.byte_count for file in files]
    read = [pq.read_table(file.path)["n"].to_pylist() for file in files]
    assert [n for part in read for n in part] == list(range(50_000))
    assert len(list(tmp_path.iterdir())) == len(files)


def test_a_file_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "0.parquet").write_bytes(b"somebody else's")
    writer = RollingWriter(target(tmp_path), SystemClock(), no_log)
    writer.write(numbers(0, 10))

    with pytest.raises(UnavailableError, match="EEXIST"):
        writer.close()
    writer.abandon()

    assert (tmp_path / "0.parquet").read_bytes() == b"somebody else's"


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    writer = RollingWriter(target(tmp_path / "gone"), SystemClock(), no_log)
    writer.write(numbers(0, 10))

    with pytest.raises(UnavailableError, match=r"ENOENT.*create the warehouse's directory"):
        writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a device that is always full")
@pytest.mark.parametrize("open_output", [create_with_arrow, lambda path: open(path, "wb")])  # noqa: PTH123, SIM115 - the writer closes it
def test_a_full_disk_is_reported_and_can_be_left(tmp_path: Path, open_output) -> None:
    made = target(
        tmp_path,
        lambda _path: open_output("/dev/full"),
        limits=WriteLimits(row_group_rows_max=1_000),
        codec="none",
        codec_level=None,
        delta_encodings=False,
    )
    writer = RollingWriter(made, SystemClock(), no_log)

    with pytest.raises(UnavailableError, match="free space") as caught:
        write_until_close(writer)

    assert caught.value.kind is ErrorKind.STORAGE_UNAVAILABLE
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    writer.abandon()


def write_until_close(writer: RollingWriter) -> None:
    for start in range(0, 100_000, 1_000):
        writer.write(numbers(start, 1_000))
    writer.close()
