"""Protobuf and JSON Schema topics, through a real registry.

Goal: as for Avro: several schemas in one topic, imports and references, the table follows, what
cannot be read is a dead letter.
Method: schemas are registered at a real registry, messages encoded by Google's library and by
Python's own json behind the registry's frame; workers ingest; PyIceberg reads the table back.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from google.protobuf import message_factory

from k2i_core.decode.proto_schema import read_descriptors
from k2i_core.schema.registered import NamedText, SchemaLanguage, WriterSchema
from k2i_core.wiring.proto_compiler import FILE_NAME, compile_proto
from tests.conftest import Broker, Registry, TopicFactory
from tests.e2e.pipelines import PipelineOnDisk, write_pipeline

ADDRESS = 'syntax = "proto3"; package shop; message Address { string city = 1; }'
OLDER = """
syntax = "proto3"; package shop;
import "shop/address.proto"; import "google/protobuf/timestamp.proto";
message Line { string sku = 1; uint64 count = 2; }
message Order { int64 id = 1; Address address = 2; google.protobuf.Timestamp at = 3;
  repeated Line lines = 4; oneof paid { string card = 5; bool cash = 6; } MORE }
"""
NEWER = OLDER.replace("MORE", "map<string, int32> counts = 7;")
AT = datetime(2026, 11, 20, 12, 30, 15, tzinfo=UTC)


class Wire:
    """A topic, and the registry that its schemas are in."""

    def __init__(self, kafka: Broker, registry: Registry, topic: str) -> None:
        self.topic = topic
        self.client = SchemaRegistryClient({"url": registry.url})
        self.producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})

    def register(self, text: str, language: str, *references: SchemaReference) -> bytes:
        """Return the frame's first five bytes."""
        schema = Schema(text, language, list(references))
        number = self.client.register_schema(f"{self.topic}-value", schema)
        return b"\0" + number.to_bytes(4, "big")

    def send(self, *values: bytes) -> None:
        for value in values:
            self.producer.produce(self.topic, value)
        assert self.producer.flush(30) == 0


@pytest.fixture
def wire(kafka: Broker, registry: Registry, topic: TopicFactory) -> Iterator[Wire]:
    made = Wire(kafka, registry, topic())
    with made.client:
        yield made


def pipeline_of(directory: Path, kafka: Broker, topic: str, **format_: Any) -> PipelineOnDisk:
    changes = {"format": format_, "table": {"identifier": f"e2e.{directory.name}"}}
    return write_pipeline(directory, kafka.bootstrap_servers, topic, changes=changes)


def rows_of(pipeline: PipelineOnDisk) -> list[dict[str, Any]]:
    rows = pipeline.rows().drop_columns(["_kafka"]).to_pylist()
    return sorted(rows, key=lambda row: row["id"])


def order_type(text: str) -> Any:
    writer = WriterSchema(
        None, SchemaLanguage.PROTOBUF, text, (NamedText("shop/address.proto", ADDRESS),)
    )
    compiled = read_descriptors(compile_proto(writer), FILE_NAME)
    return message_factory.GetMessageClass(compiled.pool.FindMessageTypeByName("shop.Order"))


def test_protobuf_of_several_schemas_all_lands_right(
    tmp_path: Path, kafka: Broker, registry: Registry, wire: Wire
) -> None:
    wire.client.register_schema("address.proto", Schema(ADDRESS, "PROTOBUF"))
    reference = SchemaReference("shop/address.proto", "address.proto", 1)
    order = b"\x02\x02"  # of one index: 1, the second message of the file
    older_text = OLDER.replace("MORE", "")
    older_frame = wire.register(older_text, "PROTOBUF", reference) + order
    older, newer = order_type(older_text), order_type(NEWER)
    first = older(id=1, card="visa", lines=[{"sku": "a", "count": 2**64 - 1}])
    first.address.city = "Berlin"
    first.at.FromDatetime(AT)
    wire.send(older_frame + first.SerializeToString())
    source = {"value": "protobuf", "schema_registry": {"url": registry.url}}
    pipeline = pipeline_of(tmp_path / "proto", kafka, wire.topic, **source, message="shop.Order")
    pipeline.ingest_here()

    newer_frame = wire.register(NEWER, "PROTOBUF", reference) + order
    line = newer_frame[:5] + b"\0"  # the first message: Line, which is not wanted here
    second = newer(id=2, cash=False, counts={"x": 3}).SerializeToString()
    third = older(id=3).SerializeToString()
    wire.send(
        newer_frame + second,
        older_frame + third,
        line + b"\x0a\x01a",
        older_frame + second,
        newer_frame + b"\x0d\x00\x00\x00\x00",
        newer_frame + b"\x07",
    )
    pipeline.ingest_here()

    none = {"address": None, "at": None, "lines": [], "card": None, "cash": None}
    assert rows_of(pipeline) == [
        {
            "id": 1,
            "address": {"city": "Berlin"},
            "at": AT,
            "lines": [{"sku": "a", "count": 2**64 - 1}],
            "card": "visa",
            "cash": None,
            "counts": None,
        },
        {**none, "id": 2, "cash": False, "counts": [("x", 3)]},
        {**none, "id": 3, "counts": None},
    ]
    assert sorted(pipeline.dead_letters()["error_class"].to_pylist()) == [
        "unknown_field",
        "unknown_field",
        "wrong_message",
        "wrong_type",
    ]
    pipeline.assert_holds_here()


def test_protobuf_without_a_registry_is_read_by_a_file(
    tmp_path: Path, kafka: Broker, wire: Wire
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "address.proto").write_text(ADDRESS)
    (tmp_path / "order.proto").write_text(NEWER)
    source = {"value": "protobuf", "schema_file": str(tmp_path / "order.proto")}
    pipeline = pipeline_of(tmp_path / "file", kafka, wire.topic, **source, message="shop.Order")
    wire.send(order_type(NEWER)(id=7, cash=True).SerializeToString(), b"", b"{}")
    pipeline.ingest_here()
    assert [(row["id"], row["cash"]) for row in rows_of(pipeline)] == [(7, True)]
    assert pipeline.dead_letters().num_rows == 2


JSON_ORDER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "at": {"type": "string", "format": "date-time"},
        "customer": {"$ref": "#/$defs/customer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "note": {"oneOf": [{"type": "null"}, {"type": "string"}]},
    },
    "$defs": {"customer": {"type": "object", "properties": {"name": {"type": "string"}}}},
}


def test_json_schema_of_several_schemas_all_lands_right(
    tmp_path: Path, kafka: Broker, registry: Registry, wire: Wire
) -> None:
    older = wire.register(json.dumps(JSON_ORDER), "JSON")
    source = {"value": "json_schema", "schema_registry": {"url": registry.url}}
    pipeline = pipeline_of(tmp_path / "json", kafka, wire.topic, **source)
    full = {"id": 1, "at": AT.isoformat(), "customer": {"name": "A"}, "tags": [], "note": None}
    wire.send(older + json.dumps(full).encode())
    pipeline.ingest_here()
    # Any further property is incompatible: the older schema allows it to be anything.
    wire.client.set_compatibility(f"{wire.topic}-value", "NONE")
    properties = {**JSON_ORDER["properties"], "total": {"type": "number"}}
    newer = wire.register(json.dumps({**JSON_ORDER, "properties": properties}), "JSON")
    wire.send(
        newer + b'{"id": 2, "total": 1.5}',
        older + b'{"id": 3}',
        older + b'{"id": "x"}',
        b'{"id": 4}',
    )
    pipeline.ingest_here()
    none = {"at": None, "customer": None, "tags": None, "note": None}
    assert rows_of(pipeline) == [
        {**full, "at": AT, "total": None},
        {**none, "id": 2, "total": 1.5},
        {**none, "id": 3, "total": None},
    ]
    letters = pipeline.dead_letters().to_pylist()
    number = int.from_bytes(older[1:], "big")
    assert sorted((x["error_class"], x["schema_id"] or 0) for x in letters) == [
        ("invalid_framing", 0),
        ("wrong_type", number),
    ]
