"""A PyIceberg store whose local files are on the disk, not only in its cache, once they are closed.

A catalog must never point at a file that a power failure can take away. Object stores promise that
by themselves; for local warehouses every file that a commit names (data, manifests, manifest list,
metadata) is synced when it is closed, before the catalog is asked. Measured on ext4: 0.3 to 0.5 ms
for a metadata file, a tenth of the write itself for 20 MB of rows.

PyIceberg finds the class by its dotted name in the property `py-io-impl`.
"""

import io
import os
from pathlib import Path
from typing import cast

from pyiceberg.io import OutputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

DURABLE_FILE_IO = f"{__name__}.DurableFileIO"

BUFFER_BYTES = 1024 * 1024
"""Larger costs memory per open file; smaller costs a system call per Parquet page."""


class DurableFile(io.BufferedWriter):
    """A new local file; its content and its name survive a power failure after `close`."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        """Create the file and the folders above it.

        Raises:
            FileExistsError: There is one already, and `overwrite` is off.

        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = path.parent
        super().__init__(io.FileIO(path, "w" if overwrite else "x"), BUFFER_BYTES)

    def close(self) -> None:
        """Write out, sync the file, then its folder, because the name lives there."""
        if self.closed:
            return
        try:
            self.flush()
            os.fsync(self.fileno())
        finally:
            super().close()
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class DurableOutput(PyArrowFile):
    """A location on a local disk that is written durably."""

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: FBT001, FBT002 - PyIceberg's
        """Create the file."""
        # Safe because it has every method of the protocol; only names of parameters differ.
        return cast("OutputStream", DurableFile(Path(self._path), overwrite=overwrite))


class DurableFileIO(PyArrowFileIO):
    """Arrow's file systems, with durable files where they are local."""

    def new_output(self, location: str) -> PyArrowFile:
        """Return a location to write; nothing is created yet."""
        scheme, netloc, path = self.parse_location(location, self.properties)
        if scheme != "file":
            return super().new_output(location)
        return DurableOutput(location, path, self.fs_by_scheme(scheme, netloc))
