"""`k2i tail`: new rows as they become visible, before they are committed."""

import csv
import json
import sys
from enum import StrEnum
from typing import Annotated

import pyarrow as pa
import typer

from k2i_core.cli.options import OneTable, Overrides, PipelineFile, read_one_table
from k2i_core.clock import SystemClock
from k2i_core.query.output import TableRows, plain_rows
from k2i_core.query.reading import open_pipeline
from k2i_core.query.tailing import Tail

LOOK_SECONDS = 0.05
"""Between two looks. Larger shows rows later; smaller takes processor time from the worker."""


class TailFormat(StrEnum):
    """How rows are written."""

    JSON = "json"
    CSV = "csv"


def tail(
    pipeline_file: PipelineFile,
    *,
    columns: Annotated[
        str | None, typer.Option(help="Only these columns, separated by commas.")
    ] = None,
    output_format: Annotated[
        TailFormat, typer.Option("--format", help="How rows are written.")
    ] = TailFormat.JSON,
    max_rows: Annotated[int | None, typer.Option(min=1, help="Stop after this many rows.")] = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after this long.")
    ] = None,
    table: OneTable = None,
    overrides: Overrides = None,
) -> None:
    """Follow the pipeline's table: print rows as they arrive, until interrupted."""
    clock = SystemClock()
    deadline = None if max_seconds is None else clock.boot_seconds() + max_seconds
    chosen = None if columns is None else [name.strip() for name in columns.split(",")]
    remaining = max_rows
    pipeline = read_one_table(pipeline_file, overrides, table)
    with open_pipeline(pipeline) as reader:
        follower = Tail(reader.table(), chosen)
        names = follower.look().column_names
        # Apart from the rows, so that whoever pipes them knows from where on none is missing.
        sys.stderr.write(f"following {pipeline.table.identifier}\n")
        sys.stderr.flush()
        if output_format is TailFormat.CSV:
            csv.writer(sys.stdout, lineterminator="\n").writerow(names)
        while deadline is None or clock.boot_seconds() < deadline:
            rows = follower.look()
            if remaining is not None:
                rows = rows.slice(0, remaining)
                remaining -= rows.num_rows
            _write(rows, output_format)
            if remaining == 0:
                return
            clock.sleep(LOOK_SECONDS)


def _write(rows: pa.Table, output_format: TailFormat) -> None:
    if not rows.num_rows:
        return
    lines = csv.writer(sys.stdout, lineterminator="\n")
    for row in plain_rows(TableRows(rows)):
        if output_format is TailFormat.JSON:
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            lines.writerow(
                value if value is None or isinstance(value, str) else json.dumps(value)
                for value in row.values()
            )
    sys.stdout.flush()
