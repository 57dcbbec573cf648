"""Fields of n Protobuf messages, as they lie on the wire: which belong to which message.

One step reads one field of every message that has one more; producers write fields in order, so a
step meets few kinds. Messages that go on when few others do are walked one by one.

What is no message of the schema is a fault: a field that the schema lacks, a field of another wire
type, a value that ends behind the message. Other readers skip the first two, and make a row of
zeros of almost any bytes.
"""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from k2i_core.decode.cursors import CONTINUED, VARINT_BYTES_MAX, Cursors, Flags, Integers
from k2i_core.decode.json_trees import ErrorClass, RecordError
from k2i_core.decode.proto_schema import Kind, Message, MessageField

FEW_ROWS = 32
"""Messages with further fields below which these are read one by one. Larger: more Python for each
field; smaller: a list of a thousand messages costs a thousand array steps."""

_BAD = ErrorClass.INVALID_ENCODING
_UNKNOWN = (ErrorClass.UNKNOWN_FIELD, "the record has a field that its schema lacks")
_WRONG_WIRE_TYPE = (ErrorClass.WRONG_TYPE, "a field is of another wire type than its schema's")


class WireType(IntEnum):
    """How a value is stored; the lowest three bits of a tag."""

    VARINT = 0
    EIGHT_BYTES = 1
    SPAN = 2
    FOUR_BYTES = 5


_WIRE_TYPES = {
    Kind.DOUBLE: WireType.EIGHT_BYTES,
    Kind.FIXED64: WireType.EIGHT_BYTES,
    Kind.SFIXED64: WireType.EIGHT_BYTES,
    Kind.FLOAT: WireType.FOUR_BYTES,
    Kind.FIXED32: WireType.FOUR_BYTES,
    Kind.SFIXED32: WireType.FOUR_BYTES,
    Kind.STRING: WireType.SPAN,
    Kind.BYTES: WireType.SPAN,
    Kind.MESSAGE: WireType.SPAN,
}


def wire_type(kind: Kind) -> WireType:
    """Return how values of a kind are stored, unpacked."""
    return _WIRE_TYPES.get(kind, WireType.VARINT)


@dataclass(slots=True)
class Occurrences:
    """Every time that a field is there, in the order of the messages' bytes for each message.

    Attributes:
        owners: Which message it is in.
        words: Its value, unless it is a span.
        starts: Where a span starts.
        lengths: How long a span is.
        is_packed: Whether it is a span that holds many values.
    """

    owners: Integers
    words: npt.NDArray[np.uint64]
    starts: Integers
    lengths: Integers
    is_packed: Flags

    def taken(self, places: Integers) -> "Occurrences":
        """Return those at `places`, in that order."""
        return Occurrences(
            self.owners[places],
            self.words[places],
            self.starts[places],
            self.lengths[places],
            self.is_packed[places],
        )


@dataclass(slots=True)
class _Pieces:
    owners: list[Integers] = field(default_factory=list[Integers])
    words: list[npt.NDArray[np.uint64]] = field(default_factory=list[npt.NDArray[np.uint64]])
    starts: list[Integers] = field(default_factory=list[Integers])
    lengths: list[Integers] = field(default_factory=list[Integers])
    is_packed: list[Flags] = field(default_factory=list[Flags])

    def add(
        self,
        owners: Integers,
        words: npt.NDArray[np.uint64] | None,
        spans: tuple[Integers, Integers] | None,
        *,
        is_packed: bool,
    ) -> None:
        count = len(owners)
        none = np.zeros(count, np.int64)
        self.owners.append(owners)
        self.words.append(none.astype(np.uint64) if words is None else words)
        self.starts.append(none if spans is None else spans[0])
        self.lengths.append(none if spans is None else spans[1])
        self.is_packed.append(np.full(count, is_packed))

    def whole(self) -> Occurrences:
        if not self.owners:
            none = np.zeros(0, np.int64)
            return Occurrences(none, np.zeros(0, np.uint64), none, none, np.zeros(0, np.bool_))
        if len(self.owners) == 1:
            return Occurrences(
                self.owners[0], self.words[0], self.starts[0], self.lengths[0], self.is_packed[0]
            )
        return Occurrences(
            np.concatenate(self.owners),
            np.concatenate(self.words),
            np.concatenate(self.starts),
            np.concatenate(self.lengths),
            np.concatenate(self.is_packed),
        )


class WireReader:
    """Reads the fields of n messages of one type, once."""

    def __init__(self, message: Message, cursors: Cursors) -> None:
        self._cursors = cursors
        self._pieces = {f.number: _Pieces() for f in message.fields}
        self._numbers = np.array(sorted(self._pieces), np.uint64)
        self._tags: dict[int, tuple[MessageField, bool]] = {}
        for f in message.fields:
            self._tags[f.number << 3 | wire_type(f.kind)] = (f, False)
            if f.is_repeated and wire_type(f.kind) is not WireType.SPAN:
                self._tags[f.number << 3 | WireType.SPAN] = (f, True)
        self._known_tags = np.array(sorted(self._tags), np.uint64)
        self._oneofs = {f.oneof for f in message.fields if f.oneof is not None}
        # Of each oneof: the number of the member that is there last.
        self.last_members = {o: np.zeros(len(cursors.ends), np.int64) for o in self._oneofs}

    def read(self) -> dict[int, Occurrences]:
        """Return what is there of each field, by number."""
        cursors = self._cursors
        rows = np.flatnonzero(cursors.positions < cursors.ends)
        while len(rows):
            if len(rows) <= FEW_ROWS:
                self._read_tails(rows)
                break
            self._read_step(rows)
            rows = rows[cursors.positions[rows] < cursors.ends[rows]]
        return {number: pieces.whole() for number, pieces in self._pieces.items()}

    def _read_step(self, rows: Integers) -> None:
        cursors = self._cursors
        tags = cursors.varints(rows)
        tag = int(tags[0])
        if tag in self._tags and (tags == tag).all() and not cursors.is_faulty[rows].any():
            self._read_field(tag, rows)
            return
        is_known = np.isin(tags, self._known_tags)
        if not is_known.all():
            has_number = np.isin(tags >> np.uint64(3), self._numbers)
            cursors.fail_where(rows, ~is_known & has_number, *_WRONG_WIRE_TYPE)
            cursors.fail_where(rows, ~is_known & ~has_number, *_UNKNOWN)
        is_live = is_known & ~cursors.is_faulty[rows]
        rows, tags = rows[is_live], tags[is_live]
        while len(rows):
            tag = tags[0]
            is_this = tags == tag
            self._read_field(int(tag), rows[is_this])
            rows, tags = rows[~is_this], tags[~is_this]

    def _read_field(self, tag: int, rows: Integers) -> None:
        cursors = self._cursors
        found, is_packed = self._tags[tag]
        words, spans = None, None
        match WireType(tag & 7):
            case WireType.VARINT:
                words = cursors.varints(rows)
            case WireType.EIGHT_BYTES:
                words = cursors.words(rows, 8)
            case WireType.FOUR_BYTES:
                words = cursors.words(rows, 4)
            case WireType.SPAN:
                # No length is negative: what does not fit in 63 bits does not fit in a record.
                lengths = np.minimum(cursors.varints(rows), np.uint64(2**62)).astype(np.int64)
                is_faulty = cursors.is_faulty[rows]
                spans = cursors.spans(rows, np.where(is_faulty, 0, lengths))
        self._pieces[found.number].add(rows, words, spans, is_packed=is_packed)
        if found.oneof is not None:
            self.last_members[found.oneof][rows] = found.number

    def _read_tails(self, rows: Integers) -> None:
        """Read all further fields of few messages, one by one."""
        cursors = self._cursors
        found: dict[tuple[int, bool], list[tuple[int, int, int, int]]] = {}
        for row in rows.tolist():
            walker = _Walker(cursors.whole, int(cursors.positions[row]), int(cursors.ends[row]))
            try:
                while not walker.is_at_end:
                    tag = walker.varint()
                    field_, is_packed = self._known(tag)
                    value = walker.value(tag & 7)
                    found.setdefault((field_.number, is_packed), []).append((row, *value))
                    if field_.oneof is not None:
                        self.last_members[field_.oneof][row] = field_.number
                cursors.positions[row] = walker.position
            except RecordError as error:
                cursors.fail(np.array([row]), error.error_class, error.message)
        for (number, is_packed), values in found.items():
            owners, words, starts, lengths = zip(*values, strict=True)
            self._pieces[number].add(
                np.array(owners, np.int64),
                np.array(words, np.uint64),
                (np.array(starts, np.int64), np.array(lengths, np.int64)),
                is_packed=is_packed,
            )

    def _known(self, tag: int) -> tuple[MessageField, bool]:
        known = self._tags.get(tag)
        if known is None:
            is_there = (tag >> 3) in self._pieces
            raise RecordError(*(_WRONG_WIRE_TYPE if is_there else _UNKNOWN))
        return known


class _Walker:
    """Reads one message field by field; raises `RecordError` for what cannot be read."""

    def __init__(self, whole: bytes, position: int, end: int) -> None:
        self._whole = whole
        self.position = position
        self._end = end

    @property
    def is_at_end(self) -> bool:
        return self.position >= self._end

    def varint(self) -> int:
        shift = number = 0
        for _ in range(VARINT_BYTES_MAX):
            byte = self._whole[self._passed(1)]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < CONTINUED:
                break
        else:
            raise RecordError(_BAD, "a number has more than 64 bits")
        if number >> 64:
            raise RecordError(_BAD, "a number has more than 64 bits")
        return number

    def value(self, wire: int) -> tuple[int, int, int]:
        """Return word, start and length."""
        if wire == WireType.VARINT:
            return self.varint(), 0, 0
        if wire == WireType.SPAN:
            length = self.varint()
            return 0, self._passed(length), length
        byte_count = 8 if wire == WireType.EIGHT_BYTES else 4
        start = self._passed(byte_count)
        return int.from_bytes(self._whole[start : start + byte_count], "little"), 0, 0

    def _passed(self, byte_count: int) -> int:
        start = self.position
        if start + byte_count > self._end:
            raise RecordError(_BAD, "the record ends inside a value")
        self.position = start + byte_count
        return start
