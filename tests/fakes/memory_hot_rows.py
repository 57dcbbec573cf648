"""Hot rows in memory: the pages of one host as values, dropped and followed by the real rules.

A page is what readers see of it, an immutable value made anew at every change, so that an observer
may keep old ones. Nothing pauses here: to publish is one store in the real writer, too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from k2i_core.hot.layout import PageHead, PageState
from k2i_core.hot.reader import HotPage
from k2i_core.ledger import Identity, Owner
from k2i_core.offsets import TopicPartition
from k2i_core.records import KAFKA_COLUMN, DecodedBatch

Origins = tuple[tuple[TopicPartition, int], ...]


@dataclass(frozen=True)
class MemoryPage:
    """A page with the rows of its generations."""

    page: HotPage
    rows: Mapping[int, Origins]


@dataclass
class HotHost:
    """What a host keeps: session → page, and which sessions live."""

    pages: dict[str, MemoryPage] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)
    changed: Callable[["HotHost"], None] = lambda _: None


class MemoryHotRows:
    """One session's page on a host."""

    is_full = False
    is_shown = True

    def has_room(self, waiting_bytes: int, next_bytes: int) -> bool:
        del waiting_bytes, next_bytes
        return True

    def __init__(self, host: HotHost, name: str) -> None:
        self._host = host
        self._name = name

    def took_over(
        self, owner: Owner, identity: Identity, next_offsets: Mapping[TopicPartition, int]
    ) -> None:
        partitions = tuple(sorted(next_offsets))
        head = PageHead("", "", owner, identity, partitions, ())
        base = np.array([next_offsets[tp] for tp in partitions], np.int64)
        state = PageState(
            0, is_ended=False, base=base, generations=(), next_offsets=(), segments=()
        )
        index = {tp: n for n, tp in enumerate(partitions)}
        self._host.alive.add(self._name)
        self._host.pages[self._name] = MemoryPage(HotPage(head, state, index, Path(self._name)), {})
        for name, other in list(self._host.pages.items()):
            is_older = other.page.head.owner.epoch < owner.epoch
            if name not in self._host.alive and is_older and set(other.page.index) & set(index):
                del self._host.pages[name]
        self._host.changed(self._host)

    def append(self, generation: int, decoded: DecodedBatch) -> None:
        kept = self._host.pages.get(self._name)
        if kept is None:
            return
        state = kept.page.state
        moved = state.end.copy()
        for counted in decoded.ranges:
            place = kept.page.index[counted.offsets.topic_partition]
            assert moved[place] == counted.offsets.start_offset
            moved[place] = counted.offsets.next_offset
        before = [n for n in state.generations if n != generation]
        vectors = state.next_offsets[: len(before)]
        added = tuple(
            (TopicPartition(row["topic"], row["partition"]), row["offset"])
            for row in decoded.rows.column(KAFKA_COLUMN).to_pylist()
        )
        self._publish(
            kept,
            replace(state, generations=(*before, generation), next_offsets=(*vectors, moved)),
            {**kept.rows, generation: (*kept.rows.get(generation, ()), *added)},
        )

    def committed(self, generation: int, snapshot_id: int) -> None:
        kept = self._host.pages.get(self._name)
        if kept is None:
            return
        state = kept.page.state
        dropped = sum(number < generation for number in state.generations)
        base = state.next_offsets[dropped - 1] if dropped else state.base
        state = replace(
            state,
            snapshot_id=snapshot_id,
            base=base,
            generations=state.generations[dropped:],
            next_offsets=state.next_offsets[dropped:],
        )
        rows = {number: kept.rows.get(number, ()) for number in state.generations}
        self._publish(kept, state, rows)

    def close(self) -> None:
        self._host.alive.discard(self._name)
        self._host.pages.pop(self._name, None)
        self._host.changed(self._host)

    def abandon(self) -> None:
        self._host.alive.discard(self._name)

    def _publish(self, kept: MemoryPage, state: PageState, rows: Mapping[int, Origins]) -> None:
        self._host.pages[self._name] = MemoryPage(replace(kept.page, state=state), rows)
        self._host.changed(self._host)
