"""The Dagster of the demo: three processes for one home, started, asked and ended as one.

Goal: it is ready when it says so, says what is wrong when it is not, has the same address again,
and leaves nothing running and nothing outside its home. Method: the real processes with k2i's own
code location and one pipeline whose broker nobody runs.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from k2i_core.clock import SystemClock
from k2i_core.dev import dagster_server
from k2i_core.dev.dagster_server import DagsterServer
from k2i_core.dev.demo_pipeline import write_pipeline_file
from k2i_core.errors import ConfigError

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "a home"
    home.mkdir()
    write_pipeline_file(home / "orders.yaml", port=1)
    return home


@pytest.fixture
def server(home: Path) -> Iterator[DagsterServer]:
    server = DagsterServer(home / "dagster", SystemClock())
    yield server
    server.stop()
    assert not processes_of(home)


def processes_of(home: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["environ", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and (process.info["environ"] or {}).get("DAGSTER_HOME", "").startswith(str(home))
    ]


def test_it_is_ready_when_it_says_so_and_has_the_same_address_again(
    server: DagsterServer, home: Path
) -> None:
    # A missing pipeline file does not keep it from running.
    server.start(home / "missing.yaml", os.environ)
    address = server.address
    assert server.client.location_state() == (True, "")
    assert server.problem() == ""
    assert server.client.runs("orders") == ()
    assert server.client.checks() == ()
    server.stop_daemon()
    assert "daemon ended by itself" in server.problem()
    server.stop()

    server.start(home / "orders.yaml", os.environ)

    assert server.address == address
    assert server.client.location_state() == (True, "")
    assert server.problem() == ""
    assert {check.name for check in server.client.checks()} >= {"lag", "schema"}
    assert {path.name for path in home.iterdir()} == {"dagster", "orders.yaml"}


def test_code_that_does_not_load_is_said_with_its_reason(
    server: DagsterServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dagster_server, "CODE", "k2i_dagster.no_such_module")

    with pytest.raises(ConfigError, match="no_such_module"):
        server.start(home / "orders.yaml", os.environ)
