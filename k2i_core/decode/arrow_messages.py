"""Arrow IPC streams of one record each, looked at before Arrow reads them.

A stream is a schema, perhaps dictionaries, one batch of one row, and perhaps the mark of its end.
What a stream claims may be larger than what it holds: a compressed body, or a length without bytes
behind it, costs memory once it is read. So the claims are added up first, from the flatbuffers
themselves, and a stream that claims more than its own size can justify is not read.

Source: Arrow's columnar format, "Serialization and Interprocess Communication"; format/Message.fbs.
"""

import struct
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import ipc

from k2i_core.decode.conform import Fault
from k2i_core.decode.json_trees import ErrorClass

CONTINUATION = b"\xff\xff\xff\xff"
PREFIX_BYTES = 8
END = CONTINUATION + bytes(4)

MESSAGES_MAX = 256
"""Of one stream: a schema, dictionaries, a batch. Larger: a hostile record costs a long loop;
smaller: a row with many dictionary columns does not fit."""

UNPACKED_BYTES_MAX = 64 << 20
"""Of one record's compressed buffers. Larger: a small hostile record fills the memory; smaller: a
large honest one does not fit."""

ELEMENTS_PER_BYTE_MAX = 8
"""A boolean takes one bit; only columns of nulls may have more elements than that."""

DICTIONARY, RECORD_BATCH = 2, 3
"""Kinds of messages."""

_BUFFER = struct.Struct("<qq")

REFUSALS = (pa.ArrowException, OSError, KeyError, ValueError, MemoryError)
"""What Arrow raises for content that it does not take."""


class MalformedError(Exception):
    """A stream is not one row, or claims more than it holds."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = (ErrorClass.INVALID_ENCODING, message)


@dataclass(frozen=True, slots=True)
class OneRow:
    """A stream that is worth reading.

    Attributes:
        schema: Bytes of its schema message; equal bytes are equal schemas.
        messages: Those behind it, in order.
    """

    schema: bytes
    messages: tuple["ipc.Message", ...]

    @property
    def has_dictionaries(self) -> bool:
        """Tell whether the batch cannot be read by itself."""
        return len(self.messages) > 1


def look(value: pa.Buffer) -> OneRow:
    """Take a record apart into messages.

    Raises:
        MalformedError: It is no stream that may be read.

    """
    schema = _schema_bytes(value)
    source = pa.BufferReader(value.slice(len(schema)))
    messages: list[ipc.Message] = []
    try:
        reader = ipc.MessageReader.open_stream(source)
        while len(messages) <= MESSAGES_MAX:
            messages.append(reader.read_next_message())
    except StopIteration:
        pass
    except REFUSALS as error:
        message = "not a stream of Arrow IPC messages"
        raise MalformedError(message) from error
    if len(messages) > MESSAGES_MAX:
        message = f"more than messages={MESSAGES_MAX}"
        raise MalformedError(message)
    if source.tell() != source.size():
        message = "goes on behind the end of its stream"
        raise MalformedError(message)
    _check_claims(messages, value.size)
    return OneRow(schema, tuple(messages))


def _schema_bytes(value: pa.Buffer) -> bytes:
    if value.size < PREFIX_BYTES:
        message = "ends before its schema"
        raise MalformedError(message)
    start = value.slice(0, PREFIX_BYTES).to_pybytes()
    (length,) = struct.unpack_from("<i", start, 4)
    if start[:4] != CONTINUATION or not 0 < length <= value.size - PREFIX_BYTES:
        message = "does not begin with the schema of an Arrow IPC stream"
        raise MalformedError(message)
    return value.slice(0, PREFIX_BYTES + length).to_pybytes()


def _check_claims(messages: "list[ipc.Message]", byte_count: int) -> None:
    row_count = batch_count = element_count = unpacked_bytes = 0
    for message in messages:
        try:
            claims = _Claims(message.metadata.to_pybytes(), message.body)
        except (struct.error, IndexError) as error:
            text = "a message is not readable"
            raise MalformedError(text) from error
        batch_count += claims.is_batch
        row_count += claims.row_count if claims.is_batch else 0
        element_count += claims.element_count
        unpacked_bytes += claims.unpacked_bytes
    if batch_count != 1 or row_count != 1:
        text = f"expected batches=1 of rows=1, got batches={batch_count} of rows={row_count}"
        raise MalformedError(text)
    if unpacked_bytes > UNPACKED_BYTES_MAX:
        text = f"claims more than bytes={UNPACKED_BYTES_MAX} when it is unpacked"
        raise MalformedError(text)
    if element_count > ELEMENTS_PER_BYTE_MAX * (byte_count + unpacked_bytes):
        text = "claims more elements than it has bytes for"
        raise MalformedError(text)


class _Claims:
    """What one message says of its own size.

    Raises `struct.error` where the flatbuffer points outside of itself.
    """

    def __init__(self, metadata: bytes, body: pa.Buffer | None) -> None:
        message = _Table(metadata, struct.unpack_from("<I", metadata)[0])
        kind_at = message.field(1)
        kind = 0 if kind_at is None else metadata[kind_at]
        if kind not in (DICTIONARY, RECORD_BATCH):
            raise struct.error
        self.is_batch = kind == RECORD_BATCH
        batch = message.table(2)
        if kind == DICTIONARY:
            batch = batch.table(1)
        row_count_at = batch.field(0)
        self.row_count = 0 if row_count_at is None else _long(metadata, row_count_at)
        nodes, buffers = batch.pairs(1), batch.pairs(2)
        self.element_count = self.row_count + sum(max(length, 0) for length, _ in nodes)
        self.unpacked_bytes = 0
        if batch.field(3) is not None:
            self.unpacked_bytes = sum(_unpacked_bytes(body, *one) for one in buffers)


class _Table:
    """A flatbuffer's table at a position of its bytes."""

    def __init__(self, bytes_: bytes, position: int) -> None:
        self._bytes = bytes_
        self._position = position
        self._directory = position - struct.unpack_from("<i", bytes_, position)[0]
        if self._directory < 0:
            raise struct.error
        (self._directory_bytes,) = struct.unpack_from("<H", bytes_, self._directory)

    def field(self, number: int) -> int | None:
        """Return where a field lies; None when it is left out."""
        entry = 4 + 2 * number
        if entry + 2 > self._directory_bytes:
            return None
        (offset,) = struct.unpack_from("<H", self._bytes, self._directory + entry)
        return self._position + offset if offset else None

    def table(self, number: int) -> "_Table":
        """Return a field that is a table and must be there."""
        at = self.field(number)
        if at is None:
            raise struct.error
        return _Table(self._bytes, at + struct.unpack_from("<I", self._bytes, at)[0])

    def pairs(self, number: int) -> list[tuple[int, int]]:
        """Return a field that is a vector of pairs of longs."""
        at = self.field(number)
        if at is None:
            return []
        start = at + struct.unpack_from("<I", self._bytes, at)[0]
        (count,) = struct.unpack_from("<I", self._bytes, start)
        end = start + 4 + count * _BUFFER.size
        if end > len(self._bytes):
            raise struct.error
        return list(_BUFFER.iter_unpack(self._bytes[start + 4 : end]))


def _long(bytes_: bytes, at: int) -> int:
    return struct.unpack_from("<q", bytes_, at)[0]


def _unpacked_bytes(body: pa.Buffer | None, offset: int, length: int) -> int:
    """Return what one compressed buffer says of its size; -1 there means that it is not."""
    if length == 0:
        return 0
    if body is None or offset < 0 or length < PREFIX_BYTES or offset + length > body.size:
        raise struct.error
    claimed = _long(body.slice(offset, PREFIX_BYTES).to_pybytes(), 0)
    return length if claimed == -1 else abs(claimed)
