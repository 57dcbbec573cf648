"""`k2i query`: SQL over the rows of a table, those included that are not committed yet."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from typing import Annotated

import typer
from pyiceberg.table import Table

from k2i_core.cli.options import OneTable, Overrides, PipelineFile, read_one_table
from k2i_core.config import Pipeline
from k2i_core.errors import ConfigError, K2iError
from k2i_core.log import redact_text
from k2i_core.query.committed import QueryLimits, QueryResult
from k2i_core.query.committed import query as run_query
from k2i_core.query.output import OutputFormat, write_arrow, write_text
from k2i_core.query.reading import PipelineReader, open_pipeline
from k2i_core.wiring.inspection import inspect_target

RunSql = Callable[[str], QueryResult]

PROMPT = "k2i> "
PROMPT_MORE = "...> "
LEAVE = ("exit", "quit", "\\q")


def query(  # noqa: PLR0913 - each is an option of the command
    pipeline_file: PipelineFile,
    sql: Annotated[
        str | None,
        typer.Argument(help="One SELECT; the table goes by its own name. A prompt without it."),
    ] = None,
    *,
    cold_only: Annotated[bool, typer.Option("--cold-only", help="Only what is committed.")] = False,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="SNAPSHOT|TIME", help="The table as it was; committed rows only."),
    ] = None,
    output_format: Annotated[
        OutputFormat, typer.Option("--format", help="How rows are written.")
    ] = OutputFormat.TABLE,
    max_rows: Annotated[int | None, typer.Option(min=1, help="Stop after this many rows.")] = None,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Give up after this long.")] = 300.0,
    rows_shown: Annotated[int, typer.Option(min=1, help="Rows of an aligned table.")] = 40,
    table: OneTable = None,
    overrides: Overrides = None,
) -> None:
    """Run SQL over the pipeline's table, rows not yet committed included (DuckDB; read only)."""
    pipeline = read_one_table(pipeline_file, overrides, table)
    limits = QueryLimits(max_seconds, max_rows)

    def write(run: RunSql, text: str) -> None:
        with run(text) as result:
            if output_format is OutputFormat.ARROW:
                write_arrow(result, sys.stdout.buffer)  # pyright: ignore[reportArgumentType] - a raw stream is enough
            else:
                write_text(result, output_format, sys.stdout, row_count_shown=rows_shown)

    with open_pipeline(pipeline) as reader:
        run = _way_to_run(pipeline, reader, limits, cold_only=cold_only, as_of=as_of)
        if sql is not None:
            write(run, sql)
            return
        for statement in _statements():
            try:
                write(run, statement)
            except K2iError as error:
                sys.stderr.write(f"k2i: {redact_text(str(error))}\n")


def _way_to_run(
    pipeline: Pipeline,
    reader: PipelineReader,
    limits: QueryLimits,
    *,
    cold_only: bool,
    as_of: str | None,
) -> RunSql:
    if not cold_only and as_of is None:
        return lambda text: reader.sql(text, limits)

    def run_on_snapshot(text: str) -> QueryResult:
        table = inspect_target(pipeline).table
        snapshot_id = None if as_of is None else _snapshot_id(table, as_of)
        return run_query(table, text, limits, snapshot_id=snapshot_id)

    return run_on_snapshot


def _snapshot_id(table: Table, as_of: str) -> int:
    """Find the snapshot of an id or a moment.

    Raises:
        ConfigError: There is none, or none any more.

    """
    if as_of.isdigit():
        snapshot = table.snapshot_by_id(int(as_of))
        if snapshot is None:
            message = f"no retained snapshot_id={as_of}; list them with `k2i table show`"
            raise ConfigError(message)
        return snapshot.snapshot_id
    try:
        moment = datetime.fromisoformat(as_of)
    except ValueError as error:
        message = f"--as-of {as_of!r} is neither a snapshot id nor a time like 2026-01-31T12:00:00Z"
        raise ConfigError(message) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    snapshot = table.snapshot_as_of_timestamp(int(moment.timestamp() * 1000))
    if snapshot is None:
        message = f"no retained snapshot is as old as {as_of}"
        raise ConfigError(message)
    return snapshot.snapshot_id


def _statements() -> Iterator[str]:
    """Yield what is typed or piped in, up to each semicolon."""
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        with suppress(ImportError):
            import_module("readline")  # its import alone gives `input` a history
    lines: list[str] = []
    while True:
        prompt = (PROMPT_MORE if lines else PROMPT) if is_terminal else ""
        try:
            line = input(prompt)
        except EOFError:
            break
        if not lines and line.strip().rstrip(";").lower() in LEAVE:
            return
        if line.strip():
            lines.append(line)
        if line.rstrip().endswith(";"):
            yield "\n".join(lines)
            lines = []
    if is_terminal:
        sys.stdout.write("\n")
    if lines:
        yield "\n".join(lines)
