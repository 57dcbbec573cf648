"""Compaction beside everybody else: appends, other compactors, changes of the table, kills.

Goal: whatever happens meanwhile, every row is there once, the checkpoint stands, and what can land
does. Method: real tables in SQLite catalogs; the other side acts at a step of the compaction that
the test names, or all the time from a thread, or the compactor is a process that is killed.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.transforms import BucketTransform

from k2i_core.crash_points import COMPACTION_POINTS, CrashPoint
from k2i_core.errors import ConfigError
from k2i_core.iceberg.operations import decide_rewind
from k2i_core.iceberg.tables import SortedBy, TableSettings
from k2i_core.maintenance.compaction import compact_table
from tests.integration.maintenance.fed_table import FedTable, options, orders, sqlite_properties
from tests.services.warm_python import warm_python

COMMIT_POINTS = (
    CrashPoint.REQUEST_PREPARED,
    CrashPoint.ATTEMPT_LOGGED,
    CrashPoint.REQUEST_SENT,
)


@pytest.fixture
def fed(tmp_path: Path) -> FedTable:
    fed = FedTable(sqlite_properties(tmp_path), settings=TableSettings(sort_by=(SortedBy("id"),)))
    for n in range(5):
        fed.commit(orders(n * 50, 50))
    return fed


def once_at(point: CrashPoint, act: Callable[[], Any]) -> Callable[[CrashPoint], None]:
    """Act when the point is announced for the first time."""
    left = [act]

    def observe(now: CrashPoint) -> None:
        if now is point and left:
            left.pop()()

    return observe


def test_an_append_in_between_is_kept_with_its_checkpoint(fed: FedTable) -> None:
    observe = once_at(CrashPoint.GROUP_PROVEN, lambda: fed.commit(orders(250, 50)))

    compact_table(fed.maintained(), options(), observe=observe)

    assert fed.offsets() == list(range(300))
    assert next(iter(fed.entry.checkpoint.next_offsets.values())) == 300
    assert len(fed.files()) == 2


def test_the_slower_of_two_compactors_leaves_garbage_and_nothing_else(fed: FedTable) -> None:
    other: list[Any] = []
    observe = once_at(
        CrashPoint.GROUP_PROVEN, lambda: other.append(compact_table(fed.maintained(), options()))
    )

    report = compact_table(fed.maintained(), options(), observe=observe)

    assert other[0].figures["groups"] == 1
    assert report.figures["groups"] == 0
    assert report.figures["lost_groups"] == 1
    assert "somebody else" in report.notes[0]
    assert len(fed.files()) == 1
    assert fed.offsets() == list(range(250))


def test_files_that_another_compactor_had_deleted_meanwhile_are_a_lost_race(
    fed: FedTable,
) -> None:
    def replace_and_delete() -> None:
        paths = [file.file_path for file in fed.files()]
        compact_table(fed.maintained(), options())
        for path in paths:
            Path(path.removeprefix("file://")).unlink()

    observe = once_at(CrashPoint.COMPACTION_PLANNED, replace_and_delete)

    report = compact_table(fed.maintained(), options(), observe=observe)

    assert report.figures["lost_groups"] == 1
    assert fed.offsets() == list(range(250))


def test_two_compactors_at_once_over_many_runs_are_harmless(fed: FedTable) -> None:
    reports: list[Any] = []

    def compact() -> None:
        reports.extend(compact_table(fed.maintained(), options()) for _ in range(3))

    threads = [threading.Thread(target=compact) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(10):
        fed.commit(orders(250 + n * 10, 10))
    for thread in threads:
        thread.join(120)

    assert len(reports) == 6
    assert fed.offsets() == list(range(350))


@pytest.mark.slow
def test_every_run_lands_beside_commits_without_a_pause(fed: FedTable) -> None:
    stopping = threading.Event()
    commits: list[int] = []

    def feed() -> None:
        while not stopping.is_set():
            commits.append(fed.commit(orders(fed.next_offset, 5)))
            stopping.wait(0.05)

    feeding = threading.Thread(target=feed)
    feeding.start()
    try:
        reports = []
        while len(reports) < 8:
            report = compact_table(fed.maintained(), options())
            if report.figures["groups"]:
                reports.append(report)
    finally:
        stopping.set()
        feeding.join(60)

    assert all(report.figures["lost_groups"] == 0 for report in reports)
    assert len(commits) >= len(reports)
    assert fed.offsets() == list(range(fed.next_offset))
    assert fed.entry.totals[next(iter(fed.entry.totals))].row_count == fed.next_offset


def drop_column(fed: FedTable) -> None:
    with fed.table.update_schema() as update:
        update.delete_column("city")


def change_spec(fed: FedTable) -> None:
    with fed.table.update_spec() as update:
        update.add_field("id", BucketTransform(2), "id_bucket")


@pytest.mark.parametrize("change", [drop_column, change_spec])
def test_a_table_that_changes_meanwhile_ends_the_run_and_the_next_one_goes_on(
    fed: FedTable, change: Callable[[FedTable], None]
) -> None:
    observe = once_at(CrashPoint.GROUP_PROVEN, lambda: change(fed))

    report = compact_table(fed.maintained(), options(), observe=observe)

    assert report.figures["groups"] == 0
    assert "run it again" in report.notes[0]
    assert len(fed.files()) == 5
    again = compact_table(fed.maintained(), options())
    assert again.figures["groups"] == 1
    assert fed.offsets() == list(range(250))


def test_an_added_column_meanwhile_is_no_reason_to_start_over(fed: FedTable) -> None:
    def add_column() -> None:
        with fed.table.update_schema() as update:
            update.add_column("added", fed.table.schema().find_type("id"))

    compact_table(fed.maintained(), options(), observe=once_at(CrashPoint.GROUP_PROVEN, add_column))

    assert len(fed.files()) == 1
    assert fed.offsets() == list(range(250))


def test_a_rewind_meanwhile_takes_the_inputs_away(fed: FedTable) -> None:
    first = list(fed.new_committer().inspect().view.ancestors())[-2].snapshot_id

    def rewind() -> None:
        fed.new_committer().operate("rewind", lambda view, _stored: decide_rewind(view, first))

    report = compact_table(
        fed.maintained(), options(), observe=once_at(CrashPoint.GROUP_PROVEN, rewind)
    )

    assert report.figures["lost_groups"] == 1
    assert fed.offsets() == list(range(50))


def test_delete_files_are_refused(fed: FedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ManifestFile, "content", ManifestContent.DELETES)

    with pytest.raises(ConfigError, match="delete files"):
        compact_table(fed.maintained(), options())


def kill(folder: Path, step: str, point: CrashPoint) -> None:
    module = "tests.integration.maintenance.crashing_maintenance"
    died = warm_python().run(module, str(folder), step, point.value)
    assert died.returncode == -9, f"{point} was not reached: {died.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kill_at_every_step_leaves_the_table_right(fed: FedTable, tmp_path: Path) -> None:
    for point in (*COMPACTION_POINTS, *COMMIT_POINTS):
        kill(tmp_path, "compaction", point)
        assert fed.offsets() == list(range(fed.next_offset))
        fed.commit(orders(fed.next_offset, 10))

    compact_table(fed.maintained(), options())

    assert fed.offsets() == list(range(fed.next_offset))
    assert len(fed.files()) == 1
    assert not list(Path("/tmp").glob("k2i-sort-*/*"))
