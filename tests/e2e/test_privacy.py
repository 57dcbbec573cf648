"""What privacy declares is found plainly in no file that a worker wrote, at no moment.

Goal: no value that is to be protected reaches a disk, a shared memory or a log, not even of records
that cannot be read. Method: every such value has the word plain in it. A worker is killed while its
rows are hot only, another one writes them; then every file below the pipeline's directory is
searched, byte by byte, and what is compressed is read by other libraries.
"""

import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from k2i_core.dead_letters.reading import Selection
from k2i_core.wiring.dead_letters import replay
from tests.conftest import Broker, Registry, TopicFactory
from tests.e2e.pipelines import write_pipeline
from tests.e2e.private_files import PLAIN, assert_nothing_private_is_in_files, ingest_over_a_kill
from tests.integration.kafka.source_driver import produce

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
    records = [*map(person, range(100)), *BROKEN, None]
    private = {"key": b"plain key", "headers": [("plain", b"plain")]}
    produce(kafka.bootstrap_servers, name, records, **private)
    ingest_over_a_kill(pipeline)
    found = pipeline.assert_holds_here()["partitions"][0]["claimed"]
    assert (found["rows"], found["dead_letters"], found["tombstones"]) == (100, 5, 1)
    rows, letters = pipeline.rows(), pipeline.dead_letters()
    assert PLAIN not in repr([*rows.to_pylist(), *letters.to_pylist()]).lower().encode()
    first = min(rows.to_pylist(), key=lambda row: row["id"])
    assert first["card"] == "*" * 15 + "0000"
    assert first["domain"] == first["email"]
    assert first["customer"].keys() == {"name"}
    assert first["_kafka"]["key"] is None

    assert_nothing_private_is_in_files(pipeline)

    # Dead letters without bytes are listed, and say why they stay.
    report = replay(pipeline.settings, Selection())
    assert (report.replayed_count, report.still_failing) == (0, {"bytes_not_kept": 5})
    shown = pipeline.k2i("dead-letters", "show", "--json")
    assert shown.returncode == 0, shown.stderr
    assert "plain" not in shown.stdout


EMAIL = b"plain@example.org"
FIELDS = [{"name": "id", "type": "long"}, {"name": "email", "type": "string"}]
TAGGED = [FIELDS[0], {**FIELDS[1], "confluent:tags": ["PII"]}]
PROTO = """
syntax = "proto3"; import "confluent/meta.proto";
message Person { int64 id = 1; string email = 2 TAGS; }
"""
VERSIONS = {
    "avro": [
        json.dumps({"type": "record", "name": "Person", "fields": f}) for f in (FIELDS, TAGGED)
    ],
    "protobuf": [
        PROTO.replace("TAGS", tags) for tags in ("", '[(confluent.field_meta).tags = "PII"]')
    ],
}


def encoded(language: str, number: int) -> bytes:
    """A person behind the frame's schema id; of Protobuf the file's first message."""
    if language == "avro":
        return bytes([2 * number, 2 * len(EMAIL)]) + EMAIL
    return bytes([0, 8, number, 18, len(EMAIL)]) + EMAIL


@pytest.mark.parametrize("language", VERSIONS)
def test_what_the_registry_s_schema_tags_is_written_protected(
    kafka: Broker, topic: TopicFactory, registry: Registry, tmp_path: Path, language: str
) -> None:
    name = topic()
    values: list[bytes] = []
    with SchemaRegistryClient({"url": registry.url}) as client:
        for number, text in enumerate(VERSIONS[language]):
            schema_id = client.register_schema(f"{name}-value", Schema(text, language.upper()))
            values.append(b"\0" + schema_id.to_bytes(4, "big") + encoded(language, number))
    produce(kafka.bootstrap_servers, name, values)
    pipeline = write_pipeline(
        tmp_path / "tagged",
        kafka.bootstrap_servers,
        name,
        changes={
            "format": {"value": language, "schema_registry": {"url": registry.url}},
            "table": {"identifier": "e2e.tagged"},
            "privacy": {"tags": {"PII": "hash"}, "secret": PRIVACY["secret"]},
        },
    )
    pipeline.ingest_here()
    rows = pipeline.rows().to_pylist()
    digest = hmac.digest(PRIVACY["secret"].encode(), EMAIL, "sha256").hex()
    # The older schema has no tags, but the latest one was known before.
    assert sorted((row["id"], row["email"]) for row in rows) == [(0, digest), (1, digest)]
