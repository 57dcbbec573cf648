"""Protobuf records → rows: behind the frame of a schema registry, or bare.

Behind the schema's id a frame says which message of the schema the record is: how many numbers
follow, then those numbers, each an index among the messages that the one before contains. A
single zero stands for the first message.
"""

import numpy as np
import pyarrow as pa

from k2i_core.decode.arrow import flags, indices
from k2i_core.decode.conform import Faults
from k2i_core.decode.cursors import Cursors, Integers
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.proto_columns import Row, plan_message
from k2i_core.decode.proto_rows import read_messages
from k2i_core.decode.proto_schema import CompiledSchema, Message, MessageTree
from k2i_core.decode.proto_tags import tagged_fields
from k2i_core.decode.schema_decoder import Piece
from k2i_core.decode.unusable_schema import UnusableSchemaError

INDICES_MAX = 64
"""Numbers of one frame. Larger: garbage is read on; smaller: a deep message does not fit."""

_FIRST = (0,)

_ONE_BYTE_MAX = 63
"""The largest number that a frame has in one byte."""


class ProtoReader:
    """Reads records of one schema."""

    def __init__(
        self, compiled: CompiledSchema, message_name: str | None, *, is_framed: bool
    ) -> None:
        """Plan the columns of the first or the named message; those of others when they come.

        Args:
            compiled: The schema.
            message_name: Full name of the messages to take; None takes any.
            is_framed: Whether a record says which message it is; else it is the named one.

        Raises:
            UnusableSchemaError: Its records cannot be rows.

        """
        self._compiled = compiled
        self._name = message_name
        self._is_framed = is_framed
        if message_name is not None and message_name not in compiled.messages:
            message = f"the schema has no message={message_name}"
            raise UnusableSchemaError(message, ErrorClass.WRONG_MESSAGE)
        first = compiled.roots[0].message
        self._first = compiled.messages[message_name] if message_name is not None else first
        self.row = plan_message(self._first)
        named = message_name if is_framed else self._first.name
        self.tagged = tagged_fields(compiled, named)
        """The fields that have tags, of any message that a record may be."""

    @property
    def frame(self) -> bytes | None:
        """What stands before each message of these columns; None where none does, or a long one."""
        if not self._is_framed:
            return b""
        path = _path_to(self._first, self._compiled.roots)
        if path == _FIRST:
            return b"\0"
        numbers = (len(path), *path)
        has_frame = bool(path) and not self._first.is_entry and max(numbers) <= _ONE_BYTE_MAX
        return bytes(2 * number for number in numbers) if has_frame else None

    @property
    def row_schema(self) -> pa.Schema:
        """The columns of the named message, or of the first one."""
        return pa.schema(self.row.fields)

    def names(self, cursors: Cursors) -> pa.StringArray:
        """Return the full names of n records' messages; null where a frame names none."""
        found = self._by_message(cursors)
        names = pa.array([message.name for message in found], pa.string())
        numbers = np.full(len(cursors.ends), -1)
        for number, places in enumerate(found.values()):
            numbers[places] = number
        texts = names.take(indices(np.maximum(numbers, 0), numbers < 0))
        assert isinstance(texts, pa.StringArray)
        return texts

    def read(self, cursors: Cursors) -> tuple[tuple[Piece, ...], Faults]:
        """Read n records."""
        if not self._is_framed:
            is_empty = cursors.positions == cursors.ends
            message = "the record is empty, and no frame says that it is a message"
            cursors.fail_where(cursors.rows, is_empty, ErrorClass.INVALID_ENCODING, message)
            return self._read_all({self._first: np.flatnonzero(~is_empty)}, cursors)
        return self._read_all(self._by_message(cursors), cursors)

    def _read_all(
        self, places_by_message: dict[Message, Integers], cursors: Cursors
    ) -> tuple[tuple[Piece, ...], Faults]:
        pieces: list[Piece] = []
        for message, all_places in places_by_message.items():
            places = all_places
            try:
                row = self._planned(message)
            except UnusableSchemaError as error:
                cursors.fail(places, error.error_class, str(error))
                continue
            group = cursors.inside(cursors.positions[places], cursors.ends[places])
            rows = read_messages(row, group, self._compiled.pool)
            for place, fault in group.faults.items():
                cursors.fail(places[place : place + 1], *fault)
            if group.faults:
                is_good = ~group.is_faulty
                rows, places = rows.filter(flags(is_good)), places[is_good]
            pieces.append(Piece(places, rows))
        return tuple(pieces), cursors.faults

    def _planned(self, message: Message) -> Row:
        return self.row if message is self._first else plan_message(message)

    def _by_message(self, cursors: Cursors) -> dict[Message, Integers]:
        """Read the frames' indices."""
        rows = cursors.rows
        counts = cursors.zigzags(rows)
        is_first = (counts == 0) & ~cursors.is_faulty
        groups: dict[tuple[int, ...], list[int]] = {}
        for row in np.flatnonzero(~is_first & ~cursors.is_faulty).tolist():
            if not 0 < counts[row] <= INDICES_MAX:
                message = "the frame has no list of message indices"
                cursors.fail(np.array([row]), ErrorClass.INVALID_FRAMING, message)
                continue
            one = np.array([row])
            path = tuple(int(cursors.zigzags(one)[0]) for _ in range(int(counts[row])))
            if not cursors.is_faulty[row]:
                groups.setdefault(path, []).append(row)
        if is_first.any():
            groups[_FIRST] = sorted([*groups.get(_FIRST, []), *np.flatnonzero(is_first).tolist()])
        found: dict[Message, Integers] = {}
        for path, places in groups.items():
            message = self._message_at(path)
            if message is None or (self._name is not None and message.name != self._name):
                fault = ErrorClass.INVALID_FRAMING if message is None else ErrorClass.WRONG_MESSAGE
                text = "the frame names no message of the schema, or not the one that is wanted"
                cursors.fail(np.array(places), fault, text)
            else:
                found[message] = np.array(places)
        return found

    def _message_at(self, path: tuple[int, ...]) -> Message | None:
        inside: tuple[MessageTree, ...] = self._compiled.roots
        found: MessageTree | None = None
        for index in path:
            if not 0 <= index < len(inside):
                return None
            found = inside[index]
            inside = found.inside
        return found.message if found is not None and not found.message.is_entry else None


def _path_to(message: Message, inside: tuple[MessageTree, ...]) -> tuple[int, ...]:
    """Return the indices that lead to a message; none where none do."""
    for index, tree in enumerate(inside):
        if tree.message is message:
            return (index,)
        if below := _path_to(message, tree.inside):
            return (index, *below)
    return ()
