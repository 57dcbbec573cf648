"""Options of commands that change something: look first, and be asked."""

from typing import Annotated

import typer

from k2i_core.cli.exits import Exit

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")]
Confirmed = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def confirm(what: str, lines: list[str], *, yes: bool) -> None:
    """Show what would happen and ask; ends the command unless the answer is yes."""
    if yes:
        return
    for line in lines:
        typer.echo(line, err=True)
    if not typer.confirm(f"{what}?", err=True):
        raise typer.Exit(Exit.INTERRUPTED)
