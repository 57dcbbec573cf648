"""`formats`: what decoding one record costs in each format, flat and nested, side by side.

The same records in JSON, Avro and Protobuf, in Python and natively, in MessagePack, Arrow IPC and,
where they are flat, CSV; in memory, on one thread, in batches of a poll. The formats take turns in
every run, so that a machine with other work slows all of them alike.
"""

import base64
import csv
import io
import json
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
from google.protobuf import message_factory

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Group, Result, at_most, figure
from k2i_core.decode.arrow_decoder import ArrowDecoder
from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.csv_decoder import CsvDecoder
from k2i_core.decode.csv_fields import CsvDialect
from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.decode.msgpack_decoder import MsgpackDecoder
from k2i_core.decode.native_binary import accelerated_reader
from k2i_core.decode.native_json import accelerated
from k2i_core.decode.proto_decoder import ProtoReader
from k2i_core.decode.proto_schema import read_descriptors
from k2i_core.decode.record_decoder import ValueDecoder
from k2i_core.decode.schema_decoder import SchemaDecoder, WriterReader
from k2i_core.native import find_native
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from k2i_core.wiring.proto_compiler import FILE_NAME, compile_proto

BATCH_ROWS = 20_000
"""What a poll gives at most."""

BATCHES = 5
"""Larger: more different records, and more time to make them; smaller: a repeated batch is fast
because it is in the processor's cache."""

ROUNDS = 3
NATIVELY = " natively"
AT_MOST_JSON = at_most(1)

TIME = {"type": "long", "logicalType": "timestamp-millis"}
_FLAT_FIELDS: list[tuple[str, Any, str]] = [
    ("id", "long", "int64"),
    ("customer_id", "long", "int64"),
    ("quantity", "int", "int32"),
    ("price", "double", "double"),
    ("at", TIME, "google.protobuf.Timestamp"),
    ("is_paid", "boolean", "bool"),
    ("status", "string", "string"),
    ("city", "string", "string"),
    ("email", ["null", "string"], "optional string"),
]
_ITEM_FIELDS = [("sku", "string"), ("count", "int"), ("price", "double")]
_PROTO = """
syntax = "proto3";
import "google/protobuf/timestamp.proto";
message Row {{ {fields} }}
message Address {{ string street = 1; string city = 2; optional string code = 3; }}
message Item {{ string sku = 1; int32 count = 2; double price = 3; }}
"""
_NESTED_PROTO_FIELDS = (
    "Address address = 20; repeated Item items = 21; map<string, string> labels = 22;"
)


@dataclass(frozen=True, slots=True)
class _Case:
    """One format's decoder and its batches."""

    name: str
    decoder: ValueDecoder
    batches: list[pa.BinaryArray]

    @property
    def byte_count(self) -> float:
        """Bytes of a record."""
        return sum(batch.nbytes for batch in self.batches) / (BATCHES * BATCH_ROWS)


def run(bench: Bench) -> Result:
    """Measure all formats on flat and on nested records."""
    groups: list[Group] = []
    for name, is_nested in (("flat", False), ("nested", True)):
        bench.say(f"making {name} records")
        records = _records(BATCH_ROWS * BATCHES, is_nested=is_nested)
        cases = _cases(records, is_nested=is_nested)
        figures: list[Figure] = []
        costs: dict[str, list[float]] = {case.name: [] for case in cases}
        for _ in range(bench.options.repeat):
            for case in cases:
                costs[case.name].append(_cost(case))
        for case in cases:
            heading = f"{case.name}, {case.byte_count:.0f} B"
            figures.append(figure(heading, "ns/row", *costs[case.name]))
        figures += [_beside_json(case.name, costs) for case in cases[1:]]
        groups.append(Group(f"{name}, {BATCHES * BATCH_ROWS:,} rows", tuple(figures)))
    return Result(
        "formats",
        {"repeat": bench.options.repeat},
        tuple(groups),
        ("ns/row: processor time of ValueDecoder.decode on batches in memory, one thread",),
    )


def _beside_json(name: str, costs: Mapping[str, Sequence[float]]) -> Figure:
    """Return what a format costs beside JSON on the same path."""
    native_json = f"json{NATIVELY}"
    beside = native_json if name.endswith(NATIVELY) and name != native_json else "json"
    ratios = (a / b for a, b in zip(costs[name], costs[beside], strict=True))
    is_judged = name.startswith(("avro", "protobuf"))
    return figure(f"{name} to {beside}", "×", *ratios, target=AT_MOST_JSON if is_judged else None)


def _cost(case: _Case) -> float:
    started = time.process_time()
    for _ in range(ROUNDS):
        for batch in case.batches:
            assert not case.decoder.decode(batch).failures
    return (time.process_time() - started) / (ROUNDS * BATCHES * BATCH_ROWS) * 1e9


def encoded_samples(count: int) -> dict[str, tuple[ValueDecoder, list[bytes]]]:
    """Return by format its decoder, and different records of it, nested where it can."""
    nested = _cases(_records(count, is_nested=True), is_nested=True)
    flat = _flat_cases(_records(count, is_nested=False), AvroReader(_avro(is_nested=False)))
    return {
        case.name: (
            case.decoder,
            [value for value in case.batches[0].to_pylist() if value is not None],
        )
        for case in (*nested, *flat)
    }


def _cases(records: list[dict[str, Any]], *, is_nested: bool) -> Sequence[_Case]:
    avro = _avro(is_nested=is_nested)
    columns = AvroReader(avro).row_schema
    encode_avro, encode_proto, proto = _encoders(json.loads(avro.text), is_nested=is_nested)
    flat = [] if is_nested else _flat_cases(records, AvroReader(avro))
    json_decoder = JsonDecoder(columns, time_formats={"at": "epoch_ms"})
    cases = [
        _Case("json", json_decoder, _batches(records, _json)),
        _Case("avro", _by_schema(AvroReader(avro)), _batches(records, encode_avro)),
        _Case("protobuf", _by_schema(proto), _batches(records, encode_proto)),
    ]
    native = _native_decoders(json_decoder, AvroReader(avro), proto)
    return [
        *cases,
        *(
            _Case(f"{case.name}{NATIVELY}", decoder, case.batches)
            for case, decoder in zip(cases, native, strict=False)
        ),
        _Case(
            "msgpack",
            MsgpackDecoder(columns, time_formats={"at": "epoch_ms"}),
            _batches(records, _msgpack),
        ),
        _Case("arrow_ipc", ArrowDecoder(columns, time_formats={}), _streams(columns, records)),
        *flat,
    ]


def _by_schema(reader: WriterReader) -> SchemaDecoder:
    schema = WriterSchema(None, SchemaLanguage.AVRO, "")
    return SchemaDecoder(reader.row_schema, schema, lambda _: reader)


def _native_decoders(
    json_decoder: JsonDecoder, avro: AvroReader, proto: ProtoReader
) -> list[ValueDecoder]:
    """Return the same with the native readers before them; none without the wheel."""
    library = find_native("auto").library
    if library is None:
        return []
    return [
        accelerated(
            json_decoder,
            library,
            time_formats={"at": "epoch_ms"},
            may_add_columns=False,
            report_failure=_fail,
        ),
        *(_by_schema(accelerated_reader(reader, library, _fail)) for reader in (avro, proto)),
    ]


def _fail(reason: str) -> None:
    raise AssertionError(reason)


def _flat_cases(records: list[dict[str, Any]], avro: AvroReader) -> list[_Case]:
    """Return the formats that know no nesting."""
    columns = avro.row_schema
    dialect = CsvDialect(tuple(columns.names))
    decoder = CsvDecoder(columns, dialect, time_formats={"at": "epoch_ms"})
    return [_Case("csv", decoder, _batches(records, _csv))]


def _batches(
    records: list[dict[str, Any]], encode: Callable[[dict[str, Any]], bytes]
) -> list[pa.BinaryArray]:
    made: list[pa.BinaryArray] = []
    for start in range(0, len(records), BATCH_ROWS):
        batch = pa.array([encode(r) for r in records[start : start + BATCH_ROWS]], pa.binary())
        assert isinstance(batch, pa.BinaryArray)
        made.append(batch)
    return made


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def _msgpack(value: Any) -> bytes:  # noqa: ANN401, PLR0911 - a JSON value; one return a type
    """Write a value as MessagePack: short texts, lists and maps, numbers of eight bytes."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return struct.pack(">Bq", 0xD3, value) if value > 0x7F else bytes([value])
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        text = value.encode()
        return bytes([0xD9, len(text)]) + text
    if isinstance(value, dict):
        pairs = b"".join(_msgpack(key) + _msgpack(below) for key, below in value.items())
        return bytes([0x80 + len(value)]) + pairs
    return bytes([0x90 + len(value)]) + b"".join(map(_msgpack, value))


def _csv(record: dict[str, Any]) -> bytes:
    output = io.StringIO(newline="")
    csv.writer(output, lineterminator="").writerow(record.values())
    return output.getvalue().encode()


def _streams(columns: pa.Schema, records: list[dict[str, Any]]) -> list[pa.BinaryArray]:
    """Write the rows one by one as Arrow's own writer does, each with its schema before it."""
    rows = pa.RecordBatch.from_pylist(records, schema=columns)
    numbers = iter(range(len(records)))

    def encode(_: dict[str, Any]) -> bytes:
        output = pa.BufferOutputStream()
        with pa.ipc.new_stream(output, columns) as writer:
            writer.write_batch(rows.take(pa.array([next(numbers)])))
        return output.getvalue().to_pybytes()

    return _batches(records, encode)


def _avro(*, is_nested: bool) -> WriterSchema:
    return WriterSchema(None, SchemaLanguage.AVRO, json.dumps(_avro_schema(is_nested=is_nested)))


def _records(count: int, *, is_nested: bool) -> list[dict[str, Any]]:
    chosen = np.random.default_rng(7)
    numbers = chosen.integers(0, 10**6, (count, 8)).tolist()
    texts = [base64.b32encode(chosen.bytes(10)).decode().lower() for _ in range(1000)]
    made: list[dict[str, Any]] = []
    for index, (a, b, c, d, e, f, g, h) in enumerate(numbers):
        record: dict[str, Any] = {
            "id": index,
            "customer_id": a,
            "quantity": b % 20,
            "price": c / 100,
            "at": 1_780_000_000_000 + index * 7 + d % 7,
            "is_paid": e % 2 == 0,
            "status": ("new", "paid", "sent")[f % 3],
            "city": texts[g % 100],
            "email": f"{texts[h % 1000]}@example.org" if h % 4 else None,
        }
        if is_nested:
            record["address"] = {
                "street": f"{texts[a % 1000]} {b % 99}",
                "city": texts[c % 100],
                "code": str(d % 99_999) if d % 3 else None,
            }
            record["items"] = [
                {"sku": texts[(e + n) % 1000], "count": n + 1, "price": (f + n) / 100}
                for n in range(g % 4)
            ]
            record["labels"] = {f"k{n}": texts[(h + n) % 1000] for n in range(h % 3)}
        made.append(record)
    return made


def _avro_schema(*, is_nested: bool) -> dict[str, Any]:
    fields: list[dict[str, Any]] = [{"name": n, "type": avro} for n, avro, _ in _FLAT_FIELDS]
    if is_nested:
        address = [{"name": n, "type": "string"} for n in ("street", "city")]
        address.append({"name": "code", "type": ["null", "string"]})  # pyright: ignore[reportArgumentType] - JSON
        item = [{"name": name, "type": type_} for name, type_ in _ITEM_FIELDS]
        fields += [
            {"name": "address", "type": {"type": "record", "name": "Address", "fields": address}},
            {
                "name": "items",
                "type": {
                    "type": "array",
                    "items": {"type": "record", "name": "Item", "fields": item},
                },
            },
            {"name": "labels", "type": {"type": "map", "values": "string"}},
        ]
    return {"type": "record", "name": "Row", "fields": fields}


def _encoders(
    avro_schema: dict[str, Any], *, is_nested: bool
) -> tuple[Callable[[dict[str, Any]], bytes], Callable[[dict[str, Any]], bytes], ProtoReader]:
    parsed = fastavro.parse_schema(avro_schema)

    def encode_avro(record: dict[str, Any]) -> bytes:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, parsed, record)
        return buffer.getvalue()

    fields = " ".join(f"{t} {n} = {i};" for i, (n, _, t) in enumerate(_FLAT_FIELDS, start=1))
    text = _PROTO.format(fields=fields + (_NESTED_PROTO_FIELDS if is_nested else ""))
    writer = WriterSchema(None, SchemaLanguage.PROTOBUF, text)
    compiled = read_descriptors(compile_proto(writer), FILE_NAME)
    make = message_factory.GetMessageClass(compiled.pool.FindMessageTypeByName("Row"))

    def encode_proto(record: dict[str, Any]) -> bytes:
        milliseconds = record["at"]
        message: Any = make(**{name: part for name, part in record.items() if name != "at"})
        message.at.FromMilliseconds(milliseconds)
        return message.SerializeToString()

    return encode_avro, encode_proto, ProtoReader(compiled, "Row", is_framed=False)
