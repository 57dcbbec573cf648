"""What a proof found: the answer of `k2i verify`, for people and as JSON.

Values only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from k2i_core.ledger import Totals
from k2i_core.offsets import OffsetRange, TopicPartition


class FindingKind(StrEnum):
    """What is wrong. Stable codes, append-only."""

    MISSING = "missing"
    DOUBLED = "doubled"
    ROW_AND_DEAD_LETTER = "row-and-dead-letter"
    TOMBSTONE_IN_TABLE = "tombstone-in-table"
    OUTSIDE_RANGE = "outside-range"
    COUNT_MISMATCH = "count-mismatch"
    CHECKPOINT_MISMATCH = "checkpoint-mismatch"
    FILE_UNREADABLE = "file-unreadable"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which one Kafka partition breaks the promise.

    Attributes:
        topic_partition: None when it is about the table as a whole.
        ranges: Exactly the offsets concerned, lowest first, as many as were asked for.
        offset_count: All offsets concerned, listed or not.
        unlisted_count: Offsets concerned beyond `ranges`.
        detail: One line for people.
    """

    kind: FindingKind
    topic_partition: TopicPartition | None
    ranges: tuple[OffsetRange, ...]
    offset_count: int
    unlisted_count: int
    detail: str

    def __str__(self) -> str:
        listed = " ".join(f"[{r.start_offset},{r.next_offset})" for r in self.ranges)
        rest = f" and {self.unlisted_count} more offsets" if self.unlisted_count else ""
        where = f" {self.topic_partition}" if self.topic_partition else ""
        return f"{self.kind}{where}: {self.detail}{': ' if listed else ''}{listed}{rest}"


@dataclass(frozen=True, slots=True)
class TopicComparison:
    """One Kafka partition's topic beside the table.

    Attributes:
        log_start_offset: The first offset that the broker still has.
        end_offset: The last stable offset.
        record_count: Records the topic holds between the proof's bounds.
        tombstone_count: Those of them with a null value.
        no_longer_in_topic_count: Rows and dead letters whose record retention or compaction took.
        unread_count: Offsets at and above the checkpoint that the broker has, not read yet.
        lost_unread_count: Offsets above the checkpoint that retention took before they were read.
    """

    log_start_offset: int
    end_offset: int
    record_count: int
    tombstone_count: int
    no_longer_in_topic_count: int
    unread_count: int
    lost_unread_count: int


@dataclass(frozen=True, slots=True)
class PartitionProof:
    """One Kafka partition: what the ledger claims and what is there.

    Attributes:
        claimed: The ledger's cumulative counts.
        row_count: Rows in the table, repetitions included.
        dead_letter_count: Dead letters below the checkpoint that are no rows.
        replayed_count: Rows that were dead letters first.
        dropped_count: Those of the dead letters that an operator gave up.
        pending_dead_letter_count: Dead letters at or above it: committed before their target.
        without_record_count: Offsets of the range that hold no record (compacted away, aborted,
            control records), by the ledger's counts.
        row_offset_min: None without rows.
        row_offset_max: None without rows.
        topic: None when the topic was not read.
    """

    topic_partition: TopicPartition
    first_offset: int
    next_offset: int
    claimed: Totals
    row_count: int
    dead_letter_count: int
    replayed_count: int
    dropped_count: int
    pending_dead_letter_count: int
    without_record_count: int
    row_offset_min: int | None
    row_offset_max: int | None
    topic: TopicComparison | None


class _FindingJson(TypedDict):
    kind: str
    topic: str | None
    kafka_partition: int | None
    ranges: list[list[int]]
    offset_count: int
    unlisted_offset_count: int
    detail: str


class _PartitionJson(TypedDict):
    topic: str
    kafka_partition: int
    first_offset: int
    next_offset: int
    rows: int
    dead_letters: int
    replayed: int
    dropped: int
    pending_dead_letters: int
    claimed: dict[str, int]
    without_record: int
    row_offset_min: int | None
    row_offset_max: int | None
    in_topic: dict[str, int] | None


class VerificationJson(TypedDict):
    """The JSON form of a `Verification`."""

    holds: bool
    table: str
    snapshot_id: int | None
    topic_compared: bool
    rows: int
    dead_letters: int
    foreign_rows: int
    partitions: list[_PartitionJson]
    findings: list[_FindingJson]


@dataclass(frozen=True, slots=True)
class Verification:
    """The whole proof of one table.

    Attributes:
        table: Namespace and name, joined by dots.
        snapshot_id: The snapshot whose rows were read; None for a table without one.
        partitions: Ascending by Kafka partition.
        findings: Empty when the promise holds.
        foreign_row_count: Rows that came from elsewhere than Kafka (no `_kafka` value); no proof
            is possible for them, and none is claimed.
        topic_compared: Whether the topic was read, or only ledger and data were compared.
    """

    table: str
    snapshot_id: int | None
    partitions: tuple[PartitionProof, ...]
    findings: tuple[Finding, ...]
    foreign_row_count: int
    topic_compared: bool

    @property
    def holds(self) -> bool:
        """Tell whether nothing was found."""
        return not self.findings

    @property
    def row_count(self) -> int:
        """Rows from Kafka, repetitions included."""
        return sum(p.row_count for p in self.partitions)

    @property
    def dead_letter_count(self) -> int:
        """Dead letters below the checkpoint."""
        return sum(p.dead_letter_count for p in self.partitions)

    def to_json(self) -> VerificationJson:
        """Return plain values for `json.dumps`."""
        return {
            "holds": self.holds,
            "table": self.table,
            "snapshot_id": self.snapshot_id,
            "topic_compared": self.topic_compared,
            "rows": self.row_count,
            "dead_letters": self.dead_letter_count,
            "foreign_rows": self.foreign_row_count,
            "partitions": [_partition_json(p) for p in self.partitions],
            "findings": [_finding_json(f) for f in self.findings],
        }


def of_kind(findings: Iterable[Finding], kind: FindingKind) -> tuple[Finding, ...]:
    """Return the findings of one kind, in their order."""
    return tuple(f for f in findings if f.kind is kind)


def _finding_json(finding: Finding) -> _FindingJson:
    where = finding.topic_partition
    return {
        "kind": finding.kind.value,
        "topic": where.topic if where else None,
        "kafka_partition": where.kafka_partition if where else None,
        "ranges": [[r.start_offset, r.next_offset] for r in finding.ranges],
        "offset_count": finding.offset_count,
        "unlisted_offset_count": finding.unlisted_count,
        "detail": finding.detail,
    }


def _partition_json(proof: PartitionProof) -> _PartitionJson:
    topic = proof.topic
    return {
        "topic": proof.topic_partition.topic,
        "kafka_partition": proof.topic_partition.kafka_partition,
        "first_offset": proof.first_offset,
        "next_offset": proof.next_offset,
        "rows": proof.row_count,
        "dead_letters": proof.dead_letter_count,
        "replayed": proof.replayed_count,
        "dropped": proof.dropped_count,
        "pending_dead_letters": proof.pending_dead_letter_count,
        "claimed": {
            "rows": proof.claimed.row_count,
            "dead_letters": proof.claimed.dead_letter_count,
            "filtered": proof.claimed.filtered_count,
            "tombstones": proof.claimed.tombstone_count,
            "lost": proof.claimed.lost_count,
            "replayed": proof.claimed.replayed_count,
            "extra_rows": proof.claimed.extra_row_count,
        },
        "without_record": proof.without_record_count,
        "row_offset_min": proof.row_offset_min,
        "row_offset_max": proof.row_offset_max,
        "in_topic": None
        if topic is None
        else {
            "log_start_offset": topic.log_start_offset,
            "end_offset": topic.end_offset,
            "records": topic.record_count,
            "tombstones": topic.tombstone_count,
            "no_longer_in_topic": topic.no_longer_in_topic_count,
            "unread": topic.unread_count,
            "lost_unread": topic.lost_unread_count,
        },
    }
