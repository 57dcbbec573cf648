"""Goal: of two workers with the same share exactly one goes on, and nothing is lost or doubled.

Method: a worker is frozen (SIGSTOP) in the middle of its work, another takes its share, the first
one wakes up (SIGCONT) with records in memory and files half written. The other test starts two at
the same moment. A producer sends all the while, so that both have something to commit.
"""

import re
from pathlib import Path

import pytest

from k2i_core.cli.exits import Exit
from tests.e2e.pipelines import WorkerProcess, ended, eventually, producing, write_pipeline


def assert_fenced(worker: WorkerProcess) -> None:
    assert worker.process.wait(150) == Exit.STOPPED, worker.tail()
    reason = "younger worker took over|another worker owns"
    assert re.search(reason, worker.last_words()), worker.tail()


@pytest.mark.slow
def test_a_worker_that_wakes_up_after_its_share_was_taken_stops(
    kafka, topic, tmp_path: Path
) -> None:
    name = topic(partition_count=2)
    pipeline = write_pipeline(tmp_path / "zombie", kafka.bootstrap_servers, name, max_age="300ms")
    with producing(kafka.bootstrap_servers, name, 500) as producer:
        old = pipeline.start_worker()
        with ended(old):
            old.wait_for_flushes(1)
            old.freeze()
            young = pipeline.start_worker()
            with ended(young):
                young.wait_for_flushes(2)
                old.thaw()
                assert_fenced(old)
                young.wait_for_flushes(young.flush_count() + 2)
                assert young.stop() == Exit.OK, young.tail()

    pipeline.ingest_here()
    found = pipeline.assert_holds()
    assert found["rows"] + found["dead_letters"] == producer.next_id


@pytest.mark.slow
def test_of_two_workers_started_at_once_exactly_one_remains(kafka, topic, tmp_path: Path) -> None:
    name = topic(partition_count=2)
    pipeline = write_pipeline(tmp_path / "twins", kafka.bootstrap_servers, name, max_age="300ms")
    with producing(kafka.bootstrap_servers, name, 500) as producer:
        twins = [pipeline.start_worker(), pipeline.start_worker()]
        with ended(*twins):
            eventually(lambda: any(twin.process.poll() is not None for twin in twins))
            (gone,) = [twin for twin in twins if twin.process.poll() is not None]
            (left,) = [twin for twin in twins if twin is not gone]
            assert_fenced(gone)
            left.wait_for_flushes(left.flush_count() + 2)
            assert left.stop() == Exit.OK, left.tail()

    pipeline.ingest_here()
    found = pipeline.assert_holds()
    assert found["rows"] + found["dead_letters"] == producer.next_id
