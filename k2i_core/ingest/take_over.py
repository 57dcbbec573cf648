"""How a worker starts: it takes over by a commit, and only then reads the ledger for real.

    list logs ─► inspect ─► claim in the lead table ─► same epoch in the others, dead letters last
              ─► ledger ─► verdicts ─► recover ─► mirror ─► assign

The order is the protocol's. The logs are listed before the claim, because what appears later may
be a successor's. The ledger is read after it, because until then an older worker may still commit.
Nothing is deleted before all tables refuse the older owner.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from k2i_core.crash_points import CrashPoint, Observer
from k2i_core.errors import (
    ConflictError,
    DataLossError,
    ErrorKind,
    FencedError,
    IncompatibleSchemaError,
    K2iError,
)
from k2i_core.ingest.ports import (
    DeadLetterTable,
    ReadVerdicts,
    Source,
    TargetTable,
    TransactionLog,
    Watermarks,
)
from k2i_core.ingest.recovery import recover
from k2i_core.ingest.rules_change import unmoved_since_judged
from k2i_core.ingest.targets import Routing
from k2i_core.ledger import Entry, Epoch, Identity, Owner, Share, check_identity
from k2i_core.offsets import TopicPartition
from k2i_core.pauses import paused_error
from k2i_core.records import DecidedOffsets, TableState


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What a worker knows once it may poll.

    Attributes:
        owner: Its epoch and share.
        identity: Cluster and topic ids that every later commit stands for.
        next_offsets: Where to read each Kafka partition of the share: the lowest of all tables.
        targets: Table → its next offsets of those Kafka partitions; the lead first.
        verdicts: Table → offsets at or above `next_offsets` that are dead letters of it already,
            also of a table that is past them, or left out.
        left_out: Table → why nothing is read for it until an operator acted.
    """

    owner: Owner
    identity: Identity
    next_offsets: Mapping[TopicPartition, int]
    targets: Mapping[str, Mapping[TopicPartition, int]]
    verdicts: Mapping[str, DecidedOffsets]
    left_out: Mapping[str, K2iError] = field(default_factory=dict[str, K2iError])


def take_over(
    *,
    pipeline: str,
    share: Share,
    source: Source,
    targets: Sequence[TargetTable],
    dead_letters: DeadLetterTable,
    read_verdicts: ReadVerdicts,
    log: TransactionLog,
    observe: Observer,
    routing: Routing | None = None,
) -> TakenOver:
    """Take over `share`, settle what earlier workers left, and assign the source.

    The first of `targets` leads. `routing` is None where there is one table.

    Raises:
        FencedError: A younger worker took over meanwhile; stop.
        ConflictError: An older worker acted meanwhile; start over.
        DataLossError: Kafka no longer has offsets that every table still needs, or topic or cluster
            is another one; an operator accepts that with `k2i table accept-gap`.
        IncompatibleSchemaError: Every table is paused. One that is alone in this, or in data loss,
            is left out, and the others go on.
        ConfigError: A table belongs to another pipeline, or the rules changed too soon.

    """
    earlier_logs = log.earlier()
    observe(CrashPoint.LOGS_LISTED)
    identity = Identity(pipeline, source.cluster_id(), source.topic_ids())
    inspected = {target.identifier: target.inspect() for target in targets}
    before = {name: state.entry for name, state in inspected.items()}
    dead_before = dead_letters.inspect().entry
    left_out = _left_out(inspected, source, share, identity)
    lead, *others = [target for target in targets if target.identifier not in left_out]
    starts = resolve_starts(source, [before[target.identifier] for target in (lead, *others)])
    rules, lead_entry = routing.name if routing else "", before[lead.identifier]
    unmoved = unmoved_since_judged(rules, share, lead_entry, before.values(), dead_before)
    observe(CrashPoint.TABLES_INSPECTED)

    epoch_floor = max(_epoch_max(entry) for entry in (*before.values(), dead_before))
    first = {name: starts_of(entry, starts) for name, entry in before.items()}
    owner, claim = lead.claim(share, identity, first[lead.identifier], epoch_floor, rules, unmoved)
    log.took_over(owner)
    claims = [(lead, claim)]
    observe(CrashPoint.TARGET_TAKEN_OVER)
    for target in others:
        claims.append((target, target.take_over(owner, identity, first[target.identifier])))
        observe(CrashPoint.TARGET_TAKEN_OVER)
    for target in _unstarted(targets, left_out, first):
        target.take_over(owner, identity, first[target.identifier])
    dead_letter_claim = dead_letters.take_over(owner, identity, starts_of(dead_before, starts))
    observe(CrashPoint.DEAD_LETTERS_TAKEN_OVER)
    if routing is not None:
        _check_seen(routing.seen_tables(), before)

    states = [(target, target.inspect_after(claim.snapshot_id)) for target, claim in claims]
    dead_letter_state = dead_letters.inspect_after(dead_letter_claim.snapshot_id)
    own = {t.identifier: _share_of(_owned_entry(state, owner), share) for t, state in states}
    next_offsets = lowest(own.values())
    observe(CrashPoint.LEDGER_READ)

    verdicts = _verdicts(read_verdicts, own, inspected, dead_letter_state, owner)
    observe(CrashPoint.VERDICTS_READ)
    recover(earlier_logs, log, *states, (dead_letters, dead_letter_state))
    observe(CrashPoint.RECOVERED)

    source.mirror(next_offsets)
    source.assign(next_offsets)
    observe(CrashPoint.ASSIGNED)
    return TakenOver(owner, identity, next_offsets, own, verdicts, left_out)


def _verdicts(
    read: ReadVerdicts,
    own: Mapping[str, Mapping[TopicPartition, int]],
    tables: Collection[str],
    dead_letters: TableState,
    owner: Owner,
) -> Mapping[str, DecidedOffsets]:
    # Of tables that are left out, too: what others read again must not be a dead letter of them.
    checkpoints = {name: own.get(name, {}) for name in tables}
    since = _owned_entry(dead_letters, owner).since_sequence_numbers
    return read(checkpoints, lowest(own.values()), since, dead_letters)


def lowest(of_tables: Iterable[Mapping[TopicPartition, int]]) -> dict[TopicPartition, int]:
    """Return the lowest next offset of each Kafka partition."""
    found: dict[TopicPartition, int] = {}
    for next_offsets in of_tables:
        for topic_partition, next_offset in next_offsets.items():
            found[topic_partition] = min(next_offset, found.get(topic_partition, next_offset))
    return found


def resolve_starts(source: Source, entries: Sequence[Entry | None]) -> Mapping[TopicPartition, int]:
    """Return where Kafka partitions start in tables whose ledger does not know them.

    A topic new to all ledgers starts by the pipeline's policy, written down at once so that a crash
    before the first commit does not ask `latest` again. A partition added later to a known topic
    starts at its log start, because all its records came after the pipeline. One that other tables
    know starts where the lowest of them is: what lies below is theirs.
    """
    known = lowest(entry.checkpoint.next_offsets for entry in entries if entry is not None)
    known_topics = {topic_partition.topic for topic_partition in known}
    unknown = source.partitions() - set(known)
    first = {tp for tp in unknown if tp.topic not in known_topics}
    later = unknown - first
    log_starts = {tp: marks.low for tp, marks in source.watermarks(later).items()} if later else {}
    return {**known, **(source.start_offsets(first) if first else {}), **log_starts}


def starts_of(
    entry: Entry | None, starts: Mapping[TopicPartition, int]
) -> Mapping[TopicPartition, int]:
    """Return the starts of those Kafka partitions that a ledger does not know."""
    known = entry.checkpoint.next_offsets if entry else {}
    return {tp: start for tp, start in starts.items() if tp not in known}


def _left_out(
    states: Mapping[str, TableState], source: Source, share: Share, identity: Identity
) -> dict[str, K2iError]:
    """Find tables that are paused, or need offsets which Kafka lost; raises where all are."""
    left_out: dict[str, K2iError] = {}
    for name, state in states.items():
        try:
            if state.paused is not None:
                raise paused_error(name, state.paused)
            check_identity(state.entry, identity)
            check_retention(source, share, state.entry)
        except (DataLossError, IncompatibleSchemaError) as error:
            left_out[name] = error
    if len(left_out) == len(states):
        raise next(iter(left_out.values()))
    return left_out


def _unstarted(
    targets: Iterable[TargetTable],
    left_out: Mapping[str, K2iError],
    first: Mapping[str, Mapping[TopicPartition, int]],
) -> Iterator[TargetTable]:
    """Yield tables that are left out and do not know all Kafka partitions that others read.

    They have to know where these begin for them, before the others move on: later nobody could
    tell. Of a topic that was created again an operator says it.
    """
    for target in targets:
        error = left_out.get(target.identifier)
        is_same = error is not None and error.kind in (
            ErrorKind.TABLE_PAUSED,
            ErrorKind.OFFSETS_LOST,
        )
        if is_same and first[target.identifier]:
            yield target


def _check_seen(seen: Collection[str], known: Collection[str]) -> None:
    """Start over when an older worker made a table between our look and our claims.

    Its dead letters there may stand already. After the claims no more can come to stand.
    """
    if unknown := sorted(set(seen) - set(known)):
        message = f"an older worker made table={unknown[0]} meanwhile; starting over"
        raise ConflictError(message, kind=ErrorKind.CHECKPOINT_STALE)


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


def _epoch_max(entry: Entry | None) -> Epoch:
    return entry.epoch_max if entry else Epoch(0)
