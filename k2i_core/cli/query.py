"""`k2i query`: SQL over the committed rows."""

import sys
from typing import Annotated

import typer

from k2i_core.cli.options import Overrides, PipelineFile, read_pipeline
from k2i_core.query.committed import QueryLimits
from k2i_core.query.committed import query as run_query
from k2i_core.query.output import OutputFormat, write_arrow, write_text
from k2i_core.wiring.inspection import inspect_target


def query(
    pipeline_file: PipelineFile,
    sql: Annotated[str, typer.Argument(help="One SELECT; the table goes by its own name.")],
    *,
    output_format: Annotated[
        OutputFormat, typer.Option("--format", help="How rows are written.")
    ] = OutputFormat.TABLE,
    max_rows: Annotated[int | None, typer.Option(min=1, help="Stop after this many rows.")] = None,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Give up after this long.")] = 300.0,
    rows_shown: Annotated[int, typer.Option(min=1, help="Rows of an aligned table.")] = 40,
    overrides: Overrides = None,
) -> None:
    """Run SQL over the committed rows of the pipeline's table (DuckDB; read only)."""
    pipeline = read_pipeline(pipeline_file, overrides)
    table = inspect_target(pipeline).table
    with run_query(table, sql, QueryLimits(max_seconds, max_rows)) as result:
        if output_format is OutputFormat.ARROW:
            write_arrow(result, sys.stdout.buffer)  # pyright: ignore[reportArgumentType] - a raw stream is enough
        else:
            write_text(result, output_format, sys.stdout, row_count_shown=rows_shown)
