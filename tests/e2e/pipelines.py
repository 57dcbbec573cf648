"""Pipeline files, workers as processes, and the proof: what every end-to-end test needs."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from pyiceberg.table import Table

from k2i_core.cli.verify import run_verification
from k2i_core.clock import RandomIds, SystemClock
from k2i_core.config import Pipeline, load_pipeline
from k2i_core.dev.orders import ORDERS, EventSet
from k2i_core.dev.produce import EventProducer
from k2i_core.ledger import Share
from k2i_core.wiring.sessions import open_session
from k2i_core.wiring.settings import catalog_opener
from k2i_core.wiring.surroundings import Surroundings
from k2i_core.worker import Until, Worker
from tests.services.warm_python import Program, warm_python

WHOLE = Share(0, 1)
WAIT_SECONDS_MAX = 150.0
"""For what takes seconds: a start alone takes a minute on a machine that does ten other things."""

K2I = "k2i_core.cli"


@dataclass(frozen=True)
class PipelineOnDisk:
    """A pipeline file with everything it writes beside it."""

    path: Path
    table: str

    @property
    def directory(self) -> Path:
        return self.path.parent

    def k2i(
        self, *arguments: str, timeout: float = 180, typed: str = ""
    ) -> subprocess.CompletedProcess[str]:
        # The file follows the command, which is two words in a group of commands.
        words = 2 if arguments[0] in ("table", "dead-letters", "maintain") else 1
        command = (*arguments[:words], str(self.path), *arguments[words:])
        return warm_python().run(K2I, *command, typed=typed, timeout=timeout)

    def ingest_until_caught_up(self, *options: str) -> None:
        done = self.k2i("ingest", "--until-caught-up", "--port", "0", *options)
        assert done.returncode == 0, done.stderr[-4000:]

    def verification(self, *options: str) -> dict[str, Any]:
        done = self.k2i("verify", "--json", *options)
        assert done.returncode in (0, 1), done.stderr[-4000:]
        return json.loads(done.stdout)

    def assert_holds(self) -> dict[str, Any]:
        found = self.verification()
        assert found["holds"], json.dumps(found["findings"], indent=1)[:4000]
        return found

    def change(self, **sections: Any) -> None:
        """Replace whole sections of the file."""
        document = yaml.safe_load(self.path.read_text())
        self.path.write_text(yaml.safe_dump({**document, **sections}))

    @property
    def settings(self) -> Pipeline:
        return load_pipeline(self.path)

    def ingest_here(self, share: Share = WHOLE) -> None:
        """Catch up in this process: all that `k2i ingest` does, without two seconds of imports."""
        settings = self.settings
        surroundings = Surroundings(SystemClock(), SystemClock(), RandomIds())
        Worker(
            lambda: open_session(settings, share, surroundings),
            Until(caught_up=True),
            lambda: False,
            SystemClock(),
        ).run()

    def assert_holds_here(self) -> dict[str, Any]:
        found = dict(run_verification(self.settings, with_topic=True).to_json())
        assert found["holds"], json.dumps(found["findings"], indent=1)[:4000]
        return found

    def load_table(self, identifier: str | None = None) -> Table:
        return catalog_opener(self.settings)().load_table(identifier or self.table)

    def rows(self) -> pa.Table:
        return self.load_table().scan().to_arrow()

    def dead_letters(self) -> pa.Table:
        return self.load_table(self.settings.dead_letter_table).scan().to_arrow()

    def start_worker(self, share: str | None = "0/1", *options: str) -> "WorkerProcess":
        """Start one share, or with None all workers of the file."""
        number = len(list(self.directory.glob("worker-*.log")))
        log = self.directory / f"worker-{number}.log"
        port_file = self.directory / f"worker-{number}.port"
        with log.open("wb") as output:
            share_options = ("--worker", share, "--port-file", str(port_file)) if share else ()
            process = warm_python().start(
                *(K2I, "ingest", str(self.path), "--port", "0", *options, *share_options),
                output=output,
            )
        return WorkerProcess(process, log, port_file)


@dataclass(frozen=True)
class WorkerProcess:
    process: Program
    log: Path
    port_file: Path

    def log_lines(self) -> list[dict[str, Any]]:
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def flush_count(self) -> int:
        return sum(line.get("event") == "flush committed" for line in self.log_lines())

    def row_count(self) -> int:
        """Rows whose flush was reported."""
        lines = [line for line in self.log_lines() if line.get("event") == "flush committed"]
        return sum(line["row_count"] for line in lines)

    def wait_for(
        self,
        is_there: Callable[[], bool],
        timeout: float = WAIT_SECONDS_MAX,
        *,
        look_seconds: float = 0.05,
    ) -> None:
        deadline = time.monotonic() + timeout
        while not is_there():
            assert self.process.poll() is None, self.tail()
            assert time.monotonic() < deadline, self.tail()
            time.sleep(look_seconds)

    def wait_for_flushes(self, count: int, timeout: float = WAIT_SECONDS_MAX) -> None:
        self.wait_for(lambda: self.flush_count() >= count, timeout)

    def status_url(self) -> str:
        self.wait_for(self.port_file.exists)
        return f"http://127.0.0.1:{self.port_file.read_text().strip()}"

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of one of the worker's own pages."""
        try:
            with urllib.request.urlopen(self.status_url() + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def checks(self) -> dict[str, dict[str, Any]]:
        return json.loads(self.ask("/readyz")[1])["checks"]

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.ask("/metrics")[1].splitlines()
        return sum(float(line.split()[-1]) for line in lines if re.match(rf"{name}[{{ ]", line))

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def last_words(self) -> str:
        """What the command printed when it failed."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if line.startswith("k2i: "))

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, timeout: float = 60) -> int:
        """Ask for a last flush; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


@contextmanager
def producing(servers: str, topic: str, rate: float) -> Iterator[EventProducer]:
    """Send events, one in a hundred bad, until the block ends."""
    producer = EventProducer(servers, topic, bad_share=0.01)
    stop = threading.Event()
    sending = threading.Thread(target=producer.run, kwargs={"rate": rate, "stop": stop})
    sending.start()
    try:
        yield producer
    finally:
        stop.set()
        sending.join()


def eventually(is_there: Callable[[], bool], timeout: float = WAIT_SECONDS_MAX) -> None:
    deadline = time.monotonic() + timeout
    while not is_there():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@contextmanager
def ended(*workers: WorkerProcess) -> Iterator[None]:
    """Leave no worker behind, whatever the test did."""
    try:
        yield
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                os.kill(worker.process.pid, signal.SIGCONT)
                worker.kill()


def write_pipeline(
    directory: Path,
    bootstrap_servers: str,
    topic: str,
    *,
    event_set: EventSet = ORDERS,
    max_age: str = "500ms",
    changes: Mapping[str, Any] | None = None,
) -> PipelineOnDisk:
    """Write a pipeline file with a SQLite catalog; `changes` replaces whole sections."""
    directory.mkdir(parents=True, exist_ok=True)
    table = f"e2e.{directory.name.replace('-', '_').lower()}"
    document: dict[str, Any] = {
        "name": "e2e",
        "kafka": {"bootstrap_servers": bootstrap_servers, "topics": [topic]},
        "catalog": {
            "type": "sql",
            "uri": f"sqlite:///{directory}/catalog.db",
            "warehouse": str(directory / "warehouse"),
        },
        "table": {"identifier": table, "columns": [dict(c) for c in event_set.columns]},
        "flush": {"max_age": max_age},
        "state_directory": str(directory / "state"),
        "hot": {"directory": str(directory / "hot"), "max_bytes": "64MiB"},
        **(changes or {}),
    }
    if "tables" in document:
        del document["table"]
    path = directory / "pipeline.yaml"
    path.write_text(yaml.safe_dump(document))
    return PipelineOnDisk(path, table)
