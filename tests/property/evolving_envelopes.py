"""Versions of a record type inside of Debezium's envelopes, and as keys."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf import descriptor_pb2

from k2i_core.schema.registered import SchemaLanguage
from tests.property.evolving_topics import Tree, Version


@dataclass(frozen=True)
class Envelopes:
    """A schema of envelopes, and how a change of a row is encoded by it."""

    language: SchemaLanguage
    text: str
    encode: Callable[[str, Tree | None, Tree | None], bytes]


def in_envelopes(version: Version) -> Envelopes:
    make = {
        SchemaLanguage.AVRO: _avro,
        SchemaLanguage.JSON_SCHEMA: _json,
        SchemaLanguage.PROTOBUF: _proto,
    }
    return make[version.language](version)


def _avro(version: Version) -> Envelopes:
    row = json.loads(version.text)
    fields = [
        {"name": "before", "type": ["null", row]},
        {"name": "after", "type": ["null", row["name"]]},
        {"name": "op", "type": "string"},
    ]
    text = json.dumps({"type": "record", "name": "Envelope", "fields": fields})

    def encode(op: str, *parts: Tree | None) -> bytes:
        written = [b"\0" if part is None else b"\2" + version.encode(part) for part in parts]
        return b"".join(written) + b"\2" + op.encode()

    return Envelopes(version.language, text, encode)


def _json(version: Version) -> Envelopes:
    row = json.loads(version.text)
    properties = {"before": row, "after": row, "op": {"type": "string"}}

    def encode(op: str, *parts: Tree | None) -> bytes:
        before, after = (b"null" if part is None else version.encode(part) for part in parts)
        return b'{"before":%b,"after":%b,"op":"%b"}' % (before, after, op.encode())

    text = json.dumps({"type": "object", "properties": properties})
    return Envelopes(version.language, text, encode)


def _proto(version: Version) -> Envelopes:
    files = descriptor_pb2.FileDescriptorSet.FromString(version.serialized)
    envelope = files.file[0].message_type.add(name="Envelope")
    for number, name in enumerate(("before", "after"), 1):
        envelope.field.add(name=name, number=number, label=1, type=11, type_name=".Row")
    envelope.field.add(name="op", number=4, label=1, type=9)

    def encode(op: str, *parts: Tree | None) -> bytes:
        written = b"\2\2"  # the second message of its file
        for tag, part in zip((b"\x0a", b"\x12"), parts, strict=True):
            if part is not None:
                row = version.encode(part)[1:]
                written += tag + _varint(len(row)) + row
        return written + b"\x22\1" + op.encode()

    return Envelopes(version.language, files.SerializeToString().hex(), encode)


def _varint(number: int) -> bytes:
    written = b""
    while number >= 0x80:
        written += bytes([number & 0x7F | 0x80])
        number >>= 7
    return written + bytes([number])
