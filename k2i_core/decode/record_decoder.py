"""Whole records → rows: the value's columns and the key's, with what headers say of their schemas.

    record ─┬► key ───► header before the key ─────► the key's decoder ─────► one column ─┬► row
            └► value ─► header before the value ───► the value's decoder ───► columns ────┘

Formats know bytes only; that records have more than a value is known here. A record whose key is
bad is a dead letter for its key, whatever its value is. A record without a key has null there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa

from k2i_core.decode.arrow import indices
from k2i_core.decode.cursors import Integers
from k2i_core.decode.isolation import no_rows
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.places import among, kept_places
from k2i_core.decode.schema_headers import KEY_HEADER, VALUE_HEADER, begin_with_schema
from k2i_core.records import STAGE_KEY, DecodedValues, DecodeFailure


class ValueDecoder(Protocol):
    """Bytes of one format to rows of one schema; see the package for what that guarantees."""

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes."""
        ...

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null values to rows; never raises for their content."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """The value of a record, or its key.

    Attributes:
        decoder: Makes its columns.
        reads_headers: Whether it is of a schema in a registry, which headers may name.
        has_indices: As `begin_with_schema`.
    """

    decoder: ValueDecoder
    reads_headers: bool = False
    has_indices: bool = False

    def decode(self, records: pa.RecordBatch, name: str, header_name: str) -> DecodedValues:
        """Decode the column `name` of n records, which is never null."""
        # Safe because POLLED_SCHEMA says so; the stubs do not carry types through a batch.
        contents = cast("pa.BinaryArray", records.column(name))
        if self.reads_headers:
            headers = cast("pa.ListArray[Any]", records.column("headers"))
            contents = begin_with_schema(
                contents, headers, header_name, has_indices=self.has_indices
            )
        return self.decoder.decode(contents)


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """Keys as a column.

    Attributes:
        name: Of the column.
        part: Makes it.
    """

    name: str
    part: Part


class RecordDecoder:
    """Decodes the records of one pipeline."""

    def __init__(self, row_schema: pa.Schema, value: Part, key: KeyColumn | None = None) -> None:
        """Bind the decoders.

        Args:
            row_schema: All columns.
            value: Makes them without the key's.
            key: None where the key is no column.

        """
        self._row_schema = row_schema
        self._value = value
        self._key = key

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes."""
        return self._value.decoder.row_schema if self._key is None else self._row_schema

    def decode(self, records: pa.RecordBatch) -> DecodedValues:
        """Decode n records that are no tombstones."""
        if self._key is None:
            return self._value.decode(records, "value", VALUE_HEADER)
        keys, places = self._decode_keys(records, self._key)
        if keys.missing_schema_ids or keys.breaking is not None:
            return replace(keys, rows=no_rows(self._row_schema))
        if keys.proposed_schema is not None:
            # Before the values, because which keys are bad is not known yet, and of a record with
            # a bad key nothing may become a column.
            return self._proposal(self._key.name, keys.proposed_schema, None)
        bad_keys = {failure.index: failure for failure in keys.failures}
        is_good = np.ones(records.num_rows, np.bool_)
        is_good[list(bad_keys)] = False
        good = np.flatnonzero(is_good)
        whole = records.take(indices(good)) if bad_keys else records
        values = among(self._value.decode(whole, "value", VALUE_HEADER), good, bad_keys)
        if values.missing_schema_ids or values.breaking is not None:
            return replace(values, rows=no_rows(self._row_schema))
        if values.proposed_schema is not None:
            return self._proposal(self._key.name, None, values.proposed_schema)
        return replace(values, rows=self._joined(values, keys, places, records.num_rows))

    def _proposal(self, name: str, key: pa.Schema | None, value: pa.Schema | None) -> DecodedValues:
        wanted = united_schema(self._row_schema, name, key, value)
        return DecodedValues(no_rows(self._row_schema), proposed_schema=wanted)

    def _decode_keys(
        self, records: pa.RecordBatch, key: KeyColumn
    ) -> tuple[DecodedValues, Integers]:
        """Return what the keys are, failures told of n records, and the record of each row."""
        is_there = records.column("key").is_valid().to_numpy(zero_copy_only=False)
        there = np.flatnonzero(is_there)
        whole = records if is_there.all() else records.take(indices(there))
        decoded = key.part.decode(whole, "key", KEY_HEADER)
        if (breaking := decoded.breaking) is not None:
            breaking = replace(breaking, index=int(there[breaking.index]))
            return replace(decoded, breaking=breaking), there[:0]
        failures = {
            int(there[failure.index]): replace(
                failure, index=int(there[failure.index]), stage=STAGE_KEY
            )
            for failure in decoded.failures
        }
        if self._is_required(key):
            failures.update(_without_key(key, np.flatnonzero(~is_there).tolist()))
        listed = tuple(failures[place] for place in sorted(failures))
        return replace(decoded, failures=listed), there[kept_places(decoded)]

    def _is_required(self, key: KeyColumn) -> bool:
        place = self._row_schema.get_field_index(key.name)
        return place >= 0 and not self._row_schema.field(place).nullable

    def _joined(
        self,
        values: DecodedValues,
        keys: DecodedValues,
        places: Integers,
        count: int,
    ) -> pa.RecordBatch:
        """Return the value's columns and the key's, in the order of the table."""
        if not keys.rows.schema.names:
            return values.rows
        rows_of_keys = np.full(count, -1)
        rows_of_keys[places] = np.arange(len(places))
        chosen = rows_of_keys[kept_places(values)]
        is_absent = chosen < 0
        column = keys.rows.column(0).take(indices(np.where(is_absent, 0, chosen), is_absent))
        name = keys.rows.schema.names[0]
        columns = [
            column if field.name == name else values.rows.column(field.name)
            for field in self._row_schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._row_schema)


def united_schema(
    row_schema: pa.Schema, name: str, key: pa.Schema | None, value: pa.Schema | None
) -> pa.Schema:
    """Return the columns with what key and value need beyond them.

    Args:
        row_schema: All columns.
        name: Of the key's column.
        key: That column, or nothing; None as it is.
        value: The others, each in its place but perhaps renamed, then new ones; None as they are.

    """
    own = [field for field in row_schema if field.name != name]
    values = own if value is None else list(value)
    keys = [field for field in key or row_schema if field.name == name]
    places = iter(values)
    united = [
        field for known in row_schema for field in (keys if known.name == name else [next(places)])
    ]
    if name not in row_schema.names:
        return pa.schema([*united, *places, *keys])
    return pa.schema([*united, *places])


def _without_key(key: KeyColumn, places: list[int]) -> Mapping[int, DecodeFailure]:
    error_class = str(ErrorClass.REQUIRED_FIELD_MISSING)
    message = f"{key.name}: required, but the record has no key"
    return {place: DecodeFailure(place, error_class, message, stage=STAGE_KEY) for place in places}
