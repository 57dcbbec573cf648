"""Properties of the proof where dead letters became rows.

Goal: a replayed dead letter is no fault, and any one fault beside replays is found.
Method: draw what became of every offset and where commits were cut, store it, put one fault in.
"""

from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap64

from k2i_core.audit.findings import FindingKind
from k2i_core.audit.offset_set import SeenOffsets
from k2i_core.audit.proof import PartitionClaim, prove_partition
from k2i_core.ledger import LedgerRange, Totals
from k2i_core.offsets import OffsetRange, TopicPartition

P0 = TopicPartition("orders", 0)
FATES = ("row", "dead", "replayed", "dropped", "tombstone", "absent")


@st.composite
def histories(draw):
    """Draw a start, one fate an offset, and which commits are retained."""
    fates = draw(st.lists(st.sampled_from(FATES), min_size=1, max_size=40))
    first = draw(st.integers(0, 5) | st.integers(2**40, 2**40 + 5))
    cuts = sorted(draw(st.sets(st.integers(1, 39), max_size=4)))
    bounds = [0, *(c for c in cuts if c < len(fates)), len(fates)]
    return first, fates, bounds, draw(st.integers(0, len(bounds) - 1))


def claim_of(first, fates, bounds, retained_from) -> PartitionClaim:
    def as_read(start, end):
        counted = fates[start:end]
        dead = sum(counted.count(fate) for fate in ("dead", "replayed", "dropped"))
        return Totals(counted.count("row"), dead, 0, counted.count("tombstone"))

    ranges = tuple(
        LedgerRange(OffsetRange(P0, first + start, first + end), as_read(start, end))
        for start, end in pairwise(bounds)
    )
    totals = as_read(0, len(fates)).replayed(fates.count("replayed"))
    return PartitionClaim(P0, first, first + len(fates), totals, ranges[retained_from:])


def seen(offsets) -> SeenOffsets:
    found = SeenOffsets()
    found.add(pa.array(sorted(offsets), pa.int64()))
    return found


def prove(history, rows, dead, dropped):
    first, fates, bounds, retained_from = history
    claim = claim_of(first, fates, bounds, retained_from)
    return prove_partition(claim, seen(rows), seen(dead), None, 1_000, BitMap64(dropped))


def stored(history):
    first, fates, _, _ = history
    placed = list(enumerate(fates, first))
    rows = {o for o, fate in placed if fate in ("row", "replayed")}
    dead = {o for o, fate in placed if fate in ("dead", "replayed", "dropped")}
    return rows, dead, {o for o, fate in placed if fate == "dropped"}


@given(histories())
def test_replayed_and_dropped_dead_letters_are_no_fault(history):
    proof, findings = prove(history, *stored(history))

    assert findings == ()
    fates = history[1]
    assert proof.row_count == fates.count("row") + fates.count("replayed")
    assert proof.dead_letter_count == fates.count("dead") + fates.count("dropped")
    assert proof.replayed_count == fates.count("replayed")
    assert proof.dropped_count == fates.count("dropped")


@given(histories(), st.data())
def test_a_row_that_is_gone_is_found(history, data):
    rows, dead, dropped = stored(history)
    if rows:
        gone = data.draw(st.sampled_from(sorted(rows)))
        _, findings = prove(history, rows - {gone}, dead, dropped)

        assert FindingKind.COUNT_MISMATCH in {finding.kind for finding in findings}


@given(histories(), st.data())
def test_a_row_beside_a_dead_letter_that_was_not_replayed_is_found(history, data):
    rows, dead, dropped = stored(history)
    if dead - rows:
        both = data.draw(st.sampled_from(sorted(dead - rows)))
        _, findings = prove(history, rows | {both}, dead, dropped)

        assert FindingKind.ROW_AND_DEAD_LETTER in {finding.kind for finding in findings}


@given(histories(), st.data())
def test_a_dead_letter_beside_a_row_that_never_was_one_is_found(history, data):
    rows, dead, dropped = stored(history)
    if rows - dead:
        both = data.draw(st.sampled_from(sorted(rows - dead)))
        _, findings = prove(history, rows, dead | {both}, dropped)

        kinds = {finding.kind for finding in findings}
        assert {FindingKind.ROW_AND_DEAD_LETTER, FindingKind.COUNT_MISMATCH} <= kinds


@given(histories(), st.data())
def test_a_dead_letter_that_is_gone_is_found_replayed_or_not(history, data):
    rows, dead, dropped = stored(history)
    if dead:
        gone = data.draw(st.sampled_from(sorted(dead)))
        _, findings = prove(history, rows, dead - {gone}, dropped)

        assert findings
