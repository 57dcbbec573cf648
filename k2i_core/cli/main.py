"""`k2i`: the command line, and the only place where an error becomes an exit code.

A command's module is imported when the command is run: a worker that starts again after a crash
must not wait for the libraries that only queries need.
"""

import sys
from importlib import import_module
from typing import Annotated

import typer

# Typer carries click inside and gives these two no public name.
from typer._click.core import Command, Context
from typer.core import TyperGroup
from typer.main import get_command

from k2i_core.cli.exits import Exit, exit_code_of
from k2i_core.cli.options import LogFormat, LogLevel
from k2i_core.cli.without_pandas import without_pandas
from k2i_core.errors import K2iError
from k2i_core.garbage import rare_garbage_collections, without_last_collection
from k2i_core.log import configure_logging, redact_text

COMMANDS = {
    "validate": "k2i_core.cli.validate:validate",
    "ingest": "k2i_core.cli.ingest:ingest",
    "status": "k2i_core.cli.status:status",
    "query": "k2i_core.cli.query:query",
    "tail": "k2i_core.cli.tail:tail",
    "serve": "k2i_core.cli.serve:serve",
    "verify": "k2i_core.cli.verify:verify",
    "check": "k2i_core.cli.check:check",
    "table": "k2i_core.cli.table:app",
    "maintain": "k2i_core.cli.maintain:app",
    "dead-letters": "k2i_core.cli.dead_letters:app",
    "schema": "k2i_core.cli.validate:schema",
    "dev": "k2i_core.cli.dev:dev",
}
"""Command → module and the function, or the group of commands, in it."""

SERVICES = ("ingest", "serve")
"""Commands that run until they are stopped, and say what they do."""


class LazyCommands(TyperGroup):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Return the commands in the order of the help page."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Import a command; None when there is none of that name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        target = getattr(import_module(module), name)
        if isinstance(target, typer.Typer):
            return get_command(target)
        single = typer.Typer(rich_markup_mode=None, add_completion=False)
        single.command(cmd_name)(target)
        return get_command(single)


app = typer.Typer(
    name="k2i",
    cls=LazyCommands,
    help="Kafka to Apache Iceberg, exactly once.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def configure(
    context: typer.Context,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            help="Least severe log line to show. Default: info for ingest and serve, else error."
        ),
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option(help="auto: for people on a terminal, else JSON lines.")
    ] = LogFormat.AUTO,
) -> None:
    """Kafka to Apache Iceberg, exactly once."""
    as_json = None if log_format is LogFormat.AUTO else log_format is LogFormat.JSON
    if log_level is None:
        log_level = LogLevel.INFO if context.invoked_subcommand in SERVICES else LogLevel.ERROR
    configure_logging(log_level.value, json=as_json, stream=sys.stderr)


def main() -> None:
    """Run a command; exits with the codes of `exits`."""
    try:
        with rare_garbage_collections(), without_pandas():
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
    finally:
        without_last_collection()
