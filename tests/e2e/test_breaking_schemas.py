"""A schema that the table cannot follow pauses it, and only an operator lets it go on (I8).

Goal: what comes before the first record of such a schema is committed, nothing at or behind it is,
every face says why, a restart or a kill in the middle of the pause changes nothing, and after
`k2i table resume` no record is lost.
Method: Avro through a real registry without compatibility rules; workers in this process, commands
as a person types them, some workers as processes: to be killed, and for an exit code and its pages.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.common.schema_registry_client import (
    ConfigCompatibilityLevel,
    ServerConfig,
)
from typer.testing import CliRunner

from k2i_core.cli.main import app
from k2i_core.crash_points import CrashPoint
from k2i_core.errors import ErrorKind, IncompatibleSchemaError
from tests.conftest import Broker, Registry, TopicFactory
from tests.e2e.pipelines import PipelineOnDisk, ended, write_pipeline
from tests.property.evolving_topics import Field, Version, avro_version
from tests.services.warm_python import warm_python

ID = Field(0, ("id",), "long", "one", False)
GOOD = avro_version((ID, Field(1, ("price",), "double", "one", True)))
BROKEN = avro_version((ID, Field(1, ("price",), "string", "one", True)))
REASON = "price: the table has double, the records have string"


class Prices:
    """A topic with producers of both schemas."""

    def __init__(self, kafka: Broker, registry: Registry, topic: str) -> None:
        self.topic = topic
        self.producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
        subject = f"{topic}-value"
        with SchemaRegistryClient({"url": registry.url}) as client:
            client.set_config(subject, ServerConfig(ConfigCompatibilityLevel.NONE))
            self.ids = {
                id(version): client.register_schema(subject, Schema(version.text, "AVRO"))
                for version in (GOOD, BROKEN)
            }

    def send(self, version: Version, *records: tuple[int, Any], **headers: str) -> None:
        frame = b"\0" + self.ids[id(version)].to_bytes(4, "big")
        for number, price in records:
            value = frame + version.encode({0: number} | ({} if price is None else {1: price}))
            self.producer.produce(self.topic, value, partition=0, headers=list(headers.items()))
        assert self.producer.flush(30) == 0


@pytest.fixture
def prices(kafka: Broker, registry: Registry, topic: TopicFactory) -> Prices:
    return Prices(kafka, registry, topic())


def pipeline_of(
    directory: Path, kafka: Broker, registry: Registry, topic: str, **table: Any
) -> PipelineOnDisk:
    columns = [{"name": "id", "type": "long"}, {"name": "price", "type": "double"}]
    return write_pipeline(
        directory,
        kafka.bootstrap_servers,
        topic,
        changes={
            "format": {"value": "avro", "schema_registry": {"url": registry.url}},
            "table": {"identifier": f"e2e.{directory.name}", "columns": columns, **table},
            "dead_letters": {"max_share": "off"},
        },
    )


def k2i(pipeline: PipelineOnDisk, *words: str) -> tuple[int, dict[str, Any]]:
    count = 2 if words[0] == "table" else 1
    arguments = [*words[:count], str(pipeline.path), *words[count:], "--json"]
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, json.loads(done.stdout)


def kill_at(pipeline: PipelineOnDisk, point: CrashPoint, occurrence: int) -> None:
    command = ("tests.e2e.crashing_worker", str(pipeline.path), "0/1", point.value, str(occurrence))
    died = warm_python().run(*command)
    assert died.returncode == -9, died.stderr[-3000:]


def ids_of(pipeline: PipelineOnDisk, table: str | None = None) -> list[int]:
    return sorted(pipeline.load_table(table).scan().to_arrow()["id"].to_pylist())


def test_a_breaking_schema_pauses_the_table_until_an_operator_acts(
    tmp_path: Path, kafka: Broker, registry: Registry, prices: Prices
) -> None:
    pipeline = pipeline_of(tmp_path / "prices", kafka, registry, prices.topic)
    prices.send(GOOD, (0, 1.0), (1, None))
    prices.send(BROKEN, (2, "2.00"))
    prices.send(GOOD, (3, 3.0))
    prices.send(BROKEN, (4, None))

    # Two requests take over, one appends; the pause is the one after these.
    kill_at(pipeline, CrashPoint.ATTEMPT_LOGGED, 4)
    assert k2i(pipeline, "status")[1]["paused"] is None
    kill_at(pipeline, CrashPoint.REQUEST_SENT, 3)
    assert ids_of(pipeline) == [0, 1]
    with pytest.raises(IncompatibleSchemaError, match=REASON) as paused:
        pipeline.ingest_here()
    assert paused.value.kind is ErrorKind.TABLE_PAUSED
    head = pipeline.load_table().metadata.current_snapshot_id

    worker = pipeline.start_worker()
    with ended(worker):
        assert worker.process.wait(60) == 4
    assert REASON in worker.last_words()
    assert "k2i table resume" in worker.last_words()
    assert pipeline.load_table().metadata.current_snapshot_id == head

    code, status = k2i(pipeline, "status")
    assert (code, status["paused"]["reason"]) == (0, REASON)
    assert status["paused"]["position"] == f"{prices.topic}/0@2"
    assert k2i(pipeline, "table", "plan")[0] == 1
    code, looked = k2i(pipeline, "table", "resume", "--dry-run", "--as", "dead_letter")
    assert (code, looked["done"]) == (0, False)
    assert pipeline.load_table().metadata.current_snapshot_id == head

    # Resumed although nothing was repaired: it is paused again, and still nothing is lost.
    assert k2i(pipeline, "table", "resume", "--yes")[0] == 0
    with pytest.raises(IncompatibleSchemaError, match=REASON):
        pipeline.ingest_here()
    assert ids_of(pipeline) == [0, 1]

    assert k2i(pipeline, "table", "resume", "--yes", "--as", "dead_letter")[0] == 0
    assert k2i(pipeline, "status")[1]["paused"] is None
    pipeline.ingest_here()
    assert ids_of(pipeline) == [0, 1, 3, 4]
    assert pipeline.dead_letters()["error_class"].to_pylist() == ["wrong_type"]
    pipeline.assert_holds_here()
    again = CliRunner().invoke(app, ["table", "resume", str(pipeline.path), "--yes"])
    assert "is not paused" in str(again.exception)


def test_where_the_file_says_so_each_record_shows_whether_it_fits(
    tmp_path: Path, kafka: Broker, registry: Registry, prices: Prices
) -> None:
    pipeline = pipeline_of(
        tmp_path / "letters", kafka, registry, prices.topic, on_breaking_change="dead_letter"
    )
    prices.send(BROKEN, (0, "1.00"), (1, None))
    pipeline.ingest_here()
    assert ids_of(pipeline) == [1]
    assert pipeline.dead_letters()["error_class"].to_pylist() == ["wrong_type"]


PAUSED, OTHER = "e2e.paused", "e2e.other"


@pytest.mark.parametrize("lead", [PAUSED, OTHER])
def test_of_several_tables_the_paused_one_waits_and_the_others_go_on(
    tmp_path: Path, kafka: Broker, registry: Registry, prices: Prices, lead: str
) -> None:
    columns = [{"name": "id", "type": "long"}, {"name": "price", "type": "double"}]
    paused = {
        "identifier": PAUSED,
        "match": {"header": "shop", "pattern": "one"},
        "columns": columns,
    }
    both = [paused, {"identifier": OTHER}]
    pipeline = write_pipeline(
        tmp_path / "several",
        kafka.bootstrap_servers,
        prices.topic,
        changes={
            "format": {"value": "avro", "schema_registry": {"url": registry.url}},
            "tables": both if lead == PAUSED else both[::-1],
            "dead_letters": {"table": "e2e.dead_letters", "max_share": "off"},
        },
    )
    prices.send(GOOD, (0, 0.0), shop="one")
    prices.send(GOOD, (1, 1.0))
    pipeline.ingest_here()
    prices.send(BROKEN, (2, "2.00"), shop="one")
    prices.send(GOOD, (3, 3.0))
    prices.send(GOOD, (4, 4.0), shop="one")
    pipeline.ingest_here()
    assert (ids_of(pipeline, PAUSED), ids_of(pipeline, OTHER)) == ([0], [1, 3])
    status = k2i(pipeline, "status", "--table", PAUSED)[1]
    assert (status["paused"]["reason"], status["paused"]["position"]) == (
        REASON,
        f"{prices.topic}/0@2",
    )

    # A worker that starts now leaves it alone, says so, and goes on with the others.
    prices.send(GOOD, (5, 5.0))
    worker = pipeline.start_worker()
    with ended(worker):
        worker.wait_for(lambda: ids_of(pipeline, OTHER) == [1, 3, 5])
        assert PAUSED in worker.checks()["tables"]["detail"]
        assert worker.metric("k2i_table_paused") == 1
        assert worker.stop() == 0
    assert ids_of(pipeline, PAUSED) == [0]
    assert k2i(pipeline, "status", "--table", OTHER)[1]["paused"] is None

    resumed = ("table", "resume", "--table", PAUSED, "--yes", "--as", "dead_letter")
    assert k2i(pipeline, *resumed)[0] == 0
    pipeline.ingest_here()
    assert (ids_of(pipeline, PAUSED), ids_of(pipeline, OTHER)) == ([0, 4], [1, 3, 5])
    assert pipeline.dead_letters()["error_class"].to_pylist() == ["wrong_type"]
    assert k2i(pipeline, "verify")[1]["holds"]
