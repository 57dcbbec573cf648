"""`dagster dev` and `dagster job launch` work from the repository's root as it is.

Goal: the shipped dagster.yaml, workspace.yaml, pyproject.toml and pipelines/ fit together, with and
without DAGSTER_HOME, and nothing is written outside `.k2i`. Method: copies of exactly these files
in an empty directory, the commands as a person types them, and Ctrl-C.
"""

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from k2i_core.dev.produce import fill
from k2i_core.iceberg.catalog import open_catalog
from tests.conftest import Broker
from tests.e2e.dagster.stack import ROOT, Stack, hear_signals, signal_group

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SHIPPED = ("dagster.yaml", "workspace.yaml", "pyproject.toml", "pipelines")
TOPIC = f"dagster-root-{uuid.uuid4().hex[:8]}"
CATALOG = {"type": "sql", "uri": "sqlite:///.k2i/catalog.db", "warehouse": ".k2i/warehouse"}
LAUNCH = ["dagster", "job", "launch", "-j", "ingest_orders"]


class DagsterDev(Stack):
    """`dagster dev` in a directory, and nothing that a test adds to it."""

    def __init__(self, home: Path, kafka: str) -> None:
        super().__init__(home / "unused", home / "pipelines", name="orders")
        shutil.rmtree(home / "unused")
        self.home = home
        for name in ("DAGSTER_HOME", "K2I_PIPELINES"):
            del self.environment[name]
        self.environment |= {"K2I_KAFKA": kafka, "K2I__KAFKA__TOPICS": f"[{TOPIC}]"}

    @contextmanager
    def dev(self, home: str | None, log: Path) -> Iterator[None]:
        """Run it until it is stopped by Ctrl-C, which every process of a terminal hears."""
        port = self.address.rpartition(":")[2]
        # What docs/dagster.md says to export; without the second Dagster makes empty directories
        # in its home even when dagster.yaml switches its telemetry off.
        variables = {"DAGSTER_HOME": home, "DAGSTER_DISABLE_TELEMETRY": "1"} if home else {}
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["dagster", "dev", "-h", "127.0.0.1", "-p", port],
                cwd=self.home,
                env={**self.environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=hear_signals,  # noqa: PLW1509 - it only calls the kernel
            )
        try:
            self.wait_for(self._is_loaded)
            yield
            signal_group(process.pid, signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            signal_group(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)

    def launch_by_command(self, *options: str) -> str:
        done = subprocess.run(
            [*LAUNCH, *options],
            cwd=self.home,
            env={**self.environment, "DAGSTER_HOME": str(self.home)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return self.runs()[0].id


def row_count(root: Path) -> int:
    if not (root / ".k2i" / "catalog.db").exists():
        return 0
    here = Path.cwd()
    os.chdir(root)  # the shipped pipeline's paths are relative
    try:
        # As k2i opens it, because the worker may be making the catalog at the same moment.
        catalog = open_catalog("k2i", CATALOG)
        if not catalog.table_exists("sales.orders"):
            return 0
        head = catalog.load_table("sales.orders").current_snapshot()
        return int(head.summary["total-records"] or 0) if head and head.summary else 0
    finally:
        os.chdir(here)


def test_the_repository_works_as_it_is_and_is_not_littered(tmp_path: Path, kafka: Broker) -> None:
    root = tmp_path / "repository"
    root.mkdir()
    for name in SHIPPED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    fill(kafka.bootstrap_servers, TOPIC, 2_000)
    stack = DagsterDev(root, kafka.bootstrap_servers)

    with stack.dev(None, tmp_path / "without.log"):
        stack.wait_for(lambda: bool(stack.started()))
        first = stack.started()[0]
        stack.wait_for(lambda: row_count(root) == 2_000)
        # Both find the code location by the name that the running one has, so both can start.
        for options in ([], ["-w", "workspace.yaml"]):
            launched = stack.launch_by_command(*options)
            assert stack.run(launched).status == "QUEUED"
            assert [run.id for run in stack.started()] == [first.id]
            stack.client.terminate(launched)
    assert stack.worker_processes() == []

    with stack.dev(str(root), tmp_path / "with.log"):
        # The same instance: it knows what happened before, and goes on.
        assert first.id in {run.id for run in stack.runs()}
        fill(kafka.bootstrap_servers, TOPIC, 1_000, start_id=2_000)
        stack.client.launch("ingest_orders", {})
        stack.wait_for(lambda: row_count(root) == 3_000)

    assert {path.name for path in root.iterdir()} == {*SHIPPED, ".k2i"}
