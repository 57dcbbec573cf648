r"""The transaction log's lines: one JSON array each, guarded by a CRC32.

    <crc32 of the array's text, 8 hex digits> <array>\n

    ["took-over", epoch, worker, workers]
    ["file", table, generation, path]
    ["attempted", table, snapshot_id]
    ["landed", table, generation]

A torn last line is what a crash leaves and is cut off. A damaged line in the middle ends what is
believed: everything after it is ignored, which at worst leaves garbage. Pure; no I/O.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import cast
from zlib import crc32

from k2i_core.ledger import Epoch, Owner, Share
from k2i_core.records import EarlierLog

Entry = tuple[str | int, ...]


def took_over(owner: Owner) -> Entry:
    """Return the entry for a take-over."""
    return ("took-over", owner.epoch, owner.share.worker, owner.share.workers)


def file(table: str, generation: int, path: str) -> Entry:
    """Return the entry for a file about to be created."""
    return ("file", table, generation, path)


def attempted(table: str, snapshot_id: int) -> Entry:
    """Return the entry for a request about to be sent."""
    return ("attempted", table, snapshot_id)


def landed(table: str, generation: int) -> Entry:
    """Return the entry for a generation that is in the table."""
    return ("landed", table, generation)


def encode(entry: Entry) -> bytes:
    """Return one line, newline included."""
    text = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %s\n" % (crc32(text), text)


def decode(content: bytes) -> list[Entry]:
    """Return the entries up to the first line that is torn or damaged."""
    entries: list[Entry] = []
    for line in content.split(b"\n")[:-1]:
        checksum, _, text = line.partition(b" ")
        if checksum != b"%08x" % crc32(text):
            break
        # Safe because the checksum matches what `encode` wrote.
        entries.append(tuple(cast("list[str | int]", json.loads(text))))
    return entries


def summarize(name: str, entries: Iterable[Entry]) -> EarlierLog:
    """Reduce a log to who wrote it and which of its files are not known to have landed."""
    owner: Owner | None = None
    paths: dict[tuple[str, int], list[str]] = defaultdict(list)
    for kind, *values in entries:
        if kind == "took-over":
            epoch, worker, workers = (int(value) for value in values)
            owner = Owner(Epoch(epoch), Share(worker, workers))
        elif kind == "file":
            table, generation, path = values
            paths[str(table), int(generation)].append(str(path))
        elif kind == "landed":
            table, generation = values
            paths.pop((str(table), int(generation)), None)
    unlanded: dict[str, tuple[str, ...]] = {}
    for (table, _), generation_paths in paths.items():
        unlanded[table] = (*unlanded.get(table, ()), *generation_paths)
    return EarlierLog(name, owner, unlanded)
