"""What the Kafka adapter is told, and the librdkafka properties that follow from it.

Three kinds of property, strongest first: those that exactly-once depends on (`OWNED_PROPERTIES`;
naming one in the file is refused), those of the user, and defaults chosen for freshness and for a
bounded memory.

Values of secret properties appear in no repr, log line or error: `Secrets` takes them out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from k2i_core.errors import ConfigError
from k2i_core.offsets import TopicPartition

PropertyValue: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class TimestampStart:
    """Start at the first record whose timestamp is at or after this one."""

    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class OffsetsStart:
    """Start at these offsets; Kafka partitions that are not named start at their log start."""

    next_offsets: Mapping[TopicPartition, int]


StartPolicy: TypeAlias = Literal["earliest", "latest"] | TimestampStart | OffsetsStart


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """One pipeline's view of a Kafka cluster.

    Attributes:
        bootstrap_servers: `host:port`, comma separated.
        group_id: Where offsets are mirrored for lag tools; no group is ever joined.
        topics: Topic names; empty when `topic_pattern` is given.
        topic_pattern: Regular expression searched in topic names; internal topics never match.
        start: Where a Kafka partition without a checkpoint begins.
        properties: Any librdkafka property that is not owned.
        call_timeout_seconds: Limit for one question to the cluster.
        fetch_buffer_bytes: Fetched and not yet polled, over all Kafka partitions together. Larger
            costs memory, smaller lets the network go idle while a batch is being decoded.
        poll_bytes_max: A poll returns soon after nearing it. Larger costs memory downstream and
            delays the first row, smaller pays the fixed cost of a batch more often.
        poll_records_max: No poll returns more, because short records take more room as rows.
        poll_linger_seconds: How long a poll that has records waits for more. Larger is less fresh,
            smaller makes many tiny batches at a few thousand records a second.
    """

    bootstrap_servers: str
    group_id: str
    topics: tuple[str, ...] = ()
    topic_pattern: str | None = None
    start: StartPolicy = "earliest"
    properties: Mapping[str, PropertyValue] = field(
        default_factory=dict[str, PropertyValue], repr=False
    )
    call_timeout_seconds: float = 30.0
    fetch_buffer_bytes: int = 32 * 1024 * 1024
    poll_bytes_max: int = 8 * 1024 * 1024
    poll_records_max: int = 40_000
    poll_linger_seconds: float = 0.01

    def __post_init__(self) -> None:
        """Refuse a property that exactly-once depends on; the rest is librdkafka's to judge.

        Raises:
            ConfigError: An owned property is named; remove it.

        """
        assert bool(self.topics) != bool(self.topic_pattern)
        object.__setattr__(self, "properties", MappingProxyType(dict(self.properties)))
        owned = sorted(OWNED_PROPERTIES.keys() & self.properties.keys())
        if owned:
            reasons = "; ".join(f"{name}: {OWNED_PROPERTIES[name]}" for name in owned)
            message = (
                f"kafka properties set by k2i itself cannot be changed, remove them ({reasons})"
            )
            raise ConfigError(message)


_POSITIONS_ARE_OURS = "progress lives in the table"
_NAMED_ELSEWHERE = "named by its own key in the pipeline file"

OWNED_PROPERTIES: Mapping[str, str] = MappingProxyType(
    {
        "allow.auto.create.topics": "reading must not create a topic",
        "auto.commit.enable": _POSITIONS_ARE_OURS,
        "auto.offset.reset": "an offset that is gone must stop the pipeline, not move it",
        "bootstrap.servers": _NAMED_ELSEWHERE,
        "enable.auto.commit": _POSITIONS_ARE_OURS,
        "enable.auto.offset.store": _POSITIONS_ARE_OURS,
        "enable.partition.eof": "positions pass aborted records by it",
        "group.id": _NAMED_ELSEWHERE,
        "isolation.level": "aborted records must not become rows",
        "log.queue": "log lines go to the program's own log",
        "metadata.broker.list": _NAMED_ELSEWHERE,
    }
)
"""Property → why the user cannot set it."""

FETCH_WAIT_MS = 50
"""How long the broker may hold a fetch that has nothing to return. A Kafka partition whose buffer
was full joins only the next fetch, so larger starves a busy partition beside idle ones; smaller
costs the broker requests while all are idle."""

RECONNECT_BACKOFF_MS_MAX = 2_000
"""Longest pause between attempts to connect: larger prolongs every outage, smaller hammers a
broker that is starting."""

PARTITION_FETCH_BYTES_MAX = 1024 * 1024
"""Most that one fetch asks of one Kafka partition. Larger was not faster; a single larger record is
delivered whole anyway."""

PARTITION_BUFFER_BYTES_MIN = 64 * 1024
"""Smallest buffer of a Kafka partition: smaller means a request for every few records. With more
than `fetch_buffer_bytes` / this many partitions the total grows beyond the setting."""

FETCH_RESPONSE_BYTES_MAX = 50 * 1024 * 1024
"""Most that one fetch asks of one broker; Kafka's own default."""

MESSAGE_BYTES_MAX = 1_000_000
"""librdkafka's own default of `message.max.bytes`; it refuses responses that are smaller."""


def client_properties(settings: KafkaSettings) -> dict[str, PropertyValue]:
    """Return what every client needs to reach the cluster, the user's properties included."""
    defaults: dict[str, PropertyValue] = {
        "client.id": f"k2i-{settings.group_id}",
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": RECONNECT_BACKOFF_MS_MAX,
        "socket.keepalive.enable": True,
    }
    return {**defaults, **settings.properties, "bootstrap.servers": settings.bootstrap_servers}


def consumer_properties(
    settings: KafkaSettings,
    partition_count: int,
) -> dict[str, PropertyValue]:
    """Return the properties of a consumer that will be assigned `partition_count` partitions.

    The buffer limit of librdkafka is per Kafka partition; so that their sum stays at
    `fetch_buffer_bytes`, it is made for the assignment.
    """
    assert partition_count > 0
    share = settings.fetch_buffer_bytes // partition_count
    buffer_kib = max(share, PARTITION_BUFFER_BYTES_MIN) // 1024
    largest = int(settings.properties.get("message.max.bytes", MESSAGE_BYTES_MAX))
    response_bytes = min(settings.fetch_buffer_bytes, FETCH_RESPONSE_BYTES_MAX)
    defaults: dict[str, PropertyValue] = {
        "check.crcs": True,
        "fetch.max.bytes": max(response_bytes, largest),
        "fetch.message.max.bytes": min(buffer_kib * 1024, PARTITION_FETCH_BYTES_MAX),
        # The default of a second leaves the processor idle each time the buffer was full.
        "fetch.queue.backoff.ms": 5,
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        # Bytes are the limit, never the number of records.
        "queued.min.messages": 1_000_000,
        "queued.max.messages.kbytes": buffer_kib,
    }
    owned: dict[str, PropertyValue] = {
        "allow.auto.create.topics": False,
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "group.id": settings.group_id,
        "isolation.level": "read_committed",
    }
    return {**defaults, **client_properties(settings), **owned}


_SECRET_MARKS = (
    "assertion",
    "credential",
    "key.pem",
    "oauthbearer.config",
    "passphrase",
    "password",
    "secret",
    "token",
)


class Secrets:
    """The values that must not be seen, and a way to take them out of a text."""

    def __init__(self, properties: Mapping[str, PropertyValue]) -> None:
        values = {
            str(value)
            for name, value in properties.items()
            if any(mark in name.lower() for mark in _SECRET_MARKS) and str(value)
        }
        # Longest first, because one secret may be a part of another.
        self._values = sorted(values, key=len, reverse=True)

    def removed_from(self, text: str) -> str:
        """Return the text with every secret value replaced by stars."""
        for value in self._values:
            text = text.replace(value, "***")
        return text
