"""Properties of the ledger: what is written is read back, and who owns what.

Goal: an entry survives its encoding, and ownership means the same as a plain table from Kafka
partition to take-over. Method: any entry through the codec; any sequence of take-overs against a
dict over all residues of the worker counts.
"""

import json
from math import lcm

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from k2i_core.errors import CorruptionError
from k2i_core.ledger import (
    Entry,
    Epoch,
    Identity,
    LedgerRange,
    Owner,
    Share,
    Totals,
    decode_entry,
    decode_ranges,
    encode_entry,
    encode_ranges,
    ranges_between,
)
from k2i_core.offsets import Checkpoint, OffsetRange, TopicPartition

offsets = st.integers(0, 2**62)
counts = st.integers(0, 2**40)
topics = st.text(min_size=1, max_size=8)
partitions = st.builds(TopicPartition, topics, st.integers(0, 5_000))
few = st.just(0) | counts
totals = st.builds(Totals, counts, counts, counts, counts, counts, few, few)


@st.composite
def shares(draw: st.DrawFn, workers_max: int = 6) -> Share:
    workers = draw(st.integers(1, workers_max))
    return Share(draw(st.integers(0, workers - 1)), workers)


@st.composite
def take_overs(draw: st.DrawFn) -> list[Owner]:
    chosen = draw(st.lists(shares(), max_size=8))
    return [Owner(Epoch(3 * n + 2), share) for n, share in enumerate(chosen)]


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    next_offsets = draw(st.dictionaries(partitions, offsets, max_size=12))
    of_topics = {tp.topic for tp in next_offsets}
    topic_ids = {topic: draw(st.text(max_size=5)) for topic in of_topics}
    return Entry(
        identity=Identity(draw(st.text(max_size=9)), draw(st.text(max_size=9)), topic_ids),
        checkpoint=Checkpoint(next_offsets),
        owners=tuple(draw(take_overs())),
        totals={tp: draw(totals) for tp in next_offsets},
        first_offsets={tp: draw(offsets) for tp in next_offsets},
        since_sequence_numbers={
            topic: draw(st.integers(1, 9)) for topic in sorted(of_topics) if draw(st.booleans())
        },
        snapshot_id=draw(st.integers(1, 2**63 - 1)),
    )


@st.composite
def ledger_ranges(draw: st.DrawFn) -> LedgerRange:
    start = draw(offsets)
    length = draw(st.integers(1, 2**40))
    of_range = OffsetRange(draw(partitions), start, start + length)
    if draw(st.booleans()):
        return LedgerRange(of_range, Totals(lost_count=length), lost=True)
    of_records = [draw(counts) for _ in range(4)]
    return LedgerRange(of_range, Totals(*of_records, extra_row_count=draw(few)))


@given(entries())
def test_an_entry_is_read_back_as_it_was_written(entry):
    assert decode_entry(encode_entry(entry)) == entry


@given(st.lists(ledger_ranges(), max_size=8))
def test_ranges_are_read_back_in_order(ranges):
    assert decode_ranges(encode_ranges(ranges)) == tuple(sorted(ranges, key=lambda r: r.offsets))


@given(entries(), st.data())
def test_a_damaged_entry_is_corruption_and_nothing_else(entry, data):
    text = encode_entry(entry)
    cut = data.draw(st.integers(0, len(text) - 1))

    with pytest.raises(CorruptionError):
        decode_entry(text[:cut])


@example([["", []]])
@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists, max_leaves=6))
def test_any_other_json_is_corruption(document):
    for decode in (decode_entry, decode_ranges):
        try:
            decode(json.dumps(document))
        except CorruptionError:
            continue
        assert document in ([], "")


def test_an_entry_of_a_later_version_is_refused_with_its_version():
    later = encode_entry(Entry(Identity("p", "c", {}), Checkpoint())).replace(":1,", ":2,", 1)

    with pytest.raises(CorruptionError, match="version=2"):
        decode_entry(later)


def owner_table(owners: list[Owner]) -> dict[int, Owner]:
    """The model: the last one to take a partition owns it; all residues of all counts."""
    table: dict[int, Owner] = {}
    width = lcm(*(owner.share.workers for owner in owners)) if owners else 1
    for owner in owners:
        table.update(dict.fromkeys(range(owner.share.worker, width, owner.share.workers), owner))
    return table


def taken_over_by(owners: list[Owner]) -> Entry:
    entry = Entry(Identity("p", "c", {}), Checkpoint())
    for owner in owners:
        entry = entry.taken_over(owner)
    return entry


@given(take_overs())
def test_the_youngest_holder_of_a_partition_owns_it(owners):
    entry, table = taken_over_by(owners), owner_table(owners)

    for kafka_partition in range(max(table, default=0) + 1):
        found = entry.owner_of(TopicPartition("t", kafka_partition))
        assert found == table.get(kafka_partition)


@given(take_overs())
def test_a_worker_owns_its_whole_share_when_nobody_took_any_of_it_since(owners):
    entry, table = taken_over_by(owners), owner_table(owners)
    width = max(table, default=0) + 1

    for owner in owners:
        mine = range(owner.share.worker, width, owner.share.workers)
        assert entry.owns_whole_share(owner) == all(table[n] == owner for n in mine)


@given(take_overs())
def test_owners_that_own_nothing_any_more_are_forgotten_and_no_others(owners):
    assert set(taken_over_by(owners).owners) == set(owner_table(owners).values())


@given(take_overs(), st.randoms())
def test_the_order_in_which_take_overs_are_read_does_not_matter(owners, random):
    shuffled = list(owners)
    random.shuffle(shuffled)

    assert set(taken_over_by(shuffled).owners) == set(taken_over_by(owners).owners)


@given(take_overs())
def test_the_youngest_take_over_always_owns_its_whole_share(owners):
    entry = taken_over_by(owners)

    assert all(entry.owns_whole_share(owner) for owner in owners[-1:])
    assert entry.epoch_max == (owners[-1].epoch if owners else 0)


@given(take_overs(), shares())
def test_an_owner_that_was_never_written_owns_nothing(owners, share):
    stranger = Owner(Epoch(1_000), share)

    assert not taken_over_by(owners).owns_whole_share(stranger)


@given(
    st.dictionaries(partitions, st.tuples(st.integers(0, 99), st.integers(0, 20)), max_size=8),
    st.data(),
)
def test_the_ranges_of_a_commit_are_the_difference_of_two_entries(
    moves: dict[TopicPartition, tuple[int, int]], data: st.DataObject
) -> None:
    identity = Identity("p", "c", {})
    before = {tp: Totals(*data.draw(st.tuples(*[st.integers(0, 9)] * 4))) for tp in moves}
    added = {tp: Totals(*data.draw(st.tuples(*[st.integers(0, 9)] * 4))) for tp in moves}
    first = Entry(identity, Checkpoint({tp: s for tp, (s, _) in moves.items()}), totals=before)
    second = Entry(
        identity,
        Checkpoint({tp: s + n for tp, (s, n) in moves.items()}),
        totals={tp: before[tp].plus(added[tp]) for tp in moves},
    )

    found = ranges_between(first, second)

    assert found == tuple(
        LedgerRange(OffsetRange(tp, s, s + n), added[tp])
        for tp, (s, n) in sorted(moves.items())
        if n
    )
