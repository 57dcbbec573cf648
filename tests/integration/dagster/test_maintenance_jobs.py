"""Maintenance jobs in this process, on tables that a worker filled with many small files.

Goal: a step does its work and tells it in figures, does nothing where nothing is needed and says
why, and touches nothing while an error-level check of the table fails.
Method: real rows from a real broker, an ephemeral instance; what the schedules do is done by their
tick and a run with its config. After each, `verify` compares topic, ledger and rows.
"""

import time
from dataclasses import replace

import dagster as dg
import pytest

from k2i_core.clock import SystemClock
from k2i_core.wiring import maintenance as wired
from k2i_dagster import names
from k2i_dagster.maintenance_jobs import tick
from k2i_dagster.maintenance_steps import COMPACTION, STEPS
from k2i_dagster.running import heartbeat, maintenance_run, turn
from tests.integration.dagster.runs import InProcess, value

FLUSH_COUNT = 7
RECORD_COUNT = 60


@pytest.fixture
def empty(tmp_path, kafka, topic) -> InProcess:
    """A pipeline that never ingested."""
    return InProcess(tmp_path / "orders", kafka.bootstrap_servers, topic(1))


@pytest.fixture
def at_work(empty, monkeypatch) -> InProcess:
    """A target and dead letters of a file for each of several flushes, all of them settled."""
    options = wired.compaction_options
    monkeypatch.setattr(
        wired,
        "compaction_options",
        lambda pipeline, table: replace(options(pipeline, table), young_seconds=0.0),
    )
    for number in range(FLUSH_COUNT):
        start_id = number * RECORD_COUNT
        empty.fill(RECORD_COUNT, start_id=start_id, bad_share=0.1)
        empty.disk.ingest_here()
    return empty


def last(at_work: InProcess, name: str) -> dg.AssetMaterialization:
    return at_work.materializations("e2e", "orders", name)[-1]


def did(at_work: InProcess, name: str) -> str:
    return str(value(last(at_work, name), "did"))


def run_as_scheduled(at_work: InProcess) -> str | None:
    """Do what the daemon does at a tick of the compaction's schedule; return why nothing."""
    answer = tick(at_work.instance, at_work.disk.settings, COMPACTION, SystemClock())
    if isinstance(answer, dg.SkipReason):
        return answer.skip_message
    at_work.run("compact_e2e", answer.run_config["ops"][NODE]["config"], tags=answer.tags)
    return None


NODE = "e2e__orders__compaction"
HEALTH = ("e2e", "orders", "health")


def file_count(at_work: InProcess, table: str | None = None) -> int:
    return len(at_work.disk.load_table(table).inspect.files())


def snapshot_id(at_work: InProcess) -> int:
    snapshot = at_work.disk.load_table().current_snapshot()
    assert snapshot is not None
    return snapshot.snapshot_id


def fail_check(at_work: InProcess, name: str = "row_counts", *, passed: bool = False) -> None:
    """Let an audit have found something, or have found it settled."""
    at_work.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=names.audit_key(at_work.disk.settings),
            check_name=name,
            passed=passed,
            severity=dg.AssetCheckSeverity.ERROR,
        )
    )


def test_health_is_measured_in_figures_and_asks_for_what_the_tables_need(at_work):
    at_work.run("measure_health_e2e")

    health = last(at_work, "health")
    assert value(health, "files") == FLUSH_COUNT
    assert value(health, "small_file_share") == 1.0
    assert value(health, "rows") == at_work.disk.rows().num_rows
    assert value(health, "metadata_bytes") > 0
    assert value(health, "projected_scan_seconds") > 0
    assert value(health, "dead letters: files") >= 1
    assert "7 small files" in value(health, "asks_for")["compaction"]


def test_a_scheduled_compaction_runs_when_it_is_needed_and_the_next_one_is_skipped(at_work):
    at_work.run("measure_health_e2e")
    before = at_work.disk.rows().sort_by("order_id")

    assert run_as_scheduled(at_work) is None

    event = last(at_work, "compaction")
    assert "7 small files" in value(event, "reason")
    assert value(event, "snapshots made").split(",")[0].isdecimal()
    numbers = {n for n, e in event.metadata.items() if isinstance(e.value, int | float)}
    assert numbers, event.metadata
    assert file_count(at_work) == 1
    assert at_work.disk.rows().sort_by("order_id").equals(before)
    at_work.disk.assert_holds_here()
    # What the run left behind is already measured, so nobody asks for it again.
    assert value(last(at_work, "health"), "files") == 1
    versions = {event.tags["dagster/data_version"] for event in at_work.materializations(*HEALTH)}
    assert versions == {"measured"}
    skipped = run_as_scheduled(at_work)
    assert skipped is not None
    assert "not needed" in skipped
    assert "e2e.orders: 1 files" in skipped


def test_a_scheduled_run_that_is_needed_no_more_says_so(at_work):
    at_work.run("compact_e2e")
    snapshot = snapshot_id(at_work)

    at_work.run("compact_e2e", {"only_if_needed": True})

    assert did(at_work, "compaction").startswith("nothing: not needed: e2e.orders: 1 files")
    assert snapshot_id(at_work) == snapshot


def test_a_person_may_compact_what_health_does_not_ask_for(at_work):
    at_work.run("compact_e2e", {"table": "e2e.orders"})
    at_work.fill(RECORD_COUNT, start_id=FLUSH_COUNT * RECORD_COUNT)
    at_work.disk.ingest_here()

    at_work.run("compact_e2e", {"everything": True, "min_input_files": 2, "table": "e2e.orders"})

    assert file_count(at_work) == 1
    assert value(last(at_work, "compaction"), "reason") == "launched by hand"
    at_work.disk.assert_holds_here()


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_nothing_is_done_while_an_error_level_check_fails(at_work, step):
    job = f"{step.verb}_e2e"
    fail_check(at_work)
    snapshot, files = snapshot_id(at_work), all_files(at_work)

    result = at_work.run(job)

    (held,) = result.get_asset_check_evaluations()
    assert result.success
    assert (held.passed, held.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "e2e/orders/audit: row_counts" in str(held.description)
    assert "held back by a failing check: e2e/orders/audit: row_counts" in did(at_work, step.name)
    assert (snapshot_id(at_work), all_files(at_work)) == (snapshot, files)

    fail_check(at_work, passed=True)
    (held,) = at_work.run(job).get_asset_check_evaluations()
    assert held.passed
    assert "held back" not in did(at_work, step.name)
    at_work.disk.assert_holds_here()


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_dry_run_changes_nothing_and_is_never_held_back(at_work, step):
    fail_check(at_work)
    snapshot, files = snapshot_id(at_work), all_files(at_work)

    at_work.run(f"{step.verb}_e2e", {"dry_run": True})

    assert did(at_work, step.name).startswith("dry run: e2e.orders: ")
    assert (snapshot_id(at_work), all_files(at_work)) == (snapshot, files)
    event = last(at_work, step.name)
    assert not [n for n, e in event.metadata.items() if isinstance(e.value, int | float)]


def all_files(at_work: InProcess) -> set[str]:
    return {str(path) for path in (at_work.disk.directory / "warehouse").rglob("*")}


@pytest.mark.parametrize("job", [f"{step.verb}_e2e" for step in STEPS.values()])
def test_before_the_first_flush_there_is_nothing_to_do(empty, job):
    result = empty.run(job)

    assert result.success
    assert "no table yet, the first flush creates it" in empty.log_text(result)


def test_the_health_of_no_table_asks_for_nothing(empty):
    assert empty.run("measure_health_e2e").success
    assert value(last(empty, "health"), "asks_for") == {}


def test_a_second_run_waits_for_the_first_and_gives_up_in_the_end(at_work, monkeypatch):
    monkeypatch.setattr(maintenance_run, "TURN_SECONDS_MAX", 0.3)
    monkeypatch.setattr(turn, "LOOK_SECONDS", 0.1)
    other = at_work.made_up_run(
        job="expire_snapshots_e2e",
        heartbeat=time.time(),
        tags={names.MAINTENANCE_TAG: "e2e-tables"},
    )
    snapshot = snapshot_id(at_work)

    at_work.run("compact_e2e")

    assert f"run {other[:8]} still owns the maintenance of e2e.orders" in did(at_work, "compaction")
    assert snapshot_id(at_work) == snapshot


def test_a_dead_run_holds_nobody_up(at_work):
    at_work.made_up_run(
        job="expire_snapshots_e2e",
        heartbeat=time.time() - 60,
        tags={names.MAINTENANCE_TAG: "e2e-tables"},
    )

    at_work.run("compact_e2e")

    assert file_count(at_work) == 1


def test_a_terminated_run_breaks_off_even_when_the_interruption_got_lost(at_work, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.5)

    def compact_slowly(*_arguments, progress, **_options):
        (run,) = at_work.instance.get_runs(dg.RunsFilter(job_name="compact_e2e"), limit=1)
        at_work.instance.report_run_canceling(run)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            time.sleep(0.1)
            progress("rewriting", 1, 2)

    monkeypatch.setattr(wired, "compact", compact_slowly)
    with pytest.raises(dg.DagsterExecutionInterruptedError):
        at_work.run("compact_e2e")

    (run,) = at_work.instance.get_runs(dg.RunsFilter(job_name="compact_e2e"))
    assert run.status is dg.DagsterRunStatus.CANCELED


def test_a_wrong_option_is_told_before_anything_is_done(at_work):
    result = at_work.run("remove_orphans_e2e", {"older_than": "1h"}, raises=False)

    assert not result.success
    assert '"1h" is not from 24h to 3650d' in at_work.log_text(result)
