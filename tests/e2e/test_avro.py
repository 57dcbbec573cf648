"""Avro topics of real producers, through a real registry.

Goal: records of several schemas in one topic, in any order, all land right, the table follows the
newest schema, what cannot be read is a dead letter that says why, and a registry that is away
costs no record.
Method: confluent-kafka's own serializers write to a real broker and register at a real registry;
workers ingest; PyIceberg and DuckDB read the table back.
"""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    topic_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from k2i_core.crash_points import CrashPoint
from tests.conftest import Broker, Registry, TopicFactory
from tests.e2e.pipelines import PipelineOnDisk, ended, write_pipeline
from tests.integration.kafka.source_driver import produce
from tests.integration.parquet.readers import READERS
from tests.services.faults import FaultProxy
from tests.services.warm_python import warm_python

AT = datetime(2026, 11, 20, 12, 30, 15, 250_000, UTC)

ADDRESS = {
    "type": "record",
    "name": "Address",
    "namespace": "shop",
    "fields": [{"name": "city", "type": "string"}, {"name": "zip", "type": ["null", "string"]}],
}
FIELDS: list[dict[str, Any]] = [
    {"name": "id", "type": "long"},
    {
        "name": "amount",
        "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2},
    },
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "address", "type": "shop.Address"},
    {"name": "tags", "type": {"type": "array", "items": "string"}},
]
NEWER_FIELDS: list[dict[str, Any]] = [
    *FIELDS,
    {"name": "channel", "type": ["null", "string"], "default": None},
    {"name": "counts", "type": {"type": "map", "values": "int"}, "default": {}},
]


def order_schema(fields: list[dict[str, Any]]) -> str:
    return json.dumps({"type": "record", "name": "Order", "namespace": "shop", "fields": fields})


def order(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "amount": Decimal(number) / 100,
        "at": AT,
        "address": {"city": f"city {number}", "zip": None if number % 2 else "10115"},
        "tags": ["a", "b"][: number % 3],
        **more,
    }


class Orders:
    """A topic with producers of an older and a newer schema."""

    def __init__(self, kafka: Broker, registry: Registry, topic: str) -> None:
        self.topic = topic
        self.client = SchemaRegistryClient({"url": registry.url})
        self.client.register_schema("address", Schema(json.dumps(ADDRESS), "AVRO"))
        self.producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
        self.older, self.newer = (self._serializer(part) for part in (FIELDS, NEWER_FIELDS))

    def _serializer(self, fields: list[dict[str, Any]]) -> AvroSerializer:
        reference = SchemaReference("shop.Address", "address", 1)
        schema = Schema(order_schema(fields), "AVRO", [reference])
        conf = {"subject.name.strategy": topic_subject_name_strategy}
        return AvroSerializer(self.client, schema, conf=conf)

    def encode(self, serializer: AvroSerializer, record: dict[str, Any]) -> bytes:
        encoded = serializer(record, SerializationContext(self.topic, MessageField.VALUE))
        assert encoded is not None
        return encoded

    def send(self, *values: bytes | tuple[bytes, bytes]) -> None:
        """Produce values, some with what stands in the header that names their schema."""
        for each in values:
            value, header = each if isinstance(each, tuple) else (each, None)
            headers = [("__value_schema_id", header)] if header else None
            self.producer.produce(self.topic, value, headers=headers)
        assert self.producer.flush(30) == 0


@pytest.fixture
def orders(kafka: Broker, registry: Registry, topic: TopicFactory) -> Iterator[Orders]:
    made = Orders(kafka, registry, topic())
    with made.client:
        yield made


def avro_pipeline(
    directory: Path,
    kafka: Broker,
    url: str,
    topic: str,
    evolution: str = "add_columns",
    **registry: Any,
) -> PipelineOnDisk:
    return write_pipeline(
        directory,
        kafka.bootstrap_servers,
        topic,
        changes={
            "format": {"value": "avro", "schema_registry": {"url": url, **registry}},
            "table": {"identifier": f"e2e.{directory.name}", "schema_evolution": evolution},
        },
    )


def shown(number: int, **more: Any) -> dict[str, Any]:
    return {**order(number), "channel": None, "counts": None, **more}


def rows_of(pipeline: PipelineOnDisk) -> list[dict[str, Any]]:
    rows = pipeline.rows().drop_columns(["_kafka"]).to_pylist()
    for row in rows:
        if row.get("counts") is not None:
            row["counts"] = dict(row["counts"])
    return sorted(rows, key=lambda row: row["id"])


def test_records_of_several_schemas_in_any_order_all_land_right(
    tmp_path: Path, kafka: Broker, registry: Registry, orders: Orders
) -> None:
    older = [orders.encode(orders.older, order(number)) for number in range(0, 40, 2)]
    pipeline = avro_pipeline(tmp_path / "avro", kafka, registry.url, orders.topic)
    orders.send(*older[:5])
    pipeline.ingest_here()
    assert rows_of(pipeline) == [order(number) for number in range(0, 10, 2)]

    newer = [
        orders.encode(orders.newer, order(number, channel="web", counts={"a": number}))
        for number in range(1, 40, 2)
    ]
    unknown_id = b"\0" + (999_999).to_bytes(4, "big") + older[0][5:]
    bad = [b'{"id": 1}', unknown_id, older[0][:-1], newer[0] + b"\0", b""]
    mixed = [value for pair in zip(newer, older[5:], strict=False) for value in pair]
    in_headers = [(value[5:], value[:5]) for value in mixed[7:]]
    nowhere = (newer[0][5:], b"\1" + bytes(16))
    orders.send(*mixed[:7], *bad, nowhere, *in_headers, *newer[len(older) - 5 :])
    pipeline.ingest_here()

    expected = [shown(n, channel="web", counts={"a": n}) if n % 2 else shown(n) for n in range(40)]
    assert rows_of(pipeline) == expected
    assert pipeline.load_table().properties["k2i.format-mapping"] == "avro/1"
    letters = pipeline.dead_letters().sort_by("first_seen").to_pylist()
    ids = {"older": older[0][1:5], "newer": newer[0][1:5]}
    numbers = {name: int.from_bytes(raw, "big") for name, raw in ids.items()}
    assert sorted((x["error_class"], x["schema_id"] or 0, x["value"]) for x in letters) == sorted(
        [
            ("invalid_framing", 0, bad[0]),
            ("unknown_schema_id", 999_999, bad[1]),
            ("invalid_encoding", numbers["older"], bad[2]),
            ("invalid_encoding", numbers["newer"], bad[3]),
            ("invalid_framing", 0, bad[4]),
            ("unknown_schema_id", 0, nowhere[0]),
        ]
    )
    pipeline.assert_holds_here()
    read = READERS["duckdb"](pipeline.load_table(), None)
    assert sorted((row["id"], row["amount"], row["address"]["city"]) for row in read) == [
        (n, Decimal(n) / 100, f"city {n}") for n in range(40)
    ]


def test_a_strict_table_takes_newer_records_that_hold_nothing_new(
    tmp_path: Path, kafka: Broker, registry: Registry, orders: Orders
) -> None:
    pipeline = avro_pipeline(tmp_path / "avro", kafka, registry.url, orders.topic, "strict")
    orders.send(orders.encode(orders.older, order(0)))
    pipeline.ingest_here()
    orders.send(
        orders.encode(orders.newer, order(1, channel=None, counts={})),
        orders.encode(orders.newer, order(2, channel="web", counts={})),
    )
    pipeline.ingest_here()
    assert rows_of(pipeline) == [order(0), order(1)]
    assert pipeline.dead_letters()["error_class"].to_pylist() == ["unknown_field"]


def test_a_registry_that_is_away_costs_time_and_no_record(
    tmp_path: Path, kafka: Broker, registry: Registry, orders: Orders
) -> None:
    at = urlsplit(registry.url)
    assert at.port is not None
    orders.send(*(orders.encode(orders.older, order(number)) for number in range(10)))
    with FaultProxy(at.port) as proxy:
        pipeline = avro_pipeline(
            tmp_path / "avro",
            kafka,
            f"{proxy.url}{at.path}",
            orders.topic,
            request_timeout="500ms",
            retry_for="2s",
        )
        pipeline.ingest_here()
        newer = (order(n, channel="web", counts={}) for n in range(10, 20))
        orders.send(*(orders.encode(orders.newer, each) for each in newer))
        proxy.hold()
        worker = pipeline.start_worker()
        with ended(worker):
            threading.Timer(8, proxy.release).start()
            worker.wait_for_flushes(1)
            assert worker.stop() == 0
    assert [row["id"] for row in rows_of(pipeline)] == list(range(20))
    assert pipeline.dead_letters().num_rows == 0


def test_a_record_whose_schema_comes_late_is_no_row_of_the_table_that_is_behind(
    tmp_path: Path, kafka: Broker, registry: Registry, orders: Orders
) -> None:
    def registered(name: str) -> int:
        fields: list[dict[str, Any]] = [{"name": "id", "type": "long"}]
        text = json.dumps({"type": "record", "name": name, "namespace": "late", "fields": fields})
        return orders.client.register_schema(f"{orders.topic}-{name}", Schema(text, "AVRO"))

    def record(schema_id: int, number: int) -> bytes:
        return b"\0" + schema_id.to_bytes(4, "big") + bytes([2 * number])

    pipeline = write_pipeline(
        tmp_path / "late",
        kafka.bootstrap_servers,
        orders.topic,
        changes={
            "format": {"value": "avro", "schema_registry": {"url": registry.url}},
            "tables": [
                {"identifier": "late.rest"},
                {"identifier": "late.gifts", "match": {"message": "late.Gift"}},
            ],
            "dead_letters": {"table": "late.dead_letters", "max_share": "off"},
        },
    )
    known = registered("Known")
    orders.send(record(known, 1), record(known + 1, 2))
    # It dies when the first table is past both records, and the second one past none.
    dies = (CrashPoint.TARGET_COMMITTED.value, "1")
    died = warm_python().run("tests.e2e.crashing_worker", str(pipeline.path), "0/1", *dies)
    assert died.returncode == -9, died.stderr[-3000:]
    late = registered("Gift")
    assert late == known + 1
    orders.send(record(late, 3))
    pipeline.ingest_here()

    tables = [pipeline.load_table(name).scan().to_arrow() for name in ("late.rest", "late.gifts")]
    assert [rows["id"].to_pylist() for rows in tables] == [[1], [3]]
    letters = pipeline.dead_letters().to_pylist()
    assert [(x["target_table"], x["error_class"], x["schema_id"]) for x in letters] == [
        ("late.rest", "unknown_schema_id", late)
    ]
    assert pipeline.verification()["holds"]


def test_without_a_registry_a_schema_file_tells(
    tmp_path: Path, kafka: Broker, topic: TopicFactory
) -> None:
    schema = tmp_path / "order.avsc"
    fields = [{"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"]}]
    schema.write_text(order_schema(fields))
    name = topic()
    produce(kafka.bootstrap_servers, name, [b"\x02\x02\x06abc", b"\x04\x00", b"\x04\x08"])
    pipeline = write_pipeline(
        tmp_path / "file",
        kafka.bootstrap_servers,
        name,
        changes={
            "format": {"value": "avro", "schema_file": str(schema)},
            "table": {"identifier": "e2e.file"},
        },
    )
    pipeline.ingest_here()
    assert rows_of(pipeline) == [{"id": 1, "name": "abc"}, {"id": 2, "name": None}]
    assert pipeline.dead_letters()["error_class"].to_pylist() == ["invalid_encoding"]
