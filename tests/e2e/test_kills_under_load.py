"""Goal: workers that are killed at any moment, again and again, lose and double nothing.

Method: two workers on one table, while a producer sends 2,000 events a second, one in a hundred
bad. A seed chooses whom to kill (SIGKILL) and when; the killed one is started again at once. Some
die while they start, some in the middle of a flush. At the end topic, ledger and rows are compared.

Environment: `K2I_KILLS` is how many kills the short version makes.
"""

import os
import random
import time
from datetime import datetime
from pathlib import Path

import pytest

from k2i_core.dev.orders import BadKind
from tests.e2e.pipelines import PipelineOnDisk, WorkerProcess, ended, producing, write_pipeline

EVENTS_PER_SECOND = 2_000
KILLS = int(os.environ.get("K2I_KILLS", "50"))


def seconds_to_first_flush(worker: WorkerProcess, started: float) -> float | None:
    for line in worker.log_lines():
        if line.get("event") == "flush committed":
            return datetime.fromisoformat(line["timestamp"]).timestamp() - started
    return None


def kill_again_and_again(
    pipeline: PipelineOnDisk, chance: random.Random, *, kills: int | None, seconds: float | None
) -> list[float]:
    """Return how long it took restarted workers to commit; those that lived long enough."""
    deadline = time.monotonic() + seconds if seconds else None
    workers = [pipeline.start_worker(f"{i}/2") for i in range(2)]
    started = [time.time()] * 2
    flush_seconds: list[float] = []
    kill_count = 0
    try:
        workers[0].wait_for_flushes(1)
        while kill_count != kills and (deadline is None or time.monotonic() < deadline):
            # Long enough that most are killed at work, short enough that some are while starting.
            time.sleep(chance.uniform(0.05, 1.4))
            victim = chance.randrange(2)
            assert workers[victim].process.poll() is None, workers[victim].tail()
            workers[victim].kill()
            taken = seconds_to_first_flush(workers[victim], started[victim])
            flush_seconds += [] if taken is None else [taken]
            started[victim] = time.time()
            workers[victim] = pipeline.start_worker(f"{victim}/2")
            kill_count += 1
        for worker in workers:
            # One that is asked before it listens to signals dies of it, with nothing in hand.
            worker.wait_for_flushes(1)
            assert worker.stop() == 0, worker.tail()
    finally:
        with ended(*workers):
            pass
    return flush_seconds


def run_under_load(
    pipeline: PipelineOnDisk, servers: str, topic: str, chance: random.Random, **limits
) -> list[float]:
    with producing(servers, topic, EVENTS_PER_SECOND) as producer:
        flush_seconds = kill_again_and_again(pipeline, chance, **limits)
    for worker in range(2):
        pipeline.ingest_until_caught_up("--worker", f"{worker}/2")
    found = pipeline.assert_holds()
    assert found["rows"] + found["dead_letters"] == producer.next_id
    # A number too large for an int column is no reason for a dead letter: the column is widened.
    dead = [kind for kind in producer.bad.values() if kind is not BadKind.OUT_OF_RANGE]
    assert found["dead_letters"] == len(dead)
    return flush_seconds


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_kills_under_load_lose_and_double_nothing(
    kafka, topic, tmp_path: Path, seed, record_property
) -> None:
    name = topic(partition_count=4)
    pipeline = write_pipeline(tmp_path / "load", kafka.bootstrap_servers, name, max_age="300ms")

    flush_seconds = run_under_load(
        pipeline, kafka.bootstrap_servers, name, random.Random(seed), kills=KILLS, seconds=None
    )

    # Shown in reports, not judged: how fast a start is depends on the machine.
    record_property("restart_to_first_flush_seconds", [round(s, 2) for s in sorted(flush_seconds)])


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_kills_under_load_for_as_long_as_asked(
    kafka, topic, tmp_path: Path, seed, soak_seconds
) -> None:
    chance = random.Random(seed)
    deadline = time.monotonic() + soak_seconds
    round_number = 0
    while time.monotonic() < deadline:
        round_number += 1
        name = topic(partition_count=4)
        pipeline = write_pipeline(
            tmp_path / f"soak-{round_number}", kafka.bootstrap_servers, name, max_age="300ms"
        )
        seconds = min(600.0, deadline - time.monotonic())
        run_under_load(
            pipeline, kafka.bootstrap_servers, name, chance, kills=None, seconds=max(seconds, 5.0)
        )
