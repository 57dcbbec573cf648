"""Where a backfill begins and ends.

Goal: no request can skip offsets or read them twice, and the refusal says what to write instead.
Method: the plan is pure; requests at, above and below a made-up checkpoint.
"""

from datetime import UTC, datetime

import pytest

from k2i_core.errors import ConfigError
from k2i_core.ledger import Entry, Identity
from k2i_core.offsets import Checkpoint, TopicPartition, Watermarks
from k2i_dagster.running.backfill_plan import BackfillRequest, plan_backfill, read_request

P0 = TopicPartition("orders", 0)
P1 = TopicPartition("orders", 1)
MARKS = {P0: Watermarks(10, 100), P1: Watermarks(0, 40)}
ENDS = {P0: 100, P1: 40}
LEDGER = Entry(
    Identity("orders", "c", {"orders": "t"}),
    Checkpoint({P0: 60}),
    first_offsets={P0: 30},
)


def planned(request, entry=LEDGER, starts=None, ends=None):
    return plan_backfill(
        request, entry=entry, marks=MARKS, starts=starts or {P1: 0}, ends=ends or ENDS
    )


def test_without_a_request_it_goes_from_the_checkpoint_to_the_end_of_the_log():
    plan = planned(BackfillRequest())

    assert plan.starts == {P1: 0}
    assert plan.ends == ENDS
    assert plan.record_span == (100 - 60) + 40


def test_a_new_table_begins_where_it_is_told():
    plan = planned(BackfillRequest(starts={P0: 20}), entry=None, starts={P0: 10, P1: 0})

    assert plan.starts == {P0: 20, P1: 0}
    assert plan.start_policy.next_offsets == {"orders": {0: 20, 1: 0}}


@pytest.mark.parametrize("start", [30, 45, 60])
def test_a_start_within_the_table_goes_on_from_the_checkpoint(start):
    plan = planned(BackfillRequest(starts={P0: start}, ends={P0: 80}))

    assert P0 not in plan.starts
    assert plan.record_span == (80 - 60) + 40


def test_what_is_in_the_table_already_is_nothing_to_do():
    plan = planned(BackfillRequest(starts={P0: 40}, ends={P0: 50, P1: 0}))

    assert plan.record_span == 0


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (
            BackfillRequest(starts={P0: 61}),
            "orders/0: start=61 leaves a gap after the checkpoint=60",
        ),
        (BackfillRequest(starts={P0: 29}), "before the table's first offset=30"),
        (BackfillRequest(starts={P1: 41}), "orders/1: start=41 is outside the log [0,40)"),
        (BackfillRequest(ends={P1: 41}), "orders/1: end=41 is not in the topic yet"),
        (BackfillRequest(ends={TopicPartition("x", 0): 1}), "x/0: no such Kafka partition"),
    ],
)
def test_a_request_that_would_lose_or_double_rows_is_refused(request_, refusal):
    with pytest.raises(ConfigError) as refused:
        planned(request_)

    assert refusal in str(refused.value)


def test_a_start_time_above_the_checkpoint_is_refused_like_an_offset():
    with pytest.raises(ConfigError, match="leaves a gap"):
        planned(BackfillRequest(start_timestamp_ms=5), starts={P0: 70, P1: 0})


def test_all_refusals_are_told_at_once():
    with pytest.raises(ConfigError) as refused:
        planned(BackfillRequest(starts={P0: 99, P1: 99}))

    assert len(str(refused.value).splitlines()) == 2


def test_the_config_is_read_with_numbers_or_texts_as_kafka_partitions():
    request = read_request({"orders": {"0": [None, 50], 1: [3, None]}}, None)

    assert (request.starts, request.ends) == ({P1: 3}, {P0: 50})


def test_times_are_read_with_their_zone():
    request = read_request(None, {"start": "2026-01-01T01:00:00+01:00", "end": 1_800_000_000_000})

    midnight = datetime(2026, 1, 1, tzinfo=UTC)
    assert request.start_timestamp_ms == midnight.timestamp() * 1000
    assert request.end_timestamp_ms == 1_800_000_000_000


@pytest.mark.parametrize(
    ("offsets", "timestamps"),
    [
        ({"orders": {"0": 5}}, None),
        ({"orders": {"zero": [1, 2]}}, None),
        ({"orders": {"0": [-1, 2]}}, None),
        ({"orders": {"0": ["1", 2]}}, None),
        ({"orders": {"0": [3, 2]}}, None),
        (["orders"], None),
        (None, {"begin": 1}),
        (None, {"start": "2026-01-01T00:00:00"}),
        (None, {"start": 2, "end": 1}),
        (None, 5),
        ({"orders": {"0": [1, None]}}, {"start": 1}),
    ],
)
def test_a_config_in_another_form_is_refused(offsets, timestamps):
    with pytest.raises(ConfigError):
        read_request(offsets, timestamps)
