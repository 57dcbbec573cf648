"""Dead letters also go to a Kafka topic, for consumers that live there.

Goal: every dead letter of the table is in the topic with its bytes and its reason, also when the
worker dies between the commit and the copy; and a broker that refuses copies costs neither a letter
nor a row.
Method: a real broker, a worker in this process, read back by a plain consumer. The worker dies by
an exception that nothing catches, at the moment of the copy.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message
from structlog.testing import capture_logs

from k2i_core.errors import ConfigError
from k2i_core.kafka.letter_topic import LetterTopic
from k2i_core.wiring.connections import check_connections
from tests.conftest import Broker, TopicFactory
from tests.e2e.pipelines import PipelineOnDisk, write_pipeline
from tests.integration.kafka.source_driver import produce

BAD = [b"not json", b'{"id": "x"}', b"\xff"]
COLUMNS = [{"name": "id", "type": "long", "required": True}]


def pipeline_of(
    directory: Path, kafka: Broker, topic: str, letters: str, **more: Any
) -> PipelineOnDisk:
    return write_pipeline(
        directory,
        kafka.bootstrap_servers,
        topic,
        changes={
            "table": {"identifier": f"e2e.{directory.name}", "columns": COLUMNS},
            "dead_letters": {"topic": letters, "max_share": "off", **more},
        },
    )


def letters_in(kafka: Broker, topic: str, count: int) -> list[Message]:
    """Read at least `count` records, and what follows them at once."""
    settings = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": topic, "log_level": 0}
    consumer = Consumer(settings | {"auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    try:
        found = consumer.consume(count, 30)
        assert len(found) == count
        return found + consumer.consume(100, 1)
    finally:
        consumer.close()


def headers_of(message: Message) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in message.headers() or []}


def test_every_dead_letter_is_copied_with_its_reason_also_over_a_crash(
    tmp_path: Path, kafka: Broker, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, letters = topic(), topic()
    pipeline = pipeline_of(tmp_path / "copied", kafka, source, letters)
    produce(kafka.bootstrap_servers, source, [BAD[0], b'{"id": 1}', BAD[1]], key=b"k")

    class DiedError(BaseException):
        pass

    def die(*_: object) -> None:
        raise DiedError

    with monkeypatch.context() as patched:
        patched.setattr(LetterTopic, "copy", die)
        with pytest.raises(DiedError):
            pipeline.ingest_here()
    assert pipeline.dead_letters().num_rows == 2
    pipeline.ingest_here()
    produce(kafka.bootstrap_servers, source, [BAD[2], b'{"id": 2}'])
    pipeline.ingest_here()

    found = letters_in(kafka, letters, 3)
    assert sorted(message.value() or b"" for message in found) == sorted(BAD)
    table = {row["_kafka"]["offset"]: row for row in pipeline.dead_letters().to_pylist()}
    for message in found:
        headers = headers_of(message)
        row = table[int(headers["k2i.offset"])]
        assert message.value() == row["value"]
        assert headers == {
            "k2i.pipeline": "e2e",
            "k2i.table": "e2e.copied",
            "k2i.topic": source,
            "k2i.partition": "0",
            "k2i.offset": str(row["_kafka"]["offset"]),
            **{
                f"k2i.{name}": row[name]
                for name in ("stage", "error_class", "fingerprint", "message")
            },
        }
    assert Counter(message.key() for message in found) == {b"k": 2, None: 1}
    pipeline.assert_holds_here()
    [asked] = [c for c in check_connections(pipeline.settings) if c.name == "dead-letter topic"]
    assert asked.detail == f"{letters}: 1 Kafka partitions"


def test_a_topic_that_is_not_there_costs_neither_a_letter_nor_a_row(
    tmp_path: Path, kafka: Broker, topic: TopicFactory
) -> None:
    source = topic()
    gone = f"{source}-gone"
    pipeline = pipeline_of(tmp_path / "gone", kafka, source, gone, copy_for="300ms")
    produce(kafka.bootstrap_servers, source, [BAD[0], b'{"id": 1}', BAD[1], b"x" * 9])
    with capture_logs() as lines:
        pipeline.ingest_here()
    assert pipeline.rows().num_rows == 1
    assert pipeline.dead_letters().num_rows == 3
    assert any("dead letters were not copied to their topic" in line["event"] for line in lines)
    [asked] = [c for c in check_connections(pipeline.settings) if c.name == "dead-letter topic"]
    assert isinstance(asked.error, ConfigError)
    pipeline.assert_holds_here()
