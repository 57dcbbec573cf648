"""The backfill job in this process, against a real broker and a real table.

Goal: it ingests up to an end and succeeds, again and again, and refuses what would lose rows or
fight with live workers.
Method: `execute_in_process`; records come between runs; the rows are proven against the topic.
"""

import time

import dagster as dg
import pytest

from tests.integration.dagster.runs import InProcess


@pytest.fixture
def at_work(tmp_path, kafka, topic) -> InProcess:
    at_work = InProcess(tmp_path / "orders", kafka.bootstrap_servers, topic(2))
    at_work.fill(400, partition_count=2)
    return at_work


def backfill(at_work: InProcess, **config) -> dg.ExecuteInProcessResult:
    return at_work.run("backfill_e2e", config or None)


def refusal(at_work: InProcess, **config) -> str:
    result = at_work.run("backfill_e2e", config, raises=False)
    assert not result.success
    return at_work.log_text(result)


def next_offsets(at_work: InProcess) -> dict[int, int]:
    """Kafka partition → the offset after the last row."""
    offsets: dict[int, int] = {}
    for row in at_work.disk.rows()["_kafka"].to_pylist():
        offsets[row["partition"]] = max(offsets.get(row["partition"], 0), row["offset"] + 1)
    return offsets


def test_it_ingests_what_is_there_and_ends_and_the_next_one_goes_on(at_work):
    assert backfill(at_work).success
    assert at_work.disk.rows().num_rows == 400

    at_work.fill(100, start_id=400, partition_count=2)
    assert backfill(at_work).success
    assert at_work.disk.rows().num_rows == 500
    at_work.disk.assert_holds_here()


def test_with_nothing_new_it_does_nothing(at_work):
    backfill(at_work)
    before = at_work.disk.load_table().current_snapshot()

    result = backfill(at_work)

    assert result.success
    assert "nothing to do" in at_work.log_text(result)
    assert at_work.disk.load_table().current_snapshot() == before


def test_a_start_decides_where_a_new_table_begins(at_work):
    backfill(at_work, offsets={at_work.topic: {"0": [30, None], "1": [20, None]}})

    firsts = {}
    for row in at_work.disk.rows()["_kafka"].to_pylist():
        firsts[row["partition"]] = min(firsts.get(row["partition"], 10**9), row["offset"])
    assert firsts == {0: 30, 1: 20}
    at_work.disk.assert_holds_here()


def test_an_end_ends_it_and_what_is_behind_comes_later(at_work):
    backfill(at_work, offsets={at_work.topic: {"0": [None, 10], "1": [None, 0]}})
    ends = next_offsets(at_work)
    assert ends[0] >= 10

    backfill(at_work)
    assert at_work.disk.rows().num_rows == 400
    at_work.disk.assert_holds_here()


def test_a_start_behind_the_checkpoint_is_refused(at_work):
    backfill(at_work)
    at_work.fill(100, start_id=400, partition_count=2)

    said = refusal(at_work, offsets={at_work.topic: {"0": [next_offsets(at_work)[0] + 5, None]}})

    assert "leaves a gap after the checkpoint" in said


def test_a_time_is_a_bound_too(at_work):
    middle = int(time.time() * 1000) + 1000
    time.sleep(1.5)
    at_work.fill(100, start_id=400, partition_count=2)

    backfill(at_work, timestamps={"end": middle})
    # What one poll brings beyond the end is ingested too, so that nothing here is exact but this:
    assert at_work.disk.rows().num_rows >= 400

    said = backfill(at_work, timestamps={"start": 0})
    assert said.success
    assert at_work.disk.rows().num_rows == 500
    at_work.disk.assert_holds_here()


def test_beside_live_workers_it_refuses_to_start(at_work):
    run_id = at_work.made_up_run(heartbeat=time.time())

    said = refusal(at_work, offsets=None)

    assert (
        f"workers of pipeline e2e are live, and read all that a backfill would: run {run_id[:8]}"
        in said
    )
    assert "keep_alive_e2e" in said


def test_a_config_in_another_form_is_refused_with_the_form(at_work):
    assert "[start, end]" in refusal(at_work, offsets={at_work.topic: {"0": 5}})
