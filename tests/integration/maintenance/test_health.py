"""The figures of a table's health are those of the table.

Goal: every figure can be counted by hand on a small real table, and follows what maintenance does.
Method: a table in a SQLite catalog with local files.
"""

from pathlib import Path

import pytest

from k2i_core.clock import SystemClock
from k2i_core.config.maintenance import Maintenance
from k2i_core.maintenance.health import TableHealth, measure, needs
from tests.contract.gateway_backends import IcebergBackend, sqlite_backend
from tests.integration.maintenance.maintained_table import MaintainedTable

MIB = 1024 * 1024


def health(lake: MaintainedTable, target_file_bytes: int = MIB) -> TableHealth:
    now_ms = SystemClock().now_ms() + 3_600_000
    return measure(lake.table, target_file_bytes=target_file_bytes, now_ms=now_ms)


@pytest.fixture
def lake(tmp_path: Path) -> MaintainedTable:
    return MaintainedTable(sqlite_backend(tmp_path))


def test_figures_are_those_of_the_files(lake: MaintainedTable) -> None:
    lake.append(3, count=7)
    sizes = [size for path, size in lake.files().items() if path.endswith(".parquet")]

    found = health(lake)

    assert (found.data_file_count, found.small_file_count) == (7, 7)
    assert (found.total_bytes, found.average_file_bytes) == (sum(sizes), sum(sizes) // 7)
    assert (found.row_count, found.snapshot_count, found.manifest_count) == (21, 8, 7)
    assert (found.partition_count, found.files_per_partition_max) == (1, 7)
    assert found.small_files_per_partition_max == 7
    assert 3_590 < found.oldest_snapshot_seconds < 3_700
    metadata = Path(lake.table.metadata_location.removeprefix("file://")).stat().st_size
    assert found.metadata_file_bytes == metadata < found.metadata_bytes
    assert found.projected_scan_seconds > 7 * 0.005
    assert [need.step for need in needs(found, Maintenance())] == ["compaction"]


def test_what_is_large_enough_is_not_small(lake: MaintainedTable) -> None:
    lake.append(3, count=2)
    size = health(lake).average_file_bytes

    assert health(lake, target_file_bytes=size).small_file_share == 0.0
    assert health(lake, target_file_bytes=2 * size).small_file_share == 1.0


def test_files_of_an_older_partition_spec_are_counted(lake: MaintainedTable) -> None:
    lake.append(3, count=2)
    lake.backend.change_spec()

    found = health(lake)

    assert found.old_spec_file_count == 2
    assert [need.step for need in needs(found, Maintenance())] == ["compaction"]


def test_health_follows_maintenance(lake: MaintainedTable) -> None:
    lake.append(3, count=6)
    before = health(lake)
    lake.replace(*lake.live_paths(), row_count=18)
    lake.append(1)
    lake.expire(ahead=3_600.0)

    after = health(lake)

    assert (after.data_file_count, after.row_count, after.snapshot_count) == (2, 19, 2)
    assert after.metadata_file_bytes < before.metadata_file_bytes
    assert after.projected_scan_seconds < before.projected_scan_seconds


def test_an_empty_table_is_healthy(tmp_path: Path) -> None:
    backend: IcebergBackend = sqlite_backend(tmp_path)
    table = backend.catalog.load_table(backend.identifier)

    found = measure(table, target_file_bytes=MIB, now_ms=0)

    assert (found.snapshot_id, found.data_file_count) == (None, 0)
    assert needs(found, Maintenance()) == ()
