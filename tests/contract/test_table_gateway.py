"""What the commit protocol relies on, whatever the table gateway.

Goal: the simulation proves things about the fake; the same must hold for real tables.
Method: one suite over the fake, PyIceberg on SQLite with local files, and PyIceberg on a REST
catalog with S3. Two gateways with connections of their own stand for two workers.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from pyiceberg.manifest import ManifestEntry, ManifestFile

from k2i_core.clock import RandomIds, SystemClock
from k2i_core.errors import CommitStateUnknownError, ConflictError, CorruptionError, ErrorKind
from k2i_core.iceberg.gateway import Replacement, SnapshotChange, TableGateway, TableView
from k2i_core.iceberg.manifests import NewSnapshot
from k2i_core.ledger import CHECKPOINT_KEY
from k2i_core.records import WrittenFile
from tests.contract.gateway_backends import (
    Backend,
    IcebergBackend,
    MemoryBackend,
    sqlite_backend,
)

REFUSED = (ConflictError, CommitStateUnknownError)

CHECKPOINT = '{"version":1,"snapshot":7,"owners":[[3,0,2]],"topics":[["orders","id",0,[[0,5,0]]]]}'

BACKENDS: dict[str, Callable[[pytest.FixtureRequest], Backend]] = {
    "memory": lambda _: MemoryBackend(),
    "sqlite": lambda request: sqlite_backend(request.getfixturevalue("tmp_path")),
    "rest": lambda request: IcebergBackend(
        request.getfixturevalue("object_store").catalog_properties(),
        f"{request.getfixturevalue('namespace')}.orders",
    ),
}


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param](request)


@pytest.fixture
def gateway(backend: Backend) -> TableGateway:
    return backend.connect()


def change_on(view: TableView, *files: WrittenFile, text: str = CHECKPOINT) -> SnapshotChange:
    return SnapshotChange(
        snapshot_id=RandomIds().snapshot_id(),
        timestamp_ms=max(SystemClock().now_ms(), view.last_updated_ms + 1),
        files=files,
        summary={CHECKPOINT_KEY: text, "k2i.operation": "append"},
        properties={CHECKPOINT_KEY: text},
    )


def commit(gateway: TableGateway, *files: WrittenFile) -> int:
    view = gateway.load()
    change = change_on(view, *files)
    gateway.send(gateway.prepare(view, change))
    return change.snapshot_id


def test_a_new_table_has_no_head_no_snapshots_and_no_checkpoint(gateway: TableGateway) -> None:
    view = gateway.load()

    assert view.head_snapshot_id is None
    assert view.snapshots == {}
    assert list(view.ancestors()) == []
    assert view.checkpoint_property is None
    assert view.format_version == 2
    assert view.last_sequence_number == 0
    assert view.schema_id in view.field_ids


def test_rows_are_visible_after_the_send_and_not_before(
    backend: Backend, gateway: TableGateway
) -> None:
    view = gateway.load()
    request = gateway.prepare(view, change_on(view, backend.write_file(3)))
    assert gateway.load().head_snapshot_id is None
    assert backend.row_count() == 0

    gateway.send(request)

    assert backend.row_count() == 3


def test_summary_property_and_caller_chosen_ids_survive(
    backend: Backend, gateway: TableGateway
) -> None:
    view = gateway.load()
    change = change_on(view, backend.write_file())
    gateway.send(gateway.prepare(view, change))

    after = backend.connect().load()

    snapshot = after.snapshots[change.snapshot_id]
    assert after.head_snapshot_id == change.snapshot_id
    assert snapshot.timestamp_ms == change.timestamp_ms == after.last_updated_ms
    assert snapshot.parent_snapshot_id is None
    assert snapshot.sequence_number == after.last_sequence_number == 1
    assert snapshot.summary[CHECKPOINT_KEY] == CHECKPOINT
    assert snapshot.summary["k2i.operation"] == "append"
    assert after.checkpoint_property == CHECKPOINT


def test_a_commit_without_files_carries_its_checkpoint_and_keeps_the_rows(
    backend: Backend, gateway: TableGateway
) -> None:
    first = commit(gateway, backend.write_file(2))

    second = commit(gateway)

    view = gateway.load()
    assert view.head_snapshot_id == second
    assert view.snapshots[second].parent_snapshot_id == first
    assert view.snapshots[second].summary[CHECKPOINT_KEY] == CHECKPOINT
    assert backend.row_count() == 2


def test_the_first_commit_may_be_empty(backend: Backend, gateway: TableGateway) -> None:
    snapshot_id = commit(gateway)

    assert gateway.load().head_snapshot_id == snapshot_id
    assert backend.row_count() == 0


def test_a_stale_send_is_refused_and_changes_nothing(backend: Backend) -> None:
    stale, other = backend.connect(), backend.connect()
    view = stale.load()
    request = stale.prepare(view, change_on(view, backend.write_file(5), text="stale"))
    landed = commit(other, backend.write_file(1))

    with pytest.raises(REFUSED):
        stale.send(request)

    after = other.load()
    assert after.head_snapshot_id == landed
    assert list(after.snapshots) == [landed]
    assert after.checkpoint_property == CHECKPOINT
    assert backend.row_count() == 1


def test_of_two_requests_on_one_load_exactly_one_lands(
    backend: Backend, gateway: TableGateway
) -> None:
    commit(gateway)
    view = gateway.load()
    requests = [
        gateway.prepare(view, change_on(view, backend.write_file(row_count)))
        for row_count in (1, 2)
    ]

    gateway.send(requests[1])
    with pytest.raises(REFUSED):
        gateway.send(requests[0])

    assert backend.row_count() == 2


def test_a_request_sent_twice_lands_once(backend: Backend, gateway: TableGateway) -> None:
    view = gateway.load()
    request = gateway.prepare(view, change_on(view, backend.write_file(2)))
    gateway.send(request)

    with pytest.raises(REFUSED):
        gateway.send(request)

    assert backend.row_count() == 2


def test_a_refused_commit_leaves_its_files_and_can_be_built_anew(backend: Backend) -> None:
    one, other = backend.connect(), backend.connect()
    file = backend.write_file(4)
    view = one.load()
    request = one.prepare(view, change_on(view, file))
    commit(other)
    with pytest.raises(REFUSED):
        one.send(request)
    assert backend.has_file(file.path)

    commit(one, file)

    assert backend.row_count() == 4


@pytest.mark.parametrize("behind", ["change_schema", "change_spec"])
def test_a_changed_schema_or_spec_refuses_the_commit(backend: Backend, behind: str) -> None:
    gateway = backend.connect()
    view = gateway.load()
    request = gateway.prepare(view, change_on(view, backend.write_file()))
    getattr(backend, behind)()

    with pytest.raises(REFUSED):
        gateway.send(request)

    after = gateway.load()
    assert after.head_snapshot_id is None
    assert (after.schema_id, after.spec_id) != (view.schema_id, view.spec_id)


def test_a_file_of_an_older_schema_can_be_committed(backend: Backend) -> None:
    gateway = backend.connect()
    file = backend.write_file(2)
    backend.change_schema()
    view = gateway.load()
    assert file.schema_id != view.schema_id
    assert view.field_ids[file.schema_id] < view.field_ids[view.schema_id]

    gateway.send(gateway.prepare(view, change_on(view, file)))

    assert backend.row_count() == 2


def test_a_rewind_takes_rows_and_checkpoint_back_together(
    backend: Backend, gateway: TableGateway
) -> None:
    kept = commit(gateway, backend.write_file(2))
    dropped = commit(gateway, backend.write_file(3))
    view = gateway.load()
    rewind = replace(change_on(view, text="rewound"), rewind_to_snapshot_id=kept)

    gateway.send(gateway.prepare(view, rewind))

    after = gateway.load()
    assert [s.snapshot_id for s in after.ancestors()] == [rewind.snapshot_id, kept]
    assert dropped in after.snapshots
    assert not after.is_ancestor(dropped)
    assert after.last_sequence_number == 3
    assert after.checkpoint_property == "rewound"
    assert backend.row_count() == 2


def test_an_append_can_give_up_the_oldest_snapshots(
    backend: Backend, gateway: TableGateway
) -> None:
    oldest = commit(gateway, backend.write_file(2))
    older = commit(gateway, backend.write_file(3))
    kept = commit(gateway, backend.write_file(1))
    view = gateway.load()
    change = replace(change_on(view, backend.write_file(4)), removed_snapshot_ids=(oldest, older))

    gateway.send(gateway.prepare(view, change))

    after = gateway.load()
    assert [s.snapshot_id for s in after.ancestors()] == [change.snapshot_id, kept]
    assert set(after.snapshots) == {change.snapshot_id, kept}
    assert gateway.has_live_entry(after, oldest)
    assert backend.row_count() == 10


def test_a_refused_append_gives_up_nothing(backend: Backend) -> None:
    winner, loser = backend.connect(), backend.connect()
    oldest = commit(winner, backend.write_file(2))
    commit(winner, backend.write_file(3))
    view = loser.load()
    request = loser.prepare(view, replace(change_on(view), removed_snapshot_ids=(oldest,)))
    commit(winner, backend.write_file(1))

    with pytest.raises(ConflictError):
        loser.send(request)

    assert oldest in winner.load().snapshots
    assert backend.row_count() == 6


def test_a_rewind_on_a_stale_head_is_refused(backend: Backend, gateway: TableGateway) -> None:
    kept = commit(gateway, backend.write_file(2))
    commit(gateway, backend.write_file(3))
    view = gateway.load()
    rewind = replace(change_on(view), rewind_to_snapshot_id=kept)
    request = gateway.prepare(view, rewind)
    commit(backend.connect(), backend.write_file(4))

    with pytest.raises(REFUSED):
        gateway.send(request)

    assert backend.row_count() == 9


def test_a_live_entry_belongs_to_the_snapshot_that_added_its_file(
    backend: Backend, gateway: TableGateway
) -> None:
    assert not gateway.has_live_entry(gateway.load(), 1)
    kept = commit(gateway, backend.write_file())
    dropped = commit(gateway, backend.write_file())
    empty = commit(gateway)
    view = gateway.load()
    assert gateway.has_live_entry(view, kept)
    assert gateway.has_live_entry(view, dropped)
    assert not gateway.has_live_entry(view, empty)

    gateway.send(gateway.prepare(view, replace(change_on(view), rewind_to_snapshot_id=kept)))

    view = gateway.load()
    assert gateway.has_live_entry(view, kept)
    assert not gateway.has_live_entry(view, dropped)


def test_files_of_any_retained_snapshot_are_reachable(
    backend: Backend, gateway: TableGateway
) -> None:
    live, rewound, never = (backend.write_file() for _ in range(3))
    kept = commit(gateway, live)
    commit(gateway, rewound)
    view = gateway.load()
    gateway.send(gateway.prepare(view, replace(change_on(view), rewind_to_snapshot_id=kept)))

    reachable = gateway.reachable(gateway.load(), [live.path, rewound.path, never.path])

    assert reachable == {live.path, rewound.path}


def test_nothing_is_reachable_in_an_empty_table(backend: Backend, gateway: TableGateway) -> None:
    path = backend.write_file().path

    assert gateway.reachable(gateway.load(), [path]) == set()
    assert gateway.reachable(gateway.load(), []) == set()


def test_files_are_deleted_and_a_missing_one_is_fine(
    backend: Backend, gateway: TableGateway
) -> None:
    gone, kept = backend.write_file(), backend.write_file()

    gateway.delete_files([gone.path])
    gateway.delete_files([gone.path])

    assert not backend.has_file(gone.path)
    assert backend.has_file(kept.path)


def test_snapshots_are_in_the_order_of_time(gateway: TableGateway) -> None:
    for _ in range(3):
        commit(gateway)

    newest_first = [s.timestamp_ms for s in gateway.load().ancestors()]

    assert newest_first == sorted(set(newest_first), reverse=True)


def test_many_commits_keep_all_rows_and_few_manifests(
    backend: Backend, gateway: TableGateway
) -> None:
    # Enough for manifests to be merged twice; what a commit costs grows with those before it.
    file = backend.write_file(2)
    first = commit(gateway, file)
    for _ in range(69):
        commit(gateway, backend.write_file(2))

    view = gateway.load()
    assert backend.row_count() == 140
    assert len(list(view.ancestors())) == 70
    assert gateway.has_live_entry(view, first)
    assert gateway.reachable(view, [file.path]) == {file.path}
    manifest_count = backend.manifest_count()
    assert manifest_count is None or manifest_count <= 40


def test_nothing_outside_the_table_is_deleted(tmp_path: Path) -> None:
    backend = sqlite_backend(tmp_path)
    gateway = backend.connect()
    commit(gateway, backend.write_file())
    table = backend.catalog.load_table(backend.identifier)
    outside = tmp_path / "precious.txt"
    outside.write_text("precious")
    kept = backend.write_file()

    for path in (
        str(outside),
        f"{table.location()}/../../../precious.txt",
        f"{table.location()}_other/data/x.parquet",
        table.metadata_location,
    ):
        with pytest.raises(CorruptionError, match="refused"):
            gateway.delete_files([kept.path, path])

    assert outside.exists()
    assert backend.has_file(kept.path)
    assert backend.has_file(table.metadata_location)


def test_a_path_is_the_same_file_however_it_is_spelled(tmp_path: Path) -> None:
    backend = sqlite_backend(tmp_path)
    gateway = backend.connect()
    file = backend.write_file()
    commit(gateway, file)
    plain = file.path.removeprefix("file://")

    assert gateway.reachable(gateway.load(), [plain, file.path]) == {plain, file.path}


def replacing(
    view: TableView, removed: list[WrittenFile], *files: WrittenFile, text: str = CHECKPOINT
) -> SnapshotChange:
    replacement = Replacement(frozenset(file.path for file in removed), files)
    return replace(change_on(view, text=text), replacements=(replacement,))


def send_replacing(
    gateway: TableGateway, removed: list[WrittenFile], *files: WrittenFile
) -> SnapshotChange:
    view = gateway.load()
    change = replacing(view, removed, *files)
    gateway.send(gateway.prepare(view, change))
    return change


def test_files_can_be_replaced_by_others(backend: Backend, gateway: TableGateway) -> None:
    small = [backend.write_file(n) for n in (1, 2, 3)]
    kept = commit(gateway, *small)
    merged = backend.write_file(3)

    change = send_replacing(gateway, small[:2], merged)

    view = gateway.load()
    head = view.snapshots[change.snapshot_id]
    assert backend.row_count() == 6
    assert head.summary["operation"] == "replace"
    assert head.summary[CHECKPOINT_KEY] == CHECKPOINT
    assert head.parent_snapshot_id == kept
    assert gateway.has_live_entry(view, change.snapshot_id)
    assert gateway.has_live_entry(view, kept)
    removed = {file.path for file in small[:2]}
    assert gateway.missing(view, [file.path for file in (*small, merged)]) == removed
    # The snapshot before it is still there, and needs them.
    assert gateway.reachable(view, removed) == removed


def test_what_only_a_given_up_snapshot_had_is_not_reachable_after_a_replacement(
    backend: Backend, gateway: TableGateway
) -> None:
    small = [backend.write_file() for _ in range(2)]
    first = commit(gateway, *small)
    send_replacing(gateway, small, backend.write_file(2))
    view = gateway.load()

    change = replace(change_on(view), removed_snapshot_ids=(first,))
    gateway.send(gateway.prepare(view, change))

    after = gateway.load()
    assert gateway.reachable(after, [file.path for file in small]) == set()
    assert backend.row_count() == 2


def test_a_file_that_is_not_live_cannot_be_replaced(
    backend: Backend, gateway: TableGateway
) -> None:
    small = [backend.write_file() for _ in range(3)]
    commit(gateway, *small)
    send_replacing(gateway, small[:2], backend.write_file(2))
    view = gateway.load()

    with pytest.raises(ConflictError) as caught:
        gateway.prepare(view, replacing(view, small[1:], backend.write_file(2)))

    assert caught.value.kind is ErrorKind.INPUTS_GONE
    assert backend.row_count() == 3


def test_of_two_replacements_of_one_file_one_lands(backend: Backend) -> None:
    one, other = backend.connect(), backend.connect()
    small = [backend.write_file() for _ in range(3)]
    commit(one, *small)
    view = one.load()
    request = one.prepare(view, replacing(view, small[:2], backend.write_file(2)))
    send_replacing(other, small[1:], backend.write_file(2))

    with pytest.raises(REFUSED):
        one.send(request)

    after = one.load()
    assert one.missing(after, [small[0].path, small[1].path]) == {small[1].path}
    assert backend.row_count() == 3


def test_a_replacement_beside_appends_lands_at_a_later_attempt(backend: Backend) -> None:
    compactor, worker = backend.connect(), backend.connect()
    small = [backend.write_file() for _ in range(4)]
    for file in small:
        commit(worker, file)
    merged = backend.write_file(3)
    for _ in range(3):
        view = compactor.load()
        request = compactor.prepare(view, replacing(view, small[:3], merged, text="stale"))
        commit(worker, backend.write_file(10))
        with pytest.raises(REFUSED):
            compactor.send(request)

    send_replacing(compactor, small[:3], merged)

    assert backend.row_count() == 34
    commit(worker, backend.write_file(1))
    assert backend.row_count() == 35
    assert worker.missing(worker.load(), [file.path for file in small]) == {
        file.path for file in small[:3]
    }


def test_nothing_is_live_in_an_empty_table(gateway: TableGateway) -> None:
    assert gateway.missing(gateway.load(), ["memory://x"]) == {"memory://x"}
    assert gateway.missing(gateway.load(), []) == set()


def test_a_replacement_is_written_as_the_iceberg_specification_says(tmp_path: Path) -> None:
    backend = sqlite_backend(tmp_path)
    gateway = backend.connect()
    small = [backend.write_file(n) for n in (1, 2, 3)]
    added_by = [commit(gateway, file) for file in small]
    before = summary_of(backend)

    change = send_replacing(gateway, [small[0], small[1]], merged := backend.write_file(3))

    table = backend.catalog.load_table(backend.identifier)
    head = table.current_snapshot()
    assert head is not None
    manifests = head.manifests(table.io)
    entries = [
        e for m in manifests for e in m.fetch_manifest_entry(table.io, discard_deleted=False)
    ]
    seen = {
        e.data_file.file_path: (
            e.status.name,
            e.snapshot_id,
            e.sequence_number,
            e.file_sequence_number,
        )
        for e in entries
    }
    assert seen == {
        small[0].path: ("DELETED", change.snapshot_id, 1, 1),
        small[1].path: ("DELETED", change.snapshot_id, 2, 2),
        small[2].path: ("ADDED", added_by[2], 3, 3),
        # The rows are as old as the youngest of them; the file is as young as its snapshot.
        merged.path: ("ADDED", change.snapshot_id, 2, 4),
    }
    after = summary_of(backend)
    for total, plus, minus in (
        ("total-data-files", "added-data-files", "deleted-data-files"),
        ("total-records", "added-records", "deleted-records"),
        ("total-files-size", "added-files-size", "removed-files-size"),
    ):
        assert int(after[total]) == int(before[total]) + int(after[plus]) - int(after[minus])
    assert after["total-data-files"] == "2"
    assert after["total-records"] == "6"
    commit(gateway)
    assert DELETED_FILES not in counts_of(backend)


DELETED_FILES = "manifests with nothing but deleted files"


def summary_of(backend: IcebergBackend) -> dict[str, str]:
    head = backend.catalog.load_table(backend.identifier).current_snapshot()
    assert head is not None
    assert head.summary is not None
    return head.summary.additional_properties


def counts_of(backend: IcebergBackend) -> set[str]:
    table = backend.catalog.load_table(backend.identifier)
    head = table.current_snapshot()
    assert head is not None
    manifests = head.manifests(table.io)
    return {
        DELETED_FILES for m in manifests if not m.added_files_count and not m.existing_files_count
    }


def test_replacing_some_files_of_a_manifest_keeps_the_others(tmp_path: Path) -> None:
    backend = sqlite_backend(tmp_path)
    gateway = backend.connect()
    small = [backend.write_file(n) for n in (1, 2, 3)]
    added_by = commit(gateway, *small)
    send_replacing(gateway, small[:2], backend.write_file(3))

    table = backend.catalog.load_table(backend.identifier)
    head = table.current_snapshot()
    assert head is not None
    entries = [e for m in head.manifests(table.io) for e in m.fetch_manifest_entry(table.io)]
    (left,) = (e for e in entries if e.data_file.file_path == small[2].path)
    assert (left.status.name, left.snapshot_id) == ("EXISTING", added_by)
    assert (left.sequence_number, left.file_sequence_number) == (1, 1)
    assert left.data_file.lower_bounds


def test_rewritten_manifests_are_used_again_by_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = sqlite_backend(tmp_path)
    compactor, worker = backend.connect(), backend.connect()
    small = [backend.write_file() for _ in range(40)]
    commit(worker, *small)
    merged = backend.write_file(39)
    written: list[int] = []
    write = NewSnapshot.write_manifest

    def counting(self: NewSnapshot, spec_id: int, entries: Iterable[ManifestEntry]) -> ManifestFile:
        listed = list(entries)
        written.append(len([e for e in listed if e.status.name == "EXISTING"]))
        return write(self, spec_id, listed)

    monkeypatch.setattr(NewSnapshot, "write_manifest", counting)
    for _ in range(2):
        view = compactor.load()
        compactor.prepare(view, replacing(view, small[1:], merged))
        commit(worker, backend.write_file())
    assert sum(written) == 1

    send_replacing(compactor, small[1:], merged)

    assert backend.row_count() == 42
