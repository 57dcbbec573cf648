"""What recovery may delete, and what it must leave alone (I7).

Goal: a file goes only when its writer can commit nothing more to that table and no retained
snapshot reaches it. Method: logs and ledger entries made by hand, a table that records deletions.
"""

import pytest

from k2i_core.ingest.recovery import is_settled, recover
from k2i_core.ledger import Entry, Epoch, Identity, Owner, Share
from k2i_core.offsets import Checkpoint
from k2i_core.records import EarlierLog, TableState
from tests.fakes.memory_transaction_log import LogDirectory, MemoryTransactionLog

OLD = Owner(Epoch(1), Share(0, 2))
SIBLING = Owner(Epoch(2), Share(1, 2))
OURS = Owner(Epoch(3), Share(0, 2))


class RecordingTable:
    """A table in which some paths are reachable."""

    def __init__(self, identifier: str, reachable: set[str]) -> None:
        self.identifier = identifier
        self.deleted: set[str] = set()
        self._reachable = reachable

    def reachable(self, _state: TableState, paths):
        return self._reachable & set(paths)

    def delete_files(self, paths) -> None:
        self.deleted |= set(paths)


def state(*owners: Owner) -> TableState:
    entry = Entry(Identity("p", "c", {}), Checkpoint(), owners, snapshot_id=1)
    return TableState(entry, None)


class Setup:
    def __init__(self) -> None:
        self.target = RecordingTable("t", {"t/landed"})
        self.dead_letters = RecordingTable("d", {"d/landed"})
        self.host = LogDirectory({"log": []})
        self.log = MemoryTransactionLog(self.host, "ours")

    def recover(self, owner: Owner | None, in_target: TableState, in_dead_letters: TableState):
        paths = {"t": ("t/landed", "t/lost"), "d": ("d/landed", "d/lost")}
        earlier = EarlierLog("log", owner, paths)
        tables = ((self.target, in_target), (self.dead_letters, in_dead_letters))
        recover([earlier], self.log, *tables)

    @property
    def is_pruned(self) -> bool:
        return "log" not in self.host.logs


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_files_of_a_fenced_worker_go_unless_a_snapshot_reaches_them(setup):
    setup.recover(OLD, state(SIBLING, OURS), state(SIBLING, OURS))

    assert (setup.target.deleted, setup.dead_letters.deleted) == ({"t/lost"}, {"d/lost"})
    assert setup.is_pruned


def test_files_of_a_sibling_that_owns_its_share_stay(setup):
    setup.recover(SIBLING, state(SIBLING, OURS), state(SIBLING, OURS))

    assert setup.target.deleted == setup.dead_letters.deleted == set()
    assert not setup.is_pruned


def test_each_table_is_judged_by_its_own_owners(setup):
    setup.recover(SIBLING, state(OURS), state(SIBLING, OURS))

    assert (setup.target.deleted, setup.dead_letters.deleted) == ({"t/lost"}, set())
    assert not setup.is_pruned


def test_a_worker_that_lost_one_partition_of_its_share_can_commit_nothing(setup):
    younger = Owner(Epoch(9), Share(0, 3))
    setup.recover(SIBLING, state(SIBLING, younger), state(SIBLING, younger))

    assert setup.target.deleted == {"t/lost"}


def test_files_without_an_owner_stay(setup):
    setup.recover(None, state(OURS), state(OURS))

    assert setup.target.deleted == set()
    assert not setup.is_pruned


def test_a_log_without_owner_and_files_is_pruned():
    assert is_settled(EarlierLog("log", None, {}), state(OURS))


def test_a_table_without_a_ledger_settles_nothing():
    assert not is_settled(EarlierLog("log", OLD, {}), TableState(None, None))


def test_an_owner_that_a_rewind_removed_is_settled():
    assert is_settled(EarlierLog("log", OLD, {}), state())
