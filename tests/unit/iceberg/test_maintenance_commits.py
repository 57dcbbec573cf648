"""Commits of maintenance: the checkpoint of each attempt's own load, and at most one landing.

Goal: a compaction beside a worker never carries an old checkpoint, and never lands on files that
are gone. Method: the real loop over a table in memory, as in `test_commit`.
"""

from dataclasses import replace

import pytest

from k2i_core.errors import ConfigError, ConflictError, ErrorKind
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.decisions import decide_carry
from k2i_core.iceberg.gateway import Replacement
from k2i_core.ledger import OPERATION_KEY
from k2i_core.records import CommitReport
from tests.fakes.faults import Reply
from tests.fakes.memory_files import written_file
from tests.unit.iceberg.test_commit import LIMITS, Setup, counted


def compact(committer: TableCommitter, *paths: str, output: str = "merged") -> CommitReport:
    replacement = Replacement(frozenset(paths), (written_file(output, 2, 10_000.0),))
    return committer.maintain(
        "compaction", lambda _view, stored: decide_carry(stored, replacements=(replacement,))
    )


def fed() -> Setup:
    setup = Setup()
    worker, owner = setup.claimed()
    for n in range(2):
        file = written_file(f"f{n}", 1, 10_000.0)
        worker.append(owner, counted(n, n + 1), (file,))
    setup.before_send.clear()
    setup.worker = lambda: worker.append(owner, counted(2, 3), (written_file("f2", 1, 10_000.0),))
    return setup


def live(setup: Setup) -> set[str]:
    return set(setup.table.current.live)


def test_an_append_in_between_keeps_its_offsets() -> None:
    setup = fed()
    setup.before_send.append(setup.worker)

    report = compact(setup.committer(), "f0", "f1")

    assert report.attempt_count == 2
    assert live(setup) == {"merged", "f2"}
    assert setup.next_offset() == 3
    head = setup.table.current.snapshots[setup.table.current.head]
    assert head.summary[OPERATION_KEY] == "compaction"


@pytest.mark.parametrize("reply", [Reply.LOST, Reply.REPLAYED_CONFLICT])
def test_a_lost_answer_lands_once(reply: Reply) -> None:
    setup = fed()
    setup.replies.append(reply)

    report = compact(setup.committer(), "f0", "f1")

    assert report.attempt_count == 1
    assert live(setup) == {"merged"}
    assert setup.deleted == []


def test_a_late_landing_and_a_second_attempt_are_one() -> None:
    setup = fed()
    setup.replies.append(Reply.LATE)

    compact(setup.committer(), "f0", "f1")

    with pytest.raises(ConflictError):
        setup.table.apply(setup.late[0])
    assert live(setup) == {"merged"}


def test_files_that_somebody_else_replaced_are_a_lost_race() -> None:
    setup = fed()
    setup.before_send.append(lambda: compact(setup.committer(), "f0", "f1", output="others"))

    with pytest.raises(ConflictError) as caught:
        compact(setup.committer(), "f0", "f1")

    assert caught.value.kind is ErrorKind.INPUTS_GONE
    assert live(setup) == {"others"}
    assert setup.deleted == []


def test_old_files_are_never_committed() -> None:
    setup = fed()
    setup.clock.sleep(5_000)

    with pytest.raises(ConflictError) as caught:
        compact(setup.committer(replace(LIMITS, file_age_seconds_max=60.0)), "f0", "f1")

    assert caught.value.kind is ErrorKind.FILES_TOO_OLD


def test_a_table_without_a_checkpoint_is_refused() -> None:
    setup = Setup()
    setup.append_foreign()

    with pytest.raises(ConfigError, match="no checkpoint"):
        compact(setup.committer(), "foreign-0")


def test_nothing_at_all_can_be_carried_forward() -> None:
    setup = fed()

    setup.committer().maintain("barrier", lambda _view, stored: decide_carry(stored))

    assert setup.next_offset() == 2
    assert live(setup) == {"f0", "f1"}
