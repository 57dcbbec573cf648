"""Who may commit what, and what the ledger says afterwards.

Goal: I1 and I2 as decided by pure functions. Method: one entry, one question, one answer.
"""

from dataclasses import replace

import pytest

from k2i_core.errors import ConfigError, ConflictError, DataLossError, ErrorKind, FencedError
from k2i_core.iceberg.decisions import (
    decide_append,
    decide_append_dead_letters,
    decide_claim,
    decide_extend,
    decide_take_over,
)
from k2i_core.ledger import (
    Entry,
    Epoch,
    Identity,
    Owner,
    Share,
    Totals,
    decode_entry,
    encode_entry,
)
from k2i_core.offsets import Checkpoint, OffsetRange, TopicPartition
from k2i_core.records import CountedRange, RangeCounts
from tests.fakes.memory_files import written_file
from tests.fakes.memory_table import Version

P0, P1, P2 = (TopicPartition("orders", n) for n in range(3))
IDENTITY = Identity("pipeline", "cluster", {"orders": "topic-id"})
OWNER = Owner(Epoch(7), Share(0, 2))
STORED = Entry(
    IDENTITY,
    Checkpoint({P0: 100, P1: 50, P2: 10}),
    (OWNER, Owner(Epoch(8), Share(1, 2))),
    totals={P0: Totals(90, 5, 3, 2)},
    first_offsets={P0: 0, P1: 0, P2: 0},
    snapshot_id=1,
)


def counted(tp: TopicPartition, start: int, end: int, **counts: int) -> CountedRange:
    return CountedRange(OffsetRange(tp, start, end), RangeCounts(**counts))


def view(last_sequence_number: int):
    return Version("uuid", last_sequence_number=last_sequence_number).view


def claim(stored: Entry | None, share: Share, *, sequence_number: int = 0, floor: int = 0):
    return decide_claim(
        view(sequence_number),
        stored,
        share=share,
        identity=IDENTITY,
        starts={P0: 3},
        epoch_floor=Epoch(floor),
    )


def test_the_first_claim_writes_the_starts_down():
    owner, decision = claim(None, Share(0, 1))

    assert owner == Owner(Epoch(1), Share(0, 1))
    assert decision.entry.checkpoint.next_offsets == {P0: 3}
    assert decision.entry.first_offsets == {P0: 3}
    assert decision.files == ()


def test_a_claim_moves_no_offset_that_the_ledger_knows():
    _, decision = claim(STORED, Share(0, 2))

    assert decision.entry.checkpoint == STORED.checkpoint
    assert decision.entry.totals == STORED.totals
    assert decision.entry.first_offsets == STORED.first_offsets


@pytest.mark.parametrize(
    ("sequence_number", "floor", "epoch"), [(20, 0, 21), (0, 30, 31), (0, 0, 9)]
)
def test_an_epoch_is_younger_than_sequence_number_floor_and_all_stored(
    sequence_number, floor, epoch
):
    owner, _ = claim(STORED, Share(0, 2), sequence_number=sequence_number, floor=floor)

    assert owner.epoch == epoch


def test_a_claim_keeps_the_owners_of_other_shares():
    owner, decision = claim(STORED, Share(0, 2), sequence_number=20)

    assert decision.entry.owners == (Owner(Epoch(8), Share(1, 2)), owner)


@pytest.mark.parametrize(
    ("identity", "error", "kind"),
    [
        (replace(IDENTITY, pipeline="other"), ConfigError, ErrorKind.PIPELINE_CHANGED),
        (replace(IDENTITY, cluster_id="other"), DataLossError, ErrorKind.CLUSTER_CHANGED),
        (
            replace(IDENTITY, topic_ids={"orders": "other"}),
            DataLossError,
            ErrorKind.TOPIC_RECREATED,
        ),
    ],
)
def test_a_take_over_refuses_a_table_of_another_source(identity, error, kind):
    with pytest.raises(error) as raised:
        decide_take_over(STORED, owner=OWNER, identity=identity, starts={})

    assert raised.value.kind is kind


def test_a_topic_added_to_the_pipeline_joins_the_identity():
    identity = replace(IDENTITY, topic_ids={"orders": "topic-id", "returns": "another-id"})

    decision = decide_take_over(
        STORED, owner=Owner(Epoch(9), Share(0, 2)), identity=identity, starts={}
    )

    assert decision.entry.identity.topic_ids == identity.topic_ids


def test_a_take_over_with_an_older_epoch_than_stored_is_fenced():
    stored = STORED.taken_over(Owner(Epoch(12), Share(0, 1)))

    with pytest.raises(FencedError) as raised:
        decide_take_over(stored, owner=Owner(Epoch(11), Share(1, 3)), identity=IDENTITY, starts={})

    assert raised.value.kind is ErrorKind.OWNER_CHANGED


@pytest.mark.parametrize("share", [Share(0, 1), Share(2, 3)])
def test_a_take_over_with_an_epoch_that_another_workers_lead_drew_too_is_fenced(share):
    stored = STORED.taken_over(Owner(Epoch(12), share))

    with pytest.raises(FencedError):
        decide_take_over(stored, owner=Owner(Epoch(12), Share(0, 1)), identity=IDENTITY, starts={})


def test_one_epoch_of_two_workers_that_share_nothing_is_no_conflict():
    stored = STORED.taken_over(Owner(Epoch(12), Share(1, 2)))
    owner = Owner(Epoch(12), Share(0, 2))
    decision = decide_take_over(stored, owner=owner, identity=IDENTITY, starts={})

    assert decision.entry.owns_whole_share(owner)


def test_a_claim_by_other_rules_stands_only_on_what_was_judged():
    arguments = {"share": Share(0, 2), "identity": IDENTITY, "starts": {}, "epoch_floor": Epoch(0)}
    owner, decision = decide_claim(view(0), STORED, routing="new", unmoved={P0: 100}, **arguments)

    assert decode_entry(encode_entry(decision.entry)).owner_of(P0).routing == owner.routing == "new"
    with pytest.raises(ConflictError):
        decide_claim(view(0), STORED, routing="new", unmoved={P0: 99}, **arguments)


def test_an_append_moves_offsets_and_totals_forward():
    file = written_file("a", 7)

    decision = decide_append(
        STORED,
        owner=OWNER,
        ranges=(
            counted(P0, 100, 110, row_count=6, dead_letter_count=2, tombstone_count=1),
            counted(P2, 10, 11, row_count=1),
        ),
        files=(file,),
    )

    assert decision.entry.checkpoint.next_offsets == {P0: 110, P1: 50, P2: 11}
    assert decision.entry.totals == {P0: Totals(96, 7, 3, 3), P2: Totals(1)}
    assert decision.entry.owners == STORED.owners
    assert [str(r.offsets) for r in decision.ranges] == ["orders/0[100,110)", "orders/2[10,11)"]
    assert decision.files == (file,)


@pytest.mark.parametrize(("start", "end"), [(99, 105), (0, 1), (101, 105)])
def test_an_append_that_does_not_start_at_the_checkpoint_is_fenced(start, end):
    with pytest.raises(FencedError) as raised:
        decide_append(STORED, owner=OWNER, ranges=(counted(P0, start, end),), files=())

    assert raised.value.kind is ErrorKind.CHECKPOINT_STALE


def test_an_append_of_a_partition_that_the_ledger_does_not_know_is_fenced():
    unknown = TopicPartition("orders", 4)

    with pytest.raises(FencedError, match="orders/4"):
        decide_append(STORED, owner=OWNER, ranges=(counted(unknown, 0, 1),), files=())


@pytest.mark.parametrize(
    "stored",
    [
        None,
        replace(STORED, owners=()),
        STORED.taken_over(Owner(Epoch(9), Share(0, 2))),
        STORED.taken_over(Owner(Epoch(9), Share(2, 3))),
    ],
    ids=["no ledger", "no owner", "same share", "one partition of it"],
)
def test_whoever_does_not_own_the_whole_share_is_fenced_everywhere(stored):
    ranges = (counted(P0, 100, 110),)

    for decide in (decide_append, decide_append_dead_letters):
        with pytest.raises(FencedError):
            decide(stored, owner=OWNER, ranges=ranges, files=())
    with pytest.raises(FencedError):
        decide_extend(stored, owner=OWNER, identity=IDENTITY, starts={})


def test_dead_letters_of_offsets_that_are_there_already_only_keep_the_checkpoint():
    decision = decide_append_dead_letters(
        STORED,
        owner=OWNER,
        ranges=(counted(P0, 20, 40), counted(P2, 5, 15)),
        files=(written_file("d"),),
    )

    assert decision.entry.checkpoint.next_offsets == {P0: 100, P1: 50, P2: 15}


def test_an_extension_adds_only_what_is_unknown():
    new = TopicPartition("orders", 4)

    decision = decide_extend(STORED, owner=OWNER, identity=IDENTITY, starts={new: 0, P0: 0})

    assert decision.entry.checkpoint.next_offsets == {P0: 100, P1: 50, P2: 10, new: 0}
    assert decision.entry.owners == STORED.owners
