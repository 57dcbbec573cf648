"""`k2i table plan` beside what a worker does.

Goal: every change is told with its verdict before it happens, the exit code tells a script, and
nothing is changed by looking.
Method: the command line in this process, on a real catalog, with a schema file.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from k2i_core.cli.main import app
from k2i_core.config import load_pipeline
from k2i_core.iceberg.tables import TableSettings, create_or_adopt
from k2i_core.schema.arrow_types import to_arrow_schema
from k2i_core.wiring.settings import catalog_opener

ITEMS = [{"name": "sku", "type": "string"}, {"name": "price", "type": "double"}]
FIELDS: list[dict[str, Any]] = [
    {"name": "id", "type": "long"},
    {"name": "quantity", "type": "int"},
    {"name": "items", "type": {"type": "array", "items": {"type": "record", "name": "Item"}}},
]
COLUMNS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "quantity", "type": "int"},
    {"name": "items", "type": "list<struct<sku: string, price: double>>"},
]


class Orders:
    """A pipeline file with a table of `COLUMNS`, and a schema file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.document: dict[str, Any] = {
            "name": "orders",
            "kafka": {"bootstrap_servers": "localhost:1", "topics": ["orders"]},
            "format": {"value": "avro", "schema_file": "order.avsc"},
            "catalog": {"type": "sql", "uri": f"sqlite:///{directory}/catalog.db"}
            | {"warehouse": str(directory / "warehouse")},
            "table": {"identifier": "sales.orders"},
        }

    def write(self, fields: list[dict[str, Any]], **table: Any) -> Path:
        record = {"type": "record", "name": "Written", "fields": fields}
        (self.directory / "order.avsc").write_text(json.dumps(record))
        path = self.directory / "orders.yaml"
        document = {**self.document, "table": {**self.document["table"], **table}}
        document["format"]["schema_file"] = str(self.directory / "order.avsc")
        path.write_text(yaml.safe_dump(document))
        return path

    def create(self, columns: list[dict[str, Any]] = COLUMNS) -> None:
        pipeline = load_pipeline(self.write(FIELDS_OF_ITEMS, columns=columns))
        declared = pipeline.declared_columns()
        assert declared is not None
        create_or_adopt(
            catalog_opener(pipeline)(),
            "sales.orders",
            to_arrow_schema(declared),
            TableSettings(),
            pipeline.table.schema_evolution,
        )

    def plan(self, fields: list[dict[str, Any]], **table: Any) -> tuple[int, dict[str, Any]]:
        path = self.write(fields, **table)
        done = CliRunner().invoke(app, ["table", "plan", str(path), "--json"])
        return done.exit_code, json.loads(done.output)


def with_items(fields: list[dict[str, Any]], items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    described = {"type": "array", "items": {"type": "record", "name": "Item", "fields": items}}
    return [{**f, "type": described} if f["name"] == "items" else f for f in fields]


FIELDS_OF_ITEMS = with_items(FIELDS, ITEMS)


@pytest.fixture
def orders(tmp_path: Path) -> Orders:
    return Orders(tmp_path)


def changes(document: dict[str, Any], source: int = 0) -> list[tuple[str, str]]:
    return [(c["verdict"], c["change"]) for c in document["sources"][source]["changes"]]


def test_a_table_that_is_not_there_is_shown_as_it_would_be_made(orders: Orders) -> None:
    code, document = orders.plan(FIELDS_OF_ITEMS)
    assert (code, document["exists"]) == (0, False)
    assert changes(document) == [
        ("allowed", "add column id long"),
        ("allowed", "add column quantity int"),
        ("allowed", "add column items list<struct<sku: string, price: double>>"),
    ]


def test_what_is_added_widened_and_breaking_is_told_and_nothing_is_done(orders: Orders) -> None:
    orders.create()
    newer = with_items(
        [
            *FIELDS[:1],
            {"name": "quantity", "type": "long"},
            *FIELDS[2:],
            {"name": "channel", "type": ["null", "string"]},
        ],
        [{"name": "sku", "type": "long"}, *ITEMS[1:], {"name": "tax", "type": "double"}],
    )
    for _ in range(2):
        code, document = orders.plan(newer)
        assert code == 1
        assert changes(document) == [
            ("allowed", "widen quantity from int to long"),
            ("allowed", "add column items.element.tax double"),
            ("allowed", "add column channel string"),
            ("breaking", "items[].sku: the table has string, the records have long"),
        ]


def test_under_strict_what_would_be_changed_is_refused(orders: Orders) -> None:
    orders.create()
    code, document = orders.plan(
        [*FIELDS_OF_ITEMS, {"name": "channel", "type": "string"}], schema_evolution="strict"
    )
    assert code == 1
    refusal = "add column channel string: not allowed by schema_evolution=strict"
    assert changes(document) == [("refused", refusal)]


def test_what_is_added_beside_a_column_that_full_would_rename_says_so(orders: Orders) -> None:
    orders.create()
    items = [{"name": "article", "aliases": ["sku"], "type": "string"}, ITEMS[1]]
    pieces = {"name": "pieces", "aliases": ["quantity"], "type": "int"}
    newer = with_items([FIELDS[0], pieces, FIELDS[2]], items)

    code, document = orders.plan(newer)
    assert code == 0
    hint = "where schema_evolution=full would rename"
    assert changes(document) == [
        ("allowed", f"add column pieces int, {hint} quantity"),
        ("allowed", f"add column items.element.article string, {hint} items.element.sku"),
    ]
    assert changes(orders.plan(newer, schema_evolution="full")[1]) == [
        ("allowed", "rename quantity to pieces"),
        ("allowed", "rename items.element.sku to article"),
    ]


def test_declared_columns_and_the_schema_are_planned_each_by_itself(orders: Orders) -> None:
    orders.create()
    declared = [{**COLUMNS[0], "type": "string"}, *COLUMNS[1:], {"name": "note", "type": "string"}]
    code, document = orders.plan(FIELDS_OF_ITEMS, columns=declared)
    assert code == 1
    assert changes(document) == [
        ("allowed", "add column note string"),
        ("breaking", "id: the table has long, the rows have string"),
    ]
    assert changes(document, 1) == []
    assert orders.plan(FIELDS_OF_ITEMS)[0] == 0


def test_people_read_a_line_a_change(orders: Orders) -> None:
    orders.create()
    path = orders.write([*FIELDS_OF_ITEMS[1:], {"name": "channel", "type": "string"}])
    done = CliRunner().invoke(app, ["table", "plan", str(path)])
    assert done.exit_code == 1
    assert done.output.splitlines() == [
        "table sales.orders is there, schema_evolution: add_columns",
        f"file {orders.directory / 'order.avsc'}:",
        "  allowed   add column channel string",
        "  breaking  id: the table requires it, the records lack it",
    ]


def test_keys_are_planned_by_their_own_schema_and_say_nothing_of_the_values(
    orders: Orders,
) -> None:
    file = orders.directory / "key.avsc"
    region = {"name": "region", "aliases": ["area"], "type": "string"}
    file.write_text(json.dumps({"type": "record", "name": "Key", "fields": [region]}))
    orders.document["format"] |= {"key": "avro", "key_schema_file": str(file)}
    key = {"name": "_key", "type": "struct<area: string>", "required": True}
    orders.create([*COLUMNS, key])

    code, document = orders.plan(FIELDS_OF_ITEMS, schema_evolution="full")

    assert code == 0
    assert [source["source"] for source in document["sources"]][1:] == [f"file {file}"]
    assert changes(document) == []
    assert changes(document, 1) == [("allowed", "rename _key.area to region")]
    assert changes(orders.plan(FIELDS_OF_ITEMS)[1], 1) == [
        (
            "allowed",
            "add column _key.region string, where schema_evolution=full would rename _key.area",
        )
    ]


def test_a_rename_inside_of_envelopes_is_planned_for_the_row_and_for_what_was_before(
    orders: Orders,
) -> None:
    orders.document["format"]["envelope"] = "debezium"
    at = [{"name": "__op", "type": "string"}, {"name": "__ts_ms", "type": "long"}]
    before = {"name": "__before", "type": "struct<id: long, quantity: int>"}
    orders.create([*COLUMNS[:2], *at, before])
    pieces = {"name": "pieces", "aliases": ["quantity"], "type": "long"}
    row = {"type": "record", "name": "Order", "fields": [FIELDS[0], pieces]}

    code, document = orders.plan(
        [
            {"name": "before", "type": ["null", row]},
            {"name": "after", "type": ["null", "Order"]},
            {"name": "op", "type": "string"},
        ],
        schema_evolution="full",
    )

    assert code == 0
    assert changes(document) == [
        ("allowed", "rename quantity to pieces"),
        ("allowed", "widen quantity from int to long"),
        ("allowed", "rename __before.quantity to pieces"),
        ("allowed", "widen __before.quantity from int to long"),
    ]
