"""Maintenance that never rests, in a process of its own: what others must not be disturbed by.

    python -m tests.e2e.steady_maintenance PIPELINE_FILE REPORT

Compacts files of seconds and gives up old snapshots, again and again. The report gets a JSON line
for every step that changed something.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from k2i_core.clock import SystemClock
from k2i_core.config import load_pipeline
from k2i_core.errors import UnavailableError
from k2i_core.wiring.maintenance import compact, compaction_options, expire_snapshots

PAUSE_SECONDS = 1.0


def main() -> None:
    pipeline = load_pipeline(Path(sys.argv[1]))
    clock = SystemClock()
    table = pipeline.table.identifier
    options = replace(compaction_options(pipeline, table), young_seconds=3.0, min_input_files=3)
    with Path(sys.argv[2]).open("a") as lines:
        while True:
            try:
                reports = [
                    compact(pipeline, table, clock, options=options),
                    expire_snapshots(pipeline, table, clock),
                ]
            except UnavailableError as error:
                reports = []
                lines.write(json.dumps({"unavailable": str(error)}) + "\n")
            for report in reports:
                if report.snapshot_ids:
                    lines.write(json.dumps(report.to_json()) + "\n")
            lines.flush()
            time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
