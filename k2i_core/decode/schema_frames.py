"""Which schema a record was written with: a zero byte and its id before the content."""

from typing import Protocol

import numpy as np

from k2i_core.decode.conform import Fault, Faults
from k2i_core.decode.cursors import Cursors, Integers
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.records import DecodeFailure
from k2i_core.schema.registered import NoSuchSchema, WriterSchema

FRAME_BYTES = 5
"""A zero byte and the schema's id, highest byte first."""

UNFRAMED = -1
"""Stands for the one schema of records that name none, and for records that should."""

SCHEMA_ID_MAX = (1 << 31) - 1


class KnownSchemas(Protocol):
    """The schemas that were fetched so far; may be used from any number of threads."""

    def find(self, schema_id: int) -> WriterSchema | NoSuchSchema | None:
        """Return a schema, or that there is none; None when it has to be fetched."""
        ...


def read_frames(cursors: Cursors, faults: Faults) -> Integers:
    """Read the schema id of each record, and move behind it.

    Args:
        cursors: At the start of n values.
        faults: Records without a frame are added.

    Returns:
        n ids; `UNFRAMED` where there is no frame.

    """
    starts = cursors.positions
    words = cursors.words_at(starts, FRAME_BYTES)
    # The word has the lowest address lowest: the zero byte, then the id backwards.
    magic, reversed_ids = words & np.uint64(0xFF), (words >> np.uint64(8)).astype(np.uint32)
    schema_ids = reversed_ids.byteswap().astype(np.int64)
    is_bad = (cursors.ends - starts < FRAME_BYTES) | (magic != 0) | (schema_ids > SCHEMA_ID_MAX)
    message = "the record does not begin with a zero byte and a schema id"
    fault = (ErrorClass.INVALID_FRAMING, message)
    faults.update(dict.fromkeys(np.flatnonzero(is_bad).tolist(), fault))
    cursors.positions = np.minimum(starts + FRAME_BYTES, cursors.ends)
    return np.where(is_bad, UNFRAMED, schema_ids)


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


def failure_of(place: int, fault: Fault, schema_id: int) -> DecodeFailure:
    """Return a fault as the decoder reports it."""
    error_class, message = fault
    known_id = None if schema_id == UNFRAMED else schema_id
    return DecodeFailure(place, str(error_class), message, known_id)
