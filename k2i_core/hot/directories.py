"""Directories of hot rows: private, marked as alive by a lock, removed once nobody holds it.

A lock file exists before its directory and goes after it. So a directory whose lock is free, or
gone, belongs to nobody who lives, and a directory whose lock is held is never touched.
"""

import fcntl
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

LOCK_ATTEMPTS_MAX = 5
"""How often a directory is made anew when another session's end removed it. More is never needed:
an end happens once."""

_PRIVATE = 0o700
_LOCK_SUFFIX = ".lock"
_ZEROS = 1024 * 1024
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return what names this run of the host; empty where nothing does."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def is_private(directory: Path) -> bool:
    """Tell whether a directory is ours alone: nobody else may have put a page there."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    mode = stat.S_IMODE(found.st_mode)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not mode & 0o077


def make_private(directory: Path) -> None:
    """Make a directory, and its missing parents, for this user alone.

    Raises:
        OSError: It cannot be made, or is somebody else's.

    """
    missing = [directory]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for path in reversed(missing):
        path.mkdir(mode=_PRIVATE, exist_ok=True)
    if not is_private(directory):
        message = "belongs to somebody else, or others may enter it"
        raise PermissionError(1, message, str(directory))


def reserve(descriptor: int, size: int) -> None:
    """Give a new file its size with real space behind it.

    A file with holes will not do: a store to a mapping that the file system cannot back ends the
    process, and a write that finds no room comes too late for another directory.

    Raises:
        OSError: The file system is full.

    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    # macOS has no such call: what was written has space.
    zeros = bytes(_ZEROS)
    for start in range(0, size, _ZEROS):
        os.pwrite(descriptor, zeros[: size - start], start)


class OwnDirectory:
    """The directory of a living session, with its lock."""

    def __init__(self, root: Path, table_uuid: str, token: str) -> None:
        """Make it.

        Raises:
            OSError: The root cannot be written, or is not private.

        """
        make_private(root)
        parent = root / table_uuid
        self.path = parent / token
        self._lock_path = parent / f"{token}{_LOCK_SUFFIX}"
        self._lock = _first_lock(self._lock_path)
        try:
            self.path.mkdir(mode=_PRIVATE)
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Leave it to readers, and to the successor, who removes it."""
        self._lock.close()

    def remove(self) -> None:
        """Remove it with everything in it; safe to repeat."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock_path.unlink(missing_ok=True)
        self._lock.close()
        with suppress(OSError):  # safe because a directory with other sessions has to stay
            self.path.parent.rmdir()


def _first_lock(path: Path) -> BinaryIO:
    """Lock a new file, in a directory that the last session before may be removing."""
    for _ in range(LOCK_ATTEMPTS_MAX - 1):
        make_private(path.parent)
        with suppress(FileNotFoundError):
            return _new_lock(path)
    make_private(path.parent)
    return _new_lock(path)


def _new_lock(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    file = os.fdopen(descriptor, "r+b")
    # Free, because the name is nobody else's; a remover in between takes it away with the file.
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not path.exists():
        file.close()
        message = "was taken for a leftover"
        raise FileNotFoundError(2, message, str(path))
    return file


def session_directories(root: Path, table_uuid: str) -> list[Path]:
    """Return the directories of all sessions of a table, living and dead; none that others made."""
    parent = root / table_uuid
    return listed(parent) if is_private(root) and is_private(parent) else []


def listed(parent: Path) -> list[Path]:
    """Return the directories of all sessions below a directory that was found private."""
    try:
        with os.scandir(parent) as found:
            names = [entry.name for entry in found if not entry.name.endswith(_LOCK_SUFFIX)]
    except OSError:
        return []  # Safe because a directory that went away meanwhile holds no page.
    return [parent / name for name in sorted(names)]


def remove_if_dead(directory: Path) -> bool:
    """Remove a session's directory if nobody holds its lock; tells whether it did.

    Raises:
        OSError: The file system refused.

    """
    lock_path = directory.with_name(directory.name + _LOCK_SUFFIX)
    try:
        lock = lock_path.open("r+b")
    except FileNotFoundError:
        shutil.rmtree(directory, ignore_errors=True)
        return True
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(directory, ignore_errors=True)
        lock_path.unlink(missing_ok=True)
        return True
