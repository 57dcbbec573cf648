"""Goal: between the table and the pages of any number of workers there is one exact seam.

Method: ledgers and pages as plain values; each case is one row of the table in `query.seam`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from k2i_core.hot.layout import PageHead, PageState
from k2i_core.hot.reader import HotPage
from k2i_core.ledger import Entry, Identity, Owner
from k2i_core.offsets import Checkpoint, TopicPartition
from k2i_core.query.seam import find_seam
from tests.fakes.hot_rows import IDENTITY, P0, P1, TABLE_UUID, owner


def page(
    of: Owner,
    spans: Mapping[TopicPartition, tuple[int, int]],
    *,
    identity: Identity = IDENTITY,
    is_ended: bool = False,
) -> HotPage:
    partitions = tuple(sorted(spans))
    head = PageHead(TABLE_UUID, "", of, identity, partitions, ())
    base = np.array([spans[tp][0] for tp in partitions])
    end = np.array([spans[tp][1] for tp in partitions])
    state = PageState(0, is_ended, base, (1,), (end,), ())
    return HotPage(head, state, {tp: i for i, tp in enumerate(partitions)}, Path(str(of.epoch)))


def entry(next_offsets: Mapping[TopicPartition, int], *owners: Owner) -> Entry:
    return Entry(IDENTITY, Checkpoint(next_offsets), owners)


def test_without_pages_the_table_stands_alone():
    seam = find_seam(entry({P0: 7}, owner(1)), [])
    assert (seam.chosen, seam.frontier, seam.uncovered) == ((), {P0: 7}, {P0})
    assert not seam.is_stale


def test_a_page_counts_from_the_checkpoint_on():
    seam = find_seam(entry({P0: 7, P1: 3}, owner(1)), [page(owner(1), {P0: (5, 9), P1: (3, 3)})])
    (chosen,) = seam.chosen
    assert list(chosen.from_offsets) == [7, 3]
    assert (seam.frontier, seam.uncovered, seam.is_stale) == ({P0: 9, P1: 3}, frozenset(), False)


def test_a_load_older_than_the_owners_page_is_stale():
    assert find_seam(entry({P0: 4}, owner(1)), [page(owner(1), {P0: (5, 9)})]).is_stale
    dead = page(owner(1), {P0: (0, 9)})
    assert find_seam(entry({P0: 4}, owner(2)), [dead, page(owner(2), {P0: (5, 6)})]).is_stale


def test_a_partition_that_the_ledger_does_not_know_makes_a_load_stale():
    assert find_seam(entry({P0: 5}, owner(1)), [page(owner(1), {P0: (5, 9), P1: (0, 1)})]).is_stale
    assert find_seam(None, [page(owner(1), {P0: (0, 1)})]).is_stale


def test_the_owners_page_is_preferred_though_another_reaches_further():
    pages = [page(owner(1), {P0: (0, 90)}), page(owner(2), {P0: (7, 8)})]
    for order in (pages, pages[::-1]):
        seam = find_seam(entry({P0: 7}, owner(2)), order)
        assert [one.page.head.owner.epoch for one in seam.chosen] == [2]
        assert seam.frontier == {P0: 8}


def test_while_the_owner_has_no_page_the_youngest_dead_one_is_read():
    pages = [page(owner(1), {P0: (0, 90)}), page(owner(2), {P0: (5, 20)})]
    seam = find_seam(entry({P0: 7}, owner(3)), pages)
    assert [one.page.head.owner.epoch for one in seam.chosen] == [2]
    assert (seam.frontier, seam.is_stale) == ({P0: 20}, False)


def test_two_pages_hold_a_partition_after_the_number_of_workers_changed_and_one_counts():
    p2 = TopicPartition("orders", 2)
    before, after = owner(1, 0, 2), owner(2, 2, 3)
    pages = [page(before, {P0: (0, 5), p2: (0, 9)}), page(after, {p2: (4, 6)})]
    seam = find_seam(entry({P0: 2, p2: 4}, before, after), pages)
    counted = {
        one.page.head.owner.epoch: [n for n in one.from_offsets if n < 1_000] for one in seam.chosen
    }
    assert counted == {1: [2], 2: [4]}
    assert seam.frontier == {P0: 5, p2: 6}


@pytest.mark.parametrize(
    "identity",
    [
        Identity("pipeline", "another cluster", {"orders": "id-1"}),
        Identity("pipeline", "cluster", {"orders": "the topic before it was recreated"}),
    ],
    ids=["cluster", "topic"],
)
def test_offsets_of_another_cluster_or_topic_are_not_taken_for_ours(identity: Identity):
    seam = find_seam(entry({P0: 7}, owner(1)), [page(owner(1), {P0: (5, 9)}, identity=identity)])
    assert (seam.chosen, seam.uncovered, seam.is_stale) == ((), {P0}, False)


def test_after_a_rewind_a_page_that_begins_too_late_is_not_used():
    seam = find_seam(entry({P0: 100}, owner(9)), [page(owner(1), {P0: (200, 250)})])
    assert (seam.chosen, seam.frontier, seam.is_stale) == ((), {P0: 100}, True)


def test_a_page_whose_worker_gave_up_hot_rows_covers_no_more():
    seam = find_seam(entry({P0: 7}, owner(1)), [page(owner(1), {P0: (5, 9)}, is_ended=True)])
    assert (seam.frontier, seam.uncovered) == ({P0: 9}, {P0})
