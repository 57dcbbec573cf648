"""JSON as Kafka Connect's converter writes it: each payload behind its own schema.

    {"schema": {…}, "payload": {…}}

Records of one producer begin with the same bytes up to the payload, so they are told apart by those
bytes: a schema is read once, its payloads are cut out columnar and decoded as any JSON, by the
table's columns and with what the schema says of them (`connect_types`). Records without a schema
may lie between them.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.decode.arrow import AnyArray, cut_bytes, ends_with, flags, indices, starts_with
from k2i_core.decode.conform import Fault
from k2i_core.decode.connect_types import Formats, connect_columns, fitting_formats
from k2i_core.decode.cursors import Flags, Integers
from k2i_core.decode.growth import grown
from k2i_core.decode.isolation import no_rows
from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.decode.places import kept_places
from k2i_core.decode.record_decoder import ValueDecoder
from k2i_core.decode.schema_decoder import Piece, assembled
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.records import DecodedValues, DecodeFailure

PREFIXES_MAX = 64
"""Different beginnings in one batch that are looked for columnar; what is left is looked at record
by record. Larger: a batch in which each is different costs a pass for each; smaller: a topic of
many tables costs Python for its records."""

_BEGINS = r'^[ \t\r\n]*\{[ \t\r\n]*"schema"[ \t\r\n]*:'
_BEFORE_SCHEMA = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"schema"[ \t\r\n]*:[ \t\r\n]*')
_BEFORE_PAYLOAD = re.compile(r'[ \t\r\n]*,[ \t\r\n]*"payload"[ \t\r\n]*:')

_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Payloads:
    """The records that begin with one schema.

    Attributes:
        schema: As text; None of records that have none.
        places: Which of the values, ascending.
        contents: The payloads, or the whole values of records without a schema.
    """

    schema: str | None
    places: Integers
    contents: pa.BinaryArray


@dataclass(slots=True)
class _Combined:
    """Rows and failures of all groups."""

    pieces: list[Piece] = field(default_factory=list[Piece])
    failures: list[DecodeFailure] = field(default_factory=list[DecodeFailure])

    def add(self, decoded: DecodedValues, places: Integers) -> None:
        """Take what was made of the values at `places`."""
        self.pieces.append(Piece(places[kept_places(decoded)], decoded.rows))
        self.failures += [replace(f, index=int(places[f.index])) for f in decoded.failures]

    def decoded(self, row_schema: pa.Schema) -> DecodedValues:
        """Return all of it in the order of the values."""
        rows, kept = assembled(self.pieces, {}, row_schema, {})
        failures = tuple(sorted(self.failures, key=lambda failure: failure.index))
        return DecodedValues(rows, indices(kept), failures)


class ConnectJsonDecoder:
    """Decodes payloads by the schemas beside them; see the package for what that guarantees."""

    def __init__(
        self, plain: ValueDecoder, *, may_add_columns: bool, time_formats: Mapping[str, str]
    ) -> None:
        """Bind the columns.

        Args:
            plain: Decodes records without a schema, to the same columns.
            may_add_columns: Propose columns that the table lacks, instead of refusing the record.
            time_formats: As `JsonDecoder`, where a schema says nothing else.

        """
        self._plain = plain
        self._may_add_columns = may_add_columns
        self._time_formats = time_formats
        # Written by any thread: whichever is last, what is kept of one schema is alike.
        self._schemas: dict[str, tuple[pa.Schema, Formats] | Fault] = {}
        self._decoders: dict[str, JsonDecoder] = {}

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes."""
        return self._plain.row_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null values."""
        groups = cut_payloads(values)
        if len(groups) == 1 and groups[0].schema is None:
            return self._plain.decode(groups[0].contents)
        wanted = self.row_schema
        combined = _Combined()
        for group in groups:
            known = None if group.schema is None else self._known(group.schema)
            if self._may_add_columns and known is not None and isinstance(known[0], pa.Schema):
                wanted = grown(wanted, known[0])
        if wanted is not self.row_schema:
            return DecodedValues(no_rows(self.row_schema), proposed_schema=wanted)
        for group in groups:
            decoded = self._decode_group(group)
            if decoded.proposed_schema is not None:
                return decoded
            combined.add(decoded, group.places)
        return combined.decoded(self.row_schema)

    def _decode_group(self, group: Payloads) -> DecodedValues:
        if group.schema is None:
            return self._plain.decode(group.contents)
        columns, found = self._known(group.schema)
        if not isinstance(columns, pa.Schema):
            failures = tuple(
                DecodeFailure(place, str(columns), str(found)) for place in range(len(group.places))
            )
            return DecodedValues(no_rows(self.row_schema), pa.array([], pa.int64()), failures)
        assert isinstance(found, dict)
        decoder = self._decoders.get(group.schema)
        if decoder is None:
            formats = fitting_formats(found, columns, self.row_schema)
            decoder = JsonDecoder(
                self.row_schema,
                time_formats={**self._time_formats, **formats},
                may_add_columns=self._may_add_columns,
            )
            if len(self._decoders) < PREFIXES_MAX:
                self._decoders[group.schema] = decoder
        return decoder.decode(group.contents)

    def _known(self, text: str) -> tuple[pa.Schema, Formats] | Fault:
        if (known := self._schemas.get(text)) is not None:
            return known
        try:
            made: tuple[pa.Schema, Formats] | Fault = connect_columns(json.loads(text))
        except UnusableSchemaError as error:
            made = (error.error_class, str(error))
        if len(self._schemas) < PREFIXES_MAX:
            self._schemas[text] = made
        return made


class PayloadDecoder:
    """Decodes payloads and passes over the schemas beside them."""

    def __init__(self, inner: ValueDecoder) -> None:
        """Bind what decodes payloads, and values without a schema."""
        self._inner = inner

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes."""
        return self._inner.row_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null values."""
        groups = cut_payloads(values)
        contents = pa.concat_arrays([group.contents for group in groups])
        order = np.argsort(np.concatenate([group.places for group in groups]), kind="stable")
        in_order = contents.take(indices(order))
        assert isinstance(in_order, pa.BinaryArray)
        return self._inner.decode(in_order)


def cut_payloads(values: pa.BinaryArray) -> list[Payloads]:
    """Return the payloads of n values by their schemas; those without one are the first group."""
    has_schema = _flags(pc.match_substring_regex(values, pattern=_BEGINS))
    if not has_schema.any():
        return [Payloads(None, np.arange(len(values)), values)]
    groups: list[Payloads] = []
    waiting = np.flatnonzero(has_schema)
    bare = [np.flatnonzero(~has_schema)]
    while len(waiting) and len(groups) < PREFIXES_MAX:
        left = values.take(indices(waiting))
        found = _beginning(left[0].as_py())
        if found is None:
            bare.append(waiting[:1])
            waiting = waiting[1:]
            continue
        prefix, schema = found
        is_same = _flags(starts_with(left, prefix)) & _flags(ends_with(left, "}"))
        is_same[0] = True
        same = left.filter(flags(is_same))
        contents = cut_bytes(same, len(prefix), 1)
        if not left[0].as_py().endswith(b"}"):
            contents = _cut_each(same, len(prefix))
        groups.append(Payloads(schema, waiting[is_same], contents))
        waiting = waiting[~is_same]
    groups += _cut_one_by_one(values, waiting, bare)
    places = np.sort(np.concatenate(bare))
    return [Payloads(None, places, _taken(values, places)), *groups] if len(places) else groups


def _beginning(value: bytes) -> tuple[bytes, str | None] | None:
    """Return what stands before the payload, and the schema in it; None where that is not so."""
    try:
        text = value.decode()
        before = _BEFORE_SCHEMA.match(text)
        if before is None:
            return None
        described, end = _DECODER.raw_decode(text, before.end())
    except (ValueError, RecursionError):
        return None
    behind = _BEFORE_PAYLOAD.match(text, end)
    if behind is None:
        return None
    schema = None if described is None else text[before.end() : end]
    return text[: behind.end()].encode(), schema


def _cut_one_by_one(
    values: pa.BinaryArray, waiting: Integers, bare: list[Integers]
) -> list[Payloads]:
    found: dict[str | None, list[tuple[int, bytes]]] = {}
    for place in waiting.tolist():
        value: bytes = values[place].as_py()
        beginning = _beginning(value)
        if beginning is None:
            bare.append(np.array([place]))
        else:
            payload = _without_end(value, len(beginning[0]))
            found.setdefault(beginning[1], []).append((place, payload))
    return [
        Payloads(schema, np.array([place for place, _ in listed]), _binary([p for _, p in listed]))
        for schema, listed in found.items()
    ]


def _cut_each(values: AnyArray, start: int) -> pa.BinaryArray:
    return _binary(
        [_without_end(value, start) for value in cast("list[bytes]", values.to_pylist())]
    )


def _without_end(value: bytes, start: int) -> bytes:
    rest = value[start:].rstrip(b" \t\r\n")
    # Without its end it is no JSON, and the payload alone must not be taken for one.
    return rest[:-1] if rest.endswith(b"}") else b""


def _binary(values: list[bytes]) -> pa.BinaryArray:
    array = pa.array(values, pa.binary())
    assert isinstance(array, pa.BinaryArray)
    return array


def _taken(values: pa.BinaryArray, places: Integers) -> pa.BinaryArray:
    taken = values.take(indices(places))
    assert isinstance(taken, pa.BinaryArray)
    return taken


def _flags(array: AnyArray) -> Flags:
    return array.to_numpy(zero_copy_only=False).astype(np.bool_)
