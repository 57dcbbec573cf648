"""Goal: a worker that has been running for an hour takes no more memory than one of some minutes.

Method: 4,000 events a second, one in a hundred bad, flushed every second, natively and with hot
rows; every five minutes `k2i maintain all` runs beside it, as from cron. The worker is `k2i ingest`
as users start it. What it has in memory is noted all the time, in an hour every ten seconds, into
`memory.jsonl` beside the pipeline file. The most of the last quarter is compared with the most of
the second one: in the first one everything is loaded for the first time. In the end topic, ledger
and rows are compared. For an hour:

    .venv/bin/python -m pytest tests/e2e/test_steady_memory.py -m soak --soak-seconds 3600 \
        --timeout 0
"""

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.processes import Child, await_true, start_worker
from k2i_core.clock import SystemClock
from k2i_core.dev.orders import FLAT, BadKind
from k2i_core.dev.produce import EventProducer
from tests.e2e.pipelines import K2I, PipelineOnDisk, write_pipeline
from tests.json_paths import needs_native
from tests.services.warm_python import Program, warm_python

EVENTS_PER_SECOND = 4_000
BAD_SHARE = 0.01
SAMPLES = 360
MAINTENANCE_SECONDS = 300.0
STOP_SECONDS_MAX = 60.0

GROWTH_MAX = 0.10
GROWTH_BYTES_MIN = 20_000_000
"""Growth up to either is none: an allocator keeps some pages more, or gives some back."""

MEMORY_LINE = re.compile(r"^(VmRSS|RssAnon|RssFile|RssShmem):\s+(\d+) kB$", re.MULTILINE)

Memory = Mapping[str, int]
"""Bytes: all of it, the process's own, of files, and shared, which is hot rows."""


def memory_of(worker: Child) -> Memory:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return {kind: int(kilobytes) * 1024 for kind, kilobytes in MEMORY_LINE.findall(status)}


def most_by_quarter(samples: Sequence[Memory]) -> list[int]:
    size = len(samples) // 4
    quarters = [samples[number * size : (number + 1) * size] for number in range(4)]
    return [max(memory["VmRSS"] for memory in quarter) for quarter in quarters]


def is_flat(most: Sequence[int]) -> bool:
    return most[3] - most[1] <= max(GROWTH_MAX * most[1], GROWTH_BYTES_MIN)


@contextmanager
def producing(producer: EventProducer) -> Iterator[threading.Thread]:
    stop = threading.Event()
    sending = threading.Thread(
        target=producer.run, kwargs={"rate": EVENTS_PER_SECOND, "stop": stop}
    )
    sending.start()
    try:
        yield sending
    finally:
        stop.set()
        sending.join()


def samples_of(
    worker: Child, pipeline: PipelineOnDisk, sending: threading.Thread, seconds: float
) -> Iterator[Memory]:
    """Look at the worker for so long, and keep its tables healthy meanwhile."""
    began = time.monotonic()
    due = MAINTENANCE_SECONDS
    maintenance: Program | None = None
    with (pipeline.directory / "maintenance.log").open("ab") as log:
        while (passed := time.monotonic() - began) < seconds:
            assert worker.process.poll() is None, worker.log_path.read_text()[-4000:]
            assert sending.is_alive()
            yield memory_of(worker)
            if passed >= due and (maintenance is None or maintenance.poll() is not None):
                assert maintenance is None or maintenance.returncode == 0
                command = ("maintain", "all", str(pipeline.path))
                maintenance = warm_python().start(K2I, *command, output=log)
                due = passed + MAINTENANCE_SECONDS
            time.sleep(seconds / SAMPLES)
    if maintenance is not None:
        assert maintenance.wait(MAINTENANCE_SECONDS) == 0


def test_growth_is_told_from_what_an_allocator_does() -> None:
    def most_of(*megabytes: int) -> list[int]:
        return most_by_quarter([{"VmRSS": size * 1_000_000} for size in megabytes])

    assert most_of(90, 250, 300, 320, 310, 321, 330, 325) == [
        250_000_000,
        320_000_000,
        321_000_000,
        330_000_000,
    ]
    assert is_flat(most_of(90, 300, 310, 329))
    assert not is_flat(most_of(90, 300, 320, 331))
    assert is_flat(most_of(90, 100, 110, 119))
    assert not is_flat(most_of(90, 100, 110, 121))


@needs_native
@pytest.mark.soak
@pytest.mark.timeout(0)
def test_memory_stays_flat_for_as_long_as_told(
    kafka, topic, tmp_path: Path, soak_seconds: float, record_property
) -> None:
    clock = SystemClock()
    name = topic(partition_count=4)
    pipeline = write_pipeline(
        tmp_path / "steady",
        kafka.bootstrap_servers,
        name,
        event_set=FLAT,
        max_age="1s",
        changes={"native": "required"},
    )
    producer = EventProducer(kafka.bootstrap_servers, name, event_set=FLAT, bad_share=BAD_SHARE)
    worker = start_worker(pipeline.path, clock)
    samples: list[Memory] = []
    try:
        await_true(lambda: worker.took_over_wall_ms() is not None, worker, clock)
        with (
            producing(producer) as sending,
            (pipeline.directory / "memory.jsonl").open("w", buffering=1) as lines,
        ):
            for memory in samples_of(worker, pipeline, sending, soak_seconds):
                samples.append(memory)
                lines.write(json.dumps(memory) + "\n")
        flush_count = len(worker.flushes())
        worker.ask_to_stop()
        assert worker.process.wait(STOP_SECONDS_MAX) == 0, worker.log_path.read_text()[-4000:]
    finally:
        worker.process.kill()
        worker.process.wait()
    pipeline.ingest_until_caught_up()
    found = pipeline.assert_holds()

    most = most_by_quarter(samples)
    record_property("flushes", flush_count)
    record_property("rows", found["rows"])
    record_property("dead_letters", found["dead_letters"])
    record_property("megabytes_by_quarter", [round(size / 1e6, 1) for size in most])
    # A number too large for an int column is no reason for a dead letter: the column is widened.
    dead = [kind for kind in producer.bad.values() if kind is not BadKind.OUT_OF_RANGE]
    assert found["dead_letters"] == len(dead)
    assert found["rows"] + found["dead_letters"] == producer.next_id
    assert is_flat(most), most
