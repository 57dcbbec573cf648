"""Code server, webserver and daemon as processes of a test, with the commands that are shipped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from k2i_core.dev.dagster_client import DagsterClient, Run
from k2i_core.dev.demo_figures import TableWatch
from k2i_core.dev.ports import LOOPBACK, free_port, is_listening
from k2i_core.errors import UnavailableError
from tests.e2e.pipelines import PipelineOnDisk
from tests.services.warm_python import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PARTS = ("code-server", "webserver", "daemon")

BACK_SECONDS_MAX = 60.0
"""What is promised: a worker that is gone is back within a minute."""
WAIT_SECONDS_MAX = 120.0
"""What is waited for where nothing is promised, on a machine that does ten other things."""

LOOK_SECONDS = 0.3
"""Most looks ask the webserver, and ten of them a second would keep it busy all the time."""

WORKER = "k2i/worker"

NO_MAINTENANCE = {
    step: {"schedule": "off"}
    for step in ("health", "compaction", "manifests", "expiration", "orphans")
}
"""For tests that count or kill processes: no run is launched by the time of day."""


class Stack:
    """One instance with its three processes, each of which can be killed and started again."""

    def __init__(
        self,
        home: Path,
        pipelines: Path,
        *,
        name: str = "e2e",
        instance: Path = ROOT / "dagster.yaml",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.name = name
        self.job = f"ingest_{name}"
        home.mkdir(parents=True)
        settings = yaml.safe_load(instance.read_text())
        if "sqlite" in settings["storage"]:
            del settings["storage"], settings["local_artifact_storage"]
        (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
        self._ports = {name: free_port() for name in ("code-server", "webserver")}
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("K2I")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "DAGSTER_HOME": str(home),
            "K2I_PIPELINES": str(pipelines),
            "K2I_CODE_SERVER_HOST": LOOPBACK,
            "K2I_CODE_SERVER_PORT": str(self._ports["code-server"]),
            **(environment or {}),
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self._ports['webserver']}"

    @property
    def client(self) -> DagsterClient:
        return DagsterClient(self._ports["webserver"])

    def command(self, name: str) -> list[str]:
        """The service's command, at this stack's addresses instead of the containers'."""
        return self._placed(COMPOSE["services"][name]["command"])

    def health(self, name: str) -> subprocess.CompletedProcess[str]:
        """Ask as the container would be asked."""
        _cmd, *command = COMPOSE["services"][name]["healthcheck"]["test"]
        return subprocess.run(
            self._placed(command),
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def _placed(self, command: list[str]) -> list[str]:
        places = {
            "0.0.0.0": LOOPBACK,
            "4266": str(self._ports["code-server"]),
            "3000": str(self._ports["webserver"]),
            "/etc/k2i/workspace.yaml": str(ROOT / "deploy" / "workspace.yaml"),
        }
        web = f":{self._ports['webserver']}/"
        return [places.get(word, word).replace(":3000/", web) for word in command]

    def start(self, *names: str) -> None:
        """Start these in compose's order and wait until the code location is loaded."""
        for name in names or PARTS:
            with (self.home / f"{name}.log").open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    self.command(name),
                    cwd=self.home,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=hear_signals,  # noqa: PLW1509 - it only calls the kernel
                )
            if name == "code-server":
                self.wait_for(lambda: is_listening(self._ports["code-server"]))
        self.wait_for(self._is_loaded)

    def wait_for(
        self, is_there: Callable[[], bool], seconds_max: float = WAIT_SECONDS_MAX
    ) -> float:
        """Wait; returns how many seconds it took."""
        began = time.monotonic()
        while not is_there():
            waited = time.monotonic() - began
            assert waited < seconds_max, f"not there after {waited:.0f} s\n{self.log_ends()}"
            time.sleep(LOOK_SECONDS)
        return time.monotonic() - began

    def log_ends(self) -> str:
        logs = sorted(self.home.glob("*.log"))
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    def runs(self) -> tuple[Run, ...]:
        """Ingest runs, newest first."""
        return self.client.runs(self.name, job=self.job)

    def started(self) -> list[Run]:
        return [run for run in self.runs() if run.status == "STARTED"]

    def run(self, run_id: str) -> Run:
        return next(run for run in self.runs() if run.id == run_id)

    def tick_count(self) -> int:
        """How often the keep-alive sensor has looked."""
        return (self.home / "daemon.log").read_text().count(f"sensor: keep_alive_{self.name}")

    def launch(self) -> str:
        """Launch a run of worker 0 as a person does; returns its id."""
        return self.client.launch(self.job, {WORKER: f"{self.name}-0"})

    def ensure_worker(self) -> Run:
        """Return the run of worker 0, launched as a person does if one was terminated."""
        if not any(run.is_live for run in self.runs()[:1]):
            # With no run at all the sensor launches one; a second one would only wait for it.
            newest = self.runs()[:1]
            if newest and newest[0].status == "CANCELED":
                self.launch()
        self.wait_for(lambda: bool(self.started()))
        return self.started()[0]

    def wait_for_new_worker(self, old: Run, seconds_max: float = BACK_SECONDS_MAX) -> Run:
        """Wait for another run in the place of `old`."""

        def is_new() -> bool:
            return any(run.id != old.id and run.worker == old.worker for run in self.started())

        self.wait_for(is_new, seconds_max)
        return next(run for run in self.started() if run.worker == old.worker)

    def worker_processes(self) -> list[psutil.Process]:
        """The processes of the runs, whoever their parent is now."""
        return [
            process
            for process in psutil.process_iter(["cmdline", "environ", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and any("spawn_main" in word for word in process.info["cmdline"] or ())
            and (process.info["environ"] or {}).get("DAGSTER_HOME") == str(self.home)
        ]

    def kill(self, *names: str) -> None:
        """Kill these servers as a crash would, and not the workers."""
        for name in names or PARTS:
            process = self._processes.pop(name)
            workers = {worker.pid for worker in self.worker_processes()}
            for child in psutil.Process(process.pid).children(recursive=True):
                if child.pid not in workers:
                    with suppress(psutil.NoSuchProcess):
                        child.kill()
            process.kill()
            process.wait()

    def kill_workers(self) -> None:
        for worker in self.worker_processes():
            worker.kill()

    def stop(self) -> None:
        """Stop as tini and systemd do: every process of each group hears SIGTERM."""
        for name in ("daemon", "code-server", "webserver"):
            if process := self._processes.pop(name, None):
                signal_group(process.pid, signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(60)
                signal_group(process.pid, signal.SIGKILL)
                process.wait()
        self.kill_workers()

    def _is_loaded(self) -> bool:
        try:
            is_loaded, problem = self.client.location_state()
        except UnavailableError:
            return False
        assert not problem, problem
        return is_loaded


@contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def assert_all_is_in_the_table(stack: Stack, pipeline: PipelineOnDisk, count: int) -> None:
    """Wait until every record of the topic is a row, then let `verify` prove it."""
    stack.wait_for(lambda: row_count(pipeline) >= count)
    assert pipeline.assert_holds_here()
    assert row_count(pipeline) == count


def row_count(pipeline: PipelineOnDisk) -> int:
    return TableWatch(pipeline.settings).figures().row_count


def signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def hear_signals() -> None:
    # A shell that starts pytest in the background leaves SIGINT ignored, and Dagster would give
    # SIGTERM the same fate.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
