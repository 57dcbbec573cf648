"""Questions to the cluster: which topics, which ids, which partitions, which offsets they hold.

Uses an admin client, so that nothing here disturbs the consumer. Every question has a limit; one
that the cluster cannot answer yet (a leader is being elected) is asked again until then.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar, cast

import structlog
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
)
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import (
    AdminClient,
    DescribeClusterResult,  # pyright: ignore[reportPrivateImportUsage] - public, missing from __all__
    ListOffsetsResultInfo,  # pyright: ignore[reportPrivateImportUsage] - public, missing from __all__
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage] - public, missing from __all__
    TopicDescription,  # pyright: ignore[reportPrivateImportUsage] - public, missing from __all__
)

from k2i_core.clock import Clock
from k2i_core.errors import ConfigError, ErrorKind, UnavailableError
from k2i_core.kafka.admin_client import ATTEMPT_SECONDS_MAX, RenewedAdminClient
from k2i_core.kafka.failures import Reaction, described, error_of, reaction_to, translated
from k2i_core.kafka.reports import ClientReports
from k2i_core.kafka.settings import (
    KafkaSettings,
    OffsetsStart,
    Secrets,
    TimestampStart,
    client_properties,
)
from k2i_core.offsets import TopicPartition, Watermarks

ASK_AGAIN_SECONDS = 0.1
"""Pause before a question is repeated: larger delays a start after a broker's restart, smaller
costs the broker requests while it is busy electing leaders."""

LATE_METADATA_SECONDS = 1.0
"""How long a topic may be unknown before it counts as missing: a broker answers from its own copy
of the metadata, which follows a creation by some milliseconds."""

SERVE_SECONDS = 0.05
"""How often a wait looks at librdkafka's own reports: larger shows a wrong password later."""

INTERNAL_PREFIX = "__"

MIRROR_LAST_SECONDS = 2.0
"""How long leaving waits for the last mirrored commit: larger holds up the end of a process whose
broker is down, smaller shows lag tools an older offset after it."""

# Cast because the stubs allow for None before the library is loaded.
_EARLIEST = cast("OffsetSpec", OffsetSpec.earliest())
_LATEST = cast("OffsetSpec", OffsetSpec.latest())

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

_Key = TypeVar("_Key")
_Answer = TypeVar("_Answer")


class KafkaTopics:
    """The pipeline's topics as the cluster has them now."""

    def __init__(
        self, settings: KafkaSettings, clock: Clock, reports: ClientReports, secrets: Secrets
    ) -> None:
        """Prepare a client; connects at the first question.

        Raises:
            ConfigError: librdkafka does not know a property or its value, or the topic pattern is
                no regular expression.

        """
        self._settings = settings
        self._clock = clock
        self._reports = reports
        self._secrets = secrets
        try:
            self._pattern = re.compile(settings.topic_pattern or "")
        except re.error as error:
            message = f"topic_pattern={settings.topic_pattern} is no regular expression: {error}"
            raise ConfigError(message) from error
        try:
            self._admin = RenewedAdminClient(self._connect, clock)
        except KafkaException as error:
            raise self._config_error(error) from error
        self._probe: tuple[AdminClient, Future[Any]] | None = None
        self._mirroring: Future[ConsumerGroupTopicPartitions] | None = None

    def _connect(self) -> AdminClient:
        return AdminClient(self._reports.attached_to(client_properties(self._settings)))

    def _config_error(self, error: KafkaException) -> ConfigError:
        return ConfigError(f"kafka client refused: {self._secrets.removed_from(str(error))}")

    def cluster_id(self) -> str:
        """Return the cluster's id.

        Raises:
            UnavailableError: No answer in time; try again.
            ConfigError: Access is refused.

        """

        def send(admin: AdminClient) -> Mapping[str, Future[DescribeClusterResult]]:
            return {"": admin.describe_cluster(request_timeout=self._attempt_seconds)}

        description = self._ask_each("cluster description", send)[""]
        return str(description.cluster_id)

    def topic_ids(self) -> Mapping[str, str]:
        """Return topic name → topic id, in the form Kafka's own tools print it.

        Raises:
            UnavailableError: No answer in time; try again.
            ConfigError: A topic does not exist, or access is refused.

        """
        return {d.name: _readable_id(str(d.topic_id)) for d in self._descriptions()}

    def partitions(self) -> frozenset[TopicPartition]:
        """Return every Kafka partition of the topics; raises as `topic_ids` does."""
        return frozenset(
            TopicPartition(description.name, partition.id)
            for description in self._descriptions()
            for partition in description.partitions
        )

    def watermarks(
        self, topic_partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, Watermarks]:
        """Return log start and last stable offset; raises as `topic_ids` does."""
        lows = self._offsets(topic_partitions, _EARLIEST)
        highs = self._offsets(topic_partitions, _LATEST)
        # Retention may pass an idle log's end between the two questions.
        return {tp: Watermarks(lows[tp], max(lows[tp], highs[tp])) for tp in topic_partitions}

    def start_offsets(
        self, topic_partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """Resolve the start policy.

        Raises:
            ConfigError: A given offset is outside the log; the message names what is allowed.
            UnavailableError: No answer in time; try again.

        """
        match self._settings.start:
            case "earliest":
                return self._offsets(topic_partitions, _EARLIEST)
            case "latest":
                return {tp: marks.high for tp, marks in self.watermarks(topic_partitions).items()}
            case TimestampStart(timestamp_ms):
                marks = self.watermarks(topic_partitions)
                found = self._offsets(topic_partitions, OffsetSpec.for_timestamp(timestamp_ms))
                # Kafka answers -1 when no record is that young.
                return {tp: o if o >= 0 else marks[tp].high for tp, o in found.items()}
            case OffsetsStart(next_offsets):
                return self._given_offsets(topic_partitions, next_offsets)

    def log_starts(
        self, topic_partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """Return the first offset of each log; raises as `topic_ids` does."""
        return self._offsets(topic_partitions, _EARLIEST)

    def mirror(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Send the offsets to the consumer group and do not wait; failures are only logged."""
        if not next_offsets:
            return
        offsets = [
            KafkaTopicPartition(tp.topic, tp.kafka_partition, offset)
            for tp, offset in sorted(next_offsets.items())
        ]
        group_id = self._settings.group_id
        group = ConsumerGroupTopicPartitions(group_id, offsets)
        try:
            # One attempt only: the next flush brings newer offsets.
            futures = self._admin.client.alter_consumer_group_offsets(
                [group], request_timeout=self._attempt_seconds
            )
        except KafkaException as error:
            _mirror_failed(error, group_id, self._secrets)
            return
        self._mirroring = futures[group_id]
        # Not a method of this object: the last reference to a client must not be dropped by
        # librdkafka's own thread, which runs this callback; librdkafka aborts the process then.
        self._mirroring.add_done_callback(partial(_mirrored, group_id, self._secrets))

    def close(self) -> None:
        """Give the last mirrored commit a moment, then leave; nothing may be asked afterwards."""
        if self._mirroring is not None:
            wait([self._mirroring], timeout=MIRROR_LAST_SECONDS)
        self._admin.close()

    def serve(self) -> None:
        """Pass on what the client has logged; librdkafka keeps it until then."""
        self._admin.client.poll(0)

    def probe(self) -> None:
        """Ask whether the cluster is there, without waiting; the answer goes to the reports."""
        if self._probe is None:
            admin = self._admin.client
            self._probe = admin, admin.describe_cluster(request_timeout=ATTEMPT_SECONDS_MAX)
        admin, answer = self._probe
        if not answer.done():
            return
        error = answer.exception()
        self._probe = None
        if error is None:
            self._reports.heard()
        else:
            self._reports.lost(str(error))
            self._admin.renew(admin)

    def check_existence(self) -> None:
        """Raise when a topic is gone; without an answer the brokers are down, and not the topic.

        Raises:
            ConfigError: A topic does not exist any more.

        """
        try:
            self._descriptions()
        except UnavailableError as error:
            _log.warning("topics not checked", reason=str(error))

    def watermarks_if_known(self, topic_partition: TopicPartition) -> Watermarks | None:
        """Return the watermarks for a message; None when the cluster does not tell."""
        try:
            return self.watermarks([topic_partition])[topic_partition]
        except (ConfigError, UnavailableError) as error:
            _log.warning("log bounds not known", reason=str(error))
            return None

    @property
    def _timeout(self) -> float:
        return self._settings.call_timeout_seconds

    @property
    def _attempt_seconds(self) -> float:
        return min(self._timeout, ATTEMPT_SECONDS_MAX)

    def _names(self) -> list[str]:
        if self._settings.topics:
            return list(self._settings.topics)
        # All topics, never one by name: asking a broker for one name may create that topic.
        metadata = self._ask_directly(
            "topic list", lambda admin, seconds: admin.list_topics(timeout=seconds)
        )
        names = sorted(
            name
            for name in metadata.topics
            if self._pattern.search(name) and not name.startswith(INTERNAL_PREFIX)
        )
        if not names:
            message = f"no topic matches topic_pattern={self._settings.topic_pattern}"
            raise ConfigError(message, kind=ErrorKind.TOPIC_MISSING)
        return names

    def _descriptions(self) -> list[TopicDescription]:
        names = self._names()

        def send(admin: AdminClient) -> Mapping[str, Future[TopicDescription]]:
            return admin.describe_topics(
                TopicCollection(names), request_timeout=self._attempt_seconds
            )

        answers = self._ask_each(f"topic description of topics={','.join(names)}", send)
        return [answers[name] for name in names if not answers[name].is_internal]

    def _offsets(
        self, topic_partitions: Collection[TopicPartition], spec: OffsetSpec
    ) -> dict[TopicPartition, int]:
        if not topic_partitions:
            return {}
        wanted = {
            KafkaTopicPartition(tp.topic, tp.kafka_partition): spec for tp in topic_partitions
        }

        def send(
            admin: AdminClient,
        ) -> Mapping[KafkaTopicPartition, Future[ListOffsetsResultInfo]]:
            return admin.list_offsets(
                wanted,
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=self._attempt_seconds,
            )

        topics = ",".join(sorted({tp.topic for tp in topic_partitions}))
        answers = self._ask_each(f"offset list of topics={topics}", send)
        return {TopicPartition(tp.topic, tp.partition): r.offset for tp, r in answers.items()}

    def _given_offsets(
        self,
        topic_partitions: Collection[TopicPartition],
        next_offsets: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, int]:
        starts: dict[TopicPartition, int] = {}
        wrong: list[str] = []
        for topic_partition, marks in sorted(self.watermarks(topic_partitions).items()):
            start = next_offsets.get(topic_partition, marks.low)
            if not marks.low <= start <= marks.high:
                wrong.append(
                    f"topic={topic_partition.topic} kafka_partition="
                    f"{topic_partition.kafka_partition} start_offset={start} "
                    f"allowed={marks.low}..{marks.high}"
                )
            starts[topic_partition] = start
        if wrong:
            message = f"kafka.start.offsets outside the log: {'; '.join(wrong)}"
            raise ConfigError(message)
        return starts

    def _ask_each(
        self, action: str, send: Callable[[AdminClient], Mapping[_Key, Future[_Answer]]]
    ) -> dict[_Key, _Answer]:
        """Ask until every part is answered or the time is up.

        Raises:
            UnavailableError: The time is up.
            ConfigError: Refused, or a topic is missing.

        """
        started = self._clock.boot_seconds()
        while True:
            admin = self._admin.client
            outcomes = {
                key: self._outcome(admin, future, action, started)
                for key, future in send(admin).items()
            }
            failed = [error for _, error in outcomes.values() if error is not None]
            if not failed:
                self._reports.heard()
                return {key: cast("_Answer", answer) for key, (answer, _) in outcomes.items()}
            self._raise_if_final(failed, action, self._clock.boot_seconds() - started)
            if any(error.code() == KafkaError._TIMED_OUT for error in failed):  # noqa: SLF001 - librdkafka's own codes begin with an underscore
                self._admin.renew(admin)
            self._clock.sleep(ASK_AGAIN_SECONDS)

    def _raise_if_final(
        self, failed: Sequence[KafkaError], action: str, waited_seconds: float
    ) -> None:
        """Raise unless every error may go away by itself in the time that is left."""
        for error in failed:
            reaction = reaction_to(error)
            if reaction is Reaction.WAIT and waited_seconds >= self._timeout:
                raise self._no_answer(action, described(error, self._secrets))
            is_late = reaction is Reaction.TOPIC_GONE and waited_seconds < LATE_METADATA_SECONDS
            if not is_late and reaction is not Reaction.WAIT:
                raise translated(error, action, self._secrets)

    def _outcome(
        self, admin: AdminClient, future: Future[_Answer], action: str, started: float
    ) -> tuple[_Answer | None, KafkaError | None]:
        while True:
            try:
                return future.result(SERVE_SECONDS), None
            except TimeoutError:
                self._serve(admin, action, started)
            except KafkaException as error:
                kafka_error = error_of(error)
                if kafka_error is None:
                    raise self._config_error(error) from error
                return None, kafka_error

    def _serve(self, admin: AdminClient, action: str, started: float) -> None:
        """Look at librdkafka's reports and at the time while an answer is awaited."""
        admin.poll(0)
        self._reports.raise_if_refused(action)
        if self._clock.boot_seconds() - started > self._timeout:
            self._admin.renew(admin)
            raise self._no_answer(action)

    def _no_answer(self, action: str, last_error: str | None = None) -> UnavailableError:
        last_error = self._reports.health().last_error or last_error
        message = (
            f"{action} not answered in time: bootstrap_servers={self._settings.bootstrap_servers} "
            f"timeout_seconds={self._timeout} last_error={last_error}"
        )
        self._reports.lost(message)
        return UnavailableError(message)

    def _ask_directly(self, action: str, call: Callable[[AdminClient, float], _Answer]) -> _Answer:
        """Repeat a blocking call in short pieces, so that refusals are seen between them."""
        started = asked = self._clock.boot_seconds()
        while True:
            admin, now = self._admin.client, self._clock.boot_seconds()
            if now - asked >= self._attempt_seconds:
                self._admin.renew(admin)
                asked = now
            try:
                answer = call(self._admin.client, min(1.0, self._timeout))
            except KafkaException as error:
                kafka_error = error_of(error)
                if kafka_error is None:
                    raise self._config_error(error) from error
                if reaction_to(kafka_error) is not Reaction.WAIT:
                    raise translated(kafka_error, action, self._secrets) from error
                self._serve(self._admin.client, action, started)
            else:
                self._reports.heard()
                return answer


def _mirrored(
    group_id: str, secrets: Secrets, future: Future[ConsumerGroupTopicPartitions]
) -> None:
    error = future.exception()
    if error is not None:
        _mirror_failed(error, group_id, secrets)
        return
    for topic_partition in future.result().topic_partitions or []:
        if topic_partition.error is not None:
            _mirror_failed(KafkaException(topic_partition.error), group_id, secrets)
            return


def _mirror_failed(error: BaseException, group_id: str, secrets: Secrets) -> None:
    reason = secrets.removed_from(str(error))
    _log.debug("group offsets not mirrored", group_id=group_id, reason=reason)


def _readable_id(topic_id: str) -> str:
    """Return a topic id as Kafka's tools print it: URL-safe base64 without padding."""
    return topic_id.translate(str.maketrans("+/", "-_", "="))
