"""Records that name their writer's schema → rows of the table's columns.

    values ─► schema ids ─► one group a schema ─► the writer's columns ─► the table's ─► in order
                 │              │ not known: ask for it   │ not readable     │ does not fit
                 └──────────────┴────────────────────┬────┴──────────────────┘
                                                failures

A schema is looked at once; a record costs Python only when it is bad. When the decoder may add
columns, it proposes what the schemas of all readable records need, before anything is a row.

Columns that were renamed meet under the writer's names, and get the table's afterwards.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
import pyarrow as pa

from k2i_core.decode.arrow import concat_batches, flags, indices
from k2i_core.decode.conform import Fault, Faults, conform
from k2i_core.decode.contradictions import Judge, first_breaking
from k2i_core.decode.cursors import Cursors, Integers
from k2i_core.decode.growth import grown
from k2i_core.decode.isolation import no_rows
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.schema_frames import (
    UNFRAMED,
    Frames,
    KnownSchemas,
    failure_of,
    group_by_schema,
    read_frames,
)
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.records import DecodedValues
from k2i_core.schema.identity import in_names_of, known_by, relabelled, was_renamed
from k2i_core.schema.registered import NoSuchSchema, SchemaId, WriterSchema

NO_FORMATS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows that were written with one schema.

    Attributes:
        places: Which of the values each row is made of, ascending.
        rows: As many rows × the writer's columns.
    """

    places: Integers
    rows: pa.RecordBatch


class WriterReader(Protocol):
    """Reads records of one writer's schema; immutable."""

    @property
    def row_schema(self) -> pa.Schema:
        """The columns of the schema, without those of records that say they are something else."""
        ...

    def read(self, cursors: Cursors) -> tuple[tuple[Piece, ...], Faults]:
        """Read n records from behind their frame; each is in one piece or a fault."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """What rows are to be made.

    Attributes:
        row_schema: The columns, without `_kafka`.
        time_formats: Name of a timestamp column → `epoch_s`, `epoch_ms` or `epoch_us`.
        may_add_columns: Propose columns that the table lacks, instead of refusing the record.
        may_rename: Propose names and nulls, too, and know columns under other names.
    """

    row_schema: pa.Schema
    time_formats: Mapping[str, str]
    may_add_columns: bool
    may_rename: bool = False


class SchemaDecoder:
    """Decodes records by their writers' schemas; see the package for what that guarantees."""

    def __init__(
        self,
        row_schema: pa.Schema,
        schemas: "KnownSchemas | WriterSchema",
        make_reader: Callable[[WriterSchema], WriterReader],
        *,
        may_add_columns: bool = False,
        may_rename: bool = False,
        time_formats: Mapping[str, str] = NO_FORMATS,
        judge: Judge | None = None,
    ) -> None:
        """Bind the schemas.

        Args:
            row_schema: Columns to make, without `_kafka`.
            schemas: What the ids in the records mean; or the schema of records without a frame.
            make_reader: Raises `UnusableSchemaError`; asked once a schema.
            may_add_columns: Propose columns that the table lacks, instead of refusing the record.
            may_rename: Propose names and nulls, too, and know columns under other names.
            time_formats: Name of a timestamp column → `epoch_s`, `epoch_ms` or `epoch_us`.
            judge: Finds schemas to stop at; None leaves it to each record.

        """
        self._judge = judge
        self._target = Target(row_schema, time_formats, may_add_columns, may_rename)
        self._schemas = schemas
        self._make_reader = make_reader
        # Written by any thread: whichever is last, the readers of one schema are alike.
        self._readers: dict[SchemaId | None, WriterReader | Fault] = {}

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes."""
        return self._target.row_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null values."""
        cursors = Cursors.of(values)
        faults: Faults = {}
        if isinstance(self._schemas, WriterSchema):
            frames = Frames(np.full(len(values), UNFRAMED))
        else:
            frames = read_frames(cursors, faults)
        groups = group_by_schema(frames.numbers, faults)
        readers = {number: self._reader(frames.schema_id(number)) for number in groups}
        missing = frames.schema_ids(number for number in groups if readers[number] is None)
        if missing:
            return DecodedValues(no_rows(self.row_schema), missing_schema_ids=missing)
        pieces: list[Piece] = []
        seen: list[tuple[SchemaId | None, pa.Schema, int]] = []
        for number, places in groups.items():
            reader = readers[number]
            assert reader is not None
            if isinstance(reader, tuple):
                faults.update(dict.fromkeys(places.tolist(), reader))
                continue
            group = cursors.inside(cursors.positions[places], cursors.ends[places])
            read, read_faults = reader.read(group)
            own = [Piece(places[piece.places], piece.rows) for piece in read if len(piece.places)]
            pieces += own
            schema_id = frames.schema_id(number)
            seen += [(schema_id, piece.rows.schema, int(piece.places[0])) for piece in own]
            faults.update({int(places[place]): fault for place, fault in read_faults.items()})
        breaking = first_breaking(self._judge, seen)
        if breaking is not None:
            return DecodedValues(no_rows(self.row_schema), breaking=breaking)
        return made_of(pieces, faults, frames.numbers, self._target)

    def _reader(self, schema_id: SchemaId | None) -> WriterReader | Fault | None:
        """Return what reads a schema's records, or why nothing can; None to fetch it first."""
        if (known := self._readers.get(schema_id)) is not None:
            return known
        schemas = self._schemas
        if isinstance(schemas, WriterSchema):
            schema: WriterSchema | NoSuchSchema | None = schemas
        else:
            assert schema_id is not None
            schema = schemas.find(schema_id)
        if schema is None:
            return None
        if isinstance(schema, NoSuchSchema):
            # Not kept: it may be there tomorrow.
            return ErrorClass.UNKNOWN_SCHEMA_ID, schema.reason
        try:
            made: WriterReader | Fault = self._make_reader(schema)
        except UnusableSchemaError as error:
            made = (error.error_class, str(error))
        self._readers[schema_id] = made
        return made


def made_of(
    pieces: list[Piece], faults: Faults, numbers: Integers, target: Target
) -> DecodedValues:
    """Return the rows of all pieces in the order of the values, or the columns that they need.

    Args:
        pieces: Each value is in one of them or a fault.
        faults: Those that do not fit the columns are added.
        numbers: Of the schema of each of n values, as in `Frames`.
        target: What to make.

    """
    if target.may_add_columns:
        wanted = target.row_schema
        for piece in pieces:
            if len(piece.places):
                wanted = grown(wanted, piece.rows.schema, may_rename=target.may_rename)
        if wanted is not target.row_schema:
            return DecodedValues(no_rows(target.row_schema), proposed_schema=wanted)
    rows, kept = assembled(
        pieces, faults, target.row_schema, target.time_formats, by_identity=target.may_rename
    )
    assert len(kept) + len(faults) == len(numbers)
    if not faults:
        return DecodedValues(rows)
    return DecodedValues(
        rows=rows,
        row_indices=pa.array(kept, pa.int64()),
        failures=tuple(
            failure_of(place, faults[place], int(numbers[place])) for place in sorted(faults)
        ),
    )


def assembled(
    pieces: list[Piece],
    faults: Faults,
    row_schema: pa.Schema,
    time_formats: Mapping[str, str],
    *,
    by_identity: bool = False,
) -> tuple[pa.RecordBatch, Integers]:
    """Make the table's rows of the writers', in the order of the values.

    Args:
        pieces: No value is in two of them.
        faults: Values whose rows do not fit are added.
        row_schema: Of the table.
        time_formats: As `conform`.
        by_identity: Columns are known under other names, too.

    Returns:
        The rows that fit, and which value each is made of.

    """
    may_be_renamed = by_identity or was_renamed(list(row_schema))
    batches: list[pa.RecordBatch] = []
    places: list[Integers] = []
    for piece in pieces:
        names = row_schema
        if may_be_renamed:
            names = in_names_of(row_schema, piece.rows.schema, by_identity=by_identity)
        rows, unfit = conform(piece.rows, names, known_by(time_formats, row_schema, names))
        if names is not row_schema:
            rows = relabelled(rows, row_schema)
        kept = piece.places
        if unfit:
            faults.update({int(kept[row]): fault for row, fault in unfit.items()})
            is_fit = np.ones(len(kept), np.bool_)
            is_fit[list(unfit)] = False
            rows, kept = rows.filter(flags(is_fit)), kept[is_fit]
        batches.append(rows)
        places.append(kept)
    return in_order(batches, places, row_schema)


def in_order(
    batches: list[pa.RecordBatch], places: list[Integers], row_schema: pa.Schema
) -> tuple[pa.RecordBatch, Integers]:
    """Put rows into the order of the values that they are made of, ascending `places`."""
    if not batches:
        return no_rows(row_schema), np.zeros(0, np.int64)
    if len(batches) == 1:
        return batches[0], places[0]
    all_places = np.concatenate(places)
    order = np.argsort(all_places, kind="stable")
    return concat_batches(batches).take(indices(order)), all_places[order]
