"""Goal: a worker ends when it is asked to, with everything it polled committed and exit code 0.

Method: real processes with a flush age so long that only the end can flush; signals, a time limit,
and "until caught up" on topics that are empty or end with an aborted transaction.
"""

import signal
import time
from pathlib import Path

import pytest

from k2i_core.cli.exits import Exit
from k2i_core.dev.orders import ORDERS
from k2i_core.dev.produce import fill
from tests.e2e.pipelines import ended, write_pipeline
from tests.integration.kafka.source_driver import transactional

NEVER = "1h"
STOP_SECONDS_MAX = 100.0
"""Far more than a flush takes, because the machine may do ten other things."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_flushes_what_was_polled_and_more_signals_change_nothing(
    kafka, topic, tmp_path: Path, number: signal.Signals
) -> None:
    name = topic(partition_count=2)
    pipeline = write_pipeline(tmp_path / "stop", kafka.bootstrap_servers, name, max_age=NEVER)
    fill(kafka.bootstrap_servers, name, 20_000, event_set=ORDERS, bad_share=0.01)
    worker = pipeline.start_worker()
    with ended(worker):
        worker.wait_for(lambda: worker.metric("k2i_records_read_total") >= 20_000)
        assert worker.flush_count() == 0
        asked = time.monotonic()
        while worker.process.poll() is None:
            assert time.monotonic() - asked < STOP_SECONDS_MAX, worker.tail()
            worker.process.send_signal(number)
            time.sleep(0.02)

    assert worker.process.returncode == Exit.OK, worker.tail()
    found = pipeline.assert_holds_here()
    assert found["rows"] + found["dead_letters"] == 20_000


@pytest.mark.slow
def test_ctrl_c_ends_all_workers_of_a_pipeline_with_a_last_flush(
    kafka, topic, tmp_path: Path
) -> None:
    name = topic(partition_count=4)
    pipeline = write_pipeline(
        tmp_path / "all", kafka.bootstrap_servers, name, max_age="500ms", changes={"workers": 2}
    )
    fill(kafka.bootstrap_servers, name, 4_000, event_set=ORDERS)
    both = pipeline.start_worker(None)
    with ended(both):
        both.wait_for_flushes(2)
        assert {line["worker"] for line in both.log_lines() if line["event"] == "took over"} == {
            "0/2",
            "1/2",
        }
        both.process.send_signal(signal.SIGINT)
        assert both.process.wait(150) == Exit.OK, both.tail()

    assert pipeline.assert_holds_here()["rows"] == 4_000


def test_a_time_limit_ends_with_a_last_flush(kafka, topic, tmp_path: Path) -> None:
    name = topic(partition_count=2)
    pipeline = write_pipeline(tmp_path / "limit", kafka.bootstrap_servers, name, max_age=NEVER)
    fill(kafka.bootstrap_servers, name, 1_000, event_set=ORDERS)

    done = pipeline.k2i("ingest", "--max-seconds", "4", "--port", "0")

    assert done.returncode == Exit.OK, done.stderr
    assert pipeline.assert_holds_here()["rows"] == 1_000


def test_until_caught_up_ends_on_an_empty_topic(kafka, topic, tmp_path: Path) -> None:
    name = topic(partition_count=2)
    pipeline = write_pipeline(tmp_path / "empty", kafka.bootstrap_servers, name)

    pipeline.ingest_until_caught_up()

    found = pipeline.assert_holds_here()
    assert found["rows"] == 0
    assert len(found["partitions"]) == 2


def test_until_caught_up_ends_on_a_topic_that_ends_with_an_aborted_transaction(
    kafka, topic, tmp_path: Path
) -> None:
    name = topic(partition_count=1)
    pipeline = write_pipeline(tmp_path / "aborted", kafka.bootstrap_servers, name)
    events = ORDERS.make(0, 30)
    producer = transactional(kafka.bootstrap_servers, name)
    for index, value in enumerate(events.values):
        if index % 10 == 0:
            producer.begin_transaction()
        producer.produce(name, value)
        if index == 9:
            producer.commit_transaction(20)
        elif index % 10 == 9:
            producer.flush(20)
            producer.abort_transaction(20)

    pipeline.ingest_until_caught_up()

    found = pipeline.assert_holds_here()
    assert found["rows"] == 10
    assert found["partitions"][0]["next_offset"] == 33
    assert found["partitions"][0]["without_record"] == 23
