"""What a table needs, by its health.

Goal: every step is asked for exactly when it would help, with a reason that names the figures.
Method: one healthy table, and one figure at a time.
"""

from dataclasses import replace

import pytest

from k2i_core.config.maintenance import Maintenance
from k2i_core.maintenance.health import METADATA_BYTES_MAX, TableHealth, needs

SETTINGS = Maintenance()
HEALTHY = TableHealth(
    "sales.orders",
    7,
    data_file_count=40,
    small_file_count=4,
    small_files_per_partition_max=4,
    manifest_count=60,
    snapshot_count=100,
    oldest_snapshot_seconds=86_400.0,
)


def test_a_healthy_table_needs_nothing() -> None:
    assert needs(HEALTHY, SETTINGS) == ()
    assert needs(TableHealth("sales.orders", None), SETTINGS) == ()


@pytest.mark.parametrize(
    ("figures", "step", "reason"),
    [
        ({"small_files_per_partition_max": 5}, "compaction", "5 small files"),
        ({"old_spec_file_count": 2}, "compaction", "2 data files of an older partition spec"),
        ({"manifests_to_rewrite_count": 40}, "manifests", "40 of 60 manifests"),
        ({"snapshot_count": 501}, "expiration", "501 snapshots, more than max_snapshots=500"),
        ({"oldest_snapshot_seconds": 8 * 86_400.0}, "expiration", "691200 s old"),
        ({"metadata_file_bytes": METADATA_BYTES_MAX + 1}, "expiration", "4,194,305 bytes"),
    ],
)
def test_one_figure_asks_for_one_step(figures: dict[str, float], step: str, reason: str) -> None:
    (need,) = needs(replace(HEALTHY, **figures), SETTINGS)

    assert need.step == step
    assert reason in need.reason


def test_snapshots_that_stay_anyway_ask_for_nothing() -> None:
    few = replace(HEALTHY, snapshot_count=10, oldest_snapshot_seconds=1e9)

    assert needs(few, SETTINGS) == ()
