"""Goal: every union read is exact while two workers write, flush every second and are killed (I4).

Method: 20,000 events a second from real Kafka, in the long form also 200,000; readers in processes
of their own check every view (`checking_reader`), in the long form at least 10,000 of them while
files are compacted and snapshots expire without a rest (`steady_maintenance`). A seed chooses
whom to kill (SIGKILL), writer or reader, and when. The same is done with the rule taken out, hot
rows joined by generation instead of by offset: it must be caught.
"""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from k2i_core.dev.orders import FLAT
from tests.e2e.pipelines import PipelineOnDisk, WorkerProcess, ended, write_pipeline
from tests.services.warm_python import Program, warm_python

RATE = int(os.environ.get("K2I_STRESS_RATE", "20000"))
FAST_RATE = 200_000
FEED_RATE_MAX = 100_000
"""What one producer keeps up with beside everything else."""

PAUSE_SECONDS = 0.05
"""Between two reads: readers without a pause keep a machine busy that has other tests to run."""
FAST_PAUSE_SECONDS = 0.002

READS_MIN = {RATE: 10_000, FAST_RATE: 1_000}
"""At the fast rate two cores are busy with two workers and two producers, and each read checks a
quarter of a million hot rows."""

FAST_SECONDS_MAX = 300.0
"""At the fast rate a minute takes two gigabytes of disk."""


class Stress:
    """Two workers, one producer and one reader at a time."""

    def __init__(
        self, pipeline: PipelineOnDisk, servers: str, topic: str, chance: random.Random
    ) -> None:
        self.pipeline = pipeline
        self.servers, self.topic = servers, topic
        self.rate = RATE
        self.pause = PAUSE_SECONDS
        self.chance = chance
        self.reports = pipeline.directory / "reports"
        self.reports.mkdir()
        self.errors = pipeline.directory / "errors.log"
        self.workers: list[WorkerProcess] = []
        self.children: list[Program] = []

    def start(self, seconds: float) -> None:
        self.workers = [self.pipeline.start_worker(f"{i}/2") for i in range(2)]
        for worker in self.workers:
            worker.wait_for(lambda log=worker.log: "took over" in log.read_text())
        self.produce(seconds)

    def produce(self, seconds: float) -> None:
        # Their ids meet when there are several; only offsets are checked.
        feed_count = -(-self.rate // FEED_RATE_MAX)
        rate = self.rate // feed_count
        for _ in range(feed_count):
            count = str(int(rate * seconds))
            self.run("benchmarks.feed", self.servers, self.topic, str(rate), count)

    def run(self, module: str, *arguments: str) -> Program:
        with self.errors.open("ab") as errors:
            child = warm_python().start(module, *arguments, output=errors)
        self.children.append(child)
        return child

    def read(self, *options: str) -> Program:
        report = self.reports / f"{len(self.children)}.json"
        report.touch()
        return self.run(
            "tests.e2e.checking_reader",
            str(self.pipeline.path),
            str(report),
            str(self.pause),
            *options,
        )

    def maintain(self) -> None:
        self.maintenance.touch()
        arguments = str(self.pipeline.path), str(self.maintenance)
        self.run("tests.e2e.steady_maintenance", *arguments)

    @property
    def maintenance(self) -> Path:
        return self.pipeline.directory / "maintenance.jsonl"

    def compactions(self) -> int:
        steps = [json.loads(line) for line in self.maintenance.read_text().splitlines()]
        return sum(step.get("step") == "compaction" for step in steps)

    def kill_a_worker(self) -> WorkerProcess:
        """Returns the one that comes in its place."""
        number = self.chance.randrange(2)
        self.workers[number].kill()
        self.workers[number] = self.pipeline.start_worker(f"{number}/2")
        return self.workers[number]

    def check_in(self, reader: Program, seconds: float) -> None:
        """Let time pass; a reader that found something ends the test."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert reader.poll() is None, self.findings()
            time.sleep(0.05)

    def last_lines(self) -> list[dict]:
        texts = [path.read_text().splitlines() for path in sorted(self.reports.iterdir())]
        return [json.loads(lines[-1]) for lines in texts if lines]

    def violations(self) -> list[str]:
        return [line["violation"] for line in self.last_lines() if "violation" in line]

    def findings(self) -> str:
        """What ended a reader: a violation, or an error that it did not expect."""
        return "\n".join([*self.violations(), self.errors.read_text()[-4000:]])

    def checked(self, what: str) -> int:
        return sum(line[what] for line in self.last_lines())

    def end(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()
        with ended(*self.workers):
            pass


@pytest.fixture
def stress(kafka, topic, tmp_path: Path, seed) -> Iterator[Stress]:
    name = topic(partition_count=4)
    pipeline = write_pipeline(
        tmp_path / "stress", kafka.bootstrap_servers, name, event_set=FLAT, max_age="1s"
    )
    made = Stress(pipeline, kafka.bootstrap_servers, name, random.Random(seed))
    with ending(made):
        yield made


@contextmanager
def ending(stress: Stress) -> Iterator[None]:
    try:
        yield
    finally:
        stress.end()


def run_with_kills(
    stress: Stress, seconds: float, between: tuple[float, float], reads_min: int
) -> None:
    """Kill for so long, or longer until so many reads were checked, at most four times as long.

    One reader is spared, because a start takes longer than hundreds of reads.
    """
    began = time.monotonic()
    reader = stress.read()
    spared = stress.read()
    kill_count = 0
    while (passed := time.monotonic() - began) < seconds or (
        stress.checked("views") < reads_min and passed < 4 * seconds
    ):
        stress.check_in(reader, stress.chance.uniform(*between))
        assert spared.poll() is None, stress.findings()
        kill_count += 1
        if kill_count % 2:
            stress.kill_a_worker()
        else:
            reader.send_signal(signal.SIGKILL)
            reader.wait()
            reader = stress.read()
    stress.check_in(reader, 3)
    assert not stress.violations()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_union_read_is_exact_while_workers_and_readers_are_killed(
    stress: Stress, record_property
) -> None:
    stress.start(30)
    run_with_kills(stress, 9, (1.5, 3.0), reads_min=20)

    for what in ("views", "snapshots", "scans", "queries", "hot_rows"):
        record_property(what, stress.checked(what))
    # Few on a machine with other work; how many there are is shown in reports.
    assert stress.checked("views") >= 20
    assert stress.checked("hot_rows") > 0


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_union_by_generation_instead_of_by_offset_is_caught(stress: Stress) -> None:
    stress.pause = FAST_PAUSE_SECONDS
    stress.start(60)
    reader = stress.read("by-generation")
    deadline = time.monotonic() + 90
    while reader.poll() is None and time.monotonic() < deadline:
        time.sleep(1.0)
        worker = stress.kill_a_worker()
        # Only one that reads again what the dead one had shown can double it.
        worker.wait_for(lambda log=worker.log: "took over" in log.read_text())
    assert reader.poll() == 1
    assert "hot rows" in stress.violations()[0]


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("rate", [RATE, FAST_RATE])
def test_union_reads_stay_exact_for_as_long_as_asked(
    stress: Stress, rate: int, soak_seconds, record_property
) -> None:
    stress.rate, stress.pause = rate, FAST_PAUSE_SECONDS
    seconds = soak_seconds if rate == RATE else min(soak_seconds, FAST_SECONDS_MAX)
    # A read takes some milliseconds; fewer are asked for where there is no time for so many.
    reads_min = min(READS_MIN[rate], int(seconds * 50))

    stress.start(seconds + 5)
    stress.maintain()
    run_with_kills(stress, seconds, (0.5, 20.0), reads_min)

    for what in ("views", "snapshots", "scans", "queries", "hot_rows"):
        record_property(what, stress.checked(what))
    assert stress.checked("views") >= reads_min
    record_property("compactions", stress.compactions())
    assert stress.compactions()
    stress.pipeline.ingest_until_caught_up()
    stress.pipeline.assert_holds()
