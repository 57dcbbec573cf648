"""Change events of a database, from a real broker.

Goal: inserts, updates and deletes are appended as rows with their keys, tombstones are counted, new
columns of the database become columns while events come in, and renamed ones are renamed. Method:
the JSON that Debezium's documentation shows, schemas beside the payloads, keys too, and Avro by a
real registry; rows are read back.
"""

import json
from pathlib import Path
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from tests.conftest import Broker, Registry, TopicFactory
from tests.e2e.pipelines import write_pipeline
from tests.integration.kafka.source_driver import produce
from tests.property.evolving_envelopes import Envelopes, in_envelopes
from tests.property.evolving_topics import ID as ID_FIELD
from tests.property.evolving_topics import Field, avro_version

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


def test_a_column_that_the_database_renames_is_renamed_while_older_events_come(
    tmp_path: Path, kafka: Broker, registry: Registry, topic: TopicFactory
) -> None:
    name = topic()

    def version(*names: str) -> Envelopes:
        client = Field(1, names, "string", "one", False)
        return in_envelopes(avro_version((ID_FIELD, client)))

    older, newer = version("client"), version("client", "customer")
    with SchemaRegistryClient({"url": registry.url}) as client:
        subject = f"{name}-value"
        ids = [client.register_schema(subject, Schema(v.text, "AVRO")) for v in (older, newer)]
    old, new = (b"\0" + schema_id.to_bytes(4, "big") for schema_id in ids)
    pipeline = write_pipeline(
        tmp_path / "renamed",
        kafka.bootstrap_servers,
        name,
        changes={
            "format": {
                "value": "avro",
                "envelope": "debezium",
                "schema_registry": {"url": registry.url},
            },
            "table": {
                "identifier": "e2e.renamed",
                "schema_evolution": "full",
                # So that the table begins with the older schema, although the registry has both.
                "columns": [{"name": "id", "type": "long"}, {"name": "client", "type": "string"}],
            },
        },
    )
    ann, eve, bob = ({0: n, 1: text} for n, text in enumerate(("Ann", "Eve", "Bob")))
    values = [old + older.encode("c", None, ann), old + older.encode("u", ann, ann)]
    produce(kafka.bootstrap_servers, name, values)
    pipeline.ingest_here()
    schema = pipeline.load_table("e2e.renamed").schema()
    names = ("client", "__before.client")
    field_ids = [schema.find_field(each).field_id for each in names]

    values = [
        new + newer.encode("u", ann, eve),
        old + older.encode("d", eve, None),
        new + newer.encode("c", None, bob),
    ]
    produce(kafka.bootstrap_servers, name, values)
    pipeline.ingest_here()

    schema = pipeline.load_table("e2e.renamed").schema()
    names = ("customer", "__before.customer")
    assert [schema.find_field(each).field_id for each in names] == field_ids
    rows = sorted(pipeline.rows().to_pylist(), key=lambda row: row["_kafka"]["offset"])
    shown = [(row["__op"], row["customer"], row["__before"]) for row in rows]
    assert shown == [
        ("c", "Ann", None),
        ("u", "Ann", {"id": 0, "customer": "Ann"}),
        ("u", "Eve", {"id": 0, "customer": "Ann"}),
        ("d", "Eve", {"id": 1, "customer": "Eve"}),
        ("c", "Bob", None),
    ]
    assert pipeline.dead_letters().num_rows == 0
    pipeline.assert_holds_here()
