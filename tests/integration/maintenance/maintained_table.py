"""A real table that a worker feeds and maintenance works on, at a time that the test decides.

The worker is the real committer with real files; a replacement rewrites live files to one, as
compaction does. The clock of a committer can be set ahead, so that snapshots are old at once.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from pyiceberg.table import Table

from k2i_core.clock import RandomIds, SystemClock
from k2i_core.crash_points import Observer, ignore
from k2i_core.iceberg.commit import CommitLimits, TableCommitter
from k2i_core.iceberg.decisions import decide_carry
from k2i_core.iceberg.gateway import Replacement
from k2i_core.iceberg.retention import RetentionLimits
from k2i_core.ledger import Epoch, Identity, Owner, Share
from k2i_core.maintenance.expiration import ExpirationLimits, expire_table
from k2i_core.maintenance.orphans import sweep_table
from k2i_core.maintenance.report import MaintenanceReport
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import CountedRange, RangeCounts
from tests.contract.gateway_backends import IcebergBackend

PARTITION = TopicPartition("orders", 0)
IDENTITY = Identity("orders", "cluster", {"orders": "topic-id"})
DAY = 86_400.0
AT_ONCE = ExpirationLimits(
    age_seconds_max=0.0, count_min=1, count_max=1_000, reader_grace_seconds=0.0
)


class ShiftedClock(SystemClock):
    """The machine's clock, so many seconds ahead."""

    def __init__(self, ahead: float = 0.0) -> None:
        super().__init__()
        self.ahead = ahead

    def now_ms(self) -> int:
        return super().now_ms() + int(self.ahead * 1000)


class MaintainedTable:
    """One table of a backend; everybody connects on their own, as processes do."""

    def __init__(
        self, backend: IcebergBackend, *, retention: RetentionLimits | None = None
    ) -> None:
        self.backend = backend
        self.retention = retention
        self.worker = self.committer()
        self.owner: Owner = self.worker.claim(Share(0, 1), IDENTITY, {PARTITION: 0}, Epoch(0))[0]
        self.next_offset = 0

    def committer(self, *, ahead: float = 0.0, observe: Observer = ignore) -> TableCommitter:
        limits = CommitLimits(
            attempt_count_max=50,
            seconds_max=60.0,
            file_age_seconds_max=1e12,
            retention=self.retention,
        )
        return TableCommitter(
            self.backend.connect(),
            ShiftedClock(ahead),
            RandomIds(),
            limits,
            log_attempt=lambda *_: None,
            observe=observe,
        )

    @property
    def table(self) -> Table:
        return self.backend.catalog.load_table(self.backend.identifier)

    def append(self, row_count: int = 2, count: int = 1) -> str:
        """Commit generations of one file each; returns the last file's path."""
        path = ""
        for _ in range(count):
            file = self.backend.write_file(row_count)
            path = file.path
            offsets = OffsetRange(PARTITION, self.next_offset, self.next_offset + row_count)
            counted = CountedRange(offsets, RangeCounts(row_count=row_count))
            self.worker.append(self.owner, (counted,), (file,))
            self.next_offset += row_count
        return path

    def replace(self, *paths: str, row_count: int) -> str:
        """Put one file in the place of others, as compaction does."""
        file = self.backend.write_file(row_count)
        replacement = Replacement(frozenset(paths), (file,))
        self.committer().maintain(
            "compaction", lambda _view, stored: decide_carry(stored, replacements=(replacement,))
        )
        return file.path

    def expire(
        self,
        limits: ExpirationLimits = AT_ONCE,
        *,
        ahead: float = 0.0,
        is_dry_run: bool = False,
        observe: Observer = ignore,
    ) -> MaintenanceReport:
        return expire_table(
            self.committer(observe=observe),
            limits,
            ShiftedClock(ahead),
            is_dry_run=is_dry_run,
            observe=observe,
        )

    def sweep(
        self, *, days: float = 3.0, is_dry_run: bool = False, observe: Observer = ignore
    ) -> MaintenanceReport:
        return sweep_table(
            self.committer(observe=observe),
            self.backend.open,
            SystemClock(),
            age_seconds_min=days * DAY,
            is_dry_run=is_dry_run,
            observe=observe,
        )

    def live_paths(self) -> set[str]:
        return {str(path.as_py()) for path in self.table.inspect.files()["file_path"]}

    def live_rows(self) -> dict[str, int]:
        files = self.table.inspect.files().select(["file_path", "record_count"]).to_pylist()
        return {file["file_path"]: file["record_count"] for file in files}

    def folder(self) -> Path:
        return Path(self.table.location().removeprefix("file://"))

    def files(self) -> Mapping[str, int]:
        """All files below the location → bytes; only where it is local."""
        found = (path for path in self.folder().rglob("*") if path.is_file())
        return {str(path): path.stat().st_size for path in found}

    def unreachable_files(self) -> set[str]:
        """Files below the location that no retained snapshot and no metadata names."""
        table = self.table
        needed = {table.metadata_location, *(e.metadata_file for e in table.metadata.metadata_log)}
        for snapshot in table.metadata.snapshots:
            needed.add(snapshot.manifest_list)
            for manifest in snapshot.manifests(table.io):
                needed.add(manifest.manifest_path)
                needed.update(
                    e.data_file.file_path for e in manifest.fetch_manifest_entry(table.io)
                )
        return set(self.files()) - {path.removeprefix("file://") for path in needed}

    def is_whole(self) -> bool:
        """Tell whether every retained snapshot can be read, and the head has all rows."""
        table = self.table
        for snapshot in table.metadata.snapshots:
            table.scan(snapshot_id=snapshot.snapshot_id).to_arrow()
        return self.backend.row_count() == self.next_offset


def age(path: str | Path, days: float = 10.0) -> None:
    """Make a local file look as if it was written long ago."""
    local = Path(str(path).removeprefix("file://"))
    then = local.stat().st_mtime - days * DAY
    os.utime(local, (then, then))
