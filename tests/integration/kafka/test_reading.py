"""What a real broker holds is what polls return.

Goal: every kind of record survives the way into columns; offsets that never hold a record are
passed and not waited for; nothing that is not committed is seen.
Method: write with librdkafka's producer, read with the source, compare. Every poll also checks that
ranges are contiguous and hold their records.
"""

import ctypes
import time
from datetime import UTC, datetime
from pathlib import Path

import confluent_kafka
import pytest

from k2i_core.errors import DataLossError
from k2i_core.offsets import TopicPartition
from tests.conftest import Broker, TopicFactory
from tests.integration.kafka.source_driver import (
    Taken,
    both_poll_paths,  # noqa: F401 - runs by itself
    delete_records,
    opened,
    poll_for,
    poll_until,
    produce,
    read_to_end,
    transactional,
)

MEBIBYTE = 1024 * 1024

_LIBRARIES = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
BUNDLED_LIBRDKAFKA = next(_LIBRARIES.glob("librdkafka*"), None)


def test_every_kind_of_record_survives(kafka: Broker, topic: TopicFactory) -> None:
    name = topic(1, {"retention.ms": "-1"})
    headers = [("a", b"1"), ("a", None), ("ü", b"")]
    produce(kafka.bootstrap_servers, name, [b'{"a":1}'], key=b"k", headers=headers, timestamp=1_500)
    produce(kafka.bootstrap_servers, name, [None], key=b"k")
    produce(kafka.bootstrap_servers, name, [b""], key=b"")
    produce(kafka.bootstrap_servers, name, [b"\xff\x00"])

    with opened(kafka.bootstrap_servers, name) as source:
        rows = read_to_end(source).rows

    assert [row["value"] for row in rows] == [b'{"a":1}', None, b"", b"\xff\x00"]
    assert [row["key"] for row in rows] == [b"k", b"k", b"", None]
    assert [(h["key"], h["value"]) for h in rows[0]["headers"]] == headers
    assert [row["headers"] for row in rows[1:]] == [None] * 3
    assert rows[0]["timestamp"] == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)
    assert [row["offset"] for row in rows] == [0, 1, 2, 3]


@pytest.mark.skipif(BUNDLED_LIBRDKAFKA is None, reason="no librdkafka of its own in this wheel")
def test_a_header_key_that_is_no_text_costs_its_headers_and_nothing_else(
    kafka: Broker, topic: TopicFactory
) -> None:
    name = topic(1)
    produce(kafka.bootstrap_servers, name, [b"before"], headers=[("a", b"1")])
    produce_with_header_key(kafka.bootstrap_servers, name, b"bad", b"\xff\xfe")
    produce_with_header_key(kafka.bootstrap_servers, name, b"good", b"b")
    produce_with_header_key(kafka.bootstrap_servers, name, b"bad", b"c\xff")
    produce(kafka.bootstrap_servers, name, [b"after"], headers=[("d", b"1")])

    with opened(kafka.bootstrap_servers, name) as source:
        rows = read_to_end(source).rows

    assert [row["value"] for row in rows] == [b"before", b"bad", b"good", b"bad", b"after"]
    keys = [row["headers"] and [header["key"] for header in row["headers"]] for row in rows]
    assert keys == [["a"], None, ["b"], None, ["d"]]


def produce_with_header_key(servers: str, name: str, value: bytes, header_key: bytes) -> None:
    """Produce through librdkafka itself, which takes bytes that its Python face refuses."""
    library = ctypes.CDLL(str(BUNDLED_LIBRDKAFKA))
    for function in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, function).restype = ctypes.c_void_p
    reason = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(conf, b"bootstrap.servers", servers.encode(), reason, 512)
    producer = ctypes.c_void_p(library.rd_kafka_new(0, conf, reason, 512))
    headers = ctypes.c_void_p(library.rd_kafka_headers_new(1))
    size = ctypes.c_ssize_t(len(header_key))
    library.rd_kafka_header_add(headers, header_key, size, b"v", ctypes.c_ssize_t(1))
    # Tagged arguments: 1 topic, 3 partition, 4 value and size, 10 headers, 0 end.
    fields = (1, name.encode(), 3, ctypes.c_int32(0), 4, value, ctypes.c_size_t(len(value)))
    assert library.rd_kafka_producev(producer, *fields, 10, headers, 0) == 0
    assert library.rd_kafka_flush(producer, 20_000) == 0
    library.rd_kafka_destroy(producer)


def test_a_large_backlog_is_read_exactly_once_in_bounded_polls(
    kafka: Broker, topic: TopicFactory
) -> None:
    name = topic(4)
    for partition in range(4):
        values: list[bytes | None] = [b"%d-%d" % (partition, n) + b"x" * 200 for n in range(50_000)]
        produce(
            kafka.bootstrap_servers,
            name,
            values,
            partition=partition,
            settings={"linger.ms": 20, "queue.buffering.max.messages": 100_000},
        )

    with opened(kafka.bootstrap_servers, name) as source:
        taken = read_to_end(source)

    assert taken.record_count == 200_000
    assert max(batch.num_rows for batch in taken.batches) <= 40_000
    found = sorted(taken.values, key=lambda v: tuple(map(int, v.rstrip(b"x").split(b"-"))))
    assert len(set(found)) == 200_000
    for partition in range(4):
        offsets = taken.offsets(TopicPartition(name, partition))
        assert offsets == list(range(50_000))


def test_several_topics_are_read_as_one_stream(kafka: Broker, topic: TopicFactory) -> None:
    names = [topic(2), topic(1)]
    produce(kafka.bootstrap_servers, names[0], [b"a", b"b"], partition=1)
    produce(kafka.bootstrap_servers, names[1], [b"c"])

    with opened(kafka.bootstrap_servers, *names) as source:
        taken = read_to_end(source)

    assert sorted((row["topic"], row["value"]) for row in taken.rows) == sorted(
        [(names[0], b"a"), (names[0], b"b"), (names[1], b"c")]
    )


def test_aborted_records_are_invisible_and_passed_at_the_end_of_the_log(
    kafka: Broker, topic: TopicFactory
) -> None:
    name = topic(1)
    producer = transactional(kafka.bootstrap_servers, name)
    for value, is_kept in ((b"kept", True), (b"gone", False)):
        producer.begin_transaction()
        for _ in range(3):
            producer.produce(name, value)
        if is_kept:
            producer.commit_transaction(20)
        else:
            producer.flush(20)
            producer.abort_transaction(20)

    with opened(kafka.bootstrap_servers, name) as source:
        taken = read_to_end(source)

    # Three records and a commit marker, three aborted ones and an abort marker.
    assert taken.positions[TopicPartition(name, 0)] == 8
    assert taken.values == [b"kept"] * 3


def test_nothing_behind_an_open_transaction_is_seen_until_it_ends(
    kafka: Broker, topic: TopicFactory
) -> None:
    name = topic(1)
    partition = TopicPartition(name, 0)
    produce(kafka.bootstrap_servers, name, [b"before"])
    producer = transactional(kafka.bootstrap_servers, name)
    producer.begin_transaction()
    producer.produce(name, b"open")
    producer.flush(20)
    produce(kafka.bootstrap_servers, name, [b"after"])

    with opened(kafka.bootstrap_servers, name) as source:
        marks = source.watermarks([partition])[partition]
        taken = read_to_end(source)
        poll_for(source, taken, 0.6)
        during = (taken.values, taken.positions[partition])
        producer.commit_transaction(20)
        poll_until(source, taken, lambda: taken.positions[partition] == 4)

    assert marks.high == 1
    assert during == ([b"before"], 1)
    assert taken.values == [b"before", b"open", b"after"]


def test_a_compacted_topic_leaves_no_gap_in_the_ranges(kafka: Broker, topic: TopicFactory) -> None:
    servers = kafka.bootstrap_servers
    settings = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.01",
        "segment.ms": "200",
        "min.compaction.lag.ms": "0",
    }
    name = topic(1, settings)
    for n in range(10):
        produce(servers, name, [b"%d" % n], key=b"same")
        time.sleep(0.05)
    partition = TopicPartition(name, 0)
    with opened(servers, name) as source:
        # A broker as it comes compacts every fifteen seconds, the one of the tests far more often.
        for n in range(10, 200):
            time.sleep(0.3)
            produce(servers, name, [b"%d" % n], key=b"same")
            taken = read_to_end(source)
            if len(taken.rows) < taken.positions[partition] - 2:
                break

    offsets = taken.offsets(partition)
    assert len(offsets) < taken.positions[partition], "the broker did not compact"
    assert offsets == sorted(offsets)
    assert taken.values[-1] == b"%d" % n


def test_offsets_deleted_before_they_were_read_are_data_loss(
    kafka: Broker, topic: TopicFactory
) -> None:
    name = topic(1)
    partition = TopicPartition(name, 0)
    produce(kafka.bootstrap_servers, name, [b"%d" % n for n in range(100)])
    delete_records(kafka.bootstrap_servers, name, 60)

    with opened(kafka.bootstrap_servers, name) as source:
        source.assign({partition: 10})
        with pytest.raises(DataLossError) as caught:
            poll_for(source, Taken(), 10)
        source.assign({partition: 60})
        taken = poll_until(source, rest := Taken(), lambda: rest.record_count == 40)

    message = str(caught.value)
    for part in (f"topic={name}", "kafka_partition=0", "next_offset=10", "log_start=60"):
        assert part in message
    assert "k2i table accept-gap" in message
    assert taken.offsets(partition) == list(range(60, 100))


def test_a_position_beyond_the_log_is_data_loss(kafka: Broker, topic: TopicFactory) -> None:
    name = topic(1)
    produce(kafka.bootstrap_servers, name, [b"1", b"2"])

    with opened(kafka.bootstrap_servers, name) as source:
        source.assign({TopicPartition(name, 0): 500})
        with pytest.raises(DataLossError, match="truncated, or the topic recreated"):
            poll_for(source, Taken(), 10)


def test_records_of_sixteen_megabytes_come_few_at_a_time(
    kafka: Broker, topic: TopicFactory
) -> None:
    large = 16 * MEBIBYTE
    name = topic(1, {"max.message.bytes": str(large + MEBIBYTE)})
    values: list[bytes | None] = [bytes([n]) * large for n in range(4)]
    small: list[bytes | None] = [b"small"] * 1_000
    settings = {"message.max.bytes": large + MEBIBYTE, "compression.type": "none"}
    produce(kafka.bootstrap_servers, name, values, settings=settings)
    produce(kafka.bootstrap_servers, name, small)

    with opened(kafka.bootstrap_servers, name) as source:
        taken = read_to_end(source)

    assert taken.values == [*values, *small]
    assert max(batch.nbytes for batch in taken.batches) < 50 * MEBIBYTE


def test_an_empty_assignment_waits_and_returns_nothing(kafka: Broker, topic: TopicFactory) -> None:
    with opened(kafka.bootstrap_servers, topic(1)) as source:
        source.assign({})
        started = time.monotonic()

        assert source.poll(0.2) is None
        assert time.monotonic() - started >= 0.19


def test_a_few_records_are_there_at_once(kafka: Broker, topic: TopicFactory) -> None:
    name = topic(1)
    partition = TopicPartition(name, 0)
    with opened(kafka.bootstrap_servers, name) as source:
        source.assign({partition: 0})
        taken = poll_for(source, Taken(), 0.5)
        delays: list[float] = []
        for count in range(1, 11):
            produce(kafka.bootstrap_servers, name, [b"x"], settings={"linger.ms": 0})
            started = time.monotonic()
            poll_until(source, taken, lambda wanted=count: taken.record_count == wanted)
            delays.append(time.monotonic() - started)

    assert sorted(delays)[5] < 0.1
