"""How a worker starts: it takes over by a commit, and only then reads the ledger for real.

    list logs ─► inspect ─► claim in target ─► same epoch in dead letters ─► ledger ─► verdicts
              ─► recover ─► mirror ─► assign

The order is the protocol's. The logs are listed before the claim, because what appears later may
be a successor's. The ledger is read after it, because until then an older worker may still commit.
Nothing is deleted before both tables refuse the older owner.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from k2i_core.crash_points import CrashPoint, Observer
from k2i_core.errors import DataLossError, ErrorKind, FencedError
from k2i_core.ingest.ports import (
    DeadLetterTable,
    ReadVerdicts,
    Source,
    TargetTable,
    TransactionLog,
    Watermarks,
)
from k2i_core.ingest.recovery import recover
from k2i_core.ledger import Entry, Epoch, Identity, Owner, Share, check_identity
from k2i_core.offsets import TopicPartition
from k2i_core.records import TableState


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What a worker knows once it may poll.

    Attributes:
        owner: Its epoch and share.
        identity: Cluster and topic ids that every later commit stands for.
        next_offsets: Where to read each Kafka partition of the share.
        verdicts: Offsets at or above `next_offsets` that are dead letters already.
    """

    owner: Owner
    identity: Identity
    next_offsets: Mapping[TopicPartition, int]
    verdicts: Mapping[TopicPartition, frozenset[int]]


def take_over(
    *,
    pipeline: str,
    share: Share,
    source: Source,
    target: TargetTable,
    dead_letters: DeadLetterTable,
    read_verdicts: ReadVerdicts,
    log: TransactionLog,
    observe: Observer,
) -> TakenOver:
    """Take over `share`, settle what earlier workers left, and assign the source.

    Raises:
        FencedError: A younger worker took over meanwhile; stop.
        DataLossError: Kafka no longer has offsets that the table still needs, or the topic or the
            cluster is another one; an operator accepts that with `k2i table accept-gap`.
        ConfigError: The table belongs to another pipeline.

    """
    earlier_logs = log.earlier()
    observe(CrashPoint.LOGS_LISTED)

    identity = Identity(pipeline, source.cluster_id(), source.topic_ids())
    before = target.inspect()
    epoch_floor = _epoch_max(dead_letters.inspect())
    check_identity(before.entry, identity)
    starts = resolve_starts(source, before.entry)
    check_retention(source, share, before.entry)
    observe(CrashPoint.TABLES_INSPECTED)

    owner, claim = target.claim(share, identity, starts, epoch_floor)
    log.took_over(owner)
    observe(CrashPoint.TARGET_TAKEN_OVER)
    dead_letter_claim = dead_letters.take_over(owner, identity, starts)
    observe(CrashPoint.DEAD_LETTERS_TAKEN_OVER)

    state = target.inspect_after(claim.snapshot_id)
    dead_letter_state = dead_letters.inspect_after(dead_letter_claim.snapshot_id)
    entry = _owned_entry(state, owner)
    next_offsets = _share_of(entry, share)
    observe(CrashPoint.LEDGER_READ)

    dead_letter_entry = _owned_entry(dead_letter_state, owner)
    verdicts = read_verdicts(
        target.identifier,
        next_offsets,
        dead_letter_entry.since_sequence_numbers,
        dead_letter_state,
    )
    observe(CrashPoint.VERDICTS_READ)
    recover(earlier_logs, log, (target, state), (dead_letters, dead_letter_state))
    observe(CrashPoint.RECOVERED)

    source.mirror(next_offsets)
    source.assign(next_offsets)
    observe(CrashPoint.ASSIGNED)
    return TakenOver(owner, identity, next_offsets, verdicts)


def resolve_starts(source: Source, entry: Entry | None) -> Mapping[TopicPartition, int]:
    """Return where Kafka partitions start that the ledger does not know, of every share.

    A topic new to the ledger starts by the pipeline's policy, written down at once so that a crash
    before the first commit does not ask `latest` again. A partition added later to a known topic
    starts at its log start, because all its records came after the pipeline.
    """
    known = entry.checkpoint.next_offsets if entry else {}
    known_topics = {topic_partition.topic for topic_partition in known}
    unknown = source.partitions() - set(known)
    first = {tp for tp in unknown if tp.topic not in known_topics}
    later = unknown - first
    log_starts = {tp: marks.low for tp, marks in source.watermarks(later).items()} if later else {}
    return {**(source.start_offsets(first) if first else {}), **log_starts}


def check_retention(source: Source, share: Share, entry: Entry | None) -> None:
    """Refuse to skip offsets that Kafka dropped before they were read.

    Raises:
        DataLossError: Lists every range that is gone.

    """
    if entry is None:
        return
    mine = _share_of(entry, share)
    existing = {tp: n for tp, n in mine.items() if tp in source.partitions()}
    marks = source.watermarks(existing) if existing else {}
    lost = [_lost(tp, existing[tp], marks[tp]) for tp in sorted(existing) if tp in marks]
    problems = [text for text in lost if text]
    problems += [f"{tp}: the Kafka partition is gone" for tp in sorted(set(mine) - set(existing))]
    if problems:
        message = (
            f"Kafka no longer has offsets that the table needs: {'; '.join(problems)}; accept the "
            f"loss with `k2i table accept-gap`"
        )
        raise DataLossError(message)


def _lost(topic_partition: TopicPartition, next_offset: int, marks: Watermarks) -> str:
    if next_offset < marks.low:
        return f"{topic_partition}: offsets [{next_offset},{marks.low}) were deleted unread"
    if next_offset > marks.high:
        return (
            f"{topic_partition}: the table is at next_offset={next_offset}, the log ends at "
            f"{marks.high}"
        )
    return ""


def _owned_entry(state: TableState, owner: Owner) -> Entry:
    if state.entry is None or not state.entry.owns_whole_share(owner):
        message = f"a younger worker took over share={owner.share} right after us"
        raise FencedError(message, kind=ErrorKind.OWNER_CHANGED)
    return state.entry


def _share_of(entry: Entry, share: Share) -> Mapping[TopicPartition, int]:
    return {tp: n for tp, n in entry.checkpoint.next_offsets.items() if share.holds(tp)}


def _epoch_max(state: TableState) -> Epoch:
    return state.entry.epoch_max if state.entry else Epoch(0)
