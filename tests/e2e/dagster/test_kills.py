"""Nothing that dies in a Dagster deployment loses or doubles a row, and the worker comes back.

Goal: kill -9 of the worker, of each server and of everything at once is repaired by the keep-alive
sensor within a minute, a person's stop is a stop, and a second launch is harmless. Method: the
commands of docker-compose.yml as plain processes with a real broker; after each blow new records
must become rows, and `verify` compares topic and table.
"""

import sqlite3
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from k2i_core.dev.produce import fill
from tests.conftest import Broker
from tests.e2e.dagster.stack import (
    NO_MAINTENANCE,
    PARTS,
    Stack,
    assert_all_is_in_the_table,
    hear_signals,
    row_count,
    running,
)
from tests.e2e.pipelines import PipelineOnDisk, write_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TOPIC = f"dagster-kills-{uuid.uuid4().hex[:8]}"
ORCHESTRATION = {"audit_schedule": "off", "publish_every": "5s"}


@dataclass
class Deployment:
    """A running stack and the topic behind it."""

    stack: Stack
    pipeline: PipelineOnDisk
    bootstrap_servers: str
    count: int = 0

    def produce(self, count: int = 2_000) -> None:
        fill(self.bootstrap_servers, TOPIC, count, start_id=self.count)
        self.count += count

    def assert_whole(self) -> None:
        assert_all_is_in_the_table(self.stack, self.pipeline, self.count)


@pytest.fixture(scope="module")
def running_stack(tmp_path_factory: pytest.TempPathFactory, kafka: Broker) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("dagster_kills")
    fill(kafka.bootstrap_servers, TOPIC, 2_000)
    changes = {"orchestration": ORCHESTRATION, "maintenance": NO_MAINTENANCE}
    pipeline = write_pipeline(
        directory / "kills", kafka.bootstrap_servers, TOPIC, max_age="1s", changes=changes
    )
    with running(Stack(directory / "home", pipeline.path)) as stack:
        yield Deployment(stack, pipeline, kafka.bootstrap_servers, 2_000)


@pytest.fixture
def deployment(running_stack: Deployment) -> Deployment:
    """The deployment with a worker that ingests, whatever the test before has done to it."""
    running_stack.stack.ensure_worker()
    # It ingests, and not only runs: it has taken over and committed.
    running_stack.produce(100)
    running_stack.assert_whole()
    return running_stack


@pytest.fixture
def after_no_failure(running_stack: Deployment) -> None:
    """Otherwise the next failure is one of a series, and the sensor waits longer each time.

    A test that fails a worker stands behind one that does not, so that this has nothing to do.
    """
    stack = running_stack.stack
    if any(run.status == "FAILURE" for run in stack.runs()[1:2]):
        stack.client.terminate(stack.ensure_worker().id)
        stack.wait_for(lambda: not stack.runs()[0].is_live)


@pytest.mark.usefixtures("after_no_failure")
def test_a_killed_worker_is_back_within_a_minute(deployment: Deployment) -> None:
    stack = deployment.stack
    old = stack.ensure_worker()
    deployment.produce()

    stack.kill_workers()

    deployment.produce()
    stack.wait_for_new_worker(old)
    assert stack.run(old.id).status == "FAILURE"
    deployment.assert_whole()


@pytest.mark.parametrize("name", PARTS)
def test_the_containers_health_checks_tell_a_living_server(
    running_stack: Deployment, name: str
) -> None:
    asked = running_stack.stack.health(name)

    assert asked.returncode == 0, asked.stdout + asked.stderr


def test_a_killed_server_is_told_by_its_health_check(running_stack: Deployment) -> None:
    stack = running_stack.stack
    stack.kill("webserver")
    assert stack.health("webserver").returncode != 0
    stack.start("webserver")
    assert stack.health("webserver").returncode == 0


def test_a_worker_outlives_a_killed_daemon(deployment: Deployment) -> None:
    stack = deployment.stack
    old = stack.ensure_worker()

    stack.kill("daemon")
    deployment.produce()
    deployment.assert_whole()
    stack.start("daemon")

    assert [run.id for run in stack.started()] == [old.id]


def test_a_run_that_is_terminated_during_a_flush_flushes_first_and_a_second_one_waits_for_it(
    deployment: Deployment,
) -> None:
    stack = deployment.stack
    old = stack.ensure_worker()
    second = stack.launch()
    count, files = deployment.count, file_count(deployment.pipeline)

    with locked_catalog(deployment.pipeline):
        deployment.produce()
        # The file is there, so its commit now waits for the catalog.
        stack.wait_for(lambda: file_count(deployment.pipeline) > files)
        stack.client.terminate(old.id)
        stack.wait_for(lambda: stack.run(old.id).status == "CANCELING")
        assert stack.run(second).status == "QUEUED"
        assert stack.worker_processes()

    stack.wait_for(lambda: stack.run(old.id).status == "CANCELED")
    assert row_count(deployment.pipeline) == count + 2_000
    stack.wait_for(lambda: stack.run(second).status == "STARTED")
    deployment.produce()
    deployment.assert_whole()


@pytest.mark.usefixtures("after_no_failure")
def test_a_worker_outlives_a_killed_code_server_and_is_replaced_when_it_dies_later(
    deployment: Deployment,
) -> None:
    stack = deployment.stack
    old = stack.ensure_worker()

    stack.kill("code-server")
    deployment.produce()
    deployment.assert_whole()
    stack.start("code-server")
    assert [run.id for run in stack.started()] == [old.id]
    # Nobody is this process's parent any more, so only its heartbeat tells.
    stack.kill_workers()

    deployment.produce()
    stack.wait_for_new_worker(old)
    deployment.assert_whole()


def test_a_run_executed_beside_the_worker_waits_for_its_end_and_doubles_nothing(
    deployment: Deployment,
) -> None:
    stack = deployment.stack
    old = stack.ensure_worker()

    with executed_job(stack, seconds=15) as (process, log):
        # It bypasses the queue, so that only its own look at the other runs holds it back.
        stack.wait_for(lambda: f"run {old.id[:8]} owns worker 0/1 already" in log.read_text())
        deployment.produce()
        deployment.assert_whole()
        assert process.poll() is None
        assert stack.run(old.id).is_live
        assert "rows into" not in log.read_text()

        stack.client.terminate(old.id)
        # Else the old one may commit them with its last flush, and leave nothing to this one.
        stack.wait_for(lambda: "took over" in log.read_text())
        deployment.produce()
        stack.wait_for(lambda: "rows into" in log.read_text())
        deployment.produce()
        assert process.wait(120) == 0, log.read_text()[-3000:]

    assert stack.run(old.id).status == "CANCELED"
    deployment.assert_whole()


@contextmanager
def executed_job(
    stack: Stack, *, seconds: float
) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Run the ingest job in a process of its own, as nobody should."""
    config = stack.home / "executed.yaml"
    config.write_text(f"ops: {{ingest: {{config: {{max_run_minutes: {seconds / 60}}}}}}}")
    log = stack.home / "executed.log"
    command = ["dagster", "job", "execute", "-m", "k2i_dagster.definitions", "-j", stack.job]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "-c", str(config)],
            cwd=stack.home,
            env=stack.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=hear_signals,  # noqa: PLW1509 - it only calls the kernel
        )
    try:
        yield process, log
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.usefixtures("after_no_failure")
def test_everything_is_back_within_a_minute_after_a_power_cut(deployment: Deployment) -> None:
    stack = deployment.stack
    old = stack.ensure_worker()
    deployment.produce()

    stack.kill()
    stack.kill_workers()
    deployment.produce()
    stack.start()

    stack.wait_for_new_worker(old)
    assert stack.run(old.id).status == "FAILURE"
    deployment.assert_whole()


def test_what_a_person_terminated_stays_down_until_a_person_launches_it(
    deployment: Deployment,
) -> None:
    stack = deployment.stack
    old = stack.ensure_worker()

    stack.client.terminate(old.id)
    stack.wait_for(lambda: not stack.run(old.id).is_live)
    assert stack.run(old.id).status == "CANCELED"
    tick_count = stack.tick_count()
    stack.wait_for(lambda: stack.tick_count() >= tick_count + 2)
    assert stack.runs()[0].id == old.id

    deployment.produce()
    stack.launch()
    stack.wait_for_new_worker(old)
    deployment.assert_whole()


def file_count(pipeline: PipelineOnDisk) -> int:
    return sum(1 for _ in (pipeline.directory / "warehouse").rglob("data/**/*.parquet"))


@contextmanager
def locked_catalog(pipeline: PipelineOnDisk) -> Iterator[None]:
    """Let nobody else read or write the pipeline's SQLite catalog."""
    with closing(sqlite3.connect(pipeline.directory / "catalog.db", timeout=60)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.rollback()
