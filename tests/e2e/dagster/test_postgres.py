"""The production form: Dagster's instance in PostgreSQL, several workers.

Goal: the shipped instance file works on a real PostgreSQL, two workers share a table, and both come
back after a kill. Method: Debian's PostgreSQL as a child process of its own user, on loopback and
with a password; the same three commands as everywhere.
"""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from k2i_core.dev.ports import LOOPBACK, free_port
from k2i_core.dev.produce import fill
from tests.conftest import Broker
from tests.e2e.dagster.stack import (
    BACK_SECONDS_MAX,
    NO_MAINTENANCE,
    ROOT,
    Stack,
    assert_all_is_in_the_table,
    running,
)
from tests.e2e.pipelines import write_pipeline

PROGRAMS = Path("/usr/lib/postgresql")
VERSIONS = sorted(PROGRAMS.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))

TOPIC = f"dagster-postgres-{uuid.uuid4().hex[:8]}"
PASSWORD = "a password that no page may show"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not VERSIONS, reason=f"needs PostgreSQL's programs in {PROGRAMS}: install postgresql"
    ),
]


@dataclass(frozen=True)
class Postgres:
    port: int

    def environment(self) -> dict[str, str]:
        return {
            "DAGSTER_POSTGRES_HOST": LOOPBACK,
            "DAGSTER_POSTGRES_PORT": str(self.port),
            "DAGSTER_POSTGRES_USER": "dagster",
            "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
            "DAGSTER_POSTGRES_DB": "postgres",
        }


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    programs = VERSIONS[-1].parent
    # It refuses to run as root, and pytest's own directories are closed to everybody else.
    user = "postgres" if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="k2i-postgres-"))
    (directory / "password").write_text(PASSWORD)
    if user:
        for path in (directory, directory / "password"):
            shutil.chown(path, user)
    port = free_port()
    make = ["-D", str(directory / "data"), "-U", "dagster", "--auth=scram-sha-256"]
    make += [f"--pwfile={directory / 'password'}", "--no-sync"]
    settings = {
        "port": port,
        "listen_addresses": LOOPBACK,
        "unix_socket_directories": directory,
        "fsync": "off",
        "logging_collector": "off",
    }
    options = " ".join(f"-c {key}={value}" for key, value in settings.items())
    log = str(directory / "log")
    control = [programs / "pg_ctl", "-D", str(directory / "data"), "-w"]
    try:
        run_as(user, [programs / "initdb", *make])
        run_as(user, [*control, "-l", log, "-o", options, "start"])
        try:
            yield Postgres(port)
        finally:
            run_as(user, [*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(directory)


def run_as(user: str | None, command: list[str | Path]) -> None:
    subprocess.run(command, user=user, cwd="/", stdout=subprocess.DEVNULL, check=True, timeout=60)


def test_two_workers_on_postgres_are_back_within_a_minute_after_a_kill(
    tmp_path: Path, kafka: Broker
) -> None:
    fill(kafka.bootstrap_servers, TOPIC, 5_000)
    changes = {
        "workers": 2,
        "orchestration": {"audit_schedule": "off", "publish_every": "5s"},
        "maintenance": NO_MAINTENANCE,
    }
    pipeline = write_pipeline(
        tmp_path / "postgres", kafka.bootstrap_servers, TOPIC, max_age="1s", changes=changes
    )
    instance = ROOT / "deploy" / "dagster-postgres.yaml"
    with running_postgres() as postgres:
        home = tmp_path / "home"
        stack = Stack(home, pipeline.path, instance=instance, environment=postgres.environment())
        with running(stack):
            stack.wait_for(lambda: len(stack.started()) == 2)
            assert {run.worker for run in stack.started()} == {"e2e-0", "e2e-1"}
            assert_all_is_in_the_table(stack, pipeline, 5_000)
            killed = {run.id for run in stack.started()}

            stack.kill_workers()
            fill(kafka.bootstrap_servers, TOPIC, 5_000, start_id=5_000)

            stack.wait_for(
                lambda: len({run.id for run in stack.started()} - killed) == 2, BACK_SECONDS_MAX
            )
            assert {run.worker for run in stack.started()} == {"e2e-0", "e2e-1"}
            assert_all_is_in_the_table(stack, pipeline, 10_000)
            assert not list(home.rglob("*.db"))
            assert PASSWORD not in stack.log_ends()
