"""n MessagePack records → their values, told apart but not yet looked at.

A *token* is one value, in the order in which a record writes them: a map or a list is a token, and
what it holds follows it. All records are passed over together, a token of each at a time, until
only few are left that are longer than the others; those go on one by one, so that one long record
costs its own length and no more.

Which token holds which follows from how many values are still to come before each (*pending*): it
falls by one with every value and rises by what a value holds, so the k-th value inside begins where
it has come down to the right number for the first time.

Source: the MessagePack specification, github.com/msgpack/msgpack/blob/master/spec.md.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from k2i_core.decode.conform import Fault, Faults
from k2i_core.decode.cursors import Cursors, Integers
from k2i_core.decode.json_trees import ErrorClass

TOKENS_MAX = 1_000_000
"""Of one record. Larger: a hostile record of a few megabytes costs seconds and a hundred times its
size; smaller: an honest document may not fit."""

STRAGGLERS = 24
"""So few records are passed over one by one. Larger: many calls into Python; smaller: array
operations for almost nothing."""


class Kind(IntEnum):
    """What a token is."""

    NIL = 0
    BOOLEAN = 1
    INTEGER = 2
    FLOAT = 3
    TEXT = 4
    BINARY = 5
    LIST = 6
    MAP = 7
    EXTENSION = 8
    INVALID = 9


_TRUNCATED: Fault = (ErrorClass.INVALID_ENCODING, "the record ends inside a value")
_TRAILING: Fault = (ErrorClass.INVALID_ENCODING, "the record goes on behind its value")
_INVALID: Fault = (ErrorClass.INVALID_ENCODING, "a byte begins no value")
_LONG: Fault = (ErrorClass.NESTED_TOO_DEEP, f"more than values={TOKENS_MAX}")


def _rules() -> list[tuple[range, Kind, int, int]]:
    """Return which first bytes begin what, the bytes of a length behind them, and a fixed one."""
    return [
        (range(0x80), Kind.INTEGER, 0, 0),
        *((range(0x80 + n, 0x81 + n), Kind.MAP, 0, n) for n in range(16)),
        *((range(0x90 + n, 0x91 + n), Kind.LIST, 0, n) for n in range(16)),
        *((range(0xA0 + n, 0xA1 + n), Kind.TEXT, 0, n) for n in range(32)),
        (range(0xC0, 0xC1), Kind.NIL, 0, 0),
        (range(0xC1, 0xC2), Kind.INVALID, 0, 0),
        (range(0xC2, 0xC4), Kind.BOOLEAN, 0, 0),
        *((range(0xC4 + n, 0xC5 + n), Kind.BINARY, 1 << n, 0) for n in range(3)),
        *((range(0xC7 + n, 0xC8 + n), Kind.EXTENSION, 1 << n, 0) for n in range(3)),
        (range(0xCA, 0xCB), Kind.FLOAT, 0, 4),
        (range(0xCB, 0xCC), Kind.FLOAT, 0, 8),
        *((range(0xCC + n, 0xCD + n), Kind.INTEGER, 0, 1 << n) for n in range(4)),
        *((range(0xD0 + n, 0xD1 + n), Kind.INTEGER, 0, 1 << n) for n in range(4)),
        *((range(0xD4 + n, 0xD5 + n), Kind.EXTENSION, 0, 1 << n) for n in range(5)),
        *((range(0xD9 + n, 0xDA + n), Kind.TEXT, 1 << n, 0) for n in range(3)),
        *((range(0xDC + n, 0xDD + n), Kind.LIST, 2 << n, 0) for n in range(2)),
        *((range(0xDE + n, 0xDF + n), Kind.MAP, 2 << n, 0) for n in range(2)),
        (range(0xE0, 0x100), Kind.INTEGER, 0, 0),
    ]


KINDS: npt.NDArray[np.uint8] = np.zeros(256, np.uint8)
_LENGTH_BYTES, _FIXED = np.zeros(256, np.int64), np.zeros(256, np.int64)
for _bytes, _kind, _length_bytes, _fixed in _rules():
    for _byte in _bytes:
        KINDS[_byte], _LENGTH_BYTES[_byte], _FIXED[_byte] = _kind, _length_bytes, _fixed
_HELD_EACH = np.zeros(10, np.int64)
_HELD_EACH[[Kind.LIST, Kind.MAP]] = 1, 2


@dataclass(frozen=True, slots=False)
class Tokens:
    """The tokens of the records that are whole, record by record, in their order.

    Attributes:
        rows: Which record each is of, ascending.
        tags: Its first byte.
        starts: Where its content begins; of an extension, its type.
        lengths: Bytes of its content, without an extension's type; of a list or map, its entries.
    """

    rows: Integers
    tags: npt.NDArray[np.uint8]
    starts: Integers
    lengths: Integers

    @cached_property
    def kinds(self) -> npt.NDArray[np.uint8]:
        """What each is."""
        return KINDS[self.tags]

    @cached_property
    def held(self) -> Integers:
        """How many tokens each holds itself: of a map, keys and values."""
        return _HELD_EACH[self.kinds] * self.lengths

    @cached_property
    def roots(self) -> Integers:
        """The first token of each whole record."""
        return np.flatnonzero(np.diff(self.rows, prepend=-1))

    @cached_property
    def _pending(self) -> Integers:
        before = np.cumsum(self.held - 1) - (self.held - 1)
        counts = np.diff(np.append(self.roots, len(self.rows)))
        return before - np.repeat(before[self.roots], counts) + 1

    @cached_property
    def _order(self) -> tuple[Integers, Integers]:
        """Tokens by record and pending, and the sorted keys with the token's number in them."""
        keys = self._keys(self.rows, self._pending, np.arange(len(self.rows)))
        order = np.argsort(keys)
        return order, keys[order]

    def _keys(self, rows: Integers, pending: Integers, tokens: Integers) -> Integers:
        span = int(self._pending.max(initial=0)) + 1
        return (rows * span + pending) * (len(self.rows) + 1) + tokens

    def inside(self, tokens: Integers) -> tuple[Integers, Integers]:
        """Return what lists and maps hold, in order, and which of `tokens` holds each."""
        counts = self.held[tokens]
        owners = np.repeat(np.arange(len(tokens)), counts)
        number = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        holders = tokens[owners]
        # Behind one that holds nothing nested, all that it holds follows in a row.
        found = holders + 1 + number
        is_nested = self._holds_nested(tokens)[owners]
        if is_nested.any():
            holders, number = holders[is_nested], number[is_nested]
            pending = self._pending[holders] - 1 + self.held[holders] - number
            order, keys = self._order
            wanted = self._keys(self.rows[holders], pending, holders + 1)
            found[is_nested] = order[np.searchsorted(keys, wanted)]
        return found, owners

    @cached_property
    def _holding(self) -> Integers:
        """How many before each token hold any themselves."""
        return np.append(0, np.cumsum(self.held > 0))

    def _holds_nested(self, tokens: Integers) -> npt.NDArray[np.bool_]:
        """Tell which hold, among the next tokens, any that hold some themselves."""
        holding = self._holding
        return (
            holding[np.minimum(tokens + 1 + self.held[tokens], len(self.rows))]
            > holding[tokens + 1]
        )


def scan(cursors: Cursors, faults: Faults) -> Tokens:
    """Tell the tokens of n records apart; those that are not one value each become faults."""
    positions, ends = cursors.positions.copy(), cursors.ends
    pending = np.ones(len(ends), np.int64)
    active = np.arange(len(ends))
    parts: list[tuple[Integers, npt.NDArray[np.uint8], Integers, Integers]] = []
    step = 0
    while len(active) > STRAGGLERS and step < TOKENS_MAX:
        step += 1
        at = positions[active]
        is_over = at >= ends[active]
        tags = cursors.bytes_[np.where(is_over, 0, at)]
        kinds, length_bytes = KINDS[tags], _LENGTH_BYTES[tags]
        lengths = _FIXED[tags]
        if (is_sized := length_bytes > 0).any():
            words = cursors.words_at(at[is_sized] + 1, 8).byteswap()
            unused_bits = (8 * (8 - length_bytes[is_sized])).astype(np.uint64)
            lengths[is_sized] = (words >> unused_bits).astype(np.int64)
        starts = at + 1 + length_bytes
        held = _HELD_EACH[kinds] * lengths
        contents = np.where(_HELD_EACH[kinds] > 0, 0, lengths) + (kinds == Kind.EXTENSION)
        after = starts + contents
        # Whatever is held takes a byte, so a length that the record cannot hold is seen here.
        is_cut = is_over | (after + held > ends[active])
        is_bad = is_cut | (kinds == Kind.INVALID)
        if is_bad.any():
            faults.update(dict.fromkeys(active[is_cut].tolist(), _TRUNCATED))
            faults.update(dict.fromkeys(active[is_bad & ~is_cut].tolist(), _INVALID))
        parts.append((active, tags, starts, lengths))
        positions[active], pending[active] = after, pending[active] + held - 1
        active = active[~is_bad & (pending[active] > 0)]
    for row in active.tolist():
        one, fault, positions[row] = _one_by_one(
            cursors.whole, int(positions[row]), int(ends[row]), int(pending[row]), step
        )
        parts.append((np.full(len(one[0]), row), *one))
        if fault is not None:
            faults[row] = fault
    for row in np.flatnonzero(positions < ends).tolist():
        faults.setdefault(row, _TRAILING)
    return _ordered(parts, faults, len(ends))


def _ordered(
    parts: list[tuple[Integers, npt.NDArray[np.uint8], Integers, Integers]],
    faults: Faults,
    count: int,
) -> Tokens:
    if not parts:
        none = np.zeros(0, np.int64)
        return Tokens(none, np.zeros(0, np.uint8), none, none)
    rows, tags, starts, lengths = (np.concatenate(each) for each in zip(*parts, strict=True))
    is_whole = np.ones(count, np.bool_)
    is_whole[list(faults)] = False
    order = np.argsort(rows, kind="stable")
    order = order[is_whole[rows[order]]]
    return Tokens(rows[order], tags[order], starts[order], lengths[order])


def _one_by_one(
    bytes_: bytes, position: int, end: int, pending: int, step: int
) -> tuple[tuple[npt.NDArray[np.uint8], Integers, Integers], Fault | None, int]:
    """Pass over the rest of one record."""
    tags, starts, lengths = bytearray(), list[int](), list[int]()
    fault: Fault | None = None
    while pending and fault is None:
        step += 1
        if position >= end or step > TOKENS_MAX:
            fault = _TRUNCATED if position >= end else _LONG
            break
        tag = bytes_[position]
        kind, length_bytes = _KIND_LIST[tag], _LENGTH_LIST[tag]
        start = position + 1 + length_bytes
        length = _FIXED_LIST[tag]
        if length_bytes:
            length = int.from_bytes(bytes_[position + 1 : start], "big")
        each = 1 if kind == Kind.LIST else 2 if kind == Kind.MAP else 0
        position = start + (0 if each else length) + (kind == Kind.EXTENSION)
        pending += each * length - 1
        if position + each * length > end:
            fault = _TRUNCATED
        elif kind == Kind.INVALID:
            fault = _INVALID
        tags.append(tag)
        starts.append(start)
        lengths.append(length)
    made = np.frombuffer(bytes(tags), np.uint8), np.array(starts, np.int64)
    return (*made, np.array(lengths, np.int64)), fault, position


_KIND_LIST, _LENGTH_LIST, _FIXED_LIST = KINDS.tolist(), _LENGTH_BYTES.tolist(), _FIXED.tolist()
