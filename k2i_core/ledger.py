"""What a snapshot says about Kafka: the checkpoint entry, who owns which partitions, the ranges.

A k2i snapshot carries in its summary
  `k2i.checkpoint`  the whole state after it: identity, next offsets, owners, totals, its own id
  `k2i.ranges`      what this one commit added, per Kafka partition
  `k2i.commit-id`   one token per attempt
  `k2i.operation`   take-over | append | dead-letters | accept-gap | rewind | carry-forward
                    | replay-dead-letters | drop-dead-letters
and the same checkpoint text is a table property of the same request, as a proof against foreign
expiration and rollback. Arrays, not objects, because every retained snapshot is in one metadata
file.

Pure values and their codec; no I/O. How an entry is found in a table is `iceberg.ancestry`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import lcm
from typing import Any, NewType, cast

from k2i_core.errors import ConfigError, CorruptionError, DataLossError, ErrorKind
from k2i_core.offsets import Checkpoint, OffsetRange, TopicPartition

CHECKPOINT_KEY = "k2i.checkpoint"
RANGES_KEY = "k2i.ranges"
COMMIT_ID_KEY = "k2i.commit-id"
OPERATION_KEY = "k2i.operation"

ENTRY_VERSION = 1

Epoch = NewType("Epoch", int)
"""Number of a take-over; the younger (larger) of two owners of a Kafka partition is the owner."""

SHARE_RESIDUES_MAX = 65_536
"""Owners whose worker counts have a larger common multiple are all kept: larger makes a take-over
slow, smaller keeps entries that own nothing any more."""


@dataclass(frozen=True, order=True, slots=True)
class Share:
    """The Kafka partitions of one worker: those with partition % workers = worker."""

    worker: int
    workers: int

    def __post_init__(self) -> None:
        """A share outside its count is our bug; the settings are checked where they are read."""
        assert 0 <= self.worker < self.workers

    def holds(self, topic_partition: TopicPartition) -> bool:
        """Tell whether this share includes the Kafka partition."""
        return topic_partition.kafka_partition % self.workers == self.worker

    def __str__(self) -> str:
        return f"{self.worker}/{self.workers}"


@dataclass(frozen=True, order=True, slots=True)
class Owner:
    """A take-over: from `epoch` on, the worker with `share` owns those Kafka partitions.

    Attributes:
        routing: Which rules say into which table a record goes, by name; empty where there is one
            table. No part of who the owner is.
    """

    epoch: Epoch
    share: Share
    routing: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which pipeline, Kafka cluster and topics a table's offsets belong to.

    Attributes:
        pipeline: Name in the pipeline file.
        cluster_id: Kafka's cluster id.
        topic_ids: Topic name → Kafka's topic id; changes when a topic is deleted and recreated.
    """

    pipeline: str
    cluster_id: str
    topic_ids: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts of one Kafka partition since its first offset: proof that outlives the ranges.

    Attributes:
        row_count: Records that are rows, replayed dead letters included.
        dead_letter_count: Dead letters that are no rows.
        replayed_count: Those of them that were dead letters first, which are still stored.
        extra_row_count: Rows beyond the first one of their record, where a record is several.
    """

    row_count: int = 0
    dead_letter_count: int = 0
    filtered_count: int = 0
    tombstone_count: int = 0
    lost_count: int = 0
    replayed_count: int = 0
    extra_row_count: int = 0

    @property
    def table_row_count(self) -> int:
        """Rows in the table."""
        return self.row_count + self.extra_row_count

    @property
    def accounted_count(self) -> int:
        """Offsets of which is known what became of them; the others never held a record."""
        return (
            self.row_count
            + self.dead_letter_count
            + self.filtered_count
            + self.tombstone_count
            + self.lost_count
        )

    def minus(self, other: "Totals") -> "Totals":
        """Return the differences."""
        return Totals(
            self.row_count - other.row_count,
            self.dead_letter_count - other.dead_letter_count,
            self.filtered_count - other.filtered_count,
            self.tombstone_count - other.tombstone_count,
            self.lost_count - other.lost_count,
            self.replayed_count - other.replayed_count,
            self.extra_row_count - other.extra_row_count,
        )

    def plus(self, other: "Totals") -> "Totals":
        """Return the sums."""
        return Totals(
            self.row_count + other.row_count,
            self.dead_letter_count + other.dead_letter_count,
            self.filtered_count + other.filtered_count,
            self.tombstone_count + other.tombstone_count,
            self.lost_count + other.lost_count,
            self.replayed_count + other.replayed_count,
            self.extra_row_count + other.extra_row_count,
        )

    def replayed(self, count: int, extra_row_count: int = 0) -> "Totals":
        """Return the counts after `count` dead letters have become rows, and so many more."""
        added = Totals(count, -count, replayed_count=count, extra_row_count=extra_row_count)
        return self.plus(added)

    @property
    def as_read(self) -> "Totals":
        """What became of the records when they were read: the sum of the ranges.

        But for the extra rows, of which is not known how many came by replays.
        """
        return replace(self.replayed(-self.replayed_count), replayed_count=0)


@dataclass(frozen=True, slots=True)
class LedgerRange:
    """One range of one commit with what became of its records.

    `lost` marks offsets that Kafka dropped unread and an operator accepted as lost.
    """

    offsets: OffsetRange
    totals: Totals
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """The state of a table after one k2i snapshot: complete, not only what changed.

    Attributes:
        identity: Whose offsets these are.
        checkpoint: Next offset per Kafka partition.
        owners: Take-overs that still own something, ascending by epoch.
        totals: Cumulative counts per Kafka partition.
        first_offsets: Where each Kafka partition's rows begin (start policy, accepted gap of a
            recreated topic): proof starts there.
        since_sequence_numbers: Topic → sequence number of the snapshot that accepted its
            recreation; rows of older files belong to the deleted topic.
        snapshot_id: The snapshot that carries this entry.
    """

    identity: Identity
    checkpoint: Checkpoint
    owners: tuple[Owner, ...] = ()
    totals: Mapping[TopicPartition, Totals] = field(
        default_factory=dict[TopicPartition, Totals],
    )
    first_offsets: Mapping[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    since_sequence_numbers: Mapping[str, int] = field(default_factory=dict[str, int])
    snapshot_id: int = 0

    def owner_of(self, topic_partition: TopicPartition) -> Owner | None:
        """Return the youngest owner whose share holds the Kafka partition."""
        holders = [owner for owner in self.owners if owner.share.holds(topic_partition)]
        return max(holders, default=None)

    def owns_whole_share(self, owner: Owner) -> bool:
        """Tell whether nobody younger holds any Kafka partition of `owner`'s share.

        Judged over all partition numbers, not over the known ones, so that a share without
        partitions today is still owned.
        """
        younger = [other for other in self.owners if other.epoch > owner.epoch]
        return owner in self.owners and not any(_shares_meet(owner.share, o.share) for o in younger)

    def has_equal(self, owner: Owner) -> bool:
        """Tell whether a take-over of the same epoch holds a Kafka partition of the same share."""
        equal = [other for other in self.owners if other.epoch == owner.epoch]
        return any(_shares_meet(owner.share, other.share) for other in equal)

    @property
    def epoch_max(self) -> Epoch:
        """The youngest epoch stored; 0 when nobody ever took over."""
        return max((owner.epoch for owner in self.owners), default=Epoch(0))

    def taken_over(self, owner: Owner) -> "Entry":
        """Return the entry with `owner` added, without owners that own nothing any more."""
        owners = sorted({*self.owners, owner})
        return replace(self, owners=tuple(o for o in owners if not _is_shadowed(o, owners)))


def _shares_meet(one: Share, other: Share) -> bool:
    common = lcm(one.workers, other.workers)
    step = max(one.workers, other.workers)
    start = one.worker if one.workers == step else other.worker
    small = other if one.workers == step else one
    return any(n % small.workers == small.worker for n in range(start, common, step))


def _is_shadowed(owner: Owner, owners: Iterable[Owner]) -> bool:
    younger = [other.share for other in owners if other.epoch > owner.epoch]
    common = lcm(owner.share.workers, *(share.workers for share in younger))
    if common > SHARE_RESIDUES_MAX:
        return False
    mine = range(owner.share.worker, common, owner.share.workers)
    return all(any(n % share.workers == share.worker for share in younger) for n in mine)


def check_identity(entry: Entry | None, identity: Identity) -> None:
    """Refuse a table whose offsets belong to another pipeline, cluster or topic incarnation.

    Raises:
        ConfigError: Another pipeline's table.
        DataLossError: Another cluster, or a topic was deleted and created again.

    """
    if entry is None:
        return
    stored = entry.identity
    if stored.pipeline != identity.pipeline:
        message = (
            f"table belongs to pipeline={stored.pipeline!r}, not to {identity.pipeline!r}; give "
            f"this pipeline a table of its own"
        )
        raise ConfigError(message, kind=ErrorKind.PIPELINE_CHANGED)
    if stored.cluster_id != identity.cluster_id:
        message = (
            f"table holds offsets of Kafka cluster_id={stored.cluster_id!r}, the broker says "
            f"{identity.cluster_id!r}; check kafka.bootstrap_servers, or accept the new cluster "
            f"with `k2i table accept-gap`"
        )
        raise DataLossError(message, kind=ErrorKind.CLUSTER_CHANGED)
    for topic, topic_id in identity.topic_ids.items():
        if stored.topic_ids.get(topic, topic_id) != topic_id:
            message = (
                f"topic={topic!r} was deleted and created again, and the table holds offsets of "
                f"the old one; accept it with `k2i table accept-gap`"
            )
            raise DataLossError(message, kind=ErrorKind.TOPIC_RECREATED)


def encode_entry(entry: Entry) -> str:
    """Return the JSON text of an entry; the same text goes into summary and property."""
    topics = sorted(
        {tp.topic for tp in entry.checkpoint.next_offsets} | set(entry.identity.topic_ids)
    )
    document = {
        "version": ENTRY_VERSION,
        "pipeline": entry.identity.pipeline,
        "cluster": entry.identity.cluster_id,
        "snapshot": entry.snapshot_id,
        "owners": [_encode_owner(owner) for owner in entry.owners],
        "topics": [
            [
                topic,
                entry.identity.topic_ids.get(topic, ""),
                entry.since_sequence_numbers.get(topic, 0),
                [
                    _encode_partition(entry, topic_partition)
                    for topic_partition in sorted(entry.checkpoint.next_offsets)
                    if topic_partition.topic == topic
                ],
            ]
            for topic in topics
        ],
    }
    return json.dumps(document, separators=(",", ":"))


def _encode_owner(owner: Owner) -> list[int | str]:
    # Only where there are any, so that other versions of this program read a table without them.
    routing = [owner.routing] if owner.routing else []
    return [owner.epoch, owner.share.worker, owner.share.workers, *routing]


def _encode_partition(entry: Entry, topic_partition: TopicPartition) -> list[int]:
    totals = entry.totals.get(topic_partition, Totals())
    next_offset = entry.checkpoint.next_offsets[topic_partition]
    # Only when there are any, so that other versions of this program read a table without them.
    later = [totals.replayed_count, totals.extra_row_count]
    while later and not later[-1]:
        later.pop()
    return [
        topic_partition.kafka_partition,
        next_offset,
        entry.first_offsets.get(topic_partition, next_offset),
        totals.row_count,
        totals.dead_letter_count,
        totals.filtered_count,
        totals.tombstone_count,
        totals.lost_count,
        *later,
    ]


def decode_entry(text: str) -> Entry:
    """Read an entry back.

    Raises:
        CorruptionError: The text is not an entry of a version that this program knows; upgrade
            k2i, or rebuild the checkpoint from the table's rows.

    """
    try:
        # Safe because every field is converted below and any mismatch ends in the except clause.
        document = cast("dict[str, Any]", json.loads(text))
        version = int(document["version"])
        if version != ENTRY_VERSION:
            message = f"checkpoint has version={version}, this program reads {ENTRY_VERSION}"
            raise CorruptionError(message, kind=ErrorKind.LEDGER_UNREADABLE)
        next_offsets: dict[TopicPartition, int] = {}
        first_offsets: dict[TopicPartition, int] = {}
        totals: dict[TopicPartition, Totals] = {}
        topic_ids: dict[str, str] = {}
        since: dict[str, int] = {}
        for topic, topic_id, since_sequence_number, partitions in document["topics"]:
            topic_ids[topic] = topic_id
            if since_sequence_number:
                since[topic] = since_sequence_number
            for kafka_partition, next_offset, first_offset, *counts in partitions:
                topic_partition = TopicPartition(topic, kafka_partition)
                next_offsets[topic_partition] = next_offset
                first_offsets[topic_partition] = first_offset
                totals[topic_partition] = Totals(*counts)
        return Entry(
            identity=Identity(document["pipeline"], document["cluster"], topic_ids),
            checkpoint=Checkpoint(next_offsets),
            owners=tuple(
                Owner(Epoch(e), Share(w, n), *routing) for e, w, n, *routing in document["owners"]
            ),
            totals=totals,
            first_offsets=first_offsets,
            since_sequence_numbers=since,
            snapshot_id=int(document["snapshot"]),
        )
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        message = f"{CHECKPOINT_KEY} cannot be read: {type(error).__name__}"
        raise CorruptionError(message, kind=ErrorKind.LEDGER_UNREADABLE) from error


def ranges_between(before: Entry, after: Entry) -> tuple[LedgerRange, ...]:
    """Return what was added between two entries of one history, one range a Kafka partition."""
    ranges: list[LedgerRange] = []
    for topic_partition, next_offset in sorted(after.checkpoint.next_offsets.items()):
        start_offset = before.checkpoint.next_offsets.get(topic_partition, next_offset)
        if start_offset < next_offset:
            added = after.totals.get(topic_partition, Totals()).minus(
                before.totals.get(topic_partition, Totals())
            )
            ranges.append(
                LedgerRange(OffsetRange(topic_partition, start_offset, next_offset), added)
            )
    return tuple(ranges)


def encode_ranges(ranges: Iterable[LedgerRange]) -> str:
    """Return the JSON text of what one commit added, grouped by topic."""
    ordered = sorted(ranges, key=lambda r: r.offsets)
    document = [
        [topic, [_encode_range(r) for r in group]]
        for topic, group in groupby(ordered, key=lambda r: r.offsets.topic_partition.topic)
    ]
    return json.dumps(document, separators=(",", ":"))


def _encode_range(ledger_range: LedgerRange) -> list[int]:
    offsets, totals = ledger_range.offsets, ledger_range.totals
    return [
        offsets.topic_partition.kafka_partition,
        offsets.start_offset,
        offsets.next_offset,
        totals.row_count,
        totals.dead_letter_count,
        totals.filtered_count,
        totals.tombstone_count,
        int(ledger_range.lost),
        # Only when there are any, as above.
        *([totals.extra_row_count] if totals.extra_row_count else []),
    ]


def decode_ranges(text: str) -> tuple[LedgerRange, ...]:
    """Read the ranges of one commit back.

    Raises:
        CorruptionError: The text is not a list of ranges.

    """
    try:
        document = cast("list[Any]", json.loads(text))
        # An empty text iterates like an empty list, and would hide that it is none. A topic without
        # ranges is never written.
        if not all(
            isinstance(rs, list) and rs and isinstance(topic, str) for topic, rs in document
        ):
            message = "not topics with ranges"
            raise TypeError(message)  # noqa: TRY301 - all ways of being unreadable end below
        return tuple(_decode_range(topic, numbers) for topic, rs in document for numbers in rs)
    except (ValueError, TypeError, AssertionError) as error:
        message = f"{RANGES_KEY} cannot be read: {type(error).__name__}"
        raise CorruptionError(message, kind=ErrorKind.LEDGER_UNREADABLE) from error


def _decode_range(topic: str, numbers: list[int]) -> LedgerRange:
    kafka_partition, start_offset, next_offset, rows, dead, filtered, tombs, lost, *extra = numbers
    offsets = OffsetRange(TopicPartition(topic, kafka_partition), start_offset, next_offset)
    lost_count = len(offsets) if lost else 0
    totals = Totals(rows, dead, filtered, tombs, lost_count, 0, *extra)
    return LedgerRange(offsets, totals, bool(lost))
