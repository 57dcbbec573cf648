"""The proof of one Kafka partition: pure set algebra over what ledger, tables and topic hold.

Invariant I1: every offset a worker moved past is a row, a dead letter, filtered, a tombstone,
without a record, or lost and accepted: exactly one of them.

The ledger's claim is checked range by range as far back as snapshots are retained, and as one sum
below that. A range whose rows and dead letters fill it entirely must hold every offset, so that a
hole is known exactly even without the topic; in any other range only the topic tells which offset
is missing.

Where a record may be several rows, `rows` stands here for the records that are rows: which of their
rows are there is asked of `SeenItems`, which needs no ledger for it. The ledger says how many rows
there are beyond the first ones, and is compared with that.

A replayed dead letter is a row and its dead letter is still stored. The ledger says how many there
are; the ranges of the commits that read the records know nothing of it, so that they are compared
with the rows that were no dead letters.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pyroaring import BitMap64

from k2i_core.audit.findings import Finding, FindingKind, PartitionProof, TopicComparison
from k2i_core.audit.offset_set import (
    SeenOffsets,
    absent_from,
    count_between,
    merged_ranges,
    outside,
    ranges_of,
    within,
)
from k2i_core.audit.seen_items import SeenItems
from k2i_core.ledger import LedgerRange, Totals
from k2i_core.offsets import OffsetRange, TopicPartition


@dataclass(frozen=True, slots=True)
class PartitionClaim:
    """What the ledger says of one Kafka partition.

    Attributes:
        first_offset: Where its rows begin.
        next_offset: The checkpoint.
        totals: Cumulative counts of `[first_offset, next_offset)`.
        retained: The ranges of the retained commits, oldest first.
    """

    topic_partition: TopicPartition
    first_offset: int
    next_offset: int
    totals: Totals
    retained: tuple[LedgerRange, ...] = ()


@dataclass(slots=True)
class TopicContents:
    """What the topic holds of one Kafka partition, between the proof's bounds.

    Attributes:
        log_start_offset: The broker's first offset, asked before reading.
        end_offset: The last stable offset, likewise.
        records: Offsets that exist.
        tombstones: Those of them with a null value.
    """

    log_start_offset: int
    end_offset: int
    records: BitMap64 = field(default_factory=BitMap64)
    tombstones: BitMap64 = field(default_factory=BitMap64)


@dataclass(frozen=True, slots=True)
class _Segment:
    """A part of the claim that can be checked by itself."""

    start_offset: int
    next_offset: int
    claimed: Totals

    @property
    def is_dense(self) -> bool:
        """Tell whether rows and dead letters must fill every offset."""
        stored_count = self.claimed.row_count + self.claimed.dead_letter_count
        return stored_count == self.next_offset - self.start_offset


@dataclass(frozen=True, slots=True)
class _Reporter:
    """Makes findings of one Kafka partition, each with its exact ranges up to a limit."""

    topic_partition: TopicPartition
    range_count_max: int

    def offsets(self, kind: FindingKind, offsets: BitMap64, detail: str) -> Iterable[Finding]:
        """Report a set of offsets, unless it is empty."""
        if offsets:
            ranges, unlisted_count = ranges_of(self.topic_partition, offsets, self.range_count_max)
            yield Finding(kind, self.topic_partition, ranges, len(offsets), unlisted_count, detail)

    def ranges(
        self, kind: FindingKind, ranges: Iterable[OffsetRange], detail: str
    ) -> Iterable[Finding]:
        """Report ranges as a whole, unless there are none."""
        merged = merged_ranges(ranges)
        if merged:
            listed = merged[: self.range_count_max]
            count, listed_count = sum(map(len, merged)), sum(map(len, listed))
            yield Finding(
                kind, self.topic_partition, tuple(listed), count, count - listed_count, detail
            )

    def about(self, kind: FindingKind, start: int, end: int, detail: str) -> Finding:
        """Report one fact about an interval, which may be empty."""
        ranges = (OffsetRange(self.topic_partition, start, end),) if start < end else ()
        return Finding(kind, self.topic_partition, ranges, max(end - start, 0), 0, detail)


def prove_partition(
    claim: PartitionClaim,
    rows: SeenOffsets,
    dead_letters: SeenOffsets,
    topic: TopicContents | None,
    range_count_max: int,
    dropped: BitMap64 | None = None,
    items: SeenItems | None = None,
) -> tuple[PartitionProof, tuple[Finding, ...]]:
    """Compare what the ledger claims of one Kafka partition with what is there.

    Args:
        claim: The ledger.
        rows: The target table.
        dead_letters: The dead-letter table, rows of this target only.
        topic: The topic, if it was read.
        range_count_max: Ranges listed in one finding.
        dropped: Offsets whose dead letters an operator gave up.
        items: The rows by their numbers, of a table with several rows of a record.

    Returns:
        The figures, and what is wrong.

    """
    report = _Reporter(claim.topic_partition, range_count_max)
    segments, findings = _segments(claim, report)
    findings += _check_placement(claim, rows, dead_letters, report)
    findings += _check_items(claim, items, report)
    missing = BitMap64()
    findings += _check_counts(segments, rows, dead_letters, missing, report)
    comparison: TopicComparison | None = None
    if topic is not None:
        stored = rows.distinct | dead_letters.distinct
        findings += _check_topic(claim, segments, stored, topic, missing, report)
        comparison = _compare(claim, stored, topic)
    findings += report.offsets(
        FindingKind.MISSING, missing, "neither row nor dead letter, although read"
    )
    dropped = dropped or BitMap64()
    findings += report.offsets(
        FindingKind.OUTSIDE_RANGE, dropped - dead_letters.distinct, "dropped, but no dead letters"
    )
    replayed = rows.distinct & dead_letters.distinct
    still_dead = within(dead_letters.distinct - replayed, claim.first_offset, claim.next_offset)
    pending = outside(dead_letters.distinct, 0, claim.next_offset)
    totals = claim.totals
    proof = PartitionProof(
        topic_partition=claim.topic_partition,
        first_offset=claim.first_offset,
        next_offset=claim.next_offset,
        claimed=totals,
        row_count=rows.count,
        dead_letter_count=len(still_dead),
        replayed_count=len(replayed),
        dropped_count=still_dead.intersection_cardinality(dropped),
        pending_dead_letter_count=len(pending),
        without_record_count=claim.next_offset - claim.first_offset - totals.accounted_count,
        row_offset_min=rows.distinct.min() if rows.distinct else None,
        row_offset_max=rows.distinct.max() if rows.distinct else None,
        topic=comparison,
    )
    return proof, tuple(findings)


def _segments(
    claim: PartitionClaim,
    report: _Reporter,
) -> tuple[Sequence[_Segment], list[Finding]]:
    """Cut the claim at the retained ranges; one single segment where they contradict it."""
    kind = FindingKind.CHECKPOINT_MISMATCH
    first, end = claim.first_offset, claim.next_offset
    findings: list[Finding] = []
    totals = claim.totals.as_read
    whole = (_Segment(first, end, totals),) if first < end else ()
    position = claim.retained[0].offsets.start_offset if claim.retained else end
    if first > end:
        detail = f"first_offset={first} is above next_offset={end}"
        return (), [report.about(kind, end, first, detail)]
    if position < first:
        detail = f"a retained range starts at {position}, below first_offset={first}"
        findings.append(report.about(kind, position, first, detail))
    segments: list[_Segment] = []
    summed = Totals()
    for ledger_range in claim.retained:
        offsets = ledger_range.offsets
        if offsets.start_offset != position:
            low, high = sorted((position, offsets.start_offset))
            fault = "leave a gap" if position == low else "overlap"
            detail = f"retained ranges {fault} at {position}"
            findings.append(report.about(kind, low, high, detail))
        position = offsets.next_offset
        summed = summed.plus(ledger_range.totals)
        segments.append(_Segment(offsets.start_offset, position, ledger_range.totals))
    if position != end:
        low, high = sorted((position, end))
        detail = f"retained ranges end at {position}, the checkpoint is next_offset={end}"
        findings.append(report.about(kind, low, high, detail))
    if findings:
        return whole, findings
    start = segments[0].start_offset if segments else end
    older = _Segment(first, start, totals.minus(summed))
    problem = _prefix_problem(older)
    if problem:
        return whole, [report.about(kind, first, end, problem)]
    if first < start:
        segments.insert(0, older)
    over = [s for s in segments if s.claimed.accounted_count > s.next_offset - s.start_offset]
    findings += [
        report.about(kind, s.start_offset, s.next_offset, "more records claimed than offsets")
        for s in over
    ]
    return segments, findings


def _prefix_problem(older: _Segment) -> str:
    """Say why the totals and the sum of the retained ranges cannot both be right, or nothing."""
    claimed = older.claimed
    counts = (
        claimed.row_count,
        claimed.dead_letter_count,
        claimed.filtered_count,
        claimed.tombstone_count,
        claimed.lost_count,
    )
    if min(*counts, claimed.extra_row_count) < 0:
        return "cumulative totals are below the sum of the retained ranges"
    if older.start_offset == older.next_offset and any(counts):
        return "cumulative totals are above the sum of the retained ranges, which are all there are"
    return ""


def _check_placement(
    claim: PartitionClaim,
    rows: SeenOffsets,
    dead_letters: SeenOffsets,
    report: _Reporter,
) -> Iterable[Finding]:
    bounds = f"[{claim.first_offset},{claim.next_offset})"
    yield from report.offsets(FindingKind.DOUBLED, rows.doubled, "in the table more than once")
    yield from report.offsets(
        FindingKind.DOUBLED, dead_letters.doubled, "in the dead-letter table more than once"
    )
    yield from _check_replayed(claim, rows.distinct & dead_letters.distinct, report)
    yield from report.offsets(
        FindingKind.OUTSIDE_RANGE,
        outside(rows.distinct, claim.first_offset, claim.next_offset),
        f"rows outside {bounds}",
    )
    # Dead letters at or above the checkpoint are no fault: they are committed before their target.
    below = within(dead_letters.distinct, 0, claim.first_offset)
    yield from report.offsets(FindingKind.OUTSIDE_RANGE, below, f"dead letters outside {bounds}")


def _check_items(
    claim: PartitionClaim, items: SeenItems | None, report: _Reporter
) -> Iterable[Finding]:
    if items is not None:
        detail = "not all of the rows that each of these records became are there, or too many"
        yield from report.offsets(FindingKind.INCOMPLETE, items.torn(), detail)
    found = 0 if items is None else items.extra_count
    claimed = claim.totals.extra_row_count
    if found != claimed:
        detail = (
            f"the ledger claims extra_rows={claimed}, those beyond the first one of their record, "
            f"the table holds {found}"
        )
        bounds = (claim.first_offset, claim.next_offset)
        yield report.about(FindingKind.COUNT_MISMATCH, *bounds, detail)


def _check_replayed(claim: PartitionClaim, both: BitMap64, report: _Reporter) -> Iterable[Finding]:
    """Compare how many are row and dead letter with how many dead letters were replayed."""
    replayed_count = claim.totals.replayed_count
    if len(both) > replayed_count:
        detail = "both row and dead letter"
        if replayed_count:
            detail += f"; the ledger says that replayed={replayed_count} of these are meant to be"
        yield from report.offsets(FindingKind.ROW_AND_DEAD_LETTER, both, detail)
    elif len(both) < replayed_count:
        detail = (
            f"the ledger claims replayed={replayed_count} dead letters, of which the table holds "
            f"rows={len(both)}"
        )
        bounds = (claim.first_offset, claim.next_offset)
        yield report.about(FindingKind.COUNT_MISMATCH, *bounds, detail)


def _check_counts(
    segments: Sequence[_Segment],
    rows: SeenOffsets,
    dead_letters: SeenOffsets,
    missing: BitMap64,
    report: _Reporter,
) -> Iterable[Finding]:
    """Compare claimed and found counts; add holes of ranges that must be full to `missing`."""
    wrong: list[OffsetRange] = []
    stored = rows.distinct | dead_letters.distinct
    replayed = rows.distinct & dead_letters.distinct
    claimed, found = Totals(), Totals()
    for segment in segments:
        bounds = (segment.start_offset, segment.next_offset)
        counts = Totals(
            rows.count_between(*bounds) - count_between(replayed, *bounds),
            dead_letters.count_between(*bounds),
        )
        if segment.is_dense and count_between(stored, *bounds) < bounds[1] - bounds[0]:
            missing |= absent_from(stored, *bounds)
        if (counts.row_count, counts.dead_letter_count) != (
            segment.claimed.row_count,
            segment.claimed.dead_letter_count,
        ):
            wrong.append(OffsetRange(report.topic_partition, *bounds))
            claimed, found = claimed.plus(segment.claimed), found.plus(counts)
    detail = (
        f"the ledger claims rows={claimed.row_count} dead_letters={claimed.dead_letter_count}, "
        f"the tables hold rows={found.row_count} dead_letters={found.dead_letter_count}"
    )
    yield from report.ranges(FindingKind.COUNT_MISMATCH, wrong, detail)


def _check_topic(
    claim: PartitionClaim,
    segments: Sequence[_Segment],
    stored: BitMap64,
    topic: TopicContents,
    missing: BitMap64,
    report: _Reporter,
) -> Iterable[Finding]:
    """Compare with the topic; offsets that exist there and nowhere else go to `missing`."""
    if claim.next_offset > topic.end_offset and claim.next_offset > claim.first_offset:
        detail = (
            f"the checkpoint is above the topic's end_offset={topic.end_offset}: the topic was "
            "truncated or recreated"
        )
        yield report.about(
            FindingKind.CHECKPOINT_MISMATCH, topic.end_offset, claim.next_offset, detail
        )
    yield from report.offsets(
        FindingKind.TOMBSTONE_IN_TABLE,
        topic.tombstones & stored,
        "tombstones of the topic that are rows or dead letters",
    )
    unexplained = topic.records - stored - topic.tombstones
    for ledger_range in claim.retained:
        if ledger_range.lost:
            offsets = ledger_range.offsets
            unexplained.remove_range(offsets.start_offset, offsets.next_offset)
    for segment in segments:
        bounds = (segment.start_offset, segment.next_offset)
        unexplained_count = count_between(unexplained, *bounds)
        filtered_count = segment.claimed.filtered_count
        if unexplained_count > filtered_count:
            candidates = within(unexplained, *bounds)
            if filtered_count:
                detail = (
                    f"missing={unexplained_count - filtered_count} of these offsets; the others "
                    "were filtered, and the ledger does not say which"
                )
                yield from report.offsets(FindingKind.MISSING, candidates, detail)
            else:
                missing |= candidates
        tombstone_count = count_between(topic.tombstones, *bounds)
        # Another table's tombstone is one of the filtered records here.
        hidden_count = max(0, filtered_count - unexplained_count)
        if tombstone_count > segment.claimed.tombstone_count + hidden_count:
            detail = (
                f"the ledger claims tombstones={segment.claimed.tombstone_count}, the topic "
                f"holds tombstones={tombstone_count}"
            )
            yield report.about(FindingKind.COUNT_MISMATCH, *bounds, detail)


def _compare(
    claim: PartitionClaim,
    stored: BitMap64,
    topic: TopicContents,
) -> TopicComparison:
    settled = within(stored, claim.first_offset, claim.next_offset)
    return TopicComparison(
        log_start_offset=topic.log_start_offset,
        end_offset=topic.end_offset,
        record_count=len(topic.records),
        tombstone_count=len(topic.tombstones),
        no_longer_in_topic_count=settled.difference_cardinality(topic.records),
        unread_count=max(topic.end_offset - max(claim.next_offset, topic.log_start_offset), 0),
        lost_unread_count=max(topic.log_start_offset - claim.next_offset, 0),
    )
