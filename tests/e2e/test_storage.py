"""Goal: a full, missing or locked disk is named, ends nothing that can recover, and costs no row.

Method: a warehouse on a file system of two megabytes that is made larger later, paths that cannot
be directories, and a SQLite file that another program locks for seven seconds.
"""

import os
import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from k2i_core.cli.exits import Exit
from k2i_core.dev.produce import fill
from tests.e2e.pipelines import PipelineOnDisk, ended, write_pipeline


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def on(disk: Path, servers: str, topic: str, directory: Path, max_age: str) -> PipelineOnDisk:
    return write_pipeline(
        directory,
        servers,
        topic,
        max_age=max_age,
        changes={
            "catalog": {
                "type": "sql",
                "uri": f"sqlite:///{directory}/catalog.db",
                "warehouse": str(disk / "warehouse"),
            }
        },
    )


@pytest.mark.slow
def test_a_full_warehouse_is_waited_out(kafka, topic, tmp_path: Path, small_disk: Path) -> None:
    name, servers = topic(partition_count=2), kafka.bootstrap_servers
    pipeline = on(small_disk, servers, name, tmp_path / "full", "300ms")
    fill(servers, name, 1_000)
    worker = pipeline.start_worker()
    with ended(worker):
        worker.wait_for_flushes(1)
        fill(servers, name, 150_000, start_id=1_000)
        worker.wait_for(lambda: "No space left" in worker.tail())
        assert pipeline.verification("--skip-topic")["holds"]
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        worker.wait_for(lambda: worker.row_count() == 151_000)
        assert worker.stop() == Exit.OK, worker.tail()

    assert pipeline.assert_holds_here()["rows"] == 151_000
    table = pipeline.load_table()
    named = {task.file.file_path.removeprefix("file://") for task in table.scan().plan_files()}
    stored = {str(path) for path in (small_disk / "warehouse").rglob("*.parquet")}
    assert stored == named, "files of failed flushes were left behind"


def test_a_state_directory_that_cannot_be_written_is_named_at_once(
    kafka, topic, tmp_path: Path
) -> None:
    blocking = tmp_path / "file"
    blocking.write_text("")
    name, servers = topic(partition_count=1), kafka.bootstrap_servers
    pipeline = write_pipeline(
        tmp_path / "state", servers, name, changes={"state_directory": str(blocking / "state")}
    )

    done = pipeline.k2i("ingest", "--until-caught-up", "--port", "0")

    assert done.returncode == Exit.CONFIG, done.stderr
    assert str(blocking) in done.stderr.splitlines()[-1]
    assert "state_directory" in done.stderr.splitlines()[-1]


def test_a_warehouse_that_is_a_file_is_named_at_once(kafka, topic, tmp_path: Path) -> None:
    blocking = tmp_path / "file"
    blocking.write_text("")
    name, servers = topic(partition_count=1), kafka.bootstrap_servers
    pipeline = on(blocking, servers, name, tmp_path / "warehouse", "300ms")

    done = pipeline.k2i("ingest", "--until-caught-up", "--port", "0")

    assert done.returncode == Exit.CONFIG, done.stderr
    assert re.search(rf"warehouse {blocking}/warehouse", done.stderr.splitlines()[-1])


@pytest.mark.slow
def test_a_locked_sqlite_catalog_is_waited_for(kafka, topic, tmp_path: Path) -> None:
    name, servers = topic(partition_count=1), kafka.bootstrap_servers
    pipeline = write_pipeline(tmp_path / "locked", servers, name, max_age="300ms")
    fill(servers, name, 100)
    worker = pipeline.start_worker()
    with ended(worker):
        worker.wait_for_flushes(1)
        with closing(sqlite3.connect(pipeline.directory / "catalog.db")) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            fill(servers, name, 100, start_id=100)
            time.sleep(7)
            assert worker.flush_count() == 1
            assert worker.ask("/healthz")[0] == 200
            connection.rollback()
        worker.wait_for(lambda: worker.row_count() == 200)
        assert worker.stop() == Exit.OK, worker.tail()
    assert pipeline.assert_holds_here()["rows"] == 200
