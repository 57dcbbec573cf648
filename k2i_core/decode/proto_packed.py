"""Packed lists of Protobuf: spans that hold many numbers → the numbers."""

import numpy as np
import numpy.typing as npt

from k2i_core.decode.cursors import CONTINUED, Cursors, Integers
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.proto_schema import Kind
from k2i_core.decode.proto_wire import Occurrences, WireType, wire_type

_TRUNCATED = (ErrorClass.INVALID_ENCODING, "a packed list ends inside a value")


def unpacked(kind: Kind, there: Occurrences, cursors: Cursors) -> Occurrences:
    """Return the same with one occurrence for each number, in order."""
    spans = np.flatnonzero(there.is_packed)
    packed = there.taken(spans)
    if wire_type(kind) is WireType.VARINT:
        places, words = _varints(packed, cursors)
    else:
        width = 8 if wire_type(kind) is WireType.EIGHT_BYTES else 4
        places, words = _fixed(packed, cursors, width)
    singles = np.flatnonzero(~there.is_packed)
    order = np.argsort(np.concatenate([spans[places], singles]), kind="stable")
    count = len(order)
    none = np.zeros(count, np.int64)
    return Occurrences(
        owners=np.concatenate([packed.owners[places], there.owners[singles]])[order],
        words=np.concatenate([words, there.words[singles]])[order],
        starts=none,
        lengths=none,
        is_packed=np.zeros(count, np.bool_),
    )


def _varints(packed: Occurrences, cursors: Cursors) -> tuple[Integers, npt.NDArray[np.uint64]]:
    """Return each number and the span that it lies in."""
    is_cut = (packed.lengths > 0) & (
        cursors.bytes_[np.maximum(packed.starts + packed.lengths - 1, 0)] >= CONTINUED
    )
    cursors.fail_where(packed.owners, is_cut, *_TRUNCATED)
    at, places = _inside(packed.starts, packed.lengths)
    is_last = cursors.bytes_[at] < CONTINUED
    ends, places = at[is_last] + 1, places[is_last]
    starts = packed.starts[places]
    is_same = places[1:] == places[:-1]
    starts[1:][is_same] = ends[:-1][is_same]
    inside = cursors.inside(starts, ends)
    words = inside.varints(inside.rows)
    for index, fault in inside.faults.items():
        cursors.fail(packed.owners[places[index : index + 1]], *fault)
    return places, words


def _fixed(
    packed: Occurrences, cursors: Cursors, width: int
) -> tuple[Integers, npt.NDArray[np.uint64]]:
    is_cut = packed.lengths % width != 0
    cursors.fail_where(packed.owners, is_cut, *_TRUNCATED)
    at, places = _inside(packed.starts, packed.lengths // width, width)
    return places, cursors.words_at(at, width)


def _inside(starts: Integers, counts: Integers, width: int = 1) -> tuple[Integers, Integers]:
    """Return `starts`, `starts + width`, and so on, and which span each belongs to."""
    places = np.repeat(np.arange(len(starts)), counts)
    before = np.cumsum(counts) - counts
    within = np.arange(len(places)) - before[places]
    return starts[places] + within * width, places
