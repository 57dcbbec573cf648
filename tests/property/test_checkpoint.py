"""Properties of the checkpoint algebra.

Goal: no sequence of writes loses or repeats an offset (I1), and no checkpoint moves back (I2).
Method: cut the offsets of a few Kafka partitions into contiguous ranges, apply them in any grouping
and compare with the obvious model: the set of offsets that were taken.
"""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from k2i_core.errors import ConflictError, CorruptionError, ErrorKind
from k2i_core.offsets import Checkpoint, OffsetRange, TopicPartition

PARTITIONS = tuple(TopicPartition("events", n) for n in range(3))


@st.composite
def contiguous_ranges(draw: st.DrawFn, tp: TopicPartition = PARTITIONS[0]) -> list[OffsetRange]:
    start = draw(st.integers(0, 1_000))
    ranges: list[OffsetRange] = []
    for length in draw(st.lists(st.integers(1, 50), min_size=1, max_size=12)):
        ranges.append(OffsetRange(tp, start, start + length))
        start += length
    return ranges


@st.composite
def interleaved_ranges(draw: st.DrawFn) -> list[OffsetRange]:
    """Contiguous within each partition, mixed between them."""
    queues = [draw(contiguous_ranges(tp)) for tp in PARTITIONS]
    mixed: list[OffsetRange] = []
    while queues := [queue for queue in queues if queue]:
        mixed.append(draw(st.sampled_from(queues)).pop(0))
    return mixed


def advance(ranges: list[OffsetRange], start: Checkpoint | None = None) -> Checkpoint:
    return (start or Checkpoint()).advance(ranges)


@given(interleaved_ranges())
def test_ranges_reach_the_end_of_the_last_one_of_each_partition(ranges):
    last = {r.topic_partition: r.next_offset for r in ranges}

    assert advance(ranges).next_offsets == last


@given(interleaved_ranges(), st.data())
def test_grouping_does_not_matter(ranges, data):
    cut = data.draw(st.integers(0, len(ranges)))

    assert advance(ranges[cut:], advance(ranges[:cut])) == advance(ranges)


@given(interleaved_ranges())
def test_every_offset_from_the_first_to_the_next_was_taken_exactly_once(ranges):
    taken = [(r.topic_partition, o) for r in ranges for o in range(r.start_offset, r.next_offset)]
    first: dict[TopicPartition, int] = {}
    for r in ranges:
        first.setdefault(r.topic_partition, r.start_offset)

    expected = [
        (tp, o) for tp, n in advance(ranges).next_offsets.items() for o in range(first[tp], n)
    ]
    assert sorted(taken) == sorted(expected)


@given(contiguous_ranges(), st.data())
def test_a_repeated_range_is_a_conflict(ranges, data):
    repeated = data.draw(st.sampled_from(ranges))

    with pytest.raises(ConflictError) as raised:
        advance([repeated], advance(ranges))

    assert raised.value.kind is ErrorKind.CHECKPOINT_STALE


@given(contiguous_ranges(), st.integers(1, 100), st.integers(1, 100))
def test_a_range_that_reaches_back_is_a_conflict_however_far_it_goes(ranges, back, length):
    end = ranges[-1].next_offset
    assume(back <= end)
    overlapping = OffsetRange(PARTITIONS[0], end - back, end - back + length)

    with pytest.raises(ConflictError):
        advance([overlapping], advance(ranges))


@given(contiguous_ranges(), st.integers(1, 100))
def test_a_skipped_offset_is_corruption(ranges, gap):
    end = ranges[-1].next_offset

    with pytest.raises(CorruptionError) as raised:
        advance([OffsetRange(PARTITIONS[0], end + gap, end + gap + 1)], advance(ranges))

    assert raised.value.kind is ErrorKind.CHECKPOINT_GAP


@given(interleaved_ranges(), st.data())
def test_a_refused_range_changes_nothing(ranges, data):
    checkpoint = advance(ranges)
    before = dict(checkpoint.next_offsets)

    with pytest.raises(ConflictError):
        checkpoint.advance([data.draw(st.sampled_from(ranges))])

    assert checkpoint.next_offsets == before


next_offsets = st.dictionaries(st.sampled_from(PARTITIONS), st.integers(0, 1_000))


@given(next_offsets, next_offsets)
def test_growing_takes_the_larger_of_each_and_never_shrinks(stored, other):
    grown = Checkpoint(stored).grow(other).next_offsets

    assert grown == {tp: max(stored.get(tp, 0), other.get(tp, 0)) for tp in {*stored, *other}}


@given(next_offsets, next_offsets)
def test_growing_twice_is_growing_once(stored, other):
    grown = Checkpoint(stored).grow(other)

    assert grown.grow(other) == grown


@given(next_offsets)
def test_a_checkpoint_is_a_value(stored):
    given_offsets = dict(stored)
    checkpoint = Checkpoint(given_offsets)
    given_offsets[PARTITIONS[0]] = -1

    assert checkpoint.next_offsets == stored
    with pytest.raises(TypeError):
        checkpoint.next_offsets[PARTITIONS[0]] = 1


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5), (-1, 3)])
def test_a_range_that_is_empty_or_negative_is_our_bug(start, end):
    with pytest.raises(AssertionError):
        OffsetRange(PARTITIONS[0], start, end)
