"""Arrow IPC streams of one row each → rows of the table's columns.

    values ─► messages ─► one row each ─► one batch a schema ─► the table's columns ─► in order
                 │             │ not readable      │ does not fit       │
                 └─────────────┴────────────┬──────┴────────────────────┘
                                         failures

Each stream is read by itself, so that no length in one of them can reach into another; that costs
Python for every record. From there on, rows of one schema go side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from k2i_core.decode.arrow import AnyArray, concat_batches, flags, indices, nulls
from k2i_core.decode.arrow_columns import column_of, columns_of
from k2i_core.decode.arrow_dictionaries import unseen_as_null
from k2i_core.decode.arrow_messages import REFUSALS, MalformedError, OneRow, look
from k2i_core.decode.conform import Fault, Faults, failures_of
from k2i_core.decode.cursors import nulls_where
from k2i_core.decode.growth import grown
from k2i_core.decode.isolation import UnfitError, find_unfit, no_rows
from k2i_core.decode.json_trees import ErrorClass, shown
from k2i_core.decode.schema_decoder import Piece, assembled
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.records import DecodedValues

_UNREADABLE: Fault = (ErrorClass.INVALID_ENCODING, "Arrow cannot read the stream")


@dataclass(slots=True)
class _Group:
    """The rows of one writer's schema."""

    schema: pa.Schema
    columns: pa.Schema
    places: list[int] = field(default_factory=list[int])
    rows: list[pa.RecordBatch] = field(default_factory=list[pa.RecordBatch])


class ArrowDecoder:
    """Decodes Arrow IPC streams of one row; see the package for what that guarantees."""

    def __init__(
        self,
        row_schema: pa.Schema,
        *,
        may_add_columns: bool = False,
        time_formats: Mapping[str, str],
    ) -> None:
        """Bind the columns.

        Args:
            row_schema: Columns to make, without `_kafka`.
            may_add_columns: Propose columns that the table lacks, instead of refusing the record.
            time_formats: Name of a timestamp column → `epoch_s`, `epoch_ms` or `epoch_us`.

        """
        self._row_schema = row_schema
        self._may_add_columns = may_add_columns
        self._time_formats = time_formats

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes."""
        return self._row_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null values."""
        pieces, faults = read_streams(values)
        if self._may_add_columns:
            wanted = self._row_schema
            for piece in pieces:
                wanted = grown(wanted, piece.rows.schema) if len(piece.places) else wanted
            if wanted is not self._row_schema:
                return DecodedValues(no_rows(self._row_schema), proposed_schema=wanted)
        rows, kept = assembled(pieces, faults, self._row_schema, self._time_formats)
        assert len(kept) + len(faults) == len(values)
        if not faults:
            return DecodedValues(rows)
        return DecodedValues(
            rows=rows,
            row_indices=indices(kept),
            failures=failures_of(faults),
        )


def read_streams(values: pa.BinaryArray) -> tuple[list[Piece], Faults]:
    """Read n non-null values; each is in a piece, as columns that a table stores, or a fault."""
    faults: Faults = {}
    groups: dict[bytes, _Group | Fault] = {}
    for place, value in enumerate(values):
        try:
            stream = look(value.as_buffer())
        except MalformedError as error:
            faults[place] = error.fault
            continue
        if (group := groups.get(stream.schema)) is None:
            group = groups[stream.schema] = _group_of(stream.schema)
        if isinstance(group, tuple):
            faults[place] = group
            continue
        try:
            row = _read(value.as_buffer(), stream, group.schema)
        except REFUSALS:
            faults[place] = _UNREADABLE
            continue
        group.places.append(place)
        group.rows.append(row)
    pieces = [
        _piece(group, faults)
        for group in groups.values()
        if isinstance(group, _Group) and group.rows
    ]
    return pieces, faults


def _group_of(schema_message: bytes) -> _Group | Fault:
    try:
        schema = ipc.read_schema(pa.py_buffer(schema_message))
        return _Group(schema, columns_of(schema))
    except UnusableSchemaError as error:
        return error.error_class, str(error)
    except REFUSALS:  # a name that is no text is among them
        return _UNREADABLE


def _read(value: pa.Buffer, stream: OneRow, schema: pa.Schema) -> pa.RecordBatch:
    """Read the one row, checked to the last byte, so that nothing is read outside of it later."""
    if stream.has_dictionaries:
        row = ipc.open_stream(value).read_next_batch()
    else:
        row = ipc.read_record_batch(stream.messages[0], schema)
    try:
        row.validate(full=True)
    except REFUSALS:
        if not stream.has_dictionaries:
            raise
        row.validate()
        row = unseen_as_null(row)
        row.validate(full=True)
    assert row.num_rows == 1
    return row


def _piece(group: _Group, faults: Faults) -> Piece:
    """Make columns that a table stores of the rows of one schema."""
    try:
        rows, unfit = _converted(group.rows, group.columns)
    except REFUSALS:
        # Arrow puts not all of its types together, and decodes not all of them everywhere.
        rows, unfit = _one_by_one(group)
    faults.update({group.places[row]: fault for row, fault in unfit.items()})
    is_fit = np.ones(len(group.places), np.bool_)
    is_fit[list(unfit)] = False
    if unfit:
        rows = rows.filter(flags(is_fit))
    return Piece(np.array(group.places, np.int64)[is_fit], rows)


def _converted(rows: list[pa.RecordBatch], columns: pa.Schema) -> tuple[pa.RecordBatch, Faults]:
    """Return as many rows × `columns`, and which of them do not fit; those mean nothing."""
    if not columns.names:
        return concat_batches([row.select([]) for row in rows]), {}
    made: list[AnyArray] = []
    faults: Faults = {}
    for column in columns:
        convert = partial(column_of, type_=column.type)
        array = pa.concat_arrays([row.column(column.name) for row in rows])
        try:
            made.append(convert(array))
            continue
        except UnfitError:
            unfit = find_unfit(array, convert)
        message = f"{shown(column.name)}: outside of what the type holds"
        for row in unfit:
            faults.setdefault(row, (ErrorClass.NUMBER_OUT_OF_RANGE, message))
        is_bad = np.zeros(len(array), np.bool_)
        is_bad[unfit] = True
        made.append(convert(nulls_where(array, is_bad)))
    return pa.RecordBatch.from_arrays(made, schema=columns), faults


def _one_by_one(group: _Group) -> tuple[pa.RecordBatch, Faults]:
    made: list[pa.RecordBatch] = []
    faults: Faults = {}
    filler = pa.RecordBatch.from_arrays(
        [nulls(1, column.type) for column in group.columns], schema=group.columns
    )
    for place, row in enumerate(group.rows):
        try:
            converted, unfit = _converted([row], group.columns)
        except REFUSALS:
            converted, unfit = filler, {0: _UNREADABLE}
        if unfit:
            faults[place] = unfit[0]
        made.append(converted)
    return concat_batches(made), faults
