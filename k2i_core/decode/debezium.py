"""Debezium's envelopes → rows: what a row of the database is after a change, and the change.

| column | of the envelope |
|---|---|
| those of the row | `after`; for a delete, `before` |
| `__op` | `op`: c, r (read by a snapshot), u, d |
| `__ts_ms` | `ts_ms`: when Debezium saw it |
| `__source` | `source`: where in the database's log it was |
| `__before` | `before`, with the columns of the row, all optional |

The envelope is decoded like any record, by a decoder for columns of the envelope's shape, so that
all formats, types and rules of growth hold inside of it; then its rows are taken apart. What else
an envelope has is not kept. Rows are appended: nobody merges here.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.decode.arrow import AnyArray, AnyField, flags, indices, nulls, struct_fields
from k2i_core.decode.conform import Faults
from k2i_core.decode.cursors import Cursors, Flags
from k2i_core.decode.growth import grown, needed_changes
from k2i_core.decode.isolation import no_rows
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.places import among, kept_places
from k2i_core.decode.record_decoder import ValueDecoder
from k2i_core.decode.reserved import without_names
from k2i_core.decode.schema_decoder import Piece, WriterReader, assembled
from k2i_core.records import KAFKA_COLUMN, DecodedValues, DecodeFailure
from k2i_core.schema.identity import NO_IDENTITY, identified

MAPPING_VERSION = 1

OP, TS_MS, SOURCE, BEFORE = "__op", "__ts_ms", "__source", "__before"

ENVELOPE_COLUMNS = (OP, TS_MS, SOURCE, BEFORE)

ALWAYS = pa.schema([pa.field(OP, pa.string()), pa.field(TS_MS, pa.int64())])
"""What a table has of an envelope in any case: without it, a delete looks like an insert."""

_RESERVED = frozenset({*ENVELOPE_COLUMNS, KAFKA_COLUMN.casefold()})

ENVELOPE_PARTS = ("after", "before")

_PARTS_OF_TABLES = (*ENVELOPE_PARTS, "source")

_TRANSACTION = pa.struct(
    [
        pa.field("id", pa.string()),
        pa.field("total_order", pa.int64()),
        pa.field("data_collection_order", pa.int64()),
    ]
)

_PLAIN: tuple[AnyField, ...] = (
    pa.field("op", pa.string()),
    pa.field("ts_ms", pa.int64()),
    pa.field("ts_us", pa.int64()),
    pa.field("ts_ns", pa.int64()),
    pa.field("transaction", _TRANSACTION),
)

_WRITES, _DELETE = ("c", "r", "u"), "d"

_OF_FIELDS = frozenset(
    str(each)
    for each in (
        ErrorClass.INVALID_VALUE,
        ErrorClass.NUMBER_OUT_OF_RANGE,
        ErrorClass.UNKNOWN_FIELD,
        ErrorClass.WRONG_TYPE,
    )
)

ROUNDS_MAX = 8
"""Kinds of what is passed over, in one batch, that are told apart. Larger: a batch in which each
record has its own kind is decoded as often; smaller: honest ones become dead letters."""

_BAD_OP = "the envelope is of no change of a row: op is none of c, r, u, d"
_NO_ROW = "the envelope does not say what the row is: after, or before of a delete, is null"


def row_columns(table_schema: pa.Schema) -> pa.Schema:
    """Return the table's columns without those of the envelope."""
    return pa.schema([field for field in table_schema if field.name not in ENVELOPE_COLUMNS])


def wrapped_schema(table_schema: pa.Schema) -> pa.Schema:
    """Return the envelopes that fill these columns."""
    columns = list(row_columns(table_schema))
    parts: list[AnyField] = []
    if columns:
        # Of a deleted row the database may tell no more than its key.
        optional = list(_optional(row_columns(table_schema)))
        parts = [
            pa.field("after", pa.struct(columns)),
            pa.field("before", pa.struct(optional)),
        ]
    if SOURCE in table_schema.names:
        parts.append(pa.field("source", table_schema.field(SOURCE).type))
    return pa.schema([*parts, *_PLAIN])


def unwrapped_schema(
    envelope: pa.Schema,
    table_schema: pa.Schema,
    reserved: frozenset[str] = frozenset(),
    *,
    may_rename: bool = False,
) -> pa.Schema:
    """Return the table's columns with what such envelopes need beyond them; what is new comes last.

    Args:
        envelope: `wrapped_schema` of the table, or with more; or a writer's schema.
        table_schema: May have no columns.
        reserved: Names in lower case that no column may have, beside the envelope's own.
        may_rename: What a column of the row is called, `__before` calls it, too.

    Returns:
        The table's schema itself where an envelope tells nothing of a row.

    """
    after, before = (_fields_of(envelope, part) for part in ENVELOPE_PARTS)
    known = row_columns(table_schema)
    columns = without_names(grown(after, before), _RESERVED | reserved, known)
    if not columns.names:
        return table_schema
    before_now = _fields_of(table_schema, BEFORE)
    before_then = grown(before_now, _optional(columns), may_rename=may_rename)
    wanted = {field.name: field for field in ALWAYS if field.name not in table_schema.names}
    source = _fields_of(envelope, "source")
    if source.names:
        wanted[SOURCE] = pa.field(SOURCE, pa.struct(list(source)))
    wanted[BEFORE] = pa.field(BEFORE, pa.struct(list(before_then)))
    of_row = iter(columns)
    own = [
        wanted.pop(field.name, field) if field.name in ENVELOPE_COLUMNS else next(of_row, field)
        for field in table_schema
    ]
    return pa.schema([*own, *of_row, *wanted.values()])


class EnvelopeReader:
    """Reads envelopes as another reader does, with no number of the envelope's own fields.

    A number, or a former name, is for columns of a table, which only rows and `source` become.
    """

    def __init__(self, inner: WriterReader) -> None:
        """Bind what reads any records."""
        self._inner = inner

    @property
    def row_schema(self) -> pa.Schema:
        """The columns of the schema."""
        return known_by_name(self._inner.row_schema)

    def read(self, cursors: Cursors) -> tuple[tuple[Piece, ...], Faults]:
        """Read n records."""
        pieces, faults = self._inner.read(cursors)
        return tuple(Piece(each.places, _known_by_name(each.rows)) for each in pieces), faults


def known_by_name(envelope: pa.Schema) -> pa.Schema:
    """Return the columns of envelopes with no number of the envelope's own fields."""
    return pa.schema(
        [_unidentified(field, is_part=field.name in _PARTS_OF_TABLES) for field in envelope]
    )


def _known_by_name(rows: pa.RecordBatch) -> pa.RecordBatch:
    if not rows.schema.names:
        return rows
    return pa.RecordBatch.from_arrays(rows.columns, schema=known_by_name(rows.schema))


def _unidentified(field: AnyField, *, is_part: bool = False) -> AnyField:
    type_ = field.type
    if isinstance(type_, pa.StructType) and not is_part:
        type_ = pa.struct([_unidentified(inner) for inner in type_])
    return identified(field.with_type(type_), NO_IDENTITY)


class MakeDecoder(Protocol):
    """Makes decoders."""

    def __call__(self, row_schema: pa.Schema, *, may_add_columns: bool) -> ValueDecoder:
        """Return a decoder for columns, which may propose more of them, or not."""
        ...


class DebeziumDecoder:
    """Decodes envelopes; see the package for what that guarantees."""

    def __init__(
        self,
        table_schema: pa.Schema,
        make_decoder: "MakeDecoder",
        *,
        may_add_columns: bool,
        may_rename: bool = False,
        reserved: frozenset[str] = frozenset(),
    ) -> None:
        """Bind the decoder of envelopes.

        Args:
            table_schema: Columns to make.
            make_decoder: Of envelopes.
            may_add_columns: Propose columns that the table lacks.
            may_rename: Propose the names, too, that the decoder of envelopes proposes.
            reserved: As `unwrapped_schema`.

        """
        self._table_schema = table_schema
        self._make_decoder = make_decoder
        self._may_add_columns = may_add_columns
        self._may_rename = may_rename
        self._reserved = reserved
        self._envelope = wrapped_schema(table_schema)
        self._growing = make_decoder(self._envelope, may_add_columns=True)
        # Written by any thread: whichever is last, decoders of one schema are alike.
        self._strict: tuple[pa.Schema, ValueDecoder] | None = None

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes."""
        return self._table_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null values."""
        decoded = self._growing.decode(values)
        if decoded.missing_schema_ids or decoded.breaking is not None:
            return decoded
        if decoded.proposed_schema is not None:
            if self._may_add_columns:
                wanted = self._wanted(decoded.proposed_schema)
                if wanted is not None:
                    return DecodedValues(no_rows(self._table_schema), proposed_schema=wanted)
            decoded = self._pass_over(values, decoded.proposed_schema)
        elif self._may_add_columns and self._lacks_a_column(decoded.rows):
            wanted = self._wanted(self._envelope)
            if wanted is not None:
                return DecodedValues(no_rows(self._table_schema), proposed_schema=wanted)
        return self._unwrapped(decoded, len(values))

    def _wanted(self, envelope: pa.Schema) -> pa.Schema | None:
        """Return the columns that such envelopes need; None where the table has them."""
        wanted = unwrapped_schema(
            envelope, self._table_schema, self._reserved, may_rename=self._may_rename
        )
        changes = needed_changes(self._table_schema, wanted, may_rename=self._may_rename)
        return wanted if changes else None

    def _lacks_a_column(self, rows: pa.RecordBatch) -> bool:
        """Tell whether the table has none for something that these envelopes hold."""
        if not set(ALWAYS.names) <= set(self._table_schema.names):
            return rows.num_rows > 0
        before = _part(rows, "before")
        is_there = before is not None and before.null_count < len(before)
        return is_there and BEFORE not in self._table_schema.names

    def _pass_over(self, values: pa.BinaryArray, proposed: pa.Schema) -> DecodedValues:
        """Decode envelopes of which some hold more than a table keeps, whatever that is.

        It is decoded to be passed over, and what it is was guessed from all of them: one that does
        not fit the guess gets another, from those alone that did not, so that it is no fault.
        """
        pieces: list[Piece] = []
        failures: list[DecodeFailure] = []
        places, left, others = np.arange(len(values)), values, self._others(proposed)
        for rounds_left in range(ROUNDS_MAX, -1, -1):
            decoded = self._strict_for(others).decode(left)
            rows = decoded.rows.select(self._envelope.names)
            pieces.append(Piece(places[kept_places(decoded)], rows))
            again: list[int] = []
            for failure in decoded.failures:
                if rounds_left and self._is_passed_over(failure):
                    again.append(failure.index)
                else:
                    failures.append(replace(failure, index=int(places[failure.index])))
            if not again:
                break
            places, left = places[again], left.take(pa.array(again))
            others = self._guessed(left, others)
        made, kept = assembled(pieces, {}, self._envelope, {})
        failures.sort(key=lambda failure: failure.index)
        return DecodedValues(made, indices(kept), tuple(failures))

    def _is_passed_over(self, failure: DecodeFailure) -> bool:
        """Tell whether a fault is in a field that no table keeps: messages begin with the path."""
        kept = tuple(
            f"{name}{end}" for name in (*self._envelope.names, *ENVELOPE_PARTS) for end in ":.[{"
        )
        return failure.error_class in _OF_FIELDS and not failure.message.startswith(kept)

    def _guessed(self, values: pa.BinaryArray, others: pa.Schema) -> pa.Schema:
        """Return another guess: with more in it, or else a new one of these values alone."""
        wider = pa.schema([*self._envelope, *others])
        more = self._make_decoder(wider, may_add_columns=True).decode(values).proposed_schema
        if more is not None and not (grown_others := self._others(more)).equals(others):
            return grown_others
        return self._others(self._growing.decode(values).proposed_schema or self._envelope)

    def _others(self, proposed: pa.Schema) -> pa.Schema:
        known = {*self._envelope.names, *ENVELOPE_PARTS}
        return pa.schema([field for field in proposed if field.name not in known])

    def _strict_for(self, others: pa.Schema) -> ValueDecoder:
        wider = pa.schema([*self._envelope, *others])
        known = self._strict
        if known is None or not known[0].equals(wider):
            known = (wider, self._make_decoder(wider, may_add_columns=False))
            self._strict = known
        return known[1]

    def _unwrapped(self, decoded: DecodedValues, count: int) -> DecodedValues:
        rows, places = decoded.rows, kept_places(decoded)
        parts = {part: _part(rows, part) for part in ENVELOPE_PARTS}
        op = rows.column("op")
        is_delete = _flags(pc.equal(op, pa.scalar(_DELETE)))
        is_write = _flags(pc.is_in(op, pa.array(_WRITES)))
        there = {part: _is_there(array, rows.num_rows) for part, array in parts.items()}
        has_row = np.where(is_delete, there["before"], there["after"])
        columns = self._columns(rows, parts, is_delete)
        bad = dict.fromkeys(np.flatnonzero(~(is_delete | is_write)).tolist(), _BAD_OP)
        for place in np.flatnonzero(~has_row).tolist():
            bad.setdefault(place, _NO_ROW)
        failures: Faults = {}
        if OP not in self._table_schema.names:
            message = f"{OP}: the schema has no such field, and a delete would look like an insert"
            failures = dict.fromkeys(range(rows.num_rows), (ErrorClass.UNKNOWN_FIELD, message))
        for place, message in bad.items():
            failures.setdefault(place, (ErrorClass.INVALID_ENVELOPE, message))
        for field, column in zip(self._table_schema, columns, strict=True):
            if not field.nullable and column.null_count:
                message = f"{field.name}: required, but missing or null"
                for place in np.flatnonzero(_flags(column.is_null())).tolist():
                    failures.setdefault(place, (ErrorClass.REQUIRED_FIELD_MISSING, message))
        is_good = np.ones(rows.num_rows, np.bool_)
        is_good[list(failures)] = False
        if failures:
            columns = [column.filter(flags(is_good)) for column in columns]
        made = pa.RecordBatch.from_arrays(columns, schema=self._table_schema)
        others = {failure.index: failure for failure in decoded.failures}
        for place, (error_class, message) in failures.items():
            index = int(places[place])
            others[index] = DecodeFailure(index, str(error_class), message)
        assert made.num_rows + len(others) == count or not self._table_schema.names
        return among(DecodedValues(made), places[is_good], others)

    def _columns(
        self, rows: pa.RecordBatch, parts: Mapping[str, "pa.StructArray | None"], is_delete: Flags
    ) -> list[AnyArray]:
        count = rows.num_rows
        after, before = (
            {} if parts[part] is None else struct_fields(cast("pa.StructArray", parts[part]))
            for part in ENVELOPE_PARTS
        )
        made: list[AnyArray] = []
        for field in self._table_schema:
            if field.name in (OP, TS_MS, SOURCE):
                name = field.name.removeprefix("__")
                is_there = name in rows.schema.names
                made.append(rows.column(name) if is_there else nulls(count, field.type))
            elif field.name == BEFORE:
                made.append(_before(before, parts["before"], field.type, count))
            else:
                made.append(_chosen(after.get(field.name), before.get(field.name), is_delete))
        return made


def _optional(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])  # noqa: FBT003 - Arrow's


def _fields_of(envelope: pa.Schema, part: str) -> pa.Schema:
    place = envelope.get_field_index(part)
    type_ = envelope.field(place).type if place >= 0 else None
    return pa.schema(list(type_) if isinstance(type_, pa.StructType) else [])


def _part(rows: pa.RecordBatch, part: str) -> "pa.StructArray | None":
    if part not in rows.schema.names:
        return None
    return cast("pa.StructArray", rows.column(part))


def _is_there(array: "pa.StructArray | None", count: int) -> Flags:
    return np.zeros(count, np.bool_) if array is None else _flags(array.is_valid())


def _chosen(after: "AnyArray | None", before: "AnyArray | None", is_delete: Flags) -> AnyArray:
    assert after is not None
    assert before is not None
    if not is_delete.any():
        return after
    both = pa.concat_arrays([after, _as(before, after.type)])
    places = np.arange(len(after)) + np.where(is_delete, len(after), 0)
    return both.take(indices(places))


def _before(
    fields: Mapping[str, AnyArray],
    array: "pa.StructArray | None",
    type_: pa.DataType,
    count: int,
) -> AnyArray:
    """Return `before` with the fields that the table's column has."""
    if array is None:
        return nulls(count, type_)
    assert isinstance(type_, pa.StructType)
    made = [
        _as(fields[field.name], field.type) if field.name in fields else nulls(count, field.type)
        for field in type_
    ]
    return pa.StructArray.from_arrays(made, fields=list(type_), mask=array.is_null())


def _as(array: AnyArray, type_: pa.DataType) -> AnyArray:
    # Arrow casts no uuids, and there is no need to.
    return array if array.type.equals(type_) else array.cast(type_)


def _flags(array: AnyArray) -> Any:  # noqa: ANN401 - NumPy's
    return array.fill_null(False).to_numpy(zero_copy_only=False)  # noqa: FBT003 - Arrow's
