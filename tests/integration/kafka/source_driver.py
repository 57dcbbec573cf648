"""Drives a `KafkaSource` against a real broker: produce, poll until something is true, compare."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import AdminClient

from k2i_core.clock import SystemClock
from k2i_core.kafka.settings import KafkaSettings, PropertyValue, StartPolicy
from k2i_core.kafka.source import KafkaSource
from k2i_core.native import NativeLibrary, find_native
from k2i_core.offsets import Checkpoint, TopicPartition
from k2i_core.records import POLLED_SCHEMA, PolledBatch

NATIVE = find_native("auto")


class _Path:
    """Which of both ways to poll `opened` takes."""

    native: NativeLibrary | None = None


_PATH = _Path()


@pytest.fixture(
    scope="module",
    autouse=True,
    params=[
        "python",
        pytest.param(
            "native", marks=pytest.mark.skipif(NATIVE.library is None, reason=NATIVE.detail)
        ),
    ],
)
def both_poll_paths(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the tests of a module that imports this with Python's polling, then with the native."""
    _PATH.native = NATIVE.library if request.param == "native" else None
    yield
    _PATH.native = None


POLL_SECONDS = 0.2
WAIT_SECONDS_MAX = 30.0


@contextmanager
def opened(
    bootstrap_servers: str,
    *topics: str,
    pattern: str | None = None,
    start: StartPolicy = "earliest",
    properties: Mapping[str, PropertyValue] | None = None,
    call_timeout_seconds: float = 10.0,
) -> Iterator[KafkaSource]:
    """A source that is closed at the end."""
    settings = KafkaSettings(
        bootstrap_servers=bootstrap_servers,
        group_id="k2i-test",
        topics=topics,
        topic_pattern=pattern,
        start=start,
        properties=properties or {},
        call_timeout_seconds=call_timeout_seconds,
    )
    source = KafkaSource(settings, SystemClock(), _PATH.native)
    try:
        yield source
    finally:
        source.close()


@contextmanager
def opened_both_ways(
    bootstrap_servers: str, *topics: str, call_timeout_seconds: float = 10.0
) -> Iterator[list[KafkaSource]]:
    """A source that polls in Python and, where there is a native part, one that polls with it.

    For tests of what befalls a broker, because it takes long enough once.
    """
    with ExitStack() as stack:
        sources: list[KafkaSource] = []
        for _PATH.native in dict.fromkeys((None, NATIVE.library)):
            source = opened(bootstrap_servers, *topics, call_timeout_seconds=call_timeout_seconds)
            sources.append(stack.enter_context(source))
        _PATH.native = None
        yield sources


@dataclass
class Taken:
    """Everything polled so far; taking checks that ranges fit and hold their records."""

    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    batches: list[pa.RecordBatch] = field(default_factory=list)
    record_count: int = 0

    def take(self, batch: PolledBatch) -> None:
        self.checkpoint = self.checkpoint.advance(batch.ranges)
        ranges = {r.topic_partition: r for r in batch.ranges}
        assert batch.records.schema == POLLED_SCHEMA
        batch.records.validate(full=True)
        found = pa.table(batch.records).group_by(["topic", "partition"])
        for row in found.aggregate([("offset", "min"), ("offset", "max")]).to_pylist():
            offsets = ranges[TopicPartition(row["topic"], row["partition"])]
            assert offsets.start_offset <= row["offset_min"]
            assert row["offset_max"] < offsets.next_offset
        self.batches.append(batch.records)
        self.record_count += batch.records.num_rows

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        return self.checkpoint.next_offsets

    @property
    def table(self) -> pa.Table:
        return pa.Table.from_batches(self.batches, POLLED_SCHEMA)

    @property
    def rows(self) -> list[dict]:
        return self.table.to_pylist()

    @property
    def values(self) -> list[bytes | None]:
        return self.table.column("value").to_pylist()

    def offsets(self, topic_partition: TopicPartition) -> list[int]:
        """In the order in which they were polled."""
        table = self.table
        is_wanted = pc.and_(
            pc.equal(table.column("topic"), topic_partition.topic),
            pc.equal(table.column("partition"), topic_partition.kafka_partition),
        )
        return table.filter(is_wanted).column("offset").to_pylist()


def poll_until(
    source: KafkaSource, taken: Taken, is_done: Callable[[], bool], what: str = "the records"
) -> Taken:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not is_done():
        assert time.monotonic() < deadline, f"{what} did not come: positions={taken.positions}"
        batch = source.poll(POLL_SECONDS)
        if batch is not None:
            taken.take(batch)
    return taken


def poll_for(source: KafkaSource, taken: Taken, seconds: float) -> Taken:
    """Poll for some time, for showing that nothing comes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        batch = source.poll(POLL_SECONDS)
        if batch is not None:
            taken.take(batch)
    return taken


def read_to_end(source: KafkaSource) -> Taken:
    """Assign every partition at its start and read to the high watermarks of this moment."""
    partitions = source.partitions()
    ends = {tp: marks.high for tp, marks in source.watermarks(partitions).items()}
    starts = source.start_offsets(partitions)
    source.assign(starts)
    return poll_until(
        source,
        taken := Taken(),
        lambda: all(taken.positions.get(tp, starts[tp]) >= end for tp, end in ends.items()),
    )


def produce(
    bootstrap_servers: str,
    topic: str,
    values: Sequence[bytes | None],
    *,
    partition: int = 0,
    settings: Mapping[str, object] | None = None,
    **fields: object,
) -> None:
    """Send values in order and wait until all are acknowledged."""
    producer = Producer(
        {"log_level": 0, **(settings or {}), "bootstrap.servers": bootstrap_servers}
    )
    for value in values:
        producer.produce(topic, value, partition=partition, **fields)
        producer.poll(0)
    assert producer.flush(20) == 0


def transactional(bootstrap_servers: str, transactional_id: str) -> Producer:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "transactional.id": transactional_id,
            "log_level": 0,
        }
    )
    producer.init_transactions(20)
    return producer


def admin_of(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})


def delete_records(bootstrap_servers: str, topic: str, before_offset: int) -> None:
    admin = admin_of(bootstrap_servers)
    wanted = KafkaTopicPartition(topic, 0, before_offset)
    for future in admin.delete_records([wanted]).values():
        future.result(10)


def delete_topic(bootstrap_servers: str, topic: str) -> None:
    admin = admin_of(bootstrap_servers)
    admin.delete_topics([topic])[topic].result(10)
