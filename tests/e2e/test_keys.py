"""Keys of a format of their own, from a real broker, through a real registry.

Goal: each row has its own record's key as a column, keys of older and newer schemas side by side; a
bad key is a dead letter that is replayed once the settings read it, and a schema of keys that the
table cannot follow pauses it. Method: confluent-kafka's own serializers write keys, ids before them
and in headers; rows are read back.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import (
    Schema,
    SchemaRegistryClient,
    topic_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.common.schema_registry_client import (
    ConfigCompatibilityLevel,
    ServerConfig,
)
from confluent_kafka.serialization import MessageField, SerializationContext
from typer.testing import CliRunner

from k2i_core.cli.main import app
from k2i_core.dead_letters.reading import Selection
from k2i_core.errors import IncompatibleSchemaError
from k2i_core.wiring.dead_letters import replay
from tests.conftest import Broker, Registry, TopicFactory
from tests.e2e.pipelines import PipelineOnDisk, write_pipeline

ID: dict[str, Any] = {"name": "id", "type": "long"}
REGION: dict[str, Any] = {"name": "region", "type": ["null", "string"], "default": None}


def send(kafka: Broker, topic: str, *records: tuple[bytes | None, bytes | None, Any]) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    for key, value, headers in records:
        producer.produce(topic, value, key, headers=headers)
    assert producer.flush(30) == 0


def pipeline_of(directory: Path, kafka: Broker, topic: str, **format_: Any) -> PipelineOnDisk:
    changes = {"format": format_, "table": {"identifier": "e2e.keys"}}
    return write_pipeline(directory, kafka.bootstrap_servers, topic, changes=changes)


def rows_of(pipeline: PipelineOnDisk) -> list[dict[str, Any]]:
    rows = pipeline.load_table("e2e.keys").scan().to_arrow().drop_columns(["_kafka"]).to_pylist()
    return sorted(rows, key=lambda row: row["a"])


def test_keys_with_schemas_that_grow_beside_plain_values(
    tmp_path: Path, kafka: Broker, registry: Registry, topic: TopicFactory
) -> None:
    name = topic()
    with SchemaRegistryClient({"url": registry.url}) as client:

        def encode(fields: list[dict[str, Any]], key: dict[str, Any]) -> bytes:
            text = json.dumps({"type": "record", "name": "Key", "fields": fields})
            context = SerializationContext(name, MessageField.KEY)
            # The default asks for associations, which this registry has not, and may not answer.
            conf = {"subject.name.strategy": topic_subject_name_strategy}
            encoded = AvroSerializer(client, text, conf=conf)(key, context)
            assert encoded is not None
            return encoded

        older = encode([ID], {"id": 1})
        pipeline = pipeline_of(
            tmp_path, kafka, name, key="avro", schema_registry={"url": registry.url}
        )
        send(kafka, name, (older, b'{"a": 1}', None), (None, b'{"a": 2}', None))
        pipeline.ingest_here()
        assert rows_of(pipeline) == [{"a": 1, "_key": {"id": 1}}, {"a": 2, "_key": None}]

        newer = encode([ID, REGION], {"id": 3, "region": "eu"})
    header = [("__key_schema_id", newer[:5]), ("__value_schema_id", b"not read")]
    send(
        kafka,
        name,
        (newer[5:], b'{"a": 3, "b": true}', header),
        (b"no key", b'{"a": 4}', None),
        (older, b'{"a": 5}', None),
        (older, None, None),
    )
    pipeline.ingest_here()
    assert rows_of(pipeline) == [
        {"a": 1, "_key": {"id": 1, "region": None}, "b": None},
        {"a": 2, "_key": None, "b": None},
        {"a": 3, "_key": {"id": 3, "region": "eu"}, "b": True},
        {"a": 5, "_key": {"id": 1, "region": None}, "b": None},
    ]
    (letter,) = pipeline.dead_letters().to_pylist()
    assert (letter["stage"], letter["error_class"]) == ("key", "invalid_framing")
    assert letter["_kafka"]["key"] == b"no key"
    assert pipeline.load_table("e2e.keys").properties["k2i.key-format-mapping"] == "avro/1"
    pipeline.assert_holds_here()


def test_a_bad_key_is_replayed_once_the_settings_read_it(
    tmp_path: Path, kafka: Broker, topic: TopicFactory
) -> None:
    name = topic()
    five = (5).to_bytes(8, "big")
    send(kafka, name, (five, b'{"a": 1}', None), (b"17", b'{"a": 2}', None), (five, b"{", None))
    pipeline_of(tmp_path, kafka, name, key="long").ingest_here()
    pipeline = pipeline_of(tmp_path, kafka, name, key="json")
    assert rows_of(pipeline) == [{"a": 1, "_key": 5}]
    stages = pipeline.dead_letters().sort_by("stage")["stage"].to_pylist()
    assert stages == ["key", "value"]

    report = replay(pipeline.settings, Selection())
    assert report.replayed_count == 1
    assert rows_of(pipeline) == [{"a": 1, "_key": 5}, {"a": 2, "_key": 17}]
    pipeline.assert_holds_here()


def test_a_schema_of_keys_that_breaks_the_table_pauses_it_before_its_first_record(
    tmp_path: Path, kafka: Broker, registry: Registry, topic: TopicFactory
) -> None:
    name = topic()
    texts = [
        json.dumps({"type": "record", "name": "Key", "fields": [{"name": "id", "type": kind}]})
        for kind in ("long", "string")
    ]
    with SchemaRegistryClient({"url": registry.url}) as client:
        client.set_config(f"{name}-key", ServerConfig(ConfigCompatibilityLevel.NONE))
        ids = [client.register_schema(f"{name}-key", Schema(text, "AVRO")) for text in texts]
    number, text = (b"\0" + schema_id.to_bytes(4, "big") for schema_id in ids)
    send(kafka, name, (number + b"\2", b'{"a": 1}', None))
    table = {
        "identifier": "e2e.keys",
        # So that the column is as the first key has it, not as the registry's latest schema.
        "columns": [{"name": "a", "type": "long"}],
    }
    format_ = {"key": "avro", "schema_registry": {"url": registry.url}}
    changes = {"format": format_, "table": table}
    pipeline = write_pipeline(tmp_path, kafka.bootstrap_servers, name, changes=changes)
    pipeline.ingest_here()
    send(
        kafka,
        name,
        (number + b"\4", b'{"a": 2}', None),
        (text + b"\2x", b'{"a": 3}', None),
        (number + b"\6", b'{"a": 4}', None),
    )

    reason = "_key.id: the table has long, the records have string"
    with pytest.raises(IncompatibleSchemaError, match=reason):
        pipeline.ingest_here()
    assert [row["a"] for row in rows_of(pipeline)] == [1, 2]
    resumed = CliRunner().invoke(
        app, ["table", "resume", str(pipeline.path), "--as", "dead_letter", "--yes"]
    )
    assert resumed.exit_code == 0, resumed.output
    pipeline.ingest_here()
    assert [(row["a"], row["_key"]["id"]) for row in rows_of(pipeline)] == [(1, 1), (2, 2), (4, 3)]
    (letter,) = pipeline.dead_letters().to_pylist()
    assert (letter["stage"], letter["error_class"]) == ("key", "wrong_type")
    pipeline.assert_holds_here()
