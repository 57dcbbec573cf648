"""Many small files become few, and nothing else changes.

Goal: after compaction every row is there once with every value, the checkpoint stands, three
readers agree, and files are few and in order. Method: real tables in SQLite catalogs, fed through
the real writer and the real commit loop, compacted by the real thing, and compared with what was
read before.
"""

from pathlib import Path

import pytest

from k2i_core.maintenance.compaction import compact_table
from tests.integration.maintenance.fed_table import FedTable, options, orders, sqlite_properties
from tests.integration.parquet.readers import READERS


@pytest.fixture
def fed(tmp_path: Path) -> FedTable:
    return FedTable(sqlite_properties(tmp_path))


def test_small_files_become_one_and_nothing_else_changes(fed: FedTable) -> None:
    for n in range(6):
        fed.commit(orders(n * 50, 50))
    before, entry = {name: read(fed.table) for name, read in READERS.items()}, fed.entry

    report = compact_table(fed.maintained(), options())

    assert len(fed.files()) == 1
    assert fed.entry.checkpoint == entry.checkpoint
    assert fed.entry.totals == entry.totals
    assert fed.entry.owners == entry.owners
    key = lambda row: row["_kafka"]["offset"]
    for name, read in READERS.items():
        assert sorted(read(fed.table), key=key) == sorted(before[name], key=key)
    assert report.figures["files_before"] == 6
    assert report.figures["files_after"] == 1
    assert report.figures["rows_checked"] == 300
    fed.commit(orders(300, 10))
    assert fed.offsets() == list(range(310))
