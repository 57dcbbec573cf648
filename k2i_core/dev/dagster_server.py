"""Dagster for one home directory: code server, webserver and daemon, as in production.

They are child processes that listen on 127.0.0.1 only. The workers that Dagster starts belong to
the code server's process group, so that they end with it, whatever happens.

The instance is the repository's `dagster.yaml` without its storage, which lies in the home here.
Nothing of Dagster is imported: it is started and asked, as any other server.
"""

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from k2i_core.clock import Clock
from k2i_core.dev.child_process import ChildProcess
from k2i_core.dev.dagster_client import LOCATION, DagsterClient
from k2i_core.dev.ports import LOOPBACK, free_port, is_listening, is_port_free
from k2i_core.errors import ConfigError, UnavailableError

CODE = "k2i_dagster.definitions"

_INSTANCE_FILES = (
    Path(__file__).with_name("dagster.yaml"),  # in a wheel
    Path(__file__).parents[2] / "dagster.yaml",
)

_START_SECONDS_MAX = 180.0
"""Larger: definitions that never load are noticed later. Smaller: three Python programs on a busy
machine, of which each imports for seconds, do not make it."""

_WORKER_STOP_SECONDS_MAX = 120.0
"""Larger: an end with a catalog that is down takes longer. Smaller: a last flush on a busy machine
is cut off, and its rows come only with the next run."""

_STOP_SECONDS_MAX = 15.0
"""Webserver and daemon have nothing to finish, and may be killed at any moment."""


class DagsterServer:
    """Starts and stops the three of them."""

    def __init__(self, home: Path, clock: Clock) -> None:
        """Describe them; nothing is started or written yet.

        Args:
            home: Directory of their own; the instance's database is kept in it.
            clock: For the waits.

        """
        self._home = home.absolute()
        self._clock = clock
        self._workspace = self._home / "workspace.yaml"
        self._port_file = self._home / "port"
        self._port = 0
        at, work = self._home, str(self._workspace)
        self._code = ChildProcess(
            "dagster's code server",
            at / "code-server",
            str(self._home),
            clock,
            stop_seconds_max=_WORKER_STOP_SECONDS_MAX,
        )
        self._web = ChildProcess(
            "dagster's webserver",
            at / "webserver",
            work,
            clock,
            stop_seconds_max=_STOP_SECONDS_MAX,
        )
        self._daemon = ChildProcess(
            "dagster's daemon", at / "daemon", work, clock, stop_seconds_max=_STOP_SECONDS_MAX
        )

    @property
    def address(self) -> str:
        """URL of the user interface; known after the start."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def client(self) -> DagsterClient:
        """Whom to ask; answers after the start."""
        return DagsterClient(self._port)

    def claim(self) -> None:
        """Take the home and stop what a crashed parent left running in it, workers included.

        Raises:
            ConfigError: Another living process uses the home.
            UnavailableError: Something left behind cannot be stopped.

        """
        # The daemon first, because it would start a worker in the place of one that ends.
        for process in (self._daemon, self._code, self._web):
            process.claim()

    def start(self, pipelines: Path, variables: Mapping[str, str]) -> None:
        """Start all three and wait until the code location is loaded.

        Args:
            pipelines: Pipeline file, or directory of such files.
            variables: The environment, for the workers too.

        Raises:
            ConfigError: The definitions do not load; the message has Dagster's reason.
            UnavailableError: One of the three ended or did not answer; its log has the reason.

        """
        self.claim()
        code_port = self._write_settings()
        environment = {
            **variables,
            "DAGSTER_HOME": str(self._home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "K2I_PIPELINES": str(pipelines),
            # A line that waits in a buffer says nothing to whoever reads the log.
            "PYTHONUNBUFFERED": "1",
        }
        python, workspace = sys.executable, str(self._workspace)
        deadline = self._clock.boot_seconds() + _START_SECONDS_MAX
        self._code.launch(
            [
                *(python, "-m", "dagster", "code-server", "start", "-m", CODE),
                *("-d", str(self._home), "--location-name", LOCATION),
                *("-h", LOOPBACK, "-p", str(code_port)),
            ],
            environment,
        )
        self._code.wait_until(lambda: is_listening(code_port), deadline)
        self._web.launch(
            [
                *(python, "-m", "dagster_webserver", "-w", workspace),
                *("-h", LOOPBACK, "-p", str(self._port)),
            ],
            environment,
        )
        self._daemon.launch([python, "-m", "dagster._daemon", "run", "-w", workspace], environment)
        self._web.wait_until(self._is_loaded, deadline)

    def problem(self) -> str:
        """Return which of the three has ended by itself; empty when none has."""
        for process in (self._code, self._web, self._daemon):
            if process.pid is None:
                return f"{process.name} ended by itself log={process.log_path}"
        return ""

    def stop_daemon(self) -> None:
        """Stop what starts workers; the running ones go on."""
        self._daemon.stop()

    def stop(self) -> None:
        """Stop all three; a worker that still runs flushes first. Safe when they do not run."""
        for process in (self._daemon, self._code, self._web):
            process.stop()

    def _write_settings(self) -> int:
        """Write instance and workspace; returns the code server's port."""
        # The same address again, so that yesterday's tab in the browser works.
        with suppress(FileNotFoundError, ValueError):
            self._port = int(self._port_file.read_text(encoding="ascii"))
        if not self._port or not is_port_free(self._port):
            self._port = free_port()
            self._port_file.write_text(str(self._port), encoding="ascii")
        instance = _read_instance()
        del instance["storage"], instance["local_artifact_storage"]
        (self._home / "dagster.yaml").write_text(yaml.safe_dump(instance), encoding="utf-8")
        code_port = free_port()
        server = {"host": LOOPBACK, "port": code_port, "location_name": LOCATION}
        workspace = {"load_from": [{"grpc_server": server}]}
        self._workspace.write_text(yaml.safe_dump(workspace), encoding="utf-8")
        return code_port

    def _is_loaded(self) -> bool:
        try:
            is_loaded, reason = self.client.location_state()
        except UnavailableError:
            return False
        if reason:
            message = f"dagster cannot load {CODE}: {reason.strip()}"
            raise ConfigError(message)
        return is_loaded


def _read_instance() -> dict[str, Any]:
    path = next(path for path in _INSTANCE_FILES if path.exists())
    return yaml.safe_load(path.read_text(encoding="utf-8"))
