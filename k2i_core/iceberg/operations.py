"""What an operator decides: accept a gap, rewind a table. Pure; the loop is `commit`.

Both take every Kafka partition over under an epoch of their own: whoever still runs is fenced at
its next commit, and the next start takes over as always. Neither deletes a file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from k2i_core.errors import ConfigError
from k2i_core.iceberg.ancestry import carrier_of
from k2i_core.iceberg.decisions import Decision
from k2i_core.iceberg.gateway import TableView
from k2i_core.ledger import (
    CHECKPOINT_KEY,
    Entry,
    Epoch,
    Identity,
    LedgerRange,
    Owner,
    Share,
    Totals,
    decode_entry,
)
from k2i_core.offsets import Checkpoint, OffsetRange, TopicPartition

SEVERAL_RULES = "several"
"""Routing of an owner that follows several: no rules are called so, so that a start asks for tables
that stand alike."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What an operator is asked to accept, found by comparing the ledger with the topic.

    Attributes:
        identity: Cluster and topic ids as they are now.
        lost: Ranges that Kafka deleted before they were read.
        restarted: Topics that were deleted and created again, or live in another cluster, or lost
            the end of their log → where each of their Kafka partitions starts now. Rows of older
            commits belong to the old topic.
    """

    identity: Identity
    lost: tuple[OffsetRange, ...] = ()
    restarted: Mapping[str, Mapping[TopicPartition, int]] | None = None

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to accept."""
        return not self.lost and not self.restarted


def decide_accept_gap(view: TableView, stored: Entry, gap: Gap) -> Decision:
    """Move the checkpoint over what is lost, and write the loss into the ledger (I1)."""
    next_offsets = dict(stored.checkpoint.next_offsets)
    first_offsets = dict(stored.first_offsets)
    totals = dict(stored.totals)
    since = dict(stored.since_sequence_numbers)
    accepted: list[LedgerRange] = []
    for lost in gap.lost:
        assert next_offsets[lost.topic_partition] == lost.start_offset
        added = Totals(lost_count=len(lost))
        next_offsets[lost.topic_partition] = lost.next_offset
        totals[lost.topic_partition] = totals.get(lost.topic_partition, Totals()).plus(added)
        accepted.append(LedgerRange(lost, added, lost=True))
    for topic, starts in (gap.restarted or {}).items():
        for topic_partition in [tp for tp in next_offsets if tp.topic == topic]:
            del next_offsets[topic_partition]
            first_offsets.pop(topic_partition, None)
            totals.pop(topic_partition, None)
        next_offsets.update(starts)
        first_offsets.update(starts)
        since[topic] = view.last_sequence_number + 1
    entry = replace(
        stored,
        identity=gap.identity,
        checkpoint=Checkpoint(next_offsets),
        owners=_operator(view),
        totals=totals,
        first_offsets=first_offsets,
        since_sequence_numbers=since,
    )
    return Decision(entry, tuple(accepted))


def decide_forget_topics(
    view: TableView, stored: Entry, identity: Identity, topics: Iterable[str]
) -> Decision:
    """Make the dead letters of restarted topics history: they are no verdict on new offsets."""
    gone = set(topics)
    kept = {tp: n for tp, n in stored.checkpoint.next_offsets.items() if tp.topic not in gone}
    since = dict.fromkeys(gone, view.last_sequence_number + 1)
    return Decision(
        replace(
            stored,
            identity=identity,
            checkpoint=Checkpoint(kept),
            owners=_operator(view),
            since_sequence_numbers={**stored.since_sequence_numbers, **since},
        )
    )


def decide_rewind(view: TableView, snapshot_id: int) -> Decision:
    """Move rows and checkpoint back together to a retained snapshot, in one request (I2).

    Dead letters stay: those at or above the older checkpoint remain the verdict on their offsets.
    Kafka partitions that the snapshot does not know yet begin again where they began.

    Raises:
        ConfigError: The snapshot is not retained, or no checkpoint is known for it.

    """
    if snapshot_id not in view.snapshots:
        retained = ", ".join(str(s.snapshot_id) for s in view.ancestors())
        message = f"snapshot_id={snapshot_id} is not retained; the table has: {retained}"
        raise ConfigError(message)
    carrier = carrier_of(view, snapshot_id)
    if carrier is None:
        message = f"no retained ancestor of snapshot_id={snapshot_id} carries a checkpoint"
        raise ConfigError(message)
    entry = decode_entry(carrier.summary[CHECKPOINT_KEY])
    starts = {tp: n for known in _entries(view) for tp, n in _begun_since(entry, known).items()}
    rewound = replace(
        entry,
        checkpoint=Checkpoint({**entry.checkpoint.next_offsets, **starts}),
        owners=_operator(view),
        first_offsets={**entry.first_offsets, **starts},
    )
    return Decision(rewound, rewind_to_snapshot_id=snapshot_id)


def _begun_since(entry: Entry, known: Entry) -> Mapping[TopicPartition, int]:
    """Return where Kafka partitions began that another entry of the table knows and this does not.

    Of several tables the others may be past what is read again for this one: it cannot begin where
    they are.
    """
    ids, own_ids = known.identity.topic_ids, entry.identity.topic_ids
    return {
        tp: first
        for tp, first in known.first_offsets.items()
        if tp not in entry.checkpoint.next_offsets
        and own_ids.get(tp.topic, ids.get(tp.topic)) == ids.get(tp.topic)
    }


def _entries(view: TableView) -> list[Entry]:
    """Return what all retained snapshots know, the youngest last."""
    carriers = [s for s in view.snapshots.values() if CHECKPOINT_KEY in s.summary]
    carriers.sort(key=lambda s: s.sequence_number)
    return [decode_entry(snapshot.summary[CHECKPOINT_KEY]) for snapshot in carriers]


def _operator(view: TableView) -> tuple[Owner, ...]:
    """Return the one owner of everything, younger than every take-over that could still go on.

    Without it the next claim might draw an epoch again that a worker holds which has claimed the
    target and not yet the dead letters, because epochs outrun sequence numbers when the dead
    letters are older than the target. A worker goes on only while its claim is in the history, so
    the retained snapshots know every such epoch.
    """
    entries = _entries(view)
    epoch = Epoch(1 + max(view.last_sequence_number, *(e.epoch_max for e in entries), 0))
    # Other tables may hold what was read by these rules and not by others.
    rules = {owner.routing for owner in entries[-1].owners} if entries else {""}
    routing = rules.pop() if len(rules) == 1 else SEVERAL_RULES
    return (Owner(epoch, Share(0, 1), routing),)
