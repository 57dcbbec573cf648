"""A process that maintains a table and kills itself at a crash point; run by the kill tests."""

import os
import signal
import sys
from pathlib import Path

from k2i_core.clock import RandomIds, SystemClock
from k2i_core.crash_points import CrashPoint
from k2i_core.iceberg import clustering
from k2i_core.iceberg.catalog import open_catalog
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.maintenance.compaction import MaintainedTable, compact_table
from k2i_core.maintenance.manifests import rewrite_table_manifests
from tests.integration.maintenance.fed_table import (
    LIMITS,
    options,
    sqlite_properties,
)

IDENTIFIER = "sales.orders"


def main() -> None:
    folder, step, wanted = Path(sys.argv[1]), sys.argv[2], CrashPoint(sys.argv[3])

    def observe(point: CrashPoint) -> None:
        if point is wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    clock = SystemClock()
    gateway = PyIcebergGateway(lambda: open_catalog("k2i", sqlite_properties(folder)), IDENTIFIER)
    committer = TableCommitter(
        gateway,
        clock,
        RandomIds(),
        LIMITS,
        log_attempt=lambda _table, _snapshot_id: None,
        observe=observe,
    )
    table = MaintainedTable(gateway, committer, clock, RandomIds())
    if step == "compaction":
        compact_table(table, options(order="table", max_memory_bytes=1 << 18), observe=observe)
    else:
        # So that a handful of commits is worth a rewrite.
        clustering.MERGE_COUNT = 4
        rewrite_table_manifests(table, observe=observe)


if __name__ == "__main__":
    main()
