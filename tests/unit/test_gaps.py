"""Which dead letters an operator's consent makes history.

Goal: of several tables that accept one recreated topic, only the first makes its dead letters
history. Method: ledgers as they are before and after, one question.
"""

import pytest

from k2i_core.iceberg.operations import Gap
from k2i_core.ledger import Entry, Identity
from k2i_core.offsets import Checkpoint, TopicPartition
from k2i_core.wiring.gaps import not_forgotten


def entry(topic_id: str, cluster_id: str = "one") -> Entry:
    return Entry(Identity("shop", cluster_id, {"events": topic_id}), Checkpoint())


@pytest.mark.parametrize(
    ("own", "dead_letters", "expected"),
    [
        (entry("old"), entry("old"), ("events",)),
        (entry("old"), entry("new"), ()),
        # The same topic lost the end of its log: nothing but this consent can tell.
        (entry("new"), entry("new"), ("events",)),
        (entry("old", "other"), entry("new", "other"), ("events",)),
        (entry("new", "other"), entry("new"), ()),
    ],
    ids=["first table", "second table", "truncated", "other cluster", "cluster, second table"],
)
def test_a_topics_dead_letters_are_made_history_once(own, dead_letters, expected):
    starts = {"events": {TopicPartition("events", 0): 0}}
    gap = Gap(entry("new").identity, restarted=starts)

    assert not_forgotten(gap, own, dead_letters) == expected
