"""Change events of a database, from a real broker.

Goal: inserts, updates and deletes are appended as rows with their keys, tombstones are counted, new
columns of the database become columns while events come in. Method: the JSON that Debezium's
documentation shows, schemas beside the payloads, keys too; rows are read back.
"""

import json
from pathlib import Path
from typing import Any

from tests.conftest import Broker, TopicFactory
from tests.e2e.pipelines import write_pipeline
from tests.integration.kafka.source_driver import produce

ID = {"type": "int32", "optional": False, "field": "id"}
NAME = {"type": "string", "optional": True, "field": "first_name"}
BORN = {"type": "int32", "name": "io.debezium.time.Date", "optional": True, "field": "born"}
KEY = {"type": "struct", "fields": [ID], "optional": False, "name": "shop.customers.Key"}


def event(fields: list[dict[str, Any]], op: str, before: Any, after: Any) -> bytes:
    row = {"type": "struct", "fields": fields, "optional": True, "name": "shop.customers.Value"}
    source = {
        "type": "struct",
        "fields": [
            {"type": "string", "field": "connector"},
            {"type": "int64", "field": "lsn"},
        ],
        "field": "source",
    }
    schema = {
        "type": "struct",
        "fields": [
            {**row, "field": "before"},
            {**row, "field": "after"},
            source,
            {"type": "string", "optional": False, "field": "op"},
            {"type": "int64", "optional": True, "field": "ts_ms"},
        ],
        "optional": False,
        "name": "shop.customers.Envelope",
    }
    where = {"connector": "postgresql", "lsn": 24023128}
    payload = {"before": before, "after": after, "source": where, "op": op, "ts_ms": 1559033904863}
    return json.dumps({"schema": schema, "payload": payload}).encode()


def test_changes_of_a_database_are_appended_with_their_keys(
    tmp_path: Path, kafka: Broker, topic: TopicFactory
) -> None:
    name = topic()

    def send(*values: bytes | None) -> None:
        key = json.dumps({"schema": KEY, "payload": {"id": 1}}).encode()
        produce(kafka.bootstrap_servers, name, values, key=key)

    pipeline = write_pipeline(
        tmp_path / "customers",
        kafka.bootstrap_servers,
        name,
        changes={
            "format": {"value": "json", "key": "json", "envelope": "debezium"},
            "table": {"identifier": "e2e.customers"},
        },
    )
    ann, eve = {"id": 1, "first_name": "Ann"}, {"id": 1, "first_name": "Eve"}
    born = {**eve, "born": 19000}
    send(event([ID, NAME], "r", None, ann), event([ID, NAME], "u", ann, eve))
    pipeline.ingest_here()
    send(event([ID, NAME, BORN], "u", {**eve, "born": None}, born))
    send(event([ID, NAME, BORN], "d", born, None), None, b'{"op": "t"}')
    pipeline.ingest_here()

    rows = pipeline.rows().to_pylist()
    rows.sort(key=lambda row: row["_kafka"]["offset"])
    assert [(r["__op"], r["id"], r["first_name"], str(r["born"])) for r in rows] == [
        ("r", 1, "Ann", "None"),
        ("u", 1, "Eve", "None"),
        ("u", 1, "Eve", "2022-01-08"),
        ("d", 1, "Eve", "2022-01-08"),
    ]
    assert rows[0]["__source"] == {"connector": "postgresql", "lsn": 24023128}
    assert {row["__ts_ms"] for row in rows} == {1559033904863}
    assert [row["_key"] for row in rows] == [{"id": 1}] * 4
    assert rows[1]["__before"] == {**ann, "born": None}
    assert pipeline.dead_letters()["error_class"].to_pylist() == ["invalid_envelope"]
    held = pipeline.assert_holds_here()
    assert [p["claimed"]["tombstones"] for p in held["partitions"]] == [1]
