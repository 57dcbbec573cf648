"""When a worker stops rather than divert its topic.

Goal: it stops on a wrong setting, before anything beyond the rule is set aside, and on nothing
else. Method: batches with counts, judged one after the other.
"""

import pytest

from k2i_core.errors import TooManyDeadLettersError
from k2i_core.ingest.circuit_breaker import BreakerLimits, CircuitBreaker, Seen
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import CountedRange, RangeCounts

P0 = TopicPartition("orders", 0)
LIMITS = BreakerLimits(max_share=0.5, over_records=100)


def batch(good: int, bad: int) -> tuple[CountedRange, ...]:
    return (CountedRange(OffsetRange(P0, 0, good + bad), RangeCounts(good, bad)),)


def breaker(*recent: Seen) -> CircuitBreaker:
    begun = CircuitBreaker(LIMITS, lambda: recent)
    begun.begin()
    return begun


def test_a_batch_that_is_mostly_bad_opens_it_at_once():
    with pytest.raises(TooManyDeadLettersError, match="dead letters=60 of the newest records=100"):
        breaker().judge(batch(40, 60))


def test_the_share_that_may_just_be_does_not():
    breaker().judge(batch(50, 50))


def test_fewer_records_than_are_judged_together_never_do():
    begun = breaker()
    for _ in range(9):
        begun.judge(batch(0, 10))
    begun.judge(batch(0, 9))
    with pytest.raises(TooManyDeadLettersError):
        begun.judge(batch(0, 1))


def test_a_short_run_of_bad_ones_among_good_ones_does_not():
    begun = breaker()
    begun.judge(batch(1_000, 0))
    for _ in range(5):
        begun.judge(batch(0, 10))
        begun.judge(batch(10, 0))


def test_a_long_history_of_good_ones_does_not_hide_what_is_bad_now():
    begun = breaker()
    for _ in range(1_000):
        begun.judge(batch(1_000, 0))
    for _ in range(9):
        begun.judge(batch(0, 10))
    with pytest.raises(TooManyDeadLettersError):
        begun.judge(batch(0, 20))


def test_a_restart_remembers_what_was_committed():
    with pytest.raises(TooManyDeadLettersError):
        breaker(Seen(10, 10), Seen(90, 90)).judge(batch(0, 1))
    breaker(Seen(10, 0), Seen(90, 0)).judge(batch(0, 50))


def test_good_records_after_a_repair_get_through():
    begun = breaker(Seen(99, 99))
    begun.judge(batch(10, 0))
    begun.judge(batch(9, 1))
    for _ in range(20):
        begun.judge(batch(9, 1))


def test_older_commits_than_needed_are_not_read():
    def recent():
        yield Seen(100, 0)
        message = "read too far"
        raise AssertionError(message)

    begun = CircuitBreaker(LIMITS, recent)
    begun.begin()
    begun.judge(batch(0, 60))


def test_tombstones_and_empty_polls_are_no_dead_letters():
    begun = breaker()
    begun.judge((CountedRange(OffsetRange(P0, 0, 200), RangeCounts(tombstone_count=200)),))
    begun.judge((CountedRange(OffsetRange(P0, 200, 300), RangeCounts()),))
    begun.judge(())
