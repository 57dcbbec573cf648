"""Privacy is declared once and holds in each of several tables, whatever columns it has or gets.

Goal: a path protects what it leads to in every table, a table without it is none the worse, and no
record stops a worker because of what stands where something private was expected. Method: chains of
tables as a pipeline file declares them, over columns that nobody declared.
"""

import hashlib
import hmac
from typing import Any

import pyarrow as pa
import pytest

from k2i_core.config import Pipeline
from k2i_core.config.load import parse_pipeline
from k2i_core.errors import ConfigError
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from k2i_core.schema.tags import tagged_fields
from k2i_core.transform.chain import Transforms
from k2i_core.transform.privacy import Action
from k2i_core.transform.sql_engine import SqlEngine
from k2i_core.wiring.schema_tags import SchemaTags
from k2i_core.wiring.transforms import check_paths, transforms_of
from k2i_core.wiring.writer_readers import SchemaSettings, WriterReaders
from tests.unit.transform.chains import PIPELINE, apply

SECRET = "a secret of some length"
CUSTOMER = "struct<name: string, email: string>"
ENGINE = SqlEngine()


def several(columns: dict[str, str], *steps: dict[str, Any]) -> Pipeline:
    orders = [{"name": "email", "type": "string"}, {"name": "customer", "type": CUSTOMER}]
    settings = {key: value for key, value in PIPELINE.items() if key != "table"}
    return parse_pipeline(
        {
            **settings,
            "dead_letters": {"table": "sales.dead_letters"},
            "tables": [
                {
                    "identifier": "sales.orders",
                    "match": {"field": "type", "pattern": "order"},
                    "columns": orders,
                    "transforms": list(steps),
                },
                {"identifier": "sales.rest"},
            ],
            "privacy": {"columns": columns, "secret": SECRET},
        }
    )


def of_rest(columns: dict[str, str], tags: SchemaTags | None = None) -> Transforms:
    alone = several(columns).one_table("sales.rest")
    assert alone is not None
    made = transforms_of(alone, tags, ENGINE)
    assert made is not None
    return made


def written(made: Transforms, value: dict[str, Any], **types: pa.DataType) -> list[dict[str, Any]]:
    schema = pa.schema([(name, types.get(name, pa.string())) for name in value])
    return apply(made, pa.RecordBatch.from_pylist([value], schema)).rows.to_pylist()


def test_a_path_protects_what_it_leads_to_and_may_lead_nowhere():
    made = of_rest({"email": "hash", "customer.name": "drop"})
    digest = hmac.digest(SECRET.encode(), b"a@b", hashlib.sha256).hex()

    assert written(made, {"city": "Ulm"}) == [{"city": "Ulm"}]
    assert written(made, {"email": "a@b", "city": "Ulm"}) == [{"email": digest, "city": "Ulm"}]


@pytest.mark.parametrize(
    ("action", "type_", "value"),
    [
        ("mask", pa.int64(), 4111),
        ("hash", pa.float64(), 1.5),
        ("tokenise", pa.list_(pa.string()), ["plain"]),
        ("mask", pa.struct([("inside", pa.string())]), {"inside": "plain"}),
    ],
)
def test_where_an_action_is_not_for_the_type_that_came_the_value_is_redacted(action, type_, value):
    made = of_rest({"email": action})

    assert written(made, {"id": "1", "email": value}, email=type_) == [{"id": "1", "email": None}]


@pytest.mark.parametrize(
    ("path", "type_", "value", "left"),
    [
        ("customer.email", pa.string(), "plain", "[redacted]"),
        ("customer.email", pa.map_(pa.string(), pa.string()), [("email", "plain")], None),
        ("customer.email", pa.list_(pa.struct([("email", pa.string())])), [{"email": "p"}], None),
        ("customer[].email", pa.struct([("email", pa.string())]), {"email": "plain"}, None),
    ],
)
def test_what_hides_the_end_of_a_path_is_redacted_as_a_whole(path, type_, value, left):
    made = of_rest({path: "mask"})

    assert written(made, {"id": "1", "customer": value}, customer=type_) == [
        {"id": "1", "customer": left}
    ]


def test_records_of_nothing_else_become_rows_without_columns():
    items = pa.list_(pa.struct([("note", pa.string())]))
    value = {"email": "plain", "customer": {"name": "plain"}, "items": [{"note": "plain"}]}
    types = {"customer": pa.struct([("name", pa.string())]), "items": items}
    made = of_rest({"email": "drop", "customer.name": "drop", "items[].note": "drop"})
    no_columns = pa.RecordBatch.from_pylist([{"a": 1}] * 3).select([])

    assert written(made, value, **types) == [{}]
    assert made.derive(pa.schema([])).names == []
    assert apply(made, no_columns).rows.num_rows == 3


def test_tags_do_nothing_in_a_table_that_has_no_columns_yet():
    tags = SchemaTags({"PII": Action.HASH}, has_envelope=False)
    text = '{"type": "record", "name": "P", "fields": [{"name": "email", "type": "string", '
    schema = WriterSchema(1, SchemaLanguage.AVRO, text + '"confluent:tags": ["PII"]}]}')
    tags.learn(tagged_fields(schema))
    made = of_rest({}, tags)
    no_columns = pa.RecordBatch.from_pylist([{"a": 1}] * 3).select([])

    assert apply(made, no_columns).rows.num_rows == 3
    assert written(made, {"email": "plain"}) != [{"email": "plain"}]


def test_a_path_that_leads_nowhere_in_any_table_is_refused():
    check_paths(several({"email": "hash", "customer.name": "mask"}), ENGINE)
    made = {"sql": {"domain": "lower(email)"}}
    check_paths(several({"email": "hash", "domain": "drop"}, made), ENGINE)

    with pytest.raises(ConfigError, match=r'privacy.columns: "emial" is no'):
        check_paths(several({"email": "hash", "emial": "hash"}), ENGINE)
    with pytest.raises(ConfigError, match=r'table sales.orders: .*"customer" is str'):
        check_paths(several({"customer": "mask"}), ENGINE)


def test_each_table_is_told_of_the_schemas_of_its_own_records_and_reads_them_as_the_others_do():
    text = '{"type": "record", "name": "P", "fields": [{"name": "email", "type": "string"}]}'
    schemas = [WriterSchema(n, SchemaLanguage.AVRO, text.replace("P", f"P{n}")) for n in range(2)]
    settings = SchemaSettings(SchemaLanguage.AVRO, None, None, "format.schema_file")
    whole = WriterReaders(settings, lambda reader: reader)
    first: list[object] = []
    second: list[object] = []
    one, other = whole.telling(first.append), whole.telling(second.append)

    assert one.make(schemas[0]) is one.make(schemas[0]) is other.make(schemas[0])
    one.make(schemas[1])
    assert (len(first), len(second)) == (2, 1)
