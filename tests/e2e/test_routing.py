"""Goal: one topic fills several tables, each exactly once, whatever dies on the way.

Method: real workers on real Kafka with a file of four tables, one of them made by what records
say; kills at the steps that only several tables have, then `kill -9` at any time under load. At the
end each table proves itself, and together they hold every record of the topic once.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pytest
from confluent_kafka import Producer

from k2i_core.crash_points import CrashPoint
from tests.e2e.pipelines import PipelineOnDisk, ended, write_pipeline
from tests.services.warm_python import warm_python

TABLES = [
    {
        "identifier": "shop.orders",
        "match": {"field": "type", "pattern": "order"},
        "columns": [{"name": "id", "type": "long"}, {"name": "type", "type": "string"}],
        "partition_by": ["bucket(2, id)"],
    },
    {"identifier": "shop.marked", "match": {"header": "mark", "pattern": "yes"}},
    {"identifier": "shop.seen-{value}", "match": {"field": "type", "pattern": "[a-z]+"}},
    {"identifier": "shop.rest"},
]
DEAD_LETTERS = "shop.dead_letters"


def records(start: int, count: int) -> Iterator[tuple[bytes | None, dict[str, bytes]]]:
    kinds = ("order", "order", "payment", "return", "Other")
    for number in range(start, start + count):
        value = f'{{"id": {number}, "type": "{kinds[number % len(kinds)]}"}}'.encode()
        if number % 41 == 0:
            value = b'{"id": "not a number", "type": "order"}'
        if number % 43 == 0:
            value = b"no json"
        yield (
            None if number % 47 == 0 else value,
            {"mark": b"yes"} if number % 29 == 0 else {"else": b"1"},
        )


def produce(bootstrap_servers: str, topic: str, start: int, count: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    for value, headers in records(start, count):
        producer.produce(topic, value, headers=list(headers.items()))
        producer.poll(0)
    assert producer.flush(60) == 0


def write(directory: Path, bootstrap_servers: str, topic: str, **changes) -> PipelineOnDisk:
    settings = {"tables": TABLES, "dead_letters": {"table": DEAD_LETTERS}, **changes}
    return write_pipeline(directory, bootstrap_servers, topic, changes=settings)


def assert_every_record_is_in_one_place(pipeline: PipelineOnDisk, count: int) -> Counter[str]:
    """Compare all tables with what was produced, offset by offset."""
    found = pipeline.verification()
    assert found["holds"], [table["findings"] for table in found["tables"]]
    names = [table["table"] for table in found["tables"]]
    places: Counter[tuple[int, int]] = Counter()
    sizes: Counter[str] = Counter()
    for name in (*names, DEAD_LETTERS):
        kafka = pipeline.load_table(name).scan().to_arrow().column("_kafka").combine_chunks()
        offsets = (pc.struct_field(kafka, part).to_pylist() for part in ("partition", "offset"))
        places.update(zip(*offsets, strict=True))
        sizes[name] = len(kafka)
    tombstones = sum(value is None for value, _ in records(0, count))
    assert set(places.values()) == {1}
    assert len(places) == count - tombstones
    return sizes


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_record_is_in_one_table_whatever_dies(kafka, topic, tmp_path: Path) -> None:
    name = topic(partition_count=3)
    pipeline = write(tmp_path / "routing", kafka.bootstrap_servers, name)
    plan = [
        (CrashPoint.TARGET_TAKEN_OVER, 2),  # some tables know the worker, others do not
        (CrashPoint.TARGET_COMMITTED, 1),  # the lead is past records that are others'
        (CrashPoint.TARGET_TAKEN_OVER, 5),  # a table was made by what a record says
    ]
    next_id, batch = 0, 400
    for point, occurrence in plan:
        produce(kafka.bootstrap_servers, name, next_id, batch)
        next_id += batch
        command = ("tests.e2e.crashing_worker", str(pipeline.path), "0/1")
        died = warm_python().run(*command, point.value, str(occurrence))
        assert died.returncode == -9, f"{point} was not reached: {died.stderr[-3000:]}"
    for _ in range(2):
        worker = pipeline.start_worker()
        with ended(worker):
            worker.wait_for_flushes(1)
            produce(kafka.bootstrap_servers, name, next_id, batch)
            next_id += batch
            worker.kill()
    pipeline.ingest_until_caught_up()

    sizes = assert_every_record_is_in_one_place(pipeline, next_id)
    assert sizes.keys() >= {"shop.orders", "shop.marked", "shop.rest", "shop.seen-payment"}
    assert all(sizes.values()), sizes
    assert list((tmp_path / "routing" / "state").rglob("*.txlog")) == []
    logs = "".join(log.read_text() for log in pipeline.directory.glob("worker-*.log"))
    assert "flush committed" in logs
    assert "hot rows are in trouble" not in logs
    hot = pipeline.k2i("query", "--table", "shop.seen-return", "--format", "json", "SELECT 1 AS n")
    assert hot.returncode == 0, hot.stderr
    refused = pipeline.k2i("query", "SELECT 1")
    assert refused.returncode == 2
    assert "--table is required; it has shop.orders" in refused.stderr
