"""Goal: an outage of broker or catalog ends nothing, shows while it lasts, and costs no row.

Method: real services are killed for twenty seconds and frozen until it shows, while a producer
sends and a worker runs. A proxy throws the catalog's answers to commits away. Another program
changes the same table as fast as it can.
"""

import asyncio
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import CommitFailedException

from k2i_core.cli.exits import Exit
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.object_store import ObjectStore
from k2i_core.dev.orders import ORDERS
from k2i_core.dev.produce import create_topic, fill
from k2i_core.wiring.settings import catalog_opener
from tests.e2e.pipelines import WorkerProcess, ended, producing, write_pipeline
from tests.integration.kafka.source_driver import produce
from tests.services.faults import FaultProxy

OUTAGE_SECONDS = 20.0


def assert_shows(worker: WorkerProcess, check: str, *, ok: bool, others: tuple[str, ...]) -> None:
    """Wait until the check says so; liveness and the other checks are not touched by it."""

    def is_shown() -> bool:
        assert worker.ask("/healthz")[0] == 200, worker.ask("/healthz")
        checks = worker.checks()
        for other in others:
            assert checks[other]["ok"], checks
        assert checks[check]["ok"] or checks[check]["detail"]
        return checks[check]["ok"] is ok

    # Each look is two requests, and an outage that shows takes long.
    worker.wait_for(is_shown, timeout=45, look_seconds=0.5)
    assert (worker.ask("/readyz")[0] == 200) is ok


def outlast(worker: WorkerProcess, service: KafkaServer | ObjectStore, check: str) -> None:
    """Kill the service for a while, then freeze it until it shows; rows flow again after both."""
    others = tuple({"loop", "broker", "catalog"} - {check})
    worker.wait_for_flushes(1)
    worker.wait_for(lambda: worker.ask("/readyz")[0] == 200, timeout=45)

    down = time.monotonic()
    service.kill()
    assert_shows(worker, check, ok=False, others=others)
    time.sleep(max(0.0, down + OUTAGE_SECONDS - time.monotonic()))
    service.start()
    assert_shows(worker, check, ok=True, others=others)
    worker.wait_for_flushes(worker.flush_count() + 2)

    service.suspend()
    try:
        assert_shows(worker, check, ok=False, others=others)
    finally:
        service.resume()
    assert_shows(worker, check, ok=True, others=others)
    worker.wait_for_flushes(worker.flush_count() + 2)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_broker_that_is_gone_or_hangs_costs_nothing(
    own_kafka: KafkaServer, tmp_path: Path
) -> None:
    servers = own_kafka.bootstrap_servers
    create_topic(servers, "events", 2)
    pipeline = write_pipeline(tmp_path / "broker", servers, "events", max_age="300ms")
    with producing(servers, "events", 200) as producer:
        worker = pipeline.start_worker()
        with ended(worker):
            outlast(worker, own_kafka, "broker")
            assert worker.stop() == Exit.OK, worker.tail()

    pipeline.ingest_here()
    found = pipeline.assert_holds_here()
    assert found["rows"] + found["dead_letters"] == producer.next_id


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_catalog_and_store_that_are_gone_or_hang_cost_nothing(
    kafka, topic, own_object_store: ObjectStore, tmp_path: Path
) -> None:
    store, name = own_object_store, topic(partition_count=2)
    pipeline = write_pipeline(
        tmp_path / "catalog",
        kafka.bootstrap_servers,
        name,
        max_age="300ms",
        changes={"catalog": store.catalog_properties()},
    )
    with producing(kafka.bootstrap_servers, name, 200) as producer:
        worker = pipeline.start_worker()
        with ended(worker):
            outlast(worker, store, "catalog")
            assert worker.stop() == Exit.OK, worker.tail()

    pipeline.ingest_here()
    found = pipeline.assert_holds_here()
    assert found["rows"] + found["dead_letters"] == producer.next_id


class CommitAnswerLoser(FaultProxy):
    """From the next commit request on, no answer gets through, until it is healed."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__(upstream_port)
        self.armed = threading.Event()
        self.lost = threading.Event()

    async def _pass_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.armed.is_set() and data.startswith(b"POST ") and b"/tables/" in data:
                self.armed.clear()
                self.lose_answers()
                self.lost.set()
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@pytest.mark.slow
def test_a_commit_whose_answer_is_lost_is_not_doubled(
    kafka, topic, object_store: ObjectStore, tmp_path: Path, namespace: str
) -> None:
    name = topic(partition_count=1)
    with CommitAnswerLoser(int(object_store.catalog_uri.rpartition(":")[2])) as proxy:
        pipeline = write_pipeline(
            tmp_path / "lost",
            kafka.bootstrap_servers,
            name,
            max_age="200ms",
            changes={
                "catalog": object_store.catalog_properties(catalog_uri=proxy.url),
                "table": {"identifier": f"{namespace}.t", "columns": list(ORDERS.columns)},
            },
        )
        worker = pipeline.start_worker()
        with ended(worker):
            worker.wait_for(lambda: "took over" in worker.tail())
            for round_number in range(5):
                flush_count = worker.flush_count()
                proxy.armed.set()
                fill(kafka.bootstrap_servers, name, 100, start_id=100 * round_number)
                assert proxy.lost.wait(30), worker.tail()
                proxy.lost.clear()
                time.sleep(1.0)  # the catalog does what it was asked, and nobody hears of it
                assert worker.flush_count() == flush_count
                proxy.heal()
                worker.wait_for(lambda n=round_number: worker.row_count() == 100 * (n + 1))
            assert worker.stop() == Exit.OK, worker.tail()
        assert pipeline.assert_holds_here()["rows"] == 500


@pytest.mark.slow
def test_a_storm_of_foreign_commits_delays_and_loses_nothing(kafka, topic, tmp_path: Path) -> None:
    name, servers = topic(partition_count=1), kafka.bootstrap_servers
    columns = [{"name": "id", "type": "long"}]
    pipeline = write_pipeline(
        tmp_path / "storm",
        servers,
        name,
        max_age="300ms",
        changes={"table": {"identifier": "e2e.storm", "columns": columns}},
    )
    produce(servers, name, [b'{"id": 0}'])
    pipeline.ingest_here()
    stop = threading.Event()
    counts = {"properties": 0, "rows": 0}

    def storm() -> None:
        table = catalog_opener(pipeline.settings)().load_table(pipeline.table)
        while not stop.is_set():
            try:
                table.refresh()
                if counts["properties"] % 5 == 4:
                    # PyIceberg's own append cannot write an absent `_kafka`.
                    path = tmp_path / f"foreign-{counts['properties']}-{counts['rows']}.parquet"
                    pq.write_table(pa.table({"id": [-1]}), path)
                    table.add_files([str(path)])
                    counts["rows"] += 1
                with table.transaction() as transaction:
                    transaction.set_properties(storm=str(counts["properties"]))
                counts["properties"] += 1
            except CommitFailedException:
                continue

    storming = threading.Thread(target=storm)
    worker = pipeline.start_worker()
    with ended(worker):
        storming.start()
        try:
            for number in range(1, 9):
                flush_count = worker.flush_count()
                produce(servers, name, [b'{"id": %d}' % number] * 50)
                worker.wait_for_flushes(flush_count + 1)
        finally:
            stop.set()
            storming.join()
        retry_count = worker.metric("k2i_commit_retries_total")
        assert worker.stop() == Exit.OK, worker.tail()

    found = pipeline.assert_holds_here()
    assert (found["rows"], found["foreign_rows"]) == (401, counts["rows"])
    assert counts["rows"] > 0
    assert retry_count > 0, counts
