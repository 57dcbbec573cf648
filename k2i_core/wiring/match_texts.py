"""What a `match` of the pipeline file looks at in records, by the pipeline's format."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa

from k2i_core.config import Match, Pipeline
from k2i_core.config.format import Format
from k2i_core.decode.avro_schema import parse_avro
from k2i_core.decode.conform import Faults
from k2i_core.decode.cursors import Cursors
from k2i_core.decode.field_peeks import (
    ArrowFieldPeek,
    CsvFieldPeek,
    JsonSchemaFieldPeek,
    MsgpackFieldPeek,
    SchemaFieldPeek,
)
from k2i_core.decode.json_peek import FieldPeek
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.proto_decoder import ProtoReader
from k2i_core.decode.schema_frames import failure_of, group_by_schema, read_frames
from k2i_core.decode.schema_headers import VALUE_HEADER, begin_with_schema
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.ingest.routing import Texts, Undecided, header_texts, topic_texts
from k2i_core.records import DecodeFailure
from k2i_core.schema.registered import NoSuchSchema, SchemaId, SchemaLanguage, WriterSchema
from k2i_core.wiring.csv_dialect import csv_dialect
from k2i_core.wiring.formats import Formats

Made = TypeVar("Made")

Peek = Callable[[pa.BinaryArray], pa.StringArray]
"""n values → n texts; null where there is none."""


def texts_of(match: Match, pipeline: Pipeline, formats: Formats) -> Texts:
    """Return what reads the texts that a match is about."""
    format_ = pipeline.format
    if match.topic is not None:
        return topic_texts
    if match.header is not None:
        return header_texts(match.header)
    if match.field is not None:
        return _field_texts(_peek(match.field, pipeline, formats), format_)
    return _message_texts(formats, format_)


def _peek(path: str, pipeline: Pipeline, formats: Formats) -> Peek:
    match pipeline.format.value:
        case "csv":
            return CsvFieldPeek(path, csv_dialect(pipeline))
        case "msgpack":
            return MsgpackFieldPeek(path)
        case "json_schema":
            return JsonSchemaFieldPeek(path)
        case "arrow_ipc":
            return ArrowFieldPeek(path)
        case "avro" | "protobuf":
            readers = formats.readers
            assert readers is not None
            schemas = formats.writer_schemas
            return SchemaFieldPeek(path, schemas, readers.make, formats.fetch)
        case _:
            return FieldPeek(path)


def unknown_schemas(pipeline: Pipeline, formats: Formats) -> Undecided:
    """Return what finds records whose schema the registry lacks, where matches ask for schemas.

    They are what their decoder makes of them today, dead letters, even if the registry has the
    schema a moment later: whose they are was decided without it.
    """
    format_ = pipeline.format
    matches = [table.match for table in pipeline.tables if table.match is not None]
    asks = any(match.message is not None or match.field is not None for match in matches)
    if not asks or not format_.reads_registry or format_.value == "json_schema":
        return lambda _records: ()
    has_indices = format_.value == "protobuf"

    def undecided(records: pa.RecordBatch) -> tuple[DecodeFailure, ...]:
        faults: Faults = {}
        frames = read_frames(Cursors.of(_framed(records, has_indices=has_indices)), faults)
        found: list[DecodeFailure] = []
        for number, places in group_by_schema(frames.numbers, faults).items():
            schema_id = frames.schema_id(number)
            assert schema_id is not None
            if isinstance(schema := formats.schema_of(schema_id), NoSuchSchema):
                fault = ErrorClass.UNKNOWN_SCHEMA_ID, schema.reason
                found += [failure_of(place, fault, number) for place in places.tolist()]
        return tuple(found)

    return undecided


def _field_texts(peek: Peek, format_: Format) -> Texts:
    has_indices = format_.value == "protobuf"

    def texts(records: pa.RecordBatch) -> pa.StringArray:
        if not format_.reads_registry:
            values = records.column("value")
            assert isinstance(values, pa.BinaryArray)
            return peek(values)
        return peek(_framed(records, has_indices=has_indices))

    return texts


def _framed(records: pa.RecordBatch, *, has_indices: bool) -> pa.BinaryArray:
    """Return the values with what headers say of their schemas; a tombstone names none."""
    values = records.column("value").fill_null(b"")
    assert isinstance(values, pa.BinaryArray)
    headers = cast("pa.ListArray[Any]", records.column("headers"))
    return begin_with_schema(values, headers, VALUE_HEADER, has_indices=has_indices)


def _message_texts(formats: Formats, format_: Format) -> Texts:
    """Return what reads the full names of records, by their schemas in the registry."""
    has_indices = format_.value == "protobuf"
    avro_name = _remembered(formats, SchemaLanguage.AVRO, _avro_name)
    readers = formats.readers
    assert readers is not None
    proto_reader = _remembered(
        formats,
        SchemaLanguage.PROTOBUF,
        lambda schema: ProtoReader(readers.compiled(schema), None, is_framed=True),
    )

    def texts(records: pa.RecordBatch) -> pa.StringArray:
        cursors = Cursors.of(_framed(records, has_indices=has_indices))
        frames = read_frames(cursors, {})
        numbers, inverse = np.unique(frames.numbers, return_inverse=True)
        places = inverse.reshape(-1)
        found = [frames.schema_id(number) for number in numbers.tolist()]
        if not has_indices:
            names = pa.array(map(avro_name, found), pa.string())
            return names.take(pa.array(places, pa.int64()))
        names = np.full(records.num_rows, None, np.object_)
        for number, schema_id in enumerate(found):
            own = np.flatnonzero(places == number)
            if (reader := proto_reader(schema_id)) is not None:
                group = cursors.inside(cursors.positions[own], cursors.ends[own])
                names[own] = reader.names(group).to_pylist()
        return pa.array(names.tolist(), pa.string())

    return texts


def _remembered(
    formats: Formats, language: SchemaLanguage, make: Callable[[WriterSchema], Made]
) -> Callable[[SchemaId | None], Made | None]:
    """Return what makes something of a schema once; None while it is not there, or of no use.

    Records without it are dead letters, of whoever gets the rest.
    """
    # Written by any thread: what an id means never changes.
    known: dict[SchemaId, Made] = {}

    def made(schema_id: SchemaId | None) -> Made | None:
        if schema_id is None:
            return None
        if schema_id in known:
            return known[schema_id]
        schema = formats.schema_of(schema_id)
        if isinstance(schema, NoSuchSchema) or schema.language is not language:
            return None
        try:
            known[schema_id] = make(schema)
        except UnusableSchemaError:
            return None
        return known[schema_id]

    return made


def _avro_name(schema: WriterSchema) -> str | None:
    return parse_avro(schema.text, schema.references).name
