"""Pipeline files, workers as processes, and the proof: what every end-to-end test needs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from k2i_core.dev.orders import ORDERS, EventSet

ROOT = Path(__file__).parents[2]
K2I = [sys.executable, "-m", "k2i_core.cli"]


@dataclass(frozen=True)
class PipelineOnDisk:
    """A pipeline file with everything it writes beside it."""

    path: Path
    table: str

    @property
    def directory(self) -> Path:
        return self.path.parent

    def k2i(self, *arguments: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        command, *rest = arguments
        return subprocess.run(
            [*K2I, command, *rest[:0], str(self.path), *rest]
            if command not in ("table", "dead-letters")
            else [*K2I, command, rest[0], str(self.path), *rest[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

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

    def start_worker(self, share: str = "0/1", *options: str) -> "WorkerProcess":
        number = len(list(self.directory.glob("worker-*.log")))
        log = self.directory / f"worker-{number}.log"
        port_file = self.directory / f"worker-{number}.port"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*K2I, "ingest", str(self.path), "--worker", share, "--port", "0"]
                + ["--port-file", str(port_file), *options],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return WorkerProcess(process, log, port_file)


@dataclass(frozen=True)
class WorkerProcess:
    process: "subprocess.Popen[bytes]"
    log: Path
    port_file: Path

    def log_lines(self) -> list[dict[str, Any]]:
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def flush_count(self) -> int:
        return sum(line.get("event") == "flush committed" for line in self.log_lines())

    def wait_for(self, is_there: Callable[[], bool], timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while not is_there():
            assert self.process.poll() is None, self.tail()
            assert time.monotonic() < deadline, self.tail()
            time.sleep(0.05)

    def wait_for_flushes(self, count: int, timeout: float = 60) -> None:
        self.wait_for(lambda: self.flush_count() >= count, timeout)

    def status_url(self) -> str:
        self.wait_for(self.port_file.exists)
        return f"http://127.0.0.1:{self.port_file.read_text().strip()}"

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
        **(changes or {}),
    }
    path = directory / "pipeline.yaml"
    path.write_text(yaml.safe_dump(document))
    return PipelineOnDisk(path, table)
