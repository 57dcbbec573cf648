"""The decisions about dead letters that landed: become rows (replay), or be given up (drop). Pure.

| decision | table | rows | entry |
|---|---|---|---|
| replay | target | the replayed ones | totals: rows + n, dead letters - n, replayed + n |
| drop | dead letters | one mark a dead letter | as it is |

Each is one commit to one table, so that there is no moment between two. Neither owns anything:
checkpoint and owners stay, so that a live worker meets no more than a conflict, and its next commit
carries the new totals. Keeps I1: a dead letter becomes a row once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import NoReturn

from k2i_core.errors import ConflictError, CorruptionError, ErrorKind
from k2i_core.iceberg.decisions import Decision
from k2i_core.iceberg.gateway import TableView
from k2i_core.ledger import OPERATION_KEY, Entry, Totals
from k2i_core.offsets import TopicPartition
from k2i_core.records import WrittenFile

REPLAY_OPERATION = "replay-dead-letters"
DROP_OPERATION = "drop-dead-letters"


@dataclass(frozen=True, slots=True)
class Replay:
    """Rows that were dead letters, and the load of the target in which they were no rows yet.

    Attributes:
        head_snapshot_id: The head of that load.
        entry: Its ledger.
        counts: Kafka partition → records in `files`.
        files: Not in any snapshot yet.
        extra_row_counts: Kafka partition → rows in `files` beyond the first one of their record.
    """

    head_snapshot_id: int
    entry: Entry
    counts: Mapping[TopicPartition, int]
    files: tuple[WrittenFile, ...]
    extra_row_counts: Mapping[TopicPartition, int] = field(
        default_factory=dict[TopicPartition, int]
    )


def decide_replay(view: TableView, stored: Entry | None, replay: Replay) -> Decision:
    """Add the rows if what was true when they were chosen still is.

    In one unbroken history only a replay makes dead letters below the checkpoint rows, and each
    one counts them. So where the count has not moved and the chosen head is an ancestor, none of
    these rows is there yet. Anything else is decided by looking again.

    Raises:
        ConflictError: Another replay, a rewind or an accepted gap came between: look again.
        CorruptionError: The ledger cannot be believed.

    """
    now, then = believed(stored), replay.entry
    if not view.is_ancestor(replay.head_snapshot_id):
        _look_again("the table was rewound")
    if now.identity != then.identity or dict(now.since_sequence_numbers) != dict(
        then.since_sequence_numbers
    ):
        _look_again("a topic was created again")
    totals = dict(now.totals)
    for topic_partition, count in replay.counts.items():
        before = now.totals.get(topic_partition, Totals())
        chosen = then.totals.get(topic_partition, Totals())
        if before.replayed_count != chosen.replayed_count:
            _look_again(f"dead letters of {topic_partition} were replayed")
        extra_row_count = replay.extra_row_counts.get(topic_partition, 0)
        totals[topic_partition] = before.replayed(count, extra_row_count)
        if totals[topic_partition].dead_letter_count < 0:
            message = f"more rows than dead letters: {topic_partition} rows={count}"
            raise CorruptionError(message, kind=ErrorKind.LEDGER_UNREADABLE)
    return Decision(replace(now, totals=totals), files=replay.files)


def decide_drop(
    view: TableView, stored: Entry | None, head_snapshot_id: int, files: tuple[WrittenFile, ...]
) -> Decision:
    """Add the marks; one that is there already changes nothing, but a look again avoids it.

    Raises:
        ConflictError: Somebody dropped dead letters meanwhile, or a topic was created again.
        CorruptionError: The ledger cannot be believed.

    """
    entry = believed(stored)
    since = takewhile(lambda s: s.snapshot_id != head_snapshot_id, view.ancestors())
    operations = {snapshot.summary.get(OPERATION_KEY) for snapshot in since}
    if not view.is_ancestor(head_snapshot_id) or operations & {DROP_OPERATION, "accept-gap"}:
        _look_again("the dead-letter table changed")
    return Decision(entry, files=files)


def believed(stored: Entry | None) -> Entry:
    """Return the entry of a table whose ledger can be believed.

    Raises:
        CorruptionError: It cannot.

    """
    if stored is None:
        message = "the ledger cannot be believed; settle that first with `k2i table rewind`"
        raise CorruptionError(message, kind=ErrorKind.CHECKPOINT_UNPROVEN)
    return stored


def _look_again(what: str) -> NoReturn:
    message = f"{what} meanwhile; look again"
    raise ConflictError(message, kind=ErrorKind.CHECKPOINT_STALE)
