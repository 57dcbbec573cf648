"""Goal: the page about several tables says what happens. Method: its file is read, its records are
routed by it, and every key that it names is refused or taken as it says."""

import re
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from k2i_core.clock import SystemClock
from k2i_core.config import Match, Pipeline
from k2i_core.config.load import read_pipeline
from k2i_core.errors import ConfigError
from k2i_core.ingest.routing import RuleRouter
from k2i_core.records import POLLED_SCHEMA
from k2i_core.schema.registered import NoSuchSchema, SchemaLanguage, WriterSchema
from k2i_core.wiring.connections import user_checks
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.maintenance import compaction_options
from k2i_core.wiring.match_texts import texts_of, unknown_schemas
from k2i_core.wiring.several import router_of
from tests.arrow_streams import stream

PAGE = (Path(__file__).parents[2] / "docs" / "routing.md").read_text()
FILE, OWN = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
RECORD = re.compile(
    r"\| topic `(?P<topic>\w+)`, (?:no value|value `(?P<value>[^`]+)`)"
    r"(?:, header `(?P<name>\w+): (?P<text>\w+)`)? \| `(?P<table>[\w.-]+)` \|"
)


def pipeline(text: str = FILE) -> Pipeline:
    return read_pipeline(text, "shop.yaml")


def router(of: Pipeline, *known: str) -> RuleRouter:
    return router_of(of, Formats(of, SystemClock()), known)


def batch(found: list[dict[str, str | None]]) -> pa.RecordBatch:
    rows = [
        {
            "topic": one["topic"],
            "partition": 0,
            "offset": number,
            "value": one["value"].encode() if one["value"] else None,
            "headers": [{"key": one["name"], "value": one["text"].encode()}] if one["name"] else [],
        }
        for number, one in enumerate(found)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=POLLED_SCHEMA)


def schema_of(number: int, name: str | None) -> WriterSchema | NoSuchSchema:
    text = f'{{"type": "record", "name": "{name}", "fields": []}}'
    return WriterSchema(number, SchemaLanguage.AVRO, text) if name else NoSuchSchema(number)


def test_each_record_of_the_page_goes_where_the_page_says():
    found = [match.groupdict() for match in RECORD.finditer(PAGE)]
    routes = router(pipeline())(batch(found))

    assert len(found) == 8
    assert [routes.tables[code] for code in routes.codes] == [one["table"] for one in found]
    assert routes.refused == ()


def test_without_a_table_for_the_rest_what_fits_none_is_refused_and_a_tombstone_is_not():
    found = [match.groupdict() for match in RECORD.finditer(PAGE)]
    routes = router(pipeline(FILE.replace("  - identifier: shop.rest\n", "")))(batch(found))

    assert [failure.index for failure in routes.refused] == [4, 5, 6]
    assert {routes.tables[routes.codes[i]] for i in (4, 5, 6, 7)} == {"shop.refunds"}
    assert {failure.error_class for failure in routes.refused} == {"no_match"}


def test_avro_records_go_by_the_full_name_in_their_schema():
    text = FILE.replace("match: {topic: refunds}", "match: {message: 'shop.Refund'}").replace(
        'match: {field: type, pattern: "order|reorder"}', "match: {message: shop.Order}"
    )
    text = text.replace(
        "name: shop\n", "name: shop\nformat: {value: avro, schema_registry: {url: http://r}}\n"
    )
    text = re.sub(r'  - identifier: "shop.seen.*?max_tables: 50\n', "", text, flags=re.DOTALL)
    of = pipeline(text)
    formats = Formats(of, SystemClock())
    names = {7: "shop.Refund", 8: "shop.Order", 9: "shop.Other", 10: None}
    formats.schema_of = lambda n: schema_of(n, names[n])  # pyright: ignore - as the registry has it
    values = [b"\0" + n.to_bytes(4) + b"x" for n in names] + [b"", None]
    rows = [{"topic": "e", "partition": 0, "offset": n, "value": v} for n, v in enumerate(values)]
    header = {"key": "__value_schema_id", "value": values[0][:5]}
    rows.append({"topic": "e", "partition": 0, "offset": 6, "value": b"x", "headers": [header]})
    routes = router_of(of, formats, ())(pa.RecordBatch.from_pylist(rows, schema=POLLED_SCHEMA))

    first = ["shop.refunds", "shop.orders"]
    expected = [*first, *["shop.rest"] * 4, "shop.refunds"]
    assert [routes.tables[code] for code in routes.codes] == expected
    # The third is nobody's record, whoever it may be known to belong to later.
    refused = [(f.index, f.error_class, f.schema_id, f.stage) for f in routes.refused]
    assert refused == [(3, "unknown_schema_id", 10, "value")]


def test_protobuf_records_go_by_their_message(monkeypatch):
    text = FILE.replace("match: {topic: refunds}", "match: {message: 'shop[.]Refund'}").replace(
        'match: {field: type, pattern: "order|reorder"}', "match: {message: 'shop[.].*'}"
    )
    text = text.replace(
        "name: shop\n", "name: shop\nformat: {value: protobuf, schema_registry: {url: http://r}}\n"
    )
    of = pipeline(text)
    formats = Formats(of, SystemClock())
    proto = 'syntax = "proto3"; package shop; '
    proto += "message Order { int64 id = 1; } message Refund { int64 id = 1; }"
    writer = WriterSchema(7, SchemaLanguage.PROTOBUF, proto)
    schemas = {7: writer, 8: NoSuchSchema(8)}
    formats.schema_of = schemas.get  # pyright: ignore - as the registry has it
    frame = b"\0" + (7).to_bytes(4)
    values = [frame + b"\0", frame + b"\2\2", frame + b"\2\4", b"\0\0\0\0\x08\0", b"x", None]
    rows = [{"topic": "e", "partition": 0, "offset": n, "value": v} for n, v in enumerate(values)]
    records = pa.RecordBatch.from_pylist(rows, schema=POLLED_SCHEMA)
    started: list[object] = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **more: started.append(a) or run(*a, **more))
    texts = texts_of(Match(message=".*"), of, formats)(records)
    assert formats.readers is not None
    formats.readers.make(writer)

    # The compiler, for those who route records and for those who read them.
    assert len(started) == 1
    assert texts.to_pylist() == ["shop.Order", "shop.Refund", None, None, None, None]
    assert [failure.index for failure in unknown_schemas(of, formats)(records)] == [3]


def test_arrow_records_go_by_a_field_of_their_stream():
    of = pipeline(FILE.replace("name: shop\n", "name: shop\nformat: {value: arrow_ipc}\n"))
    rows = [
        {"topic": topic, "partition": 0, "offset": 0, "value": stream(type=pa.array([kind]))}
        for topic, kind in (("events", "order"), ("events", "gift"), ("refunds", "order"))
    ]
    routes = router(of)(pa.RecordBatch.from_pylist(rows, schema=POLLED_SCHEMA))

    tables = [routes.tables[code] for code in routes.codes]
    assert tables == ["shop.orders", "shop.seen-gift", "shop.refunds"]


def test_no_more_tables_are_made_than_the_file_allows_nor_one_that_is_something_else():
    texts = ["gift", "card", "gift", "dead_letters", "rest", "box"]
    page = FILE.replace("max_tables: 50", "max_tables: 2").replace("shop.seen-{", "shop.{")
    values = [{"topic": "events", "value": f'{{"type": "{text}"}}', "name": None} for text in texts]
    routes = router(pipeline(page), "shop.rest")(batch(values))

    assert [routes.tables[code] for code in routes.codes] == [
        "shop.gift",
        "shop.card",
        "shop.gift",
        "shop.rest",
        "shop.rest",
        "shop.rest",
    ]
    assert [(f.index, f.error_class, f.stage) for f in routes.refused] == [
        (5, "too_many_tables", "route")
    ]


def test_where_no_table_gets_the_rest_one_table_too_many_is_no_match():
    page = FILE.replace("max_tables: 50", "max_tables: 1")
    page = page.replace("  - identifier: shop.rest\n", "")
    values = [{"topic": "events", "value": f'{{"type": "{t}"}}', "name": None} for t in "ab"]
    routes = router(pipeline(page))(batch(values))

    assert [routes.tables[code] for code in routes.codes] == ["shop.seen-a", "shop.refunds"]
    assert [(f.index, f.error_class) for f in routes.refused] == [(1, "no_match")]


def test_each_table_alone_is_a_pipeline_with_one_table():
    whole = pipeline()
    alone = whole.one_table("shop.seen-gift")

    assert alone is not None
    assert (alone.name, alone.table.identifier, alone.tables) == ("shop", "shop.seen-gift", ())
    assert alone.dead_letter_table == whole.dead_letter_table
    assert whole.one_table("shop.orders").table.partition_by  # pyright: ignore - it is there
    assert whole.one_table("shop.dead_letters") is None
    assert whole.one_table("elsewhere.seen-gift") is None


def test_what_a_table_says_of_itself_stands_where_it_would_stand_for_the_only_one():
    whole = pipeline(OWN)
    orders, made = whole.one_table("shop.orders"), whole.one_table("shop.gift")

    assert orders is not None
    assert made is not None
    assert [one.step for one in orders.transforms] == ["rename", "cast", "filter"]
    assert [check.name for check in orders.checks] == ["emails_are_hashes"]
    assert orders.monitoring.unique_key == ("id",)
    assert (made.transforms, made.checks, made.monitoring.unique_key) == ((), (), ())
    assert made.privacy == orders.privacy == whole.privacy
    named = {"shop.orders": ("z_order", ("id", "email")), "shop.rest": ("table", ())}
    for name, expected in named.items():
        options = compaction_options(whole, name)
        assert (options.order, options.z_order_by) == expected


def test_where_one_table_makes_several_rows_of_a_record_the_reading_knows_and_the_others_do_not():
    whole = pipeline(
        OWN.replace(
            "- rename: {ts: ordered_at}", "- explode: items\n      - rename: {ts: ordered_at}"
        )
    )

    assert [one.explodes for one in (whole, *whole.entries)] == [True, True, False, False]


def test_what_the_tables_of_the_page_say_can_be_done():
    asked = {one.name: one for one in user_checks(pipeline(OWN))}

    assert [str(one.error) for one in asked.values() if one.error] == []
    assert list(asked)[:3] == [
        *("privacy", "shop.orders: transforms", "shop.orders: check emails_are_hashes")
    ]
    assert asked["shop.orders: transforms"].detail.endswith("id, type, email, price, ordered_at")

    broken = user_checks(pipeline(OWN.replace("columns: {email: hash}", "columns: {e_mail: hash}")))
    assert 'privacy.columns: "e_mail" is no column that one of' in str(broken[0].error)
    broken = user_checks(pipeline(OWN.replace("price > 0", "prize > 0")))
    assert [one.name for one in broken if one.error] == ["privacy", "shop.orders: transforms"]


def test_the_rules_have_another_name_when_who_gets_what_is_another_matter():
    names = {
        pipeline(text).rules_name
        for text in (
            FILE,
            FILE.replace("order|reorder", "order"),
            FILE.replace("  - identifier: shop.rest\n", ""),
        )
    }
    assert len(names) == 3
    assert pipeline(FILE.replace("bucket(16, id)", "id")).rules_name in names


@pytest.mark.parametrize(
    ("change", "to", "said"),
    [
        ('match: {header: mark, pattern: "yes"}', "match: {header: mark}", "pattern: is required"),
        ("match: {topic: refunds}", "match: {topic: '('}", "is no regular expression"),
        ("match: {topic: refunds}", "match: {topic: a, field: b}", "exactly one of topic, header"),
        ("  - identifier: shop.rest\n", "  - identifier: shop.rest\n" * 2, "is there twice"),
        ("{value}", "{value}{value}", "elsewhere than once"),
        ("dead_letters: {table: shop.dead_letters}\n", "", "dead_letters.table: is required"),
        ("name: shop\n", "name: shop\ntable: {identifier: a.b}\n", "stands beside table"),
        ("max_tables: 50", "sort_by: [a]", "needs columns beside it"),
        ("max_tables: 50", "max_tables: 0", "max_tables"),
        ("name: shop\n", "name: shop\nmonitoring: {unique_key: [id]}\n", "is of one table"),
        ("name: shop\n", "name: shop\ntransforms: [{drop: [id]}]\n", "is of one table"),
        ("name: shop\n", "name: shop\nchecks: [{name: a, sql: SELECT 1}]\n", "is of one table"),
        (
            "name: shop\n",
            "name: shop\nmaintenance: {compaction: {order: z_order, z_order_by: [a, b]}}\n",
            "write z_order_by at those of tables",
        ),
        ("max_tables: 50", "transforms: [{drop: [a]}]", "needs columns beside it"),
        ("partition_by:", "z_order_by: [id]\n    partition_by:", "needs two columns or more"),
        ("partition_by:", "z_order_by: [id, at]\n    partition_by:", '"at" is not a column'),
        ("partition_by:", "unique_key: [at]\n    partition_by:", '"at" is not a column'),
        (
            "partition_by:",
            "checks: [{name: a, sql: SELECT 1}, {name: a, sql: SELECT 1}]\n    partition_by:",
            "tables[1].checks[1].name",
        ),
        (
            "name: shop\n",
            "name: shop\nformat: {value: raw}\n",
            "is nothing that format raw has; match by topic or header",
        ),
        ("name: shop\n", "name: shop\nformat: {value: csv}\n", "needs table.columns, or the names"),
        (
            "name: shop\n",
            "name: shop\nformat: {value: csv, csv: {columns: [id]}}\n",
            '"type" is none of format.csv.columns',
        ),
        (
            "name: shop\n",
            "name: shop\nprivacy: {columns: {type: redact}}\n",
            "tables[3].match.field: would be written as {value}",
        ),
        (
            re.findall("    match: .*\n    max_tables: 50\n  - identifier: shop.rest", FILE)[0],
            "    match: {header: a, pattern: b}\n  - identifier: shop.rest\nprivacy: {key: keep}",
            "tables[3].match.header: would be written as {value}",
        ),
        (
            "name: shop\n",
            "name: shop\nprivacy: {columns: {a: redact, a.b: drop}}\n",
            "privacy.columns.a.b: lies inside another path",
        ),
        (
            "match: {topic: refunds}",
            "match: {message: a.B}",
            "is not supported yet for format json; it is for avro and protobuf",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(change, to, said):
    assert change in FILE
    with pytest.raises(ConfigError, match=re.escape(said)):
        pipeline(FILE.replace(change, to, 1))
