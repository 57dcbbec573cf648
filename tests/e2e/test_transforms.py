"""Records that are transformed on their way, over restarts, growth and a replay.

Goal: the table has what the pipeline file makes of each record, and `verify` accounts for all of
them: rows, filtered, dead letters. Method: a real broker; workers of which each one starts from
what the table tells; the file is changed between them.
"""

import json
from decimal import Decimal
from typing import Any

from k2i_core.dead_letters.reading import Selection
from k2i_core.wiring.dead_letters import replay
from k2i_core.wiring.record_columns import COLUMNS_PROPERTY
from tests.conftest import Broker, TopicFactory
from tests.e2e.pipelines import PipelineOnDisk, write_pipeline
from tests.integration.kafka.source_driver import produce

COLUMNS = [
    {"name": "order_id", "type": "long", "required": True},
    {"name": "price", "type": "string"},
    {"name": "quantity", "type": "long"},
    {"name": "status", "type": "string"},
    {"name": "ts", "type": "timestamptz"},
    {"name": "customer", "type": "struct<id: long, city: string>"},
]
TRANSFORMS: list[dict[str, Any]] = [
    {"rename": {"ts": "created_at"}},
    {"cast": {"price": "decimal(12, 2)"}},
    {"sql": {"total": "price * quantity"}},
    {"filter": "status <> 'test'"},
    {"flatten": ["customer"]},
    {"constant": {"source": "eu"}},
    {"kafka": {"topic": "source_topic", "offset": "source_offset"}},
    {"drop": ["status"]},
]


def order(number: int, **more: Any) -> bytes:
    record = {
        "order_id": number,
        "price": f"{number}.50",
        "quantity": 2,
        "status": "test" if number % 5 == 0 else "new",
        "ts": f"2026-11-{1 + number % 2:02}T10:00:00Z",
        "customer": {"id": number, "city": "Ulm"},
        **more,
    }
    return json.dumps(record).encode()


def rows_of(pipeline: PipelineOnDisk) -> dict[int, dict[str, Any]]:
    return {row["order_id"]: row for row in pipeline.rows().to_pylist()}


def assert_counts(pipeline: PipelineOnDisk, **counts: int) -> None:
    (partition,) = pipeline.assert_holds_here()["partitions"]
    claimed = partition["claimed"]
    assert {name: claimed[name] for name in counts} == counts


def test_records_are_transformed_counted_and_replayed(
    kafka: Broker, topic: TopicFactory, tmp_path: Any
) -> None:
    name = topic()
    pipeline = write_pipeline(
        tmp_path / "transformed",
        kafka.bootstrap_servers,
        name,
        changes={
            "table": {
                "identifier": "e2e.transformed",
                "columns": COLUMNS,
                "partition_by": ["day(created_at)"],
                "sort_by": ["total"],
            },
            "transforms": TRANSFORMS,
        },
    )
    bad = order(11, price="eleven")
    produce(kafka.bootstrap_servers, name, [*map(order, range(10)), b"{", None, bad])
    pipeline.ingest_here()

    rows = rows_of(pipeline)
    assert sorted(rows) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert {k: v for k, v in rows[3].items() if k not in {"_kafka", "created_at"}} == {
        "order_id": 3,
        "price": Decimal("3.50"),
        "quantity": 2,
        "customer_id": 3,
        "customer_city": "Ulm",
        "total": Decimal("7.00"),
        "source": "eu",
        "source_topic": name,
        "source_offset": 3,
    }
    letters = pipeline.dead_letters().sort_by("stage").to_pylist()
    assert [letter["stage"] for letter in letters] == ["transform", "value"]
    assert letters[0]["message"] == "transforms[1].cast: price: cannot be cast to decimal(12,2)"
    assert letters[0]["value"] == bad
    assert_counts(pipeline, rows=8, dead_letters=2, filtered=2, tombstones=1)

    # A worker that starts anew knows the columns of the records, and those that come now grow.
    later = [order(21, note="x"), order(22, customer={"id": 1, "city": "A", "zip": "1"})]
    produce(kafka.bootstrap_servers, name, later)
    pipeline.ingest_here()
    rows = rows_of(pipeline)
    assert (rows[21]["note"], rows[22]["customer_zip"], rows[3]["note"]) == ("x", "1", None)
    stored = pipeline.load_table().properties[COLUMNS_PROPERTY]
    assert stored.endswith("customer: struct<id: long, city: string, zip: string>, note: string>")

    # What could not be transformed becomes a row of today's transforms.
    lenient = {"sql": {"price": "coalesce(TRY_CAST(price AS DECIMAL(12, 2)), 0.00)"}}
    pipeline.change(transforms=[TRANSFORMS[0], lenient, *TRANSFORMS[2:]])
    report = replay(pipeline.settings, Selection())
    assert (report.replayed_count, report.still_failing) == (1, {"invalid_json": 1})
    assert rows_of(pipeline)[11]["total"] == Decimal("0.00")
    assert_counts(pipeline, rows=11, dead_letters=1, replayed=1, filtered=2)
    assert "filtered" in pipeline.k2i("verify").stdout


def test_what_the_file_makes_of_the_columns_is_checked_before_anything_runs(tmp_path: Any) -> None:
    pipeline = write_pipeline(
        tmp_path / "checked",
        "localhost:1",
        "orders",
        changes={
            "table": {"identifier": "e2e.checked", "columns": COLUMNS, "sort_by": ["ts"]},
            "transforms": TRANSFORMS,
        },
    )
    done = pipeline.k2i("validate")
    assert done.returncode == 2
    assert "transforms: failed: sort_by names column 'ts', which the table does not have" in (
        done.stdout
    )
