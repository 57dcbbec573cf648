"""The transaction log as its users see it, over the file and over the fake of the simulation.

Goal: a successor learns exactly which files may be garbage, and nobody loses a log that is needed.
Method: one suite, two implementations; what only files can do is tested on files alone.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from k2i_core.errors import ErrorKind, UnavailableError
from k2i_core.ingest.ports import TransactionLog
from k2i_core.ledger import Epoch, Owner, Share
from k2i_core.txlog import directory as directory_module
from k2i_core.txlog.directory import SUFFIX, TransactionLogFile
from tests.fakes.memory_transaction_log import LogDirectory, MemoryTransactionLog

OWNER = Owner(Epoch(7), Share(0, 2))

OpenLog = Callable[[str], TransactionLog]


@pytest.fixture
def open_file(tmp_path: Path) -> Iterator[Callable[[str], TransactionLogFile]]:
    opened: list[TransactionLogFile] = []

    def open_one(name: str) -> TransactionLogFile:
        opened.append(TransactionLogFile(tmp_path, name))
        return opened[-1]

    yield open_one
    for log in opened:
        log._file.close()  # as the operating system does for a worker that is gone


@pytest.fixture(params=["file", "memory"])
def open_log(request: pytest.FixtureRequest) -> OpenLog:
    if request.param == "file":
        return request.getfixturevalue("open_file")
    host = LogDirectory()
    return lambda name: MemoryTransactionLog(host, name)


def only(log: TransactionLog):
    (earlier,) = log.earlier()
    return earlier


def test_a_log_tells_its_owner_and_the_files_that_did_not_land(open_log):
    first = open_log("first")
    first.took_over(OWNER)
    first.file("t", 1, "a")
    first.file("d", 1, "b")
    first.file("t", 2, "c")
    first.file("t", 2, "d")
    first.attempted("t", 99)
    first.landed("t", 1)

    earlier = only(open_log("second"))

    assert earlier.owner == OWNER
    assert earlier.unlanded_paths == {"d": ("b",), "t": ("c", "d")}


def test_a_worker_that_died_before_its_take_over_left_no_owner_and_no_files(open_log):
    open_log("first")

    earlier = only(open_log("second"))

    assert earlier.owner is None
    assert earlier.unlanded_paths == {}


def test_a_log_does_not_list_itself(open_log):
    log = open_log("first")
    log.took_over(OWNER)

    assert log.earlier() == ()


def test_a_log_with_everything_landed_is_gone_when_closed(open_log):
    first = open_log("first")
    first.took_over(OWNER)
    first.file("t", 1, "a")
    first.landed("t", 1)
    first.close()

    assert open_log("second").earlier() == ()


def test_a_log_with_files_left_stays_when_closed(open_log):
    first = open_log("first")
    first.took_over(OWNER)
    first.file("t", 1, "a")
    first.close()

    assert only(open_log("second")).unlanded_paths == {"t": ("a",)}


def test_a_settled_log_is_pruned_and_pruning_again_is_fine(open_log):
    first = open_log("first")
    first.took_over(OWNER)
    first.file("t", 1, "a")
    first.close()
    second = open_log("second")
    name = only(second).name

    second.prune(name)
    second.prune(name)

    assert second.earlier() == ()


def test_the_log_of_a_worker_that_still_runs_is_not_pruned(open_log):
    first, second = open_log("first"), open_log("second")
    first.took_over(OWNER)

    second.prune(only(second).name)
    first.file("t", 1, "a")

    assert only(second).unlanded_paths == {"t": ("a",)}


def test_logs_of_several_workers_are_told_apart(open_log):
    for name, epoch in (("first", 1), ("second", 2)):
        log = open_log(name)
        log.took_over(Owner(Epoch(epoch), Share(0, 1)))
        log.file("t", 1, f"{name}.parquet")

    earlier = open_log("third").earlier()

    assert [e.owner.epoch for e in earlier if e.owner] == [1, 2]
    assert [e.unlanded_paths for e in earlier] == [
        {"t": ("first.parquet",)},
        {"t": ("second.parquet",)},
    ]


def test_a_killed_worker_leaves_what_it_wrote(tmp_path, open_file):
    script = (
        "import os, sys; from pathlib import Path\n"
        "from k2i_core.ledger import Epoch, Owner, Share\n"
        "from k2i_core.txlog.directory import TransactionLogFile\n"
        "log = TransactionLogFile(Path(sys.argv[1]), 'first')\n"
        "log.took_over(Owner(Epoch(7), Share(0, 2)))\n"
        "log.file('t', 1, 'a')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    died = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert died.returncode == -9
    second = open_file("second")

    earlier = only(second)
    second.prune(earlier.name)

    assert (earlier.owner, earlier.unlanded_paths) == (OWNER, {"t": ("a",)})
    assert second.earlier() == ()


def test_a_torn_last_entry_is_cut_off(tmp_path, open_file):
    first = open_file("first")
    first.took_over(OWNER)
    first.file("t", 1, "a")
    first.file("t", 1, "b")
    first.close()
    path = tmp_path / f"first{SUFFIX}"
    path.write_bytes(path.read_bytes()[:-3])

    assert only(open_file("second")).unlanded_paths == {"t": ("a",)}


def test_a_long_log_starts_anew_once_everything_landed(tmp_path, open_file, monkeypatch):
    monkeypatch.setattr(directory_module, "ROTATE_BYTES", 400)
    log = open_file("first")
    log.took_over(OWNER)
    sizes = []
    for generation in range(1, 40):
        log.file("t", generation, f"path-{generation}")
        log.landed("t", generation)
        sizes.append((tmp_path / f"first{SUFFIX}").stat().st_size)
    log.file("t", 40, "last")

    earlier = only(open_file("second"))

    assert max(sizes) < 600
    assert (earlier.owner, earlier.unlanded_paths) == (OWNER, {"t": ("last",)})


def test_a_long_log_keeps_what_has_not_landed(open_file, monkeypatch):
    monkeypatch.setattr(directory_module, "ROTATE_BYTES", 100)
    log = open_file("first")
    log.took_over(OWNER)
    log.file("d", 1, "dead letters")
    for generation in range(1, 9):
        log.file("t", generation, f"path-{generation}")
        log.landed("t", generation)

    unlanded = only(open_file("second")).unlanded_paths

    assert unlanded == {"d": ("dead letters",)}


def test_an_attempt_is_on_the_disk_before_the_call_returns(tmp_path, open_file, monkeypatch):
    log = open_file("first")
    log.took_over(OWNER)
    synced: list[bytes] = []
    path = tmp_path / f"first{SUFFIX}"
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_bytes()))

    log.attempted("t", 99)

    assert synced
    assert b'["attempted","t",99]' in synced[0]


def test_a_disk_that_fails_is_said_so(open_file, monkeypatch):
    log = open_file("first")
    log.took_over(OWNER)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(UnavailableError, match="No space left") as raised:
        log.attempted("t", 99)

    assert raised.value.kind is ErrorKind.STORAGE_UNAVAILABLE


def test_a_directory_that_cannot_be_made_is_said_so(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(UnavailableError, match="state_directory"):
        TransactionLogFile(tmp_path / "file" / "logs", "first")
