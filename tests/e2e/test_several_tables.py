"""Each of several tables has transforms, checks and keys of its own; privacy holds in all of them.

Goal: a table says what is made of its records and what has to hold for its rows, no value that is
to be protected is found plainly in any file, and every table accounts for every record. Method: a
worker is killed while its rows are hot only, another one writes them; the files are searched byte
by byte; audits and the proof are run as a person runs them.
"""

import json
from pathlib import Path
from typing import Any

from tests.conftest import Broker, TopicFactory
from tests.e2e.pipelines import PipelineOnDisk, write_pipeline
from tests.e2e.private_files import PLAIN, assert_nothing_private_is_in_files, ingest_over_a_kill
from tests.integration.kafka.source_driver import produce

ORDERS, ITEMS, PAYMENTS, REST = "shop.orders", "shop.items", "shop.payment", "shop.rest"
LETTERS = "shop.dead_letters"
TABLES: list[dict[str, Any]] = [
    {
        "identifier": ORDERS,
        "match": {"field": "type", "pattern": "order"},
        "columns": [
            {"name": "id", "type": "long", "required": True},
            {"name": "type", "type": "string"},
            {"name": "email", "type": "string"},
            {"name": "price", "type": "string"},
            {"name": "customer", "type": "struct<phone: string, city: string>"},
        ],
        "transforms": [
            {"cast": {"price": "decimal(12, 2)"}},
            {"filter": "price > 0"},
            {"sql": {"domain": "lower(email)"}},
            {"flatten": ["customer"]},
        ],
        "sort_by": ["price"],
        "unique_key": ["id"],
        "checks": [
            {
                "name": "emails_are_hashes",
                "sql": "SELECT * FROM orders WHERE length(email) <> 64",
                "over": "table",
            }
        ],
        "z_order_by": ["id", "email"],
    },
    {
        "identifier": ITEMS,
        "match": {"field": "type", "pattern": "shipment"},
        "columns": [
            {"name": "id", "type": "long"},
            {"name": "type", "type": "string"},
            {"name": "parcel", "type": "list<struct<number: long, items: list<string>>>"},
        ],
        "transforms": [
            {"explode": "parcel"},
            {"flatten": ["parcel"]},
            {"explode": {"column": "parcel_items", "max_rows": 3}},
        ],
    },
    {"identifier": "shop.{value}", "match": {"field": "type", "pattern": "[a-z]+"}},
    {"identifier": REST},
]
PRIVACY = {
    "columns": {"email": "hash", "customer.phone": "mask"},
    "secret": "not so simply written anywhere",
}


def order(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "type": "order",
        "email": f"plain{number}@example.org",
        "price": f"{number}.50",
        "customer": {"phone": f"plain {number}", "city": "marker"},
        **more,
    }


def shipment(number: int, *parcels: list[str]) -> dict[str, Any]:
    parcel = [{"number": place, "items": items} for place, items in enumerate(parcels)]
    return {"id": number, "type": "shipment", "parcel": parcel}


RECORDS: list[Any] = [
    *map(order, range(10)),
    order(3),
    order(90, price="0.00"),
    order(91, price="plain"),
    order(92, price=["plain"]),
    *({"type": "payment", "email": f"plain{n}", "customer": {"phone": "plain"}} for n in range(3)),
    # What stands where something private was expected, in a table that declares nothing.
    {"type": "refund", "email": 1234567, "customer": "plain text", "why": "marker"},
    {"type": "gone", "email": "plain"},
    shipment(70, ["a", "b"], [], ["c"]),
    shipment(71, ["a", "b"], ["c", "d"]),
    {"email": "plain", "customer": [{"phone": "plain"}], "why": "marker"},
    b'{"type": "order", "email": "plain',
    b"\xff plain",
    None,
]


def rows(pipeline: PipelineOnDisk, table: str) -> list[dict[str, Any]]:
    return pipeline.load_table(table).scan().to_arrow().to_pylist()


def test_each_table_has_settings_of_its_own_and_nothing_private_is_in_any_file(
    kafka: Broker, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic()
    pipeline = write_pipeline(
        tmp_path / "several",
        kafka.bootstrap_servers,
        name,
        max_age="1h",
        changes={
            "tables": TABLES,
            "privacy": PRIVACY,
            "dead_letters": {"table": LETTERS, "max_share": "off"},
        },
    )
    records = [json.dumps(one).encode() if isinstance(one, dict) else one for one in RECORDS]
    private = {"key": b"plain key", "headers": [("plain", b"plain")]}
    produce(kafka.bootstrap_servers, name, records, **private)
    ingest_over_a_kill(pipeline, hot_file_count=3)
    found = {table["table"]: table for table in pipeline.verification()["tables"]}
    assert all(table["holds"] for table in found.values()), found
    claimed = {name: table["partitions"][0]["claimed"] for name, table in found.items()}
    counts = {
        name: (one["rows"], one["dead_letters"], one["filtered"], one["tombstones"])
        for name, one in claimed.items()
    }
    assert counts == {
        ORDERS: (11, 2, 12, 0),
        ITEMS: (1, 1, 23, 0),
        PAYMENTS: (3, 0, 22, 0),
        "shop.refund": (1, 0, 24, 0),
        "shop.gone": (1, 0, 24, 0),
        REST: (1, 2, 21, 1),
    }
    letters = pipeline.dead_letters().to_pylist()
    assert sorted((one["target_table"], one["stage"]) for one in letters) == [
        *((ITEMS, "transform"), (ORDERS, "transform"), (ORDERS, "value")),
        *((REST, "value"), (REST, "value")),
    ]
    tables = [rows(pipeline, table) for table in (ORDERS, PAYMENTS, "shop.refund", REST)]
    assert PLAIN not in repr([*tables, *letters]).lower().encode()
    assert tables[0][0].keys() == {
        *("id", "type", "email", "price", "domain", "customer_phone", "customer_city", "_kafka")
    }
    assert {row["domain"] == row["email"] for row in tables[0]} == {True}
    assert found[ITEMS]["partitions"][0]["claimed"]["extra_rows"] == 2
    items = [(row["parcel_number"], row["parcel_items"]) for row in rows(pipeline, ITEMS)]
    assert items == [(0, "a"), (0, "b"), (2, "c")]
    (refund,) = tables[2]
    assert (len(refund["email"]), refund["customer"], refund["why"]) == (64, "[redacted]", "marker")

    assert_nothing_private_is_in_files(pipeline)

    audited = pipeline.k2i("check", "--table", ORDERS, "--full", "--json")
    checks = {one["name"]: one["passed"] for one in json.loads(audited.stdout)["checks"]}
    assert audited.returncode == 1
    assert [name for name, passed in checks.items() if not passed] == ["unique_key"]
    assert checks["emails_are_hashes"]
    other = json.loads(pipeline.k2i("check", "--table", REST, "--full", "--json").stdout)
    assert not {"unique_key", "emails_are_hashes"} & {one["name"] for one in other["checks"]}


KEYED = [
    {
        "identifier": "shop.orders",
        "match": {"field": "type", "pattern": "order"},
        "columns": [{"name": "id", "type": "long"}, {"name": "price", "type": "decimal(9,2)"}],
    },
    {
        "identifier": "shop.rest",
        "columns": [{"name": "key", "type": "long"}, {"name": "id", "type": "string"}],
        "schema_evolution": "strict",
    },
]


def test_csv_and_keys_with_columns_of_their_own_in_each_table(
    kafka: Broker, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic()
    names = ["id", "type", "price"]
    pipeline = write_pipeline(
        tmp_path / "keyed",
        kafka.bootstrap_servers,
        name,
        changes={
            "format": {
                "value": "csv",
                "csv": {"columns": names},
                "key": "long",
                "key_column": "key",
            },
            "tables": KEYED,
            "dead_letters": {"table": LETTERS, "max_share": "off"},
        },
    )
    values = [b"1,order,2.50", b"x,,", b"2,order,", b"3,gift,", b"order", b"four,order,1"]
    for number, value in enumerate(values):
        produce(kafka.bootstrap_servers, name, [value], key=(number or 9).to_bytes(8))
    produce(kafka.bootstrap_servers, name, [b"5,order,5"], key=b"short")
    pipeline.ingest_here()

    orders, rest = (rows(pipeline, table["identifier"]) for table in KEYED)
    assert [(row["key"], row["id"], row["type"]) for row in orders] == [
        *((9, 1, "order"), (2, 2, "order"))
    ]
    assert [(row["key"], row["id"]) for row in rest] == [(1, "x")]
    letters = pipeline.dead_letters().to_pylist()
    assert sorted((one["target_table"], one["stage"]) for one in letters) == [
        *(("shop.orders", "key"), ("shop.orders", "value")),
        *(("shop.rest", "value"), ("shop.rest", "value")),
    ]
    assert pipeline.verification()["holds"]
