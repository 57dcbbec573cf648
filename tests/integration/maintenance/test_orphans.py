"""Orphans go, and nothing that anybody needs, is about to commit, or put there for other reasons.

Goal: after a sweep every retained snapshot can be read, and of what no snapshot needs only young
files and files that are not k2i's are left. Method: a real table in a SQLite catalog with local
files, whose times are set back instead of waiting, and one on S3 behind a REST catalog.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from k2i_core.crash_points import ORPHAN_POINTS, CrashPoint
from k2i_core.errors import ConfigError, ConflictError, CorruptionError
from k2i_core.iceberg import listing
from k2i_core.iceberg.gateway import SnapshotChange
from k2i_core.ledger import CHECKPOINT_KEY, encode_entry
from k2i_core.maintenance import orphans
from tests.contract.gateway_backends import IcebergBackend, sqlite_backend
from tests.integration.maintenance.maintained_table import MaintainedTable, age

HOUR = 3_600.0
OTHER = Schema(NestedField(1, "id", LongType()))


@pytest.fixture
def lake(tmp_path: Path) -> MaintainedTable:
    lake = MaintainedTable(sqlite_backend(tmp_path))
    lake.append(3, count=3)
    return lake


def age_all(lake: MaintainedTable) -> None:
    for path in lake.files():
        age(path)


def orphan(lake: MaintainedTable, *, days: float = 10.0) -> str:
    """Write a file that is never committed, so many days ago."""
    path = lake.backend.write_file(5).path
    age(path, days)
    return path.removeprefix("file://")


def test_an_old_file_that_nothing_needs_goes_and_the_rest_stays(lake: MaintainedTable) -> None:
    age_all(lake)
    gone = orphan(lake)
    before = set(lake.files())

    report = lake.sweep()

    assert report.figures["orphans_count"] == 1
    assert report.figures["orphans_bytes"] > 0
    assert before - set(lake.files()) == {gone}
    assert lake.is_whole()


def test_a_stuck_writers_files_stay_because_they_are_young(lake: MaintainedTable) -> None:
    age_all(lake)
    stuck = orphan(lake, days=2.5)

    report = lake.sweep(days=3)

    assert report.figures["files_too_young_count"] >= 1
    assert Path(stuck).exists()


@pytest.mark.parametrize("has_barrier", [True, False])
def test_a_request_that_is_still_on_its_way_cannot_land_after_the_barrier(
    lake: MaintainedTable, monkeypatch: pytest.MonkeyPatch, has_barrier: bool
) -> None:
    """A stuck host sends its request after the file was swept; without the barrier it lands."""
    file = lake.backend.write_file(2)
    gateway = lake.backend.connect()
    view = gateway.load()
    entry = lake.committer().inspect().entry
    checkpoint = encode_entry(replace(entry, snapshot_id=7))
    change = SnapshotChange(
        snapshot_id=7,
        timestamp_ms=view.last_updated_ms + 1,
        files=(file,),
        summary={CHECKPOINT_KEY: checkpoint},
        properties={CHECKPOINT_KEY: checkpoint},
    )
    on_its_way = gateway.prepare(view, change)
    age_all(lake)
    if not has_barrier:
        monkeypatch.setattr(
            orphans,
            "raise_barrier",
            lambda committer: (committer.inspect(), view.head_snapshot_id),
        )
        age(lake.table.current_snapshot().manifest_list, -10.0)

    assert lake.sweep().figures["orphans_count"] > 0
    assert not lake.backend.has_file(file.path)

    if has_barrier:
        with pytest.raises(ConflictError):
            gateway.send(on_its_way)
        assert lake.is_whole()
        return
    gateway.send(on_its_way)
    with pytest.raises(FileNotFoundError):
        lake.is_whole()


def test_no_setting_makes_a_file_of_today_an_orphan(lake: MaintainedTable) -> None:
    age_all(lake)
    fresh = orphan(lake, days=0.9)

    lake.sweep(days=0)

    assert Path(fresh).exists()


def test_what_an_interrupted_expiration_left_is_taken(lake: MaintainedTable) -> None:
    lake.replace(*sorted(lake.live_paths())[:2], row_count=6)
    lake.append(1)

    class Killed(BaseException):
        pass

    def kill(point: CrashPoint) -> None:
        if point is CrashPoint.SNAPSHOTS_REMOVED:
            raise Killed

    with pytest.raises(Killed):
        lake.expire(ahead=HOUR, observe=kill)
    left = lake.unreachable_files()
    assert len([path for path in left if path.endswith(".parquet")]) == 2
    assert [path for path in left if path.endswith(".avro")]
    age_all(lake)

    lake.sweep()

    assert lake.unreachable_files() == set()
    assert lake.is_whole()


def test_metadata_of_commits_that_lost_a_race_is_taken_by_its_content(
    lake: MaintainedTable,
) -> None:
    location = lake.table.metadata_location.removeprefix("file://")
    lost = Path(location).with_name("00099-00000000-0000-4000-8000-000000000000.metadata.json")
    shutil.copy(location, lost)
    other = Path(location).with_name("00098-00000000-0000-4000-8000-000000000000.metadata.json")
    other.write_text(
        lost.read_text().replace(
            str(lake.table.metadata.table_uuid), "0" * 8 + "-0000-4000-8000-" + "0" * 12
        )
    )
    broken = Path(location).with_name("00097-00000000-0000-4000-8000-000000000000.metadata.json")
    broken.write_text("{")
    age_all(lake)

    report = lake.sweep()

    assert not lost.exists()
    assert other.exists()
    assert broken.exists()
    assert report.figures["foreign_files_count"] == 2
    assert lake.is_whole()


def test_files_that_are_not_k2is_are_told_and_stay(lake: MaintainedTable) -> None:
    folder = lake.folder()
    strangers = [folder / "data" / "part-00000.parquet", folder / "_SUCCESS", folder / "notes.txt"]
    for path in strangers:
        path.write_bytes(b"x" * 7)
    age_all(lake)

    report = lake.sweep()

    assert all(path.exists() for path in strangers)
    assert report.figures["foreign_files_count"] == 3
    assert report.figures["foreign_files_bytes"] == 21
    assert "not k2i's" in report.notes[0]


def test_foreign_files_that_a_snapshot_needs_are_neither(lake: MaintainedTable) -> None:
    arrow = lake.backend.arrow_schema()
    lake.table.append(pa.Table.from_batches([], schema=arrow))
    rows = lake.table.scan().to_arrow()
    lake.table.append(rows)
    age_all(lake)

    report = lake.sweep()

    assert report.figures["orphans_count"] == 0
    assert report.figures["foreign_files_count"] == 0
    assert lake.table.scan().to_arrow().num_rows == 18


def test_a_dry_run_lists_sums_and_changes_nothing(lake: MaintainedTable) -> None:
    age_all(lake)
    gone = orphan(lake)
    age(lake.table.metadata.snapshots[-1].manifest_list, -10.0)
    head = lake.table.metadata.current_snapshot_id
    files = lake.files()

    report = lake.sweep(is_dry_run=True)

    assert report.is_dry_run
    assert report.figures["orphans_count"] == 1
    assert report.figures["orphans_bytes"] == files[gone]
    assert lake.files() == files
    assert lake.table.metadata.current_snapshot_id == head


def test_this_hosts_clock_decides_nothing(lake: MaintainedTable) -> None:
    """The store's times are all a year ahead, and so is the barrier's."""
    young = orphan(lake, days=-364.0)
    old = orphan(lake, days=-100.0)
    output = listing.modified_ms

    def a_year_ahead(io: object, location: str) -> int:
        return output(io, location) + 365 * 86_400_000

    orphans.modified_ms = a_year_ahead
    try:
        lake.sweep(days=3)
    finally:
        orphans.modified_ms = output

    assert Path(young).exists()
    assert not Path(old).exists()


@pytest.mark.parametrize("inner", ["", "/data", "/data/deep", "/.."])
def test_a_shared_location_is_refused(lake: MaintainedTable, inner: str) -> None:
    location = os.path.normpath(lake.folder()) + inner
    lake.backend.catalog.create_table(
        "sales.other", OTHER, location=f"file://{os.path.normpath(location)}"
    )
    age_all(lake)
    gone = orphan(lake)

    with pytest.raises(ConfigError, match=r"shared with sales\.other"):
        lake.sweep()

    assert Path(gone).exists()


def test_tables_beside_one_another_share_nothing(lake: MaintainedTable) -> None:
    lake.backend.catalog.create_table("sales.orders2", OTHER)
    lake.backend.catalog.create_namespace("elsewhere")
    lake.backend.catalog.create_table("elsewhere.orders", OTHER)

    assert lake.sweep().notes == ()


def test_a_listing_without_the_tables_own_files_deletes_nothing(
    lake: MaintainedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    age_all(lake)
    gone = orphan(lake)
    list_files = orphans.list_files

    def misspelled(io: object, folder: str):
        for files in list_files(io, folder):
            yield [
                listing.ListedFile(
                    f.location.replace("orders", "0rders"), f.byte_count, f.modified_ms
                )
                for f in files
            ]

    monkeypatch.setattr(orphans, "list_files", misspelled)

    with pytest.raises(CorruptionError, match="shows none of the live files"):
        lake.sweep()

    assert Path(gone).exists()


def test_other_spellings_of_the_location_are_the_same_files(
    lake: MaintainedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    age_all(lake)
    list_files = orphans.list_files

    def plain(io: object, folder: str):
        for files in list_files(io, folder):
            yield [
                listing.ListedFile(f.location.removeprefix("file://"), f.byte_count, f.modified_ms)
                for f in files
            ]

    monkeypatch.setattr(orphans, "list_files", plain)

    assert lake.sweep().figures["orphans_count"] == 0
    assert lake.is_whole()


def test_thousands_of_orphans_in_many_folders(
    lake: MaintainedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "PORTION_COUNT", 700)
    age_all(lake)
    template = Path(orphan(lake))
    before = set(lake.files()) - {str(template)}
    for number in range(5_000):
        folder = template.parent / f"day={number % 50}"
        folder.mkdir(exist_ok=True)
        os.link(template, folder / template.name.replace(".parquet", f"-{number}.parquet"))

    report = lake.sweep()

    assert report.figures["orphans_count"] == 5_001
    assert before <= set(lake.files())
    assert not [path for path in lake.files() if "day=" in path]
    assert lake.is_whole()


class Killed(BaseException):
    """Stands for `kill -9`: nothing below catches it."""


@pytest.mark.parametrize(
    "point", [CrashPoint.ATTEMPT_LOGGED, CrashPoint.REQUEST_SENT, *ORPHAN_POINTS]
)
def test_killed_at_any_step_the_table_is_whole_and_the_next_run_finishes(
    lake: MaintainedTable, point: CrashPoint
) -> None:
    age_all(lake)
    gone = orphan(lake)

    def kill(now: CrashPoint) -> None:
        if now is point:
            raise Killed

    with pytest.raises(Killed):
        lake.sweep(observe=kill)

    assert lake.is_whole()
    lake.append(1)
    lake.sweep()
    assert not Path(gone).exists()
    assert lake.is_whole()


def test_on_an_object_store(object_store, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times cannot be set back there, so that the barrier's is set ahead."""
    backend = IcebergBackend(object_store.catalog_properties(), f"{namespace}.orders")
    lake = MaintainedTable(backend)
    kept = [lake.append(2) for _ in range(3)]
    gone = [backend.write_file(1).path for _ in range(40)]
    now_of = listing.modified_ms
    monkeypatch.setattr(
        orphans, "modified_ms", lambda io, location: now_of(io, location) + 4 * 86_400_000
    )

    report = lake.sweep(days=3)

    assert report.figures["orphans_count"] == 40
    assert [path for path in gone if backend.has_file(path)] == []
    assert all(backend.has_file(path) for path in kept)
    lake.append(1)
    assert lake.is_whole()
    assert lake.sweep(days=3).figures["orphans_count"] == 0
