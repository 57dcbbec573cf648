"""The worker's side: batches appended as they are decoded, generations dropped once committed.

    append(batch) ─► segment ─► state page        committed(g) ─► state page ─► files removed

Two threads call: the write lane appends, the commit lane reports commits. The last committed
generation stays for readers whose snapshot is one commit behind, unless its bytes are needed.

Hot rows are a copy. Whatever goes wrong with them ends them for this session and is said; it never
ends ingestion. The page then stays as it is: what it covers is right, and it says that no more
comes.
"""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from k2i_core.errors import CorruptionError
from k2i_core.hot.directories import (
    OwnDirectory,
    boot_id,
    remove_if_dead,
    session_directories,
)
from k2i_core.hot.layout import (
    Offsets,
    PageHead,
    PageState,
    SegmentState,
    segment_name,
    state_bytes_max,
)
from k2i_core.hot.page import STATE_NAME, StatePageReader, StatePageWriter
from k2i_core.hot.segments import (
    SEGMENT_BYTES_FIRST,
    SEGMENT_BYTES_LEAST,
    SegmentWriter,
    bytes_around,
    room_for,
    usual_room,
)
from k2i_core.ledger import Identity, Owner
from k2i_core.offsets import TopicPartition
from k2i_core.records import DecodedBatch

_Made = TypeVar("_Made")

GENERATIONS_MAX = 64
"""Generations that a page has room for. A worker has a handful in flight; more only costs room."""

GROWTH_FIRST = 2.0
"""Bytes of rows for a byte of their records, until more is seen. Larger polls less than there is
room for; smaller lets the first polls overshoot the limit when records are short."""

GROWTH_SEEN_BYTES = 64 * 1024
"""Batches of fewer bytes tell nothing about growth: of one tiny record the row is mostly frame."""

SEGMENTS_MORE = 256
"""Segments that a page has room for besides those that fill the byte limit."""


@dataclass(slots=True)
class _Generation:
    number: int
    next_offsets: Offsets
    segments: list[tuple[int, SegmentWriter]] = field(
        default_factory=list[tuple[int, SegmentWriter]]
    )

    @property
    def byte_count(self) -> int:
        return sum(segment.size for _, segment in self.segments)


class HotBudget:
    """The bytes that the hot rows of several tables may take together; called by two threads."""

    def __init__(self, byte_count_max: int, table_count: int) -> None:
        """Share a limit among tables."""
        self.byte_count_max = byte_count_max
        self.segment_bytes_first = max(SEGMENT_BYTES_LEAST, SEGMENT_BYTES_FIRST // table_count)
        self.uncommitted_bytes = 0
        self._lock = threading.Lock()
        self._of_writers: dict[int, int] = {}

    def note(self, writer: object, byte_count: int) -> None:
        """Take note of what one table's rows take now."""
        with self._lock:
            self.uncommitted_bytes += byte_count - self._of_writers.get(id(writer), 0)
            self._of_writers[id(writer)] = byte_count


class HotWriter:
    """Implements `ingest.ports.HotRows` with files; a directory is made at the take-over."""

    def __init__(
        self,
        roots: Sequence[Path],
        table_uuid: str,
        make_token: Callable[[], str],
        *,
        byte_count_max: int,
        report: Callable[[str], None],
        budget: HotBudget | None = None,
    ) -> None:
        """Bind where rows go; nothing is made yet.

        Args:
            roots: In order of preference: the next is used where one is full or missing.
            table_uuid: Of the target table.
            make_token: Names directories as no other process does.
            byte_count_max: Of uncommitted rows; the session polls no more above it.
            report: Told what went wrong, for people.
            budget: Shared with the rows of other tables; None for one of its own.

        """
        self._roots = tuple(roots)
        self._table_uuid = table_uuid
        self._make_token = make_token
        self._budget = budget or HotBudget(byte_count_max, 1)
        self._report = report
        self._lock = threading.Lock()
        self._session: _HotSession | None = None

    @property
    def is_full(self) -> bool:
        """Tell whether uncommitted rows have reached the limit."""
        return self._session is not None and (
            self._budget.uncommitted_bytes >= self._budget.byte_count_max
        )

    @property
    def is_shown(self) -> bool:
        """Tell whether readers see what is appended."""
        return self._session is not None

    def has_room(self, waiting_bytes: int, next_bytes: int) -> bool:
        """Tell whether another poll would stay below the limit, judged by how rows grew so far."""
        session = self._session
        uncommitted_bytes = self._budget.uncommitted_bytes
        if session is None or (not waiting_bytes and not uncommitted_bytes):
            return True
        others_bytes = uncommitted_bytes - session.uncommitted_bytes
        # Once more, because the end of a segment may be too short for the next batch.
        with_next = others_bytes + session.bytes_with(waiting_bytes + 2 * next_bytes)
        return with_next <= self._budget.byte_count_max

    def took_over(
        self, owner: Owner, identity: Identity, next_offsets: Mapping[TopicPartition, int]
    ) -> None:
        """Publish an empty page that begins at the checkpoint; remove dead workers' pages."""
        with self._lock, self._ending_on_failure("make a page"):
            before, self._session = self._session, None
            if before is not None:
                before.remove()
            if next_offsets:
                self._session = _HotSession(
                    self._roots,
                    _head_of(self._table_uuid, owner, identity, next_offsets),
                    np.array([next_offsets[tp] for tp in sorted(next_offsets)], np.int64),
                    self._make_token(),
                    budget=self._budget,
                    report=self._report,
                )
            self._note_bytes()
            self._remove_dead(owner, next_offsets)

    def append(self, generation: int, decoded: DecodedBatch) -> None:
        """Show a batch of an open generation, and the offsets that it moves past."""
        with self._lock, self._ending_on_failure("append rows"):
            if self._session is not None:
                self._session.append(generation, decoded)
                self._note_bytes()

    def committed(self, generation: int, snapshot_id: int) -> None:
        """Let go of what the table holds now; the generation itself stays one commit longer."""
        with self._lock, self._ending_on_failure("drop a generation"):
            if self._session is not None:
                self._session.committed(generation, snapshot_id)
                self._note_bytes()

    def close(self) -> None:
        """Remove the page: everything is in the table."""
        with self._lock:
            session, self._session = self._session, None
            if session is not None:
                session.remove()

    def abandon(self) -> None:
        """Leave the page to readers until a successor takes over."""
        with self._lock:
            session, self._session = self._session, None
            if session is not None:
                session.release()

    @contextmanager
    def _ending_on_failure(self, action: str) -> Generator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            # Safe because hot rows are a copy: readers of the page fall back to the table.
            session, self._session = self._session, None
            if session is not None:
                session.end()
            self._note_bytes()
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            self._report(f"hot reads ended for this session: cannot {action}: {reason}")

    def _note_bytes(self) -> None:
        session = self._session
        self._budget.note(self, session.uncommitted_bytes if session else 0)

    def _remove_dead(self, owner: Owner, next_offsets: Mapping[TopicPartition, int]) -> None:
        for root in self._roots:
            for directory in session_directories(root, self._table_uuid):
                if _is_superseded(directory, owner, next_offsets):
                    remove_if_dead(directory)


def _is_superseded(
    directory: Path, owner: Owner, next_offsets: Mapping[TopicPartition, int]
) -> bool:
    """Tell whether a page is of no use any more once its worker is dead."""
    try:
        head = StatePageReader(directory / STATE_NAME).head
    except (OSError, CorruptionError):
        return True  # Safe because only the dead are removed, and this one never showed a row.
    if head.boot_id != boot_id():
        return True
    return head.owner.epoch < owner.epoch and any(tp in next_offsets for tp in head.partitions)


def _head_of(
    table_uuid: str,
    owner: Owner,
    identity: Identity,
    next_offsets: Mapping[TopicPartition, int],
) -> PageHead:
    return PageHead(table_uuid, boot_id(), owner, identity, tuple(sorted(next_offsets)), ())


class _HotSession:
    """One page and its segments; the caller locks."""

    def __init__(
        self,
        roots: Sequence[Path],
        head: PageHead,
        base: Offsets,
        token: str,
        *,
        budget: HotBudget,
        report: Callable[[str], None],
    ) -> None:
        """Make the page in the first root that takes it.

        Raises:
            OSError: None did.

        """
        self._roots = tuple(roots)
        self._table_uuid = head.table_uuid
        self._token = token
        self._epoch = head.owner.epoch
        self._byte_count_max = budget.byte_count_max
        self._segment_bytes_first = budget.segment_bytes_first
        self._report = report
        self._index = {tp: index for index, tp in enumerate(head.partitions)}
        self._base = base
        self._generations: list[_Generation] = []
        self._committed_generation = 0
        self._snapshot_id = 0
        self._is_ended = False
        self._growth = GROWTH_FIRST
        self._directories: dict[int, OwnDirectory] = {}
        self._place = 0
        places = tuple(root / head.table_uuid / token for root in self._roots)
        head = PageHead(
            head.table_uuid, head.boot_id, head.owner, head.identity, head.partitions, places
        )
        segment_count = 2 * (budget.byte_count_max // SEGMENT_BYTES_FIRST) + SEGMENTS_MORE
        self._segments_max = segment_count
        room = state_bytes_max(len(head.partitions), GENERATIONS_MAX, segment_count)
        self._page = self._in_first_place(
            lambda directory: StatePageWriter(directory, head, self._state(), room)
        )

    @property
    def uncommitted_bytes(self) -> int:
        """Reserved for rows that are not in the table."""
        open_ = [g for g in tuple(self._generations) if g.number > self._committed_generation]
        return sum(generation.byte_count for generation in open_)

    def bytes_with(self, record_bytes: int) -> int:
        """Return what would be reserved for rows of so many bytes of records besides."""
        reserved = self.uncommitted_bytes
        open_ = [g for g in tuple(self._generations) if g.number > self._committed_generation]
        segments = tuple(open_[-1].segments) if open_ else ()
        missing = round(record_bytes * self._growth)
        if segments:
            missing -= segments[-1][1].size - segments[-1][1].byte_count
        count = len(segments)
        while missing > 0:
            missing -= usual_room(count, self._segment_bytes_first)
            reserved += usual_room(count, self._segment_bytes_first)
            count += 1
        return reserved

    def append(self, number: int, decoded: DecodedBatch) -> None:
        generation = self._generation(number)
        if decoded.rows.num_rows:
            if decoded.byte_count >= GROWTH_SEEN_BYTES:
                written = decoded.rows.nbytes + bytes_around(decoded.rows.schema)
                self._growth = max(self._growth, written / decoded.byte_count)
            self._write(generation, decoded.rows)
        moved = generation.next_offsets.copy()
        for counted in decoded.ranges:
            offsets = counted.offsets
            index = self._index[offsets.topic_partition]
            assert moved[index] == offsets.start_offset, (offsets, int(moved[index]))
            moved[index] = offsets.next_offset
        generation.next_offsets = moved
        self._page.publish(self._state())

    def committed(self, number: int, snapshot_id: int) -> None:
        self._snapshot_id = snapshot_id
        self._committed_generation = number
        dropped = self._take_out(number - 1)
        self._page.publish(self._state())
        _remove_files(dropped)

    def end(self) -> None:
        """Say that nothing follows, and leave what is there."""
        self._is_ended = True
        self._page.publish(self._state())
        self.release()

    def release(self) -> None:
        for directory in self._directories.values():
            directory.release()

    def remove(self) -> None:
        for directory in self._directories.values():
            directory.remove()

    def _generation(self, number: int) -> _Generation:
        if not self._generations or self._generations[-1].number != number:
            end = self._base
            if self._generations:
                end = self._generations[-1].next_offsets
                _close_last(self._generations[-1])
            self._generations.append(_Generation(number, end))
        return self._generations[-1]

    def _write(self, generation: _Generation, rows: pa.RecordBatch) -> None:
        segments = generation.segments
        if not segments or not segments[-1][1].takes(rows):
            size = room_for(rows, len(segments), self._segment_bytes_first)
            if size + sum(g.byte_count for g in self._generations) > self._byte_count_max:
                self._drop(self._committed_generation)
            name = segment_name(self._epoch, generation.number, len(segments))
            segment = self._in_first_place(
                lambda directory: SegmentWriter(directory / name, size, rows.schema)
            )
            _close_last(generation)
            segments.append((self._place, segment))
        segments[-1][1].write(rows)

    def _in_first_place(self, make: Callable[[Path], _Made]) -> _Made:
        """Make a file where the last one was made, or where there is still room."""
        while True:
            try:
                return make(self._directory())
            except OSError as error:
                if self._place + 1 == len(self._roots):
                    raise
                self._report(
                    f"hot rows go to {self._roots[self._place + 1]}, because "
                    f"{self._roots[self._place]} cannot be used: {error.strerror}"
                )
                self._place += 1

    def _directory(self) -> Path:
        if self._place not in self._directories:
            root = self._roots[self._place]
            own = OwnDirectory(root, self._table_uuid, self._token)
            self._directories[self._place] = own
        return self._directories[self._place].path

    def _drop(self, number: int) -> None:
        """Let go of generations up to a number at once, because their bytes are needed."""
        dropped = self._take_out(number)
        if dropped:
            self._page.publish(self._state())
            _remove_files(dropped)

    def _take_out(self, number: int) -> list[_Generation]:
        kept = [g for g in self._generations if g.number > number]
        dropped = self._generations[: len(self._generations) - len(kept)]
        if dropped:
            self._base = dropped[-1].next_offsets
        self._generations = kept
        return dropped

    def _state(self) -> PageState:
        segments = tuple(
            SegmentState(generation.number, index, place, segment.byte_count, segment.row_count)
            for generation in self._generations
            for index, (place, segment) in enumerate(generation.segments)
        )
        if len(segments) > self._segments_max or len(self._generations) > GENERATIONS_MAX:
            message = "too many segments for the state page"
            raise OSError(28, message)
        return PageState(
            snapshot_id=self._snapshot_id,
            is_ended=self._is_ended,
            base=self._base,
            generations=tuple(g.number for g in self._generations),
            next_offsets=tuple(g.next_offsets for g in self._generations),
            segments=segments,
        )


def _close_last(generation: _Generation) -> None:
    # Hundreds of tables would otherwise need more open files than a process may have.
    if generation.segments:
        generation.segments[-1][1].close()


def _remove_files(generations: Sequence[_Generation]) -> None:
    for generation in generations:
        for _, segment in generation.segments:
            segment.path.unlink(missing_ok=True)
