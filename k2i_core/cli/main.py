"""`k2i`: the command line, and the only place where an error becomes an exit code."""

import sys
from typing import Annotated

import structlog
import typer

from k2i_core.cli import dead_letters, table
from k2i_core.cli.dev import dev
from k2i_core.cli.exits import Exit, exit_code_of
from k2i_core.cli.ingest import ingest
from k2i_core.cli.options import LogFormat, LogLevel
from k2i_core.cli.query import query
from k2i_core.cli.status import status
from k2i_core.cli.validate import schema, validate
from k2i_core.cli.verify import verify
from k2i_core.errors import K2iError
from k2i_core.log import configure_logging, redact_text

app = typer.Typer(
    name="k2i",
    help="Kafka to Apache Iceberg, exactly once.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

log = structlog.get_logger(__name__)


@app.callback()
def configure(
    context: typer.Context,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(help="Least severe log line to show. Default: info for ingest, else error."),
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option(help="auto: for people on a terminal, else JSON lines.")
    ] = LogFormat.AUTO,
) -> None:
    """Kafka to Apache Iceberg, exactly once."""
    as_json = None if log_format is LogFormat.AUTO else log_format is LogFormat.JSON
    if log_level is None:
        log_level = LogLevel.INFO if context.invoked_subcommand == "ingest" else LogLevel.ERROR
    configure_logging(log_level.value, json=as_json, stream=sys.stderr)


app.command()(validate)
app.command()(ingest)
app.command()(status)
app.command()(query)
app.command()(verify)
app.command()(schema)
app.command()(dev)
app.add_typer(table.app, name="table")
app.add_typer(dead_letters.app, name="dead-letters")


def main() -> None:
    """Run a command; exits with the codes of `exits`."""
    try:
        app(standalone_mode=True)
    except K2iError as error:
        # Colours and stack traces help nobody here: the message says what to do.
        sys.stderr.write(f"k2i: {redact_text(str(error))}\n")
        raise SystemExit(exit_code_of(error)) from error
    except KeyboardInterrupt as error:
        raise SystemExit(Exit.INTERRUPTED) from error
    except BrokenPipeError as error:
        # The reader of our output went away, as `head` does.
        raise SystemExit(Exit.OK) from error
