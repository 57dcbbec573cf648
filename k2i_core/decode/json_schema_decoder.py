"""JSON records behind the frame of a schema registry → rows.

The schema that a record names says which columns there should be; the record itself is read as any
JSON is, by the columns that the table has, under the names that its schema has for them. Under
other names than the table's only what the schema describes is read: a further field could have the
name that a column has now.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from k2i_core.decode.arrow import indices
from k2i_core.decode.conform import Fault, Faults
from k2i_core.decode.contradictions import Judge, first_breaking
from k2i_core.decode.cursors import Cursors, Integers
from k2i_core.decode.growth import grown
from k2i_core.decode.isolation import no_rows
from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.native_json import NativeJsonDecoder
from k2i_core.decode.places import kept_places
from k2i_core.decode.schema_decoder import in_order
from k2i_core.decode.schema_frames import (
    Frames,
    KnownSchemas,
    failure_of,
    group_by_schema,
    read_frames,
)
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.records import DecodedValues
from k2i_core.schema.identity import in_names_of, relabelled, was_renamed
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
        may_rename: bool = False,
        judge: Judge | None = None,
        make_renamed: Callable[[pa.Schema], "JsonDecoder | NativeJsonDecoder"] | None = None,
    ) -> None:
        """Bind the schemas.

        Args:
            json: Decodes what is behind the frames; made with the same `may_add_columns`.
            schemas: What the ids in the records mean.
            columns_of: Raises `UnusableSchemaError`; asked once a schema.
            may_add_columns: Propose columns that the table lacks, instead of refusing the record.
            may_rename: Propose names and nulls, too, and know columns under other names.
            judge: Finds schemas to stop at; None leaves it to each record.
            make_renamed: The row schema under a writer's names → what reads its records.

        """
        self._json = json
        self._judge = judge
        self._may_rename = may_rename
        self._make_renamed = make_renamed
        self._may_be_renamed = may_rename or was_renamed(list(json.row_schema))
        # Of schemas with other names than the table's. Written by any thread, as the columns.
        self._renamed: dict[SchemaId, JsonDecoder | NativeJsonDecoder] = {}
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
        seen: list[tuple[SchemaId | None, pa.Schema, int]] = []
        for number, places in groups.items():
            schema_id = frames.schema_id(number)
            assert schema_id is not None
            columns = self._known_columns(schema_id)
            if columns is None:
                missing.add(schema_id)
            elif isinstance(columns, tuple):
                faults.update(dict.fromkeys(places.tolist(), columns))
            else:
                seen.append((schema_id, columns, int(places[0])))
                if self._may_add_columns:
                    wanted = grown(wanted, columns, may_rename=self._may_rename)
        if missing:
            return DecodedValues(no_rows(self.row_schema), missing_schema_ids=frozenset(missing))
        breaking = first_breaking(self._judge, seen)
        if breaking is not None:
            return DecodedValues(no_rows(self.row_schema), breaking=breaking)
        if wanted is not self.row_schema:
            return DecodedValues(no_rows(self.row_schema), proposed_schema=wanted)
        return self._decode_texts(cursors, faults, frames)

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

    def _decode_texts(self, cursors: Cursors, faults: Faults, frames: Frames) -> DecodedValues:
        numbers = frames.numbers
        failures = {
            place: failure_of(place, fault, int(numbers[place])) for place, fault in faults.items()
        }
        batches: list[pa.RecordBatch] = []
        kept: list[Integers] = []
        for decoder, places in self._by_decoder(frames, faults):
            starts = cursors.positions[places]
            decoded = decoder.decode(cursors.binaries(starts, cursors.ends[places] - starts))
            if decoded.proposed_schema is not None:
                return decoded
            for failure in decoded.failures:
                place = int(places[failure.index])
                fault = (ErrorClass(failure.error_class), failure.message)
                failures[place] = failure_of(place, fault, int(numbers[place]))
            is_table = decoder is self._json
            batches.append(decoded.rows if is_table else relabelled(decoded.rows, self.row_schema))
            kept.append(places[kept_places(decoded)])
        rows, places = in_order(batches, kept, self.row_schema)
        if not failures:
            return DecodedValues(rows)
        return DecodedValues(
            rows=rows,
            row_indices=indices(places),
            failures=tuple(failures[place] for place in sorted(failures)),
        )

    def _by_decoder(
        self, frames: Frames, faults: Faults
    ) -> list[tuple[JsonDecoder | NativeJsonDecoder, Integers]]:
        """Return who reads which good records: one decoder all of them, unless names differ."""
        is_good = np.ones(len(frames.numbers), np.bool_)
        is_good[list(faults)] = False
        groups: list[tuple[JsonDecoder | NativeJsonDecoder, Integers]] = []
        if self._may_be_renamed:
            for number, places in group_by_schema(frames.numbers, faults).items():
                schema_id = frames.schema_id(number)
                assert schema_id is not None
                decoder = self._renamed_decoder(schema_id)
                if decoder is not self._json:
                    groups.append((decoder, places))
                    is_good[places] = False
        return [(self._json, np.flatnonzero(is_good)), *groups]

    def _renamed_decoder(self, schema_id: SchemaId) -> JsonDecoder | NativeJsonDecoder:
        columns = self._columns[schema_id]
        assert isinstance(columns, pa.Schema)
        if (known := self._renamed.get(schema_id)) is not None:
            return known
        table, decoder = self.row_schema, self._json
        renamed = in_names_of(table, columns, by_identity=self._may_rename)
        if renamed is not table:
            assert self._make_renamed is not None
            decoder = self._make_renamed(renamed)
        self._renamed[schema_id] = decoder
        return decoder
