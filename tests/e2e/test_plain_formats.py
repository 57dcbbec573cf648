"""Topics whose records need no schema registry and are no JSON.

Goal: rows, new columns and dead letters of CSV, MessagePack and Arrow IPC end in the table as
the page on formats says, and `verify` finds nothing lost.
Method: a real broker, a worker in this process, the table read back by PyIceberg.
"""

import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.arrow_streams import stream
from tests.conftest import Broker, TopicFactory
from tests.e2e.pipelines import PipelineOnDisk, write_pipeline
from tests.integration.kafka.source_driver import produce
from tests.integration.parquet.readers import READERS
from tests.property.msgpack_records import encode

AT = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def ingested(
    directory: Path, kafka: Broker, topic: str, values: list[bytes], **sections: Any
) -> PipelineOnDisk:
    """Produce, ingest and prove."""
    pipeline = write_pipeline(directory, kafka.bootstrap_servers, topic, changes=sections)
    produce(kafka.bootstrap_servers, topic, values)
    pipeline.ingest_here()
    pipeline.assert_holds_here()
    return pipeline


def rows_of(pipeline: PipelineOnDisk) -> list[dict[str, Any]]:
    rows = pipeline.rows().drop_columns(["_kafka"])
    return sorted(rows.to_pylist(), key=lambda row: str(row["id"]))


def reasons_of(pipeline: PipelineOnDisk) -> list[tuple[bytes, str]]:
    letters = pipeline.dead_letters().to_pylist()
    return sorted((letter["value"], letter["error_class"]) for letter in letters)


def test_csv_records_become_rows_and_the_odd_ones_shift_nobody(
    tmp_path: Path, kafka: Broker, topic: TopicFactory
) -> None:
    good = [b'1;2026-11-20T12:30:00Z;1.50;"a; ""b""\n"\r\n', b"2;;;", b"4;;1e2;last"]
    bad = [b"", b'3;;;"open', b"3;;;x\n4;;;y", b"3;;", b"x;;;", b"3;;;\xff"]
    columns = [
        {"name": "id", "type": "long", "required": True},
        {"name": "at", "type": "timestamptz"},
        {"name": "amount", "type": "decimal(9, 2)"},
    ]
    csv = {"delimiter": ";", "columns": ["id", "at", "amount", "note"]}
    pipeline = ingested(
        tmp_path / "csv",
        kafka,
        topic(),
        [good[0], *bad, good[1], good[2]],
        format={"value": "csv", "csv": csv},
        table={"identifier": "e2e.csv", "columns": columns},
    )
    assert rows_of(pipeline) == [
        {"id": 1, "at": AT, "amount": Decimal("1.50"), "note": 'a; "b"\n'},
        {"id": 2, "at": None, "amount": None, "note": None},
        {"id": 4, "at": None, "amount": Decimal("100.00"), "note": "last"},
    ]
    assert reasons_of(pipeline) == sorted(
        zip(
            bad,
            [*["invalid_encoding"] * 4, "invalid_value", "invalid_utf8"],
            strict=True,
        )
    )


def test_csv_without_types_becomes_text_columns(
    tmp_path: Path, kafka: Broker, topic: TopicFactory
) -> None:
    pipeline = ingested(
        tmp_path / "texts",
        kafka,
        topic(),
        [b"1\tNULL\t'a'", b"2\t2\t"],
        format={
            "value": "csv",
            "csv": {"delimiter": "\t", "quote": None, "null": "NULL", "columns": ["id", "b", "c"]},
        },
        table={"identifier": "e2e.texts"},
    )
    assert rows_of(pipeline) == [
        {"id": "1", "b": None, "c": "'a'"},
        {"id": "2", "b": "2", "c": ""},
    ]


def test_arrow_streams_of_two_schemas_become_rows(
    tmp_path: Path, kafka: Broker, topic: TopicFactory
) -> None:
    older = [stream(id=pa.array([n], pa.int32())) for n in range(3)]
    at = pa.array([AT], pa.timestamp("ns", tz="UTC"))
    kind = pa.array(["a"]).dictionary_encode()
    newer = stream(id=pa.array([3], pa.int64()), at=at, kind=kind)
    bad = [stream(id=pa.array([7, 8])), b"", older[0][:-30]]
    pipeline = ingested(
        tmp_path / "arrow",
        kafka,
        topic(),
        [older[0], bad[0], newer, *bad[1:], *older[1:]],
        format={"value": "arrow_ipc"},
        table={"identifier": "e2e.arrow"},
    )
    assert rows_of(pipeline) == [
        *({"id": n, "at": None, "kind": None} for n in range(3)),
        {"id": 3, "at": AT, "kind": "a"},
    ]
    assert reasons_of(pipeline) == sorted((value, "invalid_encoding") for value in bad)
    assert pipeline.load_table().properties["k2i.format-mapping"] == "arrow_ipc/1"


def test_msgpack_maps_become_rows_and_columns(
    tmp_path: Path, kafka: Broker, topic: TopicFactory
) -> None:
    chosen = random.Random(0)
    records = [
        {"id": 1, "blob": b"\xff", "at": AT, "items": [{"sku": "a"}, {"sku": "b"}]},
        {"id": 2, "big": 2**64 - 1},
        {"id": 3, "items": [{"sku": None, "count": 2}], "gone": {"x": [None]}},
    ]
    bad = [b"", b"\x01", b"\x81\xa2id\xa1x", b"\x82\xa2id\x01\xa2id\x02"]
    values = [encode(record, chosen) for record in records]
    pipeline = ingested(
        tmp_path / "msgpack",
        kafka,
        topic(),
        [values[0], *bad, *values[1:]],
        format={"value": "msgpack"},
        table={"identifier": "e2e.msgpack"},
    )
    nothing = {"blob": None, "at": None, "items": None, "big": None}
    a, b, c = ({"sku": sku, "count": count} for sku, count in (("a", None), ("b", None), (None, 2)))
    # PyIceberg reads a null list of structs as an empty one.
    read = READERS["duckdb"](pipeline.load_table(), None)
    rows = [{name: row[name] for name in row if name != "_kafka"} for row in read]
    assert sorted(rows, key=lambda row: row["id"]) == [
        {**nothing, "id": 1, "blob": b"\xff", "at": AT, "items": [a, b]},
        {**nothing, "id": 2, "big": Decimal(2**64 - 1)},
        {**nothing, "id": 3, "items": [c]},
    ]
    reasons = ["invalid_encoding", "not_an_object", "wrong_type", "duplicate_key"]
    assert reasons_of(pipeline) == sorted(zip(bad, reasons, strict=True))
