"""Goal: exactly the bad records become dead letters, whatever lies beside them, and what the
pipeline says about unknown fields is done.

Method: real Kafka, real tables. Records are put where one poll takes them together, the bad ones
at known offsets; afterwards rows, dead letters, columns and the proof are looked at.
"""

import json
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from k2i_core.cli.exits import Exit
from k2i_core.dev.orders import ORDERS
from k2i_core.dev.produce import create_topic, fill
from k2i_core.errors import IncompatibleSchemaError
from k2i_core.ledger import Share
from k2i_core.wiring.settings import catalog_opener
from tests.e2e.pipelines import PipelineOnDisk, ended, write_pipeline
from tests.integration.kafka.source_driver import produce

POISON = [
    b"",
    b"{",
    b"nonsense",
    b"[1]",
    b'{"id": 1} {"id": 2}',
    b'{"id": 1}\n{"id": 2}',
    b'{"id": 1, "id": 2}',
    b'{"id": null}',
    b"{}",
    b'{"id": "\xff"}',
    b'{"id": 1, "amount": NaN}',
    b'{"id": 9223372036854775808}',
    b'{"id": 1, "at": "yesterday"}',
    b'{"id": 1, "amount": 12345678901.00}',
    b'{"id": 1, "items": ' + b"[" * 500 + b"]" * 500 + b"}",
    b"},{",
]

COLUMNS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "amount", "type": "decimal(10, 2)"},
    {"name": "at", "type": "timestamptz"},
    {"name": "items", "type": "list<struct<sku: string, count: int>>"},
]


def good(number: int) -> bytes:
    return json.dumps(
        {
            "id": number,
            "amount": f"{number}.25",
            "at": "2026-01-01T00:00:00Z",
            "items": [{"sku": f"s{number}", "count": number}],
        }
    ).encode()


def pipeline_of(
    directory: Path, servers: str, topic: str, columns: list[dict] | None, **table
) -> PipelineOnDisk:
    written = {"identifier": f"e2e.{directory.name}", **table}
    if columns is not None:
        written["columns"] = columns
    return write_pipeline(directory, servers, topic, changes={"table": written})


def test_exactly_the_bad_ones_of_every_batch_size_become_dead_letters(
    kafka, topic, tmp_path: Path
) -> None:
    name, servers = topic(1), kafka.bootstrap_servers
    pipeline = pipeline_of(tmp_path / "poison", servers, name, COLUMNS, schema_evolution="strict")
    bad_offsets: set[int] = set()
    offset = 0
    for size in (1, 2, 3, 16, 17, 100, 1_000):
        # A bad record in the middle of every batch of this size, and sizes of one are all bad.
        values = [good(offset + index) for index in range(size)]
        values[size // 2] = POISON[offset % len(POISON)]
        bad_offsets.add(offset + size // 2)
        produce(servers, name, values)
        offset += size
        pipeline.ingest_here()
    produce(servers, name, POISON)
    bad_offsets |= set(range(offset, offset + len(POISON)))
    pipeline.ingest_here()

    dead = pipeline.dead_letters().sort_by([("first_seen", "ascending")]).to_pylist()
    assert {d["_kafka"]["offset"] for d in dead} == bad_offsets
    assert len(dead) == len(bad_offsets)
    by_offset = {d["_kafka"]["offset"]: d["value"] for d in dead}
    assert [by_offset[offset + i] for i in range(len(POISON))] == POISON
    rows = pipeline.rows().to_pylist()
    assert all(row["id"] == row["_kafka"]["offset"] for row in rows)
    assert all(row["items"] == [{"sku": f"s{row['id']}", "count": row["id"]}] for row in rows)
    assert sorted(row["id"] for row in rows) == sorted(set(range(offset)) - bad_offsets)
    pipeline.assert_holds_here()


def test_an_unknown_field_is_a_dead_letter_under_strict(kafka, topic, tmp_path: Path) -> None:
    name, servers = topic(1), kafka.bootstrap_servers
    pipeline = pipeline_of(tmp_path / "strict", servers, name, COLUMNS, schema_evolution="strict")
    produce(servers, name, [b'{"id": 0}', b'{"id": 1, "new": 1}', b'{"id": 2}'])

    pipeline.ingest_here()

    assert sorted(pipeline.rows().column("id").to_pylist()) == [0, 2]
    (dead,) = pipeline.dead_letters().to_pylist()
    assert dead["value"] == b'{"id": 1, "new": 1}'
    assert pipeline.rows().column_names == ["id", "amount", "at", "items", "_kafka"]


@pytest.mark.slow
def test_columns_are_added_and_widened_while_two_workers_run(kafka, topic, tmp_path: Path) -> None:
    name, servers = topic(2), kafka.bootstrap_servers
    columns = [
        {"name": "id", "type": "long", "required": True},
        {"name": "n", "type": "int"},
        {"name": "f", "type": "float"},
        {"name": "s", "type": "struct<a: int>"},
    ]
    pipeline = pipeline_of(tmp_path / "evolve", servers, name, columns)
    workers = [pipeline.start_worker(f"{i}/2") for i in range(2)]
    with ended(*workers):
        for partition in range(2):
            produce(
                servers,
                name,
                [b'{"id": %d, "n": 1, "s": {"a": 1}}' % partition],
                partition=partition,
            )
        for worker in workers:
            worker.wait_for_flushes(1)
        for partition in range(2):
            widening = [
                b'{"id": 10, "n": 5000000000}',
                b'{"id": 11, "s": {"a": 5000000000, "b": "new"}}',
                b'{"id": 12, "f": 1.5, "extra": {"x": [1, 2]}, "p%d": true}' % partition,
                b"not json",
                b'{"id": 13}',
            ]
            produce(servers, name, widening, partition=partition)
        for worker in workers:
            worker.wait_for(lambda w=worker: w.metric("k2i_rows_committed_total") >= 5, timeout=150)
        for worker in workers:
            assert worker.stop() == Exit.OK, worker.tail()

    found = pipeline.assert_holds_here()
    assert (found["rows"], found["dead_letters"]) == (10, 2)
    rows = pipeline.rows()
    assert rows.schema.field("n").type == pa.int64()
    by_id = {row["id"]: row for row in rows.to_pylist()}
    assert by_id[10]["n"] == 5_000_000_000
    assert by_id[11]["s"] == {"a": 5_000_000_000, "b": "new"}
    assert by_id[12]["extra"] == {"x": [1, 2]}
    assert {"p0", "p1"} <= set(rows.column_names)
    assert by_id[0]["s"] == {"a": 1, "b": None}


def test_two_workers_with_another_worker_s_columns_at_once(kafka, topic, tmp_path: Path) -> None:
    name, servers = topic(2), kafka.bootstrap_servers
    pipeline = pipeline_of(tmp_path / "both", servers, name, COLUMNS[:1])
    for partition in range(2):
        values = [
            b'{"id": %d, "p%d_%d": 1, "common": %d}' % (i, partition, i % 20, i) for i in range(200)
        ]
        produce(servers, name, values, partition=partition)
    failures: list[BaseException] = []

    def ingest(worker: int) -> None:
        try:
            pipeline.ingest_here(Share(worker, 2))
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=ingest, args=(worker,)) for worker in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert pipeline.assert_holds_here()["rows"] == 400
    assert len(pipeline.rows().column_names) == 1 + 1 + 40 + 1


def test_columns_are_inferred_from_the_first_records(kafka, topic, tmp_path: Path) -> None:
    name, servers = topic(1), kafka.bootstrap_servers
    pipeline = pipeline_of(tmp_path / "inferred", servers, name, None)
    produce(
        servers,
        name,
        [
            None,
            b"broken",
            b'{"id": 1, "name": "a", "ok": true, "x": 1.5, "tags": ["t"], "o": {"k": 1}}',
            b'{"id": 2, "later": 1}',
        ],
    )

    pipeline.ingest_here()
    produce(servers, name, [b'{"id": 3, "much_later": "x"}'])
    pipeline.ingest_here()

    rows = pipeline.rows()
    assert rows.column("id").to_pylist() == [1, 2, 3] or sorted(rows["id"].to_pylist()) == [1, 2, 3]
    assert {"name", "ok", "x", "tags", "o", "later", "much_later"} < set(rows.column_names)
    found = pipeline.assert_holds_here()
    assert (found["rows"], found["dead_letters"]) == (3, 1)


@pytest.mark.slow
def test_a_worker_waits_for_first_records_and_can_be_stopped_meanwhile(
    kafka, topic, tmp_path: Path
) -> None:
    name, servers = topic(1), kafka.bootstrap_servers
    pipeline = pipeline_of(tmp_path / "waiting", servers, name, None)
    waiting = pipeline.start_worker()
    with ended(waiting):
        waiting.wait_for(lambda: "waiting for first records" in waiting.tail())
        assert waiting.stop() == Exit.OK, waiting.tail()
    worker = pipeline.start_worker()
    with ended(worker):
        worker.wait_for(lambda: "waiting for first records" in worker.tail())
        produce(servers, name, [b'{"id": 1}'])
        worker.wait_for_flushes(1)
        assert worker.stop() == Exit.OK, worker.tail()
    assert pipeline.assert_holds_here()["rows"] == 1


def test_an_existing_table_that_fits_is_adopted_with_its_rows(kafka, topic, tmp_path: Path) -> None:
    name, servers = topic(1), kafka.bootstrap_servers
    pipeline = pipeline_of(tmp_path / "adopt", servers, name, COLUMNS)
    catalog = catalog_opener(pipeline.settings)()
    catalog.create_namespace("e2e")
    table = catalog.create_table(
        pipeline.table,
        pa.schema([("id", pa.int64()), ("theirs", pa.string())]),
        properties={"format-version": "2"},
    )
    table.append(pa.table({"id": [100], "theirs": ["kept"]}))
    produce(servers, name, [good(1), b"bad", good(2)])

    pipeline.ingest_here()

    found = pipeline.assert_holds_here()
    assert (found["rows"], found["dead_letters"], found["foreign_rows"]) == (2, 1, 1)
    rows = {row["id"]: row for row in pipeline.rows().to_pylist()}
    assert rows[100]["theirs"] == "kept"
    assert rows[1]["items"] == [{"sku": "s1", "count": 1}]


def test_an_existing_table_that_does_not_fit_is_refused_column_by_column(
    kafka, topic, tmp_path: Path
) -> None:
    name, servers = topic(1), kafka.bootstrap_servers
    pipeline = pipeline_of(tmp_path / "refuse", servers, name, COLUMNS)
    catalog = catalog_opener(pipeline.settings)()
    catalog.create_namespace("e2e")
    before = catalog.create_table(
        pipeline.table, pa.schema([("id", pa.string()), ("amount", pa.decimal128(10, 3))])
    )
    produce(servers, name, [good(1)])

    with pytest.raises(IncompatibleSchemaError) as caught:
        pipeline.ingest_here()
    done = pipeline.k2i("ingest", "--until-caught-up", "--port", "0")

    assert "id" in str(caught.value)
    assert "amount" in str(caught.value)
    assert done.returncode == Exit.STOPPED
    assert done.stderr.splitlines()[-1] == f"k2i: {caught.value}"
    assert pipeline.load_table().schema() == before.schema()


@pytest.mark.parametrize(
    ("format_name", "good_value", "bad_value"),
    [("string", "grüße".encode(), b"\xff\xfe"), ("raw", b"\x00\xff", None)],
)
def test_text_and_bytes_become_one_column(
    kafka, topic, tmp_path: Path, format_name: str, good_value: bytes, bad_value: bytes | None
) -> None:
    name, servers = topic(1), kafka.bootstrap_servers
    pipeline = write_pipeline(
        tmp_path / format_name,
        servers,
        name,
        changes={
            "format": {"value": format_name, "key": "string"},
            "table": {"identifier": f"e2e.{format_name}"},
        },
    )
    produce(servers, name, [good_value, b"", None], key=b"ok")
    if bad_value is not None:
        produce(servers, name, [bad_value], key=b"ok")
    produce(servers, name, [good_value], key=b"\xff")

    pipeline.ingest_here()

    expected = [good_value, b""]
    values = pipeline.rows().column("value").to_pylist()
    assert [v.encode() if isinstance(v, str) else v for v in values] == expected
    found = pipeline.assert_holds_here()
    assert found["partitions"][0]["claimed"]["tombstones"] == 1
    assert found["dead_letters"] == (2 if bad_value is not None else 1)


def test_two_topics_share_a_table(kafka, topic, tmp_path: Path) -> None:
    names, servers = [topic(1), topic(2)], kafka.bootstrap_servers
    pipeline = write_pipeline(
        tmp_path / "two",
        servers,
        names[0],
        changes={"kafka": {"bootstrap_servers": servers, "topics": names}},
    )
    for index, name in enumerate(names):
        create_topic(servers, name, 1)
        fill(servers, name, 200, event_set=ORDERS, start_id=1_000 * index, bad_share=0.02)

    pipeline.ingest_here()

    found = pipeline.assert_holds_here()
    assert found["rows"] + found["dead_letters"] == 400
    assert {p["topic"] for p in found["partitions"]} == set(names)
