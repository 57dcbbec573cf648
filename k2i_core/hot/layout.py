"""What a hot page says: which offsets of which Kafka partitions lie in which segments.

Positions are vectors over the page's Kafka partitions, in the order of its head. A page covers
`[base, next of its last generation)` of each of them without a gap: generation n begins where
generation n - 1 ends. That is all a reader needs to find the seam by offset.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from k2i_core.errors import CorruptionError, ErrorKind
from k2i_core.ledger import Epoch, Identity, Owner, Share
from k2i_core.offsets import TopicPartition

HEAD_VERSION = 1

Offsets = npt.NDArray[np.int64]

_FIXED = 4
"""Numbers of a state before its vectors: snapshot id, ended or not, generations, segments."""

_SEGMENT = 5
"""Numbers of a segment."""


@dataclass(frozen=True, slots=True)
class PageHead:
    """What stays the same for the life of a page.

    Attributes:
        table_uuid: Whose rows these are.
        boot_id: The host's run; after a restart a file may hold less than its page says.
        owner: The worker's take-over.
        identity: Whose offsets these are.
        partitions: The worker's Kafka partitions, ascending.
        places: Directories of the segments.
    """

    table_uuid: str
    boot_id: str
    owner: Owner
    identity: Identity
    partitions: tuple[TopicPartition, ...]
    places: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class SegmentState:
    """How much of one segment may be read.

    Attributes:
        place: Index into the head's places.
        byte_count: Whole batches end here.
    """

    generation: int
    number: int
    place: int
    byte_count: int
    row_count: int


@dataclass(frozen=True, slots=True)
class PageState:
    """What may be read now; replaced as a whole.

    Attributes:
        snapshot_id: The last commit of this worker; 0 before the first.
        is_ended: No rows follow, although the worker may live.
        base: Where the page begins.
        generations: Number of each generation, ascending.
        next_offsets: Where each generation ends; one vector a generation.
        segments: In the order in which they were written.
    """

    snapshot_id: int
    is_ended: bool
    base: Offsets
    generations: tuple[int, ...]
    next_offsets: tuple[Offsets, ...]
    segments: tuple[SegmentState, ...]

    @property
    def end(self) -> Offsets:
        """Where the page ends."""
        return self.next_offsets[-1] if self.next_offsets else self.base

    def start_of(self, index: int) -> Offsets:
        """Return where the generation at an index begins."""
        return self.next_offsets[index - 1] if index else self.base


def state_bytes_max(partition_count: int, generation_count: int, segment_count: int) -> int:
    """Return the room that a state takes at most."""
    numbers = _FIXED + partition_count + generation_count * (1 + partition_count)
    return 8 * (numbers + segment_count * _SEGMENT)


def encode_state(state: PageState) -> bytes:
    """Return a state as 64-bit numbers."""
    segments = [
        number
        for s in state.segments
        for number in (s.generation, s.number, s.place, s.byte_count, s.row_count)
    ]
    fixed = (
        state.snapshot_id,
        int(state.is_ended),
        len(state.generations),
        len(state.segments),
    )
    parts = [
        np.array([*fixed, *state.generations, *segments], np.int64),
        state.base,
        *state.next_offsets,
    ]
    return np.concatenate(parts).tobytes()


def decode_state(content: bytes, partition_count: int) -> PageState:
    """Read a state back; its checksum was checked before."""
    numbers = np.frombuffer(content, np.int64)
    snapshot_id, ended, generation_count, segment_count = (int(n) for n in numbers[:_FIXED])
    at = _FIXED + generation_count
    generations = tuple(int(n) for n in numbers[_FIXED:at])
    rows = numbers[at : at + segment_count * _SEGMENT].reshape(-1, _SEGMENT).tolist()
    at += segment_count * _SEGMENT
    vectors = numbers[at:].reshape(generation_count + 1, partition_count)
    return PageState(
        snapshot_id=snapshot_id,
        is_ended=bool(ended),
        base=vectors[0],
        generations=generations,
        next_offsets=tuple(vectors[1:]),
        segments=tuple(SegmentState(*row) for row in rows),
    )


def encode_head(head: PageHead) -> bytes:
    """Return a head as JSON."""
    document = {
        "version": HEAD_VERSION,
        "table": head.table_uuid,
        "boot": head.boot_id,
        "owner": [head.owner.epoch, head.owner.share.worker, head.owner.share.workers],
        "pipeline": head.identity.pipeline,
        "cluster": head.identity.cluster_id,
        "topics": dict(head.identity.topic_ids),
        "partitions": [[tp.topic, tp.kafka_partition] for tp in head.partitions],
        "places": [str(place) for place in head.places],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def decode_head(content: bytes) -> PageHead:
    """Read a head back.

    Raises:
        CorruptionError: It is none of a version that this program knows.

    """
    try:
        # Safe because every field is converted below and any mismatch ends in the except clause.
        document = cast("dict[str, Any]", json.loads(content))
        if document["version"] != HEAD_VERSION:
            message = f"hot page has version={document['version']}, this program reads 1"
            raise CorruptionError(message, kind=ErrorKind.HOT_PAGE_UNREADABLE)
        epoch, worker, workers = document["owner"]
        return PageHead(
            table_uuid=str(document["table"]),
            boot_id=str(document["boot"]),
            owner=Owner(Epoch(int(epoch)), Share(int(worker), int(workers))),
            identity=Identity(
                str(document["pipeline"]), str(document["cluster"]), dict(document["topics"])
            ),
            partitions=tuple(TopicPartition(str(t), int(p)) for t, p in document["partitions"]),
            places=tuple(Path(place) for place in document["places"]),
        )
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        message = f"hot page cannot be read: {type(error).__name__}"
        raise CorruptionError(message, kind=ErrorKind.HOT_PAGE_UNREADABLE) from error


def segment_name(epoch: int, generation: int, number: int) -> str:
    """Return a segment's file name; no two segments ever share one."""
    return f"seg-{epoch}-{generation}-{number}"
