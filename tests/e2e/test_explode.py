"""Records that become several rows each: ingested, read hot, killed, replayed, proven.

Goal: each record's rows are in the table all and once, whoever reads and whatever dies; a row that
is lost is found. Method: a real broker and a worker that is killed with hot rows; dead letters that
fit today's steps are replayed; then another program takes one row away.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import k2i_core.query
from k2i_core.dead_letters.reading import Selection
from k2i_core.errors import ConfigError
from k2i_core.wiring.dead_letters import replay
from k2i_core.wiring.table_audit import audit_table
from tests.e2e.pipelines import PipelineOnDisk, ended, eventually, write_pipeline
from tests.integration.kafka.source_driver import produce

TABLE = {
    "identifier": "e2e.exploded",
    "columns": [
        {"name": "order_id", "type": "long", "required": True},
        {"name": "items", "type": "list<struct<sku: string, quantity: string>>"},
    ],
    # Rows of one record lie in several files.
    "partition_by": ["bucket(4, items_sku)"],
}
EXPLODE: dict[str, Any] = {"explode": {"column": "items", "max_rows": 5}}
TRANSFORMS: list[dict[str, Any]] = [
    EXPLODE,
    {"flatten": ["items"]},
    {"cast": {"items_quantity": "long"}},
]


def order(number: int, count: int, **bad: str) -> bytes:
    """An order of some items, of which `bad` says what is wrong with one of them."""
    items = [{"sku": f"s{n}", "quantity": bad.get(f"s{n}", "1")} for n in range(count)]
    return json.dumps({"order_id": number, "items": items}).encode()


def counts(start: int, end: int) -> Counter[int]:
    """Order → rows; every fifth order has no items."""
    return Counter({n: n % 5 for n in range(start, end) if n % 5})


def assert_whole(rows: pa.Table, expected: Counter[int]) -> None:
    assert Counter(rows["order_id"].to_pylist()) == expected
    found = {(row["order_id"], row["_kafka_item"]["number"]) for row in rows.to_pylist()}
    assert found == {(one, number) for one, count in expected.items() for number in range(count)}
    for row in rows.to_pylist():
        assert row["_kafka_item"]["count"] == expected[row["order_id"]]
        assert row["items_sku"] == f"s{row['_kafka_item']['number']}"


def assert_proven(pipeline: PipelineOnDisk, expected: Counter[int], **claimed: int) -> None:
    assert_whole(pipeline.rows(), expected)
    found = pipeline.assert_holds_here()
    assert found["rows"] == expected.total()
    sums = {name: sum(p["claimed"][name] for p in found["partitions"]) for name in claimed}
    assert sums == claimed
    audit = audit_table(pipeline.settings, None)
    assert audit.holds, audit.answers


def test_records_of_several_rows_are_exactly_once_hot_and_committed_killed_and_replayed(
    kafka, topic, tmp_path: Path
) -> None:
    name, servers = topic(2), kafka.bootstrap_servers
    pipeline = write_pipeline(
        tmp_path / "exploded",
        servers,
        name,
        max_age="60s",
        changes={"table": TABLE, "transforms": TRANSFORMS},
    )
    produce(servers, name, [order(n, n % 5) for n in range(50)])
    bad = [order(900, 6), order(901, 3, s1="many"), b"{", None]
    produce(servers, name, bad, partition=1)
    pipeline.ingest_here()
    rows = counts(0, 50)
    claims = {"rows": 40, "dead_letters": 3, "filtered": 10, "tombstones": 1, "extra_rows": 60}
    assert_proven(pipeline, rows, **claims)
    marked = audit_table(pipeline.settings, None).state

    worker = pipeline.start_worker()
    with ended(worker), k2i_core.query.open(pipeline.path) as reader:
        worker.wait_for(lambda: "took over" in worker.tail())
        # The first generation is committed early; what comes after it stays hot.
        produce(servers, name, [order(50, 4)], key=b"k50")
        worker.wait_for_flushes(1)
        produce(servers, name, [order(n, n % 5) for n in range(51, 80)], key=b"hot")
        table, fresh = reader.table(), rows + Counter({50: 4}) + counts(51, 80)
        eventually(lambda: table.view().hot_row_count == counts(51, 80).total())
        assert_whole(table.scan().read_all(), fresh)
        assert table.lookup(b"k50")["items_sku"].to_pylist() == ["s0", "s1", "s2", "s3"]
        assert table.lookup(b"hot")["order_id"].to_pylist() == [79] * 4
        worker.kill()
    pipeline.ingest_here()
    rows = fresh
    assert_proven(pipeline, rows, dead_letters=3, filtered=15)
    since = audit_table(pipeline.settings, marked)
    assert since.holds, since.answers
    assert since.offset_count == 30

    lenient = {"sql": {"items_quantity": "coalesce(TRY_CAST(items_quantity AS BIGINT), 0)"}}
    six = {"explode": {"column": "items", "max_rows": 6}}
    pipeline.change(transforms=[six, TRANSFORMS[1], lenient])
    assert replay(pipeline.settings, Selection(limit=1)).replayed_count == 1
    rest = replay(pipeline.settings, Selection())
    assert (rest.replayed_count, rest.still_failing) == (1, {"invalid_json": 1})
    rows += Counter({900: 6, 901: 3})
    assert_proven(pipeline, rows, dead_letters=1, replayed=2)
    assert "of records" in pipeline.k2i("verify").stdout

    pipeline.change(transforms=[{"constant": {"items_sku": "s0"}}, {"drop": ["items"]}])
    with pytest.raises(ConfigError, match="several rows of a record, and none of the transforms"):
        pipeline.ingest_here()
    pipeline.change(transforms=TRANSFORMS)
    pipeline.load_table().delete("order_id = 3 and items_sku = 's2'")
    found = pipeline.verification()
    torn = [f["ranges"] for f in found["findings"] if f["kind"] == "incomplete"]
    assert torn == [[[3, 4]]]
    answers = audit_table(pipeline.settings, None).answers
    assert "row_counts" in {answer.question for answer in answers if answer.faults}
