"""A table follows its producers while they write and others read.

Goal: two workers in the middle of ingestion take a rename, a wider type and a new field, inside of
a list and of the key too, from producers of an older and a newer schema at once; rows that are not
committed yet are shown under the new names, those from before the change too; nothing is lost,
doubled or set aside.
Method: Avro through a real registry, two worker processes that commit once a minute, the union read
beside them, and three readers at the end.
"""

from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

import k2i_core.query
from k2i_core.iceberg.column_names import table_columns
from k2i_core.schema.identity import identity_of
from tests.conftest import Broker, Registry, TopicFactory
from tests.e2e.pipelines import ended, eventually, write_pipeline
from tests.integration.parquet.readers import READERS
from tests.property.evolving_topics import Field, Row, Tree, Version, avro_version

PARTITIONS = 2


def fields(*, is_newer: bool) -> Row:
    names = ("client", "customer") if is_newer else ("client",)
    inner = ("sku", "article") if is_newer else ("sku",)
    note = (Field(5, ("note",), "string", "one", True),) if is_newer else ()
    return (
        Field(0, ("id",), "long", "one", False),
        Field(1, names, "long" if is_newer else "int", "one", False),
        Field(2, ("items",), "struct", "list", False, (Field(3, inner, "string", "one", False),)),
        *note,
    )


def key_fields(*, is_newer: bool) -> Row:
    names = ("no", "number") if is_newer else ("no",)
    return (Field(0, names, "long", "one", False),)


def shown(number: int, *, is_newer: bool) -> dict[str, Any]:
    customer = 2**40 + number if is_newer else number
    note = f"n{number}" if is_newer else None
    row = {"id": number, "customer": customer, "items": [{"article": "a"}], "note": note}
    return {**row, "_key": {"number": number}}


def test_two_workers_follow_a_rename_while_older_producers_and_readers_go_on(
    tmp_path: Path, kafka: Broker, registry: Registry, topic: TopicFactory
) -> None:
    name = topic(partition_count=PARTITIONS)
    versions = {newer: avro_version(fields(is_newer=newer)) for newer in (False, True)}
    keys = {newer: avro_version(key_fields(is_newer=newer)) for newer in (False, True)}
    with SchemaRegistryClient({"url": registry.url}) as client:

        def register(part: str, of: dict[bool, Version]) -> dict[bool, bytes]:
            subject = f"{name}-{part}"
            ids = [client.register_schema(subject, Schema(of[n].text, "AVRO")) for n in (0, 1)]
            return {bool(n): b"\0" + number.to_bytes(4, "big") for n, number in enumerate(ids)}

        frames, key_frames = register("value", versions), register("key", keys)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})

    def send(number: int, *, is_newer: bool) -> dict[str, Any]:
        row = shown(number, is_newer=is_newer)
        tree: Tree = {0: number, 1: row["customer"], 2: [{3: "a"}]}
        if is_newer:
            tree[5] = row["note"]
        value = frames[is_newer] + versions[is_newer].encode(tree)
        key = key_frames[is_newer] + keys[is_newer].encode({0: number})
        producer.produce(name, value, key, partition=number % PARTITIONS)
        return row

    pipeline = write_pipeline(
        tmp_path / "live",
        kafka.bootstrap_servers,
        name,
        max_age="60s",
        changes={
            "format": {"value": "avro", "key": "avro", "schema_registry": {"url": registry.url}},
            "table": {
                "identifier": "e2e.live",
                "schema_evolution": "full",
                # So that the table begins with the older schema, although the registry has both.
                "columns": [
                    {"name": "id", "type": "long", "required": True},
                    {"name": "client", "type": "int"},
                    {"name": "items", "type": "list<struct<sku: string>>"},
                ],
            },
            "workers": PARTITIONS,
        },
    )
    expected = [send(number, is_newer=False) for number in range(PARTITIONS)]
    assert producer.flush(30) == 0
    workers = [pipeline.start_worker(f"{n}/{PARTITIONS}") for n in range(PARTITIONS)]
    with ended(*workers):
        for worker in workers:
            worker.wait_for_flushes(1)  # the first generation is committed early
        expected += [send(number, is_newer=False) for number in range(10, 20)]
        assert producer.flush(30) == 0
        with k2i_core.query.open(pipeline.path) as reader:
            table = reader.table(pipeline.table)

            def seen() -> list[dict[str, Any]]:
                rows = table.scan().read_all().drop_columns(["_kafka"]).to_pylist()
                return sorted(rows, key=lambda row: row["id"])

            eventually(lambda: len(seen()) == len(expected))
            assert "client" in seen()[0]
            assert seen()[0]["_key"] == {"no": 0}
            expected += [send(number, is_newer=number % 3 == 0) for number in range(20, 50)]
            assert producer.flush(30) == 0
            eventually(lambda: len(seen()) == len(expected))
            assert table.view().hot_row_count >= 30
            assert seen() == expected
            found = table.lookup(2**40 + 30, "customer").to_pylist()
            assert [row["id"] for row in found] == [30]
            assert [row["id"] for row in table.lookup(11, "customer").to_pylist()] == [11]
        assert [worker.stop() for worker in workers] == [0, 0]
    committed = pipeline.load_table()
    assert identity_of(table_columns(committed).field("customer")).former_names == ("client",)
    assert not committed.schema().find_field("customer").required
    for reader_name, read in READERS.items():
        rows = sorted(read(committed, None), key=lambda row: row["id"])
        without = [{k: v for k, v in row.items() if k != "_kafka"} for row in rows]
        assert without == expected, reader_name
    assert pipeline.dead_letters().num_rows == 0
    pipeline.assert_holds_here()
