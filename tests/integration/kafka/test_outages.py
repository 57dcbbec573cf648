"""A broker that goes away and comes back.

Goal: an outage costs time and nothing else, and is visible while it lasts; nothing waits forever.
Method: a broker of our own, stopped, killed and frozen under a source that keeps polling.
"""

import time
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient

from k2i_core.dev.kafka_jars import KafkaRuntime
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.produce import create_topic
from k2i_core.errors import UnavailableError
from k2i_core.kafka.source import KafkaSource
from k2i_core.offsets import TopicPartition
from tests.integration.kafka.source_driver import (
    Taken,
    both_poll_paths,  # noqa: F401 - runs by itself
    opened,
    poll_for,
    poll_until,
    produce,
)

ZERO, ONE = TopicPartition("orders", 0), TopicPartition("orders", 1)


@pytest.fixture(scope="module")
def broker(
    tmp_path_factory: pytest.TempPathFactory, kafka_runtime: KafkaRuntime
) -> Iterator[KafkaServer]:
    with KafkaServer(tmp_path_factory.mktemp("outages"), runtime=kafka_runtime) as server:
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


def started_reader(source: KafkaSource, server: KafkaServer) -> Taken:
    create_topic(server.bootstrap_servers, "orders", 2)
    for partition in (0, 1):
        values: list[bytes | None] = [b"%d" % n for n in range(1_000)]
        produce(server.bootstrap_servers, "orders", values, partition=partition)
    source.assign({ZERO: 0, ONE: 0})
    return poll_until(source, taken := Taken(), lambda: taken.record_count == 2_000)


def finish(source: KafkaSource, server: KafkaServer, taken: Taken) -> None:
    for partition in (0, 1):
        values: list[bytes | None] = [b"%d" % n for n in range(1_000, 1_500)]
        produce(server.bootstrap_servers, "orders", values, partition=partition)
    poll_until(source, taken, lambda: taken.record_count >= 3_000)
    poll_for(source, taken, 1)
    for partition in (ZERO, ONE):
        assert taken.offsets(partition) == list(range(1_500))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_reading_resumes_after_a_restart_without_loss_or_repetition(
    own_kafka: KafkaServer, how: str
) -> None:
    with opened(own_kafka.bootstrap_servers, "orders") as source:
        taken = started_reader(source, own_kafka)
        before = source.health()
        getattr(own_kafka, how)()
        poll_for(source, taken, 5)
        during = source.health()
        own_kafka.start()
        poll_until(source, taken, lambda: source.health().reachable, "a sign of life")
        finish(source, own_kafka, taken)
        after = source.health()

    assert before.reachable
    assert not during.reachable
    assert during.last_error is not None
    assert after.reachable
    assert after.last_error is None


def test_an_idle_source_notices_a_frozen_broker_and_its_return(own_kafka: KafkaServer) -> None:
    with opened(own_kafka.bootstrap_servers, "orders", call_timeout_seconds=2) as source:
        taken = started_reader(source, own_kafka)
        own_kafka.suspend()
        try:
            with pytest.raises(UnavailableError):
                source.topic_ids()
            during = source.health()
            poll_for(source, taken, 2)
        finally:
            own_kafka.resume()
        poll_until(source, taken, lambda: source.health().reachable, "a sign of life")
        finish(source, own_kafka, taken)

    assert not during.reachable


def test_closing_is_quick_while_the_broker_is_frozen_or_dead(own_kafka: KafkaServer) -> None:
    servers = own_kafka.bootstrap_servers
    with opened(servers, "orders") as left_frozen, opened(servers, "orders") as left_dead:
        taken = started_reader(left_frozen, own_kafka)
        left_dead.assign(taken.positions)
        poll_for(left_dead, Taken(taken.checkpoint), 1)
        own_kafka.suspend()
        try:
            frozen_seconds = seconds_to_close(left_frozen)
        finally:
            own_kafka.resume()
        own_kafka.kill()
        dead_seconds = seconds_to_close(left_dead)

    assert frozen_seconds < 4
    assert dead_seconds < 4


def seconds_to_close(source: KafkaSource) -> float:
    source.mirror({ZERO: 1})
    poll_for(source, Taken(), 1)
    started = time.monotonic()
    source.close()
    return time.monotonic() - started
