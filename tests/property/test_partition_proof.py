"""Properties of the proof of one Kafka partition.

Goal: the proof accuses exactly the offsets that break the promise, for any fault.
Method: draw what became of every offset of a topic, store it with random losses and repetitions,
and compare with a model that looks at one offset at a time.
"""

import random
from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap64

from k2i_core.audit.findings import FindingKind
from k2i_core.audit.offset_set import SeenOffsets, ranges_of
from k2i_core.audit.proof import PartitionClaim, TopicContents, prove_partition
from k2i_core.ledger import LedgerRange, Totals
from k2i_core.offsets import OffsetRange, TopicPartition

P0 = TopicPartition("orders", 0)
FATES = ("row", "dead", "tombstone", "absent")
FAULTS = ("none", "none", "none", "none", "none", "lost", "doubled", "both")


@st.composite
def histories(draw):
    """Draw a start, one fate an offset, one fault an offset, and where commits were cut."""
    length = draw(st.integers(1, 60))
    first = draw(st.integers(0, 5) | st.integers(2**40, 2**40 + 5))
    fates = draw(st.lists(st.sampled_from(FATES), min_size=length, max_size=length))
    faults = draw(st.lists(st.sampled_from(FAULTS), min_size=length, max_size=length))
    cuts = sorted(draw(st.sets(st.integers(1, length - 1), max_size=5))) if length > 1 else []
    retained_from = draw(st.integers(0, len(cuts)))
    return first, fates, faults, [0, *cuts, length], retained_from


def claim_of(first, fates, bounds, retained_from) -> PartitionClaim:
    def totals(start, end):
        counted = fates[start:end]
        return Totals(counted.count("row"), counted.count("dead"), 0, counted.count("tombstone"))

    ranges = tuple(
        LedgerRange(OffsetRange(P0, first + start, first + end), totals(start, end))
        for start, end in pairwise(bounds)
    )
    end = len(fates)
    return PartitionClaim(P0, first, first + end, totals(0, end), ranges[retained_from:])


def store(first, fates, faults, seed) -> tuple[SeenOffsets, SeenOffsets]:
    rows, dead = [], []
    for offset, (fate, fault) in enumerate(zip(fates, faults, strict=True), first):
        if fate not in {"row", "dead"} or fault == "lost":
            continue
        (rows if fate == "row" else dead).append(offset)
        if fault == "doubled":
            (rows if fate == "row" else dead).append(offset)
        if fault == "both":
            (dead if fate == "row" else rows).append(offset)
    stored = SeenOffsets(), SeenOffsets()
    for seen, offsets in zip(stored, (rows, dead), strict=True):
        random.Random(seed).shuffle(offsets)
        for i in range(0, len(offsets), 9):
            seen.add(pa.array(offsets[i : i + 9], pa.int64()))
    return stored


def accused(findings, kind) -> set[int]:
    return {
        offset
        for finding in findings
        if finding.kind is kind
        for r in finding.ranges
        for offset in range(r.start_offset, r.next_offset)
    }


@given(histories(), st.integers(0, 100))
def test_the_proof_accuses_exactly_the_broken_offsets(history, seed):
    first, fates, faults, bounds, retained_from = history
    claim = claim_of(first, fates, bounds, retained_from)
    rows, dead = store(first, fates, faults, seed)
    by_offset = list(enumerate(zip(fates, faults, strict=True), first))
    topic = TopicContents(
        log_start_offset=0,
        end_offset=claim.next_offset,
        records=BitMap64([o for o, (fate, _) in by_offset if fate != "absent"]),
        tombstones=BitMap64([o for o, (fate, _) in by_offset if fate == "tombstone"]),
    )

    _, findings = prove_partition(claim, rows, dead, topic, 1000)

    def broken(fault):
        return {o for o, (fate, f) in by_offset if fate in {"row", "dead"} and f == fault}

    assert accused(findings, FindingKind.MISSING) == broken("lost")
    assert accused(findings, FindingKind.DOUBLED) == broken("doubled")
    assert accused(findings, FindingKind.ROW_AND_DEAD_LETTER) == broken("both")
    assert bool(findings) == bool(broken("lost") | broken("doubled") | broken("both"))


@given(histories(), st.integers(0, 100))
def test_without_the_topic_no_loss_goes_unnoticed_and_nothing_sound_is_accused(history, seed):
    first, fates, faults, bounds, retained_from = history
    claim = claim_of(first, fates, bounds, retained_from)
    rows, dead = store(first, fates, faults, seed)
    lost = {
        o
        for o, (fate, fault) in enumerate(zip(fates, faults, strict=True), first)
        if fate in {"row", "dead"} and fault == "lost"
    }
    harmed = any(
        fate in {"row", "dead"} and fault != "none"
        for fate, fault in zip(fates, faults, strict=True)
    )

    _, findings = prove_partition(claim, rows, dead, None, 1000)

    assert accused(findings, FindingKind.MISSING) <= lost
    assert bool(findings) == harmed


@given(st.sets(st.integers(0, 200)), st.integers(0, 30))
def test_listed_and_unlisted_offsets_are_all_offsets(offsets, limit):
    ranges, unlisted_count = ranges_of(P0, BitMap64(sorted(offsets)), limit)

    listed = {o for r in ranges for o in range(r.start_offset, r.next_offset)}
    assert listed <= offsets
    assert len(listed) + unlisted_count == len(offsets)
    assert all(r.next_offset not in offsets for r in ranges)
