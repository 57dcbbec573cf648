"""Debezium's envelopes through the pipeline file's settings, without a broker.

Goal: a new table gets the row's columns and those of the change from a schema file or from first
records, keys and time formats included; what cannot be an envelope is refused at start.
Method: pipeline files, the wiring's own decoders, and events that Google's library wrote.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from k2i_core.clock import SystemClock
from k2i_core.config.load import read_pipeline
from k2i_core.errors import ConfigError
from k2i_core.records import POLLED_SCHEMA
from k2i_core.schema.identity import identity_of, is_identified
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from k2i_core.wiring.format_mapping import mapping_property
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.proto_compiler import FILE_NAME, compile_proto

PROTO = """syntax = "proto3";
message Row { int64 id = 1; optional string name = 2; }
message Source { string db = 1; }
message Envelope {
  optional Row before = 1;
  optional Row after = 2;
  Source source = 3;
  string op = 4;
  optional int64 ts_ms = 5;
  optional int64 ts_us = 6;
}
message Other { int64 id = 1; }
"""


def formats(format_: dict[str, Any], **table: Any) -> Formats:
    document = {
        "name": "orders",
        "kafka": {"bootstrap_servers": "localhost:9092", "topics": ["orders"]},
        "format": {"envelope": "debezium", **format_},
        "catalog": {"type": "sql", "uri": "sqlite:///none.db", "warehouse": "none"},
        "table": {"identifier": "sales.orders", **table},
    }
    pipeline = read_pipeline(json.dumps(document), "orders.yaml")
    assert mapping_property(pipeline)["k2i.envelope-mapping"] == "debezium/1"
    return Formats(pipeline, SystemClock())


def records(*pairs: tuple[bytes | None, bytes | None]) -> pa.RecordBatch:
    listed = [
        {"topic": "orders", "partition": 0, "offset": n, "key": key, "value": value}
        for n, (key, value) in enumerate(pairs)
    ]
    return pa.RecordBatch.from_pylist(listed, schema=POLLED_SCHEMA)


def test_protobuf_events_by_a_schema_file(tmp_path: Path) -> None:
    file = tmp_path / "envelope.proto"
    file.write_text(PROTO)
    settings = {"value": "protobuf", "schema_file": str(file), "message": "Envelope"}
    made = formats(settings)
    columns = made.known_row_schema()
    assert columns is not None
    assert columns.names == ["id", "name", "__op", "__ts_ms", "__source", "__before"]

    pool = descriptor_pool.DescriptorPool()
    serialized = compile_proto(WriterSchema(None, SchemaLanguage.PROTOBUF, PROTO))
    for each in descriptor_pb2.FileDescriptorSet.FromString(serialized).file:
        pool.Add(each)
    descriptor = pool.FindMessageTypeByName("Envelope")
    envelope: Any = message_factory.GetMessageClass(descriptor)
    row, source = {"id": 1, "name": "a"}, {"db": "shop"}
    written = [
        envelope(op="c", after=row, source=source, ts_ms=5),
        envelope(op="d", before=row, source=source, ts_ms=6, ts_us=6000),
        envelope(op="d", source=source),
    ]
    decoded = made.make_decoder(columns).decode(
        records(*((None, each.SerializeToString()) for each in written))
    )
    change = {"__source": source}
    assert decoded.rows.to_pylist() == [
        {**row, "__op": "c", "__ts_ms": 5, **change, "__before": None},
        {**row, "__op": "d", "__ts_ms": 6, **change, "__before": row},
    ]
    assert [(f.index, f.error_class) for f in decoded.failures] == [(2, "invalid_envelope")]
    with pytest.raises(ConfigError, match="no envelope"):
        formats({**settings, "message": "Other"}).known_row_schema()
    assert FILE_NAME


def test_declared_columns_keep_their_time_formats_inside_of_the_envelope() -> None:
    declared = [
        {"name": "id", "type": "long"},
        {"name": "at", "type": "timestamptz", "format": "epoch_ms"},
    ]
    made = formats({"value": "json", "key": "json"}, columns=declared)
    names = {"id": pa.int64(), "at": pa.timestamp("us", tz="UTC"), "__op": pa.string()}
    table = pa.schema([*names.items(), ("__ts_ms", pa.int64()), ("_key", pa.int64())])
    change = {"op": "d", "before": {"id": 1, "at": 1000}, "after": None}
    value = json.dumps({"schema": None, "payload": change}).encode()
    wanted = made.make_decoder(table).decode(records((b"7", value))).proposed_schema
    assert wanted is not None
    assert wanted.names == [*table.names, "__before"]
    decoded = made.make_decoder(wanted).decode(records((b"7", value)))
    (row,) = decoded.rows.to_pylist()
    assert (row["id"], row["at"].timestamp(), row["__op"], row["_key"]) == (1, 1.0, "d", 7)


def test_first_records_that_are_no_envelopes_tell_nothing() -> None:
    made = formats({"value": "json"})
    assert made.row_schema_of(records((None, b'{"id": 1}'), (None, b"{"), (None, None))).names == []
    value = json.dumps({"op": "c", "before": None, "after": {"id": 1}, "ts_ms": 5}).encode()
    found = made.row_schema_of(records((None, b'{"id": 1}'), (None, value)))
    assert found.names == ["id", "__op", "__ts_ms", "__before"]


def test_full_knows_the_row_s_fields_by_number_and_renames_them_inside_of_the_envelope(
    tmp_path: Path,
) -> None:
    older, newer = tmp_path / "older.proto", tmp_path / "newer.proto"
    older.write_text(PROTO)
    newer.write_text(PROTO.replace("optional string name = 2", "optional string title = 2"))
    settings = {"value": "protobuf", "message": "Envelope"}
    made = [
        formats({**settings, "schema_file": str(file)}, schema_evolution="full")
        for file in (older, newer)
    ]
    table = made[0].known_row_schema()
    assert table is not None
    assert identity_of(table.field("name")).identity == "2"
    readers = made[0].readers
    assert readers is not None
    assert readers.file_schema is not None
    own = readers.make(readers.file_schema).row_schema
    assert not is_identified([own.field("op"), own.field("ts_ms")])
    # after: {id: 1, title: "a"}, op: "c"
    record = records((None, b"\x12\x05\x08\x01\x12\x01a\x22\x01c"))
    assert made[0].make_decoder(table).decode(record).rows.column("name").to_pylist() == ["a"]

    renamed = made[1].make_decoder(table).decode(record).proposed_schema
    assert renamed is not None
    assert renamed.names == ["id", "title", "__op", "__ts_ms", "__source", "__before"]
    assert [field.name for field in renamed.field("__before").type] == ["id", "title"]
    for each in made:
        decoded = each.make_decoder(renamed).decode(record)
        assert decoded.proposed_schema is None
        assert decoded.rows.column("title").to_pylist() == ["a"]


def test_numbers_of_declared_timestamps_are_times_inside_of_envelopes_with_schemas(
    tmp_path: Path,
) -> None:
    file = tmp_path / "envelope.proto"
    file.write_text(PROTO.replace("optional string name = 2", "int64 at = 2"))
    settings = {"value": "protobuf", "message": "Envelope", "schema_file": str(file)}
    at = {"name": "at", "type": "timestamptz", "format": "epoch_ms"}
    made = formats(settings, columns=[{"name": "id", "type": "long"}, at])
    made.judge_schemas(frozenset())
    names = {"id": pa.int64(), "at": pa.timestamp("us", tz="UTC"), "__op": pa.string()}
    table = pa.schema([*names.items(), ("__ts_ms", pa.int64())])
    record = records((None, b"\x12\x05\x08\x01\x10\xe8\x07\x22\x01c"))

    wanted = made.make_decoder(table).decode(record).proposed_schema

    decoded = made.make_decoder(table if wanted is None else wanted).decode(record)
    (row,) = decoded.rows.to_pylist()
    assert (row["id"], row["at"].timestamp()) == (1, 1.0)


def test_a_new_field_of_the_row_under_an_old_name_is_breaking(tmp_path: Path) -> None:
    def made(*fields: dict[str, Any]) -> Formats:
        row = {"type": "record", "name": "Row", "fields": [{"name": "id", "type": "long"}, *fields]}
        parts = [{"name": "before", "type": ["null", row]}, {"name": "after", "type": "Row"}]
        envelope = {"type": "record", "name": "Envelope"}
        envelope["fields"] = [*parts, {"name": "op", "type": "string"}]
        file = tmp_path / "envelope.avsc"
        file.write_text(json.dumps(envelope))
        return formats({"value": "avro", "schema_file": str(file)}, schema_evolution="full")

    customer = {"name": "customer", "aliases": ["client"], "type": "string"}
    table = made({"name": "client", "type": "string"}).known_row_schema()
    assert table is not None
    # before: null, after: {id: 1, customer: "a"}, op: "c"
    record = records((None, b"\0\2\2a\2c"))
    renamed = made(customer).make_decoder(table).decode(record).proposed_schema
    assert renamed is not None

    again = made(customer, {"name": "client", "type": "string"})
    again.judge_schemas(frozenset())
    breaking = again.make_decoder(renamed).decode(records((None, b"\0\2\2a\2b\2c"))).breaking

    assert breaking is not None
    said = 'client: was the name of column "customer", which records of older schemas still use'
    assert breaking.reason == f"before.{said}; after.{said}"
