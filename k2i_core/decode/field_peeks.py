"""One field of records of the other formats as text, for those who only sort records.

As `json_peek`: text and whole numbers, null for everything else and for a record that cannot be
read. Exact, because each reads as the decoder of its format does; so it costs about as much as
decoding the records once more.
"""

from collections.abc import Callable
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.decode.arrow import AnyArray, flags
from k2i_core.decode.arrow_decoder import read_streams
from k2i_core.decode.conform import Faults
from k2i_core.decode.csv_decoder import CsvDecoder
from k2i_core.decode.csv_fields import CsvDialect
from k2i_core.decode.cursors import Cursors, Integers, nulls_where
from k2i_core.decode.json_peek import FieldPeek, nested_schema
from k2i_core.decode.msgpack_columns import Reading
from k2i_core.decode.msgpack_tokens import scan
from k2i_core.decode.places import kept_places, spread
from k2i_core.decode.schema_decoder import (
    NO_FORMATS,
    Piece,
    SchemaDecoder,
    WriterReader,
    assembled,
)
from k2i_core.decode.schema_frames import KnownSchemas, read_frames
from k2i_core.records import DecodedValues
from k2i_core.schema.registered import SchemaId, WriterSchema

TEXT = "text"

_TEXT_SCHEMA = pa.schema([pa.field(TEXT, pa.string())])


class CsvFieldPeek:
    """Reads one field of n CSV records by its name."""

    def __init__(self, name: str, dialect: CsvDialect) -> None:
        """Bind a field that the dialect names."""
        columns = pa.schema([pa.field(column, pa.string()) for column in dialect.columns])
        self._decoder = CsvDecoder(columns, dialect, time_formats={})
        self._name = name

    def __call__(self, values: pa.BinaryArray) -> pa.StringArray:
        """Return n texts; null where there is none."""
        there = _places(values)
        decoded = self._decoder.decode(values.drop_null())
        return _texts(decoded, self._name, there, len(values))


class MsgpackFieldPeek:
    """Reads one field of n MessagePack maps."""

    def __init__(self, path: str) -> None:
        """Bind the field; dots lead into maps."""
        self._names = path.split(".")
        kinds = (pa.string(), pa.int64())
        self._schemas = [nested_schema(self._names, kind) for kind in kinds]

    def __call__(self, values: pa.BinaryArray) -> pa.StringArray:
        """Return n texts; null where there is none."""
        cursors = Cursors.of(values.drop_null())
        broken: Faults = {}
        tokens = scan(cursors, broken)
        owners = _places(values)[tokens.rows[tokens.roots]]
        texts = pa.nulls(len(values), pa.string())
        for schema in self._schemas:
            faults = dict(broken)
            # As if it could grow, because what else a map has is no fault here.
            reading = Reading(cursors, tokens, faults, {}, may_add_columns=True)
            column = _inside(reading.columns(schema)[0], self._names[1:]).cast(pa.string())
            is_bad = np.isin(tokens.rows[tokens.roots], list(faults))
            read = spread(column.filter(flags(~is_bad)), owners[~is_bad], len(values))
            texts = pc.coalesce(texts, read)
        assert isinstance(texts, pa.StringArray)
        return texts


class JsonSchemaFieldPeek:
    """Reads one field of n objects behind the frames of their schemas."""

    def __init__(self, path: str) -> None:
        """Bind the field; dots lead into objects."""
        self._peek = FieldPeek(path)

    def __call__(self, values: pa.BinaryArray) -> pa.StringArray:
        """Return n texts; null where there is none."""
        whole = values.fill_null(b"")
        assert isinstance(whole, pa.BinaryArray)
        cursors = Cursors.of(whole)
        faults: Faults = {}
        read_frames(cursors, faults)
        contents = cursors.binaries(cursors.positions, cursors.ends - cursors.positions)
        is_bad = np.zeros(len(whole), np.bool_)
        is_bad[list(faults)] = True
        framed = nulls_where(contents, is_bad)
        assert isinstance(framed, pa.BinaryArray)
        return self._peek(framed)


class ArrowFieldPeek:
    """Reads one field of n Arrow IPC streams of one row."""

    def __init__(self, path: str) -> None:
        """Bind the field; dots lead into structs."""
        self._names = path.split(".")

    def __call__(self, values: pa.BinaryArray) -> pa.StringArray:
        """Return n texts; null where there is none."""
        there, whole = _places(values), values.drop_null()
        assert isinstance(whole, pa.BinaryArray)
        pieces, faults = read_streams(whole)
        found = [Piece(piece.places, _field(piece.rows, self._names)) for piece in pieces]
        rows, kept = assembled(found, faults, _TEXT_SCHEMA, NO_FORMATS)
        texts = spread(rows.column(TEXT), there[kept], len(values))
        assert isinstance(texts, pa.StringArray)
        return texts


class SchemaFieldPeek:
    """Reads one field of n records by their writers' schemas."""

    def __init__(
        self,
        path: str,
        schemas: KnownSchemas | WriterSchema,
        make_reader: Callable[[WriterSchema], WriterReader],
        fetch: Callable[[frozenset[SchemaId]], None],
    ) -> None:
        """Bind the field; dots lead into records.

        Args:
            path: Of the field.
            schemas: As of the decoder of these records.
            make_reader: Likewise.
            fetch: Makes schemas known that it lacks.

        """
        names = path.split(".")
        self._decoder = SchemaDecoder(
            _TEXT_SCHEMA, schemas, lambda schema: _FieldReader(make_reader(schema), names)
        )
        self._fetch = fetch

    def __call__(self, values: pa.BinaryArray) -> pa.StringArray:
        """Return n texts; null where there is none.

        Raises:
            UnavailableError, ConfigError: As `fetch`.

        """
        there, whole = _places(values), values.drop_null()
        assert isinstance(whole, pa.BinaryArray)
        while (decoded := self._decoder.decode(whole)).missing_schema_ids:
            self._fetch(decoded.missing_schema_ids)
        return _texts(decoded, TEXT, there, len(values))


class _FieldReader:
    """A reader of one field of the records that another one reads."""

    def __init__(self, reader: WriterReader, names: list[str]) -> None:
        self._reader = reader
        self._names = names

    @property
    def row_schema(self) -> pa.Schema:
        """The one column."""
        return _TEXT_SCHEMA

    def read(self, cursors: Cursors) -> tuple[tuple[Piece, ...], Faults]:
        """Read n records."""
        pieces, faults = self._reader.read(cursors)
        found = [Piece(piece.places, _field(piece.rows, self._names)) for piece in pieces]
        return tuple(found), faults


def _field(rows: pa.RecordBatch, names: list[str]) -> pa.RecordBatch:
    """Return as many rows of the one text, of what a writer's columns have there."""
    column: AnyArray = pa.nulls(rows.num_rows, pa.string())
    first, *below = names
    if first in rows.schema.names:
        column = _inside(rows.column(first), below)
    is_shown = _is_shown(column.type)
    texts = column.cast(pa.string()) if is_shown else pa.nulls(rows.num_rows, pa.string())
    return pa.RecordBatch.from_arrays([texts], schema=_TEXT_SCHEMA)


def _is_shown(type_: pa.DataType) -> bool:
    is_whole = isinstance(type_, pa.Decimal128Type) and type_.scale == 0  # 64 bits without a sign
    return is_whole or pa.types.is_string(type_) or pa.types.is_integer(type_)


def _inside(column: AnyArray, names: list[str]) -> AnyArray:
    """Return what lies below a column; nulls where nothing does."""

    def below(outer: AnyArray, name: str) -> AnyArray:
        is_there = isinstance(outer.type, pa.StructType) and outer.type.get_field_index(name) >= 0
        return pc.struct_field(outer, name) if is_there else pa.nulls(len(outer), pa.null())

    return reduce(below, names, column)


def _places(values: pa.BinaryArray) -> Integers:
    return np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False))


def _texts(decoded: DecodedValues, name: str, there: Integers, count: int) -> pa.StringArray:
    """Return a column of what was decoded of the values at `there`, as of `count` values."""
    texts = spread(decoded.rows.column(name), there[kept_places(decoded)], count)
    assert isinstance(texts, pa.StringArray)
    return texts
