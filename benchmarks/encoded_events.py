"""The flat events in Avro and in Protobuf: the same rows in the bytes of another format."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeAlias

import fastavro
from google.protobuf import message_factory

from k2i_core.decode.proto_schema import read_descriptors
from k2i_core.dev.orders import EPOCH_MS, FLAT, Column, Events, EventSet
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from k2i_core.wiring.proto_compiler import FILE_NAME, compile_proto

_AVRO_SCHEMA = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "event_id", "type": "long"},
        {"name": "user_id", "type": "long"},
        {"name": "session_id", "type": "string"},
        {"name": "event_type", "type": "string"},
        {"name": "country", "type": "string"},
        {"name": "price", "type": "double"},
        {"name": "quantity", "type": "int"},
        {"name": "created_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "is_mobile", "type": "boolean"},
        {"name": "path", "type": "string"},
    ],
}
_PROTO_SCHEMA = """
syntax = "proto3";
import "google/protobuf/timestamp.proto";
message Event {
  int64 event_id = 1;
  int64 user_id = 2;
  string session_id = 3;
  string event_type = 4;
  string country = 5;
  double price = 6;
  int32 quantity = 7;
  google.protobuf.Timestamp created_at = 8;
  bool is_mobile = 9;
  string path = 10;
}
"""


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """The events of `FLAT` as another format writes them.

    Attributes:
        name: For topics and headings.
        format: In the pipeline file.
        schema_file: Name of the file that tells the schema.
        schema: What it holds.
    """

    name: str
    format: str
    schema_file: str
    schema: str
    _encode: Callable[[dict[str, Any], int], bytes]

    @property
    def columns(self) -> Sequence[Column]:
        """Those of `FLAT`."""
        return FLAT.columns

    def make(
        self,
        start_id: int,
        count: int,
        *,
        seed: int = 0,
        bad_share: float = 0.0,
        epoch_ms: int = EPOCH_MS,
    ) -> Events:
        """Make the events `[start_id, start_id + count)`; none of them is bad."""
        assert bad_share == 0.0
        events = FLAT.make(start_id, count, seed=seed, epoch_ms=epoch_ms)
        values: list[bytes] = []
        for value in events.values:
            event = json.loads(value)
            milliseconds = round(datetime.fromisoformat(event["created_at"]).timestamp() * 1000)
            values.append(self._encode(event, milliseconds))
        return Events(start_id, events.keys, values, {})


AnySet: TypeAlias = EventSet | EncodedSet


@cache
def avro_events() -> EncodedSet:
    """Return the set in Avro."""
    parsed = fastavro.parse_schema(_AVRO_SCHEMA)

    def encode(event: dict[str, Any], created_ms: int) -> bytes:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, parsed, {**event, "created_at": created_ms})
        return buffer.getvalue()

    return EncodedSet("flat-avro", "avro", "event.avsc", json.dumps(_AVRO_SCHEMA), encode)


@cache
def protobuf_events() -> EncodedSet:
    """Return the set in Protobuf."""
    schema = WriterSchema(None, SchemaLanguage.PROTOBUF, _PROTO_SCHEMA)
    pool = read_descriptors(compile_proto(schema), FILE_NAME).pool
    make = message_factory.GetMessageClass(pool.FindMessageTypeByName("Event"))

    def encode(event: dict[str, Any], created_ms: int) -> bytes:
        seconds, milliseconds = divmod(created_ms, 1000)
        at: Mapping[str, int] = {"seconds": seconds, "nanos": milliseconds * 1_000_000}
        message: Any = make(**{**event, "created_at": at})
        return message.SerializeToString()

    return EncodedSet("flat-protobuf", "protobuf", "event.proto", _PROTO_SCHEMA, encode)
