"""The ingest session: the order of the stages, from take-over to the last commit.

    poll ─► split ─► decode ─► hot rows ─► write ─► seal ─► finish ─► commit dead letters
                                             └─► encode           ─► commit targets ─► mirror

Every arrow is a queue between threads: polls happen in the caller's thread, decoding in a small
pool, writing, encoding, finishing and committing in one thread each, so that a generation commits
while the next one is finished and the one after that fills. Results are taken in poll order,
generations commit in seal order, and what is held in memory has a limit. With executors that run a
job at once the same code is single-threaded, which is how the simulation drives it.

The first failure of any stage ends the session: nothing after it commits, and what was not
committed is read again by the next session.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from k2i_core.crash_points import CrashPoint, Observer, ignore
from k2i_core.errors import ConflictError, DataLossError, ErrorKind, UnavailableError
from k2i_core.ingest.freshness import oldest_timestamp_ms
from k2i_core.ingest.generation import GenerationFiles, SealedGeneration
from k2i_core.ingest.landing import Landed, Landing
from k2i_core.ingest.lanes import Lanes
from k2i_core.ingest.parts import Listener, Parts, SessionSettings
from k2i_core.ingest.take_over import (
    TakenOver,
    lowest,
    resolve_starts,
    starts_of,
    take_over,
)
from k2i_core.ingest.targets import OpenTarget
from k2i_core.ingest.triggers import Filling, FlushLimits, is_due, is_full, seconds_until_due
from k2i_core.ingest.writing import Decoded, Writing
from k2i_core.ledger import Identity
from k2i_core.offsets import TopicPartition
from k2i_core.pauses import FILE_SCHEMA, REASON_CHARACTERS_MAX, Pause, paused_error
from k2i_core.records import FlushReport, PolledBatch

POLL_SECONDS_MAX = 0.1
"""Larger delays the reaction to a stop request; smaller spends processor time on an idle topic."""

BATCHES_IN_FLIGHT_MAX = 2
"""Polled batches not yet written: one to decode, one to write. More only adds memory, which larger
polls put to better use (ADR 33); fewer lets the lanes wait for each other."""

PARTITION_CHECK_SECONDS = 30.0
"""How long a new Kafka partition may go unnoticed. Smaller asks the broker more often."""

DRAIN_SECONDS_MAX = 600.0
"""How long the end of a session waits for its last commits; the commit's own limit is shorter."""


class Session:
    """One worker's life between a take-over and a stop; not reusable."""

    def __init__(
        self,
        parts: Parts,
        settings: SessionSettings,
        lanes: Lanes,
        *,
        listener: Listener | None = None,
        observe: Observer = ignore,
    ) -> None:
        """Bind parts; nothing happens before `start`."""
        self._parts = parts
        self._settings = settings
        self._lanes = lanes
        self._listener = listener or Listener()
        self._observe = observe
        self._taken: TakenOver | None = None
        self._opened: dict[str, OpenTarget] = {}
        self._writing = Writing(parts, self._opened)
        self._landing = Landing(parts.dead_letters, parts.log, parts.clock, observe)
        self._filling = Filling()
        self._generation_number = 0
        self._files: GenerationFiles | None = None
        self._sealed: deque[GenerationFiles] = deque()
        self._writes: deque[Future[None]] = deque()
        self._commits: deque[Future[None]] = deque()
        self._positions: dict[TopicPartition, int] = {}
        self._mirrored: dict[TopicPartition, int] = {}
        self._in_flight = _ByteCount()
        self._broken = threading.Event()
        self._flush_seconds = 0.0
        self._visible_ms: dict[int, float] = {}
        self._poll_bytes_max = 0
        self._partitions_checked_boot_seconds = 0.0

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """The next offset to poll of every Kafka partition of this worker."""
        return dict(self._positions)

    @property
    def buffered_bytes(self) -> int:
        """Bytes in memory: polled and not yet written, and rows that are not encoded yet."""
        return self._filling_bytes + sum(files.buffered_bytes for files in tuple(self._sealed))

    @property
    def _filling_bytes(self) -> int:
        """Of these the bytes that sealing would send on their way."""
        files = self._files
        return self._in_flight.value + (files.buffered_bytes if files else 0)

    @property
    def generations_in_flight(self) -> int:
        """Sealed generations that are not committed yet."""
        return sum(not commit.done() for commit in tuple(self._commits))

    def start(self) -> TakenOver:
        """Take over the share and assign the source; raises what `take_over` raises."""
        parts = self._parts
        taken = take_over(
            pipeline=self._settings.pipeline,
            share=self._settings.share,
            source=parts.source,
            targets=[target.table for target in parts.targets],
            dead_letters=parts.dead_letters,
            read_verdicts=parts.read_verdicts,
            log=parts.log,
            observe=self._observe,
            routing=parts.routing,
        )
        self._taken = taken
        self._writing.begin(taken)
        self._positions = dict(taken.next_offsets)
        self._mirrored = dict(taken.next_offsets)
        self._partitions_checked_boot_seconds = parts.clock.boot_seconds()
        self._open_generation()
        self._listener.took_over(taken)
        return taken

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Ingest until `is_stopping`, then flush what is left; raises the first failure.

        After a failure the caller calls `abandon`.
        """
        while not is_stopping():
            self.step()
        self.finish()

    def step(self) -> None:
        """Do one round: surface failures, seal when due, poll when there is room."""
        self._listener.turned()
        self._raise_failures()
        self._pause_if_broken()
        now = self._parts.clock.boot_seconds()
        flush = self._flush_limits
        is_ripe = is_due(self._filling, flush, now, self._flush_seconds) or (
            not self._filling.is_empty
            and (self._filling_bytes >= flush.buffered_bytes_max or not self._hot_has_room())
        )
        if is_ripe and self.generations_in_flight < flush.generations_in_flight_max:
            self._seal()
        self._pick_up_new_partitions(now)
        if not self._has_room():
            self._wait_for_progress()
            return
        wait_seconds = seconds_until_due(self._filling, flush, now, self._flush_seconds)
        polled = self._parts.source.poll(min(POLL_SECONDS_MAX, max(0.001, wait_seconds)))
        if polled is not None:
            self._accept(polled)

    @property
    def _flush_limits(self) -> FlushLimits:
        flush = self._settings.flush
        return flush.for_first_generation() if self._generation_number == 1 else flush

    def finish(self) -> None:
        """Seal what was polled and wait until everything is committed."""
        self._listener.waiting()
        self._raise_failures()
        if not self._filling.is_empty:
            self._seal()
        self._drain()
        self._pause_if_broken()
        self._level()
        for opened in self._opened.values():
            opened.target.hot.close()
        self._parts.log.close()

    def _pause_if_broken(self) -> None:
        """Commit what comes before a schema that breaks a table, then pause that table (I8).

        Raises:
            IncompatibleSchemaError: It is the pipeline's one table; an operator has to act.
            ConflictError: Start over, without this table.

        """
        stop, taken = self._writing.stop, self._taken
        if stop is None or taken is None:
            return
        self._listener.waiting()
        if not self._filling.is_empty:
            self._seal()
        self._drain()
        breaking, clock = stop.breaking, self._parts.clock
        moment = datetime.fromtimestamp(clock.now_ms() / 1000, UTC).isoformat(timespec="seconds")
        schema_id = FILE_SCHEMA if breaking.schema_id is None else str(breaking.schema_id)
        reason = breaking.reason[:REASON_CHARACTERS_MAX]
        pause = Pause(schema_id, reason, stop.position, moment)
        if stop.opened.is_taken:
            stop.opened.target.table.pause(taken.owner, pause)
        error = paused_error(stop.opened.identifier, pause)
        self._listener.paused(stop.opened.identifier, str(pause))
        if self._parts.routing is not None:
            raise ConflictError(str(error), kind=ErrorKind.TABLE_PAUSED)
        raise error

    def abandon(self) -> None:
        """Stop every stage without committing anything more; call after a failure."""
        self._broken.set()
        for future in (*self._writes, *self._commits):
            future.cancel()
        wait((*self._writes, *self._commits), timeout=DRAIN_SECONDS_MAX)
        for files in self._sealed:
            files.abandon()
        if self._files is not None:
            self._files.abandon()
        for opened in tuple(self._opened.values()):
            opened.target.hot.abandon()
        self._parts.log.close()

    def _accept(self, polled: PolledBatch) -> None:
        self._observe(CrashPoint.POLLED)
        assert self._files is not None
        for offset_range in polled.ranges:
            expected = self._positions[offset_range.topic_partition]
            assert offset_range.start_offset == expected, (offset_range, expected)
            self._positions[offset_range.topic_partition] = offset_range.next_offset
        self._filling = self._filling.with_batch(
            polled.records.num_rows, polled.byte_count, polled.polled_boot_seconds
        )
        self._in_flight.add(polled.byte_count)
        self._poll_bytes_max = max(self._poll_bytes_max, polled.byte_count)
        self._listener.polled(polled)
        decoding = self._lanes.decode.submit(self._writing.decode, polled)
        self._writes.append(self._lanes.write.submit(self._write, self._files, polled, decoding))

    def _write(
        self, files: GenerationFiles, polled: PolledBatch, decoding: "Future[Decoded]"
    ) -> None:
        """Write one batch, in poll order."""
        if self._broken.is_set():
            return
        with self._breaking():
            self._writing.write(files, polled, decoding.result())
            self._note_visible(files.number, polled)
            self._in_flight.add(-polled.byte_count)
            self._observe(CrashPoint.ROWS_WRITTEN)

    def _note_visible(self, generation: int, polled: PolledBatch) -> None:
        is_shown = any(one.target.hot.is_shown for one in self._opened.values())
        produced_ms = oldest_timestamp_ms(polled) if is_shown else None
        if produced_ms is not None:
            waited_ms = max(0.0, self._parts.clock.now_ms() - produced_ms)
            self._visible_ms[generation] = max(waited_ms, self._visible_ms.get(generation, 0.0))

    def _seal(self) -> None:
        """Send the open generation on its way; the next one fills meanwhile."""
        assert self._files is not None
        files, filling = self._files, self._filling
        self._observe(CrashPoint.SEALED)
        sealed_boot_seconds = self._parts.clock.boot_seconds()
        # Behind the last batch, because batches open tables.
        written = self._lanes.write.submit(lambda: tuple(self._opened.values()))
        self._sealed.append(files)
        finished = self._lanes.finish.submit(self._close, files, filling, written)
        self._commits.append(self._lanes.commit.submit(self._commit, finished, sealed_boot_seconds))
        self._open_generation()

    def _close(
        self,
        files: GenerationFiles,
        filling: Filling,
        written: "Future[tuple[OpenTarget, ...]]",
    ) -> SealedGeneration | None:
        """Close the files of one generation."""
        opened = written.result()
        if self._broken.is_set():
            return None
        assert filling.first_polled_boot_seconds is not None
        with self._breaking():
            sealed = files.close(opened, filling.first_polled_boot_seconds)
            self._observe(CrashPoint.FILES_CLOSED)
            return sealed

    def _commit(
        self, finished: "Future[SealedGeneration | None]", sealed_boot_seconds: float
    ) -> None:
        """Commit one generation: dead letters first, so that an absent row is explained."""
        sealed = finished.result()
        if sealed is None or self._broken.is_set():
            return
        assert self._taken is not None
        with self._breaking():
            self._check_topics(self._taken)
            self._landing.land(
                sealed, self._taken, lambda landed: self._tell(landed, sealed_boot_seconds)
            )
            self._mirror()
            self._observe(CrashPoint.MIRRORED)
            now = self._parts.clock.boot_seconds()
            self._flush_seconds += 0.3 * (now - sealed_boot_seconds - self._flush_seconds)
            self._visible_ms.pop(sealed.number, None)

    def _mirror(self) -> None:
        # A copy, because the write lane opens tables meanwhile.
        opened = tuple(self._opened.values())
        next_offsets = lowest(one.next_offsets for one in opened if one.is_taken)
        moved = {tp: n for tp, n in next_offsets.items() if self._mirrored.get(tp) != n}
        self._parts.source.mirror(moved)
        self._mirrored.update(moved)

    def _tell(self, landed: Landed, sealed_boot_seconds: float) -> None:
        generation, now = landed.generation, self._parts.clock.boot_seconds()
        self._listener.flushed(
            FlushReport(
                generation=generation,
                commit=landed.commit,
                dead_letter_commit=landed.dead_letter_commit,
                seal_to_commit_milliseconds=(now - sealed_boot_seconds) * 1000,
                oldest_to_commit_milliseconds=(now - generation.first_polled_boot_seconds) * 1000,
                produced_to_visible_milliseconds=self._visible_ms.get(generation.number),
                table=landed.opened.identifier,
            )
        )

    def _level(self) -> None:
        """Let every table have the checkpoint of the others; nothing else is on its way."""
        if self._taken is not None and self._parts.routing is not None:
            self._landing.level(self._opened.values(), self._taken)
            self._mirror()

    @contextmanager
    def _breaking(self) -> Generator[None]:
        """Let nothing of this session go on once a stage failed; the caller's thread raises it."""
        try:
            yield
        except BaseException:
            self._broken.set()
            raise

    def _check_topics(self, taken: TakenOver) -> None:
        """Refuse to commit offsets of a topic that was deleted and created again meanwhile.

        After the last poll and before the commit, because a consumer goes on silently in the new
        topic. Waits for a broker that does not answer.
        """
        clock = self._parts.clock
        deadline = clock.boot_seconds() + self._settings.unavailable_seconds_max
        while True:
            try:
                topic_ids = self._parts.source.topic_ids()
                break
            except UnavailableError:
                if clock.boot_seconds() >= deadline or self._broken.is_set():
                    raise
                clock.sleep(0.5)
        for topic, topic_id in taken.identity.topic_ids.items():
            if topic_ids.get(topic) != topic_id:
                message = (
                    f"topic={topic!r} was deleted or created again while it was read; what was "
                    f"polled since the last commit is dropped; accept the new topic with "
                    f"`k2i table accept-gap`"
                )
                raise DataLossError(message, kind=ErrorKind.TOPIC_RECREATED)
        self._observe(CrashPoint.TOPICS_CHECKED)

    def _pick_up_new_partitions(self, now: float) -> None:
        """Start reading Kafka partitions that were added to the topics since."""
        if now - self._partitions_checked_boot_seconds < PARTITION_CHECK_SECONDS:
            return
        self._partitions_checked_boot_seconds = now
        parts, taken = self._parts, self._taken
        assert taken is not None
        try:
            existing = parts.source.partitions()
        except UnavailableError:
            return  # Safe because the next check asks again, and polling shows the outage.
        if all(tp in self._positions for tp in existing if self._settings.share.holds(tp)):
            return
        if not self._filling.is_empty:
            self._seal()
        self._drain()
        self._level()
        if taken.left_out:
            # A start notes for tables that are left out where the partitions begin, too.
            message = "Kafka partitions were added while a table is left out; starting over"
            raise ConflictError(message, kind=ErrorKind.CHECKPOINT_STALE)
        identity = replace(taken.identity, topic_ids=parts.source.topic_ids())
        opened = tuple(self._opened.values())
        before = [one.target.table.inspect().entry for one in opened]
        starts = resolve_starts(parts.source, before)
        for one, entry in zip(opened, before, strict=True):
            own = self._extended(one, taken, identity, starts_of(entry, starts))
            one.add({tp: own[tp] for tp in existing if self._settings.share.holds(tp)})
            one.target.hot.took_over(taken.owner, identity, one.next_offsets)
        added = lowest(one.next_offsets for one in opened)
        self._positions = {**added, **self._positions}
        self._writing.add(added)
        self._taken = replace(taken, identity=identity, next_offsets=dict(self._positions))
        parts.source.assign(self._positions)

    def _extended(
        self,
        opened: OpenTarget,
        taken: TakenOver,
        identity: Identity,
        starts: Mapping[TopicPartition, int],
    ) -> Mapping[TopicPartition, int]:
        table = opened.target.table
        report = table.extend(taken.owner, identity, starts)
        entry = table.inspect_after(report.snapshot_id).entry
        assert entry is not None
        return entry.checkpoint.next_offsets

    def _open_generation(self) -> None:
        assert self._taken is not None
        self._generation_number += 1
        self._filling = Filling()
        self._files = GenerationFiles(
            self._generation_number, self._taken.owner, self._parts.open_dead_letters
        )

    def _has_room(self) -> bool:
        flush = self._settings.flush
        if len(self._writes) >= BATCHES_IN_FLIGHT_MAX:
            return False
        if is_full(self._filling, flush):
            return False  # waits for a commit slot; sealed as soon as there is one
        return self.buffered_bytes < flush.buffered_bytes_max and self._hot_has_room()

    def _hot_has_room(self) -> bool:
        waiting_bytes, next_bytes = self._in_flight.value, self._poll_bytes_max
        return all(
            not one.target.hot.is_full and one.target.hot.has_room(waiting_bytes, next_bytes)
            for one in tuple(self._opened.values())
        )

    def _wait_for_progress(self) -> None:
        oldest = [lane[0] for lane in (self._writes, self._commits) if lane]
        wait(oldest, timeout=POLL_SECONDS_MAX, return_when="FIRST_COMPLETED")
        self._raise_failures()

    def _raise_failures(self) -> None:
        while self._writes and self._writes[0].done():
            self._writes.popleft().result()
        while self._commits and self._commits[0].done():
            self._commits.popleft().result()
            self._sealed.popleft()

    def _drain(self) -> None:
        deadline = self._parts.clock.boot_seconds() + DRAIN_SECONDS_MAX
        while self._writes or self._commits:
            if self._parts.clock.boot_seconds() >= deadline:
                message = f"last flush did not end within {DRAIN_SECONDS_MAX:.0f} s"
                raise UnavailableError(message, kind=ErrorKind.COMMIT_EXHAUSTED)
            self._wait_for_progress()


class _ByteCount:
    """A sum that two threads change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def add(self, byte_count: int) -> None:
        with self._lock:
            self.value += byte_count
