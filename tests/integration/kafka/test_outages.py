"""A broker that goes away and comes back.

Goal: an outage costs time and nothing else, and is visible while it lasts; nothing waits forever.
Method: a broker of our own, stopped, killed and frozen under a source that keeps polling.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from k2i_core.dev.kafka_jars import KafkaRuntime
from k2i_core.dev.kafka_server import KafkaServer, Listener
from k2i_core.dev.ports import ReservedPort, reserve_port
from k2i_core.dev.produce import create_topic
from k2i_core.errors import UnavailableError
from k2i_core.kafka.source import KafkaSource
from k2i_core.offsets import TopicPartition
from tests.integration.kafka.source_driver import (
    Taken,
    opened,
    opened_both_ways,
    poll_for,
    poll_until,
    produce,
    read_to_end,
)
from tests.services.faults import FaultProxy

ZERO, ONE = TopicPartition("orders", 0), TopicPartition("orders", 1)

CLOSE_SECONDS_MAX = 15.0
"""It takes two or three; on a busy machine more, and minutes if it waits for the broker."""


@pytest.fixture(scope="module")
def proxied_port() -> Iterator[ReservedPort]:
    port = reserve_port()
    yield port
    port.release()


@pytest.fixture(scope="module")
def proxy(proxied_port: ReservedPort) -> Iterator[FaultProxy]:
    with FaultProxy(proxied_port.number) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def broker(
    tmp_path_factory: pytest.TempPathFactory,
    kafka_runtime: KafkaRuntime,
    proxied_port: ReservedPort,
    proxy: FaultProxy,
) -> Iterator[KafkaServer]:
    listener = Listener("PROXY", proxied_port.number, advertised_port=proxy.port)
    home = tmp_path_factory.mktemp("outages")
    with KafkaServer(home, runtime=kafka_runtime, listeners=[listener]) as server:
        yield server


@pytest.fixture
def own_kafka(broker: KafkaServer) -> KafkaServer:
    """The broker of these tests, at work again, and without the topic of the test before."""
    if broker.pid is None:
        broker.start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    if "orders" in admin.list_topics(timeout=10).topics:
        admin.delete_topics(["orders"])["orders"].result(10)
    return broker


@dataclass
class Reader:
    """A source and what was polled from it."""

    source: KafkaSource
    taken: Taken = field(default_factory=Taken)

    def poll_for(self, seconds: float) -> None:
        poll_for(self.source, self.taken, seconds)

    def poll_until(self, is_done: Callable[[], bool], what: str = "the records") -> None:
        poll_until(self.source, self.taken, is_done, what)


@contextmanager
def started(server: KafkaServer, *, call_timeout_seconds: float = 10.0) -> Iterator[list[Reader]]:
    """Readers, one for each way of polling, that have read all records of a new topic."""
    servers = server.bootstrap_servers
    create_topic(servers, "orders", 2)
    for partition in (0, 1):
        values: list[bytes | None] = [b"%d" % n for n in range(1_000)]
        produce(servers, "orders", values, partition=partition)
    opened = opened_both_ways(servers, "orders", call_timeout_seconds=call_timeout_seconds)
    with opened as sources:
        readers = [Reader(source) for source in sources]
        for reader in readers:
            reader.source.assign({ZERO: 0, ONE: 0})
            reader.poll_until(lambda taken=reader.taken: taken.record_count == 2_000)
        yield readers


def finish(readers: list[Reader], server: KafkaServer) -> None:
    for reader in readers:
        source = reader.source
        reader.poll_until(lambda source=source: source.health().reachable, "a sign of life")
    for partition in (0, 1):
        values: list[bytes | None] = [b"%d" % n for n in range(1_000, 1_500)]
        produce(server.bootstrap_servers, "orders", values, partition=partition)
    for reader in readers:
        reader.poll_until(lambda taken=reader.taken: taken.record_count >= 3_000)
        reader.poll_for(1)
        for partition in (ZERO, ONE):
            assert reader.taken.offsets(partition) == list(range(1_500))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_reading_resumes_after_a_restart_without_loss_or_repetition(
    own_kafka: KafkaServer, how: str
) -> None:
    with started(own_kafka) as readers:
        before = [reader.source.health() for reader in readers]
        getattr(own_kafka, how)()
        for reader in readers:
            reader.poll_for(5)
        during = [reader.source.health() for reader in readers]
        own_kafka.start()
        finish(readers, own_kafka)
        after = [reader.source.health() for reader in readers]

    assert all(health.reachable for health in before)
    assert not any(health.reachable for health in during)
    assert all(health.last_error is not None for health in during)
    assert all(health.reachable for health in after)
    assert all(health.last_error is None for health in after)


def test_an_idle_source_notices_a_frozen_broker_and_its_return(own_kafka: KafkaServer) -> None:
    with started(own_kafka, call_timeout_seconds=2) as readers:
        own_kafka.suspend()
        try:
            for reader in readers:
                with pytest.raises(UnavailableError):
                    reader.source.topic_ids()
                assert not reader.source.health().reachable
                reader.poll_for(2)
        finally:
            own_kafka.resume()
        finish(readers, own_kafka)


def test_a_producer_behind_the_proxy_delivers_once_through_every_fault(
    own_kafka: KafkaServer, proxy: FaultProxy
) -> None:
    """Not k2i's doing: it shows that the proxy does to Kafka what its methods say."""
    create_topic(own_kafka.bootstrap_servers, "orders", 1)
    assert own_kafka.bootstrap_of("PROXY") == proxy.address
    producer = Producer(
        {
            "bootstrap.servers": proxy.address,
            "enable.idempotence": True,
            "linger.ms": 0,
            "socket.timeout.ms": 1_000,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        }
    )
    faults = [proxy.reset, proxy.lose_answers, proxy.hold, proxy.refuse]
    for number in range(200):
        producer.produce("orders", b"%d" % number)
        producer.poll(0.01)
        if number % 50 == 25:
            faults.pop(0)()
        if number % 50 == 49:
            proxy.heal()
    assert producer.flush(60) == 0
    with opened(own_kafka.bootstrap_servers, "orders") as source:
        assert read_to_end(source).values == [b"%d" % number for number in range(200)]
    assert proxy.bytes_up > 0


def test_closing_is_quick_while_the_broker_is_frozen_or_dead(own_kafka: KafkaServer) -> None:
    servers = own_kafka.bootstrap_servers
    with started(own_kafka) as frozen, opened_both_ways(servers, "orders") as left_dead:
        for source in left_dead:
            source.assign({ZERO: 0, ONE: 0})
            poll_for(source, Taken(), 1)
        own_kafka.suspend()
        try:
            frozen_seconds = [seconds_to_close(reader.source) for reader in frozen]
        finally:
            own_kafka.resume()
        own_kafka.kill()
        dead_seconds = [seconds_to_close(source) for source in left_dead]

    assert max(frozen_seconds + dead_seconds) < CLOSE_SECONDS_MAX


def seconds_to_close(source: KafkaSource) -> float:
    source.mirror({ZERO: 1})
    poll_for(source, Taken(), 1)
    started = time.monotonic()
    source.close()
    return time.monotonic() - started
