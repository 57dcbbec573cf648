"""Where a new table's columns come from, asked of a real registry.

Goal: each subject strategy finds its subject, for values and for keys, and columns are known before
any record is read only if both are. Method: schemas registered by Confluent's own client, and the
wiring's own questions.
"""

import json
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from k2i_core.clock import SystemClock
from k2i_core.config.load import read_pipeline
from k2i_core.wiring.formats import Formats
from tests.conftest import Registry


def record(name: str, field: str) -> Schema:
    fields = [{"name": field, "type": "long"}]
    described = {"type": "record", "name": name, "namespace": "shop", "fields": fields}
    return Schema(json.dumps(described), "AVRO")


@pytest.mark.parametrize("strategy", ["topic", "record", "topic_record"])
def test_columns_come_from_the_subjects_of_the_strategy(registry: Registry, strategy: str) -> None:
    mark = uuid4().hex
    topic, value, key = f"orders-{mark}", f"Order{mark}", f"Key{mark}"
    subjects = {
        "topic": (f"{topic}-value", f"{topic}-key"),
        "record": (f"shop.{value}", f"shop.{key}"),
        "topic_record": (f"{topic}-shop.{value}", f"{topic}-shop.{key}"),
    }[strategy]

    def names(**more: Any) -> list[str] | None:
        where = {"url": registry.url, "subject_strategy": strategy}
        document = {
            "name": "orders",
            "kafka": {"bootstrap_servers": "localhost:9092", "topics": [topic]},
            "format": {
                "value": "avro",
                "message": f"shop.{value}",
                "schema_registry": where,
                **more,
            },
            "catalog": {"type": "sql", "uri": "sqlite:///none.db", "warehouse": "none"},
            "table": {"identifier": "sales.orders"},
        }
        pipeline = read_pipeline(json.dumps(document), "orders.yaml")
        known = Formats(pipeline, SystemClock()).known_row_schema()
        return None if known is None else known.names

    keyed = {"key": "avro", "key_message": f"shop.{key}"}
    with SchemaRegistryClient({"url": registry.url}) as client:
        assert names() is None
        client.register_schema(subjects[0], record(value, "id"))
        assert names() == ["id"]
        assert names(**keyed) is None
        client.register_schema(subjects[1], record(key, "number"))
        assert names(**keyed) == ["id", "_key"]
