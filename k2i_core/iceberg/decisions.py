"""The commit decisions: from one load of a table to the next ledger entry, or a reason to stop.

| decision | who may | offsets |
|---|---|---|
| claim, take over | anyone with a younger epoch | stand; unknown partitions get their start |
| extend | the owner | unknown partitions get their start |
| append | the owner | stored next = start, then forward to the end |
| append dead letters | the owner | never decide, only grow |
| pause | the owner | stand |
| resume | an operator | stand |
| carry | maintenance | stand, as the load of that very attempt has them |

Pure; the loop that loads, asks here and sends is `commit`. Keeps I1 (each offset lands once) and
I2 (a checkpoint never moves back).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from k2i_core.errors import ConfigError, ConflictError, CorruptionError, ErrorKind, FencedError
from k2i_core.iceberg.gateway import Replacement, TableView
from k2i_core.ledger import (
    Entry,
    Epoch,
    Identity,
    LedgerRange,
    Owner,
    Share,
    Totals,
    check_identity,
)
from k2i_core.offsets import Checkpoint, TopicPartition
from k2i_core.pauses import (
    ACCEPTED_KEY,
    PAUSED_KEY,
    Pause,
    decode_accepted,
    encode_accepted,
    paused_error,
)
from k2i_core.records import CountedRange, WrittenFile


@dataclass(frozen=True, slots=True)
class Decision:
    """What to commit on the loaded head.

    Attributes:
        removed_snapshot_ids: Snapshots to give up, whose files the caller looks after; None leaves
            it to the limits of every commit.
        properties: Of the table, set in the same request.
    """

    entry: Entry
    ranges: tuple[LedgerRange, ...] = ()
    files: tuple[WrittenFile, ...] = ()
    rewind_to_snapshot_id: int | None = None
    removed_snapshot_ids: tuple[int, ...] | None = None
    replacements: tuple[Replacement, ...] = ()
    clusters_manifests: bool = False
    properties: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def all_files(self) -> tuple[WrittenFile, ...]:
        """Every file that the commit adds, whatever for."""
        return (*self.files, *(file for r in self.replacements for file in r.files))


def decide_claim(
    view: TableView,
    stored: Entry | None,
    *,
    share: Share,
    identity: Identity,
    starts: Mapping[TopicPartition, int],
    epoch_floor: Epoch,
    routing: str = "",
    unmoved: Mapping[TopicPartition, int] | None = None,
) -> tuple[Owner, Decision]:
    """Take over `share` in the lead table with an epoch younger than any before it.

    The epoch is drawn from this load's last sequence number; because the commit asserts this
    load's head, no other take-over that begins here can draw the same one.

    Args:
        view: The load.
        stored: Its entry.
        share: What to take over.
        identity: Whose offsets.
        starts: Of Kafka partitions that the ledger does not know.
        epoch_floor: The youngest epoch of the other tables.
        routing: Of the new owner.
        unmoved: Next offsets by which it was judged that the routing may change.

    Raises:
        ConflictError: `unmoved` is no longer what is stored: judge again.

    """
    entry = _with_starts(_same_identity(stored, identity), starts)
    stored_next = entry.checkpoint.next_offsets
    if unmoved is not None and any(stored_next.get(tp) != n for tp, n in unmoved.items()):
        message = "another worker committed while it was judged whether the routing may change"
        raise ConflictError(message, kind=ErrorKind.CHECKPOINT_STALE)
    epoch = Epoch(1 + max(view.last_sequence_number, entry.epoch_max, epoch_floor))
    owner = Owner(epoch, share, routing)
    return owner, Decision(entry.taken_over(owner))


def decide_take_over(
    stored: Entry | None,
    *,
    owner: Owner,
    identity: Identity,
    starts: Mapping[TopicPartition, int],
) -> Decision:
    """Carry an epoch claimed in the lead table into another table of the pipeline.

    The same epoch is refused, too: it is another worker's, which led by another table. So of two
    workers that want the same share, one is older in every table, whichever table each led by.

    Raises:
        FencedError: A younger worker was here first.

    """
    entry = _with_starts(_same_identity(stored, identity), starts)
    taken = entry.taken_over(owner)
    if entry.has_equal(owner) or not taken.owns_whole_share(owner):
        message = f"a younger worker took over: epoch={entry.epoch_max}, ours is {owner.epoch}"
        raise FencedError(message, kind=ErrorKind.OWNER_CHANGED)
    return Decision(taken)


def decide_extend(
    stored: Entry | None,
    *,
    owner: Owner,
    identity: Identity,
    starts: Mapping[TopicPartition, int],
) -> Decision:
    """Add Kafka partitions that appeared after the take-over; the owner's share holds them."""
    entry = _same_identity(_owned(stored, owner), identity)
    return Decision(_with_starts(entry, starts))


def decide_append(
    stored: Entry | None,
    *,
    owner: Owner,
    ranges: tuple[CountedRange, ...],
    files: tuple[WrittenFile, ...],
) -> Decision:
    """Add a generation to the target table.

    Raises:
        FencedError: Not the owner any more, or the stored offsets are not this generation's start:
            lower ones too, because a catalog may answer with a load older than our last commit.

    """
    entry = _owned(stored, owner)
    unknown = [r for r in ranges if r.offsets.topic_partition not in entry.checkpoint.next_offsets]
    if unknown:
        message = f"ledger does not know {unknown[0].offsets.topic_partition}"
        raise FencedError(message, kind=ErrorKind.CHECKPOINT_STALE)
    try:
        checkpoint = entry.checkpoint.advance(r.offsets for r in ranges)
    except (ConflictError, CorruptionError) as error:
        raise FencedError(str(error), kind=ErrorKind.CHECKPOINT_STALE) from error
    added = tuple(LedgerRange(r.offsets, _totals(r)) for r in ranges)
    totals = dict(entry.totals)
    for ledger_range in added:
        topic_partition = ledger_range.offsets.topic_partition
        totals[topic_partition] = totals.get(topic_partition, Totals()).plus(ledger_range.totals)
    return Decision(replace(entry, checkpoint=checkpoint, totals=totals), added, files)


def decide_append_dead_letters(
    stored: Entry | None,
    *,
    owner: Owner,
    ranges: tuple[CountedRange, ...],
    files: tuple[WrittenFile, ...],
) -> Decision:
    """Add dead letters; the rows are the verdict, the checkpoint only grows."""
    entry = _owned(stored, owner)
    ends = {r.offsets.topic_partition: r.offsets.next_offset for r in ranges}
    added = tuple(LedgerRange(r.offsets, _totals(r)) for r in ranges)
    return Decision(replace(entry, checkpoint=entry.checkpoint.grow(ends)), added, files)


def decide_pause(view: TableView, stored: Entry | None, *, owner: Owner, pause: Pause) -> Decision:
    """Let nothing more be appended until an operator acted; the entry is carried on (I8).

    A commit of its own, so that it asserts the head: an append that was built before is refused.
    """
    kept = view.paused or pause
    return Decision(_owned(stored, owner), properties={PAUSED_KEY: kept.encode()})


def decide_resume(view: TableView, stored: Entry, *, accepts: bool) -> Decision:
    """Take the pause back.

    Args:
        view: A load in which the table is paused.
        stored: Its ledger.
        accepts: From now on each record of the schema shows whether it fits.

    """
    paused, properties = view.paused, {PAUSED_KEY: ""}
    if accepts and paused is not None:
        known = decode_accepted(view.properties.get(ACCEPTED_KEY))
        properties[ACCEPTED_KEY] = encode_accepted({*known, paused.schema_id})
    return Decision(stored, properties=properties)


def check_unpaused(view: TableView, identifier: str) -> None:
    """Refuse to append to a paused table.

    Raises:
        IncompatibleSchemaError: An operator has to act.

    """
    if (pause := view.paused) is not None:
        raise paused_error(identifier, pause)


def decide_carry(
    stored: Entry | None,
    *,
    replacements: tuple[Replacement, ...] = (),
    clusters_manifests: bool = False,
    removed_snapshot_ids: tuple[int, ...] | None = None,
) -> Decision:
    """Change how rows lie in files, or nothing at all; the ledger entry is carried on as it is.

    Raises:
        ConfigError: k2i never committed to this table, so there is nothing to carry: what rows it
            should have is not known.

    """
    if stored is None:
        message = "the table holds no checkpoint, so it is not k2i's to maintain; ingest into it"
        raise ConfigError(message)
    return Decision(
        stored,
        replacements=replacements,
        clusters_manifests=clusters_manifests,
        removed_snapshot_ids=removed_snapshot_ids,
    )


def _totals(counted: CountedRange) -> Totals:
    counts = counted.counts
    return Totals(
        counts.row_count,
        counts.dead_letter_count,
        counts.filtered_count,
        counts.tombstone_count,
        extra_row_count=counts.extra_row_count,
    )


def _same_identity(stored: Entry | None, identity: Identity) -> Entry:
    if stored is None:
        return Entry(identity, Checkpoint())
    check_identity(stored, identity)
    topic_ids = {**stored.identity.topic_ids, **identity.topic_ids}
    return replace(stored, identity=replace(stored.identity, topic_ids=topic_ids))


def _with_starts(entry: Entry, starts: Mapping[TopicPartition, int]) -> Entry:
    """Add starts for Kafka partitions that the ledger does not know; what it knows stands."""
    return replace(
        entry,
        checkpoint=Checkpoint({**starts, **entry.checkpoint.next_offsets}),
        first_offsets={**starts, **entry.first_offsets},
    )


def _owned(stored: Entry | None, owner: Owner) -> Entry:
    if stored is None or not stored.owns_whole_share(owner):
        youngest = stored.epoch_max if stored else None
        message = (
            f"another worker owns a Kafka partition of share={owner.share}: epoch={youngest}, "
            f"ours is {owner.epoch}; this worker stops and deletes nothing"
        )
        raise FencedError(message, kind=ErrorKind.OWNER_CHANGED)
    return stored
