"""What health and a maintenance step tell Dagster.

Goal: numbers that can be plotted are numbers, texts can be read, and what was only tried is not
drawn as if it had been done.
Method: made-up health and reports of a target and its dead letters.
"""

import json

import dagster as dg

from k2i_core.maintenance.health import TableHealth
from k2i_core.maintenance.report import MaintenanceReport
from k2i_dagster.maintenance_asks import ASKS, SUMMARY, read_health
from k2i_dagster.running.maintenance_metadata import (
    health_metadata,
    needed,
    step_metadata,
    summary,
)
from tests.unit.dagster.made_up import pipeline

ORDERS = pipeline()
TARGET, DEAD = "sales.orders", "sales.orders_dead_letters"
MANY = TableHealth(
    TARGET,
    7_000_000_000_000_000_001,
    data_file_count=1_200,
    small_file_count=1_140,
    small_file_share=0.95,
    small_files_per_partition_max=300,
    average_file_bytes=3 * 2**20,
    manifest_count=14,
    snapshot_count=40,
    projected_scan_seconds=8.7654321,
)
FEW = TableHealth(DEAD, 1, data_file_count=2, average_file_bytes=900, snapshot_count=2)
HEALTHS = {TARGET: MANY, DEAD: FEW}


def report(table: str, **changes) -> MaintenanceReport:
    return MaintenanceReport(
        step="compaction",
        table=table,
        is_dry_run=changes.pop("is_dry_run", False),
        did=changes.pop("did", "1,200 files became 6"),
        figures=changes.pop("figures", {"files_before": 1_200, "files_after": 6, "seconds": 3.5}),
        **changes,
    )


def test_health_is_numbers_of_both_tables_under_names_of_their_own():
    metadata = health_metadata(ORDERS, HEALTHS)

    assert metadata["files"] == 1_200
    assert metadata["small_file_share"] == 0.95
    assert metadata["projected_scan_seconds"] == 8.7654
    assert metadata["dead letters: files"] == 2


def test_health_leaves_what_the_schedules_read():
    metadata = dg.AssetMaterialization("x", metadata=health_metadata(ORDERS, HEALTHS)).metadata
    health = read_health(1.0, {name: entry.value for name, entry in metadata.items()})

    assert "300 small files" in health.asks["compaction"]
    assert health.asks["compaction"].startswith(f"{TARGET}: ")
    assert health.summary == summary(HEALTHS)
    assert set(needed(ORDERS, HEALTHS)["compaction"]) == {TARGET}


def test_the_summary_is_read_at_a_glance():
    assert summary(HEALTHS) == (
        "sales.orders: 1,200 files of 3 MiB on average, 95% small, 14 manifests, 40 snapshots; "
        "sales.orders_dead_letters: 2 files of 900 bytes on average, 0% small, 0 manifests, "
        "2 snapshots"
    )


def test_without_a_table_health_asks_for_nothing():
    metadata = health_metadata(ORDERS, {})

    assert metadata[ASKS].value == {}
    assert metadata[SUMMARY] == "no table yet, the first flush creates it"


def test_a_step_tells_its_figures_its_reason_and_ids_that_no_browser_rounds():
    metadata = step_metadata(
        ORDERS,
        [report(TARGET, snapshot_ids=(7_000_000_000_000_000_001,)), report(DEAD, did="nothing")],
        "sales.orders: 300 small files",
    )

    assert metadata["files_before"] == 1_200
    assert metadata["dead letters: files_after"] == 6
    assert metadata["reason"] == "sales.orders: 300 small files"
    assert metadata["snapshots made"] == "7000000000000000001"
    assert metadata["did"] == (
        "sales.orders: 1,200 files became 6; sales.orders_dead_letters: nothing"
    )


def test_a_dry_run_draws_nothing_on_the_plots():
    metadata = step_metadata(ORDERS, [report(TARGET, is_dry_run=True)], None)

    assert not [value for value in metadata.values() if isinstance(value, int | float)]
    assert metadata["did"].startswith("dry run: ")
    assert "| files_before | 1,200 |" in metadata["would be"].value
    assert metadata["reason"] == "launched by hand"


def test_long_notes_are_cut_and_say_so():
    notes = tuple(f"partition {number} is left out" for number in range(50))
    text = step_metadata(ORDERS, [report(TARGET, notes=notes)], None)["notes"].value

    assert "partition 3 is left out" in text
    assert "and 30 more" in text
    assert len(json.dumps(text)) < 2_000
