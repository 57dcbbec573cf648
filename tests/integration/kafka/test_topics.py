"""Questions to a real cluster.

Goal: identity, partitions, watermarks and starts are what the broker says, and each wrong setting
is one clear message.
Method: make topics, change them behind the source's back, ask again.
"""

import time
import uuid

import pytest
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import NewPartitions

from k2i_core.dev.produce import create_topic
from k2i_core.errors import ConfigError, ErrorKind, K2iError, UnavailableError
from k2i_core.kafka.settings import OffsetsStart, TimestampStart
from k2i_core.offsets import TopicPartition, Watermarks
from tests.conftest import Broker, TopicFactory
from tests.integration.kafka.source_driver import (
    Taken,
    admin_of,
    delete_records,
    delete_topic,
    opened,
    poll_for,
    poll_until,
    produce,
    transactional,
)


def test_ids_are_printed_as_kafkas_own_tools_do(kafka: Broker, topic: TopicFactory) -> None:
    names = [topic(1) for _ in range(6)]

    with opened(kafka.bootstrap_servers, *names) as source:
        ids = source.topic_ids()
        cluster_id = source.cluster_id()

    assert set(ids) == set(names)
    assert len(set(ids.values())) == 6
    assert all(len(i) == 22 and not set(i) & set("+/=") for i in ids.values())
    assert len(cluster_id) == 22


def test_a_recreated_topic_has_another_id(kafka: Broker, topic: TopicFactory) -> None:
    name = topic(1)
    with opened(kafka.bootstrap_servers, name) as source:
        before = source.topic_ids()[name]
        delete_topic(kafka.bootstrap_servers, name)
        create_topic(kafka.bootstrap_servers, name, 1)

        assert source.topic_ids()[name] != before


def test_a_topic_deleted_while_it_is_read_ends_the_poll(kafka: Broker, topic: TopicFactory) -> None:
    name = topic(1)
    produce(kafka.bootstrap_servers, name, [b"x"])
    # The library waits this long before it believes that a topic is gone; half a minute otherwise.
    properties = {"topic.metadata.propagation.max.ms": 500}
    with opened(kafka.bootstrap_servers, name, properties=properties) as source:
        source.assign({TopicPartition(name, 0): 0})
        poll_until(source, taken := Taken(), lambda: taken.record_count == 1)
        delete_topic(kafka.bootstrap_servers, name)

        with pytest.raises(ConfigError) as caught:
            poll_for(source, taken, 25)

    assert caught.value.kind is ErrorKind.TOPIC_MISSING
    assert name in str(caught.value)


def test_a_topic_that_does_not_exist_is_named(kafka: Broker, topic: TopicFactory) -> None:
    with opened(kafka.bootstrap_servers, topic(1), "no-such-topic") as source:
        with pytest.raises(ConfigError, match="no-such-topic") as caught:
            source.topic_ids()

        assert caught.value.kind is ErrorKind.TOPIC_MISSING


def test_asking_for_a_missing_topic_does_not_create_it(kafka: Broker) -> None:
    name = f"missing-{uuid.uuid4().hex}"
    with opened(kafka.bootstrap_servers, name) as source, pytest.raises(ConfigError):
        source.partitions()

    assert name not in admin_of(kafka.bootstrap_servers).list_topics(timeout=10).topics


def test_new_partitions_and_topics_are_seen(kafka: Broker, topic: TopicFactory) -> None:
    name = topic(2)
    with opened(kafka.bootstrap_servers, name) as source:
        before = source.partitions()
        admin = admin_of(kafka.bootstrap_servers)
        admin.create_partitions([NewPartitions(name, 4)])[name].result(10)
        deadline = time.monotonic() + 10
        while len(source.partitions()) != 4:
            assert time.monotonic() < deadline

    assert before == {TopicPartition(name, 0), TopicPartition(name, 1)}


def test_a_pattern_finds_its_topics_and_no_internal_one(kafka: Broker, topic: TopicFactory) -> None:
    wanted, other = topic(2), topic(1)
    transactional(kafka.bootstrap_servers, wanted)  # makes __transaction_state exist

    with opened(kafka.bootstrap_servers, pattern=f"^{wanted}$|^__") as source:
        assert set(source.topic_ids()) == {wanted}
        assert {tp.topic for tp in source.partitions()} == {wanted}
    with opened(kafka.bootstrap_servers, pattern=wanted[-8:]) as source:
        assert wanted in source.topic_ids()
        assert other not in source.topic_ids()


def test_a_pattern_without_a_topic_is_named(kafka: Broker) -> None:
    with opened(kafka.bootstrap_servers, pattern="^nothing-like-it$") as source:
        with pytest.raises(ConfigError, match="nothing-like-it") as caught:
            source.partitions()

        assert caught.value.kind is ErrorKind.TOPIC_MISSING


def test_each_start_policy_finds_its_offset(kafka: Broker, topic: TopicFactory) -> None:
    name = topic(2, {"retention.ms": "-1"})
    servers = kafka.bootstrap_servers
    zero, one = TopicPartition(name, 0), TopicPartition(name, 1)
    for n in range(10):
        produce(servers, name, [b"x"], timestamp=1_000 * (n + 1))
    produce(servers, name, [b"y"], partition=1, timestamp=3_000)
    delete_records(servers, name, 2)

    def starts(policy: object) -> dict[TopicPartition, int]:
        with opened(servers, name, start=policy) as source:
            return dict(source.start_offsets([zero, one]))

    assert starts("earliest") == {zero: 2, one: 0}
    assert starts("latest") == {zero: 10, one: 1}
    assert starts(TimestampStart(5_000)) == {zero: 4, one: 1}
    assert starts(TimestampStart(5_001)) == {zero: 5, one: 1}
    assert starts(TimestampStart(1_000)) == {zero: 2, one: 0}
    assert starts(OffsetsStart({zero: 7})) == {zero: 7, one: 0}
    assert starts(OffsetsStart({zero: 10, one: 0})) == {zero: 10, one: 0}


@pytest.mark.parametrize("offset", [1, 11])
def test_a_start_offset_outside_the_log_names_what_is_allowed(
    kafka: Broker, topic: TopicFactory, offset: int
) -> None:
    name = topic(1)
    produce(kafka.bootstrap_servers, name, [b"x"] * 10)
    delete_records(kafka.bootstrap_servers, name, 2)
    start = OffsetsStart({TopicPartition(name, 0): offset})

    with (
        opened(kafka.bootstrap_servers, name, start=start) as source,
        pytest.raises(ConfigError, match=rf"start_offset={offset} allowed=2\.\.10"),
    ):
        source.start_offsets([TopicPartition(name, 0)])


def test_partitions_added_later_start_at_the_log_start_whatever_the_policy(
    kafka: Broker, topic: TopicFactory
) -> None:
    name = topic(1)
    partition = TopicPartition(name, 0)
    produce(kafka.bootstrap_servers, name, [b"x"] * 3)

    with opened(kafka.bootstrap_servers, name, start="latest") as source:
        assert source.start_offsets([partition]) == {partition: 3}
        assert source.start_offsets([partition], from_log_start=True) == {partition: 0}


def test_questions_about_no_partition_have_empty_answers(
    kafka: Broker, topic: TopicFactory
) -> None:
    with opened(kafka.bootstrap_servers, topic(1)) as source:
        assert source.watermarks([]) == {}
        assert source.start_offsets([]) == {}


def test_the_mirror_shows_in_the_group_and_a_reader_refreshes_watermarks(
    kafka: Broker, topic: TopicFactory
) -> None:
    name = topic(1)
    partition = TopicPartition(name, 0)
    produce(kafka.bootstrap_servers, name, [b"x"] * 5)
    with opened(kafka.bootstrap_servers, name) as source:
        source.mirror({})
        source.mirror({partition: 3})
        source.assign({partition: 0})
        taken = poll_until(source, read := Taken(), lambda: read.record_count == 5)
        poll_for(source, taken, 1.5)
        cached = source.cached_watermarks()

        assert cached == {partition: Watermarks(0, 5)}
        assert committed_offset(kafka.bootstrap_servers, name) == 3
    assert source.cached_watermarks() == {}


def committed_offset(bootstrap_servers: str, name: str) -> int:
    from confluent_kafka import Consumer  # noqa: PLC0415 - only this test looks at a group

    reader = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "k2i-test"})
    try:
        return reader.committed([KafkaTopicPartition(name, 0)], timeout=10)[0].offset
    finally:
        reader.close()


def test_a_broker_that_is_not_there_is_unavailable_in_time() -> None:
    with opened("127.0.0.1:1", "orders", call_timeout_seconds=1.0) as source:
        for question in (source.topic_ids, source.cluster_id):
            started = time.monotonic()
            with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1 "):
                question()
            assert time.monotonic() - started < 8
        assert not source.health().reachable
        source.mirror({TopicPartition("orders", 0): 1})


def test_a_pattern_on_a_broker_that_is_not_there_is_unavailable_in_time() -> None:
    with (
        opened("127.0.0.1:1", pattern="orders", call_timeout_seconds=1.0) as source,
        pytest.raises(UnavailableError),
    ):
        source.partitions()


@pytest.mark.parametrize(
    "properties",
    [{"no.such.property": "x"}, {"fetch.min.bytes": "many"}, {"security.protocol": "hunter2"}],
)
def test_a_property_that_librdkafka_does_not_know_is_named(properties: dict[str, str]) -> None:
    with (
        pytest.raises(ConfigError, match=next(iter(properties))),
        opened("127.0.0.1:1", "orders", properties=properties),
    ):
        pass


def test_a_pattern_that_is_no_pattern_is_named() -> None:
    with pytest.raises(K2iError, match=r"topic_pattern=\("), opened("127.0.0.1:1", pattern="("):
        pass
