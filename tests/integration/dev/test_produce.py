"""Events reach the topic once each, in order, and go on where the topic ends.

Goal: what a report claims is in the topic, byte for byte. Method: produce to a real broker, read
everything back, compare with the generator.
"""

import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from k2i_core.dev import produce
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.orders import FLAT, ORDERS, WIDE, EventSet, read_event_id
from k2i_core.dev.produce import EventProducer, create_topic, fill, next_event_id
from k2i_core.errors import ConfigError, UnavailableError
from tests.conftest import Broker, TopicFactory


def _read(bootstrap_servers: str, topic: str, count: int) -> Iterator[Message]:
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "test"})
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, one, 0) for one in partitions])
    try:
        for _ in range(count):
            message = consumer.poll(10)
            assert message is not None
            assert message.error() is None
            yield message
        assert consumer.poll(0.3) is None
    finally:
        consumer.close()


@pytest.mark.parametrize("event_set", [ORDERS, FLAT, WIDE], ids=lambda one: one.name)
def test_a_filled_topic_holds_exactly_the_generated_events(
    kafka: Broker, topic: TopicFactory, event_set: EventSet
) -> None:
    name = topic(4)
    report = fill(
        kafka.bootstrap_servers,
        name,
        20_000,
        event_set=event_set,
        start_id=500,
        seed=3,
        bad_share=0.01,
    )
    assert (report.start_id, report.next_id, report.count) == (500, 20_500, 20_000)
    expected = event_set.make(500, 20_000, seed=3, bad_share=0.01)
    assert report.bad == expected.bad
    messages = list(_read(kafka.bootstrap_servers, name, 20_000))
    messages.sort(key=lambda message: read_event_id(message.value() or b"") or 0)
    assert [message.value() for message in messages] == list(expected.values)
    assert [message.key() for message in messages] == list(expected.keys)
    assert {message.partition() for message in messages} == {0, 1, 2, 3}


def test_ids_ascend_within_a_kafka_partition(kafka: Broker, topic: TopicFactory) -> None:
    name = topic(3)
    fill(kafka.bootstrap_servers, name, 20_000)
    last: dict[int | None, int] = {}
    for message in _read(kafka.bootstrap_servers, name, 20_000):
        event_id = read_event_id(message.value() or b"")
        assert event_id is not None
        assert event_id > last.get(message.partition(), -1)
        last[message.partition()] = event_id


def test_ids_go_on_where_the_topic_ends(kafka: Broker, topic: TopicFactory) -> None:
    name = topic(4)
    assert next_event_id(kafka.bootstrap_servers, name) == 0
    # Few enough that some partition may stay empty, bad ones at the end included.
    fill(kafka.bootstrap_servers, name, 3, start_id=7_000, bad_share=1.0)
    assert next_event_id(kafka.bootstrap_servers, name) == 7_003
    fill(kafka.bootstrap_servers, name, 100, start_id=7_003)
    assert next_event_id(kafka.bootstrap_servers, name) == 7_103


def test_a_run_keeps_its_rate_and_stops_when_asked(kafka: Broker, topic: TopicFactory) -> None:
    producer = EventProducer(kafka.bootstrap_servers, topic(2))
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    report = producer.run(rate=2_000, stop=stop)
    assert 1_000 <= report.count <= 2_600
    assert producer.run(rate=2_000, count=100).start_id == report.next_id


def test_records_carry_headers_when_asked(kafka: Broker, topic: TopicFactory) -> None:
    name = topic()
    fill(kafka.bootstrap_servers, name, 2, has_headers=True)
    for message in _read(kafka.bootstrap_servers, name, 2):
        assert dict(message.headers() or []) == {
            "source": b"k2i-dev",
            "content-type": b"application/json",
        }


def test_an_existing_topic_is_left_as_it_is(kafka: Broker, topic: TopicFactory) -> None:
    name = topic(3)
    assert not create_topic(kafka.bootstrap_servers, name, 7)
    fill(kafka.bootstrap_servers, name, 1, partition_count=7)
    messages = list(_read(kafka.bootstrap_servers, name, 1))
    assert messages[0].partition() in {0, 1, 2}


def test_a_topic_that_kafka_refuses_is_a_wrong_setting(kafka: Broker) -> None:
    with pytest.raises(ConfigError, match="topic=not a name"):
        create_topic(kafka.bootstrap_servers, "not a name", 1)
    with pytest.raises(ConfigError, match="topic=x-refused"):
        create_topic(kafka.bootstrap_servers, "x-refused", 1, settings={"retention.ms": "soon"})


def test_a_broker_that_is_killed_under_way_loses_and_doubles_nothing(
    own_kafka: KafkaServer,
) -> None:
    create_topic(own_kafka.bootstrap_servers, "t", 4)
    producer = EventProducer(own_kafka.bootstrap_servers, "t")
    killer = threading.Timer(0.7, lambda: (own_kafka.kill(), own_kafka.start()))
    killer.start()
    report = producer.run(rate=5_000, count=15_000)
    killer.join()
    assert report.count == 15_000
    ids = sorted(
        read_event_id(message.value() or b"") or 0
        for message in _read(own_kafka.bootstrap_servers, "t", 15_000)
    )
    assert ids == list(range(15_000))


def test_a_broker_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(produce, "_ANSWER_SECONDS", 0.5)
    with pytest.raises(UnavailableError, match=r"kafka=127\.0\.0\.1:1"):
        next_event_id("127.0.0.1:1", "t")
