"""Manifests become few, and each tells of few Iceberg partitions.

Goal: a query by partition opens few manifests after the rewrite, and nothing else changes: files,
rows, checkpoint, the age of every file. Method: real tables whose manifests are full after four
files, so that a few dozen commits make a large table of them.
"""

from pathlib import Path
from typing import Any

import pytest
from pyiceberg.manifest import ManifestEntry

from k2i_core.crash_points import MANIFEST_POINTS, CrashPoint
from k2i_core.iceberg import clustering, manifests
from k2i_core.iceberg.manifests import NewSnapshot
from k2i_core.iceberg.tables import TableSettings, Transformed
from k2i_core.maintenance.compaction import compact_table
from k2i_core.maintenance.manifests import rewrite_table_manifests
from tests.integration.maintenance.fed_table import FedTable, options, sqlite_properties
from tests.integration.maintenance.test_compaction import TIMED, by_offset, timed
from tests.integration.maintenance.test_compaction_races import kill
from tests.integration.parquet.readers import read_with_duckdb


@pytest.fixture
def fed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FedTable:
    for module in (manifests, clustering):
        monkeypatch.setattr(module, "FULL_FILE_COUNT", 8)
        monkeypatch.setattr(module, "MERGE_COUNT", 4)
    monkeypatch.setattr(manifests, "MERGED_FILE_COUNT_MAX", 16)
    settings = TableSettings(partition_by=(Transformed("day", "at"),))
    return FedTable(sqlite_properties(tmp_path), rows=TIMED, settings=settings)


def feed(fed: FedTable, commit_count: int) -> None:
    for _ in range(commit_count):
        fed.commit(timed(fed.next_offset, 40, days=8))


def entries_of(fed: FedTable) -> list[tuple[str, int | None, int | None, int | None]]:
    table = fed.table
    head = table.current_snapshot()
    assert head is not None
    entries: list[ManifestEntry] = [
        entry for m in head.manifests(table.io) for entry in m.fetch_manifest_entry(table.io)
    ]
    return sorted(
        (e.data_file.file_path, e.snapshot_id, e.sequence_number, e.file_sequence_number)
        for e in entries
    )


def opened_for_one_day(fed: FedTable, day: int) -> int:
    """Return how many manifests may hold files of a day."""
    table = fed.table
    head = table.current_snapshot()
    assert head is not None
    opened = 0
    for manifest in head.manifests(table.io):
        (summary,) = manifest.partitions or ()
        low, high = (
            int.from_bytes(bound, "little", signed=True) if bound else 0
            for bound in (summary.lower_bound, summary.upper_bound)
        )
        opened += low <= day <= high
    return opened


def test_files_of_one_partition_are_told_by_few_manifests(fed: FedTable) -> None:
    feed(fed, 24)
    before, rows, entry = entries_of(fed), by_offset(read_with_duckdb(fed.table)), fed.entry
    opened = opened_for_one_day(fed, 5)

    report = rewrite_table_manifests(fed.maintained())

    assert opened_for_one_day(fed, 5) < opened / 3
    assert entries_of(fed) == before
    assert by_offset(read_with_duckdb(fed.table)) == rows
    assert fed.entry.checkpoint == entry.checkpoint
    assert report.figures["overlap_after"] < report.figures["overlap_before"]
    head = fed.table.current_snapshot()
    assert head is not None
    assert head.summary is not None
    assert head.summary.operation.value == "replace"
    assert head.summary["total-records"] == str(fed.next_offset)


def test_what_is_good_is_left_alone_with_the_reason(fed: FedTable) -> None:
    feed(fed, 24)
    rewrite_table_manifests(fed.maintained())
    location = fed.table.metadata_location

    report = rewrite_table_manifests(fed.maintained())

    assert fed.table.metadata_location == location
    assert "good" in report.did


def test_a_dry_run_writes_nothing(fed: FedTable) -> None:
    feed(fed, 24)
    location = fed.table.metadata_location

    report = rewrite_table_manifests(fed.maintained(), is_dry_run=True)

    assert fed.table.metadata_location == location
    assert report.figures["manifests_taken"] > 1


def test_a_large_table_is_clustered_in_several_runs(
    fed: FedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clustering, "ENTRIES_MAX", 40)
    feed(fed, 24)
    before = entries_of(fed)

    report = rewrite_table_manifests(fed.maintained())

    assert "left for the next run" in report.notes[0]
    for _ in range(5):
        rewrite_table_manifests(fed.maintained())
    assert entries_of(fed) == before


def test_an_append_in_between_costs_no_second_rewrite(
    fed: FedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(fed, 24)
    written: list[int] = []
    write_list = NewSnapshot.write_list
    monkeypatch.setattr(manifests, "MERGE_COUNT", 1000)
    table = fed.maintained()

    def lose_the_first_race(self: NewSnapshot, listed: list[Any]) -> str:
        location = write_list(self, listed)
        written.append(sum((m.existing_files_count or 0) > 0 for m in listed))
        if len(written) == 1:
            fed.commit(timed(fed.next_offset, 4))
        return location

    wrote: list[int] = []
    write = NewSnapshot.write_manifest

    def counting(self: NewSnapshot, spec_id: int, entries: Any) -> Any:
        wrote.append(1)
        return write(self, spec_id, entries)

    monkeypatch.setattr(NewSnapshot, "write_list", lose_the_first_race)
    monkeypatch.setattr(NewSnapshot, "write_manifest", counting)

    report = rewrite_table_manifests(table)

    assert report.figures["attempts"] == 2
    assert sum(wrote) == max(written) + 1
    assert fed.offsets() == list(range(fed.next_offset))


def test_compaction_and_manifest_rewriting_go_together(fed: FedTable) -> None:
    feed(fed, 12)
    rewrite_table_manifests(fed.maintained())

    compact_table(fed.maintained(), options())
    rewrite_table_manifests(fed.maintained())
    feed(fed, 12)
    compact_table(fed.maintained(), options())

    assert fed.offsets() == list(range(fed.next_offset))
    assert len(fed.files()) == len({str(file.partition) for file in fed.files()})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kill_at_every_step_leaves_the_table_right(tmp_path: Path) -> None:
    settings = TableSettings(partition_by=(Transformed("day", "at"),))
    fed = FedTable(sqlite_properties(tmp_path), rows=TIMED, settings=settings)
    points = (CrashPoint.REQUEST_PREPARED, CrashPoint.REQUEST_SENT, *MANIFEST_POINTS)
    for point in points:
        feed(fed, 5)
        kill(tmp_path, "manifests", point)
        assert fed.offsets() == list(range(fed.next_offset))
