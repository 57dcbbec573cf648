"""Tags of a Protobuf schema are found wherever it has fields, and their values are protected.

Goal: no tagged field is missed, in any place of a message. Method: a schema with a tag in each such
place, compiled by the real compiler; its records decoded as a pipeline with that schema does.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.message_factory import GetMessageClass

from k2i_core.clock import SystemClock
from k2i_core.config.load import parse_pipeline
from k2i_core.decode.proto_schema import CompiledSchema, read_descriptors
from k2i_core.decode.proto_tags import tagged_fields
from k2i_core.ingest.decoding import DecodeSettings, decode_batch
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import POLLED_SCHEMA, DecodedBatch, PolledBatch
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from k2i_core.schema.tags import Tagged
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.proto_compiler import FILE_NAME, compile_proto
from k2i_core.wiring.record_columns import RecordColumns
from k2i_core.wiring.writer_readers import SchemaSettings, WriterReaders
from tests.unit.test_schema_tags import PATHS
from tests.unit.transform.chains import PIPELINE

SCHEMA = """
syntax = "proto3";
package shop;
import "confluent/meta.proto";
message Person {
  int64 id = 1;
  string email = 2 [(confluent.field_meta) = {tags: ["EMAIL", "PII"], doc: "PII of nobody"}];
  Address home = 3;
  repeated Address others = 4;
  map<string, Address> by_name = 5;
  Person parent = 6;
  message Address {
    string street = 1 [(confluent.field_meta).tags = "PII"];
    string city = 2 [deprecated = true];
  }
}
"""


@pytest.fixture(scope="module")
def compiled() -> CompiledSchema:
    schema = WriterSchema(1, SchemaLanguage.PROTOBUF, SCHEMA)
    return read_descriptors(compile_proto(schema), FILE_NAME)


def test_a_tag_is_found_in_every_place_of_a_field(compiled):
    found = tagged_fields(compiled, "shop.Person")
    assert {steps for steps, _ in found} == PATHS
    assert all("PII" in tags for _, tags in found)
    assert dict(found)[("email",)] == {"EMAIL", "PII"}
    assert {steps for steps, _ in tagged_fields(compiled, None)} == {*PATHS, ("street",)}
    assert tagged_fields(compiled, "shop.Other") == ()


class Quicker:
    """Another reader around the one that knows the schema."""

    def __init__(self, reader: Any) -> None:
        self.row_schema, self.read = reader.row_schema, reader.read


def test_tags_are_told_whatever_reads_the_records():
    told: list[Tagged] = []
    settings = SchemaSettings(SchemaLanguage.PROTOBUF, "shop.Person", None, "format.schema_file")
    readers = WriterReaders(settings, Quicker).telling(told.extend)
    assert isinstance(readers.make(WriterSchema(1, SchemaLanguage.PROTOBUF, SCHEMA)), Quicker)
    assert {steps for steps, _ in told} == PATHS


def test_what_a_schema_file_tags_is_protected(compiled, tmp_path: Path):
    file = tmp_path / "person.proto"
    file.write_text(SCHEMA)
    format_ = {"value": "protobuf", "schema_file": str(file), "message": "shop.Person"}
    privacy = {"tags": {"PII": "redact"}}
    pipeline = parse_pipeline({**PIPELINE, "format": format_, "privacy": privacy})
    formats = Formats(pipeline, SystemClock())
    columns = RecordColumns(pipeline, formats)
    known = formats.known_row_schema()
    assert known is not None
    person = GetMessageClass(compiled.pool.FindMessageTypeByName("shop.Person"))
    address = {"street": "plain", "city": "Ulm"}
    record = person(
        id=7,
        email="plain",
        home=address,
        others=[address],
        by_name={"a": address},
        parent={"home": address},
    )
    place = {"topic": "t", "partition": 0, "offset": 0, "value": record.SerializeToString()}
    records = pa.RecordBatch.from_pylist([place], schema=POLLED_SCHEMA)
    polled = PolledBatch(records, (OffsetRange(TopicPartition("t", 0), 0, 1),), 1, 0.0)
    settings = DecodeSettings("sales.orders", {}, transforms=columns.transforms)

    decoded = decode_batch(polled, formats.make_decoder(known), settings, 0)

    assert isinstance(decoded, DecodedBatch)
    hidden = {"street": "[redacted]", "city": "Ulm"}
    assert decoded.rows.drop_columns(["_kafka"]).to_pylist() == [
        {
            "id": 7,
            "email": "[redacted]",
            "home": hidden,
            "others": [hidden],
            "by_name": None,
            "parent": "[redacted]",
        }
    ]
