"""Goal: a bounded run ends at the offsets it was given, never beyond what was there at its start.

Method: the pure rule, by hand; that a worker stops there is shown on a real topic.
"""

from k2i_core.offsets import TopicPartition, Watermarks
from k2i_core.worker import Until

FIRST, SECOND = TopicPartition("orders", 0), TopicPartition("orders", 1)
NEXT_OFFSETS = {FIRST: 10, SECOND: 20}
WATERMARKS = {FIRST: Watermarks(0, 100), SECOND: Watermarks(0, 200)}


def test_without_ends_everything_that_was_there_is_read():
    goal = Until(caught_up=True).goal(NEXT_OFFSETS, WATERMARKS)
    assert goal == {FIRST: 100, SECOND: 200}


def test_an_end_beyond_the_log_is_the_end_of_the_log():
    until = Until(end_offsets={FIRST: 50, SECOND: 1000})
    assert until.goal(NEXT_OFFSETS, WATERMARKS) == {FIRST: 50, SECOND: 200}


def test_a_kafka_partition_without_an_end_is_done_where_it_stands():
    until = Until(end_offsets={FIRST: 50})
    assert until.goal(NEXT_OFFSETS, WATERMARKS)[SECOND] == 20
