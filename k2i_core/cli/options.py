"""Arguments and options that several commands share, read in one way."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from k2i_core.config import Pipeline, load_pipeline
from k2i_core.errors import ConfigError
from k2i_core.ledger import Share


class LogLevel(StrEnum):
    """Levels of log lines."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """Shapes of log lines."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


PipelineFile = Annotated[
    Path, typer.Argument(metavar="PIPELINE", help="The pipeline file.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Replace one setting of the file; repeatable."
    ),
]
OneTable = Annotated[
    str | None,
    typer.Option("--table", metavar="TABLE", help="Which table, where the pipeline has several."),
]
SomeTables = Annotated[
    list[str] | None,
    typer.Option("--table", metavar="TABLE", help="Only this table; repeatable. Default: all."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def read_pipeline(path: Path, overrides: list[str] | None) -> Pipeline:
    """Load the pipeline file with what `--set` and the environment replace.

    Raises:
        ConfigError: Lists every problem with its place in the file.

    """
    replaced: dict[str, str] = {}
    for override in overrides or ():
        key, separator, value = override.partition("=")
        if not separator or not key:
            message = f"--set {override!r} is not SECTION.KEY=VALUE"
            raise ConfigError(message)
        replaced[key] = value
    return load_pipeline(path, overrides=replaced, environ=os.environ)  # noqa: TID251 - the face reads it


def read_one_table(path: Path, overrides: list[str] | None, table: str | None) -> Pipeline:
    """Load the pipeline file for a command that works on one table.

    Raises:
        ConfigError: As `read_pipeline`, or it is not clear which of several tables is meant.

    """
    pipeline = read_pipeline(path, overrides)
    if table is None and not pipeline.tables:
        return pipeline
    alone = None if table is None else pipeline.one_table(table)
    if alone is None:
        known = [t.identifier for t in pipeline.tables] or [pipeline.table.identifier]
        said = "is required" if table is None else f"{table} is no table of this pipeline"
        message = f"--table {said}; it has {', '.join(known)}"
        raise ConfigError(message)
    return alone


def read_tables(
    path: Path, overrides: list[str] | None, tables: list[str] | None
) -> tuple[Pipeline, ...]:
    """Load the pipeline file once for each of its tables, or of those that are named.

    Raises:
        ConfigError: As `read_one_table`.
        UnavailableError: The catalog did not answer.

    """
    if tables:
        return tuple(read_one_table(path, overrides, table) for table in tables)
    pipeline = read_pipeline(path, overrides)
    if not pipeline.tables:
        return (pipeline,)
    # Here, because most commands look at no catalog before they know their table.
    from k2i_core.wiring.several import tables_of  # noqa: PLC0415

    return tables_of(pipeline)


def read_share(text: str | None, workers: int) -> Share | None:
    """Read `--worker 0/2`; None when it was not given.

    Raises:
        ConfigError: It is no share.

    """
    if text is None:
        return None
    worker, separator, count = text.partition("/")
    if not (separator and worker.isdigit() and count.isdigit() and int(worker) < int(count)):
        message = f"--worker {text!r} is not a share; write 0/{workers} to {workers - 1}/{workers}"
        raise ConfigError(message)
    return Share(int(worker), int(count))
