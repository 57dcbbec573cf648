"""Figures that the demo reads off a table's snapshots.

Goal: each flush is shown with what it alone added. Method: snapshots with the totals that k2i's
commits carry, read as the demo reads them.
"""

from k2i_core.dev.demo_figures import Flush, _last_flushes
from k2i_core.iceberg.gateway import SnapshotView, TableView


def snapshot(snapshot_id: int, rows: int, files: int, size: int, dead: int = 0) -> SnapshotView:
    summary = {
        "total-records": str(rows),
        "total-data-files": str(files),
        "total-files-size": str(size),
        "k2i.ranges": f'[["orders",[[0,0,9,5,{dead},0,0,0]]]]',
    }
    parent = snapshot_id - 1 if snapshot_id > 1 else None
    return SnapshotView(snapshot_id, parent, snapshot_id, snapshot_id * 1000, summary)


def table(*snapshots: SnapshotView) -> TableView:
    return TableView(
        table_uuid="u",
        format_version=2,
        head_snapshot_id=snapshots[-1].snapshot_id,
        snapshots={one.snapshot_id: one for one in snapshots},
        checkpoint_property=None,
        last_sequence_number=0,
        last_updated_ms=0,
        schema_id=0,
        spec_id=0,
        metadata_location="",
        field_ids={},
        handle=None,
    )


def test_a_flush_is_shown_with_what_it_added() -> None:
    view = table(
        snapshot(1, 0, 0, 0),
        snapshot(2, 100, 1, 1_000, dead=2),
        snapshot(3, 100, 1, 1_000),  # a take-over: nothing was added
        snapshot(4, 150, 3, 1_500),
    )

    assert _last_flushes(view) == (
        Flush("00:00:02", 100, 2, 1, 1_000),
        Flush("00:00:04", 50, 0, 2, 500),
    )


def test_only_the_last_five_are_shown() -> None:
    view = table(*(snapshot(n, n * 10, n, n * 100) for n in range(1, 10)))

    assert [flush.time for flush in _last_flushes(view)] == [f"00:00:0{n}" for n in range(5, 10)]
