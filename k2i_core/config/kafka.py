"""Section `kafka`: which topics are read, from where, and how the brokers are reached."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias, cast

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from k2i_core.config.problems import quoted
from k2i_core.config.settings import FreeMapping, Scalars, Section
from k2i_core.config.units import parse_count

TOPIC_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
"""Source: Kafka's own rule for topic names."""

_SERVER = re.compile(r"(?:[A-Za-z_]+://)?(?:\[[0-9A-Fa-f:]+\]|[\w.-]+)(?::([0-9]{1,5}))?")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

PORT_MAX = 65_535

KAFKA_PARTITION_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class StartEarliest:
    """Begin at the first record that the log still holds."""


@dataclass(frozen=True, slots=True)
class StartLatest:
    """Begin at the end; records so far are never read."""


@dataclass(frozen=True, slots=True)
class StartTimestamp:
    """Begin at the first record that is not older.

    Attributes:
        timestamp_ms: Milliseconds since 1970-01-01T00:00:00Z.
    """

    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class StartOffsets:
    """Begin at these offsets; a Kafka partition that is not named begins at its log start.

    Attributes:
        next_offsets: Topic → Kafka partition → offset.
    """

    next_offsets: Mapping[str, Mapping[int, int]] = field(hash=False)


StartPolicy: TypeAlias = StartEarliest | StartLatest | StartTimestamp | StartOffsets
"""Where a Kafka partition begins that the table has no checkpoint for."""

_START_FORMS = "earliest, latest, {timestamp: 2026-01-01T00:00:00Z}, {offsets: {topic: {0: 42}}}"


def parse_start(value: object) -> StartPolicy:
    """Read a start policy.

    Raises:
        ValueError: It is none.

    """
    if isinstance(value, StartEarliest | StartLatest | StartTimestamp | StartOffsets):
        return value
    match value:
        case "earliest":
            return StartEarliest()
        case "latest":
            return StartLatest()
        case {"timestamp": timestamp, **rest} if not rest:
            return StartTimestamp(_timestamp_ms(timestamp))
        case {"offsets": dict() as topics, **rest} if topics and not rest:
            return StartOffsets(_offsets(cast("dict[object, object]", topics)))
        case _:
            message = f"{quoted(value)} is no place to start; write one of {_START_FORMS}"
            raise ValueError(message)


def start_text(start: StartPolicy) -> object:
    """Write a start policy as in the file."""
    match start:
        case StartEarliest():
            return "earliest"
        case StartLatest():
            return "latest"
        case StartTimestamp(timestamp_ms):
            moment = EPOCH + timedelta(milliseconds=timestamp_ms)
            return {"timestamp": moment.isoformat(timespec="milliseconds")}
        case StartOffsets(next_offsets):
            return {"offsets": {topic: dict(offsets) for topic, offsets in next_offsets.items()}}


def _timestamp_ms(value: object) -> int:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        message = (
            f"{quoted(value)} is not a time with a zone; write it as 2026-01-01T00:00:00Z "
            "or 2026-01-01T00:00:00+02:00"
        )
        raise ValueError(message)
    if moment < EPOCH:
        message = f"{quoted(value)} is before 1970, where Kafka's timestamps begin"
        raise ValueError(message)
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _offsets(topics: dict[object, object]) -> Mapping[str, Mapping[int, int]]:
    next_offsets: dict[str, Mapping[int, int]] = {}
    for topic, partitions in topics.items():
        if not isinstance(partitions, dict) or not partitions:
            message = f"offsets of topic {topic} must be written as {{kafka partition: offset}}"
            raise ValueError(message)
        pairs = cast("dict[object, object]", partitions).items()
        counts = {parse_count(partition): parse_count(offset) for partition, offset in pairs}
        if min(*counts, *counts.values()) < 0 or max(counts) > KAFKA_PARTITION_MAX:
            message = f"offsets of topic {topic} hold a negative number, or no Kafka partition"
            raise ValueError(message)
        next_offsets[parse_topic(str(topic))] = MappingProxyType(counts)
    return MappingProxyType(next_offsets)


def parse_topic(value: str) -> str:
    """Check a topic's name.

    Raises:
        ValueError: Kafka allows no such name.

    """
    if not TOPIC_NAME.fullmatch(value):
        message = (
            f"{quoted(value)} is not a topic name; allowed: up to 249 letters, digits and . _ -"
        )
        raise ValueError(message)
    return value


def _check_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        message = f"{quoted(value)} is not a regular expression: {error}"
        raise ValueError(message) from error
    if not value:
        message = "is empty; write a regular expression, or leave it out"
        raise ValueError(message)
    return value


def _check_servers(value: str) -> str:
    for server in value.split(","):
        match = _SERVER.fullmatch(server.strip())
        if match is None or int(match[1] or 1) not in range(1, PORT_MAX + 1):
            # Without the value, because people who put a password here are the likely readers.
            message = "must be host:port, several with commas between; credentials go to properties"
            raise ValueError(message)
    return value


_NAMED_BY_KEY = "is written as kafka.{}"

OWNED_PROPERTIES: Mapping[str, str] = MappingProxyType(
    {
        "allow.auto.create.topics": "is k2i's own: reading must not create a topic",
        "auto.commit.enable": "is k2i's own: progress lives in the table",
        "auto.offset.reset": "is k2i's own: offsets that are gone must stop the pipeline; "
        "where it begins is written as kafka.start",
        "bootstrap.servers": _NAMED_BY_KEY.format("bootstrap_servers"),
        "enable.auto.commit": "is k2i's own: progress lives in the table",
        "enable.auto.offset.store": "is k2i's own: progress lives in the table",
        "enable.partition.eof": "is k2i's own: positions pass aborted records by it",
        "group.id": _NAMED_BY_KEY.format("group_id"),
        "isolation.level": "is k2i's own: aborted records must not become rows",
        "log.queue": "is k2i's own: log lines go to the program's own log",
        "metadata.broker.list": _NAMED_BY_KEY.format("bootstrap_servers"),
    }
)
"""librdkafka property → why it cannot be set."""


def _check_property(name: str, _: str) -> None:
    if name in OWNED_PROPERTIES:
        raise ValueError(OWNED_PROPERTIES[name])


_START_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": ["earliest", "latest"]},
        {
            "type": "object",
            "properties": {"timestamp": {"type": "string"}},
            "required": ["timestamp"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "offsets": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "additionalProperties": {"type": "integer", "minimum": 0},
                    },
                }
            },
            "required": ["offsets"],
            "additionalProperties": False,
        },
    ]
}


class Kafka(Section):
    """Where records come from."""

    bootstrap_servers: Annotated[str, AfterValidator(_check_servers)] = Field(
        description="Brokers to reach the cluster by: host:port, several with commas between.",
        examples=["localhost:9092"],
    )
    topics: tuple[Annotated[str, AfterValidator(parse_topic)], ...] = Field(
        default=(),
        description="Topics to read. Exactly one of topics and topic_pattern must be written.",
        examples=[["orders"]],
    )
    topic_pattern: Annotated[str, AfterValidator(_check_pattern)] | None = Field(
        default=None,
        description="Regular expression; every topic whose name it matches is read, new ones too.",
        examples=["^orders\\."],
    )
    start: Annotated[
        StartPolicy,
        BeforeValidator(parse_start),
        PlainSerializer(start_text),
        WithJsonSchema(_START_SCHEMA),
    ] = Field(
        default=StartEarliest(),
        description="Where a Kafka partition begins that the table has no checkpoint for: "
        f"{_START_FORMS}. Kafka partitions without an offset here begin at their log start.",
        examples=["earliest", {"timestamp": "2026-01-01T00:00:00Z"}],
    )
    group_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=249,
        description="Consumer group that shows the committed offsets to lag tools; the group is "
        "never joined and never read. Default: k2i- and the pipeline's name.",
        examples=["k2i-orders"],
    )
    properties: Annotated[FreeMapping, Scalars(_check_property)] = Field(
        default_factory=FreeMapping,
        description="Any librdkafka setting by its own name, except those that k2i owns: "
        f"{', '.join(OWNED_PROPERTIES)}.",
        examples=[{"security.protocol": "SASL_SSL", "sasl.password": "${KAFKA_PASSWORD}"}],
    )
