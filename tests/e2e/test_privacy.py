"""What privacy declares is found plainly in no file that a worker wrote, at no moment.

Goal: no value that is to be protected reaches a disk, a shared memory or a log, not even of records
that cannot be read. Method: every such value has the word plain in it. A worker is killed while its
rows are hot only, another one writes them; then every file below the pipeline's directory is
searched, byte by byte, and what is compressed is read by other libraries. A word that may be
written is searched for, too, so that a search that finds nothing says something.
"""

import hmac
import json
from pathlib import Path
from typing import Any

import fastavro
import yaml
from confluent_kafka import Producer
from confluent_kafka.schema_registry import (
    Schema,
    SchemaRegistryClient,
    topic_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from k2i_core.dead_letters.reading import Selection
from k2i_core.wiring.dead_letters import replay
from tests.conftest import Broker, Registry, TopicFactory
from tests.e2e.pipelines import PipelineOnDisk, write_pipeline

COLUMNS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "email", "type": "string"},
    {"name": "card", "type": "string"},
    {"name": "city", "type": "string"},
    {"name": "age", "type": "string"},
    {"name": "customer", "type": "struct<name: string, note: string>"},
]
PRIVACY: dict[str, Any] = {
    "columns": {
        "email": "hash",
        "card": "mask",
        "customer.name": "tokenise",
        "customer.note": "drop",
        "age": "redact",
        "greeting": "redact",
    },
    "secret": "not so plainly written anywhere",
}
TRANSFORMS = [
    {"cast": {"id": "int"}},
    {"constant": {"greeting": "plain constant"}},
    {"sql": {"domain": "lower(email)"}},
]
PLAIN, SEEN = b"plain", b"marker"


def person(number: int, **more: Any) -> bytes:
    record = {
        "id": number,
        "email": f"plain{number}@example.org",
        "card": f"plain4111111111{number:04}",
        "city": f"marker {number}",
        "age": "plainly 42",
        "customer": {"name": f"Ann Plain {number} plain", "note": "plain"},
    }
    return json.dumps(record | more).encode()


BROKEN = [
    b'{"id": 1, "email": "plain broken',
    b"\xff plain",
    person(2, age={"plain": "plain"}),
    person(3_000_000_000),
    person(4, unknown=["plain"]),
]


def send(kafka: Broker, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    for value in [*map(person, range(100)), *BROKEN, None]:
        producer.produce(topic, value, key=b"plain key", headers=[("plain", b"plain")])
    assert producer.flush(30) == 0


def files_with(directory: Path, word: bytes) -> list[Path]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [path for path in files if word in path.read_bytes() or word in unpacked(path)]


def unpacked(path: Path) -> bytes:
    """Return what stands in a manifest; rows of Parquet files are read as tables."""
    if path.suffix != ".avro":
        return b""
    with path.open("rb") as file:
        return repr(list(fastavro.reader(file))).encode()


def hot_with(pipeline: PipelineOnDisk, word: bytes) -> list[Path]:
    return files_with(pipeline.directory / "hot", word)


def test_nothing_private_is_in_any_file_that_a_worker_wrote(
    kafka: Broker, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic()
    pipeline = write_pipeline(
        tmp_path / "private",
        kafka.bootstrap_servers,
        name,
        max_age="1h",
        changes={
            "table": {
                "identifier": "e2e.private",
                "columns": COLUMNS,
                "schema_evolution": "strict",
                "partition_by": ["bucket(2, email)"],
                "properties": {"write.parquet.compression-codec": "none"},
            },
            "transforms": TRANSFORMS,
            "privacy": PRIVACY,
        },
    )
    settings = pipeline.path
    private = yaml.safe_load(settings.read_text())
    send(kafka, name)
    worker = pipeline.start_worker()
    worker.wait_for(lambda: bool(hot_with(pipeline, SEEN)))
    worker.process.kill()
    worker.process.wait()
    assert not hot_with(pipeline, PLAIN)

    settings.write_text(yaml.safe_dump(private | {"flush": {"max_age": "500ms"}}))
    pipeline.ingest_here()
    found = pipeline.assert_holds_here()["partitions"][0]["claimed"]
    assert (found["rows"], found["dead_letters"], found["tombstones"]) == (100, 5, 1)
    rows, letters = pipeline.rows(), pipeline.dead_letters()
    assert PLAIN not in repr([*rows.to_pylist(), *letters.to_pylist()]).lower().encode()
    first = min(rows.to_pylist(), key=lambda row: row["id"])
    assert first["card"] == "*" * 15 + "0000"
    assert first["domain"] == first["email"]
    assert first["customer"].keys() == {"name"}
    assert first["_kafka"]["key"] is None

    settings.unlink()  # The one file that may say it.
    assert files_with(pipeline.directory, SEEN)
    assert not files_with(pipeline.directory, PLAIN)

    # Dead letters without bytes are listed, and say why they stay.
    settings.write_text(yaml.safe_dump(private))
    report = replay(pipeline.settings, Selection())
    assert (report.replayed_count, report.still_failing) == (0, {"bytes_not_kept": 5})
    shown = pipeline.k2i("dead-letters", "show", "--json")
    assert shown.returncode == 0, shown.stderr
    assert "plain" not in shown.stdout


def test_what_the_registry_s_schema_tags_is_written_protected(
    kafka: Broker, topic: TopicFactory, registry: Registry, tmp_path: Path
) -> None:
    name = topic()
    fields = [{"name": "id", "type": "long"}, {"name": "email", "type": "string"}]
    tagged = [fields[0], {**fields[1], "confluent:tags": ["PII"]}]
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    with SchemaRegistryClient({"url": registry.url}) as client:
        for number, listed in enumerate((fields, tagged)):
            schema = json.dumps({"type": "record", "name": "Person", "fields": listed})
            conf = {"subject.name.strategy": topic_subject_name_strategy}
            encode = AvroSerializer(client, Schema(schema, "AVRO"), conf=conf)
            context = SerializationContext(name, MessageField.VALUE)
            producer.produce(name, encode({"id": number, "email": "plain@example.org"}, context))
    assert producer.flush(30) == 0
    pipeline = write_pipeline(
        tmp_path / "tagged",
        kafka.bootstrap_servers,
        name,
        changes={
            "format": {"value": "avro", "schema_registry": {"url": registry.url}},
            "table": {"identifier": "e2e.tagged"},
            "privacy": {"tags": {"PII": "hash"}, "secret": PRIVACY["secret"]},
        },
    )
    pipeline.ingest_here()
    rows = pipeline.rows().to_pylist()
    digest = hmac.digest(PRIVACY["secret"].encode(), b"plain@example.org", "sha256").hex()
    # The older schema has no tags, but the latest one was known before.
    assert [row["email"] for row in rows] == [digest, digest]
