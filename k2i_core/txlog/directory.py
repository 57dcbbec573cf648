"""Transaction logs as files: one per worker process in the pipeline's state directory.

A log is appended to by its worker alone, from several threads. Entries reach the operating system
at once, so that they survive the process; attempts also reach the disk before the request leaves.
Once everything in it has landed, a long log starts anew, so that it never outgrows one flush.
"""

import contextlib
import fcntl
import os
import threading
from pathlib import Path

from k2i_core.errors import ErrorKind, UnavailableError
from k2i_core.ledger import Owner
from k2i_core.records import EarlierLog
from k2i_core.txlog import entries

ROTATE_BYTES = 1_048_576
"""Larger keeps more landed history that nobody reads; smaller rewrites the file more often."""

SUFFIX = ".txlog"


class TransactionLogFile:
    """This worker's own log, and the view of all others in the same directory."""

    def __init__(self, directory: Path, token: str) -> None:
        """Open a new log.

        Args:
            directory: One per pipeline and host; made if missing.
            token: Names the log; no other process uses it.

        Raises:
            UnavailableError: The directory cannot be written.

        """
        self._directory = directory
        self._path = directory / f"{token}{SUFFIX}"
        self._lock = threading.Lock()
        self._unlanded: set[tuple[str, int]] = set()
        self._owner: Owner | None = None
        self._byte_count = 0
        with self._storage_errors():
            directory.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("xb", buffering=0)
            # Tells other processes on this host that the log's worker still runs.
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def earlier(self) -> tuple[EarlierLog, ...]:
        """Read every other log in the directory, as it is now."""
        with self._storage_errors():
            others = [p for p in sorted(self._directory.glob(f"*{SUFFIX}")) if p != self._path]
            logs: list[EarlierLog] = []
            for path in others:
                # Another worker may settle and prune it between the listing and the reading.
                with contextlib.suppress(FileNotFoundError):
                    logs.append(entries.summarize(path.name, entries.decode(path.read_bytes())))
            return tuple(logs)

    def took_over(self, owner: Owner) -> None:
        """Record the epoch under which all later files are written."""
        with self._lock:
            self._owner = owner
            self._append(entries.took_over(owner), durable=True)

    def file(self, table: str, generation: int, path: str) -> None:
        """Record that a file is about to be created."""
        with self._lock:
            self._unlanded.add((table, generation))
            self._append(entries.file(table, generation, path))

    def attempted(self, table: str, snapshot_id: int) -> None:
        """Record, durably, that a commit request is about to be sent."""
        with self._lock:
            self._append(entries.attempted(table, snapshot_id), durable=True)

    def landed(self, table: str, generation: int) -> None:
        """Record that a generation's files are in the table; a long log then starts anew."""
        with self._lock:
            self._append(entries.landed(table, generation))
            self._unlanded.discard((table, generation))
            if self._byte_count > ROTATE_BYTES and not self._unlanded:
                self._rotate()

    def prune(self, name: str) -> None:
        """Remove an earlier log, unless its worker still runs on this host."""
        with self._storage_errors(), contextlib.suppress(FileNotFoundError, BlockingIOError):
            path = self._directory / name
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    def close(self) -> None:
        """Close the log, and remove it when everything in it has landed."""
        with self._lock, self._storage_errors():
            self._file.close()
            if not self._unlanded:
                self._path.unlink(missing_ok=True)

    def _rotate(self) -> None:
        # Safe because nothing in it is needed any more: truncation can only lose landed entries.
        assert self._owner is not None
        with self._storage_errors():
            self._file.truncate(0)
            self._file.seek(0)
        self._byte_count = 0
        self._append(entries.took_over(self._owner), durable=True)

    def _append(self, entry: entries.Entry, *, durable: bool = False) -> None:
        line = entries.encode(entry)
        with self._storage_errors():
            written = self._file.write(line)
            if written != len(line):
                message = f"transaction log at {self._path} took only part of an entry"
                raise UnavailableError(message, kind=ErrorKind.STORAGE_UNAVAILABLE)
            if durable:
                os.fsync(self._file.fileno())
        self._byte_count += len(line)

    @contextlib.contextmanager
    def _storage_errors(self):  # noqa: ANN202 - the decorator's own type says it
        try:
            yield
        except OSError as error:
            message = (
                f"transaction log at {self._path} failed: {error.strerror}; check the disk and "
                f"the permissions of state_directory"
            )
            raise UnavailableError(message, kind=ErrorKind.STORAGE_UNAVAILABLE) from error
