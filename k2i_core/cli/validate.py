"""`k2i validate` and `k2i schema`: is the pipeline file right, and what may stand in it?"""

from typing import TYPE_CHECKING, Annotated

import typer

from k2i_core.cli.exits import Exit, exit_code_of
from k2i_core.cli.options import AsJson, Overrides, PipelineFile, read_pipeline
from k2i_core.cli.output import print_json, print_line
from k2i_core.config import Pipeline, json_schema

if TYPE_CHECKING:
    from k2i_core.wiring.connections import Connection


def validate(
    pipeline_file: PipelineFile,
    *,
    connect: Annotated[
        bool,
        typer.Option(help="Also ask broker, topics, catalog and warehouse (write, read, delete)."),
    ] = False,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Check the pipeline file; with --connect also everything it names.

    Exit codes: 0 all right, 2 the file is wrong, 3 something it names does not answer.
    """
    pipeline = read_pipeline(pipeline_file, overrides)
    has_own_sql = any(one.checks or one.transforms for one in (pipeline, *pipeline.tables))
    is_asked = connect or has_own_sql or pipeline.privacy is not None
    checks = _ask(pipeline, connect=connect) if is_asked else []
    if as_json:
        print_json(
            {
                "file": str(pipeline_file),
                "ok": all(check.error is None for check in checks),
                "pipeline": pipeline.redacted(),
                "checks": [
                    {
                        "name": check.name,
                        "ok": check.error is None,
                        "detail": check.detail if check.error is None else str(check.error),
                    }
                    for check in checks
                ],
            }
        )
    else:
        print_line(f"{pipeline_file}: the settings are valid")
        for check in checks:
            mark = "ok" if check.error is None else "failed"
            print_line(f"{check.name}: {mark}: {check.error or check.detail}")
    failures = [check.error for check in checks if check.error is not None]
    if failures:
        # Configuration before reachability: a retry does not help while the file is wrong.
        raise typer.Exit(min((exit_code_of(error) for error in failures), default=Exit.OK))


def _ask(pipeline: Pipeline, *, connect: bool) -> "list[Connection]":
    """Ask the query engine for the file's own SQL, and, to connect, everything else it names."""
    # Only here, because a file that is checked on its own needs none of their libraries, and an
    # editor or a commit hook that checks it should not wait for them.
    from k2i_core.wiring.connections import check_connections, user_checks  # noqa: PLC0415

    return [*user_checks(pipeline), *(check_connections(pipeline) if connect else [])]


def schema() -> None:
    """Print the JSON Schema of the pipeline file, for editors."""
    print_json(json_schema())
