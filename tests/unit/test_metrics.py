"""Metrics of one worker.

Goal: every event shows up under a name with its unit, and two workers never share a count.
Method: send every event once and read the exposition back with Prometheus's own parser.
"""

import re

from prometheus_client.parser import text_string_to_metric_families

from k2i_core.metrics import IngestMetrics

UNITS = re.compile(r"_(total|bytes|bytes_max|seconds|messages|offset|in_flight|info|paused)$")


def samples(metrics: IngestMetrics) -> dict[tuple, float]:
    labels = ("topic", "kafka_partition", "table")
    return {
        (sample.name, *(sample.labels[name] for name in labels if name in sample.labels)): (
            sample.value
        )
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def busy_metrics() -> IngestMetrics:
    metrics = IngestMetrics()
    metrics.letters_copied(copied_count=2, given_up_count=1)
    metrics.worker_started("orders", "0/2", "0.1.0", buffered_bytes_max=512)
    metrics.records_read(record_count=10, byte_count=2_000)
    metrics.range_committed(
        "orders",
        3,
        offset_count=12,
        next_offset=112,
        row_count=7,
        dead_letter_count=1,
        filtered_count=0,
        tombstone_count=2,
        byte_count=1_900,
    )
    metrics.position_observed("orders", 3, lag_message_count=5, freshness_seconds=0.5)
    metrics.bytes_buffered(300)
    metrics.table_paused("sales.orders", is_paused=True)
    metrics.generations_counted(1)
    metrics.flush_finished(flush_seconds=0.2, oldest_to_commit_seconds=1.1)
    metrics.commit_landed(
        "sales.orders",
        commit_seconds=0.05,
        attempt_count=3,
        file_count=2,
        byte_count=900,
        landed_ms=1_700_000_000_500,
    )
    metrics.table_filled("sales.orders", row_count=7, dead_letter_count=1)
    metrics.fenced("sales.orders")
    metrics.outage_seen("broker")
    metrics.lane_worked("decode", cpu_seconds=1.5)
    return metrics


def test_what_became_of_a_range_is_counted_per_kafka_partition():
    seen = samples(busy_metrics())

    assert seen["k2i_rows_committed_total", "orders", "3"] == 7
    assert seen["k2i_dead_letters_total", "orders", "3"] == 1
    assert seen["k2i_tombstones_total", "orders", "3"] == 2
    assert seen["k2i_offsets_committed_total", "orders", "3"] == 12
    assert seen["k2i_next_offset", "orders", "3"] == 112
    assert seen["k2i_records_read_total",] == 10
    assert seen["k2i_lag_messages", "orders", "3"] == 5


def test_a_commit_counts_its_attempts_and_retries():
    seen = samples(busy_metrics())

    assert seen["k2i_commit_attempts_total", "sales.orders"] == 3
    assert seen["k2i_commit_retries_total", "sales.orders"] == 2
    assert seen["k2i_last_commit_timestamp_seconds", "sales.orders"] == 1_700_000_000.5
    assert seen["k2i_commit_seconds_sum", "sales.orders"] == 0.05


def test_every_declared_metric_is_touched_by_an_event():
    families = text_string_to_metric_families(busy_metrics().render().decode())

    untouched = [f.name for f in families if f.name.startswith("k2i_") and not f.samples]
    assert untouched == []


def test_every_name_carries_its_unit():
    families = text_string_to_metric_families(busy_metrics().render().decode())

    # The parser takes `_total` off a counter's name.
    names = [f"{f.name}_total" if f.type == "counter" else f.name for f in families]
    # The library adds when each series began.
    named = [n for n in names if n.startswith("k2i_") and not n.endswith("_created")]
    assert [n for n in named if not UNITS.search(n)] == []


def test_two_workers_in_one_process_never_share_a_count():
    one, other = IngestMetrics(), IngestMetrics()
    one.records_read(record_count=4, byte_count=1)
    one.fenced("sales.orders")

    assert samples(other)["k2i_records_read_total",] == 0
    assert ("k2i_fences_total", "sales.orders") not in samples(other)


def test_a_partition_that_went_elsewhere_shows_no_lag():
    metrics = busy_metrics()
    metrics.partition_released("orders", 3)
    metrics.partition_released("orders", 4)

    assert ("k2i_lag_messages", "orders", "3") not in samples(metrics)
    assert samples(metrics)["k2i_rows_committed_total", "orders", "3"] == 7


def test_resident_memory_is_served():
    assert samples(busy_metrics())["process_resident_memory_bytes",] > 1_000_000
