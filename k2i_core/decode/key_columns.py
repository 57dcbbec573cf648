"""Keys as one column: a struct of what the key's record holds, or the one value that the key is."""

import json
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from k2i_core.decode.arrow import AnyArray
from k2i_core.decode.conform import Faults
from k2i_core.decode.contradictions import Judge
from k2i_core.decode.cursors import Cursors, Rows, numbers_array
from k2i_core.decode.framing import to_texts
from k2i_core.decode.isolation import no_rows
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.record_decoder import ValueDecoder
from k2i_core.decode.schema_decoder import NO_FORMATS, Piece, Target, WriterReader, made_of
from k2i_core.decode.schema_frames import UNFRAMED
from k2i_core.records import DecodedValues, DecodeFailure
from k2i_core.schema.registered import WriterSchema

_AROUND_A_KEY = "k2i_record_around_a_key"
"""Name of the record that an Avro key is put into; nobody else's."""


def with_avro_column(schema: WriterSchema, column: str) -> WriterSchema:
    """Return the schema of records whose one field is the key.

    Avro writes a record as its fields, one after the other and nothing else, so the bytes of a key
    are the bytes of such a record, whatever the key is.
    """
    try:
        fields = [{"name": column, "type": json.loads(schema.text)}]
        text = json.dumps({"type": "record", "name": _AROUND_A_KEY, "fields": fields})
    except (ValueError, RecursionError):
        return schema  # Whoever reads it says what is wrong with it.
    return WriterSchema(schema.schema_id, schema.language, text, schema.references)


def packed(rows: pa.RecordBatch, column: str) -> pa.RecordBatch:
    """Return rows with one struct column of all columns; none where there are none."""
    if not rows.schema.names:
        return rows
    fields = list(rows.schema)
    struct = pa.StructArray.from_arrays(rows.columns, fields=fields)
    return pa.RecordBatch.from_arrays([struct], schema=packed_schema(rows.schema, column))


def packed_schema(schema: pa.Schema, column: str) -> pa.Schema:
    """Return the one struct column of all columns."""
    return pa.schema([pa.field(column, pa.struct(list(schema)))] if schema.names else [])


def packed_judge(judge: Judge, column: str) -> Judge:
    """Return what judges the fields of the one struct column by the columns that they would be."""
    return lambda schema_id, columns: judge(schema_id, packed_schema(columns, column))


def struct_part(row_schema: pa.Schema, column: str) -> pa.Schema:
    """Return the fields of the struct column as columns; none where there is no such column."""
    place = row_schema.get_field_index(column)
    type_ = row_schema.field(place).type if place >= 0 else None
    return pa.schema(list(type_) if isinstance(type_, pa.StructType) else [])


def plain_key_schema(kind: str, column: str) -> pa.Schema:
    """Return the column of keys that are one of `PLAIN_KEYS`."""
    return pa.schema([pa.field(column, PLAIN_KEYS[kind][0])])


class PackedReader:
    """Reads records of one schema into one struct column."""

    def __init__(self, inner: WriterReader, column: str) -> None:
        """Bind what reads the fields."""
        self._inner = inner
        self._column = column

    @property
    def row_schema(self) -> pa.Schema:
        """The column."""
        return packed_schema(self._inner.row_schema, self._column)

    def read(self, cursors: Cursors) -> tuple[tuple[Piece, ...], Faults]:
        """Read n records."""
        pieces, faults = self._inner.read(cursors)
        return tuple(Piece(p.places, packed(p.rows, self._column)) for p in pieces), faults


class PackedDecoder:
    """Decodes keys as another decoder decodes values, into one struct column."""

    def __init__(self, inner: ValueDecoder, column: str, row_schema: pa.Schema) -> None:
        """Bind what makes the fields.

        Args:
            inner: Makes the `struct_part` of `row_schema`.
            column: Name of the struct.
            row_schema: The column, or nothing where the table lacks it.

        """
        self._inner = inner
        self._column = column
        self._row_schema = row_schema
        # A declared column may be anything; no key fits one that is no struct.
        self._is_struct = not row_schema.names or bool(struct_part(row_schema, column).names)

    @property
    def row_schema(self) -> pa.Schema:
        """The column."""
        return self._row_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null keys."""
        if not self._is_struct:
            message = f"{self._column}: the table has another type"
            return DecodedValues(
                no_rows(self._row_schema),
                pa.array([], pa.int64()),
                tuple(
                    DecodeFailure(place, str(ErrorClass.WRONG_TYPE), message)
                    for place in range(len(values))
                ),
            )
        decoded = self._inner.decode(values)
        proposed = decoded.proposed_schema
        return replace(
            decoded,
            rows=packed(decoded.rows, self._column),
            proposed_schema=None if proposed is None else self._packed(proposed),
        )

    def _packed(self, fields: pa.Schema) -> pa.Schema:
        made = packed_schema(fields, self._column)
        # A column that is there stays as it is but for its fields.
        own = [field.with_type(made.field(0).type) for field in self._row_schema]
        return pa.schema(own) if own else made


class PlainKeyDecoder:
    """Decodes keys that are one value without a schema."""

    def __init__(
        self, kind: str, column: str, row_schema: pa.Schema, *, may_add_columns: bool
    ) -> None:
        """Bind the column.

        Args:
            kind: One of `PLAIN_KEYS`.
            column: Its name.
            row_schema: The column, or nothing where the table lacks it.
            may_add_columns: Propose it then.

        """
        self._kind = kind
        self._read = PLAIN_KEYS[kind][1]
        self._column = column
        self._target = Target(row_schema, NO_FORMATS, may_add_columns)

    @property
    def row_schema(self) -> pa.Schema:
        """The column."""
        return self._target.row_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null keys."""
        cursors = Cursors.of(values)
        array = self._read(cursors, cursors.rows)
        schema = plain_key_schema(self._kind, self._column)
        rows = pa.RecordBatch.from_arrays([array], schema=schema)
        places = np.flatnonzero(~cursors.is_faulty)
        piece = Piece(places, rows.take(pa.array(places, pa.int64())))
        return made_of([piece], cursors.faults, np.full(len(values), UNFRAMED), self._target)


def _whole(cursors: Cursors, _: Rows) -> pa.BinaryArray:
    starts = cursors.positions
    return cursors.binaries(starts, cursors.ends - starts)


def _texts(cursors: Cursors, rows: Rows) -> AnyArray:
    whole = _whole(cursors, rows)
    return cursors.converted(rows, whole, to_texts, ErrorClass.INVALID_UTF8, "not utf-8")


def _numbers(byte_count: int) -> Callable[[Cursors, Rows], AnyArray]:
    def read(cursors: Cursors, rows: Rows) -> AnyArray:
        lengths = cursors.ends - cursors.positions
        message = f"the key is not a number of bytes={byte_count}, highest first"
        is_bad = lengths != byte_count
        cursors.fail_where(rows, is_bad, ErrorClass.INVALID_ENCODING, message)
        # Reads a word for bad ones, too: it stays inside, and nothing is made of it.
        words = cursors.words_at(cursors.positions, byte_count).astype(f"<u{byte_count}")
        return numbers_array(words.byteswap().view(f"<i{byte_count}"), _WIDTHS[byte_count])

    return read


_WIDTHS = MappingProxyType({4: pa.int32(), 8: pa.int64()})

PLAIN_KEYS = MappingProxyType(
    {
        "raw": (pa.binary(), _whole),
        "string": (pa.string(), _texts),
        "int": (pa.int32(), _numbers(4)),
        "long": (pa.int64(), _numbers(8)),
    }
)
"""Kind of key → its column's type, and what reads it."""
