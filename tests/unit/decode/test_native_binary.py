"""A native reader of Avro or Protobuf that is unsure, wrong about itself, or not able to.

Goal: whatever it does, the outcome is that of the reader in Python; it is asked about records of
the very message that it was planned for, and about no others.
Method: readers written here, so that this holds without the wheel as well.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.cursors import Cursors
from k2i_core.decode.native_binary import NativeBinaryReader, accelerated_reader
from k2i_core.decode.proto_decoder import ProtoReader
from k2i_core.decode.proto_schema import read_descriptors
from k2i_core.decode.schema_decoder import SchemaDecoder, WriterReader
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from k2i_core.wiring.proto_compiler import FILE_NAME, compile_proto

FIELDS = [{"name": "a", "type": "long"}]
SCHEMA = WriterSchema(
    None, SchemaLanguage.AVRO, json.dumps({"type": "record", "name": "R", "fields": FIELDS})
)
VALUES = pa.array([b"\0", b"\x80", b"\4", b"\6", b"\7\7"], pa.binary())


class UnsureReader:
    """Takes the records at some places, and leaves the others."""

    def __init__(self, *places: int) -> None:
        self.places = places

    def read(self, bytes_: Any, starts: Any, ends: Any, /) -> Any:
        taken = np.array(self.places, np.int64)
        rest = np.setdiff1d(np.arange(len(starts)), taken)
        cursors = Cursors(bytes_.to_numpy(), starts.to_numpy()[taken], ends.to_numpy()[taken])
        [piece], _ = AvroReader(SCHEMA).read(cursors)
        return piece.rows, pa.array(taken), pa.array(rest)


class BrokenReader:
    """Fails as a panic does."""

    def read(self, *_: Any) -> Any:
        message = "panicked at src/somewhere.rs:1"
        raise RuntimeError(message)


def decoder(reader: WriterReader) -> SchemaDecoder:
    return SchemaDecoder(AvroReader(SCHEMA).row_schema, SCHEMA, lambda _: reader)


@pytest.mark.parametrize("places", [(), (0,), (2, 3), (0, 2, 3)])
def test_what_the_reader_leaves_is_read_in_its_place(places: tuple[int, ...]) -> None:
    reader = NativeBinaryReader(UnsureReader(*places), AvroReader(SCHEMA), pytest.fail)

    decoded = decoder(reader).decode(VALUES)

    expected = decoder(AvroReader(SCHEMA)).decode(VALUES)
    assert decoded.rows.equals(expected.rows)
    assert decoded.row_indices is not None
    assert decoded.row_indices.to_pylist() == [0, 2, 3]
    assert decoded.failures == expected.failures


def test_a_reader_that_fails_costs_nothing_but_time_and_is_reported() -> None:
    reports: list[str] = []
    reader = NativeBinaryReader(BrokenReader(), AvroReader(SCHEMA), reports.append)

    decoded = decoder(reader).decode(VALUES)

    assert decoded.rows.column("a").to_pylist() == [0, 2, 3]
    assert len(decoded.failures) == 2
    assert reports == ["panicked at src/somewhere.rs:1"]


class Library:
    """Knows what it was asked, and refuses."""

    frame: bytes | None = None

    def avro_reader(self, *_: object) -> Any:
        message = "x: type Int8"
        raise ValueError(message)

    def protobuf_reader(self, _: pa.Schema, __: object, frame: bytes, /) -> Any:
        self.frame = frame
        return UnsureReader()


def test_types_that_the_reader_does_not_read_are_read_in_python() -> None:
    python = AvroReader(SCHEMA)
    library: Any = Library()

    assert accelerated_reader(python, library, pytest.fail) is python


PROTO = """
syntax = "proto3";
import "google/protobuf/timestamp.proto";
message First { int32 a = 1; message Inner { int32 b = 1; } }
message Second { map<string, int32> counts = 1; message Inner { int32 c = 1; } }
"""


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (None, b"\0"),
        ("First", b"\0"),
        ("First.Inner", b"\4\0\0"),
        ("Second", b"\2\2"),
        ("Second.Inner", b"\4\2\2"),
        ("google.protobuf.Timestamp", None),
        ("Second.CountsEntry", None),
    ],
)
def test_only_messages_behind_the_frame_of_the_planned_one_are_read_natively(
    message: str | None, frame: bytes | None
) -> None:
    schema = WriterSchema(None, SchemaLanguage.PROTOBUF, PROTO)
    compiled = read_descriptors(compile_proto(schema), FILE_NAME)
    reader = ProtoReader(compiled, message, is_framed=True)
    library: Any = Library()

    accelerated = accelerated_reader(reader, library, pytest.fail)

    assert library.frame == frame
    assert (accelerated is reader) == (frame is None)


def test_messages_without_a_frame_are_those_of_the_schema_file() -> None:
    schema = WriterSchema(None, SchemaLanguage.PROTOBUF, PROTO)
    compiled = read_descriptors(compile_proto(schema), FILE_NAME)

    assert ProtoReader(compiled, "Second.Inner", is_framed=False).frame == b""
