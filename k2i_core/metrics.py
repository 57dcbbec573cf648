"""Prometheus metrics of one worker: all declared in one table, each with its unit in its name.

Every worker has its own registry, so that two in one process, or two in one test, never meet.
Methods are named for events; what is counted where stays here.

| Invariant | Watched by |
|---|---|
| I1 | rows + dead letters + filtered + tombstones against `k2i_offsets_committed_total` |
| I3 | `k2i_lag_messages`, never negative |
| I6 | `k2i_buffered_bytes` against `k2i_buffered_bytes_max` |
"""

from dataclasses import dataclass
from enum import Enum

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PARTITION = ("topic", "kafka_partition")
_TABLE = ("table",)

SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""From a commit to a local catalog to one that is down for minutes; fewer hide the tail, more cost
a time series each."""


@dataclass(frozen=True, slots=True)
class _Metric:
    """One line of the table: what it is called, what it means and what it is split by."""

    name: str
    documentation: str
    labels: tuple[str, ...] = ()


class _Counters(Enum):
    """What only grows."""

    RECORDS_READ = _Metric("k2i_records_read_total", "Records read from Kafka")
    BYTES_READ = _Metric("k2i_read_bytes_total", "Key, value and header bytes read")
    OFFSETS = _Metric(
        "k2i_offsets_committed_total", "Offsets that the checkpoint moved past", _PARTITION
    )
    ROWS = _Metric("k2i_rows_committed_total", "Rows committed to the table", _PARTITION)
    DEAD_LETTERS = _Metric(
        "k2i_dead_letters_total", "Records committed to the dead-letter table", _PARTITION
    )
    RECORD_BYTES = _Metric(
        "k2i_committed_record_bytes_total",
        "Key and value bytes of the records that the checkpoint moved past",
        _PARTITION,
    )
    FILTERED = _Metric("k2i_filtered_records_total", "Records filtered out on purpose", _PARTITION)
    TOMBSTONES = _Metric("k2i_tombstones_total", "Records without a value", _PARTITION)
    TABLE_ROWS = _Metric("k2i_table_rows_total", "Rows committed, by table", _TABLE)
    TABLE_DEAD_LETTERS = _Metric(
        "k2i_table_dead_letters_total", "Records that became dead letters, by table", _TABLE
    )
    FILES = _Metric("k2i_files_committed_total", "Data files committed", _TABLE)
    FILE_BYTES = _Metric("k2i_committed_bytes_total", "Bytes of committed data files", _TABLE)
    COMMITS = _Metric("k2i_commits_total", "Commits that landed", _TABLE)
    ATTEMPTS = _Metric("k2i_commit_attempts_total", "Commit requests sent", _TABLE)
    RETRIES = _Metric("k2i_commit_retries_total", "Commit requests after the first one", _TABLE)
    FENCES = _Metric("k2i_fences_total", "Times another worker had taken over", _TABLE)
    LANE_CPU = _Metric(
        "k2i_lane_cpu_seconds_total",
        "Processor seconds of the jobs that ended in a lane; the process's rest is polling",
        ("lane",),
    )
    LETTER_COPIES = _Metric(
        "k2i_dead_letter_copies_total",
        "Dead letters that their topic got (copied), or did not get in time (given_up)",
        ("outcome",),
    )
    OUTAGES = _Metric("k2i_outages_total", "Times an outside system did not answer", ("component",))


class _Gauges(Enum):
    """What is true now."""

    LAG = _Metric("k2i_lag_messages", "Messages between checkpoint and topic end", _PARTITION)
    FRESHNESS = _Metric(
        "k2i_freshness_seconds", "Age of the oldest record that is not committed", _PARTITION
    )
    NEXT_OFFSET = _Metric("k2i_next_offset", "The checkpoint", _PARTITION)
    BUFFERED = _Metric("k2i_buffered_bytes", "Bytes read and not committed")
    BUFFERED_MAX = _Metric("k2i_buffered_bytes_max", "The limit on buffered bytes")
    GENERATIONS = _Metric("k2i_generations_in_flight", "Generations sealed and not committed")
    LAST_COMMIT = _Metric(
        "k2i_last_commit_timestamp_seconds", "When the last commit landed, since 1970", _TABLE
    )
    PAUSED = _Metric("k2i_table_paused", "1 while a table waits for `k2i table resume`", _TABLE)
    NATIVE = _Metric(
        "k2i_native_info", "Always 1; which native parts run, or why none", ("native",)
    )
    WORKER = _Metric("k2i_worker_info", "Always 1; who this is", ("pipeline", "worker", "version"))


class _Histograms(Enum):
    """What takes time."""

    FLUSH = _Metric("k2i_flush_seconds", "From seal to the checkpoint moved, dead letters included")
    OLDEST_TO_COMMIT = _Metric(
        "k2i_oldest_to_commit_seconds", "From the oldest poll of a generation to its commit"
    )
    COMMIT = _Metric("k2i_commit_seconds", "From the first load to the reply", _TABLE)


class IngestMetrics:
    """What one worker counts; thread-safe."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry or CollectorRegistry()
        self._counters = {
            m: Counter(m.value.name, m.value.documentation, m.value.labels, registry=self._registry)
            for m in _Counters
        }
        self._gauges = {
            m: Gauge(m.value.name, m.value.documentation, m.value.labels, registry=self._registry)
            for m in _Gauges
        }
        self._histograms = {
            m: Histogram(
                m.value.name,
                m.value.documentation,
                m.value.labels,
                registry=self._registry,
                buckets=SECONDS_BUCKETS,
            )
            for m in _Histograms
        }
        # Resident memory, CPU seconds, open files; nothing where there is no /proc.
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """Return every metric in Prometheus's text format (`CONTENT_TYPE`)."""
        return generate_latest(self._registry)

    def worker_started(
        self,
        pipeline: str,
        worker: str,
        version: str,
        *,
        buffered_bytes_max: int,
        native: str = "",
    ) -> None:
        """Say who this is, how much it may buffer, and which native parts it uses."""
        self._gauges[_Gauges.WORKER].labels(pipeline, worker, version).set(1)
        self._gauges[_Gauges.BUFFERED_MAX].set(buffered_bytes_max)
        self._gauges[_Gauges.NATIVE].labels(native).set(1)

    def records_read(self, *, record_count: int, byte_count: int) -> None:
        """Count the records of a poll."""
        self._counters[_Counters.RECORDS_READ].inc(record_count)
        self._counters[_Counters.BYTES_READ].inc(byte_count)

    def range_committed(
        self,
        topic: str,
        kafka_partition: int,
        *,
        offset_count: int,
        next_offset: int,
        row_count: int,
        dead_letter_count: int,
        filtered_count: int,
        tombstone_count: int,
        byte_count: int,
    ) -> None:
        """Count what became of one range, once it is in the table."""
        partition = (topic, str(kafka_partition))
        for counter, count in (
            (_Counters.OFFSETS, offset_count),
            (_Counters.ROWS, row_count),
            (_Counters.DEAD_LETTERS, dead_letter_count),
            (_Counters.FILTERED, filtered_count),
            (_Counters.TOMBSTONES, tombstone_count),
            (_Counters.RECORD_BYTES, byte_count),
        ):
            self._counters[counter].labels(*partition).inc(count)
        self._gauges[_Gauges.NEXT_OFFSET].labels(*partition).set(next_offset)

    def position_observed(
        self,
        topic: str,
        kafka_partition: int,
        *,
        lag_message_count: int,
        freshness_seconds: float,
    ) -> None:
        """Say how far behind one Kafka partition is; 0 and 0 when it is caught up."""
        partition = (topic, str(kafka_partition))
        self._gauges[_Gauges.LAG].labels(*partition).set(lag_message_count)
        self._gauges[_Gauges.FRESHNESS].labels(*partition).set(freshness_seconds)

    def partition_released(self, topic: str, kafka_partition: int) -> None:
        """Stop showing the lag of a Kafka partition that this worker no longer reads."""
        for gauge in (_Gauges.LAG, _Gauges.FRESHNESS, _Gauges.NEXT_OFFSET):
            self._gauges[gauge].remove_by_labels(
                {"topic": topic, "kafka_partition": str(kafka_partition)}
            )

    def table_paused(self, table: str, *, is_paused: bool) -> None:
        """Say whether a table waits for an operator."""
        self._gauges[_Gauges.PAUSED].labels(table).set(int(is_paused))

    def bytes_buffered(self, byte_count: int) -> None:
        """Say how many bytes are read and not committed."""
        self._gauges[_Gauges.BUFFERED].set(byte_count)

    def generations_counted(self, count: int) -> None:
        """Say how many generations are sealed and not committed."""
        self._gauges[_Gauges.GENERATIONS].set(count)

    def flush_finished(
        self,
        *,
        flush_seconds: float,
        oldest_to_commit_seconds: float,
    ) -> None:
        """Record how long one generation took."""
        self._histograms[_Histograms.FLUSH].observe(flush_seconds)
        self._histograms[_Histograms.OLDEST_TO_COMMIT].observe(oldest_to_commit_seconds)

    def commit_landed(
        self,
        table: str,
        *,
        commit_seconds: float,
        attempt_count: int,
        file_count: int,
        byte_count: int,
        landed_ms: int,
    ) -> None:
        """Record one commit; `landed_ms` is wall-clock milliseconds since 1970."""
        for counter, count in (
            (_Counters.COMMITS, 1),
            (_Counters.ATTEMPTS, attempt_count),
            (_Counters.RETRIES, max(attempt_count - 1, 0)),
            (_Counters.FILES, file_count),
            (_Counters.FILE_BYTES, byte_count),
        ):
            self._counters[counter].labels(table).inc(count)
        self._histograms[_Histograms.COMMIT].labels(table).observe(commit_seconds)
        self._gauges[_Gauges.LAST_COMMIT].labels(table).set(landed_ms / 1000)

    def table_filled(self, table: str, *, row_count: int, dead_letter_count: int) -> None:
        """Count what one table got, once it is in."""
        self._counters[_Counters.TABLE_ROWS].labels(table).inc(row_count)
        self._counters[_Counters.TABLE_DEAD_LETTERS].labels(table).inc(dead_letter_count)

    def fenced(self, table: str) -> None:
        """Count that another worker had taken over."""
        self._counters[_Counters.FENCES].labels(table).inc()

    def lane_worked(self, lane: str, *, cpu_seconds: float) -> None:
        """Add processor seconds that a lane (`decode`, `write`, …) used since the last."""
        self._counters[_Counters.LANE_CPU].labels(lane).inc(cpu_seconds)

    def letters_copied(self, *, copied_count: int, given_up_count: int) -> None:
        """Count copies of dead letters in their topic."""
        self._counters[_Counters.LETTER_COPIES].labels("copied").inc(copied_count)
        self._counters[_Counters.LETTER_COPIES].labels("given_up").inc(given_up_count)

    def outage_seen(self, component: str) -> None:
        """Count that an outside system (`broker`, `catalog`, `store`) did not answer."""
        self._counters[_Counters.OUTAGES].labels(component).inc()
