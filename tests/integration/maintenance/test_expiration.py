"""Expired snapshots take their files with them, and nothing that anybody still needs.

Goal: after an expiration every retained snapshot can be read, no other file is left, the checkpoint
and the ancestors of the head are what they were, and branches and tags stand. Method: a real table
in a SQLite catalog with local files, and the same on S3 with a REST catalog; replaced files as
compaction leaves them; a clock set ahead instead of waiting.
"""

from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event, Thread

import pytest

from k2i_core.crash_points import EXPIRATION_POINTS, CrashPoint
from k2i_core.errors import CommitStateUnknownError, ConfigError, CorruptionError
from k2i_core.iceberg.operations import decide_rewind
from k2i_core.iceberg.retention import RetentionLimits
from tests.contract.gateway_backends import IcebergBackend, sqlite_backend
from tests.integration.maintenance.maintained_table import AT_ONCE, MaintainedTable

HOUR = 3_600.0


@pytest.fixture
def lake(tmp_path: Path) -> MaintainedTable:
    return MaintainedTable(sqlite_backend(tmp_path))


@pytest.fixture(params=["sqlite", "rest"])
def any_lake(request: pytest.FixtureRequest) -> MaintainedTable:
    if request.param == "sqlite":
        return MaintainedTable(sqlite_backend(request.getfixturevalue("tmp_path")))
    properties = request.getfixturevalue("object_store").catalog_properties()
    return MaintainedTable(
        IcebergBackend(properties, f"{request.getfixturevalue('namespace')}.orders")
    )


def entry_of(lake: MaintainedTable):
    return replace(lake.committer().inspect().entry, snapshot_id=0)


def test_what_only_removed_snapshots_needed_is_gone_and_the_rest_is_read(
    any_lake: MaintainedTable,
) -> None:
    first, second = any_lake.append(3), any_lake.append(4)
    merged = any_lake.replace(first, second, row_count=7)
    kept = any_lake.append(1)
    lists = [s.manifest_list for s in any_lake.table.metadata.snapshots]
    before = entry_of(any_lake)

    report = any_lake.expire(ahead=HOUR)

    assert report.figures["snapshots_removed_count"] == 4
    assert report.figures["data_files_deleted_count"] == 2
    assert report.figures["data_files_deleted_bytes"] > 0
    assert [any_lake.backend.has_file(path) for path in (first, second)] == [False, False]
    assert [any_lake.backend.has_file(path) for path in (merged, kept)] == [True, True]
    assert [any_lake.backend.has_file(path) for path in lists] == [False] * 4 + [True]
    assert any_lake.is_whole()
    assert entry_of(any_lake) == before
    any_lake.append(2)
    assert any_lake.is_whole()


def test_nothing_is_left_behind_and_nothing_is_missing(lake: MaintainedTable) -> None:
    # More than one merge of manifests, so that some belong to removed snapshots only.
    paths = [lake.append(1) for _ in range(40)]
    lake.replace(*paths[:30], row_count=30)
    lake.append(1, count=3)

    lake.expire(ahead=HOUR)

    assert lake.unreachable_files() == set()
    assert lake.is_whole()


def test_a_second_run_finds_nothing_and_commits_nothing(lake: MaintainedTable) -> None:
    lake.append(count=3)
    lake.expire(ahead=HOUR)
    lake.expire(ahead=HOUR)
    head = lake.table.metadata.current_snapshot_id

    report = lake.expire(replace(AT_ONCE, count_min=2), ahead=HOUR)

    assert report.did.startswith("nothing to expire")
    assert report.snapshot_ids == ()
    assert lake.table.metadata.current_snapshot_id == head


def test_a_dry_run_tells_the_same_and_changes_nothing(lake: MaintainedTable) -> None:
    first = lake.append(3)
    lake.replace(first, row_count=3)
    lake.append(1)
    files = lake.files()

    told = lake.expire(ahead=HOUR, is_dry_run=True)

    assert lake.files() == files
    done = lake.expire(ahead=HOUR)
    names = ("snapshots_removed_count", "data_files_deleted_count", "data_files_deleted_bytes")
    assert [told.figures[n] for n in names] == [done.figures[n] for n in names]
    assert told.did.replace("would remove", "removed") == done.did


def test_ancestors_of_the_head_stay_ancestors(lake: MaintainedTable) -> None:
    lake.append(count=6)

    lake.expire(replace(AT_ONCE, count_min=4), ahead=HOUR)

    view = lake.backend.connect().load()
    assert len(list(view.ancestors())) == len(view.snapshots) == 4


def test_a_reader_of_what_was_replaced_is_given_its_time(lake: MaintainedTable) -> None:
    grace = replace(AT_ONCE, reader_grace_seconds=2 * HOUR)
    first, second = lake.append(3), lake.append(2)
    reader = lake.table
    lake.replace(first, second, row_count=5)
    lake.append(1)

    report = lake.expire(grace, ahead=HOUR)

    assert report.figures["snapshots_removed_count"] == 0
    assert report.figures["snapshots_waiting_count"] > 0
    assert reader.scan().to_arrow().num_rows == 5

    later = lake.expire(grace, ahead=3 * HOUR)

    assert later.figures["data_files_deleted_count"] == 2
    assert lake.unreachable_files() == set()


def test_appends_leave_what_was_replaced_to_expiration(tmp_path: Path) -> None:
    retention = RetentionLimits(0.0, 1, 12, grace_seconds=0.0)
    lake = MaintainedTable(sqlite_backend(tmp_path), retention=retention)
    first, second = lake.append(3), lake.append(2)
    lake.replace(first, second, row_count=5)
    lake.append(1, count=12)

    assert len(lake.table.metadata.snapshots) > 12
    lake.expire(ahead=HOUR)

    assert not lake.backend.has_file(first)
    assert lake.unreachable_files() == set()


def test_tags_and_branches_stand_and_can_be_read(any_lake: MaintainedTable) -> None:
    lake = any_lake
    first = lake.append(3)
    tagged = lake.table.metadata.current_snapshot_id
    lake.table.manage_snapshots().create_tag(tagged, "audit").commit()
    second = lake.append(2)
    branched = lake.table.metadata.current_snapshot_id
    lake.table.manage_snapshots().create_branch(branched, "trial").commit()
    lake.replace(first, second, row_count=5)
    lake.append(1)

    lake.expire(ahead=HOUR)

    refs = lake.table.metadata.refs
    assert {n: refs[n].snapshot_id for n in ("audit", "trial")} == {
        "audit": tagged,
        "trial": branched,
    }
    assert lake.table.scan(snapshot_id=tagged).to_arrow().num_rows == 3
    assert lake.table.scan(snapshot_id=branched).to_arrow().num_rows == 5
    assert lake.is_whole()


def test_a_tag_made_while_its_snapshot_expires_is_not_lost(lake: MaintainedTable) -> None:
    first = lake.append(3)
    tagged = lake.table.metadata.current_snapshot_id
    lake.replace(first, row_count=3)
    lake.append(1)
    raced: list[str] = []

    def tag_once(point: CrashPoint) -> None:
        if point is CrashPoint.ATTEMPT_LOGGED and not raced:
            raced.append("tagged")
            lake.table.manage_snapshots().create_tag(tagged, "audit").commit()

    lake.expire(ahead=HOUR, observe=tag_once)

    assert raced
    assert lake.table.metadata.refs["audit"].snapshot_id == tagged
    assert lake.table.scan(snapshot_id=tagged).to_arrow().num_rows == 3
    assert lake.is_whole()


def test_a_tag_that_a_rest_catalog_lost_keeps_every_file(object_store, namespace: str) -> None:
    lake = MaintainedTable(IcebergBackend(object_store.catalog_properties(), f"{namespace}.orders"))
    first = lake.append(3)
    tagged = lake.table.metadata.current_snapshot_id
    lake.replace(first, row_count=3)
    lake.append(1)

    def tag(point: CrashPoint) -> None:
        if point is CrashPoint.ATTEMPT_LOGGED and "audit" not in lake.table.metadata.refs:
            lake.table.manage_snapshots().create_tag(tagged, "audit").commit()

    with pytest.raises(CorruptionError, match=f"audit={tagged}"):
        lake.expire(ahead=HOUR, observe=tag)

    assert lake.backend.has_file(first)


def test_a_rewind_in_between_wins_and_nothing_it_needs_is_deleted(lake: MaintainedTable) -> None:
    first = lake.append(3)
    target = lake.table.metadata.current_snapshot_id
    lake.append(2)
    lake.replace(*lake.live_paths(), row_count=5)
    lake.append(1)
    raced: list[int] = []

    def rewind_once(point: CrashPoint) -> None:
        if point is CrashPoint.ATTEMPT_LOGGED and not raced:
            raced.append(target)
            lake.committer().operate("rewind", lambda view, _: decide_rewind(view, target))

    lake.expire(ahead=HOUR, observe=rewind_once)

    assert raced
    lake.next_offset = 3
    assert lake.is_whole()
    assert lake.live_paths() == {first}


def test_a_rolled_back_table_is_refused(lake: MaintainedTable) -> None:
    lake.append(3)
    old = lake.table.metadata.current_snapshot_id
    lake.append(2)
    lake.table.manage_snapshots().rollback_to_snapshot(old).commit()
    files = lake.files()

    with pytest.raises(CorruptionError, match="rolled back outside k2i"):
        lake.expire(ahead=HOUR)

    assert lake.files() == files


def test_a_table_that_k2i_never_committed_to_is_refused(tmp_path: Path) -> None:
    lake = MaintainedTable(sqlite_backend(tmp_path))
    other = IcebergBackend(lake.backend.properties, "sales.others")
    lake.backend = other

    with pytest.raises(ConfigError, match="not k2i's to maintain"):
        lake.expire()


def test_a_table_whose_files_are_kept_is_refused(lake: MaintainedTable) -> None:
    with lake.table.transaction() as transaction:
        transaction.set_properties({"gc.enabled": "false"})

    with pytest.raises(ConfigError, match=r"gc\.enabled"):
        lake.expire()


def test_an_unknown_outcome_deletes_nothing_that_is_needed(lake: MaintainedTable) -> None:
    first = lake.append(3)
    lake.replace(first, row_count=3)
    lake.append(1)
    committer = lake.committer()
    gateway = committer._gateway
    send = gateway.send
    failures = [True, True]

    def send_and_forget(request: object) -> None:
        send(request)
        if failures and failures.pop():
            message = "the reply was lost"
            raise CommitStateUnknownError(message)

    gateway.send = send_and_forget
    lake.committer = lambda **_: committer

    report = lake.expire(ahead=HOUR)

    assert report.figures["data_files_deleted_count"] == 1
    assert lake.unreachable_files() == set()
    assert lake.is_whole()


def test_beside_a_worker_that_commits_all_the_time(tmp_path: Path) -> None:
    lake = MaintainedTable(
        sqlite_backend(tmp_path), retention=RetentionLimits(0.0, 3, 20, grace_seconds=0.0)
    )
    lake.append(1, count=3)
    stop = Event()
    failed: list[BaseException] = []

    def feed() -> None:
        try:
            while not stop.wait(0.02):
                lake.append(1)
        except BaseException as error:
            failed.append(error)
            raise

    worker = Thread(target=feed)
    maintainer = MaintainedTable.__new__(MaintainedTable)
    maintainer.__dict__.update(lake.__dict__)
    maintainer.backend = IcebergBackend(lake.backend.properties, lake.backend.identifier)
    maintainer.backend._stems = count(1_000_000)
    worker.start()
    try:
        for _ in range(4):
            files = maintainer.live_rows()
            picked = sorted(files)[:3]
            maintainer.replace(*picked, row_count=sum(files[path] for path in picked))
            maintainer.expire(ahead=HOUR)
    finally:
        stop.set()
        worker.join()

    assert not failed
    lake.expire(ahead=HOUR)
    assert lake.is_whole()


class Killed(BaseException):
    """Stands for `kill -9`: nothing below catches it."""


@pytest.mark.parametrize(
    "point",
    [
        CrashPoint.REQUEST_PREPARED,
        CrashPoint.ATTEMPT_LOGGED,
        CrashPoint.REQUEST_SENT,
        *EXPIRATION_POINTS,
    ],
)
def test_killed_at_any_step_the_table_is_whole_and_the_next_run_finishes(
    lake: MaintainedTable, point: CrashPoint
) -> None:
    first, second = lake.append(3), lake.append(2)
    lake.replace(first, second, row_count=5)
    lake.append(1)

    def kill(now: CrashPoint) -> None:
        if now is point:
            raise Killed

    with pytest.raises(Killed):
        lake.expire(ahead=HOUR, observe=kill)

    assert lake.is_whole()
    lake.append(1)
    lake.expire(ahead=HOUR)
    assert lake.is_whole()
