"""`k2i maintain`: the steps by hand, on the tables of a real pipeline.

Goal: every command tells the truth in words and as JSON, ends with the promised code, and leaves
tables that `k2i verify` believes, also when a step is interrupted, or killed anywhere. Method: the
real command line as processes; kills by SIGKILL inside a real run.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from k2i_core.cli.exits import Exit
from k2i_core.cli.main import main
from k2i_core.crash_points import EXPIRATION_POINTS, ORPHAN_POINTS, CrashPoint
from k2i_core.dev.produce import fill
from k2i_core.maintenance.report import MaintenanceReport
from k2i_core.wiring import maintenance
from tests.e2e.pipelines import PipelineOnDisk, write_pipeline
from tests.services.warm_python import warm_python

COMMITTING = (CrashPoint.ATTEMPT_LOGGED, CrashPoint.REQUEST_SENT)
DAY = 86_400.0


def answer(done: "subprocess.CompletedProcess[str]") -> dict:
    assert done.returncode == Exit.OK, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def filled(kafka, topic, tmp_path: Path) -> PipelineOnDisk:
    """Six flushes of 20 events, some of them bad."""
    name = topic(partition_count=1)
    pipeline = write_pipeline(tmp_path / "filled", kafka.bootstrap_servers, name)
    for number in range(6):
        fill(kafka.bootstrap_servers, name, 20, start_id=20 * number, bad_share=0.1)
        pipeline.ingest_here()
    return pipeline


def data_folder(pipeline: PipelineOnDisk) -> Path:
    return Path(pipeline.load_table().location().removeprefix("file://")) / "data"


def put_orphan(pipeline: PipelineOnDisk, number: int = 0) -> Path:
    """Copy a live file under a name of ours that no commit knows, ten days old."""
    source = next(path for path in data_folder(pipeline).rglob("*.parquet"))
    orphan = source.with_name(f"{source.name[:8]}-never-committed-{number}.parquet")
    orphan.write_bytes(source.read_bytes())
    then = time.time() - 10 * DAY
    os.utime(orphan, (then, then))
    return orphan


@pytest.mark.slow
def test_the_steps_by_hand_from_need_to_proof(filled: PipelineOnDisk) -> None:
    before = filled.assert_holds_here()
    target, dead_letters = filled.table, filled.settings.dead_letter_table
    health = answer(filled.k2i("maintain", "health", "--json"))["tables"]

    assert [table["table"] for table in health] == [target, dead_letters]
    assert health[0]["row_count"] == before["rows"]
    assert health[0]["small_file_count"] == health[0]["data_file_count"] == 6
    assert [need["step"] for need in health[0]["needs"]] == ["compaction"]

    orphan = put_orphan(filled)
    dry = answer(filled.k2i("maintain", "orphans", "--dry-run", "--json"))["reports"]
    assert [report["figures"]["orphans_count"] for report in dry] == [1, 0]
    assert orphan.exists()
    done = filled.k2i("maintain", "orphans", "--table", target)
    assert done.returncode == Exit.OK, done.stderr
    assert done.stdout.startswith(f"{target}: deleted 1 orphans")
    assert done.stderr == ""
    assert not orphan.exists()

    compacted = answer(filled.k2i("maintain", "compact", "--all", "--json"))["reports"]
    assert [report["step"] for report in compacted] == ["compaction", "compaction"]
    settings = ("--set", "maintenance.expiration.max_snapshots=1")
    settings += ("--set", "maintenance.expiration.retain_last=1")
    expired = answer(filled.k2i("maintain", "expire", "--json", *settings))["reports"]
    # All of it happened just now, so that a reader may still be at work.
    assert expired[0]["figures"]["snapshots_removed_count"] == 0
    assert expired[0]["figures"]["snapshots_waiting_count"] > 0

    everything = answer(filled.k2i("maintain", "all", "--json"))["reports"]
    steps = ["compaction", "manifests", "expiration", "orphans"]
    assert [(report["table"], report["step"]) for report in everything] == [
        (table, step) for table in (target, dead_letters) for step in steps
    ]
    after = filled.assert_holds_here()
    assert (after["rows"], after["dead_letters"]) == (before["rows"], before["dead_letters"])
    shown = filled.k2i("maintain", "health")
    assert "data_file_count" in shown.stdout
    assert target in shown.stdout


def test_what_cannot_be_done_is_said_with_the_promised_code(
    filled: PipelineOnDisk, tmp_path: Path
) -> None:
    unknown = filled.k2i("maintain", "expire", "--table", "sales.nothing")
    assert unknown.returncode == Exit.CONFIG
    assert filled.table in unknown.stderr

    size = filled.k2i("maintain", "compact", "--target-file-bytes", "much")
    assert size.returncode == Exit.CONFIG
    assert "--target-file-bytes" in size.stderr

    nowhere = filled.k2i(
        "maintain", "health", "--set", f"catalog.uri=sqlite:///{tmp_path}/none/catalog.db"
    )
    assert nowhere.returncode == Exit.CONFIG

    table = filled.load_table()
    older = table.metadata.snapshots[-2].snapshot_id
    table.manage_snapshots().rollback_to_snapshot(older).commit()
    rolled_back = filled.k2i("maintain", "orphans", "--json")
    assert rolled_back.returncode == Exit.STOPPED
    assert "rolled back outside k2i" in rolled_back.stderr
    assert json.loads(rolled_back.stdout) == {"reports": []}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_step_the_tables_hold_and_the_next_run_finishes(
    filled: PipelineOnDisk,
) -> None:
    before = filled.assert_holds_here()
    steps = [("expiration", point) for point in (*COMMITTING, *EXPIRATION_POINTS)]
    steps += [("orphans", point) for point in ORPHAN_POINTS]
    for number, (step, point) in enumerate(steps):
        put_orphan(filled, number)
        command = ("tests.e2e.crashing_maintenance", str(filled.path), filled.table)
        done = warm_python().run(*command, step, point)
        assert done.returncode == -signal.SIGKILL, (step, point, done.stderr[-2000:])
        filled.ingest_here()  # a take-over, so that there is something to expire again
    assert answer(filled.k2i("maintain", "orphans", "--json"))
    assert not list(data_folder(filled).rglob("*never-committed*"))
    after = filled.assert_holds_here()
    assert after["rows"] == before["rows"]


def test_an_interrupt_ends_with_130_and_says_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = write_pipeline(tmp_path / "interrupted", "127.0.0.1:1", "orders")
    done = MaintenanceReport("expiration", "sales.first", is_dry_run=False, did="x", figures={})

    def expire(_pipeline: object, identifier: str, *_: object, **__: object) -> MaintenanceReport:
        if identifier == "sales.second":
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(maintenance, "tables_of", lambda _: ("sales.first", "sales.second"))
    monkeypatch.setattr(maintenance, "expire_snapshots", expire)
    monkeypatch.setattr(sys, "argv", ["k2i", "maintain", "expire", str(pipeline.path), "--json"])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == Exit.INTERRUPTED
    assert json.loads(capsys.readouterr().out) == {"reports": [done.to_json()]}
