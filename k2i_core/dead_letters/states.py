"""What became of each dead letter since: read from the tables, stored nowhere else.

| the record's offset | state |
|---|---|
| at or above the target's checkpoint | pending: the commit of the target is not there yet |
| has a row in the target | replayed |
| has a mark in the dead-letter table | dropped |
| else | open |

The first that fits. A dead letter's row is never changed or removed: that it was replayed is true
because the target holds the row, in every state of the target that a rewind may bring back.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa
from pyiceberg.table import Table
from pyroaring import BitMap64

from k2i_core.audit.offset_set import offsets_bitmap, outside, within
from k2i_core.audit.offsets_read import live_files, read_offsets
from k2i_core.errors import CorruptionError, ErrorKind, UnavailableError
from k2i_core.ledger import Entry, Totals
from k2i_core.offsets import TopicPartition
from k2i_core.records import dropped_name

OffsetSets = Mapping[TopicPartition, BitMap64]

ShowProgress = Callable[[str, int, int], None]
"""Told how far one stage has come: its name, done, at most in all."""


def unseen(_stage: str, _done_count: int, _total_count: int) -> None:
    """Show nothing."""


class LetterState(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    PENDING = "pending"
    REPLAYED = "replayed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class LetterStates:
    """The offsets of all dead letters of one target, in exactly one state each."""

    open: OffsetSets
    pending: OffsetSets
    replayed: OffsetSets
    dropped: OffsetSets

    def count(self, state: LetterState) -> int:
        """Return how many dead letters are in a state."""
        return sum(map(len, self.of(state).values()))

    def of(self, state: LetterState) -> OffsetSets:
        """Return the offsets in a state."""
        match state:
            case LetterState.OPEN:
                return self.open
            case LetterState.PENDING:
                return self.pending
            case LetterState.REPLAYED:
                return self.replayed
            case LetterState.DROPPED:
                return self.dropped

    def state_of(self, topic_partition: TopicPartition, offset: int) -> LetterState:
        """Return the state of one dead letter."""
        for state in LetterState:
            if offset in self.of(state).get(topic_partition, BitMap64()):
                return state
        # Committed after this look.
        return LetterState.PENDING


@dataclass(frozen=True, slots=True)
class LoadedTables:
    """One load of the target, and one of the dead-letter table after it.

    In this order, so that every dead letter below the target's checkpoint is among them.

    Attributes:
        entry: The target's ledger; None when k2i never committed to it.
        dead_letter_entry: The dead-letter table's ledger.
    """

    target: Table
    entry: Entry | None
    dead_letters: Table
    dead_letter_entry: Entry | None

    @property
    def target_name(self) -> str:
        """The target as the dead letters name it."""
        return ".".join(self.target.name())

    @property
    def forgotten_below(self) -> Mapping[str, int]:
        """Topic → sequence number below which dead letters belong to a deleted topic."""
        return self.dead_letter_entry.since_sequence_numbers if self.dead_letter_entry else {}


def read_states(loaded: LoadedTables, show: ShowProgress = unseen) -> LetterStates:
    """Read where every dead letter of the target stands.

    Args:
        loaded: The tables.
        show: Told how far the reading of files has come.

    Raises:
        CorruptionError: The target does not hold as many of them as its ledger says.
        UnavailableError: The store did not answer.
        ConfigError: Another engine put delete files on a table.

    """
    dead, since = loaded.dead_letters, loaded.forgotten_below
    stored = _collected(dead, loaded.target_name, since)
    marked = _collected(dead, dropped_name(loaded.target_name), since)
    if loaded.entry is None:
        return LetterStates({}, stored, {}, {})
    checkpoint = loaded.entry.checkpoint.next_offsets
    settled = {tp: within(s, 0, checkpoint.get(tp, 0)) for tp, s in stored.items()}
    pending = {tp: outside(s, 0, checkpoint.get(tp, 0)) for tp, s in stored.items()}
    replayed = held_offsets(loaded.target, settled, loaded.entry.since_sequence_numbers, show)
    check_replayed(loaded.entry, replayed)
    return states_from(settled, pending, replayed, marked)


def states_from(
    settled: OffsetSets, pending: OffsetSets, replayed: OffsetSets, marked: OffsetSets
) -> LetterStates:
    """Give every dead letter its one state: a row outweighs a mark."""
    none = BitMap64()
    dropped = {
        tp: (offsets & marked.get(tp, none)) - replayed.get(tp, none)
        for tp, offsets in settled.items()
    }
    still_open = {
        tp: offsets - replayed.get(tp, none) - dropped[tp] for tp, offsets in settled.items()
    }
    return LetterStates(still_open, pending, replayed, dropped)


def check_replayed(entry: Entry, replayed: OffsetSets) -> None:
    """Refuse to go on where table and ledger disagree about what was replayed.

    Raises:
        CorruptionError: A row is gone, or somebody else put one there: neither must be replayed.

    """
    for topic_partition in sorted({*entry.totals, *replayed}):
        claimed = entry.totals.get(topic_partition, Totals()).replayed_count
        found = len(replayed.get(topic_partition, BitMap64()))
        if found != claimed:
            message = (
                f"{topic_partition}: the table holds rows={found} of its dead letters, its ledger "
                f"says replayed={claimed}; another program added or removed rows: see `k2i verify`"
            )
            raise CorruptionError(message, kind=ErrorKind.LEDGER_UNREADABLE)


def held_offsets(
    table: Table, wanted: OffsetSets, since: Mapping[str, int], show: ShowProgress = unseen
) -> OffsetSets:
    """Return which of the wanted offsets have a row; reads only files that may hold one."""
    held: defaultdict[TopicPartition, BitMap64] = defaultdict(BitMap64)
    files = live_files(table)
    for number, file in enumerate(files):
        show("files of rows", number, len(files))
        if not file.may_hold(wanted):
            continue
        try:
            for batch in read_offsets(table.io, file, since_sequence_numbers=since):
                for part in batch.partitions:
                    if part.topic_partition in wanted:
                        found = offsets_bitmap(part.offsets) & wanted[part.topic_partition]
                        held[part.topic_partition] |= found
        except (OSError, pa.ArrowInvalid) as error:
            raise _unreadable(file.path) from error
    return dict(held)


def _collected(table: Table, name: str, since: Mapping[str, int]) -> OffsetSets:
    collected: defaultdict[TopicPartition, BitMap64] = defaultdict(BitMap64)
    for file in live_files(table):
        try:
            for batch in read_offsets(
                table.io, file, target_table=name, since_sequence_numbers=since
            ):
                for part in batch.partitions:
                    collected[part.topic_partition] |= offsets_bitmap(part.offsets)
        except (OSError, pa.ArrowInvalid) as error:
            raise _unreadable(file.path) from error
    return dict(collected)


def _unreadable(path: str) -> UnavailableError:
    message = f"data file path={path} cannot be read; check the store and call again"
    return UnavailableError(message, kind=ErrorKind.STORAGE_UNAVAILABLE)
