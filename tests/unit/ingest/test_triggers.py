"""When a generation is sealed, and how long a poll may wait for it.

Goal: the oldest record is committed within its age, and sizes are kept. Method: pure functions at
the edges of each limit.
"""

from dataclasses import replace

import pytest

from k2i_core.ingest.triggers import Filling, FlushLimits, is_due, is_full, seconds_until_due

LIMITS = FlushLimits(
    age_seconds_max=30.0,
    byte_count_max=1_000,
    record_count_max=10,
    buffered_bytes_max=10_000,
)
EMPTY = Filling()
SMALL = EMPTY.with_batch(1, 10, 100.0)


def test_an_empty_generation_is_never_due():
    assert EMPTY.is_empty
    assert not is_due(EMPTY, LIMITS, 1e9, 0.0)
    assert seconds_until_due(EMPTY, LIMITS, 1e9, 0.0) == 30.0


def test_age_counts_from_the_oldest_batch():
    filling = SMALL.with_batch(1, 10, 125.0)

    assert not is_due(filling, LIMITS, 129.9, 0.0)
    assert is_due(filling, LIMITS, 130.0, 0.0)


def test_a_batch_without_records_still_becomes_due():
    filling = EMPTY.with_batch(0, 0, 100.0)

    assert not filling.is_empty
    assert is_due(filling, LIMITS, 130.0, 0.0)


@pytest.mark.parametrize(
    ("record_count", "byte_count", "full"), [(9, 999, False), (10, 0, True), (0, 1_000, True)]
)
def test_size_is_reached_at_the_limit(record_count, byte_count, full):
    filling = EMPTY.with_batch(record_count, byte_count, 100.0)

    assert is_full(filling, LIMITS) is full
    assert is_due(filling, LIMITS, 100.0, 0.0) is full


def test_batches_add_up():
    assert is_full(SMALL.with_batch(4, 0, 1.0).with_batch(5, 0, 2.0), LIMITS)


def test_a_slow_commit_seals_earlier_but_never_before_half_the_age():
    assert is_due(SMALL, LIMITS, 120.0, 10.0)
    assert not is_due(SMALL, LIMITS, 119.9, 10.0)
    assert not is_due(SMALL, LIMITS, 114.9, 1_000.0)
    assert is_due(SMALL, LIMITS, 115.0, 1_000.0)


@pytest.mark.parametrize(
    ("now", "commit_seconds", "wait"), [(100, 0, 30), (110, 5, 15), (200, 0, 0)]
)
def test_a_poll_waits_exactly_until_the_generation_is_due(now, commit_seconds, wait):
    assert seconds_until_due(SMALL, LIMITS, now, commit_seconds) == wait
    assert is_due(SMALL, LIMITS, now + wait, commit_seconds)


def test_limits_are_values():
    assert replace(LIMITS) == LIMITS


def test_the_first_generation_after_a_take_over_is_sealed_early():
    limits = FlushLimits(30.0, 1000, 100, 10_000).for_first_generation()
    filling = Filling().with_batch(1, 1, boot_seconds=10.0)
    assert not is_due(filling, limits, 10.15, 0.0)
    assert is_due(filling, limits, 10.25, 0.0)


def test_a_shorter_age_is_kept_for_the_first_generation():
    limits = FlushLimits(0.1, 1000, 100, 10_000)
    assert limits.for_first_generation() == limits
