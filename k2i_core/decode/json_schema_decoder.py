"""JSON records behind the frame of a schema registry → rows.

The schema that a record names says which columns there should be; the record itself is read as any
JSON is, by the columns that the table has.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from k2i_core.decode.conform import Fault, Faults
from k2i_core.decode.cursors import Cursors, Integers
from k2i_core.decode.growth import grown
from k2i_core.decode.isolation import no_rows
from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.native_json import NativeJsonDecoder
from k2i_core.decode.places import among
from k2i_core.decode.schema_frames import (
    KnownSchemas,
    failure_of,
    group_by_schema,
    read_frames,
)
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.records import DecodedValues
from k2i_core.schema.registered import NoSuchSchema, SchemaId, WriterSchema


class JsonSchemaDecoder:
    """Decodes framed JSON objects; see the package for what that guarantees."""

    def __init__(
        self,
        json: JsonDecoder | NativeJsonDecoder,
        schemas: KnownSchemas,
        columns_of: Callable[[WriterSchema], pa.Schema],
        *,
        may_add_columns: bool = False,
    ) -> None:
        """Bind the schemas.

        Args:
            json: Decodes what is behind the frames; made with the same `may_add_columns`.
            schemas: What the ids in the records mean.
            columns_of: Raises `UnusableSchemaError`; asked once a schema.
            may_add_columns: Propose columns that the table lacks, instead of refusing the record.

        """
        self._json = json
        self._schemas = schemas
        self._columns_of = columns_of
        self._may_add_columns = may_add_columns
        # Written by any thread: whichever is last, the columns of one schema are alike.
        self._columns: dict[SchemaId, pa.Schema | Fault] = {}

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes."""
        return self._json.row_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null values."""
        cursors = Cursors.of(values)
        faults: Faults = {}
        frames = read_frames(cursors, faults)
        groups = group_by_schema(frames.numbers, faults)
        wanted = self.row_schema
        missing: set[SchemaId] = set()
        for number, places in groups.items():
            schema_id = frames.schema_id(number)
            assert schema_id is not None
            columns = self._known_columns(schema_id)
            if columns is None:
                missing.add(schema_id)
            elif isinstance(columns, tuple):
                faults.update(dict.fromkeys(places.tolist(), columns))
            elif self._may_add_columns:
                wanted = grown(wanted, columns)
        if missing:
            return DecodedValues(no_rows(self.row_schema), missing_schema_ids=frozenset(missing))
        if wanted is not self.row_schema:
            return DecodedValues(no_rows(self.row_schema), proposed_schema=wanted)
        return self._decode_texts(cursors, faults, frames.numbers)

    def _known_columns(self, schema_id: SchemaId) -> pa.Schema | Fault | None:
        if (known := self._columns.get(schema_id)) is not None:
            return known
        schema = self._schemas.find(schema_id)
        if schema is None:
            return None
        if isinstance(schema, NoSuchSchema):
            # Not kept: it may be there tomorrow.
            return ErrorClass.UNKNOWN_SCHEMA_ID, schema.reason
        try:
            made: pa.Schema | Fault = self._columns_of(schema)
        except UnusableSchemaError as error:
            made = (error.error_class, str(error))
        self._columns[schema_id] = made
        return made

    def _decode_texts(self, cursors: Cursors, faults: Faults, numbers: Integers) -> DecodedValues:
        is_good = np.ones(len(numbers), np.bool_)
        is_good[list(faults)] = False
        places = np.flatnonzero(is_good)
        starts = cursors.positions[places]
        decoded = self._json.decode(cursors.binaries(starts, cursors.ends[places] - starts))
        faulty = {
            place: failure_of(place, fault, int(numbers[place])) for place, fault in faults.items()
        }
        of_all = among(decoded, places, faulty)
        return replace(
            of_all,
            failures=tuple(
                failure_of(f.index, (ErrorClass(f.error_class), f.message), int(numbers[f.index]))
                for f in of_all.failures
            ),
        )
