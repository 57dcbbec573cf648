"""The state page: two slots and a number that says which one counts.

    magic | sequence | head length | slot room | head … | slot 0 | slot 1
    slot: sequence | length | CRC-32 | state

A new state is written into the slot that does not count, then the sequence moves: one store of
eight bytes. A writer that dies between the two leaves the old state; a reader that is overtaken
twice while it copies sees a wrong checksum and looks again. Nobody waits for anybody.
"""

import mmap
import os
import struct
import zlib
from pathlib import Path

from k2i_core.errors import CorruptionError, ErrorKind
from k2i_core.hot.directories import reserve
from k2i_core.hot.layout import (
    PageHead,
    PageState,
    decode_head,
    decode_state,
    encode_head,
    encode_state,
)

STATE_NAME = "state"

_MAGIC = b"k2i-hot1"
_FRONT = struct.Struct("<8sQQQ")
_SEQUENCE = struct.Struct("<Q")
_SEQUENCE_AT = 8
_SLOT = struct.Struct("<QQQ")

READ_ATTEMPTS_MAX = 100
"""How often a reader looks again when a writer overtook it. A single retry is rare already: more
only matters on a machine that is out of processors."""


class StatePageWriter:
    """The page of one session, written by its worker alone."""

    def __init__(self, directory: Path, head: PageHead, state: PageState, room: int) -> None:
        """Make the page with its first state; readers see it whole or not at all.

        Args:
            directory: Of the session.
            head: Written once.
            state: To begin with.
            room: Bytes of the largest state.

        Raises:
            OSError: The directory is full or cannot be written.

        """
        encoded = encode_head(head)
        self._room = room
        self._slots_at = _FRONT.size + len(encoded)
        size = self._slots_at + 2 * (_SLOT.size + room)
        path = directory / f"{STATE_NAME}.new"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            reserve(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._map[: _FRONT.size] = _FRONT.pack(_MAGIC, 0, len(encoded), room)
        self._map[_FRONT.size : self._slots_at] = encoded
        self._sequence = 0
        self.publish(state)
        path.rename(directory / STATE_NAME)

    def publish(self, state: PageState) -> None:
        """Make a state the one that counts."""
        content = encode_state(state)
        assert len(content) <= self._room
        sequence = self._sequence + 1
        at = self._slots_at + (sequence % 2) * (_SLOT.size + self._room)
        self._map[at + _SLOT.size : at + _SLOT.size + len(content)] = content
        self._map[at : at + _SLOT.size] = _SLOT.pack(sequence, len(content), _checksum(content))
        self._map[_SEQUENCE_AT : _SEQUENCE_AT + _SEQUENCE.size] = _SEQUENCE.pack(sequence)
        self._sequence = sequence


class StatePageReader:
    """Another process's page, read only."""

    def __init__(self, path: Path) -> None:
        """Map a page.

        Raises:
            FileNotFoundError: It is gone.
            OSError: It cannot be read.
            CorruptionError: It is no page.

        """
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_size < _FRONT.size:
                message = f"hot page at {path} is cut off"
                raise CorruptionError(message, kind=ErrorKind.HOT_PAGE_UNREADABLE)
            self._map = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        magic, _, head_length, self._room = _FRONT.unpack(self._map[: _FRONT.size])
        self._slots_at = _FRONT.size + head_length
        if magic != _MAGIC or self._slots_at + 2 * (_SLOT.size + self._room) > len(self._map):
            message = f"file at {path} is no hot page of this version"
            raise CorruptionError(message, kind=ErrorKind.HOT_PAGE_UNREADABLE)
        self.head: PageHead = decode_head(self._map[_FRONT.size : self._slots_at])
        self._seen: tuple[int, PageState] | None = None

    def read(self) -> PageState:
        """Return the state that counts now.

        Raises:
            CorruptionError: No whole state was seen in many attempts.

        """
        for _ in range(READ_ATTEMPTS_MAX):
            (sequence,) = _SEQUENCE.unpack(self._map[_SEQUENCE_AT : _SEQUENCE_AT + _SEQUENCE.size])
            if self._seen is not None and self._seen[0] == sequence:
                return self._seen[1]
            at = self._slots_at + (sequence % 2) * (_SLOT.size + self._room)
            written, length, checksum = _SLOT.unpack(self._map[at : at + _SLOT.size])
            if written != sequence or length > self._room:
                continue
            content = self._map[at + _SLOT.size : at + _SLOT.size + length]
            if _checksum(content) == checksum:
                self._seen = sequence, decode_state(content, len(self.head.partitions))
                return self._seen[1]
        message = f"hot page of epoch={self.head.owner.epoch} shows no whole state"
        raise CorruptionError(message, kind=ErrorKind.HOT_PAGE_UNREADABLE)


def _checksum(content: bytes) -> int:
    return zlib.crc32(content)
