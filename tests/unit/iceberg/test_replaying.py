"""What a replay and a drop may commit, and when they must look again.

Goal: I1 as decided by pure functions. Method: one history, one question, one answer.
"""

from dataclasses import replace

import pytest

from k2i_core.errors import ConflictError, CorruptionError, FencedError
from k2i_core.iceberg.gateway import SnapshotView, TableView
from k2i_core.iceberg.replaying import DROP_OPERATION, Replay, decide_drop, decide_replay
from k2i_core.ledger import Entry, Epoch, Identity, Owner, Share, Totals
from k2i_core.offsets import Checkpoint, TopicPartition
from tests.fakes.memory_files import written_file
from tests.fakes.memory_table import Version

P0, P1 = (TopicPartition("orders", n) for n in range(2))
STORED = Entry(
    Identity("pipeline", "cluster", {"orders": "topic-id"}),
    Checkpoint({P0: 100, P1: 50}),
    (Owner(Epoch(7), Share(0, 1)),),
    totals={P0: Totals(88, 5, 3, 2, 0, 2), P1: Totals(40, 10)},
    first_offsets={P0: 0, P1: 0},
    snapshot_id=3,
)
FILE = written_file("new.parquet", 4)
REPLAY = Replay(3, STORED, {P0: 4}, (FILE,))


def history(*snapshot_ids: int, operations: dict[int, str] | None = None) -> TableView:
    """A table whose head is the last of these, each the child of the one before."""
    parents = (None, *snapshot_ids)
    snapshots = {
        number: SnapshotView(
            number, parent, number, number, {"k2i.operation": (operations or {}).get(number, "")}
        )
        for number, parent in zip(snapshot_ids, parents, strict=False)
    }
    return Version("uuid", head=snapshot_ids[-1], snapshots=snapshots).view


def test_dead_letters_become_rows_in_the_counts_and_nothing_else_changes():
    decision = decide_replay(history(1, 2, 3), STORED, REPLAY)

    assert decision.entry.totals == {P0: Totals(92, 1, 3, 2, 0, 6), P1: Totals(40, 10)}
    assert decision.entry.totals[P0].as_read == STORED.totals[P0].as_read
    assert replace(decision.entry, totals=STORED.totals) == STORED
    assert decision.files == (FILE,)
    assert decision.ranges == ()


def test_what_a_worker_committed_meanwhile_is_kept():
    later = replace(
        STORED,
        checkpoint=Checkpoint({P0: 130, P1: 50}),
        totals={**STORED.totals, P0: Totals(110, 13, 3, 2, 0, 2)},
        owners=(Owner(Epoch(9), Share(0, 1)),),
    )

    decision = decide_replay(history(1, 2, 3, 4, 5), later, REPLAY)

    assert decision.entry.checkpoint == later.checkpoint
    assert decision.entry.owners == later.owners
    assert decision.entry.totals[P0] == Totals(114, 9, 3, 2, 0, 6)


def test_another_replay_of_the_same_kafka_partition_means_looking_again():
    later = replace(STORED, totals={**STORED.totals, P0: Totals(89, 4, 3, 2, 0, 3)})

    with pytest.raises(ConflictError) as caught:
        decide_replay(history(1, 2, 3, 4), later, REPLAY)
    assert not isinstance(caught.value, FencedError)


def test_a_replay_of_another_kafka_partition_does_not_matter():
    later = replace(STORED, totals={**STORED.totals, P1: Totals(45, 5, 0, 0, 0, 5)})

    assert decide_replay(history(1, 2, 3, 4), later, REPLAY).entry.totals[P1].replayed_count == 5


def test_a_rewind_means_looking_again_even_when_the_counts_are_the_same():
    with pytest.raises(ConflictError):
        decide_replay(history(1, 2, 9), STORED, REPLAY)


def test_a_topic_that_was_created_again_means_looking_again():
    restarted = replace(STORED, since_sequence_numbers={"orders": 4})
    other_cluster = replace(STORED, identity=replace(STORED.identity, cluster_id="other"))

    for now in (restarted, other_cluster):
        with pytest.raises(ConflictError):
            decide_replay(history(1, 2, 3, 4), now, REPLAY)


def test_a_ledger_that_cannot_be_believed_is_left_alone():
    with pytest.raises(CorruptionError):
        decide_replay(history(3), None, REPLAY)
    with pytest.raises(CorruptionError):
        decide_drop(history(3), None, 3, (FILE,))


def test_more_rows_than_there_were_dead_letters_are_our_fault():
    with pytest.raises(CorruptionError):
        decide_replay(history(1, 2, 3), STORED, replace(REPLAY, counts={P0: 6}))


def test_marks_are_added_whatever_workers_did_meanwhile():
    view = history(1, 2, 3, 4, 5, operations={4: "dead-letters", 5: "take-over"})

    decision = decide_drop(view, STORED, 3, (FILE,))

    assert decision.entry == STORED
    assert decision.files == (FILE,)


@pytest.mark.parametrize("operation", [DROP_OPERATION, "accept-gap"])
def test_marks_of_others_and_a_restarted_topic_mean_looking_again(operation: str):
    with pytest.raises(ConflictError):
        decide_drop(history(1, 2, 3, 4, 5, operations={4: operation}), STORED, 3, (FILE,))


def test_marks_for_a_history_that_is_gone_mean_looking_again():
    with pytest.raises(ConflictError):
        decide_drop(history(1, 2, 9), STORED, 3, (FILE,))
