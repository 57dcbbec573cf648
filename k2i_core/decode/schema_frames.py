"""Which schema a record was written with: a zero byte and its number before the content.

Or a one and sixteen bytes: the number that means the same schema in every registry. Both stand in
a header of the record as well (`schema_headers`), and are put before the content then.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import numpy as np

from k2i_core.decode.conform import Fault, Faults
from k2i_core.decode.cursors import Cursors, Integers
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.records import DecodeFailure
from k2i_core.schema.registered import NoSuchSchema, SchemaId, WriterSchema

FRAME_BYTES = 5
"""A zero byte and the schema's number, highest byte first."""

GUID_FRAME_BYTES = 17
"""A one and the schema's number in all registries."""

GUID_MAGIC = 1

UNFRAMED = -1
"""Stands for the one schema of records that name none, and for records that should."""

SCHEMA_ID_MAX = (1 << 31) - 1


class KnownSchemas(Protocol):
    """The schemas that were fetched so far; may be used from any number of threads."""

    def find(self, schema_id: SchemaId) -> WriterSchema | NoSuchSchema | None:
        """Return a schema, or that there is none; None when it has to be fetched."""
        ...


@dataclass(frozen=True, slots=True)
class Frames:
    """What n records name their schemas by.

    Attributes:
        numbers: n integers: the schema's number; or `UNFRAMED`; or, below that, a place in
            `guids`, counted down.
        guids: Those that occur.
    """

    numbers: Integers
    guids: tuple[UUID, ...] = ()

    def schema_id(self, number: int) -> SchemaId | None:
        """Return what one of the numbers stands for."""
        if number < UNFRAMED:
            return self.guids[UNFRAMED - 1 - number]
        return None if number == UNFRAMED else number

    def schema_ids(self, numbers: Iterable[int]) -> frozenset[SchemaId]:
        """Return what some of the numbers stand for."""
        named = [self.schema_id(number) for number in numbers]
        return frozenset(schema_id for schema_id in named if schema_id is not None)


def read_frames(cursors: Cursors, faults: Faults) -> Frames:
    """Read what each record names its schema by, and move behind it.

    Args:
        cursors: At the start of n values.
        faults: Records without a frame are added.

    """
    starts = cursors.positions
    words = cursors.words_at(starts, FRAME_BYTES)
    # The word has the lowest address lowest: the zero byte, then the id backwards.
    magic, reversed_ids = words & np.uint64(0xFF), (words >> np.uint64(8)).astype(np.uint32)
    schema_ids = reversed_ids.byteswap().astype(np.int64)
    lengths = cursors.ends - starts
    is_bad = (lengths < FRAME_BYTES) | (magic != 0) | (schema_ids > SCHEMA_ID_MAX)
    frame_bytes, guids = FRAME_BYTES, ()
    if is_bad.any():
        is_guid = (magic == GUID_MAGIC) & (lengths >= GUID_FRAME_BYTES)
        guids = _name_guids(cursors, np.flatnonzero(is_guid), schema_ids)
        frame_bytes = np.where(is_guid, GUID_FRAME_BYTES, FRAME_BYTES)
        is_bad &= ~is_guid
    message = "neither begins with the id of a schema nor has it in a header"
    fault = (ErrorClass.INVALID_FRAMING, message)
    faults.update(dict.fromkeys(np.flatnonzero(is_bad).tolist(), fault))
    cursors.positions = np.minimum(starts + frame_bytes, cursors.ends)
    return Frames(np.where(is_bad, UNFRAMED, schema_ids), guids)


def _name_guids(cursors: Cursors, places: Integers, schema_ids: Integers) -> tuple[UUID, ...]:
    """Number the distinct ones among the records at `places`, in `schema_ids`."""
    at = cursors.positions[places] + 1
    halves = np.stack([cursors.words_at(at, 8), cursors.words_at(at + 8, 8)], axis=1)
    found, numbers = np.unique(halves, axis=0, return_inverse=True)
    schema_ids[places] = UNFRAMED - 1 - numbers.reshape(-1)
    return tuple(UUID(bytes=pair.astype("<u8").tobytes()) for pair in found)


def group_by_schema(schema_ids: Integers, faults: Faults) -> dict[int, Integers]:
    """Return the places of the records of each schema, without those that are faulty."""
    if not faults and len(schema_ids) and (schema_ids == schema_ids[0]).all():
        return {int(schema_ids[0]): np.arange(len(schema_ids))}
    is_good = np.ones(len(schema_ids), np.bool_)
    is_good[list(faults)] = False
    good_ids: list[int] = np.unique(schema_ids[is_good]).tolist()
    return {
        schema_id: np.flatnonzero(is_good & (schema_ids == schema_id)) for schema_id in good_ids
    }


def failure_of(place: int, fault: Fault, number: int) -> DecodeFailure:
    """Return a fault of a record with one of the numbers of `Frames`, as the decoder reports it."""
    error_class, message = fault
    known_id = None if number <= UNFRAMED else number
    return DecodeFailure(place, str(error_class), message, known_id)
