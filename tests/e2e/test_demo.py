"""`k2i dev` does on a bare machine what the README says.

Goal: a topic becomes a table through a worker that Dagster runs, a second run goes on, nothing that
was started stays, nothing in Dagster is red, and whatever goes wrong is said. Method: the real
command as a child process with a home directory of its own below a path with a space, stopped and
killed in every way; what it left is looked at through the other commands.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Producer

from k2i_core.dev.kafka_jars import KafkaRuntime
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.produce import create_topic

K2I = [sys.executable, "-m", "k2i_core.cli"]
WAIT_SECONDS_MAX = 240
FEW = ["--no-live", "--rate", "500", "--bad-share", "0.01"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("kafka_runtime"),
]


class Running:
    """A demo that may be killed, and everything that runs on its behalf."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.home = directory / ".k2i" / "dev"
        self.output_path = directory / "output"
        with self.output_path.open("wb") as output:
            self.process = subprocess.Popen(
                [*K2I, "dev", *FEW, *arguments],
                cwd=directory,
                env={k: v for k, v in os.environ.items() if k != "K2I_KAFKA"},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    def wait_for(self, text: str, position: int = 0) -> None:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while text not in self.output[position:]:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def end(self) -> int:
        return self.process.wait(WAIT_SECONDS_MAX)

    def worker(self) -> psutil.Process:
        """The process that Dagster started for the worker; schedules start others after it."""
        pid = json.loads((self.home / "dagster" / "code-server" / "pid").read_text())["pid"]
        runs = [
            child
            for child in psutil.Process(pid).children(recursive=True)
            if any("spawn_main" in argument for argument in child.cmdline())
        ]
        return min(runs, key=psutil.Process.create_time)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "a directory"
    path.mkdir()
    yield path
    # A process that was killed may need a moment to be gone.
    psutil.wait_procs(processes_below(path), timeout=5)
    left = processes_below(path)
    for process in left:
        process.kill()
    assert not left


def processes_below(path: Path) -> list[psutil.Process]:
    """Everything that was started for a home below `path`, Dagster's workers included."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "cwd", "environ", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and (
            process.info["cwd"] == str(path)
            or any(str(path) in argument for argument in process.info["cmdline"] or ())
            or (process.info["environ"] or {}).get("DAGSTER_HOME", "").startswith(str(path))
        )
    ]


def run_as_json(directory: Path, *arguments: str) -> dict[str, Any]:
    finished = subprocess.run(
        [*K2I, "dev", *FEW, "--json", *arguments],
        cwd=directory,
        env={k: v for k, v in os.environ.items() if k != "K2I_KAFKA"},
        capture_output=True,
        check=False,
        text=True,
        timeout=WAIT_SECONDS_MAX,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return json.loads(finished.stdout)


def assert_green(document: dict[str, Any]) -> None:
    dagster = document["dagster"]
    assert not {run["status"] for run in dagster["runs"]} - {"SUCCESS", "CANCELED"}, dagster
    # The others are of jobs whose schedules a short demo may not reach.
    light = {
        name: outcome
        for name, outcome in dagster["checks"].items()
        if name.startswith("demo/orders:")
    }
    assert light
    assert set(light.values()) == {"passed"}, dagster
    assert "failed" not in dagster["checks"].values(), dagster


def statuses(document: dict[str, Any], job: str) -> set[str]:
    return {run["status"] for run in document["dagster"]["runs"] if run["job"] == job}


def test_a_second_run_goes_on_where_the_first_stopped(directory: Path) -> None:
    first = run_as_json(directory, "--seconds", "8")

    assert first["verification"]["holds"]
    assert first["produced"] > 3_000
    assert first["not_read_yet"] == 0
    assert first["dead_letters"] == first["bad_on_purpose"] > 0
    assert first["committed_rows"] == first["produced"] - first["bad_on_purpose"]
    assert statuses(first, "ingest_orders") == {"CANCELED"}
    assert_green(first)
    assert processes_below(directory) == []

    second = run_as_json(directory, "--seconds", "3", "--max-age", "500ms")

    assert second["verification"]["holds"]
    assert second["table"]["rows"] == first["committed_rows"] + second["committed_rows"]
    assert second["dagster"]["address"] == first["dagster"]["address"]
    assert_green(second)
    ids = "SELECT count(*) AS n, count(DISTINCT order_id) AS ids, max(order_id) AS last FROM orders"
    file = str(directory / ".k2i" / "dev" / "orders.yaml")
    answer = subprocess.run(
        [*K2I, "query", file, ids, "--format", "json"],
        capture_output=True,
        check=True,
        text=True,
        cwd=directory.parent,
        timeout=WAIT_SECONDS_MAX,
    )
    rows = json.loads(answer.stdout.splitlines()[0])
    row = rows[0] if isinstance(rows, list) else rows
    assert row["n"] == row["ids"] == second["table"]["rows"]
    assert row["last"] < first["produced"] + second["produced"]


def test_dagster_replaces_a_killed_worker_and_the_demo_goes_on(directory: Path) -> None:
    demo = Running(directory)
    demo.wait_for("run running")
    killed = demo.worker()
    killed.kill()
    demo.wait_for("ended (failure), run ")
    demo.wait_for("run running", position=len(demo.output))

    # Ctrl-C may be pressed more than once: the first ends the run, the others change nothing.
    demo.process.send_signal(signal.SIGINT)
    demo.wait_for("catches up")
    demo.process.send_signal(signal.SIGINT)
    demo.process.send_signal(signal.SIGTERM)

    assert demo.end() == 0, demo.output
    assert "nothing lost, nothing doubled" in demo.output
    assert "not read yet  0" in demo.output
    # More than one when a schedule ticked meanwhile: its run is canceled with the demo, too.
    assert re.search(r"\b[1-9] canceled, 1 failure\b", demo.output), demo.output
    assert processes_below(directory) == []


def test_a_killed_demo_is_cleaned_up_by_the_next_and_a_living_one_is_left_alone(
    directory: Path,
) -> None:
    demo = Running(directory)
    demo.wait_for("run running")
    other = subprocess.run(
        [*K2I, "dev", *FEW, "--seconds", "1"],
        cwd=directory,
        capture_output=True,
        check=False,
        text=True,
        timeout=WAIT_SECONDS_MAX,
    )
    assert other.returncode == 2
    assert "another demo runs in home=" in other.stderr
    demo.process.kill()
    demo.end()
    # Broker, code server, webserver, daemon and worker go on without their parent.
    assert len(processes_below(directory)) >= 5

    assert run_as_json(directory, "--seconds", "1")["verification"]["holds"]


def test_a_stop_during_preparations_leaves_nothing_running(directory: Path) -> None:
    demo = Running(directory)
    demo.wait_for("starting Kafka")
    demo.process.terminate()

    assert demo.end() == 130, demo.output
    assert "stopped before anything ran" in demo.output


def test_records_of_somebody_else_are_left_alone(
    directory: Path, kafka_runtime: KafkaRuntime
) -> None:
    with KafkaServer(directory.parent / "kafka", runtime=kafka_runtime) as server:
        create_topic(server.bootstrap_servers, "orders", 2)
        producer = Producer({"bootstrap.servers": server.bootstrap_servers})
        producer.produce("orders", b'{"order_id":7,"shop":"real"}')
        assert producer.flush(30) == 0
        finished = subprocess.run(
            [*K2I, "dev", *FEW, "--seconds", "1"],
            cwd=directory,
            env={**os.environ, "K2I_KAFKA": server.bootstrap_servers},
            capture_output=True,
            check=False,
            text=True,
            timeout=WAIT_SECONDS_MAX,
        )
    assert finished.returncode == 2, finished.stdout + finished.stderr
    assert "holds records that are not the demo's" in finished.stderr
