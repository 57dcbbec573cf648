"""Fields of keys that get another name, through the pipeline file's settings, without a broker.

Goal: what `schema_evolution: full` says of columns holds for the fields of the key's column:
renames are made, older keys find them, and a new field under an old name stops the table there.
Method: schema files of keys before and after, the wiring's own decoders, keys of fastavro's.
"""

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from k2i_core.clock import SystemClock
from k2i_core.config.load import read_pipeline
from k2i_core.pauses import FILE_SCHEMA
from k2i_core.records import POLLED_SCHEMA
from k2i_core.schema.identity import identity_of
from k2i_core.wiring.formats import Formats

CLIENT = {"name": "client", "type": "long"}
CUSTOMER = {"name": "customer", "aliases": ["client"], "type": "long"}
TABLE = pa.schema([("a", pa.int64()), ("_key", pa.struct([("client", pa.int64())]))])


def described(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "Key", "fields": list(fields)}


def formats(
    directory: Path, *fields: dict[str, Any], value_file: Path | None = None, **table: Any
) -> Formats:
    file = directory / "key.avsc"
    file.write_text(json.dumps(described(*fields)))
    value = {"value": "avro", "schema_file": str(value_file)} if value_file else {}
    document = {
        "name": "orders",
        "kafka": {"bootstrap_servers": "localhost:9092", "topics": ["orders"]},
        "format": {"key": "avro", "key_schema_file": str(file), **value},
        "catalog": {"type": "sql", "uri": "sqlite:///none.db", "warehouse": "none"},
        "table": {"identifier": "sales.orders", "schema_evolution": "full", **table},
    }
    return Formats(read_pipeline(json.dumps(document), "orders.yaml"), SystemClock())


def records(*keys: tuple[dict[str, Any], dict[str, Any]] | None) -> pa.RecordBatch:
    listed: list[dict[str, Any]] = []
    for number, key in enumerate(keys):
        written = io.BytesIO()
        if key is not None:
            fastavro.schemaless_writer(written, fastavro.parse_schema(key[0]), key[1])
        place = {"topic": "orders", "partition": 0, "offset": number}
        content = None if key is None else written.getvalue()
        listed.append({**place, "key": content, "value": b'{"a": 1}'})
    return pa.RecordBatch.from_pylist(listed, schema=POLLED_SCHEMA)


def test_a_field_is_renamed_and_older_keys_find_it(tmp_path: Path) -> None:
    older, newer = described(CLIENT), described(CUSTOMER)
    sent = records((newer, {"customer": 7}), None)

    renamed = formats(tmp_path, CUSTOMER).make_decoder(TABLE).decode(sent).proposed_schema

    assert renamed is not None
    assert renamed.names == ["a", "_key"]
    (field,) = renamed.field("_key").type
    assert (field.name, identity_of(field).former_names) == ("customer", ("client",))
    for made, record in (
        (formats(tmp_path, CUSTOMER), sent),
        (formats(tmp_path, CLIENT), records((older, {"client": 7}), None)),
    ):
        decoded = made.make_decoder(renamed).decode(record)
        assert decoded.proposed_schema is None
        assert decoded.rows.column("_key").to_pylist() == [{"customer": 7}, None]


@pytest.mark.parametrize("evolution", ["strict", "add_columns"])
def test_nothing_is_renamed_unless_the_file_says_full(tmp_path: Path, evolution: str) -> None:
    made = formats(tmp_path, CUSTOMER, schema_evolution=evolution)
    decoded = made.make_decoder(TABLE).decode(records((described(CUSTOMER), {"customer": 7})))
    names = decoded.proposed_schema and [f.name for f in decoded.proposed_schema.field("_key").type]
    assert names == (None if evolution == "strict" else ["client", "customer"])


def test_a_new_field_under_an_old_name_stops_the_table_at_its_record(tmp_path: Path) -> None:
    again = [CUSTOMER, {"name": "client", "type": "string"}]
    made = formats(tmp_path, CUSTOMER)
    sent = records((described(CUSTOMER), {"customer": 7}))
    renamed = made.make_decoder(TABLE).decode(sent).proposed_schema
    assert renamed is not None
    later = records(None, (described(*again), {"customer": 8, "client": "x"}))

    made = formats(tmp_path, *again)
    made.judge_schemas(frozenset())
    breaking = made.make_decoder(renamed).decode(later).breaking
    assert breaking is not None
    assert breaking.index == 1
    assert breaking.reason == (
        '_key.client: was the name of column "customer", which records of older schemas still use'
    )
    made.judge_schemas(frozenset({FILE_SCHEMA}))
    decoded = made.make_decoder(renamed).decode(later)
    assert decoded.rows.column("_key").to_pylist() == [None]
    assert [(f.stage, f.error_class) for f in decoded.failures] == [("key", "unknown_field")]


def test_a_former_name_that_is_k2i_s_own_is_none(tmp_path: Path) -> None:
    value = {"name": "a", "aliases": ["_key", "_KAFKA", "b"], "type": "long"}
    file = tmp_path / "value.avsc"
    file.write_text(json.dumps(described(value)))
    sent = records((described(CLIENT), {"client": 7}))
    value_bytes = pa.array([b"\2"], pa.binary())
    sent = sent.set_column(sent.schema.get_field_index("value"), "value", value_bytes)

    wanted = formats(tmp_path, CLIENT, value_file=file).make_decoder(TABLE).decode(sent)

    assert wanted.proposed_schema is not None
    assert identity_of(wanted.proposed_schema.field("a")).former_names == ("b",)
    after = formats(tmp_path, CLIENT, value_file=file).make_decoder(wanted.proposed_schema)
    assert after.decode(sent).proposed_schema is None
