"""A sealed generation becomes commits: dead letters first, then the tables, the lead before others.

Belongs to the commit lane. A table for which nothing was in a generation needs no commit of it:
what was read is kept pending and goes into its next one, so that of many tables only those that got
something are written to. Not for ever, because a checkpoint that stands still falls behind the
topic's retention and is what a restart reads from.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from k2i_core.clock import Clock
from k2i_core.crash_points import CrashPoint, Observer
from k2i_core.errors import ConflictError, ErrorKind
from k2i_core.ingest.generation import SealedGeneration
from k2i_core.ingest.ports import DeadLetterTable, TransactionLog
from k2i_core.ingest.take_over import TakenOver
from k2i_core.ingest.targets import OpenTarget
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import CommitReport, CountedRange, Generation

IDLE_SECONDS_MAX = 600.0
"""How long a table that gets nothing goes without a commit. Larger lets a restart read more of the
topic again; smaller makes more empty snapshots, in each of maybe hundreds of tables."""


@dataclass(frozen=True, slots=True)
class Landed:
    """One commit of a generation to one table; the first one also says what the dead letters got.

    Attributes:
        generation: With everything that was pending.
    """

    opened: OpenTarget
    generation: Generation
    commit: CommitReport
    dead_letter_commit: CommitReport | None


class Landing:
    """Commits the generations of one session in seal order."""

    def __init__(
        self, dead_letters: DeadLetterTable, log: TransactionLog, clock: Clock, observe: Observer
    ) -> None:
        """Bind the parts that all tables share."""
        self._dead_letters = dead_letters
        self._log = log
        self._clock = clock
        self._observe = observe

    def land(
        self, sealed: SealedGeneration, taken: TakenOver, tell: Callable[[Landed], None]
    ) -> None:
        """Commit one generation; raises what a commit raises, and then the session is over.

        Args:
            sealed: The next one.
            taken: What the session owns.
            tell: Told about each commit to a table once it is in.

        """
        for one, _ in sealed.parts:
            # Before anything of the generation is in a table: else a crash could leave other
            # tables past records that are this one's, and nothing would say that it exists.
            self._take_over_if_new(one, taken)
        dead_letter_commit = None
        if sealed.dead_letter_files:
            dead_letter_commit = self._dead_letters.append_dead_letters(
                taken.owner, sealed.ranges, sealed.dead_letter_files
            )
            self._log.landed(self._dead_letters.identifier, sealed.number)
        self._observe(CrashPoint.DEAD_LETTERS_COMMITTED)
        dead_letter_files = sealed.dead_letter_files
        for place, (one, generation) in enumerate(sealed.parts):
            one.pending = merged(one.pending, generation.ranges)
            # The lead with every generation: that no other table moved without it is what a
            # change of the rules is judged by.
            is_wanted = place == 0 or _is_for(generation) or self._is_due(one)
            if one.pending and is_wanted:
                ranges = tuple(one.pending[tp] for tp in sorted(one.pending))
                whole = replace(generation, ranges=ranges, dead_letter_files=dead_letter_files)
                commit = self._append(one, taken, whole)
                tell(Landed(one, whole, commit, dead_letter_commit))
                dead_letter_commit, dead_letter_files = None, ()

    def level(self, opened: Iterable[OpenTarget], taken: TakenOver) -> None:
        """Commit what is pending, so that every table has the same checkpoint."""
        for one in opened:
            if one.pending:
                ranges = tuple(one.pending[tp] for tp in sorted(one.pending))
                self._append(one, taken, Generation(0, ranges, (), (), 0.0))

    def _append(self, one: OpenTarget, taken: TakenOver, generation: Generation) -> CommitReport:
        commit = one.target.table.append(taken.owner, generation.ranges, generation.files)
        self._observe(CrashPoint.TARGET_COMMITTED)
        if generation.number:
            # Safe for generations that were left out, because hot rows know only those with rows.
            one.target.hot.committed(generation.number, commit.snapshot_id)
            self._log.landed(one.identifier, generation.number)
        self._observe(CrashPoint.LANDED_LOGGED)
        one.next_offsets.update(generation.ends)
        one.pending = {}
        one.committed_boot_seconds = self._clock.boot_seconds()
        return commit

    def _is_due(self, one: OpenTarget) -> bool:
        return self._clock.boot_seconds() - one.committed_boot_seconds >= IDLE_SECONDS_MAX

    def _take_over_if_new(self, one: OpenTarget, taken: TakenOver) -> None:
        if one.is_taken:
            return
        starts = one.held
        report = one.target.table.take_over(taken.owner, taken.identity, starts)
        self._observe(CrashPoint.TARGET_TAKEN_OVER)
        entry = one.target.table.inspect_after(report.snapshot_id).entry
        assert entry is not None
        if any(entry.checkpoint.next_offsets[tp] != n for tp, n in starts.items()):
            message = (
                f"table={one.identifier} was seen for the first time and has a checkpoint of its "
                f"own: another worker made it meanwhile; starting over from the ledger"
            )
            raise ConflictError(message, kind=ErrorKind.CHECKPOINT_STALE)
        one.is_taken = True


def merged(
    before: Mapping[TopicPartition, CountedRange], added: Iterable[CountedRange]
) -> dict[TopicPartition, CountedRange]:
    """Return ranges with those that follow them, one a Kafka partition."""
    ranges = dict(before)
    for one in added:
        topic_partition = one.offsets.topic_partition
        earlier = ranges.get(topic_partition)
        if earlier is None:
            ranges[topic_partition] = one
            continue
        assert earlier.offsets.next_offset == one.offsets.start_offset
        ranges[topic_partition] = CountedRange(
            OffsetRange(topic_partition, earlier.offsets.start_offset, one.offsets.next_offset),
            earlier.counts + one.counts,
        )
    return ranges


def _is_for(generation: Generation) -> bool:
    """Tell whether anything in a generation was for its table, rather than filtered."""
    counts = generation.counts
    return counts.record_count > counts.filtered_count
