"""The native readers of Avro and Protobuf beside those in Python, on records of any kind.

Goal: nobody can tell from the outcome which of the two read: rows, places and failures are equal.
What is a row is read natively, whatever its type, unless it has what is planned to be left to
Python: otherwise this would be Python beside Python.
Method: the random schemas and records of the properties of both formats, whole and damaged; and
records of one schema with every type, damaged at random in batches of any size. A bounded number
in the suite; `make soak` goes on for as long as it is told.
"""

import json
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from google.protobuf import message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.native_binary import NativeBinaryReader, accelerated_reader
from k2i_core.decode.proto_decoder import ProtoReader
from k2i_core.decode.proto_schema import CompiledSchema, read_descriptors
from k2i_core.decode.schema_decoder import SchemaDecoder, WriterReader
from k2i_core.native import NativeRecordReader
from k2i_core.records import DecodedValues
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from k2i_core.wiring.proto_compiler import FILE_NAME, compile_proto
from tests.e2e.test_fuzzed_formats import damage
from tests.json_paths import NATIVE, needs_native, no_failure
from tests.property.binary_records import damaged
from tests.property.test_decode_avro import encode, schemas, without_logical
from tests.property.test_decode_protobuf import PROTO, encoded_orders, new_order

pytestmark = needs_native

ROUNDS = 6
POOL_SIZE = 400
BATCH_SIZES = (1, 40, 400)
SOAK_BATCH_SIZES = (1, 40, 1_000, 20_000)


class Counting:
    """A native reader that counts what it reads."""

    def __init__(self, reader: NativeRecordReader) -> None:
        self._reader = reader
        self.certain_count = 0

    def read(self, *where: Any) -> Any:
        read = self._reader.read(*where)
        self.certain_count += len(read[1])
        return read


class Both:
    """One schema's records, read on either path."""

    def __init__(self, reader: AvroReader | ProtoReader) -> None:
        assert NATIVE.library is not None
        native = accelerated_reader(reader, NATIVE.library, no_failure)
        assert isinstance(native, NativeBinaryReader)
        native._native = self.counting = Counting(native._native)
        self._decoders = [self._decoder(reader), self._decoder(native)]
        self.row_count = self.failure_count = 0

    def _decoder(self, reader: WriterReader) -> SchemaDecoder:
        schema = WriterSchema(None, SchemaLanguage.AVRO, "")
        return SchemaDecoder(reader.row_schema, schema, lambda _: reader)

    def compare(self, values: list[bytes]) -> None:
        array = pa.array([b"around", *values, b"it"], pa.binary()).slice(1, len(values))
        python, native = (decoder.decode(array) for decoder in self._decoders)
        check_equal(native, python)
        self.row_count += python.rows.num_rows
        self.failure_count += len(python.failures)


def check_equal(native: DecodedValues, python: DecodedValues) -> None:
    native.rows.validate(full=True)
    # Of several reasons, which one is told may depend on the batch, in Python as well.
    assert [one.index for one in native.failures] == [one.index for one in python.failures]
    assert native.rows.schema.equals(python.rows.schema, check_metadata=True)
    assert (native.row_indices is None) == (python.row_indices is None)
    if native.row_indices is not None:
        assert native.row_indices.equals(python.row_indices)
    # NaN is equal to itself here.
    is_equal = native.rows.equals(python.rows)
    assert is_equal or repr(native.rows.to_pylist()) == repr(python.rows.to_pylist())


def avro_reader(schema: Any) -> AvroReader:
    return AvroReader(WriterSchema(None, SchemaLanguage.AVRO, json.dumps(schema)))


@given(st.data(), st.booleans())
@settings(max_examples=40)
def test_both_make_the_same_of_avro(data: st.DataObject, is_whole: bool) -> None:
    made = data.draw(schemas())
    parsed = fastavro.parse_schema(without_logical(made.schema))
    values = [encode(parsed, r) for r in data.draw(st.lists(made.stored, min_size=1, max_size=8))]
    both = Both(avro_reader(made.schema))
    if not is_whole:
        values = [data.draw(damaged(v)) if data.draw(st.booleans()) else v for v in values]

    both.compare(values)

    assert not is_whole or both.counting.certain_count == both.row_count


@pytest.fixture(scope="module")
def compiled() -> CompiledSchema:
    serialized = compile_proto(WriterSchema(None, SchemaLanguage.PROTOBUF, PROTO))
    return read_descriptors(serialized, FILE_NAME)


@given(st.data(), st.booleans())
@settings(max_examples=15)
def test_both_make_the_same_of_protobuf(
    compiled: CompiledSchema, data: st.DataObject, is_whole: bool
) -> None:
    values = data.draw(st.lists(encoded_orders(compiled), min_size=1, max_size=5))
    both = Both(ProtoReader(compiled, "shop.Order", is_framed=True))
    if not is_whole:
        values = [data.draw(damaged(v)) if data.draw(st.booleans()) else v for v in values]

    both.compare([b"\2\4" + value for value in values])

    if is_whole:
        count = sum(not is_left_to_python(compiled, value) for value in values)
        assert both.counting.certain_count == count


def is_left_to_python(compiled: CompiledSchema, value: bytes) -> bool:
    order = new_order(compiled)
    order.ParseFromString(value)
    return order.HasField("free") or len(order.tree.children) > 0


LOGICAL: list[tuple[str, str, range | tuple[Any, ...]]] = [
    ("int", "date", range(-719_162, 2_932_897)),
    ("int", "time-millis", range(86_400_000)),
    ("long", "time-micros", range(86_400_000_000)),
    ("long", "timestamp-millis", range(-(10**12), 10**13)),
    ("long", "timestamp-micros", range(-(10**15), 10**16)),
    ("long", "timestamp-nanos", range(-(10**18), 10**18)),
    ("long", "local-timestamp-millis", range(-(10**12), 10**13)),
    ("string", "uuid", (*["123e4567-e89b-12d3-a456-426614174000"] * 400, "x")),
]
EVERY_TYPE: list[Any] = [
    *("boolean", "int", "long", "float", "double", "bytes", "string"),
    *({"type": kind, "logicalType": logical} for kind, logical, _ in LOGICAL),
    {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
    {"type": "fixed", "name": "F", "size": 3},
    {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"},
    {"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"},
    {
        "type": "fixed",
        "name": "C",
        "size": 9,
        "logicalType": "decimal",
        "precision": 20,
        "scale": 0,
    },
    {"type": "enum", "name": "E", "symbols": ["RED", "GREEN"]},
]


def every_type() -> Any:
    """A record of each type, plainly and below each thing that is around types."""
    fields: list[Any] = []
    for place, leaf in enumerate(EVERY_TYPE):
        named = leaf["name"] if isinstance(leaf, dict) and "name" in leaf else leaf
        fields += [
            {"name": f"plain{place}", "type": leaf},
            {"name": f"optional{place}", "type": ["null", named]},
            {"name": f"list{place}", "type": {"type": "array", "items": ["null", named]}},
            {"name": f"map{place}", "type": {"type": "map", "values": named}},
        ]
    inner = {"name": "In", "type": "record", "fields": [{"name": "a", "type": "int"}]}
    nothing = {"name": "No", "type": "record", "fields": []}
    fields += [
        {"name": "members", "type": ["null", "int", inner, nothing, "string"]},
        {"name": "nothing", "type": ["null", "No"]},
        {"name": "lists", "type": {"type": "array", "items": {"type": "array", "items": "In"}}},
    ]
    return {"type": "record", "name": "Row", "fields": fields}


def avro_value(schema: Any, chosen: random.Random) -> Any:  # noqa: C901, PLR0911, PLR0912
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(kind, list):
        branch = chosen.choice(kind)
        value = avro_value(branch, chosen)
        name = branch.get("name", branch["type"]) if isinstance(branch, dict) else branch
        return value if name == "null" else (name, value)
    logical = schema.get("logicalType") if isinstance(schema, dict) else None
    for of_kind, of_logical, values in LOGICAL:
        if (kind, logical) == (of_kind, of_logical):
            return chosen.choice(values)
    match kind:
        case "record":
            return {f["name"]: avro_value(f["type"], chosen) for f in schema["fields"]}
        case "array":
            return [avro_value(schema["items"], chosen) for _ in range(chosen.randrange(3))]
        case "map":
            return {
                key: avro_value(schema["values"], chosen) for key in "aä"[: chosen.randrange(3)]
            }
        case "null":
            return None
        case "boolean":
            return chosen.random() < 0.5
        case "int":
            return chosen.randrange(-(2**31), 2**31) >> chosen.randrange(32)
        case "long":
            return chosen.randrange(-(2**63), 2**63) >> chosen.randrange(64)
        case "float" | "double":
            return chosen.choice((0.0, -0.0, 1.5, float("nan"), float("-inf")))
        case "bytes":
            return chosen.randbytes(chosen.randrange(1, 4))
        case "string":
            return chosen.choice(("", "a", "long enough to be no short one", "ä€😀"))
        case "fixed":
            return chosen.randbytes(min(schema["size"], 8)).rjust(schema["size"], b"\0")
        case "enum":
            return chosen.choice(schema["symbols"])
        case name:
            return avro_value(NAMED[name], chosen)


NAMED: dict[str, Any] = {
    **{leaf["name"]: leaf for leaf in EVERY_TYPE if isinstance(leaf, dict) and "name" in leaf},
    "In": {"type": "record", "name": "In", "fields": [{"name": "a", "type": "int"}]},
    "No": {"type": "record", "name": "No", "fields": []},
}


def avro_pool(chosen: random.Random) -> tuple[Both, list[bytes]]:
    schema = every_type()
    parsed = fastavro.parse_schema(without_logical(schema))
    values = [encode(parsed, avro_value(schema, chosen)) for _ in range(POOL_SIZE)]
    return Both(avro_reader(schema)), values


def fill(message: Any, chosen: random.Random) -> None:  # noqa: C901, PLR0912 - one branch a kind
    for field in message.DESCRIPTOR.fields:
        if chosen.random() < 0.3 or (field.name in ("free", "tree") and chosen.random() < 0.95):
            continue
        value = getattr(message, field.name)
        if field.message_type is None:
            made = [proto_value(field, chosen) for _ in range(chosen.randrange(4))]
            if field.is_repeated:
                value.extend(made)
            elif made:
                setattr(message, field.name, made[0])
        elif field.message_type.GetOptions().map_entry:
            key, item = field.message_type.fields
            for _ in range(chosen.randrange(3)):
                if item.message_type is None:
                    value[proto_value(key, chosen)] = proto_value(item, chosen)
                else:
                    fill(value[proto_value(key, chosen)], chosen)
        elif field.message_type.full_name == "google.protobuf.Timestamp":
            value.seconds = chosen.randrange(-62_135_596_800, 253_402_300_800)
            value.nanos = chosen.randrange(10**9)
        elif field.message_type.full_name == "google.protobuf.Struct":
            value.update({"a": 1})
        elif field.is_repeated:
            for _ in range(chosen.randrange(3)):
                fill(value.add(), chosen)
        else:
            value.SetInParent()
            fill(value, chosen)


def proto_value(field: Any, chosen: random.Random) -> Any:
    match field.cpp_type:
        case field.CPPTYPE_STRING:
            is_bytes = field.type == field.TYPE_BYTES
            return chosen.choice((b"", b"\xff\0") if is_bytes else ("", "a", "ä€😀", "longer text"))
        case field.CPPTYPE_BOOL:
            return chosen.random() < 0.5
        case field.CPPTYPE_FLOAT | field.CPPTYPE_DOUBLE:
            return chosen.choice((0.0, -0.0, 1.5, float("nan")))
        case field.CPPTYPE_UINT64 | field.CPPTYPE_UINT32:
            bits = 64 if field.cpp_type == field.CPPTYPE_UINT64 else 32
            return chosen.randrange(2**bits) >> chosen.randrange(bits)
        case field.CPPTYPE_ENUM:
            return chosen.choice((0, 1, 5, 77, -3))
        case _:
            bits = 63 if field.cpp_type == field.CPPTYPE_INT64 else 31
            return chosen.randrange(-(2**bits), 2**bits) >> chosen.randrange(bits + 1)


def protobuf_pool(compiled: CompiledSchema, chosen: random.Random) -> tuple[Both, list[bytes]]:
    make = message_factory.GetMessageClass(compiled.pool.FindMessageTypeByName("shop.Order"))

    def encoded() -> bytes:
        order = make()
        fill(order, chosen)
        return b"\2\4" + order.SerializeToString()

    both = Both(ProtoReader(compiled, "shop.Order", is_framed=True))
    return both, [encoded() for _ in range(POOL_SIZE)]


def compare_damaged(
    both: Both, whole: list[bytes], chosen: random.Random, sizes: Iterable[int]
) -> int:
    """Compare a batch of each size, with a few records that are damaged, or many."""
    record_count = 0
    for size in sizes:
        share = chosen.choice((0.0, 0.02, 0.5))
        values = chosen.choices(whole, k=size)
        for place, value in enumerate(values):
            if chosen.random() < share:
                values[place] = damage(value, chosen.choice(whole), chosen)
        both.compare(values)
        record_count += size
    return record_count


Pool = Callable[[random.Random], tuple[Both, list[bytes]]]


@pytest.fixture(scope="module", params=["avro", "protobuf"])
def pool(request: pytest.FixtureRequest, compiled: CompiledSchema) -> Pool:
    return avro_pool if request.param == "avro" else lambda chosen: protobuf_pool(compiled, chosen)


def test_both_make_the_same_of_records_that_are_damaged(pool: Pool, seed: int) -> None:
    chosen = random.Random(seed)
    both, whole = pool(chosen)

    record_count = sum(compare_damaged(both, whole, chosen, BATCH_SIZES) for _ in range(ROUNDS))

    assert both.counting.certain_count > record_count / 2
    assert both.failure_count > record_count / 50


@pytest.mark.soak
def test_both_make_the_same_for_as_long_as_told(
    pool: Pool, seed: int, soak_seconds: float, record_property
) -> None:
    chosen = random.Random(seed)
    deadline = time.monotonic() + soak_seconds
    record_count = natively = failure_count = 0
    while time.monotonic() < deadline:
        both, whole = pool(chosen)
        record_count += compare_damaged(both, whole, chosen, SOAK_BATCH_SIZES)
        natively += both.counting.certain_count
        failure_count += both.failure_count
    record_property("records", record_count)
    record_property("natively", natively)
    record_property("failures", failure_count)
