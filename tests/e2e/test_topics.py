"""Goal: whatever becomes of a topic, the worker goes on exactly once or stops with a named reason.

Method: real topics are deleted, created again, cut off, compacted, extended and filled by
transactions, before and while a worker reads them. Where an operator has to decide, the decision
is taken on the command line and the proof holds afterwards.
"""

import json
import uuid
from pathlib import Path

import pytest
from confluent_kafka.admin import NewPartitions

from k2i_core.cli.exits import Exit
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.orders import ORDERS
from k2i_core.dev.produce import create_topic, fill
from k2i_core.errors import DataLossError, ErrorKind
from tests.e2e.pipelines import PipelineOnDisk, ended, eventually, write_pipeline
from tests.integration.kafka.source_driver import (
    admin_of,
    delete_records,
    delete_topic,
    produce,
    transactional,
)


def kafka_section(servers: str, **settings) -> dict:
    return {"kafka": {"bootstrap_servers": servers, **settings}}


def accept_gap(pipeline: PipelineOnDisk) -> list[str]:
    """Look first, which changes nothing, then accept."""
    snapshot_id = pipeline.load_table().current_snapshot().snapshot_id
    shown = pipeline.k2i("table", "accept-gap", "--dry-run", "--json")
    assert shown.returncode == Exit.OK, shown.stderr
    assert pipeline.load_table().current_snapshot().snapshot_id == snapshot_id
    accepted = pipeline.k2i("table", "accept-gap", "--yes", "--json")
    assert accepted.returncode == Exit.OK, accepted.stderr
    assert json.loads(shown.stdout)["gap"] == json.loads(accepted.stdout)["gap"]
    return json.loads(accepted.stdout)["gap"]


@pytest.mark.slow
def test_a_topic_created_again_while_stopped_waits_for_an_operator(
    kafka, topic, tmp_path: Path
) -> None:
    name, servers = topic(partition_count=2), kafka.bootstrap_servers
    pipeline = write_pipeline(tmp_path / "again", servers, name)
    fill(servers, name, 500, bad_share=0.02)
    pipeline.ingest_here()
    delete_topic(servers, name)
    create_topic(servers, name, 2)
    fill(servers, name, 700, start_id=1_000, bad_share=0.02)

    refused = pipeline.k2i("ingest", "--until-caught-up", "--port", "0")

    assert refused.returncode == Exit.STOPPED, refused.stderr
    assert name in refused.stderr.splitlines()[-1]
    assert "accept-gap" in refused.stderr.splitlines()[-1]
    assert name in "".join(accept_gap(pipeline))
    pipeline.ingest_here()
    found = pipeline.assert_holds_here()
    assert found["rows"] + found["dead_letters"] == 700
    assert len(pipeline.rows()) + len(pipeline.dead_letters()) == 1_200


@pytest.mark.slow
def test_a_topic_created_again_while_running_is_never_read_as_the_old_one(
    kafka, topic, tmp_path: Path
) -> None:
    name, servers = topic(partition_count=2), kafka.bootstrap_servers
    pipeline = write_pipeline(tmp_path / "live", servers, name, max_age="300ms")
    fill(servers, name, 500)
    worker = pipeline.start_worker()
    with ended(worker):
        worker.wait_for_flushes(1)
        delete_topic(servers, name)
        create_topic(servers, name, 2)
        fill(servers, name, 1_500, start_id=1_000)

        assert worker.process.wait(150) == Exit.STOPPED, worker.tail()
    assert name in worker.last_words()
    assert "accept-gap" in worker.last_words()

    accept_gap(pipeline)
    pipeline.ingest_here()
    assert pipeline.assert_holds_here()["rows"] == 1_500
    ids = pipeline.rows().column("order_id").to_pylist()
    assert len(ids) == len(set(ids))
    assert set(range(1_000, 2_500)) <= set(ids)


def test_offsets_lost_to_retention_are_named_and_accepted(kafka, topic, tmp_path: Path) -> None:
    name, servers = topic(partition_count=1), kafka.bootstrap_servers
    pipeline = write_pipeline(tmp_path / "lost", servers, name)
    fill(servers, name, 100)
    pipeline.ingest_here()
    fill(servers, name, 100, start_id=100)
    delete_records(servers, name, 150)

    refused = pipeline.k2i("ingest", "--until-caught-up", "--port", "0")

    assert refused.returncode == Exit.STOPPED
    assert f"{name}/0: offsets [100,150) were deleted unread" in refused.stderr
    assert accept_gap(pipeline) == [f"{name}/0[100,150): 50 offsets were deleted unread"]
    pipeline.ingest_here()
    (proof,) = pipeline.assert_holds_here()["partitions"]
    assert (proof["rows"], proof["claimed"]["lost"]) == (150, 50)


@pytest.mark.slow
def test_offsets_lost_to_retention_while_running_stop_the_worker(
    kafka, topic, tmp_path: Path
) -> None:
    name, servers = topic(partition_count=1), kafka.bootstrap_servers
    pipeline = write_pipeline(tmp_path / "cut", servers, name, max_age="300ms")
    fill(servers, name, 100)
    worker = pipeline.start_worker()
    with ended(worker):
        worker.wait_for_flushes(1)
        worker.freeze()
        fill(servers, name, 50_000, start_id=100)
        delete_records(servers, name, 50_050)
        worker.thaw()
        assert worker.process.wait(150) == Exit.STOPPED, worker.tail()
    assert "next_offset=" in worker.last_words()
    assert "log_start=50050" in worker.last_words()

    assert len(accept_gap(pipeline)) == 1
    pipeline.ingest_here()
    (proof,) = pipeline.assert_holds_here()["partitions"]
    assert proof["rows"] + proof["claimed"]["lost"] == 50_100


def test_a_gap_that_is_not_there_changes_nothing(kafka, topic, tmp_path: Path) -> None:
    name = topic(partition_count=1)
    pipeline = write_pipeline(tmp_path / "none", kafka.bootstrap_servers, name)
    pipeline.ingest_here()
    snapshot_id = pipeline.load_table().current_snapshot().snapshot_id

    done = pipeline.k2i("table", "accept-gap", "--yes")

    assert (done.returncode, done.stdout) == (Exit.OK, "there is no gap\n")
    assert pipeline.load_table().current_snapshot().snapshot_id == snapshot_id


@pytest.mark.slow
def test_another_cluster_is_refused_and_may_be_accepted(
    kafka, topic, tmp_path: Path, own_kafka: KafkaServer
) -> None:
    name = topic(partition_count=1)
    pipeline = write_pipeline(tmp_path / "moved", kafka.bootstrap_servers, name)
    fill(kafka.bootstrap_servers, name, 100)
    pipeline.ingest_here()
    fill(own_kafka.bootstrap_servers, name, 300, start_id=1_000, partition_count=1)
    moved = write_pipeline(tmp_path / "moved", own_kafka.bootstrap_servers, name)

    with pytest.raises(DataLossError, match="cluster") as caught:
        moved.ingest_here()

    assert caught.value.kind is ErrorKind.CLUSTER_CHANGED
    accept_gap(moved)
    moved.ingest_here()
    assert moved.assert_holds_here()["rows"] == 300
    assert len(moved.rows()) == 400


def test_a_compacted_topic_keeps_its_holes(kafka, topic, tmp_path: Path) -> None:
    name = topic(
        1,
        {
            "cleanup.policy": "compact",
            "segment.ms": "100",
            "min.cleanable.dirty.ratio": "0.01",
            "max.compaction.lag.ms": "100",
        },
    )
    servers = kafka.bootstrap_servers
    pipeline = write_pipeline(tmp_path / "compacted", servers, name)
    values = ORDERS.make(0, 40).values
    for index, value in enumerate(values):
        produce(servers, name, [value if index % 8 else None], key=f"k{index % 4}")
    # However fast the broker compacts: nothing comes after it that would take its place.
    produce(servers, name, [None], key="gone")
    pipeline.ingest_here()
    first = pipeline.assert_holds_here()
    assert first["partitions"][0]["claimed"]["tombstones"] > 0

    for value in ORDERS.make(40, 5).values:
        produce(servers, name, [value], key="k1")
    pipeline.ingest_here()

    found = pipeline.assert_holds_here()
    assert found["rows"] >= first["rows"] + 1
    assert found["partitions"][0]["next_offset"] == 46


def test_records_of_aborted_transactions_never_become_rows(kafka, topic, tmp_path: Path) -> None:
    name = topic(partition_count=1)
    pipeline = write_pipeline(tmp_path / "aborts", kafka.bootstrap_servers, name)
    events = ORDERS.make(0, 100).values
    producer = transactional(kafka.bootstrap_servers, uuid.uuid4().hex)
    for number in range(10):
        producer.begin_transaction()
        for value in events[number * 10 : number * 10 + 10]:
            producer.produce(name, value)
        producer.flush(20)
        if number % 2:
            producer.abort_transaction(20)
        else:
            producer.commit_transaction(20)
        if number == 5:
            pipeline.ingest_here()

    pipeline.ingest_here()

    found = pipeline.assert_holds_here()
    ids = pipeline.rows().column("order_id").to_pylist()
    assert sorted(ids) == [i for i in range(100) if i // 10 % 2 == 0]
    assert found["partitions"][0]["without_record"] == 60


def test_new_kafka_partitions_are_read_from_their_start_after_a_restart(
    kafka, topic, tmp_path: Path
) -> None:
    name, servers = topic(partition_count=1), kafka.bootstrap_servers
    pipeline = write_pipeline(
        tmp_path / "more",
        servers,
        name,
        changes=kafka_section(servers, topics=[name], start="latest"),
    )
    values = list(ORDERS.make(0, 20).values)
    produce(servers, name, values[:5])
    pipeline.ingest_here()
    add_partitions(servers, name, 3)
    produce(servers, name, values[5:10], partition=2)
    produce(servers, name, values[10:], partition=0)

    pipeline.ingest_here()

    assert sorted(pipeline.rows().column("order_id").to_pylist()) == list(range(5, 20))
    assert len(pipeline.assert_holds_here()["partitions"]) == 3


@pytest.mark.slow
def test_new_kafka_partitions_and_matching_topics_are_picked_up_while_running(
    kafka, topic, tmp_path: Path
) -> None:
    name, servers = topic(partition_count=1), kafka.bootstrap_servers
    later = f"{name}-later"
    pipeline = write_pipeline(
        tmp_path / "grow",
        servers,
        name,
        max_age="300ms",
        changes=kafka_section(servers, topic_pattern=f"^{name}"),
    )
    values = list(ORDERS.make(0, 30).values)
    produce(servers, name, values[:5])
    worker = pipeline.start_worker()
    try:
        with ended(worker):
            worker.wait_for_flushes(1)
            add_partitions(servers, name, 2)
            create_topic(servers, later, 2)
            produce(servers, name, values[5:10], partition=1)
            produce(servers, name, values[10:20], partition=0)
            produce(servers, later, values[20:], partition=1)
            worker.wait_for(lambda: worker.metric("k2i_rows_committed_total") == 30, timeout=150)
            assert worker.stop() == Exit.OK, worker.tail()
        assert pipeline.assert_holds_here()["rows"] == 30
    finally:
        admin_of(servers).delete_topics([later])[later].exception(10)


def add_partitions(servers: str, name: str, count: int) -> None:
    admin = admin_of(servers)
    admin.create_partitions([NewPartitions(name, count)])[name].result(10)
    eventually(
        lambda: len(admin.list_topics(name, timeout=10).topics[name].partitions) == count, 20
    )


def test_a_pattern_reads_every_topic_that_matches_and_new_ones_after_a_restart(
    kafka, topic, tmp_path: Path
) -> None:
    names, servers = [topic(1), topic(2)], kafka.bootstrap_servers
    suffix = uuid.uuid4().hex[:8]
    wanted = [f"{suffix}-a", f"{suffix}-b"]
    pipeline = write_pipeline(
        tmp_path / "pattern",
        servers,
        names[0],
        changes=kafka_section(servers, topic_pattern=f"^{suffix}-"),
    )
    fill(servers, names[0], 10)
    try:
        fill(servers, wanted[0], 20, partition_count=1)
        pipeline.ingest_here()
        assert pipeline.assert_holds_here()["rows"] == 20
        fill(servers, wanted[1], 30, partition_count=2)
        pipeline.ingest_here()
        found = pipeline.assert_holds_here()
    finally:
        for deleted in admin_of(servers).delete_topics(wanted).values():
            deleted.exception(10)
    assert found["rows"] == 50
    assert {p["topic"] for p in found["partitions"]} == set(wanted)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("latest", range(10, 15)),
        ({"timestamp": "2026-01-01T00:00:05Z"}, range(5, 15)),
        ({"offsets": {"TOPIC": {0: 7}}}, range(7, 15)),
    ],
    ids=["latest", "timestamp", "offsets"],
)
def test_a_start_policy_decides_once_where_reading_begins(
    kafka, topic, tmp_path: Path, start, expected: range
) -> None:
    name, servers = topic(1, {"retention.ms": "-1"}), kafka.bootstrap_servers
    if isinstance(start, dict) and "offsets" in start:
        start = {"offsets": {name: start["offsets"]["TOPIC"]}}
    pipeline = write_pipeline(
        tmp_path / "start",
        servers,
        name,
        changes=kafka_section(servers, topics=[name], start=start),
    )
    values = ORDERS.make(0, 15).values
    began = 1_767_225_600_000
    for index in range(10):
        produce(servers, name, [values[index]], timestamp=began + 1_000 * index)
    pipeline.ingest_here()
    produce(servers, name, list(values[10:]), timestamp=began + 10_000)

    pipeline.ingest_here()

    assert sorted(pipeline.rows().column("order_id").to_pylist()) == list(expected)
    pipeline.assert_holds_here()


def test_keys_headers_and_timestamps_are_kept_and_tombstones_are_counted(
    kafka, topic, tmp_path: Path
) -> None:
    name, servers = topic(1, {"retention.ms": "-1"}), kafka.bootstrap_servers
    pipeline = write_pipeline(tmp_path / "meta", servers, name)
    value = ORDERS.make(0, 1).values[0]
    headers = [("a", b"\x00\xff"), ("a", None), ("", b"")]
    produce(servers, name, [value], key=b"\xffkey", headers=headers, timestamp=1_767_225_600_123)
    produce(servers, name, [None], key=b"gone")
    produce(servers, name, [b"{"], key=b"bad", headers=headers[:1])

    pipeline.ingest_here()

    (row,) = pipeline.rows().column("_kafka").to_pylist()
    assert (row["topic"], row["partition"], row["offset"]) == (name, 0, 0)
    assert row["key"] == b"\xffkey"
    assert [(h["key"], h["value"]) for h in row["headers"]] == headers
    assert row["timestamp"].isoformat() == "2026-01-01T00:00:00.123000+00:00"
    (dead,) = pipeline.dead_letters().to_pylist()
    assert dead["value"] == b"{"
    assert dead["_kafka"]["offset"] == 2
    assert dead["_kafka"]["key"] == b"bad"
    assert [(h["key"], h["value"]) for h in dead["_kafka"]["headers"]] == headers[:1]
    (proof,) = pipeline.assert_holds_here()["partitions"]
    assert proof["claimed"]["tombstones"] == 1
