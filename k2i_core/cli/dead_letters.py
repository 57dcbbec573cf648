"""`k2i dead-letters list|show`: which records could not become rows, and why."""

from typing import Annotated

import typer

from k2i_core.cli.options import AsJson, Overrides, PipelineFile, read_pipeline
from k2i_core.cli.output import print_json, print_line, print_table
from k2i_core.errors import ConfigError
from k2i_core.query.committed import QueryLimits, query
from k2i_core.query.output import plain_rows
from k2i_core.wiring.inspection import inspect_dead_letters

app = typer.Typer(help="Records that could not become rows, and why.", rich_markup_mode=None)

_GROUPS = """
SELECT fingerprint, stage, error_class, count(*) AS record_count, min(first_seen) AS first_seen,
       max(first_seen) AS last_seen, any_value(message) AS message
FROM "{name}" GROUP BY ALL ORDER BY record_count DESC, fingerprint LIMIT {limit}
"""

_RECORDS = """
SELECT _kafka.topic AS topic, _kafka.partition AS kafka_partition, _kafka.offset AS "offset",
       _kafka.timestamp AS "timestamp", fingerprint, stage, error_class, message, first_seen,
       _kafka.key AS "key", "value"
FROM "{name}" {where} ORDER BY topic, kafka_partition, "offset" LIMIT {limit}
"""


@app.command("list")
def list_groups(
    pipeline_file: PipelineFile,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Groups to list.")] = 50,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """List dead letters grouped by reason, most frequent first."""
    rows = _rows(pipeline_file, overrides, _GROUPS, limit, "")
    if as_json:
        print_json(rows)
        return
    if not rows:
        print_line("no dead letters")
        return
    columns = ("fingerprint", "record_count", "error_class", "last_seen", "message")
    print_table(columns, [[str(row[c]) for c in columns] for row in rows])


@app.command()
def show(
    pipeline_file: PipelineFile,
    fingerprint: Annotated[
        str | None, typer.Argument(help="Only records with this fingerprint.")
    ] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Records to show.")] = 20,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Show dead letters one by one, with their bytes."""
    where = ""
    if fingerprint is not None:
        if not fingerprint.isalnum():
            message = f"{fingerprint!r} is not a fingerprint; see `k2i dead-letters list`"
            raise ConfigError(message)
        where = f"WHERE fingerprint = '{fingerprint}'"
    rows = _rows(pipeline_file, overrides, _RECORDS, limit, where)
    if as_json:
        print_json(rows)
        return
    if not rows:
        print_line("no dead letters")
    for row in rows:
        print_line(f"{row['topic']}/{row['kafka_partition']} offset {row['offset']}")
        for name in ("error_class", "message", "fingerprint", "timestamp", "key", "value"):
            print_line(f"  {name}: {row[name]}")


def _rows(
    pipeline_file: PipelineFile, overrides: Overrides, sql: str, limit: int, where: str
) -> list[dict[str, object]]:
    pipeline = read_pipeline(pipeline_file, overrides)
    inspected = inspect_dead_letters(pipeline)
    if inspected is None:
        return []
    name = inspected.table.name()[-1]
    statement = sql.format(name=name.replace('"', '""'), limit=limit, where=where)
    with query(inspected.table, statement, QueryLimits()) as result:
        return list(plain_rows(result))
