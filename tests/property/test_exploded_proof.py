"""Properties of the proof of a table that holds several rows of a record.

Goal: the proof accuses exactly the records of which a row is lost, doubled or one too many.
Method: draw how many rows each record became and one fault for some; store them in any order, in
batches, and compare with looking at one record at a time.
"""

import random

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.audit.findings import FindingKind
from k2i_core.audit.offset_set import SeenOffsets
from k2i_core.audit.proof import PartitionClaim, prove_partition
from k2i_core.audit.seen_items import ItemNumbers, SeenItems
from k2i_core.ledger import LedgerRange, Totals
from k2i_core.offsets import OffsetRange, TopicPartition
from tests.property.test_partition_proof import accused

P0 = TopicPartition("orders", 0)
ROWS = "none", "lost row", "doubled row", "row too many", "lost record"

records = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(ROWS)), min_size=1, max_size=30)


def stored(first: int, drawn: list[tuple[int, str]], chance: random.Random) -> SeenItems:
    """Store each record's rows, but for its fault."""
    rows: list[tuple[int, int, int]] = []
    for offset, (count, fault) in enumerate(drawn, first):
        own = [(offset, number, count) for number in range(count)]
        if own and fault == "lost row":
            own.remove(chance.choice(own))
        elif own and fault == "doubled row":
            own.append(chance.choice(own))
        elif own and fault == "row too many":
            own.append((offset, count + chance.randrange(2), count))
        elif fault == "lost record":
            own = []
        rows += own
    chance.shuffle(rows)
    seen = SeenItems()
    for start in range(0, len(rows), 7):
        columns = list(zip(*rows[start : start + 7], strict=True))
        numbers = [pa.array(column, pa.int32()) for column in columns[1:]]
        seen.add(pa.array(columns[0], pa.int64()), ItemNumbers(*numbers))
    return seen


@given(
    st.integers(0, 5) | st.integers(2**40, 2**40 + 5), records, st.randoms(use_true_random=False)
)
def test_the_proof_accuses_exactly_the_records_whose_rows_are_not_all_there_once(
    first, drawn, chance
):
    seen = stored(first, drawn, chance)
    rows = seen.offsets()
    counts = [count for count, _ in drawn]
    whole = OffsetRange(P0, first, first + len(drawn))
    totals = Totals(
        row_count=sum(1 for count in counts if count),
        filtered_count=counts.count(0),
        extra_row_count=sum(count - 1 for count in counts if count),
    )
    claim = PartitionClaim(P0, first, first + len(drawn), totals, (LedgerRange(whole, totals),))

    proof, findings = prove_partition(claim, rows, SeenOffsets(), None, 1_000, None, seen)

    def with_fault(fault: str, least: int) -> set[int]:
        placed = enumerate(drawn, first)
        return {o for o, (count, found) in placed if found == fault and count >= least}

    torn = with_fault("lost row", 2) | with_fault("row too many", 1)
    assert accused(findings, FindingKind.INCOMPLETE) == torn
    assert accused(findings, FindingKind.DOUBLED) == with_fault("doubled row", 1)
    gone = with_fault("lost record", 1) | (with_fault("lost row", 1) - with_fault("lost row", 2))
    mismatched = accused(findings, FindingKind.COUNT_MISMATCH)
    assert gone <= mismatched
    assert bool(findings) == bool(torn | gone | with_fault("doubled row", 1))
    assert proof.row_count == rows.count
