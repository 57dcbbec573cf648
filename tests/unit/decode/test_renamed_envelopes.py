"""Columns that get another name inside of Debezium's envelopes.

Goal: a rename is one of the row and of what was before alike, older events land under the new
name, and the envelope's own columns stay what they are. Method: Avro's aliases in envelopes of
fastavro's, decoded by a table of before and of afterwards.
"""

import io
import json
from collections.abc import Callable
from typing import Any

import fastavro
import pyarrow as pa

from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.debezium import DebeziumDecoder, EnvelopeReader, known_by_name
from k2i_core.decode.record_decoder import ValueDecoder
from k2i_core.decode.schema_decoder import SchemaDecoder
from k2i_core.schema.identity import is_identified
from k2i_core.schema.registered import SchemaLanguage, WriterSchema

NOTHING = pa.schema([])
OLDER = [{"name": "id", "type": "long"}, {"name": "client", "type": "int"}]
NEWER = [OLDER[0], {"name": "customer", "aliases": ["client"], "type": "long"}]


def envelope(fields: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    row = {"type": "record", "name": "Value", "fields": fields}
    described = [
        {"name": "before", "type": ["null", row]},
        {"name": "after", "type": ["null", "Value"]},
        {"name": "op", "type": "string", **more},
    ]
    return {"type": "record", "name": "Envelope", "fields": described}


def schema_of(fields: list[dict[str, Any]], **more: Any) -> WriterSchema:
    return WriterSchema(None, SchemaLanguage.AVRO, json.dumps(envelope(fields, **more)))


def decoder_of(fields: list[dict[str, Any]]) -> Callable[[pa.Schema], DebeziumDecoder]:
    schema = schema_of(fields)

    def make(row_schema: pa.Schema, *, may_add_columns: bool) -> ValueDecoder:
        return SchemaDecoder(
            row_schema,
            schema,
            lambda one: EnvelopeReader(AvroReader(one)),
            may_add_columns=may_add_columns,
            may_rename=True,
        )

    return lambda table: DebeziumDecoder(table, make, may_add_columns=True, may_rename=True)


def events(fields: list[dict[str, Any]], *changes: tuple[str, Any, Any]) -> Any:
    writer = fastavro.parse_schema(envelope(fields))
    written: list[bytes] = []
    for op, before, after in changes:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, writer, {"op": op, "before": before, "after": after})
        written.append(buffer.getvalue())
    return pa.array(written, pa.binary())


def test_a_column_of_the_row_is_renamed_in_the_row_and_in_what_was_before() -> None:
    client = {"id": 1, "client": 7}
    older = events(OLDER, ("c", None, client), ("d", client, None))
    row, later = {"id": 1, "customer": 7}, {"id": 1, "customer": 2**40}
    newer = events(NEWER, ("u", row, later))

    first = decoder_of(OLDER)(NOTHING).decode(older).proposed_schema
    assert first is not None
    assert first.names == ["id", "client", "__op", "__ts_ms", "__before"]
    renamed = decoder_of(NEWER)(first).decode(newer).proposed_schema
    assert renamed is not None
    assert renamed.names == ["id", "customer", "__op", "__ts_ms", "__before"]
    assert [field.name for field in renamed.field("__before").type] == ["id", "customer"]
    assert renamed.field("customer").type == pa.int64()

    decoded = decoder_of(OLDER)(renamed).decode(older)
    assert decoded.proposed_schema is None
    change = {"__ts_ms": None}
    assert decoded.rows.to_pylist() == [
        {**row, "__op": "c", **change, "__before": None},
        {**row, "__op": "d", **change, "__before": row},
    ]
    decoded = decoder_of(NEWER)(renamed).decode(newer)
    assert decoded.rows.to_pylist() == [{**later, "__op": "u", **change, "__before": row}]


def test_a_column_that_would_be_called_as_the_envelope_s_keeps_its_name() -> None:
    client = {"id": 1, "client": 7}
    table = decoder_of(OLDER)(NOTHING).decode(events(OLDER, ("c", None, client))).proposed_schema
    assert table is not None
    odd = [OLDER[0], {"name": "__op", "aliases": ["client"], "type": "int"}]

    decoded = decoder_of(odd)(table).decode(events(odd, ("c", None, {"id": 1, "__op": 7})))

    assert decoded.proposed_schema is None
    assert decoded.rows.select(["id", "client", "__op"]).to_pylist() == [{**client, "__op": "c"}]


def test_the_envelope_s_own_fields_are_known_by_their_names_alone() -> None:
    columns = EnvelopeReader(AvroReader(schema_of(NEWER, aliases=["operation"]))).row_schema

    assert is_identified(list(columns.field("after").type))
    assert not is_identified([columns.field("op")])
    assert known_by_name(columns).equals(columns, check_metadata=True)
