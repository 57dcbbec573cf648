"""What a worker shows of itself: metrics, health, and one canonical log line per flush.

Four threads meet here: the poll loop and the commit lane report, a watch thread looks once a
second at what nobody reports by itself (lag, freshness, buffers, the broker), and another one asks
the catalog, because a catalog that hangs must not silence the rest.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import fields

import structlog

from k2i_core.clock import Clock
from k2i_core.errors import ErrorKind, K2iError
from k2i_core.ingest.freshness import Freshness
from k2i_core.ingest.lanes import Lanes, MeteredExecutor
from k2i_core.ingest.parts import Listener
from k2i_core.ingest.take_over import TakenOver
from k2i_core.kafka.source import KafkaSource
from k2i_core.metrics import IngestMetrics
from k2i_core.offsets import TopicPartition
from k2i_core.records import FlushReport, PolledBatch
from k2i_core.server import Health, HealthCheck
from k2i_core.worker import OpenSession

WATCH_SECONDS = 1.0
"""How often lag and freshness are looked at. Larger shows them later; smaller costs wake-ups."""

CATALOG_CHECK_SECONDS = 10.0
"""How often an idle worker asks its catalog for a sign of life."""

CATALOG_RETRY_SECONDS = 2.0
"""The same while it does not answer. Larger shows a recovery later."""

CATALOG_ANSWER_SECONDS_MAX = 5.0
"""How long an answer may take before the catalog counts as gone. Larger shows a catalog that hangs
later; smaller calls a busy one dead."""

LOOP_STALE_SECONDS_MAX = 30.0
"""How long the poll loop may be silent. It turns ten times a second, except while it waits for a
last commit, so that a smaller limit would call a patient worker dead."""

SERVICES_WAIT_SECONDS_MAX = 900.0
"""The same while the loop waits for services, before it takes over and for its last commits. Each
of these waits has a limit of its own, and together they stay below this."""

log = structlog.get_logger(__name__)

CHECKS = (
    HealthCheck("loop", LOOP_STALE_SECONDS_MAX, decides_liveness=True),
    HealthCheck("owner", None),
    HealthCheck("broker", LOOP_STALE_SECONDS_MAX),
    HealthCheck("catalog", 6 * CATALOG_CHECK_SECONDS),
    HealthCheck("hot", None),
    HealthCheck("tables", None),
)


class WorkerObservation:
    """Feeds metrics and health of one worker over all of its sessions."""

    def __init__(
        self,
        metrics: IngestMetrics,
        health: Health,
        clock: Clock,
        *,
        tables: tuple[str, str],
        ask_catalog: Callable[[], object],
    ) -> None:
        """Bind what is fed.

        Args:
            metrics: Counted into.
            health: Reported to; made with `CHECKS`.
            clock: Not cut short by a stop request.
            tables: Identifiers of the target and the dead-letter table.
            ask_catalog: Raises a K2iError when the catalog does not answer.

        """
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._table, self._dead_letter_table = tables
        self._lead = self._table
        self._is_one_of_several = False
        self._ask_catalog = ask_catalog
        self._lock = threading.Lock()
        self._freshness = Freshness()
        self._next_offsets: dict[TopicPartition, int] = {}
        self._opened: OpenSession | None = None
        self._source: KafkaSource | None = None
        self._lanes: Lanes | None = None
        self._lane_counted_seconds: dict[str, float] = {}
        self._lane_cpu_seconds: dict[str, float] = {}
        self._catalog_asked_boot_seconds: float | None = None
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, name="k2i-watch", daemon=True),
            threading.Thread(target=self._watch_catalog, name="k2i-watch-catalog", daemon=True),
        ]

    @property
    def listener(self) -> Listener:
        """What a session reports to."""
        return Listener(
            self.took_over, self.polled, self.flushed, self.turned, self.waiting, self.paused
        )

    def start(self) -> None:
        """Begin to watch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the watch, without waiting for a catalog that hangs."""
        self._stop.set()
        self._threads[0].join(timeout=WATCH_SECONDS)
        with self._lock:
            self._count_lanes()
            used = {f"{k}_cpu_seconds": round(v, 3) for k, v in self._lane_cpu_seconds.items()}
        log.info("lanes stopped", table=self._table, **used)

    def opened(self, opened: OpenSession, source: KafkaSource, lanes: Lanes) -> None:
        """Watch a new session."""
        with self._lock:
            self._count_lanes()
            self._opened, self._source, self._lanes = opened, source, lanes
            self._lane_counted_seconds = {}
        self._health.report("owner", ok=False, detail="taking over")
        self._health.report("hot", ok=True)
        self._health.report("tables", ok=True)

    def hot_trouble(self, trouble: str) -> None:
        """Show what is wrong with hot rows; the worker stays ready, because the table is right."""
        self._health.report("hot", ok=True, detail=trouble)

    def turned(self) -> None:
        """Note that the poll loop is alive."""
        self._health.report("loop", ok=True)

    def waiting(self) -> None:
        """Note that the loop waits for services, which is no hanging."""
        self._health.report(
            "loop",
            ok=True,
            detail="waiting for services",
            stale_seconds_max=SERVICES_WAIT_SECONDS_MAX,
        )

    def paused(self, table: str, why: str) -> None:
        """Show that nothing more is committed to a table until an operator acted."""
        self._metrics.table_paused(table, is_paused=True)
        self._health.report("tables", ok=False, detail=f"{table} is paused: {why}")
        log.error("table paused", table=table, reason=why)

    def took_over(self, taken: TakenOver) -> None:
        """Note the epoch and where reading starts."""
        with self._lock:
            for topic_partition in set(self._next_offsets) - set(taken.next_offsets):
                self._metrics.partition_released(
                    topic_partition.topic, topic_partition.kafka_partition
                )
            self._next_offsets = dict(taken.next_offsets)
            self._freshness = Freshness()
            self._lead = next(iter(taken.targets), self._table)
            self._is_one_of_several = len(taken.targets) > 1
        self._health.report("owner", ok=True, detail=f"epoch {taken.owner.epoch}")
        for table in taken.targets:
            self._metrics.table_paused(table, is_paused=False)
        log.info(
            "took over",
            table=self._table,
            worker=str(taken.owner.share),
            epoch=taken.owner.epoch,
            kafka_partition_count=len(taken.next_offsets),
            table_count=len(taken.targets),
            standing_dead_letter_count=sum(
                len(offsets) for decided in taken.verdicts.values() for offsets in decided.values()
            ),
        )
        for table, reason in taken.left_out.items():
            log.error("table is left out, the others go on", table=table, reason=str(reason))
            if reason.kind is ErrorKind.TABLE_PAUSED:
                self._metrics.table_paused(table, is_paused=True)
        left_out = ", ".join(taken.left_out)
        self._health.report("tables", ok=not left_out, detail=left_out and f"left out: {left_out}")

    def polled(self, batch: PolledBatch) -> None:
        """Count the records of a poll."""
        self._metrics.records_read(record_count=batch.records.num_rows, byte_count=batch.byte_count)
        with self._lock:
            self._freshness.polled(batch)

    def flushed(self, report: FlushReport) -> None:
        """Count a flush and write its canonical line."""
        generation, counts = report.generation, report.generation.counts
        leads = report.table in ("", self._lead)
        with self._lock:
            if leads:
                self._freshness.committed(generation.ends)
                self._next_offsets.update(generation.ends)
        for counted in generation.ranges:
            tp, c = counted.offsets.topic_partition, counted.counts
            self._metrics.range_committed(
                tp.topic,
                tp.kafka_partition,
                # Of several tables one says how far the topic was read, each what it got.
                offset_count=len(counted.offsets) if leads else 0,
                next_offset=counted.offsets.next_offset,
                row_count=c.table_row_count,
                dead_letter_count=c.dead_letter_count,
                filtered_count=0 if self._is_one_of_several else c.filtered_count,
                tombstone_count=c.tombstone_count,
                byte_count=c.byte_count,
            )
        self._metrics.table_filled(
            report.table or self._table,
            row_count=counts.table_row_count,
            dead_letter_count=counts.dead_letter_count,
        )
        self._count_commits(report)
        self._metrics.flush_finished(
            flush_seconds=report.seal_to_commit_milliseconds / 1000,
            oldest_to_commit_seconds=report.oldest_to_commit_milliseconds / 1000,
        )
        self._health.report("catalog", ok=True)
        log.info(
            "flush committed",
            table=report.table or self._table,
            snapshot_id=report.commit.snapshot_id,
            generation=generation.number,
            row_count=counts.table_row_count,
            dead_letter_count=counts.dead_letter_count,
            tombstone_count=counts.tombstone_count,
            file_count=len(generation.files),
            byte_count=sum(file.byte_count for file in generation.files),
            attempt_count=report.commit.attempt_count,
            commit_ms=round(report.commit.milliseconds),
            seal_to_commit_ms=round(report.seal_to_commit_milliseconds),
            oldest_to_commit_ms=round(report.oldest_to_commit_milliseconds),
        )

    def _count_commits(self, report: FlushReport) -> None:
        commits = (
            (
                self._dead_letter_table,
                report.dead_letter_commit,
                report.generation.dead_letter_files,
            ),
            (report.table or self._table, report.commit, report.generation.files),
        )
        for table, commit, files in commits:
            if commit is not None:
                self._metrics.commit_landed(
                    table,
                    commit_seconds=commit.milliseconds / 1000,
                    attempt_count=commit.attempt_count,
                    file_count=len(files),
                    byte_count=sum(file.byte_count for file in files),
                    landed_ms=self._clock.now_ms(),
                )

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_SECONDS):
            self._watch_once()

    def _watch_once(self) -> None:
        with self._lock:
            opened, source = self._opened, self._source
            next_offsets = dict(self._next_offsets)
            self._count_lanes()
        if opened is not None and source is not None:
            self._metrics.bytes_buffered(opened.session.buffered_bytes)
            self._metrics.generations_counted(opened.session.generations_in_flight)
            self._report_lag(source, next_offsets)
            health = source.health()
            self._health.report("broker", ok=health.reachable, detail=health.last_error or "")
        with self._lock:
            asked = self._catalog_asked_boot_seconds
        waited = 0.0 if asked is None else self._clock.boot_seconds() - asked
        if waited > CATALOG_ANSWER_SECONDS_MAX:
            self._health.report("catalog", ok=False, detail=f"has not answered for {waited:.0f} s")

    def _watch_catalog(self) -> None:
        pause_seconds = 0.0
        while not self._stop.wait(pause_seconds):
            pause_seconds = CATALOG_CHECK_SECONDS if self._ask() else CATALOG_RETRY_SECONDS

    def _ask(self) -> bool:
        with self._lock:
            self._catalog_asked_boot_seconds = self._clock.boot_seconds()
        try:
            self._ask_catalog()
        except K2iError as error:
            self._metrics.outage_seen("catalog")
            self._health.report("catalog", ok=False, detail=str(error))
            return False
        finally:
            with self._lock:
                self._catalog_asked_boot_seconds = None
        self._health.report("catalog", ok=True)
        return True

    def _count_lanes(self) -> None:
        """Count what the lanes used since the last look; under the lock."""
        if self._lanes is None:
            return
        for name in (lane.name for lane in fields(self._lanes)):
            executor = getattr(self._lanes, name)
            if not isinstance(executor, MeteredExecutor):
                continue
            cpu_seconds = executor.cpu_seconds
            added = cpu_seconds - self._lane_counted_seconds.get(name, 0.0)
            self._lane_counted_seconds[name] = cpu_seconds
            self._lane_cpu_seconds[name] = self._lane_cpu_seconds.get(name, 0.0) + added
            self._metrics.lane_worked(name, cpu_seconds=added)

    def _report_lag(self, source: KafkaSource, next_offsets: Mapping[TopicPartition, int]) -> None:
        now_ms = self._clock.now_ms()
        for topic_partition, marks in source.cached_watermarks().items():
            if topic_partition not in next_offsets:
                continue
            lag = max(0, marks.high - next_offsets[topic_partition])
            with self._lock:
                freshness = self._freshness.seconds(topic_partition, lag=lag, now_ms=now_ms)
            self._metrics.position_observed(
                topic_partition.topic,
                topic_partition.kafka_partition,
                lag_message_count=lag,
                freshness_seconds=freshness,
            )
