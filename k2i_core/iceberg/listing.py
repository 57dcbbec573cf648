"""What lies in a table's folders, whoever put it there: a walk over the store, folder by folder.

Several folders are listed at once, and no more of the result is in memory than those folders hold.
Locations come back in the spelling of the folder that was asked for.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from pyarrow.fs import FileSelector, FileSystem, FileType
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

from k2i_core.errors import ConfigError
from k2i_core.iceberg.failures import translated

LISTER_COUNT = 8
"""Folders listed at once. Larger asks more of the store than it may give one client."""

DEPTH_MAX = 64
"""Folders below one another; more are a link that leads back, not partitions."""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file of a folder.

    Attributes:
        modified_ms: By the store's clock, milliseconds since 1970 UTC.
    """

    location: str
    byte_count: int
    modified_ms: int

    @property
    def name(self) -> str:
        """The last part of the location."""
        return PurePosixPath(self.location).name


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str
    location: str
    depth: int = 0


def modified_ms(io: FileIO, location: str) -> int:
    """Return when a file was written, by the clock of the store.

    Raises:
        ConfigError: The store does not tell.
        UnavailableError: It did not answer, or the file is not there.

    """
    store, path = _store_of(io, location)
    with translated(f"look at {location}"):
        information = store.get_file_info(path)
        if information.type != FileType.File or information.mtime_ns is None:
            message = f"the store does not tell when {location} was written"
            raise ConfigError(message)
        return information.mtime_ns // 1_000_000


def list_files(io: FileIO, folder: str) -> Iterator[list[ListedFile]]:
    """Yield the files of a folder and of all folders below, one folder's after the other.

    Args:
        io: The table's store.
        folder: A location; one that is not there holds nothing.

    Raises:
        ConfigError: The store is not one of Arrow's, or folders lie endlessly in one another.
        UnavailableError: It did not answer.

    """
    location = folder.rstrip("/")
    store, path = _store_of(io, location)
    waiting = deque([_Folder(path, location)])
    with ThreadPoolExecutor(LISTER_COUNT) as pool:
        while waiting:
            step = [waiting.popleft() for _ in range(min(LISTER_COUNT, len(waiting)))]
            with translated(f"list {location}"):
                listed = list(pool.map(partial(_list, store), step))
            for files, folders in listed:
                waiting.extend(folders)
                if files:
                    yield files


def _store_of(io: FileIO, location: str) -> tuple[FileSystem, str]:
    if not isinstance(io, PyArrowFileIO):
        message = (
            f"{type(io).__name__} cannot list files; leave py-io-impl of the catalog unset, which "
            f"gives Arrow's file systems"
        )
        raise ConfigError(message)
    with translated(f"open the store of {location}"):
        scheme, host, path = PyArrowFileIO.parse_location(location, io.properties)
        return io.fs_by_scheme(scheme, host), path


def _list(store: FileSystem, folder: _Folder) -> tuple[list[ListedFile], list[_Folder]]:
    if folder.depth > DEPTH_MAX:
        message = f"folders lie more than {DEPTH_MAX} deep in one another: {folder.location}"
        raise ConfigError(message)
    files: list[ListedFile] = []
    folders: list[_Folder] = []
    for found in store.get_file_info(FileSelector(folder.path, allow_not_found=True)):
        location = f"{folder.location}/{found.base_name}"
        if found.type == FileType.Directory:
            folders.append(_Folder(found.path, location, folder.depth + 1))
        elif found.type == FileType.File and found.mtime_ns is not None:
            files.append(ListedFile(location, found.size or 0, found.mtime_ns // 1_000_000))
    return files, folders
