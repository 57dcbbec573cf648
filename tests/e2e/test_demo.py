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

from tests.conftest import Broker, TopicFactory
from tests.e2e.dagster.stack import NO_MAINTENANCE
from tests.integration.kafka.source_driver import produce
from tests.services.warm_python import warm_python

MODULE = "k2i_core.cli"
K2I = [sys.executable, "-m", MODULE]
WAIT_SECONDS_MAX = 240
FEW = ["--no-live", "--rate", "500", "--bad-share", "0.01"]

NO_SCHEDULES = {
    "K2I__ORCHESTRATION__AUDIT_SCHEDULE": "off",
    "K2I__ORCHESTRATION__FULL_AUDIT_SCHEDULE": "off",
    **{f"K2I__MAINTENANCE__{step.upper()}__SCHEDULE": "off" for step in NO_MAINTENANCE},
}
"""No run is launched by the time of day: runs are counted here, and each takes seconds to start."""

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
                env=own_environment(),
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
        """The process that Dagster started for the worker."""
        pid = json.loads((self.home / "dagster" / "code-server" / "pid").read_text())["pid"]
        [run] = [
            child
            for child in psutil.Process(pid).children(recursive=True)
            if any("spawn_main" in argument for argument in child.cmdline())
        ]
        return run


def own_environment() -> dict[str, str]:
    """Of a demo that starts its own broker."""
    kept = {key: value for key, value in os.environ.items() if key != "K2I_KAFKA"}
    return {**kept, **NO_SCHEDULES}


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
        env=own_environment(),
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
    # The others are of jobs that are not launched here.
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


def counts(output: str) -> dict[str, int]:
    """The numbers at the beginning of the summary's lines."""
    names = "produced|committed|dead letters|not read yet"
    lines = re.finditer(rf"^({names}) +([\d,]+)", output, re.MULTILINE)
    return {line[1]: int(line[2].replace(",", "")) for line in lines}


def test_a_demo_goes_on_after_a_killed_worker_a_stop_and_a_kill_of_its_own(
    directory: Path,
) -> None:
    first = see_a_killed_worker_replaced(directory)
    kill_a_demo_that_others_leave_alone(directory, going_on_at=first["produced"])

    last = run_as_json(directory, "--seconds", "3", "--max-age", "500ms")

    assert last["verification"]["holds"]
    assert last["table"]["rows"] >= first["committed"] + last["committed_rows"]
    assert f"Dagster runs at {last['dagster']['address']}" in (directory / "output").read_text()
    assert statuses(last, "ingest_orders") <= {"CANCELED"}
    assert_green(last)
    assert processes_below(directory) == []
    ids = "SELECT count(*) AS n, count(DISTINCT order_id) AS ids FROM orders"
    row = query(directory, ids)
    assert row["n"] == row["ids"] == last["table"]["rows"]


def see_a_killed_worker_replaced(directory: Path) -> dict[str, int]:
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
    assert re.search(r"\b[1-9] canceled, 1 failure\b", demo.output), demo.output
    found = counts(demo.output)
    [bad_count] = re.findall(r"([\d,]+) of them bad on purpose", demo.output)
    assert found["not read yet"] == 0
    assert found["dead letters"] == int(bad_count.replace(",", "")) > 0
    assert found["committed"] == found["produced"] - found["dead letters"] > 0
    assert processes_below(directory) == []
    return found


def kill_a_demo_that_others_leave_alone(directory: Path, *, going_on_at: int) -> None:
    demo = Running(directory)
    demo.wait_for(f"going on at order {going_on_at:,}")
    demo.wait_for("run running")
    other = warm_python().run(MODULE, "dev", *FEW, "--seconds", "1", cwd=directory)
    assert other.returncode == 2
    assert "another demo runs in home=" in other.stderr
    demo.process.kill()
    demo.end()
    # Broker, code server, webserver, daemon and worker go on without their parent.
    assert len(processes_below(directory)) >= 5


def query(directory: Path, sql: str) -> dict[str, Any]:
    """The only row of the answer."""
    file = str(directory / ".k2i" / "dev" / "orders.yaml")
    arguments = ("query", file, sql, "--format", "json")
    answer = warm_python().run(MODULE, *arguments, cwd=directory.parent)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_a_stop_during_preparations_leaves_nothing_running(directory: Path) -> None:
    demo = Running(directory)
    demo.wait_for("starting Kafka")
    demo.process.terminate()

    assert demo.end() == 130, demo.output
    assert "stopped before anything ran" in demo.output


def test_records_of_somebody_else_are_left_alone(
    directory: Path, kafka: Broker, topic: TopicFactory
) -> None:
    name, servers = topic(), kafka.bootstrap_servers
    produce(servers, name, [b'{"order_id":7,"shop":"real"}'])
    finished = subprocess.run(
        [*K2I, "dev", *FEW, "--seconds", "1"],
        cwd=directory,
        env={**os.environ, "K2I_KAFKA": servers, "K2I__KAFKA__TOPICS": f"[{name}]"},
        capture_output=True,
        check=False,
        text=True,
        timeout=WAIT_SECONDS_MAX,
    )
    assert finished.returncode == 2, finished.stdout + finished.stderr
    assert "holds records that are not the demo's" in finished.stderr
