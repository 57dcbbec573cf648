"""The seam between the table and the hot rows: found by offset, for every Kafka partition alone.

One load of the table says where its rows end; of the pages that hold what follows, one is chosen:

| pages of a Kafka partition | outcome |
|---|---|
| none | the table alone; uncovered |
| the owner's begins at or below the checkpoint | rows at or above the checkpoint come from it |
| the owner's begins above it | this load of the table is too old: load again |
| only others', one begins at or below it | the youngest of those; its records are Kafka's as well |
| only others', all begin above it | load again |

Nothing here asks which generation or which commit a row belongs to: offsets mean the same to
every worker, before and after a crash, a change of the number of workers, or a rewind. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from k2i_core.hot.layout import Offsets
from k2i_core.hot.reader import HotPage
from k2i_core.ledger import Entry, Owner
from k2i_core.offsets import TopicPartition

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class ChosenPage:
    """A page and the part of it that counts.

    Attributes:
        from_offsets: In the page's order: the first offset that counts, or `NEVER` where another
            page was chosen.
    """

    page: HotPage
    from_offsets: Offsets


@dataclass(frozen=True, slots=True)
class Seam:
    """What belongs to one load of the table.

    Attributes:
        chosen: The pages, each with what counts of it.
        frontier: Next offset per Kafka partition: what lies below is shown exactly once.
        followed: Whose page was chosen. A frontier moves back only when this changes.
        uncovered: Kafka partitions of which only committed rows can be shown.
        is_stale: A newer load of the table would fit better.
    """

    chosen: tuple[ChosenPage, ...]
    frontier: Mapping[TopicPartition, int]
    followed: Mapping[TopicPartition, Owner]
    uncovered: frozenset[TopicPartition]
    is_stale: bool


def find_seam(entry: Entry | None, pages: Sequence[HotPage]) -> Seam:
    """Choose pages for one load of the table.

    Args:
        entry: The load's ledger; None for a table that k2i never committed to.
        pages: As seen before or after the load.

    """
    if entry is None:
        return Seam((), {}, {}, frozenset(), is_stale=bool(pages))
    ours = [p for p in pages if p.head.identity.cluster_id == entry.identity.cluster_id]
    froms = [np.full(len(page.index), NEVER) for page in ours]
    frontier: dict[TopicPartition, int] = {}
    followed: dict[TopicPartition, Owner] = {}
    uncovered: set[TopicPartition] = set()
    is_stale = any(tp not in entry.checkpoint.next_offsets for page in ours for tp in page.index)
    for tp, next_offset in entry.checkpoint.next_offsets.items():
        topic_id = entry.identity.topic_ids.get(tp.topic)
        candidates = [
            n
            for n, page in enumerate(ours)
            if tp in page.index and page.head.identity.topic_ids.get(tp.topic) == topic_id
        ]
        owner = entry.owner_of(tp)
        fitting = [n for n in candidates if ours[n].state.base[ours[n].index[tp]] <= next_offset]
        owners = [n for n in candidates if ours[n].head.owner == owner]
        is_stale |= bool(candidates) and not any(n in fitting for n in owners or candidates)
        if not fitting:
            frontier[tp] = next_offset
            uncovered.add(tp)
            continue
        best = max(fitting, key=lambda n: (ours[n].head.owner == owner, ours[n].head.owner.epoch))
        page = ours[best]
        followed[tp] = page.head.owner
        index = page.index[tp]
        froms[best][index] = next_offset
        frontier[tp] = max(next_offset, int(page.state.end[index]))
        if page.state.is_ended:
            uncovered.add(tp)
    chosen = tuple(
        ChosenPage(page, from_offsets)
        for page, from_offsets in zip(ours, froms, strict=True)
        if (from_offsets != NEVER).any()
    )
    return Seam(chosen, frontier, followed, frozenset(uncovered), is_stale)
