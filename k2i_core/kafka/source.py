"""`KafkaSource`: Kafka as the ingest session sees it, read by assignment at a checkpoint.

No consumer group is joined: the worker owns its Kafka partitions by the table's ledger, and the
group only mirrors offsets for lag tools. A consumer lives as long as its assignment, because its
buffer limit is per Kafka partition and fixed when it is made.

Used by one thread, except `health` and `cached_watermarks`, which any thread may call.
"""

from collections.abc import Collection, Mapping

import structlog
from confluent_kafka import KafkaException

from k2i_core.clock import Clock
from k2i_core.errors import ConfigError, K2iError
from k2i_core.kafka.failures import error_of, translated
from k2i_core.kafka.native_queue import assign_natively
from k2i_core.kafka.queue import Assigned, assign
from k2i_core.kafka.reader import PartitionReader
from k2i_core.kafka.reports import ClientReports, SourceHealth
from k2i_core.kafka.settings import KafkaSettings, Secrets, consumer_properties
from k2i_core.kafka.topics import KafkaTopics
from k2i_core.native import NativeLibrary
from k2i_core.offsets import TopicPartition, Watermarks
from k2i_core.records import PolledBatch

_log = structlog.get_logger(__name__)

UPKEEP_SECONDS = 1.0
"""How often a poll refreshes the watermarks for metrics and looks whether the cluster is there:
larger shows both later, smaller costs a call per Kafka partition."""

SILENT_SECONDS_MAX = 10.0
"""How long nothing may be heard before the cluster is asked for a sign of life: larger shows a
hanging broker later, smaller costs requests on an idle topic."""


class KafkaSource:
    """Implements the port `Source` with librdkafka."""

    def __init__(
        self, settings: KafkaSettings, clock: Clock, native: NativeLibrary | None = None
    ) -> None:
        """Prepare the clients; connects at the first question.

        Args:
            settings: Which cluster, which topics and how much at once.
            clock: For waits and limits.
            native: Polls without Python for a record; None polls in Python.

        Raises:
            ConfigError: librdkafka does not know a property or its value.

        """
        self._settings = settings
        self._clock = clock
        self._secrets = Secrets(settings.properties)
        self._reports = ClientReports(clock, self._secrets)
        self._topics = KafkaTopics(settings, clock, self._reports, self._secrets)
        self._native = native
        self._assigned: Assigned | None = None
        self._reader: PartitionReader | None = None
        self._cached_watermarks: Mapping[TopicPartition, Watermarks] = {}
        self._upkeep_boot_seconds = 0.0

    def topic_ids(self) -> Mapping[str, str]:
        """Return topic name → Kafka's topic id for every topic the pipeline reads now.

        Raises:
            UnavailableError: No broker answered in time; try again.
            ConfigError: A topic does not exist, or access is refused.

        """
        return self._topics.topic_ids()

    def cluster_id(self) -> str:
        """Return Kafka's cluster id; raises as `topic_ids` does."""
        return self._topics.cluster_id()

    def partitions(self) -> frozenset[TopicPartition]:
        """Return every Kafka partition of the pipeline's topics; raises as `topic_ids` does."""
        return self._topics.partitions()

    def watermarks(
        self, topic_partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, Watermarks]:
        """Return log start and last stable offset, asked now; raises as `topic_ids` does."""
        return self._topics.watermarks(topic_partitions)

    def start_offsets(
        self,
        topic_partitions: Collection[TopicPartition],
        *,
        from_log_start: bool = False,
    ) -> Mapping[TopicPartition, int]:
        """Resolve where Kafka partitions without a checkpoint begin.

        Args:
            topic_partitions: Partitions the ledger does not know.
            from_log_start: Ignore the start policy. For partitions added while the pipeline ran:
                under `latest` their first records would be lost.

        Returns:
            The next offset of each.

        Raises:
            ConfigError: An offset of the start policy is outside the log.
            UnavailableError: No broker answered in time; try again.

        """
        if from_log_start:
            return self._topics.log_starts(topic_partitions)
        return self._topics.start_offsets(topic_partitions)

    def assign(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Read exactly these Kafka partitions from these offsets on; replaces any assignment.

        Raises:
            ConfigError: librdkafka does not know a property or its value.

        """
        self._close_consumer()
        if not next_offsets:
            return
        try:
            self._assigned = self._assign(next_offsets)
        except KafkaException as error:
            raise self._converted(error, "assignment") from error
        self._reader = PartitionReader(
            self._assigned.queue,
            next_offsets,
            settings=self._settings,
            clock=self._clock,
            errors=self._reports,
            secrets=self._secrets,
            watermarks=self._topics.watermarks_if_known,
            check_topics=self._topics.check_existence,
        )

    def _assign(self, next_offsets: Mapping[TopicPartition, int]) -> Assigned:
        properties = consumer_properties(self._settings, len(next_offsets))
        if self._native is not None:
            try:
                return assign_natively(self._native, properties, next_offsets, self._reports)
            except RuntimeError as error:
                self._give_up_native(error)
        return assign(properties, next_offsets, self._reports)

    def _give_up_native(self, error: RuntimeError) -> None:
        _log.warning("native polling failed, polling in Python", reason=str(error))
        self._native = None

    def poll(self, timeout_seconds: float) -> PolledBatch | None:
        """Return records and moved positions, or None when neither came in time.

        An outage is no error: it shows in `health` until the brokers are back.

        Raises:
            DataLossError: The next offset of a Kafka partition is gone from the log.
            ConfigError: A topic was deleted, or access is refused.
            UnavailableError: librdkafka cannot go on; build a new source.

        """
        self._keep_up()
        if self._reader is None:
            self._clock.sleep(timeout_seconds)
            return None
        try:
            return self._reader.poll(timeout_seconds)
        except KafkaException as error:
            raise self._converted(error, "reading") from error
        except RuntimeError as error:
            if self._native is None:
                raise
            # Safe because positions move only past what a poll has returned.
            self._give_up_native(error)
            self.assign(self._reader.positions)
            return None

    def mirror(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Send the offsets to the consumer group for lag tools; best effort, never raises."""
        self._topics.mirror(next_offsets)

    def health(self) -> SourceHealth:
        """Return whether the brokers answer, without asking them; for any thread."""
        return self._reports.health()

    def cached_watermarks(self) -> Mapping[TopicPartition, Watermarks]:
        """Return what the last fetches said, at most about a second old; for any thread.

        `high` is the end of the log here, not the last stable offset: records of an open
        transaction count as lag.
        """
        return self._cached_watermarks

    def close(self) -> None:
        """Leave; takes at most a few seconds, and the source cannot be used afterwards."""
        self._close_consumer()
        self._topics.close()

    def _close_consumer(self) -> None:
        assigned, self._assigned, self._reader = self._assigned, None, None
        self._cached_watermarks = {}
        if assigned is not None:
            assigned.close()

    def _keep_up(self) -> None:
        """Once a second: refresh what other threads look at, and look for signs of life."""
        now = self._clock.boot_seconds()
        if now - self._upkeep_boot_seconds < UPKEEP_SECONDS:
            return
        self._upkeep_boot_seconds = now
        self._topics.serve()
        self._reports.raise_if_refused("reading")
        silent_seconds = self._reports.silent_seconds()
        if (
            self._reports.is_in_doubt
            or silent_seconds is None
            or silent_seconds > SILENT_SECONDS_MAX
        ):
            self._topics.probe()
        if self._assigned is None or self._reader is None:
            return
        marks = {tp: self._assigned.watermarks(tp) for tp in self._reader.positions}
        self._cached_watermarks = {tp: known for tp, known in marks.items() if known is not None}

    def _converted(self, error: KafkaException, action: str) -> K2iError:
        kafka_error = error_of(error)
        if kafka_error is None:
            return ConfigError(f"{action} failed: {self._secrets.removed_from(str(error))}")
        return translated(kafka_error, action, self._secrets)
