"""Properties of the Protobuf decoder.

Goal: what a producer wrote is what the row says; a damaged record harms only itself, and does not
become a row of zeros; the verdict on a record does not depend on the records beside it.
Method: messages with every type of field, filled at random, encoded by Google's library, and the
columns' values computed from the message object by the few lines below. Some records are damaged.
What is accepted all the same must be what Google's library reads, without unknown fields.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.decode import proto_wire
from k2i_core.decode.proto_decoder import ProtoReader
from k2i_core.decode.proto_schema import CompiledSchema, read_descriptors
from k2i_core.decode.schema_decoder import SchemaDecoder
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from k2i_core.wiring.proto_compiler import FILE_NAME, compile_proto
from tests.property.binary_records import damaged, same
from tests.property.verdicts import verdicts

PROTO = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
enum Color { NONE = 0; RED = 1; BLUE = 5; }
message Item { string sku = 1; int32 count = 2; repeated sint64 sizes = 3; }
message Node { int32 value = 1; repeated Node children = 2; }
message Order {
  double a_double = 1; float a_float = 2; int64 a_long = 3; uint64 a_ulong = 4; int32 an_int = 5;
  fixed64 a_fixed64 = 6; fixed32 a_fixed32 = 7; bool a_bool = 8; string a_string = 9;
  bytes some_bytes = 10; uint32 a_uint = 11; Color color = 12; sfixed32 a_sfixed32 = 13;
  sfixed64 a_sfixed64 = 14; sint32 a_sint = 15; sint64 a_slong = 16;
  optional int32 perhaps_int = 17; optional string perhaps_string = 18;
  Item item = 19; repeated Item items = 20;
  repeated int32 ints = 21; repeated double doubles = 22; repeated string strings = 23;
  repeated Color colors = 24; repeated uint64 ulongs = 25 [packed = false];
  map<string, int32> counts = 26; map<int32, Item> item_by_id = 27;
  oneof choice { string text = 28; int64 number = 29; Item thing = 30; }
  google.protobuf.Timestamp at = 31; google.protobuf.Int64Value wrapped = 32;
  google.protobuf.Struct free = 33; Node tree = 34; repeated bool flags = 35;
}
"""


@pytest.fixture(scope="module")
def compiled() -> CompiledSchema:
    serialized = compile_proto(WriterSchema(None, SchemaLanguage.PROTOBUF, PROTO))
    assert descriptor_pb2.FileDescriptorSet.FromString(serialized).file
    return read_descriptors(serialized, FILE_NAME)


def new_order(compiled: CompiledSchema) -> Any:
    descriptor = compiled.pool.FindMessageTypeByName("shop.Order")
    return message_factory.GetMessageClass(descriptor)()


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**64 - 1)
FLOATS = st.floats(width=32, allow_nan=False)
COLORS = st.sampled_from([0, 1, 5, 77, -3])
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "a_double": FLOATS,
    "a_float": FLOATS,
    "a_long": INT64,
    "a_ulong": UINT64,
    "an_int": INT32,
    "a_fixed64": UINT64,
    "a_fixed32": st.integers(0, 2**32 - 1),
    "a_bool": st.booleans(),
    "a_string": TEXTS,
    "some_bytes": st.binary(max_size=8),
    "a_uint": st.integers(0, 2**32 - 1),
    "color": COLORS,
    "a_sfixed32": INT32,
    "a_sfixed64": INT64,
    "a_sint": INT32,
    "a_slong": INT64,
    "perhaps_int": INT32,
    "perhaps_string": TEXTS,
}
LISTS: dict[str, st.SearchStrategy[Any]] = {
    "ints": INT32,
    "doubles": FLOATS,
    "strings": TEXTS,
    "colors": COLORS,
    "ulongs": UINT64,
    "flags": st.booleans(),
}
ITEMS = st.fixed_dictionaries(
    {}, optional={"sku": TEXTS, "count": INT32, "sizes": st.lists(INT64, max_size=3)}
)
TIMES = st.datetimes(timezones=st.just(UTC))


def fill_item(item: Any, parts: dict[str, Any]) -> None:
    item.SetInParent()
    for name, value in parts.items():
        if name == "sizes":
            item.sizes.extend(value)
        else:
            setattr(item, name, value)


@st.composite
def encoded_orders(  # noqa: C901, PLR0912 - one branch a kind of field
    draw: st.DrawFn, compiled: CompiledSchema
) -> bytes:
    order = new_order(compiled)
    for name, values in SCALARS.items():
        if draw(st.booleans()):
            setattr(order, name, draw(values))
    for name, values in LISTS.items():
        getattr(order, name).extend(draw(st.lists(values, max_size=3)))
    if draw(st.booleans()):
        fill_item(order.item, draw(ITEMS))
    for parts in draw(st.lists(ITEMS, max_size=3)):
        fill_item(order.items.add(), parts)
    for key, value in draw(st.dictionaries(TEXTS, INT32, max_size=3)).items():
        order.counts[key] = value
    for key, parts in draw(st.dictionaries(INT32, ITEMS, max_size=2)).items():
        fill_item(order.item_by_id[key], parts)
    match draw(st.integers(0, 3)):
        case 1:
            order.text = draw(TEXTS)
        case 2:
            order.number = draw(INT64)
        case 3:
            fill_item(order.thing, draw(ITEMS))
    if draw(st.booleans()):
        order.at.FromDatetime(draw(TIMES))
    if draw(st.booleans()):
        order.wrapped.value = draw(INT64)
    if draw(st.booleans()):
        order.free.update({"a": draw(INT32), "b": [None, "x"]})
    if draw(st.booleans()):
        order.tree.value = 1
        order.tree.children.add().value = draw(INT32)
    return order.SerializeToString()


def shown(message: Message) -> dict[str, Any]:
    """Say what the row is, from the message object alone."""
    row: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            row[field.name] = {key: shown_value(inner, value[key]) for key in value}
        elif field.is_repeated:
            row[field.name] = [shown_value(field, element) for element in value]
        elif field.has_presence and not message.HasField(field.name):
            row[field.name] = None
        else:
            row[field.name] = shown_value(field, value)
    return row


def shown_value(field: Any, value: Any) -> Any:  # noqa: PLR0911 - one return a kind
    if field.enum_type is not None:
        known = field.enum_type.values_by_number
        return known[value].name if value in known else str(value)
    if field.message_type is None:
        is_unsigned = field.type in (field.TYPE_UINT64, field.TYPE_FIXED64)
        return Decimal(value) if is_unsigned else value
    match field.message_type.full_name:
        case "google.protobuf.Timestamp":
            start = datetime(1970, 1, 1, tzinfo=UTC)
            return start + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
        case "google.protobuf.Int64Value":
            return value.value
        case "google.protobuf.Struct":
            return json_format.MessageToJson(value, indent=None)
        case "shop.Node" if field.containing_type.full_name == "shop.Node":
            return json_format.MessageToJson(value, preserving_proto_field_name=True, indent=None)
        case _:
            return shown(value)


def with_maps(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "counts": dict(row["counts"]), "item_by_id": dict(row["item_by_id"])}


class Schemas:
    """The one schema, framed as id 1."""

    def find(self, schema_id: int) -> WriterSchema:
        assert schema_id == 1
        return WriterSchema(1, SchemaLanguage.PROTOBUF, PROTO)


FRAME = b"\0\0\0\0\1" + b"\x02\x04"  # message index 2: Order


def decoder(compiled: CompiledSchema) -> SchemaDecoder:
    reader = ProtoReader(compiled, "shop.Order", is_framed=True)
    return SchemaDecoder(reader.row_schema, Schemas(), lambda _: reader)


@given(data=st.data(), few_rows=st.sampled_from([0, 2, 1_000]))
def test_what_was_written_is_what_the_row_says(
    compiled: CompiledSchema, data: st.DataObject, few_rows: int
) -> None:
    values = data.draw(st.lists(encoded_orders(compiled), min_size=1, max_size=5))
    before = proto_wire.FEW_ROWS
    try:
        proto_wire.FEW_ROWS = few_rows
        array = pa.array([FRAME + value for value in values], pa.binary())
        found = verdicts(decoder(compiled).decode(array), len(values))
    finally:
        proto_wire.FEW_ROWS = before
    for value, verdict in zip(values, found, strict=True):
        order = new_order(compiled)
        order.ParseFromString(value)
        assert same(with_maps(verdict), shown(order)), (verdict, shown(order))


@given(data=st.data(), few_rows=st.sampled_from([0, 2, 1_000]))
def test_a_damaged_record_harms_only_itself(
    compiled: CompiledSchema, data: st.DataObject, few_rows: int
) -> None:
    values = data.draw(st.lists(encoded_orders(compiled), min_size=1, max_size=5))
    for place in range(len(values)):
        if data.draw(st.booleans()):
            values[place] = data.draw(damaged(values[place]))
    decode = decoder(compiled).decode
    before = proto_wire.FEW_ROWS
    try:
        proto_wire.FEW_ROWS = few_rows
        array = pa.array([FRAME + value for value in values], pa.binary())
        together = verdicts(decode(array), len(values))
    finally:
        proto_wire.FEW_ROWS = before
    for value, verdict in zip(values, together, strict=True):
        [alone] = verdicts(decode(pa.array([FRAME + value], pa.binary())), 1)
        if isinstance(verdict, tuple):
            assert isinstance(alone, tuple), (alone, verdict)
            continue
        assert same(with_maps(alone), with_maps(verdict))
        order = new_order(compiled)
        try:
            order.ParseFromString(value)
        except DecodeError as error:
            raise AssertionError(verdict) from error
        assert same(with_maps(verdict), shown(order)), (verdict, shown(order))
