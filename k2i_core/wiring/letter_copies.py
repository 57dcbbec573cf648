"""Dead letters go to a Kafka topic, too: after their commit, before their target's.

    dead letters committed ─► copied ─► target committed
                   │ the worker dies here │
                   └──► next take-over: the target has not moved past them, so they are copied again

So each is copied at least once, unless the broker refuses it for longer than the limit. Nothing is
kept for it: what has to be copied again is what the verdicts of a take-over are anyway.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

import pyarrow as pa
import structlog
from pyiceberg.table import Table

from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.verdicts import read_letter_file, read_letters
from k2i_core.iceberg.views import table_of, view_of
from k2i_core.ingest.ports import DeadLetterTable, ReadVerdicts
from k2i_core.kafka.letter_topic import LetterTopic
from k2i_core.ledger import Identity, Owner
from k2i_core.offsets import TopicPartition
from k2i_core.records import (
    CommitReport,
    CountedRange,
    DecidedOffsets,
    TableState,
    WrittenFile,
)

_log = structlog.get_logger(__name__)

Report = Callable[[int, int], None]
"""Told how many letters were copied, and how many were given up."""


class LetterCopies:
    """Copies letters batch by batch, and says what became of them."""

    def __init__(self, topic: LetterTopic, name: str, report: Report) -> None:
        """Bind a topic and who is told."""
        self._topic = topic
        self._name = name
        self._report = report

    def copy(self, letters: Iterable[pa.RecordBatch]) -> None:
        """Copy rows × DEAD_LETTER_SCHEMA; what cannot be copied in time is counted and logged."""
        copied = self._topic.copy(letters)
        self._report(copied.count, copied.missing_count)
        if copied.missing_count:
            _log.warning(
                "dead letters were not copied to their topic; they are in their table",
                topic=self._name,
                count=copied.missing_count,
                reason=copied.reason,
            )


class CopiedDeadLetterTable:
    """A dead-letter table whose commits are copied as soon as they are in."""

    def __init__(self, inner: DeadLetterTable, table: Table, copies: LetterCopies) -> None:
        """Wrap `inner`; `table` is only asked for its files."""
        self._inner = inner
        self._table = table
        self._copies = copies

    @property
    def identifier(self) -> str:
        """Namespace and name, joined by dots."""
        return self._inner.identifier

    def inspect(self) -> TableState:
        """Load the table and read its ledger."""
        return self._inner.inspect()

    def inspect_after(self, snapshot_id: int) -> TableState:
        """Load until `snapshot_id` is in the head's history."""
        return self._inner.inspect_after(snapshot_id)

    def take_over(
        self, owner: Owner, identity: Identity, starts: Mapping[TopicPartition, int]
    ) -> CommitReport:
        """Commit a claimed owner."""
        return self._inner.take_over(owner, identity, starts)

    def reachable(self, state: TableState, paths: Collection[str]) -> set[str]:
        """Return those of `paths` that a retained snapshot reaches."""
        return self._inner.reachable(state, paths)

    def delete_files(self, paths: Collection[str]) -> None:
        """Delete files that recovery proved unneeded."""
        self._inner.delete_files(paths)

    def append_dead_letters(
        self, owner: Owner, ranges: tuple[CountedRange, ...], files: tuple[WrittenFile, ...]
    ) -> CommitReport:
        """Commit a generation's dead letters, then copy them."""
        report = self._inner.append_dead_letters(owner, ranges, files)
        with translated(f"read dead letters of table {self.identifier}"):
            self._copies.copy(
                batch for file in files for batch in read_letter_file(self._table.io, file.path)
            )
        return report


class CopiedVerdicts:
    """Reads verdicts, and copies their letters again: nobody knows whether they were."""

    def __init__(self, inner: ReadVerdicts, copies: LetterCopies) -> None:
        """Wrap `inner`."""
        self._inner = inner
        self._copies = copies

    def __call__(
        self,
        checkpoints: Mapping[str, Mapping[TopicPartition, int]],
        from_offsets: Mapping[TopicPartition, int],
        since_sequence_numbers: Mapping[str, int],
        state: TableState,
    ) -> Mapping[str, DecidedOffsets]:
        """Return table → its dead-lettered offsets at or above `from_offsets`."""
        found = self._inner(checkpoints, from_offsets, since_sequence_numbers, state)
        for target_table, decided in found.items():
            own = checkpoints[target_table]
            # What a table is past was copied before its commit.
            above = {tp: set(o[o >= own[tp]].tolist()) for tp, o in decided.items() if tp in own}
            if wanted := {tp: offsets for tp, offsets in above.items() if offsets}:
                table = table_of(view_of(state))
                self._copies.copy(read_letters(table, target_table, wanted))
        return found
